// SPDX-License-Identifier: GPL-2.0

//! Changes of a superblock in place.
//!
//! None of these touches the checksum: [`Superblock::update_checksum`] comes last, once for all
//! changes.

use zerocopy::little_endian::U32;

use super::flags;
use super::state;
use super::Superblock;
use crate::checksum::Crc32c;
use crate::features::Compat;
use crate::features::Incompat;
use crate::features::RoCompat;
use crate::InodeNumber;
use crate::PhysicalBlock;

/// The kind of an error that was detected, in the format's own numbers, which are the same on all
/// architectures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The names of the errno values that they stand for.
#[repr(u8)]
pub enum ErrorCode {
    Unknown = 1,
    Eio = 2,
    Enomem = 3,
    Efsbadcrc = 4,
    Efscorrupted = 5,
    Enospc = 6,
    Enokey = 7,
    Erofs = 8,
    Efbig = 9,
    Eexist = 10,
    Erange = 11,
    Eoverflow = 12,
    Ebusy = 13,
    Enotdir = 14,
    Enotempty = 15,
    Eshutdown = 16,
    Efault = 17,
}

/// An error that the superblock remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorRecord<'a> {
    /// When it happened, in seconds since 1970.
    pub time: i64,
    /// The inode concerned, if there is one.
    pub inode: Option<InodeNumber>,
    /// The block concerned; 0 if there is none.
    pub block: PhysicalBlock,
    /// Where in the driver it was detected. 32 bytes of it are kept.
    pub function: &'a [u8],
    /// The line in the driver's source.
    pub line: u32,
    /// What kind of error it is, as a number of [`ErrorCode`].
    pub code: u8,
}

/// Cuts a time to the 40 bits that the superblock has for it. Times before 1970 become 1970.
fn split_time(time: i64) -> (U32, u8) {
    let time = time.clamp(0, (1 << 40) - 1);
    (U32::new(time as u32), (time >> 32) as u8)
}

/// Fills a fixed field with the start of `text` and NUL bytes.
fn fill(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    field[length..].fill(0);
}

fn inode_field(inode: Option<InodeNumber>) -> U32 {
    U32::new(inode.map_or(0, InodeNumber::get))
}

impl Superblock {
    /// Makes the checksum right, if this filesystem has checksums. To be called after all changes.
    pub fn update_checksum(&mut self, crc32c: Crc32c) {
        if self.features().ro_compat(RoCompat::METADATA_CSUM) {
            self.checksum = self.compute_checksum(crc32c).value().into();
        }
    }

    /// Sets the number of free blocks, which with `bigalloc` are all the blocks of free clusters.
    pub fn set_free_blocks_count(&mut self, blocks: u64) {
        self.free_blocks_count_lo = U32::new(blocks as u32);
        if self.is_64bit() {
            self.free_blocks_count_hi = U32::new((blocks >> 32) as u32);
        }
    }

    /// Sets the number of free inodes.
    pub fn set_free_inodes_count(&mut self, inodes: u32) {
        self.free_inodes_count = inodes.into();
    }

    /// Sets the time of the last mount for writing.
    pub fn set_mtime(&mut self, time: i64) {
        (self.mtime_lo, self.mtime_hi) = split_time(time);
    }

    /// Sets the time of the last write.
    pub fn set_wtime(&mut self, time: i64) {
        (self.wtime_lo, self.wtime_hi) = split_time(time);
    }

    /// Counts a mount for writing. The count stops at its largest value.
    pub fn count_mount(&mut self) {
        self.mount_count = self.mount_count.get().saturating_add(1).into();
    }

    /// Says whether the filesystem is unmounted, or at rest with nothing left to write.
    pub fn set_valid(&mut self, valid: bool) {
        self.set_state_bit(state::VALID, valid);
    }

    /// Says whether the orphan list is being processed.
    pub fn set_processing_orphans(&mut self, processing: bool) {
        self.set_state_bit(state::ORPHANS, processing);
    }

    fn set_state_bit(&mut self, bit: u16, on: bool) {
        let others = self.state.get() & !bit;
        self.state = (others | if on { bit } else { 0 }).into();
    }

    /// Says whether the journal holds something that a mount must replay.
    pub fn set_needs_recovery(&mut self, needed: bool) {
        let others = Incompat::from_bits(self.feature_incompat.get()).without(Incompat::RECOVER);
        let features = if needed {
            others.with(Incompat::RECOVER)
        } else {
            others
        };
        self.feature_incompat = features.bits().into();
    }

    /// Says whether the orphan file may hold orphans.
    pub fn set_orphan_present(&mut self, present: bool) {
        let bit = RoCompat::ORPHAN_PRESENT;
        let others = RoCompat::from_bits(self.feature_ro_compat.get()).without(bit);
        let features = if present { others.with(bit) } else { others };
        self.feature_ro_compat = features.bits().into();
    }

    /// Adds features that come with what is written, such as `large_file` with the first file beyond
    /// 2 GiB.
    pub fn add_features(&mut self, compat: Compat, ro_compat: RoCompat) {
        let had = self.features();
        self.feature_compat = had.compat.with(compat).bits().into();
        self.feature_ro_compat = had.ro_compat.with(ro_compat).bits().into();
    }

    /// Records how directory hashes are computed, if nobody did so before.
    pub fn set_hash_signedness(&mut self, unsigned: bool) {
        let both = flags::SIGNED_HASH | flags::UNSIGNED_HASH;
        if self.flags.get() & both == 0 {
            let flag = if unsigned {
                flags::UNSIGNED_HASH
            } else {
                flags::SIGNED_HASH
            };
            self.flags = (self.flags.get() | flag).into();
        }
    }

    /// Sets the head of the list of orphans.
    pub fn set_last_orphan(&mut self, inode: Option<InodeNumber>) {
        self.last_orphan = inode_field(inode);
    }

    /// Sets how many kilobytes were written in the life of the filesystem.
    pub fn set_kbytes_written(&mut self, kbytes: u64) {
        self.kbytes_written = kbytes.into();
    }

    /// Sets how many clusters are metadata.
    pub fn set_overhead_clusters(&mut self, clusters: u32) {
        self.overhead_clusters = clusters.into();
    }

    /// Sets the volume's name; `false`, and nothing is changed, when it has more than 16 bytes or a
    /// NUL in it.
    #[must_use]
    pub fn set_volume_name(&mut self, name: &[u8]) -> bool {
        let fits = name.len() <= self.volume_name.len() && !name.contains(&0);
        if fits {
            fill(&mut self.volume_name, name);
        }
        fits
    }

    /// Sets the uuid; `false`, and nothing is changed, when checksums all over the filesystem depend
    /// on the old one.
    #[must_use]
    pub fn set_uuid(&mut self, uuid: [u8; 16]) -> bool {
        let features = self.features();
        let metadata_csum = features.ro_compat(RoCompat::METADATA_CSUM);
        let gdt_csum = features.ro_compat(RoCompat::GDT_CSUM) && !metadata_csum;
        let seed_is_uuid = !features.incompat(Incompat::CSUM_SEED)
            && (metadata_csum || features.incompat(Incompat::EA_INODE));
        let fixed = features.compat(Compat::STABLE_INODES) || gdt_csum || seed_is_uuid;
        if !fixed {
            self.uuid = uuid;
        }
        !fixed
    }

    /// Sets where the filesystem is mounted. 63 bytes of it are kept.
    pub fn set_last_mounted(&mut self, path: &[u8]) {
        fill(&mut self.last_mounted[..63], path);
    }

    /// Records an error: the first one stays, the last one is replaced, the count goes up.
    ///
    /// The state says from now on that there were errors, until `e2fsck` has looked at them.
    pub fn record_error(&mut self, error: &ErrorRecord<'_>) {
        self.set_state_bit(state::ERRORS, true);

        (self.last_error_time_lo, self.last_error_time_hi) = split_time(error.time);
        self.last_error_inode = inode_field(error.inode);
        self.last_error_block = error.block.get().into();
        self.last_error_line = error.line.into();
        self.last_error_code = error.code;
        fill(&mut self.last_error_function, error.function);

        if self.first_error_time_lo.get() == 0 && self.first_error_time_hi == 0 {
            self.first_error_time_lo = self.last_error_time_lo;
            self.first_error_time_hi = self.last_error_time_hi;
            self.first_error_inode = self.last_error_inode;
            self.first_error_block = self.last_error_block;
            self.first_error_line = self.last_error_line;
            self.first_error_code = self.last_error_code;
            self.first_error_function = self.last_error_function;
        }
        self.count_errors(1);
    }

    /// Counts errors of which nothing is recorded but that they were met.
    pub fn count_errors(&mut self, count: u32) {
        self.error_count = self.error_count.get().saturating_add(count).into();
    }

    /// The first error that was recorded; `None` when there is none.
    pub fn first_error(&self) -> Option<ErrorRecord<'_>> {
        (self.error_count.get() != 0).then(|| ErrorRecord {
            time: super::time(self.first_error_time_lo, self.first_error_time_hi),
            inode: InodeNumber::new(self.first_error_inode.get()),
            block: PhysicalBlock::new(self.first_error_block.get()),
            function: super::until_nul(&self.first_error_function),
            line: self.first_error_line.get(),
            code: self.first_error_code,
        })
    }

    /// The last error that was recorded; `None` when there is none.
    pub fn last_error(&self) -> Option<ErrorRecord<'_>> {
        (self.error_count.get() != 0).then(|| ErrorRecord {
            time: super::time(self.last_error_time_lo, self.last_error_time_hi),
            inode: InodeNumber::new(self.last_error_inode.get()),
            block: PhysicalBlock::new(self.last_error_block.get()),
            function: super::until_nul(&self.last_error_function),
            line: self.last_error_line.get(),
            code: self.last_error_code,
        })
    }
}
