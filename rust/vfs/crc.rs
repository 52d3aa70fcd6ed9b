// SPDX-License-Identifier: GPL-2.0

//! The kernel's checksum library.
//!
//! C header: `include/linux/crc32.h`.

use ferrofs_bindings as bindings;

/// crc32c (Castagnoli) of `bytes`, going on from `crc`; no inversion before or after.
#[inline]
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    // SAFETY: The function reads `len` bytes from a valid pointer.
    unsafe { bindings::crc32c(crc, bytes.as_ptr().cast(), bytes.len()) }
}
