// SPDX-License-Identifier: GPL-2.0

//! Regular files: the operations of an open file and of its page cache.

use kernel::fs::LocalFile;
use kernel::iov::IovIterDest;
use kernel::iov::IovIterSource;
use kernel::prelude::*;
use vfs::address_space;
use vfs::address_space::FolioRead;
use vfs::address_space::SwapArea;
use vfs::address_space::SwapExtents;
use vfs::file;
use vfs::file::Features;
use vfs::file::Opening;
use vfs::folio::LockedFolio;
use vfs::inode::flags;
use vfs::inode::NewInode;
use vfs::iomap;
use vfs::readahead::Readahead;
use vfs::writeback::WritebackControl;

pub(crate) use crate::extents::fiemap;
use crate::extents::Reported;
use crate::fsync;
use crate::history;
use crate::mmap;
use crate::options::Flags;
use crate::read;
use crate::write;
use crate::writeback;
use crate::Ferrofs;
use crate::Inode;
use crate::Kiocb;

/// `SEEK_DATA` of `lseek(2)`.
const SEEK_DATA: i32 = 3;
/// `SEEK_HOLE` of `lseek(2)`.
const SEEK_HOLE: i32 = 4;

/// Makes a new inode, whose mode is that of a regular file, one that can be opened and read.
pub(crate) fn set_operations(inode: &mut NewInode<Ferrofs>) -> Result {
    inode.set_file_operations::<Files>()?;
    inode.set_address_space_operations::<Pages>();
    inode.allow_large_folios();
    Ok(())
}

/// Fails changes of a file that became immutable when it was open for writing already.
///
/// # Errors
///
/// `EPERM`.
pub(crate) fn check_mutable(inode: &Inode) -> Result {
    if inode.has_flags(flags::IMMUTABLE) {
        return Err(EPERM);
    }
    Ok(())
}

/// The operations of open regular files.
pub(crate) struct Files;

#[vtable]
impl file::Operations for Files {
    type FileSystem = Ferrofs;
    type Mappings = mmap::Mappings;

    const FEATURES: Features = Features::ASYNC_BUFFERED_READ
        .and(Features::ASYNC_BUFFERED_WRITE)
        .and(Features::PARALLEL_DIRECT_WRITE)
        .and(Features::DONTCACHE);

    fn open(inode: &Inode, file: &Opening<'_>) -> Result {
        history::note_mount_point(inode.sb(), file)?;
        file.set_nowait_capable();
        file.set_direct_capable();
        Ok(())
    }

    fn release(inode: &Inode, writable: bool) {
        if !writable || !inode.data().io.take_replaced() {
            return;
        }
        let settings = inode.sb().data().settings();
        if settings.has(Flags::AUTO_DA_ALLOC) {
            // An error is not lost: it is recorded in the mapping, for those who sync.
            let _ = writeback::flush_for_replace(inode);
        }
    }

    fn read_iter(kiocb: &mut Kiocb<'_>, to: &mut IovIterDest<'_>) -> Result<usize> {
        read::read(kiocb, to)
    }

    fn write_iter(kiocb: &mut Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<usize> {
        write::write(kiocb, from)
    }

    fn llseek(inode: &Inode, file: &LocalFile, offset: i64, whence: i32) -> Result<u64> {
        let max = inode.sb().max_bytes();
        let pos = match whence {
            SEEK_DATA => {
                let _lock = inode.lock_shared();
                iomap::seek_data::<Reported>(inode, offset)?
            }
            SEEK_HOLE => {
                let _lock = inode.lock_shared();
                iomap::seek_hole::<Reported>(inode, offset)?
            }
            _ => return file::seek(inode, file, offset, whence, max),
        };
        file::set_position(file, pos, max)
    }

    fn fsync(inode: &Inode, file: &LocalFile, start: u64, last: u64, data_only: bool) -> Result {
        fsync::fsync(inode, file, start, last, data_only)
    }
}

/// The operations of the page cache of regular files.
pub(crate) struct Pages;

#[vtable]
impl address_space::Operations for Pages {
    type FileSystem = Ferrofs;

    fn read_folio(_file: Option<&LocalFile>, folio: LockedFolio<Ferrofs>) -> Result<FolioRead> {
        read::read_folio(folio)
    }

    fn readahead(folios: Readahead<'_, Ferrofs>) {
        read::readahead(folios);
    }

    fn writepages(inode: &Inode, control: &mut WritebackControl) -> Result {
        writeback::writepages(inode, control)
    }

    fn write_begin(
        kiocb: Option<&Kiocb<'_>>,
        inode: &Inode,
        pos: u64,
        len: usize,
    ) -> Result<LockedFolio<Ferrofs>> {
        write::begin(kiocb, inode, pos, len)
    }

    fn write_end(
        _kiocb: Option<&Kiocb<'_>>,
        inode: &Inode,
        pos: u64,
        len: usize,
        copied: usize,
        folio: LockedFolio<Ferrofs>,
    ) -> Result<usize> {
        write::end(inode, pos, len, copied, folio)
    }

    fn bmap(inode: &Inode, block: u64) -> u64 {
        iomap::bmap::<Reported>(inode, block)
    }

    fn swap_activate<'a>(_inode: &Inode, area: SwapArea<'a, Ferrofs>) -> Result<SwapExtents<'a>> {
        iomap::swap_activate::<Reported>(area)
    }
}
