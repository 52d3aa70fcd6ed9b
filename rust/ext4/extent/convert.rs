// SPDX-License-Identifier: GPL-2.0

//! Changing whether blocks have been written.

use core::ops::Range;

use super::error::ExtentError;
use super::node::Node;
use super::splice::Change;
use super::splice::Few;
use super::store::bad;
use super::store::Footprint;
use super::store::NodeStore;
use super::tree::Progress;
use super::tree::Tree;
use super::State;
use crate::LogicalBlock;

/// What one step of a conversion has done.
enum Step {
    /// The blocks before this one are done, and nothing had to be changed.
    Skipped(LogicalBlock),
    /// The blocks before this one are done, the last ones by a change of the tree.
    Changed(LogicalBlock),
}

impl<S: NodeStore> Tree<'_, S> {
    /// Gives all mapped blocks in `range` the state `to`. Holes stay holes.
    ///
    /// An extent that is only in part in the range is split, and the converted part is joined with its
    /// neighbours in the same leaf when it continues them. A conversion that needs no more entries than
    /// there were changes just the one leaf.
    ///
    /// One extent is converted at a time, each within
    /// [`Footprint::of_convert`](super::Footprint::of_convert). It ends early when the
    /// [store](NodeStore::has_room) has no room for another one, but never before the first.
    pub fn convert(&mut self, range: Range<LogicalBlock>, to: State) -> Result<Progress, S::Error> {
        let mut at = range.start;
        let mut changed = false;
        while at < range.end {
            if changed {
                let footprint = Footprint::of_convert(self.depth().map_err(bad)?);
                if !self.store.has_room(footprint, 0) {
                    return Ok(Progress::Partial(at));
                }
                changed = false;
            }
            match self.convert_next(at, range.end, to)? {
                Step::Skipped(next) => at = next,
                Step::Changed(next) => {
                    at = next;
                    changed = true;
                }
            }
        }
        Ok(Progress::Done)
    }

    /// Converts the first extent with blocks in `at..end`, or as much of it as can be one extent.
    fn convert_next(
        &mut self,
        at: LogicalBlock,
        end: LogicalBlock,
        to: State,
    ) -> Result<Step, S::Error> {
        let (path, bytes) = self.path(at.get())?;
        let leaf = Node::new(&bytes, 0).map_err(bad)?;
        let mut index = path.leaf().index;
        let mut found = leaf.extent(index).map_err(bad)?;
        if let Some(before) = index.checked_sub(1) {
            if let Some(extent) = leaf.extent(before).map_err(bad)? {
                if extent.end() > at {
                    index = before;
                    found = Some(extent);
                }
            }
        }
        let Some(extent) = found else {
            return Ok(Step::Skipped(LogicalBlock::new(path.leaf().end)));
        };
        let Some(part) = extent.part(at, end) else {
            // It begins after the range.
            return Ok(Step::Skipped(end));
        };
        if extent.state() == to {
            return Ok(Step::Skipped(part.end()));
        }
        // An extent can have one block less when it is unwritten.
        let limit = part.len().min(to.max_len()).into();
        let converted = part
            .logical()
            .checked_add(limit)
            .and_then(|limit| part.part(part.logical(), limit))
            .and_then(|part| part.with_state(to));
        let Some(mut middle) = converted else {
            return Err(bad(ExtentError::Extent {
                logical: part.logical().get(),
                len: part.len(),
            }));
        };
        let done = middle.end();
        let head = extent.part(extent.logical(), middle.logical());
        let tail = extent.part(done, extent.end());
        let mut removed = 1;
        if head.is_none() {
            if let Some(index_before) = index.checked_sub(1) {
                let before = leaf.extent(index_before).map_err(bad)?;
                if let Some(joined) = before.and_then(|before| before.joined(&middle)) {
                    middle = joined;
                    index = index_before;
                    removed += 1;
                }
            }
        }
        if tail.is_none() {
            let after = leaf.extent(index + removed).map_err(bad)?;
            if let Some(joined) = after.and_then(|after| middle.joined(&after)) {
                middle = joined;
                removed += 1;
            }
        }
        drop(bytes);
        let new = [head, Some(middle), tail];
        let added = new.iter().flatten().count();
        let change = Change {
            at: index,
            removed,
            new: Few::new(new),
        };
        self.splice(&path, &change)?;
        if added < removed {
            let left = (path.leaf().entries + added).saturating_sub(removed);
            self.tidy_leaf(&path, left, at.get())?;
        }
        Ok(Step::Changed(done))
    }
}
