// SPDX-License-Identifier: GPL-2.0

//! Numbers that must not be mixed up.
//!
//! An ext4 filesystem numbers its blocks from the start of the device, each file numbers its own
//! blocks from its start, the allocator counts in clusters, and the disk is cut into groups. In C all
//! of these are integers. Here each is a type of its own, without implicit conversion, so that a file
//! block cannot be handed to something that reads the disk.
//!
//! None of these types says that the number is *valid*: that depends on the geometry of the one
//! filesystem, see [`crate::superblock`]. [`InodeNumber`] at least is never 0, which in the format
//! means "no inode".

use core::fmt;
use core::num::NonZeroU32;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(transparent)]
        pub struct $name($raw);

        impl $name {
            /// The number 0.
            pub const ZERO: Self = Self(0);
            /// The largest number that the type holds.
            pub const MAX: Self = Self(<$raw>::MAX);

            /// Gives a raw number its type.
            #[inline]
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[inline]
            pub const fn get(self) -> $raw {
                self.0
            }

            /// The number `count` further on, or `None` when it does not fit the type.
            #[inline]
            pub const fn checked_add(self, count: $raw) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// The number `count` before this one, or `None` when there is none.
            #[inline]
            pub const fn checked_sub(self, count: $raw) -> Option<Self> {
                match self.0.checked_sub(count) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// The distance from `start` up to this number, or `None` when `start` lies after it.
            #[inline]
            pub const fn distance_from(self, start: Self) -> Option<$raw> {
                self.0.checked_sub(start.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$name> for $raw {
            fn from(number: $name) -> $raw {
                number.0
            }
        }
    };
}

number! {
    /// A block of the device, counted from its start in filesystem blocks. At most 48 bits on disk.
    PhysicalBlock(u64)
}

number! {
    /// A block of a file, counted from the start of the file in filesystem blocks.
    LogicalBlock(u32)
}

number! {
    /// A cluster: the unit of allocation. The same as a block unless the filesystem has `bigalloc`.
    ///
    /// Cluster 0 begins at the first data block.
    Cluster(u64)
}

number! {
    /// A block group.
    Group(u32)
}

number! {
    /// A length in filesystem blocks.
    BlockCount(u64)
}

impl PhysicalBlock {
    /// The blocks from this one on, `count` of them, as the half-open range `start..end`.
    ///
    /// `None` when the end does not fit.
    #[inline]
    pub const fn range(self, count: BlockCount) -> Option<core::ops::Range<u64>> {
        match self.0.checked_add(count.0) {
            Some(end) => Some(self.0..end),
            None => None,
        }
    }
}

impl LogicalBlock {
    /// How many logical blocks a file can have: the last one is `COUNT - 1`.
    ///
    /// The number 2^32 - 1 itself stands for "past the end" in ext4.
    pub const COUNT: u32 = u32::MAX;
}

/// An inode number. Never 0, which means "none" on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct InodeNumber(NonZeroU32);

impl InodeNumber {
    /// The list of bad blocks.
    pub const BAD_BLOCKS: Self = Self::constant(1);
    /// The root directory.
    pub const ROOT: Self = Self::constant(2);
    /// User quota.
    pub const USER_QUOTA: Self = Self::constant(3);
    /// Group quota.
    pub const GROUP_QUOTA: Self = Self::constant(4);
    /// The boot loader.
    pub const BOOT_LOADER: Self = Self::constant(5);
    /// The undelete directory, never implemented.
    pub const UNDELETE_DIRECTORY: Self = Self::constant(6);
    /// The reserved group descriptors (`resize_inode`).
    pub const RESIZE: Self = Self::constant(7);
    /// The journal.
    pub const JOURNAL: Self = Self::constant(8);
    /// The snapshots' "exclude" inode, never merged.
    pub const EXCLUDE: Self = Self::constant(9);
    /// Replica, never merged.
    pub const REPLICA: Self = Self::constant(10);
    /// The first inode that is not reserved in a filesystem of revision 0, and by default later.
    pub const FIRST_UNRESERVED: Self = Self::constant(11);

    const fn constant(raw: u32) -> Self {
        match NonZeroU32::new(raw) {
            Some(raw) => Self(raw),
            None => panic!("inode number 0"),
        }
    }

    /// Gives a raw number its type; `None` for 0.
    #[inline]
    pub const fn new(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The raw number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The number counted from 0, as inode tables and bitmaps count.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0.get() - 1
    }

    /// The reverse of [`Self::index`]; `None` for `u32::MAX`.
    #[inline]
    pub const fn from_index(index: u32) -> Option<Self> {
        match index.checked_add(1) {
            Some(raw) => Self::new(raw),
            None => None,
        }
    }
}

impl fmt::Display for InodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<InodeNumber> for u32 {
    fn from(number: InodeNumber) -> u32 {
        number.get()
    }
}

/// The size of a filesystem block: a power of two from 1 KiB to 64 KiB.
///
/// # Invariants
///
/// The logarithm is in `10..=16`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockSize(u8);

impl BlockSize {
    /// The smallest block, 1 KiB.
    pub const MIN: Self = Self(10);
    /// The largest block, 64 KiB.
    pub const MAX: Self = Self(16);

    /// From the logarithm to base two of the size in bytes; `None` when it is out of range.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits >= 10 && bits <= 16 {
            // INVARIANT: The range was just checked.
            Some(Self(bits as u8))
        } else {
            None
        }
    }

    /// From a size in bytes; `None` when there is no such block size.
    pub const fn from_bytes(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() {
            Self::from_bits(bytes.trailing_zeros())
        } else {
            None
        }
    }

    /// The logarithm to base two of the size in bytes.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// The size in bytes.
    #[inline]
    pub const fn bytes(self) -> usize {
        1 << self.0
    }

    /// How many blocks hold `bytes` bytes.
    #[inline]
    pub const fn blocks_for(self, bytes: u64) -> BlockCount {
        BlockCount(bytes.div_ceil(1 << self.0))
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.bytes(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inode_numbers_are_never_zero() {
        assert_eq!(InodeNumber::new(0), None);
        assert_eq!(InodeNumber::from_index(u32::MAX), None);
        assert_eq!(InodeNumber::ROOT.index(), 1);
        assert_eq!(InodeNumber::from_index(1), Some(InodeNumber::ROOT));
    }

    #[test]
    fn block_sizes_are_powers_of_two_in_range() {
        assert_eq!(BlockSize::from_bytes(512), None);
        assert_eq!(BlockSize::from_bytes(131072), None);
        assert_eq!(BlockSize::from_bytes(3072), None);
        assert_eq!(BlockSize::from_bytes(1024), Some(BlockSize::MIN));
        assert_eq!(BlockSize::from_bytes(65536), Some(BlockSize::MAX));
        let size = BlockSize::from_bytes(4096).unwrap();
        assert_eq!(size.bits(), 12);
        assert_eq!(size.blocks_for(0).get(), 0);
        assert_eq!(size.blocks_for(4097).get(), 2);
        assert_eq!(size.blocks_for(u64::MAX).get(), 1 << 52);
    }

    #[test]
    fn arithmetic_is_checked() {
        let last = PhysicalBlock::MAX;
        assert_eq!(last.checked_add(1), None);
        assert_eq!(last.range(BlockCount::new(1)), None);
        assert_eq!(LogicalBlock::ZERO.checked_sub(1), None);
        assert_eq!(Group::new(7).distance_from(Group::new(9)), None);
        assert_eq!(Group::new(9).distance_from(Group::new(7)), Some(2));
    }
}
