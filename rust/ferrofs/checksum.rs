// SPDX-License-Identifier: GPL-2.0

//! The checksum of ext4's metadata, computed by the kernel's crc library with the instructions that
//! the processor has for it.

/// crc32c of `bytes`, going on from `crc`; no inversion before or after.
pub(crate) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    vfs::crc::crc32c(crc, bytes)
}
