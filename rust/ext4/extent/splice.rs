// SPDX-License-Identifier: GPL-2.0

//! The one way in which a tree changes.
//!
//! Every operation comes down to replacing some entries of one leaf by others. What follows from that
//! for the nodes above is done here: a node that overflows is split, a full root moves to a block of its
//! own, an emptied node goes, and a changed first key is changed in the nodes above as well.

use core::ops::Range;

use super::error::ExtentError;
use super::find::Path;
use super::node;
use super::node::Entry;
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

/// How far a change of a node goes.
#[derive(Clone, Copy)]
struct Reach {
    /// The level of that node. All others that change are above it.
    level: usize,
    /// The nodes from this level on are split.
    first_split: usize,
    /// Whether the root has no room either, and moves into a block of its own.
    grows: bool,
    /// The highest level that changes: its node is split, or takes in a split one, or has a changed key.
    top: usize,
}

impl Reach {
    fn new(path: &Path, level: usize, splits: bool, changes_key: bool) -> Self {
        let (first_split, grows) = match room_above(path) {
            _ if !splits => (level + 1, false),
            Some(room) => (room + 1, false),
            None => (1, true),
        };
        let key_top = if changes_key {
            key_top(path, level)
        } else {
            level
        };
        Self {
            level,
            first_split,
            grows,
            top: key_top.min(first_split - 1),
        }
    }

    /// The levels in which a node is changed.
    fn changed(&self) -> Range<usize> {
        self.top..self.level + 1
    }

    /// The levels that get a new node: to the right of one that is split, or in place of the root.
    fn new_nodes(&self) -> Range<usize> {
        self.first_split - usize::from(self.grows)..self.level + 1
    }
}

/// The nodes of a path that may be changed, by their levels.
type Nodes<'r, S> = [Option<NodeMut<'r, <S as NodeStore>::BlockMut>>; LEVELS];
/// New nodes and where they are, by their levels.
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
        let reach = Reach::new(path, path.depth(), total > leaf.max, !same_key);
        self.edit(path, reach, change)
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
            self.edit(path, Reach::new(path, level, false, index == 0), &change)?;
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

    /// Changes a node of the path, and in consequence those above it.
    ///
    /// All that may fail comes first, when no node has been changed yet.
    fn edit(&mut self, path: &Path, reach: Reach, change: &Change) -> Result<(), S::Error> {
        if reach.grows && path.depth() >= MAX_DEPTH.into() {
            return Err(bad(ExtentError::TooDeep));
        }
        let mut new = self.allocate(path, reach)?;
        match self.modify(path, reach) {
            Ok(nodes) => self.apply(path, reach, change, nodes, new).map_err(bad),
            Err(error) => {
                give_back::<S>(self.store, &mut new);
                Err(error)
            }
        }
    }

    /// Allocates the new nodes, each near the one that is split.
    fn allocate<'r>(&mut self, path: &Path, reach: Reach) -> Result<NewNodes<'r, S>, S::Error> {
        let checksum = self.store.checksum();
        let mut new: NewNodes<'r, S> = [const { None }; LEVELS];
        for level in reach.new_nodes() {
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
        Ok(new)
    }

    /// Gets write access to the nodes that change, but for the root.
    fn modify<'r>(&mut self, path: &Path, reach: Reach) -> Result<Nodes<'r, S>, S::Error> {
        let checksum = self.store.checksum();
        let mut nodes: Nodes<'r, S> = [const { None }; LEVELS];
        for level in reach.changed().filter(|&level| level > 0) {
            let block = self.store.modify(path.step(level).block)?;
            nodes[level] = Some(NodeMut::Block(block, checksum));
        }
        Ok(nodes)
    }

    /// Does the change, from its node up. It only fails if a node is not as it was found on the way.
    fn apply<'r>(
        &'r mut self,
        path: &Path,
        reach: Reach,
        change: &Change,
        mut nodes: Nodes<'r, S>,
        mut new: NewNodes<'r, S>,
    ) -> Result<(), ExtentError> {
        self.root_changed |= reach.top == 0;
        let mut new_root = None;
        if reach.grows {
            // What would change the root changes the node into which it moves.
            if let Some((at, mut block)) = new[0].take() {
                node::copy(Node::root(self.root)?, &mut block)?;
                nodes[0] = Some(block);
                new_root = Some((&mut *self.root, at));
            }
        } else if reach.top == 0 {
            nodes[0] = Some(NodeMut::Root(self.root));
        }

        let mut first = None;
        let mut pending = None;
        for level in reach.changed().rev() {
            let node = nodes[level].as_deref_mut().ok_or(ExtentError::Size)?;
            let index = path.step(level).index;
            if let Some(key) = first {
                node::set_key(node, index, key)?;
            }
            let (at, removed, entries) = match &pending {
                _ if level == reach.level => (change.at, change.removed, change.new.as_slice()),
                Some(entry) => (index + 1, 0, core::slice::from_ref(entry)),
                None => (index, 0, [].as_slice()),
            };
            let mut right = if level >= reach.first_split {
                new[level].take()
            } else {
                None
            };
            let right_bytes = right.as_mut().map(|(_, block)| {
                node::clear(block, (path.depth() - level) as u16);
                &mut **block
            });
            let done = node::splice(node, right_bytes, at, removed, entries)?;
            first = done.first;
            pending = match (done.right, right) {
                (Some(key), Some((at, _))) => Some(Entry::from(IndexEntry::new(key, at))),
                _ => None,
            };
        }

        if let Some((root, at)) = new_root {
            let entry = Entry::from(IndexEntry::new(first.unwrap_or(0), at));
            node::clear(root, path.depth() as u16 + 1);
            node::splice(root, None, 0, 0, &[entry])?;
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
