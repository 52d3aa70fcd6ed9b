// SPDX-License-Identifier: GPL-2.0

//! The checksum of an inode: a crc32c, of which small inodes keep only the lower half.

use zerocopy::IntoBytes as _;

use super::Extra;
use super::RawInode;
use super::BASE_SIZE;
use crate::checksum::BadChecksum;
use crate::Checksummer;
use crate::InodeNumber;

const LO: usize = core::mem::offset_of!(RawInode, checksum_lo);
const HI: usize = core::mem::offset_of!(Extra, checksum_hi);

impl RawInode {
    /// The seed of the checksums of everything that belongs to this file; `None` when the filesystem
    /// has none. `seed` is the filesystem's.
    pub fn checksum_seed(
        &self,
        seed: Option<Checksummer>,
        inode: InodeNumber,
    ) -> Option<Checksummer> {
        Some(seed?.for_inode(inode, self.generation()))
    }

    /// Whether the upper half of the checksum is kept.
    fn has_checksum_hi(&self) -> bool {
        self.extra_with(HI + 2).is_some()
    }

    fn compute_checksum(&self, seed: Checksummer) -> Checksummer {
        let (base, rest) = self.as_bytes().split_at(BASE_SIZE);
        let sum = seed.with_bytes_but(base, LO..LO + 2);
        if self.has_checksum_hi() {
            sum.with_bytes_but(rest, HI..HI + 2)
        } else {
            sum.with_bytes(rest)
        }
    }

    /// Verifies the checksum, if there is one. `seed` is the filesystem's.
    pub fn verify_checksum(
        &self,
        seed: Option<Checksummer>,
        inode: InodeNumber,
    ) -> Result<(), BadChecksum> {
        let Some(seed) = self.checksum_seed(seed, inode) else {
            return Ok(());
        };
        let sum = self.compute_checksum(seed);
        let lo = u32::from(self.checksum_lo.get());
        match self.extra_with(HI + 2) {
            Some(extra) => sum.verify(lo | u32::from(extra.checksum_hi.get()) << 16),
            None if u32::from(sum.low16()) == lo => Ok(()),
            None => Err(BadChecksum {
                found: lo,
                computed: sum.low16().into(),
            }),
        }
    }

    /// Makes the checksum right, if there is one. `seed` is the filesystem's.
    pub fn update_checksum(&mut self, seed: Option<Checksummer>, inode: InodeNumber) {
        let Some(seed) = self.checksum_seed(seed, inode) else {
            return;
        };
        let sum = self.compute_checksum(seed);
        self.checksum_lo = sum.low16().into();
        if let Some(extra) = self.extra_with_mut(HI + 2) {
            extra.checksum_hi = ((sum.value() >> 16) as u16).into();
        }
    }
}
