// SPDX-License-Identifier: GPL-2.0

//! Group descriptors: where a group's bitmaps and inode table are, and what is free in it.
//!
//! A descriptor has 32 bytes, or 64 (and may have more) with the feature `64bit`, whose second half
//! holds the upper parts of the same fields:
//!
//! ```text
//! 0x00 block bitmap   0x04 inode bitmap   0x08 inode table     lower 32 bits of block numbers
//! 0x0c free clusters  0x0e free inodes    0x10 directories     lower 16 bits
//! 0x12 flags          0x14 exclude bitmap (never used)
//! 0x18 block bitmap checksum  0x1a inode bitmap checksum       lower 16 bits of crc32c
//! 0x1c unused inodes at the end of the table                   lower 16 bits
//! 0x1e checksum of the descriptor                              16 bits
//! 0x20 block bitmap   0x24 inode bitmap   0x28 inode table     upper 32 bits
//! 0x2c free clusters  0x2e free inodes    0x30 directories     upper 16 bits
//! 0x32 unused inodes  0x34 exclude bitmap
//! 0x38 block bitmap checksum  0x3a inode bitmap checksum       upper 16 bits
//! 0x3c reserved
//! ```
//!
//! Where the descriptors themselves lie is a matter of the [`Geometry`].
//!
//! Source: `Documentation/filesystems/ext4/group_descr.rst`.

mod account;

#[cfg(test)]
mod tests;

use core::fmt;
use core::ops::Range;

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use crate::checksum::crc16;
use crate::checksum::BadChecksum;
use crate::checksum::Checksummer;
use crate::BlockCount;
use crate::Geometry;
use crate::Group;
use crate::PhysicalBlock;

/// Bits of `bg_flags`. They count only where descriptors have a checksum.
pub mod flags {
    /// The inode bitmap and table were never written: no inode of the group is in use.
    pub const INODE_UNINIT: u16 = 0x1;
    /// The block bitmap was never written: only the group's own metadata are in use.
    pub const BLOCK_UNINIT: u16 = 0x2;
    /// The whole inode table on disk is zeroes or inodes.
    pub const INODE_ZEROED: u16 = 0x4;
}

/// A group descriptor as it stands on disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct GroupDesc {
    block_bitmap: U32,
    inode_bitmap: U32,
    inode_table: U32,
    free_clusters: U16,
    free_inodes: U16,
    used_dirs: U16,
    flags: U16,
    exclude_bitmap: U32,
    block_bitmap_checksum: U16,
    inode_bitmap_checksum: U16,
    itable_unused: U16,
    checksum: U16,
    /// Empty, or a [`High`] and whatever a larger descriptor has behind it.
    rest: [u8],
}

/// The second half of a descriptor.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct High {
    block_bitmap: U32,
    inode_bitmap: U32,
    inode_table: U32,
    free_clusters: U16,
    free_inodes: U16,
    used_dirs: U16,
    itable_unused: U16,
    exclude_bitmap: U32,
    block_bitmap_checksum: U16,
    inode_bitmap_checksum: U16,
    reserved: U32,
}

const CHECKSUM_OFFSET: usize = 0x1e;

/// How the descriptors of a filesystem are protected.
#[derive(Clone, Copy, Debug)]
pub enum DescChecksum {
    /// Not at all: their flags mean nothing.
    None,
    /// By a crc16, of which this has taken in the uuid: `uninit_bg`.
    Crc16(u16),
    /// By the lower half of a crc32c: `metadata_csum`.
    Crc32c(Checksummer),
}

impl DescChecksum {
    /// The protection by crc16 for the filesystem with this uuid.
    pub fn crc16(uuid: &[u8; 16]) -> Self {
        Self::Crc16(crc16(!0, uuid))
    }

    /// Whether there is one.
    pub const fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    fn compute(&self, group: Group, desc: &GroupDesc) -> Option<u16> {
        let bytes = desc.as_bytes();
        match *self {
            Self::None => None,
            Self::Crc16(seed) => {
                // Unlike the crc32c this one leaves its own place out.
                let sum = crc16(seed, &group.get().to_le_bytes());
                let sum = crc16(sum, &bytes[..CHECKSUM_OFFSET]);
                Some(crc16(sum, &bytes[CHECKSUM_OFFSET + 2..]))
            }
            Self::Crc32c(seed) => Some(
                seed.with_u32(group.get())
                    .with_bytes_but(bytes, CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2)
                    .low16(),
            ),
        }
    }
}

/// Which metadata of a group an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupMeta {
    /// The block bitmap.
    BlockBitmap,
    /// The inode bitmap.
    InodeBitmap,
    /// The inode table.
    InodeTable,
}

impl fmt::Display for GroupMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlockBitmap => "block bitmap",
            Self::InodeBitmap => "inode bitmap",
            Self::InodeTable => "inode table",
        })
    }
}

/// What is wrong with a group descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The sentences are below, in `Display`.
pub enum GroupDescError {
    Checksum(BadChecksum),
    OutOfRange { what: GroupMeta, block: u64 },
    OnSuper { what: GroupMeta, block: u64 },
    Overlap { what: GroupMeta, block: u64 },
    FreeClusters { found: u32, clusters: u32 },
    FreeInodes { found: u32, inodes: u32 },
    UsedDirs { found: u32, inodes: u32 },
    ItableUnused { found: u32, free: u32 },
    Group0Uninit,
}

impl fmt::Display for GroupDescError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Checksum(bad) => write!(f, "group descriptor {bad}"),
            Self::OutOfRange { what, block } => write!(f, "{what} at block {block} is misplaced"),
            Self::OnSuper { what, block } => {
                write!(
                    f,
                    "{what} at block {block} lies on superblock or descriptors"
                )
            }
            Self::Overlap { what, block } => {
                write!(
                    f,
                    "{what} at block {block} lies on other metadata of the group"
                )
            }
            Self::FreeClusters { found, clusters } => {
                write!(f, "{found} of {clusters} clusters are free")
            }
            Self::FreeInodes { found, inodes } => write!(f, "{found} of {inodes} inodes are free"),
            Self::UsedDirs { found, inodes } => {
                write!(f, "{found} directories in {inodes} used inodes")
            }
            Self::ItableUnused { found, free } => {
                write!(f, "{found} inodes never used, but {free} free")
            }
            Self::Group0Uninit => f.write_str("group 0 is marked as not initialised"),
        }
    }
}

impl core::error::Error for GroupDescError {}

macro_rules! field16 {
    ($(#[$doc:meta])* $get:ident, $(#[$set_doc:meta])* $set:ident) => {
        $(#[$doc])*
        pub fn $get(&self) -> u32 {
            let high = self.high().map_or(0, |high| high.$get.get());
            u32::from(self.$get.get()) | u32::from(high) << 16
        }

        $(#[$set_doc])*
        pub fn $set(&mut self, value: u32) {
            self.$get = (value as u16).into();
            if let Some(high) = self.high_mut() {
                high.$get = ((value >> 16) as u16).into();
            }
        }
    };
}

macro_rules! field32 {
    ($(#[$doc:meta])* $get:ident, $(#[$set_doc:meta])* $set:ident) => {
        $(#[$doc])*
        pub fn $get(&self) -> PhysicalBlock {
            let high = self.high().map_or(0, |high| high.$get.get());
            PhysicalBlock::new(u64::from(self.$get.get()) | u64::from(high) << 32)
        }

        $(#[$set_doc])*
        pub fn $set(&mut self, block: PhysicalBlock) {
            self.$get = (block.get() as u32).into();
            if let Some(high) = self.high_mut() {
                high.$get = ((block.get() >> 32) as u32).into();
            }
        }
    };
}

impl GroupDesc {
    /// The descriptor of a group in its block of descriptors.
    ///
    /// `block` is the whole block, the one that [`Geometry::desc_offset`] names. `None` when it is too
    /// short.
    pub fn in_block<'a>(block: &'a [u8], geometry: &Geometry, group: Group) -> Option<&'a Self> {
        let (_, offset) = geometry.desc_offset(group);
        let bytes = block.get(offset..offset + geometry.desc_size())?;
        Self::ref_from_bytes(bytes).ok()
    }

    /// Like [`Self::in_block`], to be changed.
    pub fn in_block_mut<'a>(
        block: &'a mut [u8],
        geometry: &Geometry,
        group: Group,
    ) -> Option<&'a mut Self> {
        let (_, offset) = geometry.desc_offset(group);
        let bytes = block.get_mut(offset..offset + geometry.desc_size())?;
        Self::mut_from_bytes(bytes).ok()
    }

    fn high(&self) -> Option<&High> {
        Some(High::ref_from_prefix(&self.rest).ok()?.0)
    }

    fn high_mut(&mut self) -> Option<&mut High> {
        Some(High::mut_from_prefix(&mut self.rest).ok()?.0)
    }

    field32! {
        /// The block of the block bitmap.
        block_bitmap,
        /// Sets the block of the block bitmap.
        set_block_bitmap
    }

    field32! {
        /// The block of the inode bitmap.
        inode_bitmap,
        /// Sets the block of the inode bitmap.
        set_inode_bitmap
    }

    field32! {
        /// The first block of the inode table.
        inode_table,
        /// Sets the first block of the inode table.
        set_inode_table
    }

    field16! {
        /// How many clusters are free. (The format document calls them blocks.)
        free_clusters,
        /// Sets how many clusters are free.
        set_free_clusters
    }

    field16! {
        /// How many inodes are free.
        free_inodes,
        /// Sets how many inodes are free.
        set_free_inodes
    }

    field16! {
        /// How many inodes are directories.
        used_dirs,
        /// Sets how many inodes are directories.
        set_used_dirs
    }

    field16! {
        /// How many inodes at the end of the table were never used.
        itable_unused,
        /// Sets how many inodes at the end of the table were never used.
        set_itable_unused
    }

    /// The bits of [`flags`]. Without a checksum they count as not set.
    pub fn flags(&self, protection: &DescChecksum) -> u16 {
        if protection.is_some() {
            self.flags.get()
        } else {
            0
        }
    }

    /// Sets and clears bits of [`flags`].
    pub fn change_flags(&mut self, set: u16, clear: u16) {
        self.flags = (self.flags.get() & !clear | set).into();
    }

    /// How many inodes at the start of the table may be in use; the others were never written.
    ///
    /// `protection` tells whether the descriptor may be believed in this.
    pub fn initialised_inodes(&self, geometry: &Geometry, protection: &DescChecksum) -> u32 {
        let all = geometry.inodes_per_group();
        if !protection.is_some() {
            all
        } else if self.flags(protection) & flags::INODE_UNINIT != 0 {
            0
        } else {
            all.saturating_sub(self.itable_unused())
        }
    }

    // ---- checksums

    /// Makes the descriptor's checksum right.
    pub fn update_checksum(&mut self, protection: &DescChecksum, group: Group) {
        if let Some(sum) = protection.compute(group, self) {
            self.checksum = sum.into();
        }
    }

    /// Verifies the descriptor's checksum.
    pub fn verify_checksum(
        &self,
        protection: &DescChecksum,
        group: Group,
    ) -> Result<(), BadChecksum> {
        match protection.compute(group, self) {
            Some(sum) if sum != self.checksum.get() => Err(BadChecksum {
                found: self.checksum.get().into(),
                computed: sum.into(),
            }),
            _ => Ok(()),
        }
    }

    /// The bytes of a bitmap that its checksum is over.
    fn summed(bitmap: &[u8], bits: u32) -> &[u8] {
        let length = bitmap.len().min(bits as usize / 8);
        &bitmap[..length]
    }

    fn verify_sum(sum: Checksummer, lo: u16, hi: Option<u16>) -> Result<(), BadChecksum> {
        match hi {
            Some(hi) => sum.verify(u32::from(lo) | u32::from(hi) << 16),
            None if sum.low16() == lo => Ok(()),
            None => Err(BadChecksum {
                found: lo.into(),
                computed: sum.low16().into(),
            }),
        }
    }

    /// Verifies a block bitmap against the checksum kept here; `seed` is the filesystem's.
    pub fn verify_block_bitmap(
        &self,
        seed: Option<Checksummer>,
        geometry: &Geometry,
        bitmap: &[u8],
    ) -> Result<(), BadChecksum> {
        let Some(seed) = seed else { return Ok(()) };
        let sum = seed.with_bytes(Self::summed(bitmap, geometry.clusters_per_group()));
        let hi = self.high().map(|high| high.block_bitmap_checksum.get());
        Self::verify_sum(sum, self.block_bitmap_checksum.get(), hi)
    }

    /// Verifies an inode bitmap against the checksum kept here; `seed` is the filesystem's.
    pub fn verify_inode_bitmap(
        &self,
        seed: Option<Checksummer>,
        geometry: &Geometry,
        bitmap: &[u8],
    ) -> Result<(), BadChecksum> {
        let Some(seed) = seed else { return Ok(()) };
        let sum = seed.with_bytes(Self::summed(bitmap, geometry.inodes_per_group()));
        let hi = self.high().map(|high| high.inode_bitmap_checksum.get());
        Self::verify_sum(sum, self.inode_bitmap_checksum.get(), hi)
    }

    /// Keeps the checksum of a block bitmap that was changed. The descriptor's own checksum comes
    /// after that.
    pub fn update_block_bitmap(
        &mut self,
        seed: Option<Checksummer>,
        geometry: &Geometry,
        bitmap: &[u8],
    ) {
        let Some(seed) = seed else { return };
        let sum = seed.with_bytes(Self::summed(bitmap, geometry.clusters_per_group()));
        self.block_bitmap_checksum = sum.low16().into();
        if let Some(high) = self.high_mut() {
            high.block_bitmap_checksum = ((sum.value() >> 16) as u16).into();
        }
    }

    /// Keeps the checksum of an inode bitmap that was changed. The descriptor's own checksum comes
    /// after that.
    pub fn update_inode_bitmap(
        &mut self,
        seed: Option<Checksummer>,
        geometry: &Geometry,
        bitmap: &[u8],
    ) {
        let Some(seed) = seed else { return };
        let sum = seed.with_bytes(Self::summed(bitmap, geometry.inodes_per_group()));
        self.inode_bitmap_checksum = sum.low16().into();
        if let Some(high) = self.high_mut() {
            high.inode_bitmap_checksum = ((sum.value() >> 16) as u16).into();
        }
    }

    // ---- validation

    /// Checks a descriptor that was read: its checksum, that what it points to lies where it may, and
    /// that its counts are possible.
    pub fn validate(
        &self,
        geometry: &Geometry,
        protection: &DescChecksum,
        group: Group,
    ) -> Result<(), GroupDescError> {
        self.verify_checksum(protection, group)
            .map_err(GroupDescError::Checksum)?;
        self.check_places(geometry, group)?;
        self.check_counts(geometry, protection, group)
    }

    fn check_places(&self, geometry: &Geometry, group: Group) -> Result<(), GroupDescError> {
        let allowed = if geometry.flex_bg() {
            geometry.first_data_block().get()..geometry.blocks_count().get()
        } else {
            let first = geometry.first_block(group).get();
            first..first + u64::from(geometry.blocks_in_group(group))
        };
        let primary = geometry.primary_meta();
        let table = u64::from(geometry.inode_table_blocks());
        let places = [
            (GroupMeta::BlockBitmap, self.block_bitmap(), 1),
            (GroupMeta::InodeBitmap, self.inode_bitmap(), 1),
            (GroupMeta::InodeTable, self.inode_table(), table),
        ];
        for (index, (what, start, count)) in places.into_iter().enumerate() {
            let block = start.get();
            let range = match start.range(BlockCount::new(count)) {
                Some(range) if range.start >= allowed.start && range.end <= allowed.end => range,
                _ => return Err(GroupDescError::OutOfRange { what, block }),
            };
            if overlap(&range, &primary) {
                return Err(GroupDescError::OnSuper { what, block });
            }
            for (_, other, count) in &places[..index] {
                // No overflow: it was checked before.
                if overlap(&range, &(other.get()..other.get() + count)) {
                    return Err(GroupDescError::Overlap { what, block });
                }
            }
        }
        Ok(())
    }

    fn check_counts(
        &self,
        geometry: &Geometry,
        protection: &DescChecksum,
        group: Group,
    ) -> Result<(), GroupDescError> {
        let found = self.free_clusters();
        let clusters = geometry.clusters_in_group(group);
        if found > clusters {
            return Err(GroupDescError::FreeClusters { found, clusters });
        }
        let free = self.free_inodes();
        let inodes = geometry.inodes_per_group();
        if free > inodes {
            return Err(GroupDescError::FreeInodes {
                found: free,
                inodes,
            });
        }
        let found = self.used_dirs();
        let inodes = inodes - free;
        if found > inodes {
            return Err(GroupDescError::UsedDirs { found, inodes });
        }
        if protection.is_some() {
            let found = self.itable_unused();
            if found > free {
                return Err(GroupDescError::ItableUnused { found, free });
            }
            // The root directory is in group 0.
            let uninit = flags::INODE_UNINIT | flags::BLOCK_UNINIT;
            if group == Group::ZERO && self.flags(protection) & uninit != 0 {
                return Err(GroupDescError::Group0Uninit);
            }
        }
        Ok(())
    }

    /// The blocks that a group's metadata take, wherever they lie: the start of the group, the block
    /// bitmap, the inode bitmap, the inode table. For a descriptor that was validated.
    ///
    /// No file may own one of them.
    pub fn meta_ranges(&self, geometry: &Geometry, group: Group) -> [Range<u64>; 4] {
        let base = geometry.first_block(group).get();
        let table = self.inode_table().get();
        let one = |block: PhysicalBlock| block.get()..block.get().saturating_add(1);
        [
            base..base + u64::from(geometry.base_meta_blocks(group)),
            one(self.block_bitmap()),
            one(self.inode_bitmap()),
            table..table.saturating_add(geometry.inode_table_blocks().into()),
        ]
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
