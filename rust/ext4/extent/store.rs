// SPDX-License-Identifier: GPL-2.0

//! How the algorithms reach node blocks.

use core::ops::Deref;
use core::ops::DerefMut;

use super::error::ExtentError;
use super::node;
use super::Expected;
use super::ROOT_SIZE;
use crate::Checksummer;
use crate::Corrupt;
use crate::PhysicalBlock;

/// What reads the node blocks of one file.
pub trait NodeReader {
    /// Why a node cannot be had.
    type Error: From<Corrupt>;

    /// A node block, held as long as it is looked at.
    ///
    /// At most two are held at a time, and none while one for the same block is held for writing.
    type Block: Deref<Target = [u8]>;

    /// Reads a node block.
    ///
    /// Unless this block has been verified since it came from the disk, `expected` must be asked to
    /// [verify](Expected::verify) it. A wrong answer here cannot make this crate panic or loop, but may
    /// make it return any block numbers.
    fn read(&self, at: PhysicalBlock, expected: &Expected) -> Result<Self::Block, Self::Error>;
}

/// What changes the node blocks of one file, in a running transaction.
pub trait NodeStore: NodeReader {
    /// A node block that may be changed. When it is dropped it belongs to the transaction.
    ///
    /// Up to `2 * MAX_DEPTH + 1` are held at a time, each for another block.
    type BlockMut: DerefMut<Target = [u8]>;

    /// The checksum of the inode, see [`Checksummer::for_inode`]; `None` without `metadata_csum`.
    ///
    /// The nodes that were changed get their checksum before they are dropped.
    fn checksum(&self) -> Option<Checksummer>;

    /// Gives write access to a node block that has been read.
    fn modify(&mut self, at: PhysicalBlock) -> Result<Self::BlockMut, Self::Error>;

    /// Allocates a block for a new node, near `goal`, and accounts it to the inode.
    ///
    /// The content of the block does not matter: all of it is written.
    fn allocate(
        &mut self,
        goal: PhysicalBlock,
    ) -> Result<(PhysicalBlock, Self::BlockMut), Self::Error>;

    /// Frees the block of a node that is no longer in the tree (the journal must revoke it), and takes
    /// it off the account of the inode.
    fn free(&mut self, at: PhysicalBlock) -> Result<(), Self::Error>;

    /// Whether the running transaction has room for a step that touches the tree like `nodes`, and frees
    /// `extents` extents of data beside.
    ///
    /// The implementor may try to extend the transaction, but not go on in another one: the root has not
    /// been written yet. Operations that consist of several steps ask before the steps, and end early
    /// when they are told no, though not before the first step.
    fn has_room(&mut self, nodes: Footprint, extents: usize) -> bool;
}

/// How many node blocks an operation touches at most, besides the inode with the root.
///
/// An operation that fails may in addition free what it has allocated, for which the same bitmaps and
/// descriptors change that have changed already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footprint {
    /// Blocks of existing nodes that are changed.
    pub modified: u16,
    /// Node blocks that are allocated.
    pub allocated: u16,
    /// Node blocks that are freed.
    pub freed: u16,
}

impl Footprint {
    /// For [`Tree::insert`](super::Tree::insert) into a tree of the given depth.
    ///
    /// It changes one node in each level at most, or splits all of them and moves the root.
    pub const fn of_insert(depth: u16) -> Self {
        Self {
            modified: depth,
            allocated: depth + 1,
            freed: 0,
        }
    }

    /// For one step of [`Tree::convert`](super::Tree::convert), the change of one extent.
    ///
    /// Either it is like an insertion, or the tree shrinks: in each level two nodes are merged into the
    /// left one, and what is left moves into the root.
    pub const fn of_convert(depth: u16) -> Self {
        Self {
            modified: 2 * depth,
            allocated: depth + 1,
            freed: 2 * depth,
        }
    }

    /// For one step of [`Tree::remove`](super::Tree::remove), the removal of some extents of one leaf.
    ///
    /// Besides what shrinks a tree, a node of each level may go.
    pub const fn of_remove(depth: u16) -> Self {
        Self {
            modified: 3 * depth,
            allocated: depth + 1,
            freed: 3 * depth,
        }
    }
}

/// A node to be looked at: in the inode or in a block.
pub(super) enum NodeRef<'r, B> {
    Root(&'r [u8; ROOT_SIZE]),
    Block(B),
}

impl<B: Deref<Target = [u8]>> Deref for NodeRef<'_, B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Root(root) => *root,
            Self::Block(block) => block,
        }
    }
}

/// A node to be changed: in the inode or in a block. A block gets its checksum when it is dropped.
pub(super) enum NodeMut<'r, B: DerefMut<Target = [u8]>> {
    Root(&'r mut [u8; ROOT_SIZE]),
    Block(B, Option<Checksummer>),
}

impl<B: DerefMut<Target = [u8]>> Deref for NodeMut<'_, B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Root(root) => *root,
            Self::Block(block, _) => block,
        }
    }
}

impl<B: DerefMut<Target = [u8]>> DerefMut for NodeMut<'_, B> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Root(root) => *root,
            Self::Block(block, _) => block,
        }
    }
}

impl<B: DerefMut<Target = [u8]>> Drop for NodeMut<'_, B> {
    fn drop(&mut self) {
        if let Self::Block(block, Some(checksum)) = self {
            node::seal(block, *checksum);
        }
    }
}

/// An error of the store from an error of a node.
pub(super) fn bad<E: From<Corrupt>>(bad: ExtentError) -> E {
    E::from(Corrupt::from(bad))
}
