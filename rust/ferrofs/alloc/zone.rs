// SPDX-License-Identifier: GPL-2.0

//! The blocks that belong to no file of a user, see [`ext4::system_zone`].

use core::ops::Range;

use ext4::superblock::JournalLocation;
use ext4::system_zone;
use ext4::system_zone::BlockRange;
use ext4::BlockCount;
use ext4::PhysicalBlock;
use kernel::prelude::*;

use crate::error;
use crate::error::Place;
use crate::extent_status::Status;
use crate::inode;
use crate::map;
use crate::SuperBlock;

/// Whether `inode` is that of the journal, whose blocks are part of the zone.
pub(crate) fn is_journal(inode: &crate::Inode) -> bool {
    inode.sb().data().layout.journal == JournalLocation::Internal(inode::number(inode))
}

/// The zone of the metadata in `ranges` and of the journal.
///
/// # Errors
///
/// `EFSCORRUPTED` when the two overlap: then the log was written over metadata, or soon would be.
pub(super) fn with_journal(sb: &SuperBlock, ranges: KVVec<BlockRange>) -> Result<Zone> {
    let zone = Zone::new(ranges);
    let volume = sb.data();
    let JournalLocation::Internal(number) = volume.layout.journal else {
        return Ok(zone);
    };
    if !volume.journal.has_log() {
        return Ok(zone);
    }
    let journal = inode::get_journal(sb, number)?;
    let blocks = volume
        .layout
        .geometry
        .block_size()
        .blocks_for(journal.size());
    let end = u32::try_from(blocks.get()).unwrap_or(u32::MAX);
    let mut log = KVVec::new();
    let mut at = 0;
    while at < end {
        let run = map::lookup(&journal, at, end - at)?;
        if let Status::Written(start) = run.status {
            let count = u64::from(run.len());
            if zone.overlaps(start, count) {
                let place = Place::both(number, start);
                return Err(error::corrupt(sb, place, "the journal lies on metadata"));
            }
            // The map was verified: the run lies in the file system.
            log.push((start.get()..start.get() + count).into(), GFP_KERNEL)?;
        }
        at = run.end;
    }
    let Zone(mut ranges) = zone;
    ranges.extend_from_slice(&log, GFP_KERNEL)?;
    Ok(Zone::new(ranges))
}

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
