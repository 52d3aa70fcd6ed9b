// SPDX-License-Identifier: GPL-2.0

//! Writing files: the life of a write up to the page cache.
//!
//! 1. [`write`] takes the inode's lock, checks limits, removes privileges and updates times.
//! 2. For each folio, [`begin`] finds or makes it, reserves space for the blocks that have no place on
//!    the disk yet, and reads or zeroes those that the write covers only in part. Running out of space
//!    is found here and nowhere later.
//! 3. The kernel copies the bytes. Those who read meanwhile learn of it (see [`crate::copying`]).
//! 4. [`end`] marks the written blocks as up to date and dirty and moves the size in memory. The size on
//!    disk moves when the data is there (see [`crate::writeback`]).

use core::ops::Range;

use kernel::iov::IovIterSource;
use kernel::prelude::*;
use vfs::folio::LockedFolio;
use vfs::memory::NoFs;

use crate::direct;
use crate::extent_status::Status;
use crate::file;
use crate::map;
use crate::read;
use crate::state;
use crate::Ferrofs;
use crate::Inode;
use crate::Kiocb;

/// Writes to an open file. Returns the count.
pub(crate) fn write(kiocb: &mut Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<usize> {
    state::check(kiocb.inode().sb())?;
    if kiocb.is_direct() {
        direct::write(kiocb, from)
    } else {
        buffered(kiocb, from)
    }
}

/// Writes through the page cache.
pub(crate) fn buffered(kiocb: &mut Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<usize> {
    if kiocb.is_atomic() {
        return Err(EOPNOTSUPP);
    }
    if kiocb.is_nowait() {
        return buffered_nowait(kiocb, from);
    }
    let inode = kiocb.inode();
    let count = {
        let _lock = inode.lock();
        // Direct I/O in flight would not see what is dirtied now, nor the other way round.
        inode.wait_for_direct_io();
        if checks(kiocb, from)? == 0 {
            return Ok(0);
        }
        let result = kiocb.write_to_page_cache(from);
        inode.data().copying.finish();
        result?
    };
    kiocb.write_sync(count)
}

/// The same for a request that must not sleep: for a lock, for memory, for the disk, for the journal, or
/// because there is too much that is dirty. `EAGAIN` where it would have to. Only when the source turns out
/// not to be in memory may it wait for those who change the map, to give up what was reserved for it.
fn buffered_nowait(kiocb: &mut Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<usize> {
    if kiocb.is_dsync() {
        // To make it durable takes a sleep in any case.
        return Err(EAGAIN);
    }
    let inode = kiocb.inode();
    let count = {
        let _lock = inode.try_lock().ok_or(EAGAIN)?;
        if inode.has_direct_io() {
            return Err(EAGAIN);
        }
        if checks(kiocb, from)? == 0 {
            return Ok(0);
        }
        let result = kiocb.write_to_page_cache_nowait(from);
        inode.data().copying.finish();
        result?
    };
    kiocb.write_sync(count)
}

/// What every write begins with. Returns the number of bytes that may be written. Called with the
/// inode's lock held exclusively.
pub(crate) fn checks(kiocb: &mut Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<usize> {
    let inode = kiocb.inode();
    file::check_mutable(inode)?;
    let count = kiocb.write_checks(from)?;
    if count == 0 {
        return Ok(0);
    }
    kiocb.modified()?;
    let size = inode.size();
    if kiocb.pos() > size {
        if kiocb.is_nowait() {
            return Err(EAGAIN);
        }
        zero_to_block_end(inode, size)?;
    }
    Ok(count)
}

/// The blocks that `bytes` of a file touches: the first one and their number.
pub(crate) fn blocks(inode: &Inode, bytes: Range<u64>) -> Result<(u32, u32)> {
    let bits = inode.block_bits();
    let first = u32::try_from(bytes.start >> bits).map_err(|_| EFBIG)?;
    let end = u32::try_from(bytes.end.div_ceil(1 << bits)).map_err(|_| EFBIG)?;
    Ok((first, end - first))
}

/// Makes the folio at `pos` ready to take up to `len` bytes.
pub(crate) fn begin(
    kiocb: Option<&Kiocb<'_>>,
    inode: &Inode,
    pos: u64,
    len: usize,
) -> Result<LockedFolio<Ferrofs>> {
    state::check(inode.sb())?;
    let nowait = kiocb.is_some_and(Kiocb::is_nowait);
    let folio = inode.write_begin_folio(kiocb, pos, len)?;
    prepare(inode, &folio, pos, len, nowait)?;
    if kiocb.is_some() {
        inode.data().copying.begin();
    }
    Ok(folio)
}

/// Reserves space for the blocks of `folio` that a write of up to `len` bytes at `pos` touches, and makes
/// the bytes of them which it does not cover what they should be. `EAGAIN` if that would take a sleep and
/// `nowait` forbids it.
fn prepare(
    inode: &Inode,
    folio: &LockedFolio<Ferrofs>,
    pos: u64,
    len: usize,
    nowait: bool,
) -> Result {
    let offset = (pos - folio.pos()) as usize;
    let bytes = offset..(offset + len).min(folio.size());
    if folio.size() == inode.block_size() && folio.is_range_dirty(bytes.clone()) {
        // The only block is up to date and has its space since it became dirty. Larger folios do not say as
        // much: when a mapping makes them dirty, so are their blocks behind the end of the file.
        return Ok(());
    }
    if bytes != (0..folio.size()) {
        folio.track_blocks(nowait)?;
    }
    // Freeing memory for what follows must not wait for this folio.
    let _nofs = NoFs::enter();
    let mask = inode.block_size() - 1;
    for edge in [bytes.start, bytes.end] {
        if edge & mask != 0 {
            fill_block(inode, folio, edge & !mask, nowait)?;
        }
    }
    let (first, count) = blocks(inode, pos..folio.pos() + bytes.end as u64)?;
    if nowait {
        map::try_reserve(inode, first, count)
    } else {
        map::reserve(inode, first, count)
    }
}

/// Makes the block at `offset` of `folio` up to date. `EAGAIN` if that would take a sleep and `nowait`
/// forbids it.
pub(crate) fn fill_block(
    inode: &Inode,
    folio: &LockedFolio<Ferrofs>,
    offset: usize,
    nowait: bool,
) -> Result {
    let bytes = offset..offset + inode.block_size();
    if folio.next_not_uptodate(bytes.clone()).is_none() {
        return Ok(());
    }
    let pos = folio.pos() + offset as u64;
    let (block, _) = blocks(inode, pos..pos + 1)?;
    let run = if nowait {
        map::lookup_cached(inode, block).ok_or(EAGAIN)?
    } else {
        map::lookup(inode, block, 1)?
    };
    match run.status {
        Status::Written(_) if nowait && pos < inode.size() => return Err(EAGAIN),
        Status::Written(start) if pos < inode.size() => {
            let start = start
                .checked_add(u64::from(block - run.start))
                .ok_or(EOVERFLOW)?;
            // Devices have many words for it.
            folio
                .read_sync(offset, bytes.len(), read::sector(inode, start))
                .map_err(|_| EIO)?;
        }
        // What lies on the disk behind the end of the file is not the file's.
        _ => folio.zero(bytes.clone()),
    }
    folio.mark_uptodate(bytes);
    Ok(())
}

/// Takes over `copied` of the `len` bytes that were to be written at `pos` of `folio`. Returns how many of
/// them count.
pub(crate) fn end(
    inode: &Inode,
    pos: u64,
    len: usize,
    copied: usize,
    folio: LockedFolio<Ferrofs>,
) -> Result<usize> {
    let offset = (pos - folio.pos()) as usize;
    let asked = (offset + len).min(folio.size());
    let mut end = (offset + copied).min(asked);
    if end < asked {
        // The copy stopped in the middle. A block that was to be written whole was not read; what of it
        // was not copied is not known.
        let block = end & !(inode.block_size() - 1);
        if folio.next_not_uptodate(block..end.max(block + 1)).is_some() {
            end = block.max(offset);
        }
    }
    if offset < end {
        folio.mark_uptodate(offset..end);
        folio.mark_dirty(offset..end);
    }
    if end < asked {
        release_clean(inode, &folio, end..asked)?;
    }
    let old_size = inode.size();
    let new_end = folio.pos() + end as u64;
    // Before the folio is unlocked: writeback leaves alone what lies behind the end.
    if offset < end && new_end > old_size {
        inode.set_size(new_end);
    }
    inode
        .data()
        .copying
        .copied(new_end, folio.pos() + asked as u64);
    drop(folio);
    if old_size < pos && offset < end {
        inode.page_cache_extended(old_size, pos);
    }
    Ok(end.saturating_sub(offset))
}

/// Gives up the reservations of blocks of a folio that were not written after all.
fn release_clean(inode: &Inode, folio: &LockedFolio<Ferrofs>, bytes: Range<usize>) -> Result {
    let size = inode.block_size();
    let mut at = bytes.start & !(size - 1);
    while at < bytes.end {
        if !folio.is_range_dirty(at..at + size) {
            let pos = folio.pos() + at as u64;
            let (block, _) = blocks(inode, pos..pos + 1)?;
            map::release(inode, block, 1)?;
        }
        at += size;
    }
    Ok(())
}

/// Zeroes what follows byte `from` in its block, in the page cache, and marks it as dirty. Returns whether
/// there was something to zero.
///
/// Called with the inode's lock held exclusively, when `from` is or will be the end of the file.
pub(crate) fn zero_partial_block(inode: &Inode, from: u64) -> Result<bool> {
    let mask = inode.block_size() as u64 - 1;
    if from & mask == 0 {
        return Ok(false);
    }
    let (block, _) = blocks(inode, from..from + 1)?;
    let folio = match map::lookup(inode, block, 1)?.status {
        // Only what is dirty in memory can be other than zero.
        Status::Hole | Status::Unwritten(_) => match inode.lock_folio(from) {
            Some(folio) => folio,
            None => return Ok(false),
        },
        Status::Delayed | Status::Written(_) => inode.write_begin_folio(None, from, 1)?,
    };
    // A block on its way to the disk for the first time has data that the map does not know of yet.
    folio.wait_writeback();
    let start = (from - folio.pos()) as usize;
    let end = (from | mask) + 1;
    let end = (end - folio.pos()) as usize;
    let block_start = start & !(mask as usize);
    if !folio.is_range_dirty(block_start..end)
        && matches!(
            map::lookup(inode, block, 1)?.status,
            Status::Hole | Status::Unwritten(_)
        )
    {
        // Clean and without data on the disk: it has been zero all along.
        return Ok(false);
    }
    folio.track_blocks(false)?;
    let _nofs = NoFs::enter();
    fill_block(inode, &folio, block_start, false)?;
    folio.zero(start..end);
    folio.mark_dirty(block_start..end);
    Ok(true)
}

/// The file is going to end behind `size`, its end so far: makes sure that the rest of the last block reads
/// as zeroes from now on, on the disk as well. The size on disk may move before that block is written.
pub(crate) fn zero_to_block_end(inode: &Inode, size: u64) -> Result {
    if zero_partial_block(inode, size)? {
        inode.write_and_wait_range(size, size + 1)?;
    }
    Ok(())
}
