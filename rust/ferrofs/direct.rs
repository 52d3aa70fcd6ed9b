// SPDX-License-Identifier: GPL-2.0

//! Direct I/O: between the caller's memory and the disk, past the page cache.
//!
//! iomap moves the data; it asks here for the place and tells here when a write has ended. New blocks
//! are allocated as blocks that were never written, and count as written when the data is there, so that
//! a crash shows old zeroes or new data.

use kernel::iov::IovIterDest;
use kernel::iov::IovIterSource;
use kernel::prelude::*;
use vfs::file;
use vfs::inode::Locked;
use vfs::inode::LockedShared;
use vfs::iomap;
use vfs::iomap::Extent;
use vfs::iomap::Kind;
use vfs::iomap::Request;

use crate::completion;
use crate::extent_status::Status;
use crate::extents;
use crate::file::check_mutable;
use crate::flush;
use crate::map;
use crate::resize;
use crate::write;
use crate::Ferrofs;
use crate::Inode;
use crate::Kiocb;

/// Reads directly. Returns the count.
pub(crate) fn read(kiocb: &mut Kiocb<'_>, to: &mut IovIterDest<'_>) -> Result<usize> {
    let inode = kiocb.inode();
    let file = kiocb.file();
    let result = {
        let _lock = lock_shared(inode, kiocb.is_nowait())?;
        iomap::direct_read::<Direct>(kiocb, to)
    };
    file::accessed(file);
    result
}

/// Writes directly. Returns the count.
pub(crate) fn write(kiocb: &mut Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<usize> {
    if kiocb.is_atomic() {
        return Err(EOPNOTSUPP);
    }
    let inode = kiocb.inode();
    let written = match write_shared(kiocb, from)? {
        Some(written) => written,
        None => write_exclusive(kiocb, from)?,
    };
    if from.is_empty() {
        return Ok(written);
    }
    if kiocb.is_nowait() {
        // What follows waits for the disk.
        return if written == 0 {
            Err(EAGAIN)
        } else {
            Ok(written)
        };
    }
    // The rest, or all of it, goes through the page cache; as was asked for, it does not stay there.
    let start = kiocb.pos();
    kiocb.clear_direct();
    let rest = write::buffered(kiocb, from)?;
    let end = start + rest as u64;
    inode.write_and_wait_range(start, end)?;
    inode.drop_clean_pages(start, end);
    Ok(written + rest)
}

/// Writes within the file in whole blocks, next to others that do so. [`None`] if the write is not such a
/// one.
fn write_shared(kiocb: &mut Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<Option<usize>> {
    let inode = kiocb.inode();
    if !is_simple(inode, kiocb, from) {
        return Ok(None);
    }
    let _lock = lock_shared(inode, kiocb.is_nowait())?;
    // Only now it stays so.
    if !is_simple(inode, kiocb, from) {
        return Ok(None);
    }
    check_mutable(inode)?;
    if kiocb.write_checks(from)? == 0 {
        return Ok(Some(0));
    }
    kiocb.modified()?;
    fall_back(iomap::direct_write::<Direct, Direct>(kiocb, from, false)).map(Some)
}

/// Whether a write needs no change of the size, no zeroing of what shares a block with it, and no removal
/// of privileges.
fn is_simple(inode: &Inode, kiocb: &Kiocb<'_>, from: &mut IovIterSource<'_>) -> bool {
    let end = kiocb.pos().saturating_add(from.len() as u64);
    let mask = inode.block_size() as u64 - 1;
    !kiocb.is_append()
        && end <= inode.size().min(inode.data().disk_size())
        && (kiocb.pos() | end) & mask == 0
        && inode.is_nosec()
}

/// Writes alone, and waits for the end of it.
fn write_exclusive(kiocb: &mut Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<usize> {
    let inode = kiocb.inode();
    let _lock = lock(inode, kiocb.is_nowait())?;
    if write::checks(kiocb, from)? == 0 {
        return Ok(0);
    }
    if kiocb.is_nowait() {
        // What follows waits for the disk.
        return Err(EAGAIN);
    }
    // Another write into a block that this one zeroes in part must be over.
    inode.wait_for_direct_io();
    let end = kiocb.pos().saturating_add(from.len() as u64);
    let written = fall_back(iomap::direct_write::<Direct, Direct>(kiocb, from, true));
    if end > inode.size() {
        // It stopped half way. The blocks that it got behind the end are not the file's.
        let freed = resize::set_size(inode, inode.size());
        return written.and_then(|count| freed.map(|()| count));
    }
    written
}

/// A write that must go through the page cache has written nothing so far.
fn fall_back(result: Result<usize>) -> Result<usize> {
    match result {
        Err(ENOTBLK) => Ok(0),
        result => result,
    }
}

fn lock(inode: &Inode, nowait: bool) -> Result<Locked<'_, Ferrofs>> {
    if nowait {
        inode.try_lock().ok_or(EAGAIN)
    } else {
        Ok(inode.lock())
    }
}

/// The inode's lock, shared; `EAGAIN` if that would take a sleep and `nowait` forbids it.
pub(crate) fn lock_shared(inode: &Inode, nowait: bool) -> Result<LockedShared<'_, Ferrofs>> {
    if nowait {
        inode.try_lock_shared().ok_or(EAGAIN)
    } else {
        Ok(inode.lock_shared())
    }
}

/// Direct I/O.
struct Direct;

#[vtable]
impl iomap::Operations for Direct {
    type FileSystem = Ferrofs;

    fn begin(inode: &Inode, pos: u64, len: u64, request: Request) -> Result<Extent> {
        let (first, count) = write::blocks(inode, pos..pos.checked_add(len).ok_or(EFBIG)?)?;
        let mut run = match map::lookup_cached(inode, first) {
            Some(run) => run,
            None if request.is_nowait() => return Err(EAGAIN),
            None => map::lookup(inode, first, count)?,
        };
        let missing = matches!(run.status, Status::Hole | Status::Delayed);
        if request.is_write() && missing {
            if request.is_nowait() || request.is_overwrite_only() {
                return Err(EAGAIN);
            }
            let last = run.end.min(first + count);
            map::reserve(inode, first, last - first)?;
            run = map::allocate(inode, first, last - first)?;
        }
        let mut extent = extents::extent(inode, run, first)?;
        if extent.kind == Kind::Delayed {
            // A mapping has dirtied it since the page cache was flushed for this read. On the disk there
            // is nothing.
            extent.kind = Kind::Hole;
        }
        if request.is_write() {
            // A write with O_DSYNC need not wait for a commit if none concerns the data of the file.
            extent.dirty = !inode
                .sb()
                .data()
                .journal
                .is_committed(inode.data().datasync_tid());
        }
        Ok(extent)
    }
}

impl iomap::DirectWrite for Direct {
    type FileSystem = Ferrofs;

    fn end(kiocb: &Kiocb<'_>, len: usize, result: Result, unwritten: bool) -> Result {
        let inode = kiocb.inode();
        // Also after an error: some of it may have arrived.
        flush::note_write(inode);
        result?;
        if len == 0 {
            return Ok(());
        }
        let end = kiocb.pos() + len as u64;
        if unwritten || end > inode.data().disk_size() {
            completion::convert(inode, kiocb.pos()..end, end, unwritten)?;
        }
        // Only a write that holds the inode's lock alone goes behind the end.
        if end > inode.size() {
            inode.set_size(end);
        }
        Ok(())
    }
}
