// SPDX-License-Identifier: GPL-2.0

//! Unmapping blocks: truncate and hole punching.

use core::ops::Range;

use super::error::ExtentError;
use super::find::Path;
use super::node::Node;
use super::splice::Change;
use super::splice::Few;
use super::store::bad;
use super::store::Footprint;
use super::store::NodeStore;
use super::tree::Progress;
use super::tree::Tree;
use super::Extent;
use crate::LogicalBlock;

/// How many extents one step removes at most. They are remembered until the tree no longer has them.
const BATCH: usize = 16;

/// What one step of a removal is about to do: all in one leaf, from its end.
struct Batch {
    change: Change,
    /// The parts of extents that go, the last one first.
    parts: [Option<Extent>; BATCH],
    /// The first block of an extent that stays in the leaf, when the leaf has been gone through.
    stays: Option<LogicalBlock>,
    /// Whether the whole leaf goes.
    empties: bool,
    /// Where the parts begin.
    start: LogicalBlock,
}

impl<S: NodeStore> Tree<'_, S> {
    /// Unmaps the blocks in `range`, from the end of the range to its start.
    ///
    /// `freed` is called for each run of blocks that the tree no longer has, after the tree is right
    /// without it, with the store for the running transaction. When it fails, the blocks given to it and
    /// up to 15 more runs are neither in the tree nor free.
    ///
    /// It proceeds in steps, each in one leaf and within
    /// [`Footprint::of_remove`](super::Footprint::of_remove). It ends early when the
    /// [store](NodeStore::has_room) has no room for another step, but never before the first. Cutting
    /// a file at its end allocates nothing; a hole in the middle of an extent may split nodes.
    pub fn remove(
        &mut self,
        range: Range<LogicalBlock>,
        mut freed: impl FnMut(&mut S, Extent) -> Result<(), S::Error>,
    ) -> Result<Progress, S::Error> {
        let mut end = range.end;
        let mut limit = BATCH;
        let mut first_step = true;
        let mut untidy = false;
        while end > range.start {
            // The block before the end, which is not 0.
            let (path, bytes) = self.path(end.get() - 1)?;
            let leaf = Node::new(&bytes, 0).map_err(bad)?;
            let footprint = Footprint::of_remove(path.depth() as u16);
            let Some(batch) = Batch::new(&path, &leaf, range.start, end, limit)? else {
                // All that is left begins after the range, or ends before it.
                break;
            };
            drop(bytes);
            let count = batch.parts.iter().flatten().count();
            if !self.store.has_room(footprint, count) {
                if count > 1 {
                    limit = 1;
                    continue;
                }
                if !first_step {
                    return Ok(Progress::Partial(end));
                }
            }
            limit = BATCH;
            first_step = false;
            self.splice(&path, &batch.change)?;
            for part in batch.parts.into_iter().flatten() {
                freed(self.store, part)?;
            }
            untidy = batch.empties;
            if let Some(stays) = batch.stays {
                self.tidy(stays.get())?;
            }
            end = batch.start;
        }
        if untidy {
            self.tidy(range.start.get())?;
        }
        Ok(Progress::Done)
    }
}

impl Batch {
    /// Collects up to `limit` extents with blocks in `start..end` from the end of a leaf, which is the
    /// one for the last block of that range. `None` when there are none, except that a leaf which is empty
    /// already goes.
    fn new<E: From<crate::Corrupt>>(
        path: &Path,
        leaf: &Node<'_>,
        start: LogicalBlock,
        end: LogicalBlock,
        limit: usize,
    ) -> Result<Option<Self>, E> {
        let mut parts = [None; BATCH];
        let mut at = path.leaf().index;
        let behind = at;
        let mut head = None;
        let mut tail = None;
        let mut batch_start = end;
        for slot in parts.iter_mut().take(limit) {
            let Some(extent) = previous(leaf, at)? else {
                break;
            };
            if extent.end() <= start {
                break;
            }
            if at == behind {
                tail = extent.part(end, extent.end());
            }
            let part = extent
                .part(start, batch_start)
                .ok_or(bad(ExtentError::Order {
                    logical: extent.logical().get(),
                }))?;
            head = extent.part(extent.logical(), start);
            batch_start = part.logical();
            *slot = Some(part);
            at -= 1;
        }
        if at == behind && (path.leaf().entries > 0 || path.depth() == 0) {
            return Ok(None);
        }
        let new = [head, tail, None];
        let before = previous::<E>(leaf, at)?;
        let after = leaf.extent(behind).map_err(bad::<E>)?;
        let gone_through = before.is_none_or(|before| before.end() <= start);
        let stays = [tail, after, head, before]
            .into_iter()
            .flatten()
            .next()
            .map(|extent| extent.logical());
        Ok(Some(Self {
            change: Change {
                at,
                removed: behind - at,
                new: Few::new(new),
            },
            parts,
            stays: stays.filter(|_| gone_through && !(head.is_some() && tail.is_some())),
            empties: stays.is_none(),
            start: batch_start,
        }))
    }
}

/// The extent before the one at `index`.
fn previous<E: From<crate::Corrupt>>(leaf: &Node<'_>, index: usize) -> Result<Option<Extent>, E> {
    match index.checked_sub(1) {
        Some(index) => leaf.extent(index).map_err(bad),
        None => Ok(None),
    }
}
