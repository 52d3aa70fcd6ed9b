// SPDX-License-Identifier: GPL-2.0

//! Shrinking a tree of which nodes have become small.
//!
//! It happens when an operation leaves fewer entries behind. Two neighbours are merged when the one node
//! still has a quarter free after that, so that a file whose extents come and go one by one does not
//! split and merge the same nodes all the time. A root with a single node below takes its entries in
//! when they fit, as `e2fsck` wants it.

use super::error::ExtentError;
use super::find::Path;
use super::find::Step;
use super::node;
use super::node::Node;
use super::store::bad;
use super::store::NodeMut;
use super::store::NodeReader;
use super::store::NodeRef;
use super::store::NodeStore;
use super::tree::Tree;
use super::MAX_DEPTH;

impl<S: NodeStore> Tree<'_, S> {
    /// Does [`Self::tidy`] if the leaf of a path, which has only `left` entries now, is nearly empty.
    ///
    /// To convert must be quick, so it does not look at the neighbours every time.
    ///
    /// `at` is a block that this leaf is the one for.
    pub(super) fn tidy_leaf(&mut self, path: &Path, left: usize, at: u32) -> Result<(), S::Error> {
        if path.depth() > 0 && left <= path.leaf().max / 4 {
            self.tidy(at)?;
        }
        Ok(())
    }

    /// Merges the nodes on the way to `at` with their neighbours, one each at most, and lowers the tree.
    pub(super) fn tidy(&mut self, at: u32) -> Result<(), S::Error> {
        let mut path = self.path(at)?.0;
        // From the top, since this is what makes nodes further down neighbours.
        for level in 1..=path.depth() {
            if self.merge(&path, level)? {
                path = self.path(at)?.0;
            }
        }
        self.lower()
    }

    /// Merges the node of a level with a neighbour below the same node if that is worth it.
    fn merge(&mut self, path: &Path, level: usize) -> Result<bool, S::Error> {
        let step = path.step(level);
        let above = path.step(level - 1);
        if above.entries < 2 || step.entries >= filled(step.max) {
            return Ok(false);
        }
        if above.index > 0 && self.merge_pair(path, level, above.index - 1)? {
            return Ok(true);
        }
        if above.index + 1 < above.entries && self.merge_pair(path, level, above.index)? {
            return Ok(true);
        }
        Ok(false)
    }

    /// Merges the node that is entry `left` of the level above with the one after it if they fit.
    fn merge_pair(&mut self, path: &Path, level: usize, left: usize) -> Result<bool, S::Error> {
        let above = path.step(level - 1);
        let below = (path.depth() - level) as u16;
        let (left_step, right_step) = {
            let bytes = self.node(path, level - 1)?;
            let node = Node::new(&bytes, below + 1).map_err(bad)?;
            let left_step = above.child(&node, left).map_err(bad)?;
            (left_step, above.child(&node, left + 1).map_err(bad)?)
        };
        // One of the two is the node of the path; of the other one nothing is known yet.
        if left_step.block == right_step.block {
            return Err(bad(ExtentError::Shared(left_step.block)));
        }
        let (last, room, left_end) = {
            let bytes = self.read(&left_step, below)?;
            let node = Node::new(&bytes, below).map_err(bad)?;
            let used = node.header.entries();
            let Some(last) = used.checked_sub(1) else {
                // The key of an empty leaf would have to change.
                return Ok(false);
            };
            let extent = match below {
                0 => node.extent(last).map_err(bad)?,
                _ => None,
            };
            (last, filled(node.header.max()).saturating_sub(used), extent)
        };
        let right = self.read(&right_step, below)?;
        let right_node = Node::new(&right, below).map_err(bad)?;
        if right_node.header.entries() > room {
            return Ok(false);
        }
        // Extents that continue each other across the border become one.
        let mut moved = right_node.raw();
        let mut joined = None;
        if let (Some(left_end), Some((_, rest))) = (left_end, moved.split_first()) {
            let right_start = right_node.extent(0).map_err(bad)?;
            joined = right_start.and_then(|right_start| left_end.joined(&right_start));
            if joined.is_some() {
                moved = rest;
            }
        }

        let checksum = self.store.checksum();
        let mut left_node =
            NodeMut::<'_, S::BlockMut>::Block(self.store.modify(left_step.block)?, checksum);
        let mut above_node = match level - 1 {
            0 => {
                self.root_changed = true;
                NodeMut::Root(self.root)
            }
            _ => NodeMut::Block(self.store.modify(above.block)?, checksum),
        };
        if let Some(joined) = joined {
            node::splice(&mut left_node, None, last, 1, &[joined.into()]).map_err(bad)?;
        }
        node::append(moved, &mut left_node).map_err(bad)?;
        node::splice(&mut above_node, None, left + 1, 1, &[]).map_err(bad)?;
        drop((left_node, above_node, right));
        self.store.free(right_step.block)?;
        Ok(true)
    }

    /// Takes the only node below the root into the root, as long as that is possible.
    fn lower(&mut self) -> Result<(), S::Error> {
        for _ in 0..MAX_DEPTH {
            let root = Node::root(self.root).map_err(bad)?;
            let Some(below) = root.header.depth().checked_sub(1) else {
                break;
            };
            if root.header.entries() != 1 {
                break;
            }
            let child = Step::ROOT.child(&root, 0).map_err(bad)?;
            let bytes = self.store.read(child.block, &child.expected(below))?;
            let node = Node::new(&bytes, below).map_err(bad)?;
            if node.header.entries() > node::ROOT_ENTRIES {
                break;
            }
            node::copy(node, self.root).map_err(bad)?;
            self.root_changed = true;
            drop(bytes);
            self.store.free(child.block)?;
        }
        Ok(())
    }

    /// Looks at the node of a level of a path once more.
    fn node(
        &self,
        path: &Path,
        level: usize,
    ) -> Result<NodeRef<'_, <S as NodeReader>::Block>, S::Error> {
        match level {
            0 => Ok(NodeRef::Root(self.root)),
            _ => {
                let below = (path.depth() - level) as u16;
                Ok(NodeRef::Block(self.read(path.step(level), below)?))
            }
        }
    }

    fn read(&self, step: &Step, below: u16) -> Result<<S as NodeReader>::Block, S::Error> {
        self.store.read(step.block, &step.expected(below))
    }
}

/// How many entries a merged node may have.
fn filled(max: usize) -> usize {
    max - max / 4
}
