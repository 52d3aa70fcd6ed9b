// SPDX-License-Identifier: GPL-2.0

//! How a filesystem is laid out: block groups, and the metadata at fixed places in them.
//!
//! ```text
//! block 0 or 1
//! |<-------- group 0 -------->|<-------- group 1 -------->|<----- group 2 ----->| ... | last, may
//! | super | descriptors | res | super | descriptors | res |                     |     | be short
//!   ^ only in some groups, see `has_super`
//! ```
//!
//! A group is `blocks_per_group` blocks. Group 0 starts at the *first data block*, which is block 1
//! with blocks of 1 KiB (block 0 then holds the boot sector) and block 0 otherwise. What a group's
//! bitmaps and inode table are is in its descriptor, see [`crate::group_desc`].
//!
//! With `meta_bg` the descriptors of each *meta group*, as many groups as one block of descriptors
//! describes, lie in that meta group: in its first, its second and its last group.
//!
//! With `bigalloc` space is allocated in clusters of `cluster_ratio` blocks, and bitmaps have a bit
//! for each cluster. Otherwise a cluster is a block.
//!
//! A [`Geometry`] is only made by validating a superblock.

use core::num::NonZeroU32;
use core::num::NonZeroU64;

use crate::BlockCount;
use crate::BlockSize;
use crate::Cluster;
use crate::Group;
use crate::InodeNumber;
use crate::PhysicalBlock;

/// In which groups copies of the superblock and of the descriptors lie, besides group 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Backups {
    /// In all.
    All,
    /// In group 1 and in the powers of 3, 5 and 7: `sparse_super`.
    Sparse,
    /// In these two; 0 for none: `sparse_super2`.
    Named([u32; 2]),
}

/// The layout of one filesystem.
///
/// # Invariants
///
/// - The last block lies below 2^48 and its end, in bytes, below 2^63.
/// - `first_data_block < blocks_count`; it is 1 if a block and a cluster are 1 KiB, else 0.
/// - `blocks_per_group == clusters_per_group << cluster_bits` and is not 0; a bitmap of
///   `clusters_per_group` bits, a multiple of 8, fits in a block; so does one of `inodes_per_group`.
/// - `group_count` groups cover the filesystem exactly, the last one perhaps in part.
/// - `inode_bits` is from 7 to that of the block size, `inodes_per_group` a multiple of the inodes in
///   a block.
/// - `desc_bits` is from 5 to 10.
/// - The primary superblock and the descriptors behind it lie in group 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    pub(crate) block_size: BlockSize,
    pub(crate) cluster_bits: u8,
    pub(crate) flex_bits: u8,
    pub(crate) flex_bg: bool,
    /// The logarithm to base two of the inode size.
    pub(crate) inode_bits: u8,
    /// The logarithm to base two of the descriptor size.
    pub(crate) desc_bits: u8,
    pub(crate) reserved_gdt_blocks: u16,
    pub(crate) first_data_block: u32,
    pub(crate) blocks_per_group: NonZeroU32,
    pub(crate) clusters_per_group: u32,
    pub(crate) inodes_per_group: NonZeroU32,
    pub(crate) group_count: u32,
    pub(crate) first_inode: InodeNumber,
    /// The first block of descriptors that is laid out as `meta_bg` wants it.
    pub(crate) first_meta_bg: u32,
    pub(crate) backups: Backups,
    pub(crate) blocks_count: u64,
}

impl Geometry {
    /// The block size.
    #[inline]
    pub const fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// How many blocks the filesystem has. They are numbered from 0, whether or not there is a boot
    /// block before the first group.
    pub const fn blocks_count(&self) -> BlockCount {
        BlockCount::new(self.blocks_count)
    }

    /// The first block of group 0.
    pub const fn first_data_block(&self) -> PhysicalBlock {
        PhysicalBlock::new(self.first_data_block as u64)
    }

    /// How many groups there are.
    pub const fn group_count(&self) -> u32 {
        self.group_count
    }

    /// All groups in order.
    pub fn groups(&self) -> impl DoubleEndedIterator<Item = Group> + ExactSizeIterator + Clone {
        (0..self.group_count).map(Group::new)
    }

    /// Whether there is such a group.
    pub const fn contains_group(&self, group: Group) -> bool {
        group.get() < self.group_count
    }

    /// How many blocks a group has, except that the last one may have fewer.
    pub const fn blocks_per_group(&self) -> u32 {
        self.blocks_per_group.get()
    }

    /// How many clusters a group has, except that the last one may have fewer.
    pub const fn clusters_per_group(&self) -> u32 {
        self.clusters_per_group
    }

    /// How many inodes each group has.
    pub const fn inodes_per_group(&self) -> u32 {
        self.inodes_per_group.get()
    }

    /// How many inodes the filesystem has. They are numbered from 1.
    pub const fn inodes_count(&self) -> u32 {
        // No overflow: the superblock holds this number, and validation compared.
        self.group_count * self.inodes_per_group.get()
    }

    /// The first inode number that is not reserved.
    pub const fn first_inode(&self) -> InodeNumber {
        self.first_inode
    }

    /// The size of an inode on disk in bytes.
    #[inline]
    pub const fn inode_size(&self) -> usize {
        1 << self.inode_bits
    }

    /// The size of a group descriptor in bytes.
    pub const fn desc_size(&self) -> usize {
        1 << self.desc_bits
    }

    /// How many blocks a cluster has; 1 without `bigalloc`.
    pub const fn cluster_ratio(&self) -> u32 {
        1 << self.cluster_bits
    }

    /// The logarithm to base two of the blocks in a cluster.
    pub const fn cluster_bits(&self) -> u32 {
        self.cluster_bits as u32
    }

    /// Whether bitmaps and inode tables may lie outside their group.
    pub const fn flex_bg(&self) -> bool {
        self.flex_bg
    }

    /// How many groups keep their bitmaps and inode tables together; 1 without `flex_bg`.
    pub const fn groups_per_flex(&self) -> u32 {
        1 << self.flex_bits
    }

    /// In which run of groups that keep their metadata together a group lies.
    pub const fn flex_group(&self, group: Group) -> u32 {
        group.get() >> self.flex_bits
    }

    /// Whether `count` blocks from `start` on, at least one, all lie in the filesystem.
    ///
    /// The boot block that lies before the first group of a filesystem with blocks of 1 KiB does not.
    pub const fn contains(&self, start: PhysicalBlock, count: BlockCount) -> bool {
        let start = start.get();
        let count = count.get();
        start >= self.first_data_block as u64
            && count != 0
            && start < self.blocks_count
            && count <= self.blocks_count - start
    }

    // ---- groups and blocks

    /// The first block of a group.
    pub const fn first_block(&self, group: Group) -> PhysicalBlock {
        // No overflow: both factors have 32 bits, and the product lies below 2^48 for a group
        // that exists.
        PhysicalBlock::new(
            group.get() as u64 * self.blocks_per_group.get() as u64 + self.first_data_block as u64,
        )
    }

    /// How many blocks a group has; 0 for one that does not exist.
    pub const fn blocks_in_group(&self, group: Group) -> u32 {
        let left = self
            .blocks_count
            .saturating_sub(self.first_block(group).get());
        if left < self.blocks_per_group() as u64 {
            left as u32
        } else {
            self.blocks_per_group()
        }
    }

    /// How many clusters a group has. The last one of the filesystem may lie in it only in part.
    pub const fn clusters_in_group(&self, group: Group) -> u32 {
        self.blocks_in_group(group).div_ceil(1 << self.cluster_bits)
    }

    /// The group that a block lies in, and its distance from that group's first block.
    ///
    /// `None` for a block outside the filesystem.
    pub fn group_of_block(&self, block: PhysicalBlock) -> Option<(Group, u32)> {
        if !self.contains(block, BlockCount::new(1)) {
            return None;
        }
        let block = block.get() - u64::from(self.first_data_block);
        let per_group = NonZeroU64::from(self.blocks_per_group);
        Some((
            Group::new((block / per_group) as u32),
            (block % per_group) as u32,
        ))
    }

    /// The group that a block lies in, and the number of its bit in that group's block bitmap.
    ///
    /// `None` for a block outside the filesystem.
    pub fn bit_of_block(&self, block: PhysicalBlock) -> Option<(Group, u32)> {
        let (group, offset) = self.group_of_block(block)?;
        Some((group, offset >> self.cluster_bits))
    }

    /// The first block of the cluster that a bit of a group's block bitmap stands for.
    pub const fn block_of_bit(&self, group: Group, bit: u32) -> PhysicalBlock {
        PhysicalBlock::new(self.first_block(group).get() + ((bit as u64) << self.cluster_bits))
    }

    /// The cluster that a block lies in; `None` for a block outside the filesystem.
    pub const fn cluster_of_block(&self, block: PhysicalBlock) -> Option<Cluster> {
        if !self.contains(block, BlockCount::new(1)) {
            return None;
        }
        Some(Cluster::new(
            (block.get() - self.first_data_block as u64) >> self.cluster_bits,
        ))
    }

    /// How many clusters hold `blocks` blocks that begin at the start of a cluster.
    pub const fn clusters_for(&self, blocks: u64) -> u64 {
        blocks.div_ceil(1 << self.cluster_bits)
    }

    // ---- inodes

    /// The group that an inode lies in, and its place in that group's table and bitmap.
    ///
    /// `None` for an inode that does not exist.
    pub fn locate_inode(&self, inode: InodeNumber) -> Option<(Group, u32)> {
        let index = inode.index();
        if index >= self.inodes_count() {
            return None;
        }
        Some((
            Group::new(index / self.inodes_per_group),
            index % self.inodes_per_group,
        ))
    }

    /// The number of the inode at a place in a group's table; `None` when there is none.
    pub const fn inode_at(&self, group: Group, index: u32) -> Option<InodeNumber> {
        if group.get() >= self.group_count || index >= self.inodes_per_group() {
            return None;
        }
        InodeNumber::from_index(group.get() * self.inodes_per_group() + index)
    }

    /// How many inodes a block of an inode table holds.
    pub const fn inodes_per_block(&self) -> u32 {
        1 << self.inodes_per_block_bits()
    }

    /// The length of an inode table in blocks.
    pub const fn inode_table_blocks(&self) -> u32 {
        self.inodes_per_group.get() >> self.inodes_per_block_bits()
    }

    const fn inodes_per_block_bits(&self) -> u32 {
        self.block_size.bits() - self.inode_bits as u32
    }

    /// Where the inode at a place in an inode table lies: in which block of the table, and at which
    /// byte of that block.
    pub const fn inode_offset(&self, index: u32) -> (u32, usize) {
        let in_block = index & (self.inodes_per_block() - 1);
        (
            index >> self.inodes_per_block_bits(),
            (in_block as usize) << self.inode_bits,
        )
    }

    // ---- superblocks and descriptors

    /// The block in which the primary superblock lies.
    pub const fn super_block(&self) -> PhysicalBlock {
        crate::superblock::Superblock::position(self.block_size).0
    }

    /// Whether a superblock, the primary one or a copy, lies in the first block of a group.
    pub const fn has_super(&self, group: Group) -> bool {
        let group = group.get();
        if group == 0 {
            return true;
        }
        match self.backups {
            Backups::All => true,
            Backups::Sparse => {
                group == 1
                    || is_power_of(group, 3)
                    || is_power_of(group, 5)
                    || is_power_of(group, 7)
            }
            Backups::Named(groups) => group == groups[0] || group == groups[1],
        }
    }

    /// How many descriptors a block holds.
    #[inline]
    pub const fn descs_per_block(&self) -> u32 {
        1 << self.descs_per_block_bits()
    }

    /// How many blocks the descriptors of all groups take.
    pub const fn desc_blocks(&self) -> u32 {
        // A group exists, and validation left room for rounding up.
        ((self.group_count - 1) >> self.descs_per_block_bits()) + 1
    }

    const fn descs_per_block_bits(&self) -> u32 {
        self.block_size.bits() - self.desc_bits as u32
    }

    /// The meta group of a group, which is also the number of its block of descriptors, and the
    /// group's place in it.
    const fn meta_group(&self, group: Group) -> (u32, u32) {
        (
            group.get() >> self.descs_per_block_bits(),
            group.get() & (self.descs_per_block() - 1),
        )
    }

    /// Where the descriptor of a group lies: in which block of descriptors, and at which byte of it.
    #[inline]
    pub const fn desc_offset(&self, group: Group) -> (u32, usize) {
        let (block, index) = self.meta_group(group);
        (block, (index as usize) << self.desc_bits)
    }

    /// Where the `index`th block of descriptors lies on disk, its primary copy.
    pub const fn desc_block(&self, index: u32) -> PhysicalBlock {
        let super_block = self.super_block().get();
        if index < self.first_meta_bg {
            return PhysicalBlock::new(super_block + 1 + index as u64);
        }
        // The first group of the meta group. No overflow for an index below `desc_blocks`: the
        // group exists.
        let group = Group::new(index * self.descs_per_block());
        let start = if index == 0 {
            super_block
        } else {
            self.first_block(group).get()
        };
        PhysicalBlock::new(start + self.has_super(group) as u64)
    }

    /// How many blocks of descriptors, primary or copies, lie at the start of a group.
    pub const fn desc_blocks_in_group(&self, group: Group) -> u32 {
        let (meta_group, index) = self.meta_group(group);
        if meta_group >= self.first_meta_bg {
            return (index == 0 || index == 1 || index == self.descs_per_block() - 1) as u32;
        }
        if !self.has_super(group) {
            return 0;
        }
        let all = self.desc_blocks();
        if self.first_meta_bg < all {
            self.first_meta_bg
        } else {
            all
        }
    }

    /// How many blocks at the start of a group hold the superblock, descriptors and blocks that are
    /// reserved for descriptors to come.
    ///
    /// In a filesystem with blocks of 1 KiB and larger clusters the boot block of group 0 is counted.
    pub const fn base_meta_blocks(&self, group: Group) -> u32 {
        let mut blocks = self.has_super(group) as u32 + self.desc_blocks_in_group(group);
        if self.has_super(group) && self.meta_group(group).0 < self.first_meta_bg {
            blocks += self.reserved_gdt_blocks as u32;
        }
        if group.get() == 0 {
            blocks += (self.super_block().get() - self.first_data_block as u64) as u32;
        }
        blocks
    }

    /// The blocks that hold the primary superblock and the descriptors right behind it.
    ///
    /// Nothing else may lie there.
    pub const fn primary_meta(&self) -> core::ops::Range<u64> {
        let start = self.super_block().get();
        start..start + 1 + self.desc_blocks_in_group(Group::ZERO) as u64
    }
}

/// Whether `number` is a power of `base`, at least `base` itself.
const fn is_power_of(number: u32, base: u32) -> bool {
    let mut power = base as u64;
    while power < number as u64 {
        power *= base as u64;
    }
    power == number as u64
}
