// SPDX-License-Identifier: GPL-2.0

//! Messages that a disk, or a user, could provoke without end.
//!
//! C header: `include/linux/ratelimit.h`.

use ferrofs_bindings as bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

/// Lets ten messages pass in five seconds, the kernel's usual measure.
///
/// # Invariants
///
/// The C state is initialised.
#[pin_data]
pub struct RateLimit {
    #[pin]
    state: Opaque<bindings::ratelimit_state>,
}

// SAFETY: The C functions do their own locking and may be called from any task.
unsafe impl Send for RateLimit {}
// SAFETY: As above.
unsafe impl Sync for RateLimit {}

impl RateLimit {
    /// Nothing was said yet.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: Initialised here.
            // SAFETY: `slot` is valid for writing and will not be moved.
            state <- Opaque::ffi_init(|slot| unsafe { bindings::ratelimit_default_init(slot) }),
        })
    }

    /// Whether a message may pass now. When one may again, the kernel's log is told, in the name of `who`, how many
    /// did not. Any context.
    pub fn allows(&self, who: &CStr) -> bool {
        // SAFETY: By the type invariant; `who` is only read during the call.
        unsafe { bindings::___ratelimit(self.state.get(), who.as_char_ptr()) != 0 }
    }
}
