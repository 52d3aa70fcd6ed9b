// SPDX-License-Identifier: GPL-2.0

//! The one way in which a tree changes.
//!
//! Every operation comes down to replacing some entries of one leaf by others. What follows from that
//! for the nodes above is done here: a node that overflows is split, a full root moves to a block of its
//! own, an emptied node goes, and a changed first key is changed in the nodes above as well.

use super::find::Path;
use super::node;
use super::node::Entry;
use super::node::ExtentError;
use super::node::IndexEntry;
use super::node::Node;
use super::store::bad;
use super::store::NodeMut;
use super::store::NodeStore;
use super::tree::Tree;
use super::Extent;
use super::MAX_DEPTH;
use crate::PhysicalBlock;

const LEVELS: usize = MAX_DEPTH as usize + 1;

/// A few extents in order: what becomes of an extent of which a part changes.
pub(super) struct Few {
    entries: [Entry; 3],
    len: usize,
}

impl Few {
    /// Takes those of the three that exist.
    pub(super) fn new(extents: [Option<Extent>; 3]) -> Self {
        let mut few = Self {
            entries: [Entry::EMPTY; 3],
            len: 0,
        };
        for (extent, entry) in extents.into_iter().flatten().zip(&mut few.entries) {
            *entry = extent.into();
            few.len += 1;
        }
        few
    }

    fn as_slice(&self) -> &[Entry] {
        &self.entries[..self.len]
    }
}

/// A change of a node: the `removed` entries at `at` are replaced by `new`.
pub(super) struct Change {
    pub(super) at: usize,
    pub(super) removed: usize,
    pub(super) new: Few,
}

type Nodes<'r, S> = [Option<NodeMut<'r, <S as NodeStore>::BlockMut>>; LEVELS];
type NewNodes<'r, S> = [Option<(PhysicalBlock, NodeMut<'r, <S as NodeStore>::BlockMut>)>; LEVELS];

impl<S: NodeStore> Tree<'_, S> {
    /// Changes the leaf at the end of `path`.
    ///
    /// The new entries must be in order with those around them.
    pub(super) fn splice(&mut self, path: &Path, change: &Change) -> Result<(), S::Error> {
        let leaf = path.leaf();
        let new = change.new.as_slice();
        let total = (leaf.entries + new.len()).saturating_sub(change.removed);
        if total == 0 && path.depth() > 0 {
            return self.unlink(path);
        }
        let same_key = change.at > 0 || new.first().is_some_and(|entry| entry.key() == leaf.first);
        // The highest level that changes, because its node is split or takes in a split one, or because
        // a key in it changes.
        let split_top = if total > leaf.max {
            Some(room_above(path))
        } else {
            None
        };
        let key_top = if same_key {
            path.depth()
        } else {
            key_top(path, path.depth())
        };
        self.edit(path, path.depth(), change, split_top, key_top)
    }

    /// Takes the leaf at the end of `path` out of the tree, and the nodes above that only led to it.
    fn unlink(&mut self, path: &Path) -> Result<(), S::Error> {
        let stays = (0..path.depth())
            .rev()
            .find(|&level| path.step(level).entries > 1);
        if let Some(level) = stays {
            let index = path.step(level).index;
            let change = Change {
                at: index,
                removed: 1,
                new: Few::new([None; 3]),
            };
            let key_top = if index > 0 {
                level
            } else {
                key_top(path, level)
            };
            self.edit(path, level, &change, None, key_top)?;
        } else {
            *self.root = node::empty_root();
            self.root_changed = true;
        }
        let first = stays.map_or(1, |level| level + 1);
        for level in first..=path.depth() {
            self.store.free(path.step(level).block)?;
        }
        Ok(())
    }

    /// Changes the node at `level` of the path, and in consequence those above it.
    ///
    /// `split_top` is the level of the lowest node that has room for one more entry, when the nodes from
    /// there down to `level` are to be split; its inner `None` stands for no such level: the root moves
    /// down. The keys change in the levels from `key_top` on.
    fn edit(
        &mut self,
        path: &Path,
        level: usize,
        change: &Change,
        split_top: Option<Option<usize>>,
        key_top: usize,
    ) -> Result<(), S::Error> {
        let grow = split_top == Some(None);
        // The nodes of the levels from here on are split.
        let first_split = match split_top {
            Some(room) => room.unwrap_or(0) + 1,
            None => level + 1,
        };
        let top = key_top.min(first_split - 1);
        if grow && path.depth() >= MAX_DEPTH.into() {
            return Err(bad(ExtentError::TooDeep));
        }

        // All that may fail comes first: no node has been changed yet. New nodes for the levels that are
        // split, and at the place of the root one into which it moves.
        let new_levels = first_split - usize::from(grow)..level + 1;
        let mut new: NewNodes<'_, S> = [const { None }; LEVELS];
        let checksum = self.store.checksum();
        for level in new_levels {
            let goal = match level {
                0 => self.goal,
                _ => path.step(level).block,
            };
            let allocated = self.store.allocate(goal).and_then(|(at, block)| {
                // A bitmap that calls a node free is corrupt. At least it is not made free again.
                let block = NodeMut::Block(block, checksum);
                if path.has(at) || new.iter().flatten().any(|(other, _)| *other == at) {
                    return Err(bad(ExtentError::Shared(at)));
                }
                new[level] = Some((at, block));
                Ok(())
            });
            if let Err(error) = allocated {
                give_back::<S>(self.store, &mut new);
                return Err(error);
            }
        }
        let mut nodes: Nodes<'_, S> = [const { None }; LEVELS];
        for level in top.max(1)..level + 1 {
            match self.store.modify(path.step(level).block) {
                Ok(block) => nodes[level] = Some(NodeMut::Block(block, checksum)),
                Err(error) => {
                    // The write access ends without a change, and so does the allocation.
                    nodes.fill_with(|| None);
                    give_back::<S>(self.store, &mut new);
                    return Err(error);
                }
            }
        }
        if top == 0 {
            self.root_changed = true;
        }

        // From here on only a node that is not as it was found on the way can stop us.
        let mut moved_to = None;
        let root_depth = path.depth() as u16;
        if grow {
            if let Some((at, mut block)) = new[0].take() {
                node::copy(Node::root(self.root).map_err(bad)?, &mut block).map_err(bad)?;
                nodes[0] = Some(block);
                moved_to = Some(at);
            }
        } else if top == 0 {
            nodes[0] = Some(NodeMut::Root(self.root));
        }
        let mut first = None;
        let mut pending = None;
        for current in (top..level + 1).rev() {
            let Some(node) = nodes[current].as_deref_mut() else {
                return Err(bad(ExtentError::Size));
            };
            let index = path.step(current).index;
            let (at, removed, entries) = match &pending {
                _ if current == level => (change.at, change.removed, change.new.as_slice()),
                Some(entry) => (index + 1, 0, core::slice::from_ref(entry)),
                None => (index, 0, [].as_slice()),
            };
            if let Some(key) = first {
                node::set_key(node, index, key).map_err(bad)?;
            }
            let mut right = if current >= first_split {
                new[current].take()
            } else {
                None
            };
            let right_bytes = right.as_mut().map(|(_, block)| {
                node::clear(block, (path.depth() - current) as u16);
                &mut **block
            });
            let done = node::splice(node, right_bytes, at, removed, entries).map_err(bad)?;
            first = done.first;
            pending = match (done.right, right) {
                (Some(key), Some((at, _))) => Some(Entry::from(IndexEntry::new(key, at))),
                _ => None,
            };
        }
        drop(nodes);
        if let Some(at) = moved_to {
            let entry = Entry::from(IndexEntry::new(first.unwrap_or(0), at));
            node::clear(self.root, root_depth + 1);
            node::splice(self.root, None, 0, 0, &[entry]).map_err(bad)?;
        }
        Ok(())
    }
}

/// Frees the blocks of new nodes of which no use is made.
///
/// The caller is about to return why. Should freeing fail as well then these blocks are lost to the free
/// space, which the store knows and its user hears of by that first error.
fn give_back<S: NodeStore>(store: &mut S, new: &mut NewNodes<'_, S>) {
    for (at, block) in new.iter_mut().filter_map(Option::take) {
        drop(block);
        let _ = store.free(at);
    }
}

/// The lowest level above the leaf with room for one more entry.
fn room_above(path: &Path) -> Option<usize> {
    (0..path.depth())
        .rev()
        .find(|&level| path.step(level).entries < path.step(level).max)
}

/// The highest level in which a key changes when the first key of the node at `level` does.
fn key_top(path: &Path, level: usize) -> usize {
    let mut top = level;
    while top > 0 {
        top -= 1;
        if path.step(top).index > 0 {
            break;
        }
    }
    top
}
