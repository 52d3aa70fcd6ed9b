// SPDX-License-Identifier: GPL-2.0

//! The checksums of metadata.
//!
//! With the feature `metadata_csum` every metadata block carries a crc32c. It is computed over a
//! *seed* that ties the block to its filesystem and, for what belongs to a file, to that file:
//!
//! ```text
//! filesystem seed   crc32c(!0, uuid), or s_checksum_seed with the feature metadata_csum_seed
//! inode seed        crc32c(crc32c(filesystem seed, inode number as le32), generation as le32)
//! ```
//!
//! so that a block which ends up in a wrong place is noticed although it is intact in itself.
//!
//! This crate does not choose the implementation of crc32c: the kernel has fast ones. A
//! [`Checksummer`] is made with a function of the kernel's convention, which neither inverts the value
//! that it is given nor the one that it returns.
//!
//! A filesystem without `metadata_csum` is told by `Option<Checksummer>` being `None`: what takes such
//! an option verifies and stores nothing then.

use core::fmt;

/// Continues a crc32c (Castagnoli, reflected) over more bytes, without any inversion.
///
/// This is the convention of `crc32c()` in the kernel's `include/linux/crc32c.h`.
pub type Crc32c = fn(u32, &[u8]) -> u32;

/// A crc32c that has taken in some bytes and is ready for more.
///
/// It is a small value: to derive the seed of an inode or of a block, continue a copy.
#[derive(Clone, Copy)]
pub struct Checksummer {
    value: u32,
    update: Crc32c,
}

impl Checksummer {
    /// A fresh one, as the superblock's own checksum begins.
    pub const fn new(update: Crc32c) -> Self {
        Self::with_seed(update, !0)
    }

    /// One that continues from a seed that was computed before.
    pub const fn with_seed(update: Crc32c, seed: u32) -> Self {
        Self {
            value: seed,
            update,
        }
    }

    /// The one for metadata that belongs to the file `inode`.
    ///
    /// `self` is the filesystem's; `inode` and `generation` are the numbers on disk.
    pub fn for_inode(self, inode: crate::InodeNumber, generation: u32) -> Self {
        self.with_u32(inode.get()).with_u32(generation)
    }

    /// Takes in `bytes`.
    #[must_use]
    pub fn with_bytes(self, bytes: &[u8]) -> Self {
        Self {
            value: (self.update)(self.value, bytes),
            update: self.update,
        }
    }

    /// Takes in a number as its four little-endian bytes.
    #[must_use]
    pub fn with_u32(self, number: u32) -> Self {
        self.with_bytes(&number.to_le_bytes())
    }

    /// Takes in a number as its two little-endian bytes.
    #[must_use]
    pub fn with_u16(self, number: u16) -> Self {
        self.with_bytes(&number.to_le_bytes())
    }

    /// Takes in a number as its eight little-endian bytes.
    #[must_use]
    pub fn with_u64(self, number: u64) -> Self {
        self.with_bytes(&number.to_le_bytes())
    }

    /// Takes in `bytes` with those in `hole` read as zero, as a structure is summed whose checksum
    /// lies in its middle.
    ///
    /// The part of `hole` that lies beyond `bytes` is left out.
    #[must_use]
    pub fn with_bytes_but(self, bytes: &[u8], hole: core::ops::Range<usize>) -> Self {
        const ZEROES: [u8; 8] = [0; 8];

        let start = hole.start.min(bytes.len());
        let end = hole.end.clamp(start, bytes.len());
        let mut sum = self.with_bytes(&bytes[..start]);
        let mut left = end - start;
        while left > 0 {
            let now = left.min(ZEROES.len());
            sum = sum.with_bytes(&ZEROES[..now]);
            left -= now;
        }
        sum.with_bytes(&bytes[end..])
    }

    /// The checksum of all that was taken in.
    pub const fn value(self) -> u32 {
        self.value
    }

    /// The low half of the checksum, for the structures that keep only 16 bits.
    pub const fn low16(self) -> u16 {
        self.value as u16
    }

    /// Compares with the checksum that was `found` on disk.
    pub fn verify(self, found: u32) -> Result<(), BadChecksum> {
        if self.value == found {
            Ok(())
        } else {
            Err(BadChecksum {
                found,
                computed: self.value,
            })
        }
    }
}

impl fmt::Debug for Checksummer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksummer({:#010x})", self.value)
    }
}

/// A checksum that does not match what it is stored with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadChecksum {
    /// The checksum stored on disk.
    pub found: u32,
    /// The checksum of the bytes as they were read.
    pub computed: u32,
}

impl fmt::Display for BadChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "checksum is {:#x}, should be {:#x}",
            self.found, self.computed
        )
    }
}

const CRC16_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xa001
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Continues a crc16 (polynomial 0x8005, reflected) over more bytes.
///
/// Only the group descriptors of filesystems with `uninit_bg` and without `metadata_csum` have it.
pub fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        let index = (crc as u8 ^ byte) as usize;
        (crc >> 8) ^ CRC16_TABLE[index]
    })
}

/// A crc32c for programs that have no kernel to take one from.
#[cfg(any(test, feature = "software-crc"))]
pub fn software_crc32c(crc: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    (crc >> 1) ^ 0x82f6_3b78
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };

    bytes.iter().fold(crc, |crc, byte| {
        let index = (crc as u8 ^ byte) as usize;
        (crc >> 8) ^ TABLE[index]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InodeNumber;

    // The check values of the catalogues of CRCs: CRC-32/ISCSI and CRC-16/ARC over "123456789".
    #[test]
    fn known_values() {
        assert_eq!(!software_crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }

    #[test]
    fn parts_add_up() {
        let whole = Checksummer::new(software_crc32c).with_bytes(b"abcdefgh");
        let parts = Checksummer::new(software_crc32c)
            .with_bytes(b"abc")
            .with_bytes(b"")
            .with_bytes(b"defgh");
        assert_eq!(whole.value(), parts.value());
    }

    #[test]
    fn a_hole_reads_as_zeroes() {
        let sum = Checksummer::new(software_crc32c);
        let with = sum.with_bytes_but(b"abcdefghijklmnop", 2..13).value();
        let zeroed = sum.with_bytes(b"ab\0\0\0\0\0\0\0\0\0\0\0nop").value();
        assert_eq!(with, zeroed);
        // A hole that reaches over the end, and one that lies behind it.
        assert_eq!(
            sum.with_bytes_but(b"abc", 2..7).value(),
            sum.with_bytes(b"ab\0").value()
        );
        assert_eq!(
            sum.with_bytes_but(b"abc", 5..7).value(),
            sum.with_bytes(b"abc").value()
        );
    }

    #[test]
    fn the_inode_seed_takes_number_then_generation() {
        let fs = Checksummer::with_seed(software_crc32c, 0x1234_5678);
        let inode = fs.for_inode(InodeNumber::ROOT, 0x0a0b_0c0d);
        let bytes = [2, 0, 0, 0, 0x0d, 0x0c, 0x0b, 0x0a];
        assert_eq!(inode.value(), fs.with_bytes(&bytes).value());
        assert_eq!(inode.verify(inode.value()), Ok(()));
        assert_eq!(
            inode.verify(7),
            Err(BadChecksum {
                found: 7,
                computed: inode.value()
            })
        );
    }
}
