// SPDX-License-Identifier: GPL-2.0

//! Making a file durable.

use kernel::fs::LocalFile;
use kernel::prelude::*;
use vfs::file;

use crate::flush;
use crate::state;
use crate::Inode;

/// Brings bytes `start..=last` of a file to stable media with all that is needed to find them and, unless
/// `data_only`, all else that is stored about the file. Sleeps.
///
/// # Errors
///
/// What went wrong with that, or with earlier writeback that this open file was not told of.
pub(crate) fn fsync(
    inode: &Inode,
    file: &LocalFile,
    start: u64,
    last: u64,
    data_only: bool,
) -> Result {
    // When the first part is done, extents are converted and the size is moved: see `completion`.
    let result = file::write_and_wait(file, start, last).and_then(|()| sync(inode, data_only));
    // The commit may have found out of an error of writeback that came in after the first look.
    let reported = file::check_writeback_error(file);
    result.and(reported)
}

/// The same without the part that only an open file has: for directories, and for inodes of which all
/// data was written. Sleeps.
pub(crate) fn sync(inode: &Inode, data_only: bool) -> Result {
    state::check(inode.sb())?;
    if inode.sb().is_read_only() {
        return Ok(());
    }
    let volume = inode.sb().data();
    let journal = &volume.journal;
    if !journal.has_log() {
        return flush::sync_unlogged(inode);
    }
    let begun = volume.flushes.now();
    let tid = if data_only {
        inode.data().datasync_tid()
    } else {
        inode.data().sync_tid()
    };
    // A commit which is yet to come flushes the data as well. If the last one that concerns the file is
    // over, its data may still be in the device's cache.
    let flushes = journal.will_flush(tid);
    journal.complete(tid)?;
    if flushes {
        volume.flushes.flushed(begun);
    }
    flush::flush_inode(inode)
}
