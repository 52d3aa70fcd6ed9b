// SPDX-License-Identifier: GPL-2.0

//! Allocating and freeing blocks.

use core::ops::Range;

use ext4::free_space::Criterion;
use ext4::free_space::GroupSearch;
use ext4::free_space::GroupSpace;
use ext4::free_space::Request as Want;
use ext4::BlockCount;
use ext4::Group;
use ext4::PhysicalBlock;
use kernel::error::code::ENOSPC;
use kernel::prelude::*;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use super::bitmap::Change;
use super::bitmap::Which;
use super::freed::Freed;
use super::groups;
use super::summary::Summary;
use super::Core;
use crate::error;
use crate::error::Place;
use crate::SuperBlock;

/// What one call of [`allocate`] may change: a bitmap and a descriptor.
pub(crate) const ALLOCATE_CREDITS: Credits = Credits::blocks(2);

/// What is known of a group that does not exist.
const NO_SPACE: GroupSpace = GroupSpace {
    free: 0,
    largest_order: None,
};

/// Who answers for the space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    /// The caller has reserved it before; what is allocated comes off that.
    Reserved,
    /// Taken now, as far as the current task may; `ENOSPC` if there is none.
    Now,
    /// As `Now`, down to the last block: for what must not fail.
    Pool,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// The best place to begin.
    pub(crate) goal: PhysicalBlock,
    /// What is at the goal continues something: any run there is better than a longer one elsewhere.
    pub(crate) adjacent: bool,
    /// How many blocks, at least one. Fewer may be given.
    pub(crate) count: u32,
    /// Who answers for the space.
    pub(crate) claim: Claim,
}

/// Blocks of the disk in a row, all in one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Blocks {
    /// The first one.
    pub(crate) start: PhysicalBlock,
    /// How many. At least one.
    pub(crate) count: u32,
}

/// Allocates a run of blocks, at or near the goal and as long as wanted if there is one.
///
/// Takes [`ALLOCATE_CREDITS`]. `ENOSPC` when there is none that the caller may have; see
/// [`release_pending`](super::Allocator::release_pending).
pub(crate) fn allocate(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    request: &Request,
) -> Result<Blocks> {
    let core = &*sb.data().alloc.0;
    let mut count = request.count.max(1);
    if request.claim != Claim::Reserved {
        count = claim(sb, core, request.claim, count)?;
    }
    let found = search(txn, sb, core, request, count);
    let got = found.as_ref().map_or(0, |blocks| blocks.count);
    if request.claim != Claim::Reserved {
        core.space.give_back(count - got);
    }
    core.space.used(got);
    found
}

/// Takes up to `count` blocks out of those available: all of them, or else one.
fn claim(sb: &SuperBlock, core: &Core, claim: Claim, count: u32) -> Result<u32> {
    let take = |count| match claim {
        Claim::Pool => core.space.reserve_from_pool(count),
        _ => core.space.reserve(count, super::is_privileged(sb)),
    };
    match take(count) {
        Err(error) if error == ENOSPC && count > 1 => take(1).map(|()| 1),
        result => result.map(|()| count),
    }
}

/// Looks for a run: in the goal's group, then in the groups behind it around the disk, content with
/// less in each round.
fn search(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    core: &Core,
    request: &Request,
    count: u32,
) -> Result<Blocks> {
    let geometry = &sb.data().layout.geometry;
    let wanted = count.min(geometry.clusters_per_group());
    let (first, goal) = geometry
        .bit_of_block(request.goal)
        .unwrap_or((Group::ZERO, 0));
    let mut search = GroupSearch::new(first, geometry.group_count(), wanted);
    let space = |group| core.group(group).map_or(NO_SPACE, groups::Group::space);
    while let Some((number, criterion)) = search.next(space) {
        let want = Want {
            goal: if number == first { goal } else { 0 },
            continues: request.adjacent && criterion == Criterion::Goal,
            wanted,
            least: match criterion {
                Criterion::Goal | Criterion::Whole => wanted,
                Criterion::Part => wanted.div_ceil(4),
                Criterion::Any => 1,
            },
        };
        if let Some(range) = allocate_in(txn, sb, core, core.group(number)?, want)? {
            return Ok(Blocks {
                start: geometry.block_of_bit(number, range.start),
                count: range.end - range.start,
            });
        }
    }
    Err(ENOSPC)
}

/// Allocates in one group; `None` when it has nothing suitable or is damaged.
fn allocate_in(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    core: &Core,
    group: &groups::Group,
    want: Want,
) -> Result<Option<Range<u32>>> {
    let mut state = group.lock();
    if state.bad_blocks {
        return Ok(None);
    }
    let summary = match group.summary(sb, core, &mut state) {
        Ok(summary) => summary,
        Err(error) if error == ENOMEM => return Err(error),
        // Reported, and the group given up: there are others.
        Err(_) => return Ok(None),
    };
    let Some(range) = choose(summary, want) else {
        return Ok(None);
    };
    let count = range.end - range.start;
    let change = Change::begin(txn, sb, group.number, Which::Blocks)?;
    let marked = change.mark(range.clone(), true, |descriptor| {
        descriptor.clusters_allocated(count)
    });
    if marked.is_err() {
        group.forget_blocks(&core.space, &mut state);
        drop(state);
        return super::next_group(txn, ALLOCATE_CREDITS);
    }
    summary.mark_used(range.clone()).map_err(|_| EINVAL)?;
    group.update_hints(summary);
    Ok(Some(range))
}

fn choose(summary: &Summary, mut want: Want) -> Option<Range<u32>> {
    if want.continues && summary.is_free(want.goal) {
        // What continues an extent is welcome, however short.
        want.least = 1;
    }
    summary.find(&want)
}

/// Takes back what [`allocate`] gave with `claim` and what could not be used after all.
pub(crate) fn return_unused(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    blocks: &Blocks,
    claim: Claim,
) -> Result {
    free(txn, sb, blocks.start, blocks.count.into())?;
    if claim == Claim::Reserved {
        // They are reserved again: freeing makes others available in their place.
        sb.data().alloc.0.space.lost(blocks.count);
    }
    Ok(())
}

/// What [`free`] of up to `count` blocks in a row may change: the bitmap of each group that they can lie in,
/// and the blocks of descriptors, which many groups in a row share.
pub(crate) fn free_credits(sb: &SuperBlock, count: u32) -> Credits {
    let geometry = &sb.data().layout.geometry;
    // The first and the last group need not lie in the run as a whole.
    let groups = |per_group: u32| match count.checked_sub(2) {
        Some(inner) => inner.checked_div(per_group).unwrap_or(inner) + 2,
        None => count,
    };
    let bitmaps = groups(geometry.blocks_per_group());
    let descriptors = match bitmaps.checked_sub(2) {
        Some(inner) => inner / geometry.descs_per_block().max(1) + 2,
        None => bitmaps,
    };
    Credits::blocks(bitmaps.saturating_add(descriptors))
}

/// Frees a run of blocks, which may lie in several groups. They are available after the commit of the
/// transaction.
///
/// Takes [`free_credits`]. Blocks that are free already, outside of the file system or part of its fixed
/// metadata are damage, which is reported.
pub(crate) fn free(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    start: PhysicalBlock,
    count: u64,
) -> Result {
    let volume = sb.data();
    let geometry = &volume.layout.geometry;
    let core = &*volume.alloc.0;
    if !geometry.contains(start, BlockCount::new(count))
        || volume.alloc.is_system_zone(start, count)
    {
        return Err(error::corrupt(
            sb,
            Place::block(start),
            format_args!("{count} blocks are to be freed that no file can own"),
        ));
    }
    let end = start.get() + count;
    let mut at = start;
    while at.get() < end {
        let (number, bit) = geometry.bit_of_block(at).ok_or(EINVAL)?;
        let left = u64::from(geometry.clusters_in_group(number) - bit).min(end - at.get());
        // No overflow: it is less than the size of a group.
        free_in(txn, sb, core, number, bit..bit + left as u32)?;
        at = PhysicalBlock::new(at.get() + left);
    }
    Ok(())
}

fn free_in(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    core: &Core,
    number: Group,
    bits: Range<u32>,
) -> Result {
    let geometry = &sb.data().layout.geometry;
    let group = core.group(number)?;
    let count = bits.end - bits.start;
    core.prepare_to_free();
    let mut state = group.lock();
    if state.bad_blocks {
        // Nothing is known of this group for sure; e2fsck will find out.
        return Ok(());
    }
    let change = Change::begin(txn, sb, number, Which::Blocks)?;
    let marked = change.mark(bits.clone(), false, |descriptor| {
        descriptor.clusters_freed(count, geometry, number)
    });
    if let Err(error) = marked {
        group.forget_blocks(&core.space, &mut state);
        return Err(error);
    }
    let run = Freed::new(txn.tid(), geometry, number, bits);
    core.space.freed(count);
    if txn.is_logged() {
        core.remember(run);
    } else {
        core.discard_run(&run);
        group.make_free(&core.space, core.id(), &mut state, &run);
    }
    Ok(())
}
