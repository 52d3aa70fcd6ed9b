// SPDX-License-Identifier: GPL-2.0

//! Unmapping blocks: truncate, punching holes, deleting files.

use core::ops::Range;

use ext4::extent;
use ext4::extent::Extent;
use ext4::extent::Footprint;
use ext4::extent::Progress;
use ext4::LogicalBlock;
use kernel::prelude::*;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use super::nodes;
use super::nodes::Failure;
use super::nodes::Store;
use crate::alloc::blocks;
use crate::error;
use crate::error::Place;
use crate::extent_status::Spare;
use crate::inode;
use crate::Inode;

/// How many blocks of a directory are unmapped at once: each of them is revoked.
const METADATA_AT_ONCE: u32 = 256;

/// Whether the blocks of a file were written through the journal.
fn is_metadata(inode: &Inode) -> bool {
    !inode.is_regular()
}

/// What one step may change.
fn step_credits(inode: &Inode) -> Credits {
    let depth = super::change::depth(inode);
    let credits = nodes::credits(Footprint::of_remove(depth)) + nodes::free_credits(inode.sb(), 1);
    if is_metadata(inode) {
        credits + Credits::blocks(0).with_revokes(METADATA_AT_ONCE)
    } else {
        credits
    }
}

/// Unmaps and frees the blocks in `range`, from its end on, and gives up the delayed ones.
///
/// The transaction is ended and another one started as often as needed, each leaving the file consistent;
/// the caller has seen to it that a crash between them is repaired (orphans), and that no I/O on the
/// blocks is under way. Sleeps; not within an outer transaction.
pub(crate) fn remove(txn: &mut Transaction<'_>, inode: &Inode, range: Range<u32>) -> Result {
    if range.is_empty() || remove_delayed(inode, &range)? {
        return Ok(());
    }
    let mut end = range.end;
    while end > range.start {
        txn.ensure(step_credits(inode))?;
        let start = if is_metadata(inode) {
            first_of_step(inode, &range, end)?
        } else {
            range.start
        };
        let progress = remove_some(txn, inode, start..end);
        inode::update(txn, inode)?;
        inode.data().note_data_change(txn.tid());
        end = match progress? {
            Progress::Done => start,
            Progress::Partial(left) => left.get(),
        };
    }
    Ok(())
}

/// Where a step that ends at `end` begins, so that there are not too many blocks to revoke in it.
fn first_of_step(inode: &Inode, range: &Range<u32>, end: u32) -> Result<u32> {
    // Blocks of metadata are mapped without holes. So none are behind the space that is taken, which
    // says more than the size: a directory that was removed has size 0.
    let block_size = inode.sb().data().layout.geometry.block_size();
    let taken = inode.blocks().saturating_mul(512).max(inode.size());
    let size = u32::try_from(block_size.blocks_for(taken).get()).unwrap_or(u32::MAX);
    let last = end.min(size.max(range.start.saturating_add(METADATA_AT_ONCE)));
    Ok(last.saturating_sub(METADATA_AT_ONCE).max(range.start))
}

/// Gives up the delayed blocks in `range` if the file has no others, so that nothing changes on the disk; else
/// does nothing and gives `false`.
fn remove_delayed(inode: &Inode, range: &Range<u32>) -> Result<bool> {
    let mut map = inode.data().map.lock();
    if !map.tree.is_unallocated() {
        return Ok(false);
    }
    let sb = inode.sb();
    let mut spare = Spare::to_forget(sb.id(), &map.tree.cache, range.clone());
    map.forget(sb, range.clone(), &mut spare);
    map.publish();
    Ok(true)
}

fn remove_some(txn: &Transaction<'_>, inode: &Inode, range: Range<u32>) -> Result<Progress> {
    let sb = inode.sb();
    let mut map = inode.data().map.lock();
    // From where on is not known yet.
    let mut spare = Spare::to_forget(sb.id(), &map.tree.cache, range.end - 1..range.end);
    let tree = &mut *map.tree;
    let mut store = Store {
        txn,
        inode,
        reserved: 0,
    };
    let blocks = LogicalBlock::new(range.start)..LogicalBlock::new(range.end);
    let result = extent::Tree::new(&mut tree.root, &mut store, ext4::PhysicalBlock::ZERO)
        .remove(blocks, free_extent);
    let start = match result {
        Ok(Progress::Partial(left)) => left.get(),
        _ => range.start,
    };
    map.forget(sb, start..range.end, &mut spare);
    map.publish();
    result.map_err(|what| what.report(inode))
}

/// Frees the blocks of an extent that the tree no longer has.
fn free_extent(store: &mut Store<'_>, extent: Extent) -> Result<(), Failure> {
    let (txn, inode) = (store.txn, store.inode);
    let sb = inode.sb();
    let start = extent.physical();
    if is_metadata(inode) {
        // There is room for as many as the inode says that it has; a damaged one may have more.
        let revokes = Credits::blocks(0).with_revokes(extent.len().into());
        if !txn.has(revokes)? {
            return Err(error::corrupt(
                sb,
                Place::inode(inode::number(inode)),
                "more blocks than it accounts for",
            )
            .into());
        }
        for block in start.get()..extent.physical_end().get() {
            txn.revoke(block)?;
        }
    }
    blocks::free(txn, sb, start, extent.len().into())?;
    inode.sub_bytes(u64::from(extent.len()) * u64::from(sb.block_size()));
    Ok(())
}
