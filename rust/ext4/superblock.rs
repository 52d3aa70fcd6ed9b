// SPDX-License-Identifier: GPL-2.0

//! The superblock: what the filesystem is, where things are, how it is doing.
//!
//! It lies 1024 bytes from the start of the device, whatever the block size, and is 1024 bytes long:
//!
//! ```text
//! block size   block, offset        offset  field             in a 1 GiB disk by mkfs.ext4
//! 1 KiB        1, 0                 0x018   s_log_block_size  02 00 00 00  1024 << 2 bytes
//! larger       0, 1024              0x020   blocks per group  00 80 00 00  32,768
//!                                   0x038   s_magic           53 ef
//!                                   0x058   s_inode_size      00 01        256 bytes
//!                                   0x060   s_feature_incompat
//!                                   0x3fc   s_checksum        crc32c of all before it
//! ```
//!
//! [`Superblock`] is the structure as it stands on disk, and says nothing about the values in it.
//! [`Superblock::validate`] turns it into a [`ValidSuperblock`], whose [`Geometry`](crate::Geometry)
//! everything else is checked against. Changes are made in place, see `superblock/update.rs`.
//!
//! Copies lie at the start of some other groups, see [`Geometry::has_super`](crate::Geometry::has_super).
//!
//! Source: `Documentation/filesystems/ext4/super.rst`.

mod error;
mod update;
mod validate;

#[cfg(test)]
mod tests;

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use crate::features::Compat;
use crate::features::Features;
use crate::features::Incompat;
use crate::features::RoCompat;
use crate::BlockSize;

pub use error::SuperblockError;
pub use update::ErrorCode;
pub use update::ErrorRecord;
pub use validate::DirectoryHash;
pub use validate::JournalLocation;
pub use validate::ValidSuperblock;

/// Where the superblock begins, in bytes from the start of the device.
pub const OFFSET: usize = 1024;
/// The length of the superblock in bytes.
pub const LENGTH: usize = 1024;
/// What `s_magic` holds.
pub const MAGIC: u16 = 0xef53;

/// Bits of `s_state`.
pub mod state {
    /// Unmounted cleanly.
    pub const VALID: u16 = 0x1;
    /// Errors were detected.
    pub const ERRORS: u16 = 0x2;
    /// The orphan list is being processed.
    pub const ORPHANS: u16 = 0x4;
    /// Fast commits are being replayed.
    pub const FAST_COMMIT_REPLAY: u16 = 0x20;
}

/// Bits of `s_flags`.
pub mod flags {
    /// Directory hashes were computed with signed characters.
    pub const SIGNED_HASH: u32 = 0x1;
    /// Directory hashes were computed with unsigned characters.
    pub const UNSIGNED_HASH: u32 = 0x2;
    /// A filesystem to test development code on.
    pub const TEST_FILESYSTEM: u32 = 0x4;
}

/// Bits of `s_default_mount_opts`, as `tune2fs -o` sets them.
pub mod default_options {
    /// `debug`
    pub const DEBUG: u32 = 0x1;
    /// `bsdgroups`
    pub const BSD_GROUPS: u32 = 0x2;
    /// `user_xattr`, always on nowadays
    pub const USER_XATTR: u32 = 0x4;
    /// `acl`, always on nowadays
    pub const ACL: u32 = 0x8;
    /// `nouid32`
    pub const UID16: u32 = 0x10;
    /// The two bits of the journal mode: 0 for the driver's default.
    pub const JOURNAL_MODE: u32 = 0x60;
    /// `data=journal`
    pub const JOURNAL_DATA: u32 = 0x20;
    /// `data=ordered`
    pub const JOURNAL_ORDERED: u32 = 0x40;
    /// `data=writeback`
    pub const JOURNAL_WRITEBACK: u32 = 0x60;
    /// `nobarrier`
    pub const NO_BARRIER: u32 = 0x100;
    /// `block_validity`, always on nowadays
    pub const BLOCK_VALIDITY: u32 = 0x200;
    /// `discard`
    pub const DISCARD: u32 = 0x400;
    /// `nodelalloc`
    pub const NO_DELAYED_ALLOCATION: u32 = 0x800;
}

/// What to do when an error is detected: `s_errors`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnError {
    /// Go on.
    Continue,
    /// Make the mount read-only.
    ReadOnly,
    /// Panic.
    Panic,
}

/// Why a filesystem wants a check although nothing is known to be wrong with it, as `tune2fs -c` and `-i` set that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DueCheck {
    /// It was mounted as often as it may be between two checks.
    MountCount,
    /// The last check is longer ago than it may be.
    Interval,
}

/// The superblock as it stands on disk. The names are those of the format document without `s_`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Superblock {
    // 0x00
    pub inodes_count: U32,
    pub blocks_count_lo: U32,
    pub reserved_blocks_count_lo: U32,
    pub free_blocks_count_lo: U32,
    // 0x10
    pub free_inodes_count: U32,
    pub first_data_block: U32,
    pub log_block_size: U32,
    pub log_cluster_size: U32,
    // 0x20
    pub blocks_per_group: U32,
    pub clusters_per_group: U32,
    pub inodes_per_group: U32,
    pub mtime_lo: U32,
    // 0x30
    pub wtime_lo: U32,
    pub mount_count: U16,
    pub max_mount_count: U16,
    pub magic: U16,
    pub state: U16,
    pub errors: U16,
    pub minor_revision: U16,
    // 0x40
    pub lastcheck_lo: U32,
    pub check_interval: U32,
    pub creator_os: U32,
    pub revision: U32,
    // 0x50
    pub reserved_uid_lo: U16,
    pub reserved_gid_lo: U16,
    pub first_inode: U32,
    pub inode_size: U16,
    pub block_group_nr: U16,
    pub feature_compat: U32,
    // 0x60
    pub feature_incompat: U32,
    pub feature_ro_compat: U32,
    pub uuid: [u8; 16],
    // 0x78
    pub volume_name: [u8; 16],
    // 0x88
    pub last_mounted: [u8; 64],
    // 0xc8
    pub algorithm_usage_bitmap: U32,
    pub prealloc_blocks: u8,
    pub prealloc_dir_blocks: u8,
    pub reserved_gdt_blocks: U16,
    // 0xd0
    pub journal_uuid: [u8; 16],
    // 0xe0
    pub journal_inode: U32,
    pub journal_device: U32,
    pub last_orphan: U32,
    pub hash_seed: [U32; 4],
    // 0xfc
    pub default_hash_version: u8,
    pub journal_backup_type: u8,
    pub desc_size: U16,
    // 0x100
    pub default_mount_options: U32,
    pub first_meta_bg: U32,
    pub mkfs_time_lo: U32,
    pub journal_blocks: [U32; 17],
    // 0x150
    pub blocks_count_hi: U32,
    pub reserved_blocks_count_hi: U32,
    pub free_blocks_count_hi: U32,
    pub min_extra_isize: U16,
    pub want_extra_isize: U16,
    // 0x160
    pub flags: U32,
    pub raid_stride: U16,
    pub mmp_update_interval: U16,
    pub mmp_block: U64,
    // 0x170
    pub raid_stripe_width: U32,
    pub log_groups_per_flex: u8,
    pub checksum_type: u8,
    pub encryption_level: u8,
    pub reserved_pad: u8,
    pub kbytes_written: U64,
    // 0x180
    pub snapshot_inode: U32,
    pub snapshot_id: U32,
    pub snapshot_reserved_blocks_count: U64,
    // 0x190
    pub snapshot_list: U32,
    pub error_count: U32,
    pub first_error_time_lo: U32,
    pub first_error_inode: U32,
    // 0x1a0
    pub first_error_block: U64,
    pub first_error_function: [u8; 32],
    pub first_error_line: U32,
    pub last_error_time_lo: U32,
    // 0x1d0
    pub last_error_inode: U32,
    pub last_error_line: U32,
    pub last_error_block: U64,
    // 0x1e0
    pub last_error_function: [u8; 32],
    // 0x200
    pub mount_options: [u8; 64],
    // 0x240
    pub user_quota_inode: U32,
    pub group_quota_inode: U32,
    pub overhead_clusters: U32,
    pub backup_groups: [U32; 2],
    // 0x254
    pub encryption_algorithms: [u8; 4],
    pub encryption_password_salt: [u8; 16],
    // 0x268
    pub lost_found_inode: U32,
    pub project_quota_inode: U32,
    // 0x270
    pub checksum_seed: U32,
    pub wtime_hi: u8,
    pub mtime_hi: u8,
    pub mkfs_time_hi: u8,
    pub lastcheck_hi: u8,
    pub first_error_time_hi: u8,
    pub last_error_time_hi: u8,
    pub first_error_code: u8,
    pub last_error_code: u8,
    pub encoding: U16,
    pub encoding_flags: U16,
    // 0x280
    pub orphan_file_inode: U32,
    pub reserved_uid_hi: U16,
    pub reserved_gid_hi: U16,
    pub reserved: [U32; 93],
    // 0x3fc
    pub checksum: U32,
}

const _: () = assert!(core::mem::size_of::<Superblock>() == LENGTH);

/// Puts the two parts of a 64-bit number together.
const fn wide(lo: U32, hi: U32) -> u64 {
    lo.get() as u64 | (hi.get() as u64) << 32
}

/// Puts the two parts of a 40-bit time together: seconds since 1970.
const fn time(lo: U32, hi: u8) -> i64 {
    lo.get() as i64 | (hi as i64) << 32
}

impl Superblock {
    /// The superblock at the start of `bytes`; `None` when they are fewer than 1024.
    pub fn from_bytes(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_bytes(bytes.get(..LENGTH)?).ok()
    }

    /// The superblock at the start of `bytes`, to be changed; `None` when they are fewer than 1024.
    pub fn from_bytes_mut(bytes: &mut [u8]) -> Option<&mut Self> {
        Self::mut_from_bytes(bytes.get_mut(..LENGTH)?).ok()
    }

    /// In which block a primary superblock lies, and where in it.
    pub const fn position(block_size: BlockSize) -> (crate::PhysicalBlock, usize) {
        (
            crate::PhysicalBlock::new((OFFSET / block_size.bytes()) as u64),
            OFFSET % block_size.bytes(),
        )
    }

    /// Whether this is a superblock at all: the magic number is there.
    pub fn has_magic(&self) -> bool {
        self.magic.get() == MAGIC
    }

    /// The block size, which a mount needs before it can read the superblock's whole block; `None`
    /// when the field holds nonsense.
    pub fn block_size(&self) -> Option<BlockSize> {
        BlockSize::from_bits(self.log_block_size.get().checked_add(10)?)
    }

    /// The three feature sets.
    pub fn features(&self) -> Features {
        Features {
            compat: Compat::from_bits(self.feature_compat.get()),
            incompat: Incompat::from_bits(self.feature_incompat.get()),
            ro_compat: RoCompat::from_bits(self.feature_ro_compat.get()),
        }
    }

    /// Whether the high halves of block counts are in use.
    fn is_64bit(&self) -> bool {
        self.features().incompat(Incompat::SIXTY_FOUR_BIT)
    }

    fn count(&self, lo: U32, hi: U32) -> u64 {
        if self.is_64bit() {
            wide(lo, hi)
        } else {
            lo.get().into()
        }
    }

    /// The size of the filesystem in blocks.
    pub fn blocks_count(&self) -> u64 {
        self.count(self.blocks_count_lo, self.blocks_count_hi)
    }

    /// How many blocks are kept for root.
    pub fn reserved_blocks_count(&self) -> u64 {
        self.count(self.reserved_blocks_count_lo, self.reserved_blocks_count_hi)
    }

    /// How many blocks are free, as of the last time that somebody summed them up.
    pub fn free_blocks_count(&self) -> u64 {
        self.count(self.free_blocks_count_lo, self.free_blocks_count_hi)
    }

    /// The time of the last mount for writing.
    pub fn mtime(&self) -> i64 {
        time(self.mtime_lo, self.mtime_hi)
    }

    /// The time of the last write of the superblock.
    pub fn wtime(&self) -> i64 {
        time(self.wtime_lo, self.wtime_hi)
    }

    /// The time when the filesystem was made.
    pub fn mkfs_time(&self) -> i64 {
        time(self.mkfs_time_lo, self.mkfs_time_hi)
    }

    /// The time of the last check by `e2fsck`.
    pub fn lastcheck(&self) -> i64 {
        time(self.lastcheck_lo, self.lastcheck_hi)
    }

    /// The user who may use the reserved blocks.
    pub fn reserved_uid(&self) -> u32 {
        u32::from(self.reserved_uid_lo.get()) | u32::from(self.reserved_uid_hi.get()) << 16
    }

    /// The group that may use the reserved blocks.
    pub fn reserved_gid(&self) -> u32 {
        u32::from(self.reserved_gid_lo.get()) | u32::from(self.reserved_gid_hi.get()) << 16
    }

    /// The volume's name, up to its first NUL.
    pub fn volume_name(&self) -> &[u8] {
        until_nul(&self.volume_name)
    }

    /// The mount options stored by `tune2fs -E mount_opts`, up to the first NUL.
    pub fn mount_options(&self) -> &[u8] {
        until_nul(&self.mount_options)
    }

    /// What to do when an error is detected. Anything unknown means [`OnError::ReadOnly`], as in the
    /// kernel's ext4.
    pub fn on_error(&self) -> OnError {
        match self.errors.get() {
            1 => OnError::Continue,
            3 => OnError::Panic,
            _ => OnError::ReadOnly,
        }
    }

    /// Whether the filesystem was unmounted cleanly and no error was detected in it.
    pub fn is_clean(&self) -> bool {
        self.state.get() & (state::VALID | state::ERRORS) == state::VALID
    }

    /// Whether a check is due at time `now`, in seconds since 1970, and why.
    pub fn due_check(&self, now: i64) -> Option<DueCheck> {
        // Zero and what is negative as a signed number stand for "never".
        let max = self.max_mount_count.get();
        if max as i16 > 0 && self.mount_count.get() >= max {
            return Some(DueCheck::MountCount);
        }
        let interval = i64::from(self.check_interval.get());
        let is_over = self.lastcheck().saturating_add(interval) <= now;
        (interval != 0 && is_over).then_some(DueCheck::Interval)
    }
}

/// The bytes before the first NUL.
fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}
