// SPDX-License-Identifier: GPL-2.0

//! Random numbers of the kernel.
//!
//! C header: `include/linux/random.h`.

use ferrofs_bindings as bindings;

/// A random number.
pub fn random_u32() -> u32 {
    // SAFETY: The function has no preconditions.
    unsafe { bindings::get_random_u32() }
}
