// SPDX-License-Identifier: GPL-2.0

//! Mapping blocks, and making mapped blocks written.

use ext4::extent;
use ext4::extent::Extent;
use ext4::extent::Footprint;
use ext4::extent::Mapping;
use ext4::extent::Progress;
use ext4::extent::State;
use ext4::inode_policy;
use ext4::Group;
use ext4::LogicalBlock;
use ext4::PhysicalBlock;
use kernel::error::code::ENOSPC;
use kernel::prelude::*;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use super::nodes;
use super::nodes::Failure;
use super::nodes::Store;
use super::range;
use super::run_of;
use super::wait_for_space;
use super::Locked;
use super::COMMITS_FOR_SPACE;
use crate::alloc::blocks;
use crate::alloc::blocks::Blocks;
use crate::alloc::blocks::Claim;
use crate::alloc::blocks::Request;
use crate::extent_status::Run;
use crate::extent_status::Spare;
use crate::extent_status::Status;
use crate::inode;
use crate::state;
use crate::Inode;

/// How many extents one call of [`allocate`] makes at most, if there is room in the transaction.
const EXTENTS_AT_ONCE: u32 = 16;

/// How many blocks, for a file of which more are delayed in a row.
const BLOCKS_AT_ONCE: u32 = 64 << 10;

/// What mapping one extent in a tree of this depth may change.
fn insert_credits(depth: u16) -> Credits {
    nodes::credits(Footprint::of_insert(depth)) + blocks::ALLOCATE_CREDITS
}

/// The depth of the tree. It may grow before the map is locked, by a level at most in practice; so one
/// more is allowed for.
pub(super) fn depth(inode: &Inode) -> u16 {
    let root = inode.data().map.root();
    let depth = extent::depth(&root).unwrap_or(extent::MAX_DEPTH);
    (depth + 1).min(extent::MAX_DEPTH)
}

/// What [`create`] may change.
pub(crate) fn create_credits(inode: &Inode) -> Credits {
    insert_credits(depth(inode))
}

/// Allocates the delayed blocks around `block`, all that are in a row with it, as unwritten extents, in
/// one transaction. Blocks in a hole are allocated as well, up to `count` of them from `block` on.
/// Returns the run that `block` is in, cut to begin there.
///
/// When it is allocated already, nothing happens. `ENOSPC` only for blocks for which no space was
/// reserved. Sleeps, not within a transaction.
pub(crate) fn allocate(inode: &Inode, block: impl Into<u32>, count: u32) -> Result<Run> {
    let block = block.into();
    let wanted = range(block, count.max(1))?;
    let mut commits = 0;
    loop {
        let txn = state::transaction(inode.sb(), insert_credits(depth(inode)))?;
        let result = allocate_in(&txn, inode, block, wanted.end);
        let stopped = txn.stop();
        match result {
            Err(error) if error == ENOSPC && commits < COMMITS_FOR_SPACE => {
                commits += 1;
                if !wait_for_space(inode.sb())? {
                    return Err(error);
                }
            }
            // The transaction is full. Each one maps another part of what is before the block.
            Ok(None) => stopped?,
            Ok(Some(run)) => return stopped.map(|()| run),
            Err(error) => return stopped.and(Err(error)),
        }
    }
}

/// Does what one transaction has room for; `None` if that did not get as far as `block`.
fn allocate_in(txn: &Transaction<'_>, inode: &Inode, block: u32, end: u32) -> Result<Option<Run>> {
    let mut map = inode.data().map.lock();
    let found = map.find(inode, block)?;
    let (all, claim) = match found.status {
        Status::Delayed => (around(&found, block), Claim::Reserved),
        Status::Hole => (
            Run {
                start: block,
                end: found.end.min(end),
                ..found
            },
            Claim::Now,
        ),
        _ => return found.part(block..end).ok_or(EINVAL).map(Some),
    };
    let filled = fill(&mut map, txn, inode, &all, claim, State::Unwritten);
    // What was done before a failure stands.
    map.settle_nodes(inode.sb());
    map.publish();
    let run = map.find(inode, block);
    drop(map);
    inode::update(txn, inode)?;
    inode.data().note_data_change(txn.tid());
    let run = run?;
    match (filled, run.status) {
        (_, Status::Unwritten(_) | Status::Written(_)) => {
            run.part(block..end).ok_or(EINVAL).map(Some)
        }
        (Err(error), _) => Err(error),
        (Ok(()), _) => Ok(None),
    }
}

/// The part of a delayed run that is allocated at once: all of it unless it is very long.
fn around(run: &Run, block: u32) -> Run {
    let start = if block - run.start < BLOCKS_AT_ONCE / 2 {
        run.start
    } else {
        block
    };
    Run {
        start,
        end: run.end.min(start.saturating_add(BLOCKS_AT_ONCE)),
        ..*run
    }
}

/// Maps the blocks of `run`, all of them delayed or in a hole, as long as there is room in the
/// transaction: to one extent at least.
fn fill(
    map: &mut Locked<'_>,
    txn: &Transaction<'_>,
    inode: &Inode,
    run: &Run,
    claim: Claim,
    state: State,
) -> Result {
    let mut at = run.start;
    for extents in 0..EXTENTS_AT_ONCE {
        let depth = extent::depth(&map.tree.root)
            .map_err(|what| Failure::from(ext4::Corrupt::from(what)).report(inode))?;
        if at >= run.end || (extents != 0 && !txn.has(insert_credits(depth))?) {
            break;
        }
        let left = Run { start: at, ..*run };
        at = fill_one(map, txn, inode, &left, claim, state)?;
    }
    Ok(())
}

/// Maps the first blocks of `run` to one extent; returns the block behind it.
fn fill_one(
    map: &mut Locked<'_>,
    txn: &Transaction<'_>,
    inode: &Inode,
    run: &Run,
    claim: Claim,
    state: State,
) -> Result<u32> {
    let sb = inode.sb();
    let mut spare = Spare::to_set(sb.id(), &map.tree.cache, run.start..run.start + 1)?;
    let (goal, adjacent) = goal(map, inode, run.start)?;
    let request = Request {
        goal,
        adjacent,
        count: run.len().min(state.max_len().into()),
        claim,
    };
    let got = blocks::allocate(txn, sb, &request)?;
    // What the buffer cache may hold of the blocks must not be written over the data to come.
    let device = sb.data().journal.device();
    device.forget_buffers(got.start.get(), got.count.into());

    let mapped = insert(map, txn, inode, run.start, &got, state);
    let extent = match mapped {
        Ok(extent) => extent,
        Err(error) => {
            blocks::return_unused(txn, sb, &got, claim)?;
            return Err(error);
        }
    };
    inode.add_bytes(u64::from(got.count) * u64::from(sb.block_size()));
    map.tree.cache.set(run_of(&extent), &mut spare);
    Ok(extent.end().get())
}

/// Puts blocks into the tree.
fn insert(
    map: &mut Locked<'_>,
    txn: &Transaction<'_>,
    inode: &Inode,
    start: u32,
    blocks: &Blocks,
    state: State,
) -> Result<Extent> {
    let count = u16::try_from(blocks.count).map_err(|_| EINVAL)?;
    let extent = Extent::new(LogicalBlock::new(start), count, blocks.start, state).ok_or(EINVAL)?;
    let tree = &mut *map.tree;
    let mut store = Store {
        txn,
        inode,
        reserved: tree.reserved_nodes,
    };
    let result = extent::Tree::new(&mut tree.root, &mut store, blocks.start).insert(extent);
    tree.reserved_nodes = store.reserved;
    result.map_err(|what| what.report(inode))?;
    Ok(extent)
}

/// Where the blocks from `block` on should be, and whether they continue something there.
fn goal(map: &Locked<'_>, inode: &Inode, block: u32) -> Result<(PhysicalBlock, bool)> {
    let nodes = super::Nodes::new(inode);
    let found = extent::find(&map.tree.root, &nodes, LogicalBlock::new(block))
        .map_err(|what| what.report(inode))?;
    if let Mapping::Hole {
        before: Some(before),
        ..
    } = found
    {
        let distance = block.saturating_sub(before.end().get());
        let goal = before.physical_end().checked_add(distance.into());
        if let Some(goal) = goal {
            return Ok((goal, distance == 0));
        }
    }
    Ok((home(inode), false))
}

/// Where a file without blocks begins: in the group that is best for data of its inode. Different files
/// begin at different places there.
fn home(inode: &Inode) -> PhysicalBlock {
    /// How many such places there are. Neighbours in the inode table are neighbours on the disk.
    const PLACES: u32 = 16;

    let geometry = &inode.sb().data().layout.geometry;
    let number = inode::number(inode);
    let (group, index) = geometry.locate_inode(number).unwrap_or((Group::ZERO, 0));
    let start = inode_policy::data_goal(geometry, group, inode.is_regular());
    let Some((group, _)) = geometry.group_of_block(start) else {
        return start;
    };
    let place = index
        .checked_div(geometry.inodes_per_group().div_ceil(PLACES))
        .unwrap_or(0);
    let offset = geometry.blocks_in_group(group) / PLACES * place;
    PhysicalBlock::new(start.get() + u64::from(offset))
}

/// Allocates up to `count` blocks from `block` on, which are in a hole, as written ones, in the caller's
/// transaction: for contents that are written through the journal themselves. Returns the run.
///
/// Takes [`create_credits`]. The blocks are not zeroed. `ENOSPC` when there is no space.
pub(crate) fn create(
    txn: &Transaction<'_>,
    inode: &Inode,
    block: impl Into<u32>,
    count: u32,
) -> Result<Run> {
    let block = block.into();
    let wanted = range(block, count.max(1))?;
    let mut map = inode.data().map.lock();
    let found = map.find(inode, block)?;
    if found.status != Status::Hole {
        return found.part(wanted).ok_or(EINVAL);
    }
    let run = Run {
        start: block,
        end: found.end.min(wanted.end),
        ..found
    };
    let filled = fill_one(&mut map, txn, inode, &run, Claim::Now, State::Written);
    map.publish();
    let run = map.find(inode, block);
    drop(map);
    inode::update(txn, inode)?;
    inode.data().note_data_change(txn.tid());
    filled?;
    run?.part(wanted).ok_or(EINVAL)
}

/// The data of `count` blocks from `start` on is on the disk: makes them written, and moves the size on
/// disk up to `new_disk_size` if it is less, in one transaction unless there are very many extents.
///
/// In several transactions, the size moves with each of them: nothing written lies behind it after a crash.
///
/// Blocks that are written already, or holes by now, are left alone. Sleeps, not within a transaction.
pub(crate) fn convert(
    inode: &Inode,
    start: impl Into<u32>,
    count: u32,
    new_disk_size: Option<u64>,
) -> Result {
    let range = range(start.into(), count)?;
    let credits = nodes::credits(Footprint::of_convert(depth(inode)));
    let mut txn = state::transaction(inode.sb(), credits)?;
    let mut at = range.start;
    loop {
        let progress = convert_some(&txn, inode, at, range.end);
        let converted = match progress {
            Ok(Progress::Done) => u64::MAX,
            Ok(Progress::Partial(next)) => u64::from(next.get()) << inode.block_bits(),
            Err(_) => 0,
        };
        if let Some(size) = new_disk_size {
            inode.data().grow_disk_size(size.min(converted));
        }
        inode::update(&txn, inode)?;
        inode.data().note_data_change(txn.tid());
        match progress? {
            Progress::Done => return txn.stop(),
            Progress::Partial(next) => at = next.get(),
        }
        // The map is not locked: others may need it to finish before the next transaction can start.
        txn.restart(nodes::credits(Footprint::of_convert(depth(inode))))?;
    }
}

fn convert_some(txn: &Transaction<'_>, inode: &Inode, start: u32, end: u32) -> Result<Progress> {
    let mut map = inode.data().map.lock();
    let tree = &mut *map.tree;
    let mut store = Store {
        txn,
        inode,
        reserved: 0,
    };
    let blocks = LogicalBlock::new(start)..LogicalBlock::new(end);
    let result =
        extent::Tree::new(&mut tree.root, &mut store, home(inode)).convert(blocks, State::Written);
    match result {
        Ok(Progress::Done) => note_written(&mut map, inode, start, end),
        Ok(Progress::Partial(next)) => note_written(&mut map, inode, start, next.get()),
        // How far it got is not known.
        Err(_) => map.tree.cache.forget_cached(),
    }
    map.publish();
    result.map_err(|what| what.report(inode))
}

/// Brings the cache up to date with a conversion.
fn note_written(map: &mut Locked<'_>, inode: &Inode, start: u32, end: u32) {
    let mut at = start;
    while at < end {
        let Some(run) = map.tree.cache.at_or_after(at) else {
            return;
        };
        at = run.end;
        let Some(part) = run.part(start..end) else {
            continue;
        };
        if let Status::Unwritten(physical) = part.status {
            let Ok(mut spare) =
                Spare::to_set(inode.sb().id(), &map.tree.cache, part.start..part.end)
            else {
                // Without memory nothing can be recorded: what is not known is read from the tree.
                map.tree.cache.forget_cached();
                return;
            };
            let written = Run {
                status: Status::Written(physical),
                ..part
            };
            map.tree.cache.set(written, &mut spare);
        }
    }
}
