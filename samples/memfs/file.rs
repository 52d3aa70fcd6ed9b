// SPDX-License-Identifier: GPL-2.0

//! Files: the way of bytes between programs, the page cache and the disk.
//!
//! ```text
//!   read(2), mmap read          write(2)                 store to a mapping
//!        |                        |                            |
//!    page cache            write_begin: space,            page_mkwrite: space
//!        ^                 what is not overwritten             |
//!        |                 write_end: dirty, size            dirty
//!   read_folio,                   |                            |
//!   readahead                     v                            v
//!        ^                    page cache -------- writepages ------+
//!        |                                                        v
//!      disk <------------------------------------------------- disk
//! ```
//!
//! Space on the disk is taken where a write can still be refused: in `write_begin` and `page_mkwrite`. So
//! `writepages`, which comes when the program is long gone, cannot fail for want of it.
//!
//! Locks, outermost first: the inode's lock, the page cache's lock (`invalidate_lock`), a folio's lock, the
//! lock of the pages on the disk.

use core::ops::Range;

use kernel::fs::LocalFile;
use kernel::iov::IovIterDest;
use kernel::iov::IovIterSource;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use vfs::address_space;
use vfs::address_space::FolioRead;
use vfs::file;
use vfs::folio::LockedFolio;
use vfs::inode::NewInode;
use vfs::memory::NoFs;
use vfs::readahead::Readahead;
use vfs::vm;
use vfs::vm::WriteFault;
use vfs::writeback::WritebackControl;

use crate::inode;
use crate::inode::pages;
use crate::Inode;
use crate::Kiocb;
use crate::Memfs;

/// Makes a new inode, whose mode is that of a regular file, one that can be opened, mapped and cached.
pub(crate) fn set_operations(new: &mut NewInode<Memfs>) -> Result {
    new.set_file_operations::<OpenFile>()?;
    new.set_address_space_operations::<PageCache>();
    // A folio may be of many pages. Nothing here depends on how many.
    new.allow_large_folios();
    Ok(())
}

/// The place of a byte: the number of its page.
fn index(pos: u64) -> u64 {
    pos / PAGE_SIZE as u64
}

/// Has the disk hold a page for each byte of `bytes`, which are some.
///
/// # Errors
///
/// `ENOSPC`, and nothing is taken. `ENOMEM`; pages that were added before stay, and are zeroes as the
/// holes were.
fn take_space(inode: &Inode, bytes: Range<u64>) -> Result {
    let store = inode.sb().data();
    // When memory is short, the kernel writes folios back and evicts files, which wants the lock. So
    // memory that is allocated while it is held must not be got that way.
    let _nofs = NoFs::enter();
    let mut pages = pages(inode)?.lock();
    let range = index(bytes.start)..index(bytes.end - 1) + 1;
    let mut missing = pages.missing(range.clone());
    store.take_pages(missing)?;
    for index in range {
        if pages.get(index).is_some() {
            continue;
        }
        pages.add(index).inspect_err(|_| store.give_back(missing))?;
        missing -= 1;
        inode.add_bytes(PAGE_SIZE as u64);
    }
    Ok(())
}

/// Fills a folio from the disk.
fn fill(inode: &Inode, folio: &LockedFolio<Memfs>) -> Result {
    let pages = pages(inode)?.lock();
    for offset in (0..folio.size()).step_by(PAGE_SIZE) {
        match pages.get(index(folio.pos() + offset as u64)) {
            Some(page) => folio.copy_in(offset, page)?,
            None => folio.zero(offset..offset + PAGE_SIZE),
        }
    }
    folio.mark_uptodate(0..folio.size());
    Ok(())
}

/// The file is going to end behind `size`, its end so far. What programs stored behind that end through a
/// mapping must not come to light.
fn zero_behind(inode: &Inode, size: u64) {
    if size % PAGE_SIZE as u64 == 0 {
        return;
    }
    // On the disk, and so in a folio that will be read from there, there are zeroes already.
    if let Some(folio) = inode.lock_folio(size) {
        folio.zero((size - folio.pos()) as usize..folio.size());
    }
}

/// Changes the size. Called with the inode's lock held.
pub(crate) fn set_size(inode: &Inode, size: u64) -> Result {
    let pages = pages(inode)?;
    let old = inode.size();
    // Page faults and reads that would bring folios back wait until we are done.
    let _cache = inode.lock_page_cache();
    if size >= old {
        zero_behind(inode, old);
        inode.set_size(size);
        return Ok(());
    }
    // First the size, which keeps new folios from being made behind it; then the folios, whose writeback
    // is waited for; then there is nobody left who would use the pages on the disk.
    inode.set_size(size);
    inode.truncate_page_cache(size);
    let gone = pages.lock().truncate(size);
    inode.sb().data().give_back(gone);
    inode.sub_bytes(gone * PAGE_SIZE as u64);
    Ok(())
}

/// The operations of open files. What is not here (splice, seek, leases ...) the kernel does by itself.
struct OpenFile;

#[vtable]
impl file::Operations for OpenFile {
    type FileSystem = Memfs;
    type Mappings = Mappings;

    fn read_iter(kiocb: &mut Kiocb<'_>, to: &mut IovIterDest<'_>) -> Result<usize> {
        kiocb.read_from_page_cache(to)
    }

    fn write_iter(kiocb: &mut Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<usize> {
        let inode = kiocb.inode();
        let count = {
            let _lock = inode.lock();
            if kiocb.write_checks(from)? == 0 {
                return Ok(0);
            }
            kiocb.modified()?;
            let size = inode.size();
            if kiocb.pos() > size {
                zero_behind(inode, size);
            }
            // Calls `write_begin` and `write_end` below for each folio.
            kiocb.write_to_page_cache(from)?
        };
        // For O_SYNC and the like. Must not hold the lock, since `fsync` may take it.
        kiocb.write_sync(count)
    }

    fn fsync(inode: &Inode, file: &LocalFile, start: u64, last: u64, data_only: bool) -> Result {
        file::write_and_wait(file, start, last)?;
        if !data_only {
            inode::save(inode)?;
        }
        Ok(())
    }
}

/// The operations of the page cache.
struct PageCache;

#[vtable]
impl address_space::Operations for PageCache {
    type FileSystem = Memfs;

    /// Dropping the folio unlocks it. If it is not up to date then, its readers get `EIO`.
    fn read_folio(_file: Option<&LocalFile>, folio: LockedFolio<Memfs>) -> Result<FolioRead> {
        let inode = folio.inode().ok_or(EINVAL)?;
        fill(inode, &folio)?;
        Ok(FolioRead::Started)
    }

    fn readahead(folios: Readahead<'_, Memfs>) {
        let inode = folios.inode();
        for folio in folios {
            // A folio that is not filled now is read again by who needs it, who also gets the error.
            if fill(inode, &folio).is_err() {
                return;
            }
        }
    }

    fn write_begin(
        kiocb: Option<&Kiocb<'_>>,
        inode: &Inode,
        pos: u64,
        len: usize,
    ) -> Result<LockedFolio<Memfs>> {
        let folio = inode.write_begin_folio(kiocb, pos, len)?;
        let end = folio.end().min(pos + len as u64);
        take_space(inode, pos..end)?;
        // A folio that is overwritten as a whole need not be read before.
        if !folio.is_uptodate() && (pos, end) != (folio.pos(), folio.end()) {
            fill(inode, &folio)?;
        }
        Ok(folio)
    }

    fn write_end(
        _kiocb: Option<&Kiocb<'_>>,
        inode: &Inode,
        pos: u64,
        _len: usize,
        copied: usize,
        folio: LockedFolio<Memfs>,
    ) -> Result<usize> {
        let start = (pos - folio.pos()) as usize;
        let bytes = start..start + copied;
        // A folio was not read if it was to be overwritten as a whole. When only a part came, the rest is
        // not known, and nothing counts. The kernel tries again with less.
        if copied == 0 || !folio.is_uptodate() && bytes != (0..folio.size()) {
            return Ok(0);
        }
        folio.mark_uptodate(bytes.clone());
        folio.mark_dirty(bytes);
        // While the folio is locked: writeback does not write what lies behind the end.
        let end = pos + copied as u64;
        if end > inode.size() {
            inode.set_size(end);
            inode.mark_dirty();
        }
        Ok(copied)
    }

    fn writepages(inode: &Inode, control: &mut WritebackControl) -> Result {
        let pages = pages(inode)?;
        control.for_each_dirty(inode, |_, folio| {
            let size = inode.size().saturating_sub(folio.pos());
            let size = size.min(folio.size() as u64) as usize;
            // Programs may have stored there through a mapping; see `zero_behind`.
            folio.zero(size..folio.size());
            let folio = folio.start_writeback()?;
            let mut pages = pages.lock();
            let mut from = 0;
            while from < size {
                let Some(dirty) = folio.next_dirty(from..size) else {
                    break;
                };
                from = dirty.end;
                for offset in dirty.step_by(PAGE_SIZE) {
                    // Without a page on the disk, nobody was allowed to store there: it is a hole still.
                    if let Some(page) = pages.get_mut(index(folio.pos() + offset as u64)) {
                        folio.copy_out(offset, page)?;
                    }
                }
            }
            // The folio is dropped: its writeback is over. With a disk, a bio would carry it on.
            Ok(())
        })
    }
}

/// The operations of mappings.
struct Mappings;

#[vtable]
impl vm::Operations for Mappings {
    type FileSystem = Memfs;

    /// Called at the first store to a page that is clean. An error here is a `SIGBUS` there.
    fn page_mkwrite(fault: &WriteFault<'_, Memfs>) -> Result<Option<LockedFolio<Memfs>>> {
        let inode = fault.inode();
        let _fault = inode.start_page_fault();
        file::update_time(fault.file())?;
        let Some((folio, len)) = fault.lock_folio() else {
            // Truncated meanwhile. The fault is tried again and finds out where it is now.
            return Ok(None);
        };
        take_space(inode, folio.pos()..folio.pos() + len as u64)?;
        folio.mark_dirty(0..len);
        folio.wait_stable();
        Ok(Some(folio))
    }
}
