// SPDX-License-Identifier: GPL-2.0

//! A tree that can be changed.

use super::error::ExtentError;
use super::find;
use super::find::Mapping;
use super::find::Path;
use super::node;
use super::store::NodeRef;
use super::store::NodeStore;
use super::ROOT_SIZE;
use crate::LogicalBlock;
use crate::PhysicalBlock;

/// How far an operation has got that may have to be continued in another transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "what is left has to be done in another transaction"]
pub enum Progress {
    /// All of it is done.
    Done,
    /// It ended early, for want of room in the transaction. [`Tree::convert`] has done all that is
    /// before this block and [`Tree::remove`] all that is from this block on; call it again with the
    /// range cut short in that way.
    Partial(LogicalBlock),
}

/// The extent tree of a file, to be changed in a running transaction.
///
/// The root is a copy of `i_block`. Whoever makes the `Tree` writes the inode to the disk in the same
/// transaction when [`Self::root_changed`], and does so *also when an operation has failed*.
///
/// # Failures
///
/// An operation gets all that can fail done before it changes the first node. So when allocating or
/// reading a node fails, the tree is as it was before that step (the operations that consist of several
/// steps, for a range of blocks, may have done some of them). Only what shrinks a tree and the freeing
/// of blocks come afterwards: when that fails, the tree is right, but blocks that were to be freed may be
/// lost to the free space.
pub struct Tree<'a, S> {
    pub(super) root: &'a mut [u8; ROOT_SIZE],
    pub(super) store: &'a mut S,
    pub(super) root_changed: bool,
    /// Where the first node block should be: the tree has none yet that others could be put beside.
    pub(super) goal: PhysicalBlock,
}

impl<'a, S: NodeStore> Tree<'a, S> {
    /// Takes the tree with this root. New node blocks are allocated near `goal` when the tree has no
    /// other nodes.
    pub fn new(root: &'a mut [u8; ROOT_SIZE], store: &'a mut S, goal: PhysicalBlock) -> Self {
        Self {
            root,
            store,
            root_changed: false,
            goal,
        }
    }

    /// Whether the root has been changed and the inode has to be written.
    pub fn root_changed(&self) -> bool {
        self.root_changed
    }

    /// How many levels are below the root.
    pub fn depth(&self) -> Result<u16, ExtentError> {
        node::depth(self.root)
    }

    /// Finds what a block is mapped to, see [`find`](super::find()).
    pub fn find(&self, at: LogicalBlock) -> Result<Mapping, S::Error> {
        find::find(self.root, self.store, at)
    }

    /// Goes to the leaf for a block.
    pub(super) fn path(&self, at: u32) -> Result<(Path, NodeRef<'_, S::Block>), S::Error> {
        Path::to(self.root, self.store, at)
    }
}
