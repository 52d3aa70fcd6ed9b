// SPDX-License-Identifier: GPL-2.0

//! Freeing the contents of files, and files.
//!
//! A long file is freed in several transactions. Between them it is an [orphan](crate::orphan), so that a
//! crash leaves nothing half done.

use ext4::inode::InodeFlags;
use kernel::prelude::*;
use vfs::time::Timestamp;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use crate::alloc;
use crate::inode;
use crate::map;
use crate::orphan;
use crate::state;
use crate::xattr;
use crate::Inode;

/// What starts or ends a truncation: the list of orphans and the inode.
const EDGE_CREDITS: Credits = Credits::blocks(
    orphan::ADD_CREDITS.block_count()
        + orphan::REMOVE_CREDITS.block_count()
        + inode::UPDATE_CREDITS.block_count(),
);

/// What ends the life of an inode, besides its attributes.
const DELETE_CREDITS: Credits =
    Credits::blocks(EDGE_CREDITS.block_count() + alloc::inodes::FREE_CREDITS.block_count());

/// Whether the inode has blocks of its own that the map knows of.
fn has_map(inode: &Inode) -> bool {
    inode.data().flags().contains(InodeFlags::EXTENTS)
}

/// Cuts a file to `size` bytes on disk: frees the blocks behind that and gives up the delayed ones.
///
/// The inode's lock and the invalidate lock are held; the size in memory and the page cache are those of
/// the shorter file already, and no I/O on what is cut off is under way. Sleeps.
pub(crate) fn truncate(inode: &Inode, size: u64) -> Result {
    let mut txn = state::transaction(inode.sb(), EDGE_CREDITS)?;
    orphan::add(&txn, inode)?;
    inode.data().set_disk_size(size);
    inode::update(&txn, inode)?;
    inode.data().note_data_change(txn.tid());
    free_behind(&mut txn, inode, size)?;
    txn.ensure(EDGE_CREDITS)?;
    if inode.nlink() != 0 {
        orphan::remove(&txn, inode)?;
    }
    inode::update(&txn, inode)?;
    if inode.is_sync() {
        txn.set_sync();
    }
    txn.stop()
}

/// Ends a truncation that a crash has interrupted.
pub(crate) fn finish(inode: &Inode) -> Result {
    truncate(inode, inode.size())
}

/// Frees the blocks that lie wholly behind `size` bytes.
fn free_behind(txn: &mut Transaction<'_>, inode: &Inode, size: u64) -> Result {
    if !has_map(inode) || map::is_empty(inode) {
        return Ok(());
    }
    let geometry = &inode.sb().data().layout.geometry;
    let first = geometry.block_size().blocks_for(size).get();
    match u32::try_from(first) {
        Ok(first) => map::remove(txn, inode, first..u32::MAX),
        // It lies behind everything that a map can hold.
        Err(_) => Ok(()),
    }
}

/// Frees an inode without links and all its storage.
///
/// Called when it leaves memory; nobody else has a reference. Sleeps. When it fails, the inode stays an
/// orphan, and the next mount or e2fsck frees it.
pub(crate) fn delete(inode: &Inode) -> Result {
    let sb = inode.sb();
    let _not_frozen = sb.protect_from_freeze();
    let mut txn = state::transaction(inode.sb(), EDGE_CREDITS)?;
    // It is one already, unless it never got a name.
    orphan::add(&txn, inode)?;
    free_behind(&mut txn, inode, 0)?;
    txn.ensure(xattr::RELEASE_CREDITS)?;
    xattr::release(&txn, inode)?;
    txn.ensure(DELETE_CREDITS)?;
    orphan::remove(&txn, inode)?;
    inode.set_size(0);
    inode.data().set_disk_size(0);
    let now = Timestamp::now().seconds;
    // The field has 32 bits and only says that the inode is not in use: 0 would say that it is.
    inode::update_with(&txn, inode, |raw| raw.set_dtime((now as u32).max(1)))?;
    alloc::inodes::free(&txn, inode)?;
    txn.stop()
}
