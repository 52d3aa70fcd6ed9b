// SPDX-License-Identifier: GPL-2.0

//! The blocks that belong to no file, see [`ext4::system_zone`].

use core::ops::Range;

use ext4::system_zone;
use ext4::system_zone::BlockRange;
use ext4::BlockCount;
use ext4::PhysicalBlock;
use kernel::prelude::*;

/// Disjoint ranges of blocks, in order.
pub(super) struct Zone(KVVec<BlockRange>);

impl Zone {
    /// Sorts ranges that were gathered.
    pub(super) fn new(mut ranges: KVVec<BlockRange>) -> Self {
        let count = system_zone::merge(&mut ranges);
        ranges.truncate(count);
        Self(ranges)
    }

    /// Whether one of `count` blocks from `start` on is in the zone.
    pub(super) fn overlaps(&self, start: PhysicalBlock, count: u64) -> bool {
        system_zone::find_overlap(&self.0, start, BlockCount::new(count)).is_some()
    }

    /// The parts of the zone in `range`.
    pub(super) fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = range.start;
        core::iter::from_fn(move || {
            let count = BlockCount::new(range.end.checked_sub(at)?);
            let found = system_zone::find_overlap(&self.0, PhysicalBlock::new(at), count)?;
            let part = found.start.max(at)..found.end.min(range.end);
            at = part.end;
            Some(part)
        })
    }
}
