// SPDX-License-Identifier: GPL-2.0

//! Mapping the blocks of a hole.

use super::error::ExtentError;
use super::node::Node;
use super::splice::Change;
use super::splice::Few;
use super::store::bad;
use super::store::NodeStore;
use super::tree::Tree;
use super::Extent;

impl<S: NodeStore> Tree<'_, S> {
    /// Maps the blocks of `extent`, all of which must be in a hole.
    ///
    /// The extent is joined with its neighbours in the same leaf when it continues them. Nodes are
    /// touched and allocated up to [`Footprint::of_insert`](super::Footprint::of_insert).
    ///
    /// # Errors
    ///
    /// When it fails none of the blocks has been mapped, and they can be freed. So nothing that may fail
    /// is done after the change; to shrink a tree is left to the other operations.
    ///
    /// [`ExtentError::Mapped`] when a block is mapped already: the caller has looked before, so the tree
    /// must be corrupt. [`ExtentError::TooDeep`]; and what the store fails with.
    pub fn insert(&mut self, extent: Extent) -> Result<(), S::Error> {
        let start = extent.logical();
        let (path, bytes) = self.path(start.get())?;
        let leaf = Node::new(&bytes, 0).map_err(bad)?;
        let mut at = path.leaf().index;
        let before = match at.checked_sub(1) {
            Some(index) => leaf.extent(index).map_err(bad)?,
            None => None,
        };
        let after = leaf.extent(at).map_err(bad)?;
        let hole_end = match after {
            Some(after) => after.logical().get(),
            None => path.leaf().end,
        };
        if before.is_some_and(|before| before.end() > start) {
            return Err(bad(ExtentError::Mapped(start.get())));
        }
        if extent.end().get() > hole_end {
            return Err(bad(ExtentError::Mapped(hole_end)));
        }

        let mut joined = extent;
        let mut removed = 0;
        if let Some(with) = before.and_then(|before| before.joined(&joined)) {
            joined = with;
            at -= 1;
            removed += 1;
        }
        if let Some(with) = after.and_then(|after| joined.joined(&after)) {
            joined = with;
            removed += 1;
        }
        drop(bytes);
        let change = Change {
            at,
            removed,
            new: Few::new([Some(joined), None, None]),
        };
        self.splice(&path, &change)
    }
}
