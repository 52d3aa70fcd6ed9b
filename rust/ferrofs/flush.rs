// SPDX-License-Identifier: GPL-2.0

//! Which data may still be in the device's volatile cache.
//!
//! The end of each write of data gets a number, and the inode keeps the last one of its own. A flush that begins when
//! the last number is N brings everything up to N to stable media. So whoever syncs a file whose last write is older
//! than the last flush, whoever asked for that one, need not flush again.
//!
//! Without a log, metadata is written by whoever syncs, and goes by the same rule with numbers of its own: those of its
//! changes.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::AcqRel;
use core::sync::atomic::Ordering::Acquire;

use kernel::prelude::*;

use crate::inode;
use crate::options::Flags;
use crate::Inode;
use crate::SuperBlock;

/// The writes and flushes of a mount.
pub(crate) struct Flushes {
    /// The number of writes of data that have ended.
    written: AtomicU64,
    /// Writes up to this number are on stable media.
    flushed: AtomicU64,
    /// Changes of metadata without a log, up to this number less one, are on stable media.
    metadata: AtomicU64,
}

/// A moment: what was written before it.
#[derive(Clone, Copy)]
pub(crate) struct Moment(u64);

impl Flushes {
    /// A mount begins.
    pub(crate) const fn new() -> Self {
        Flushes {
            // So that the first to ask gets a flush: what is in the device's cache at a mount is not known.
            written: AtomicU64::new(1),
            flushed: AtomicU64::new(0),
            metadata: AtomicU64::new(0),
        }
    }

    /// This moment. To be asked for before a flush is begun.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.written.load(Acquire))
    }

    /// A flush has ended that was begun after `begun`.
    pub(crate) fn flushed(&self, begun: Moment) {
        self.flushed.fetch_max(begun.0, AcqRel);
    }

    /// Whether something that was written before `moment` may not be on stable media.
    fn is_needed(&self, moment: Moment) -> bool {
        moment.0 > self.flushed.load(Acquire)
    }
}

/// What an inode remembers: its last write.
pub(crate) struct InodeState(AtomicU64);

impl InodeState {
    /// Nothing was written.
    pub(crate) const fn new() -> Self {
        InodeState(AtomicU64::new(0))
    }

    /// The inode was read from the disk at `moment`: it may have been in memory before, and written to.
    pub(crate) fn set_read(&self, moment: Moment) {
        self.0.fetch_max(moment.0, AcqRel);
    }

    /// The end of the last write.
    fn last(&self) -> Moment {
        Moment(self.0.load(Acquire))
    }
}

/// Data of `inode` has arrived at the device. To be called before anybody who waits for that hears of it. Does not
/// sleep.
pub(crate) fn note_write(inode: &Inode) {
    let volume = inode.sb().data();
    let number = volume
        .flushes
        .written
        .fetch_add(1, AcqRel)
        .saturating_add(1);
    inode.data().flush.0.fetch_max(number, AcqRel);
}

/// Brings the data of `inode` that has arrived at the device to stable media, unless it is there or flushes are not
/// wanted. Sleeps.
pub(crate) fn flush_inode(inode: &Inode) -> Result {
    flush_until(inode.sb(), inode.data().flush.last())
}

/// The same for the data of all inodes.
pub(crate) fn flush_all(sb: &SuperBlock) -> Result {
    flush_until(sb, sb.data().flushes.now())
}

fn flush_until(sb: &SuperBlock, moment: Moment) -> Result {
    if sb.data().flushes.is_needed(moment) {
        flush(sb)?;
    }
    Ok(())
}

/// Brings all that has arrived at the device to stable media; `false` when flushes are not wanted. Sleeps.
fn flush(sb: &SuperBlock) -> Result<bool> {
    let volume = sb.data();
    if !volume.settings().has(Flags::BARRIER) {
        return Ok(false);
    }
    let begun = volume.flushes.now();
    volume.journal.device().flush()?;
    volume.flushes.flushed(begun);
    Ok(true)
}

/// Brings the data of `inode` that has arrived at the device and all metadata to stable media, on a mount without a
/// log. Sleeps.
pub(crate) fn sync_unlogged(inode: &Inode) -> Result {
    sync_unlogged_until(inode.sb(), inode.data().flush.last(), Some(inode))
}

/// The same for the data of all inodes.
pub(crate) fn sync_all_unlogged(sb: &SuperBlock) -> Result {
    sync_unlogged_until(sb, sb.data().flushes.now(), None)
}

fn sync_unlogged_until(sb: &SuperBlock, data: Moment, inode: Option<&Inode>) -> Result {
    let volume = sb.data();
    // Asked for before anything is written: what changes meanwhile may be written or not. With the first change as
    // number 1, the first to ask gets a flush.
    let changes = volume.journal.unlogged_changes().saturating_add(1);
    let is_new = changes > volume.flushes.metadata.load(Acquire);
    if is_new {
        // First that one, which tells whether it failed.
        if let Some(inode) = inode {
            inode::write(inode, true)?;
        }
        volume.journal.device().sync_buffers()?;
    }
    if (is_new || volume.flushes.is_needed(data)) && flush(sb)? {
        volume.flushes.metadata.fetch_max(changes, AcqRel);
    }
    Ok(())
}
