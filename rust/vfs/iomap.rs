// SPDX-License-Identifier: GPL-2.0

//! The kernel's iomap library: direct I/O, `SEEK_HOLE` and `SEEK_DATA`, `FS_IOC_FIEMAP`, `FIBMAP`
//! and swap files, all on one question to the file system: what lies there?
//!
//! C header: `include/linux/iomap.h`.

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::ffi::c_int;
use kernel::ffi::c_uint;
use kernel::iov::IovIterDest;
use kernel::iov::IovIterSource;
use kernel::prelude::*;

use crate::address_space::SwapArea;
use crate::address_space::SwapExtents;
use crate::block_device::SECTOR_SIZE;
use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::inode_ops::Fiemap;
use crate::kiocb::count_result;
use crate::kiocb::Kiocb;
use crate::transaction;

/// Why iomap asks.
#[derive(Clone, Copy)]
pub struct Request(u32);

impl Request {
    /// The blocks are written to: there must be some.
    pub fn is_write(self) -> bool {
        self.0 & bindings::IOMAP_WRITE != 0
    }

    /// It is for direct I/O.
    pub fn is_direct(self) -> bool {
        self.0 & bindings::IOMAP_DIRECT != 0
    }

    /// The answer must be `EAGAIN` rather than take a sleep.
    pub fn is_nowait(self) -> bool {
        self.0 & bindings::IOMAP_NOWAIT != 0
    }

    /// The answer must be `EAGAIN` if blocks would have to be allocated.
    pub fn is_overwrite_only(self) -> bool {
        self.0 & bindings::IOMAP_OVERWRITE_ONLY != 0
    }
}

/// What lies in a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Hole,
    /// Data in the page cache that has no place on disk yet.
    Delayed,
    /// Blocks on disk from byte `address` of the device on.
    Mapped {
        /// Position on the device in bytes.
        address: u64,
    },
    /// Blocks on disk that read as zeroes.
    Unwritten {
        /// Position on the device in bytes.
        address: u64,
    },
}

/// An answer: what lies in the `len` bytes from `offset` on.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// First byte in the file.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// What lies there.
    pub kind: Kind,
    /// The blocks were just allocated.
    pub new: bool,
    /// Metadata is not yet committed that is needed to find the data, or will be changed once it is
    /// written.
    pub dirty: bool,
}

impl Extent {
    /// Whether this is an answer to the question about byte `pos`. iomap computes with it as it is.
    fn answers(&self, pos: u64) -> bool {
        let sectors = match self.kind {
            Kind::Hole | Kind::Delayed => true,
            Kind::Mapped { address } | Kind::Unwritten { address } => {
                address % SECTOR_SIZE == 0 && address.checked_add(self.len).is_some()
            }
        };
        let end = self.offset.checked_add(self.len);
        sectors
            && end
                .is_some_and(|end| (self.offset..end).contains(&pos) && i64::try_from(end).is_ok())
    }
}

/// The answers.
#[vtable]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// What lies at byte `pos`, for up to `len` bytes. The extent must have `pos` in it. Sleeps unless
    /// `request` says otherwise.
    fn begin(
        inode: &Inode<Self::FileSystem>,
        pos: u64,
        len: u64,
        request: Request,
    ) -> Result<Extent>;

    /// The `len` bytes at `pos` are done with; `written` of them have been worked on.
    fn end(
        _inode: &Inode<Self::FileSystem>,
        _pos: u64,
        _len: u64,
        _written: usize,
        _request: Request,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The end of direct writes.
pub trait DirectWrite: Sized + Send + Sync + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// `len` bytes of the request have been written, from its position on, or `result` tells why not.
    /// `unwritten` is true if part of them lies in unwritten blocks. If that is so, or the write
    /// extended the file, or failed, this may sleep.
    ///
    /// Returns what is to become of the request.
    fn end(
        kiocb: &Kiocb<'_, Self::FileSystem>,
        len: usize,
        result: Result,
        unwritten: bool,
    ) -> Result;
}

/// Reads directly from the device. Moves the position and returns the count. The inode's lock must
/// be held, shared at least. Sleeps unless the request says otherwise.
///
/// # Errors
///
/// `EBUSY` within a transaction; `EINVAL` if the request is not aligned to the device's sectors; `EIOCBQUEUED` if it goes on
/// without the caller.
pub fn direct_read<T: Operations>(
    kiocb: &mut Kiocb<'_, T::FileSystem>,
    to: &mut IovIterDest<'_>,
) -> Result<usize> {
    direct::<T>(kiocb, to.as_raw(), core::ptr::null(), false)
}

/// Writes directly to the device. Moves the position and returns the count. The inode's lock must be
/// held: exclusively if the write extends the file or is not aligned to blocks, and then `wait` must
/// be set. Sleeps unless the request says otherwise.
///
/// # Errors
///
/// `EBUSY` within a transaction; `EINVAL` if the request is not aligned to the device's sectors; `EIOCBQUEUED` if it goes on
/// without the caller; `ENOTBLK` if it must go through the page cache.
pub fn direct_write<T, D>(
    kiocb: &mut Kiocb<'_, T::FileSystem>,
    from: &mut IovIterSource<'_>,
    wait: bool,
) -> Result<usize>
where
    T: Operations,
    D: DirectWrite<FileSystem = T::FileSystem>,
{
    direct::<T>(kiocb, from.as_raw(), &DirectGlue::<D>::TABLE, wait)
}

/// Direct I/O of `kiocb` with `iter`, whose end `end` is told of if it is not null.
fn direct<T: Operations>(
    kiocb: &mut Kiocb<'_, T::FileSystem>,
    iter: *mut bindings::iov_iter,
    end: *const bindings::iomap_dio_ops,
    wait: bool,
) -> Result<usize> {
    let request = kiocb.get()?;
    if transaction::is_open() {
        // The memory may be that of a file of another file system.
        return Err(EBUSY);
    }
    let waited_for = wait || kiocb.is_sync();
    let flags = if wait {
        bindings::IOMAP_DIO_FORCE_WAIT
    } else {
        0
    };
    // SAFETY: The request is valid, and both callers pass a valid vector; the tables are constants.
    let result = count_result(unsafe {
        bindings::iomap_dio_rw(
            request,
            iter,
            &Glue::<T>::TABLE,
            end,
            flags,
            core::ptr::null_mut(),
            0,
        )
    });
    if waited_for && result == Err(EIOCBQUEUED) {
        // An error that one of the file system's methods has returned: nothing was queued.
        return Err(EIO);
    }
    kiocb.queued_if(result)
}

fn position(pos: i64) -> Result<u64> {
    u64::try_from(pos).map_err(|_| Error::from_errno(pos as i32))
}

/// The position of the next hole from `pos` on. The inode's lock must be held shared. Sleeps.
///
/// # Errors
///
/// `ENXIO` if `pos` is beyond the end.
pub fn seek_hole<T: Operations>(inode: &Inode<T::FileSystem>, pos: i64) -> Result<u64> {
    // SAFETY: The inode is valid.
    position(unsafe { bindings::iomap_seek_hole(inode.as_ptr(), pos, &Glue::<T>::TABLE) })
}

/// The position of the next data from `pos` on. The inode's lock must be held shared. Sleeps.
///
/// # Errors
///
/// `ENXIO` if there is none.
pub fn seek_data<T: Operations>(inode: &Inode<T::FileSystem>, pos: i64) -> Result<u64> {
    // SAFETY: The inode is valid.
    position(unsafe { bindings::iomap_seek_data(inode.as_ptr(), pos, &Glue::<T>::TABLE) })
}

/// Lists the extents in `len` bytes from `start` on. The inode's lock must be held shared. Sleeps.
///
/// # Errors
///
/// What the operations or user memory say.
pub fn fiemap<T: Operations>(
    inode: &Inode<T::FileSystem>,
    mut map: Fiemap<'_>,
    start: u64,
    len: u64,
) -> Result {
    // SAFETY: The inode and the request are valid. The structure is the same as the kernel crate's.
    to_result(unsafe {
        bindings::iomap_fiemap(
            inode.as_ptr(),
            map.as_ptr().cast(),
            start,
            len,
            &Glue::<T>::TABLE,
        )
    })
}

/// The block of the device that holds block `block` of the file, zero if none does. Writes dirty
/// folios first. Sleeps.
pub fn bmap<T: Operations>(inode: &Inode<T::FileSystem>, block: u64) -> u64 {
    // SAFETY: The inode is valid.
    unsafe { bindings::iomap_bmap(inode.mapping_ptr(), block, &Glue::<T>::TABLE) }
}

/// Makes a swap area of a file. Sleeps.
///
/// # Errors
///
/// `EINVAL` if the file has holes.
pub fn swap_activate<'a, T: Operations>(
    area: SwapArea<'a, T::FileSystem>,
) -> Result<SwapExtents<'a>> {
    // SAFETY: By the invariants of `SwapArea`, the file is one of the operations' file system.
    let extents = unsafe {
        bindings::iomap_swapfile_activate(area.info, area.file, area.span, &Glue::<T>::TABLE)
    };
    to_result(extents)?;
    Ok(SwapExtents::new(area, extents))
}

/// The functions of `struct iomap_ops`, called by iomap only, from the functions above.
struct Glue<T: Operations>(PhantomData<T>);

impl<T: Operations> Glue<T> {
    const TABLE: bindings::iomap_ops = bindings::iomap_ops {
        iomap_begin: Some(Self::begin),
        iomap_end: optional!(T::HAS_END, Self::end),
        iomap_next: None,
    };

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn begin(
        inode: *mut bindings::inode,
        pos: bindings::loff_t,
        len: bindings::loff_t,
        flags: c_uint,
        iomap: *mut bindings::iomap,
        _srcmap: *mut bindings::iomap,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The inode is valid for the time of the call.
            let inode = unsafe { Inode::<T::FileSystem>::from_ptr(inode) };
            let extent = T::begin(inode, pos as u64, len as u64, Request(flags))?;
            if !extent.answers(pos as u64) {
                kernel::pr_warn_once!("an extent does not answer what was asked\n");
                return Err(EIO);
            }
            let (kind, address) = match extent.kind {
                Kind::Hole => (bindings::IOMAP_HOLE, u64::MAX),
                Kind::Delayed => (bindings::IOMAP_DELALLOC, u64::MAX),
                Kind::Mapped { address } => (bindings::IOMAP_MAPPED, address),
                Kind::Unwritten { address } => (bindings::IOMAP_UNWRITTEN, address),
            };
            let mut flags = 0;
            if extent.new {
                flags |= bindings::IOMAP_F_NEW;
            }
            if extent.dirty {
                flags |= bindings::IOMAP_F_DIRTY;
            }
            let bdev = inode.sb().bdev().ok_or(EINVAL)?;
            // SAFETY: `iomap` is valid for the time of the call.
            unsafe {
                (*iomap).addr = address;
                (*iomap).offset = extent.offset as i64;
                (*iomap).length = extent.len;
                (*iomap).type_ = kind as u16;
                (*iomap).flags = flags as u16;
                (*iomap).bdev = bdev.as_ptr();
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn end(
        inode: *mut bindings::inode,
        pos: bindings::loff_t,
        len: bindings::loff_t,
        written: isize,
        flags: c_uint,
        _iomap: *mut bindings::iomap,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The inode is valid for the time of the call.
            let inode = unsafe { Inode::from_ptr(inode) };
            let written = usize::try_from(written).unwrap_or(0);
            T::end(inode, pos as u64, len as u64, written, Request(flags))?;
            Ok(0)
        })
    }
}

/// The functions of `struct iomap_dio_ops`, called by iomap only, from [`direct_write`].
struct DirectGlue<D: DirectWrite>(PhantomData<D>);

impl<D: DirectWrite> DirectGlue<D> {
    const TABLE: bindings::iomap_dio_ops = bindings::iomap_dio_ops {
        end_io: Some(Self::end_io),
        submit_io: None,
        bio_set: core::ptr::null_mut(),
    };

    /// # Safety
    ///
    /// See [`DirectGlue`].
    unsafe extern "C" fn end_io(
        kiocb: *mut bindings::kiocb,
        len: isize,
        error: c_int,
        flags: c_uint,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The request is valid for the time of the call.
            let kiocb = unsafe { Kiocb::from_ptr(kiocb) };
            let len = usize::try_from(len).unwrap_or(0);
            let unwritten = flags & bindings::IOMAP_DIO_UNWRITTEN != 0;
            D::end(&kiocb, len, to_result(error), unwritten)?;
            Ok(0)
        })
    }
}

#[kunit_tests(vfs_iomap)]
mod tests {
    use super::*;

    fn extent(offset: u64, len: u64, kind: Kind) -> Extent {
        Extent {
            offset,
            len,
            kind,
            new: false,
            dirty: false,
        }
    }

    #[test]
    fn extents_must_hold_the_position() {
        assert!(extent(4096, 4096, Kind::Hole).answers(4096));
        assert!(extent(4096, 4096, Kind::Hole).answers(8191));
        assert!(!extent(4096, 4096, Kind::Hole).answers(4095));
        assert!(!extent(4096, 4096, Kind::Hole).answers(8192));
        assert!(!extent(4096, 0, Kind::Delayed).answers(4096));
    }

    #[test]
    fn extents_must_not_overflow() {
        let largest = i64::MAX as u64;
        assert!(extent(0, largest, Kind::Hole).answers(0));
        assert!(!extent(1, largest, Kind::Hole).answers(1));
        assert!(!extent(4096, u64::MAX, Kind::Hole).answers(4096));
        let address = u64::MAX - 511;
        assert!(!extent(0, 4096, Kind::Mapped { address }).answers(0));
    }

    #[test]
    fn extents_begin_at_sectors() {
        assert!(extent(0, 4096, Kind::Mapped { address: 512 }).answers(0));
        assert!(!extent(0, 4096, Kind::Mapped { address: 511 }).answers(0));
        assert!(!extent(0, 4096, Kind::Unwritten { address: 1 }).answers(0));
    }
}
