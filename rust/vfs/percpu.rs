// SPDX-License-Identifier: GPL-2.0

//! Counters that many CPUs change and few read.
//!
//! C header: [`include/linux/percpu_counter.h`](srctree/include/linux/percpu_counter.h)

use core::cmp::Ordering;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::error::Error;
use kernel::prelude::*;
use kernel::types::Opaque;

/// A signed 64-bit counter, spread over the CPUs.
///
/// A change mostly touches a variable of the current CPU. [`read`](Self::read) is cheap and may be
/// off by some dozens for each CPU, [`sum`](Self::sum) is exact at the moment of the call.
///
/// # Invariants
///
/// The C counter is initialised.
#[pin_data(PinnedDrop)]
pub struct PercpuCounter {
    #[pin]
    counter: Opaque<bindings::percpu_counter>,
}

// SAFETY: The C functions do their own locking and may be called from any task.
unsafe impl Send for PercpuCounter {}
// SAFETY: As above.
unsafe impl Sync for PercpuCounter {}

impl PercpuCounter {
    /// A counter that begins with `value`. Sleeps; fails with `ENOMEM`.
    pub fn new(value: i64) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // INVARIANT: Initialised here or the constructor fails.
            counter <- Opaque::try_ffi_init(move |slot| {
                // SAFETY: `slot` is valid for writing and will not be moved.
                to_result(unsafe { bindings::percpu_counter_init(slot, value) })
            }),
        })
    }

    /// Adds `amount`, which may be negative. Any context.
    pub fn add(&self, amount: i64) {
        // SAFETY: By the type invariant.
        unsafe { bindings::percpu_counter_add(self.counter.get(), amount) }
    }

    /// Sets the counter. Changes that run at the same time may be lost or counted.
    pub fn set(&self, value: i64) {
        // SAFETY: By the type invariant.
        unsafe { bindings::percpu_counter_set_value(self.counter.get(), value) }
    }

    /// The value without what the CPUs hold back: cheap and approximate, possibly negative.
    pub fn read(&self) -> i64 {
        // SAFETY: By the type invariant.
        unsafe { bindings::percpu_counter_read(self.counter.get()) }
    }

    /// The exact value. Visits every CPU's share.
    pub fn sum(&self) -> i64 {
        // SAFETY: By the type invariant.
        unsafe { bindings::percpu_counter_sum(self.counter.get()) }
    }

    /// Compares with `value`, exactly, summing up only when the two are close.
    pub fn compare(&self, value: i64) -> Ordering {
        // SAFETY: By the type invariant.
        unsafe { bindings::percpu_counter_compare(self.counter.get(), value) }.cmp(&0)
    }
}

#[pinned_drop]
impl PinnedDrop for PercpuCounter {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant; nobody else can use the counter any more.
        unsafe { bindings::percpu_counter_destroy(self.counter.get()) }
    }
}
