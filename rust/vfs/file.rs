// SPDX-License-Identifier: GPL-2.0

//! Open regular files: `struct file_operations`.
//!
//! C header: `include/linux/fs.h`.

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::error::from_err_ptr;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::ffi::c_int;
use kernel::ffi::c_long;
use kernel::ffi::c_uint;
use kernel::ffi::c_ulong;
use kernel::fs::File;
use kernel::fs::LocalFile;
use kernel::iov::IovIterDest;
use kernel::iov::IovIterSource;
use kernel::prelude::*;

use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::inode::NewInode;
use crate::ioctl;
use crate::kiocb::Kiocb;
use crate::transaction;
use crate::vm;

/// What the files of a file system can do, for the kernel to know beforehand.
#[derive(Clone, Copy, Default)]
pub struct Features(u32);

impl Features {
    /// Nothing special.
    pub const NONE: Self = Features(0);
    /// Buffered reads can wait for pages without blocking a thread (io_uring).
    pub const ASYNC_BUFFERED_READ: Self = Features(1 << 0);
    /// Buffered writes honour `IOCB_NOWAIT`.
    pub const ASYNC_BUFFERED_WRITE: Self = Features(1 << 1);
    /// Direct writes within the file run in parallel.
    pub const PARALLEL_DIRECT_WRITE: Self = Features(1 << 3);
    /// `RWF_DONTCACHE` is understood.
    pub const DONTCACHE: Self = Features(1 << 7);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Features(self.0 | other.0)
    }
}

/// A file that is being opened, which nobody else has yet.
///
/// It is not a [`File`]: no reference to it can be kept, for if the opening fails, what is left of it is
/// not one.
///
/// # Invariants
///
/// `file` is valid for `'a`, has its inode and its mode, and belongs to the calling `open` alone.
pub struct Opening<'a> {
    file: *mut bindings::file,
    _life: PhantomData<&'a File>,
}

impl Opening<'_> {
    /// # Safety
    ///
    /// `file` must satisfy the type invariants for as long as the result lives.
    pub(crate) unsafe fn from_ptr(file: *mut bindings::file) -> Self {
        // INVARIANT: By this function's contract.
        Self {
            file,
            _life: PhantomData,
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::file {
        self.file
    }

    /// Writes into `buffer` where the mount that the file is opened through is mounted, as the calling task sees
    /// it, and returns the part of `buffer` that holds it. Does not sleep.
    ///
    /// # Errors
    ///
    /// `ENAMETOOLONG` if the path, with one byte more, is longer than `buffer`.
    pub fn mount_point<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
        let size = i32::try_from(buffer.len()).map_err(|_| EINVAL)?;
        // SAFETY: By the type invariants the file is valid, and so is its mount. `d_path()` writes to the `size`
        // bytes of the buffer only.
        let start = from_err_ptr(unsafe {
            bindings::file_mount_path(self.file, buffer.as_mut_ptr().cast(), size)
        })?;
        // The path stands at the end of the buffer, with a NUL behind it.
        let offset = (start as usize).wrapping_sub(buffer.as_ptr() as usize);
        let path = buffer.get(offset..).ok_or(EINVAL)?;
        let length = path.iter().position(|&byte| byte == 0).ok_or(EINVAL)?;
        path.get(..length).ok_or(EINVAL)
    }

    /// Allows requests on this open file that must not sleep.
    pub fn set_nowait_capable(&self) {
        // SAFETY: By the type invariants nobody else looks at the mode of the file.
        unsafe { bindings::file_set_nowait(self.file) };
    }

    /// Allows direct I/O on this open file: [`Kiocb::is_direct`] tells which requests want it.
    pub fn set_direct_capable(&self) {
        // SAFETY: By the type invariants nobody else looks at the mode of the file. Its reads and writes
        // all come to the file system, so that nobody calls the `direct_IO` operation which is not there.
        unsafe { bindings::file_set_can_odirect(self.file) };
    }
}

/// The operations of an open regular file.
///
/// A [`LocalFile`] is one whose position another thread may be about to use without a lock: reads, writes
/// and seeks of a program with one thread do so.
///
/// What is not implemented gets the kernel's generic implementation on the page cache, except for
/// ioctls and `fallocate`, which are refused.
#[vtable]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// How memory mappings of the file work.
    type Mappings: vm::Operations<FileSystem = Self::FileSystem>;

    /// What the kernel may rely on.
    const FEATURES: Features = Features::NONE;

    /// Opens the file. Sleeps.
    fn open(_inode: &Inode<Self::FileSystem>, _file: &Opening<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The last user of an open file is gone, which was open for writing if `writable`. Sleeps.
    fn release(_inode: &Inode<Self::FileSystem>, _writable: bool) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reads; returns the count. `EIOCBQUEUED` if the request [goes on without the caller](Kiocb).
    fn read_iter(
        kiocb: &mut Kiocb<'_, Self::FileSystem>,
        to: &mut IovIterDest<'_>,
    ) -> Result<usize>;

    /// Writes; returns the count. `EIOCBQUEUED` if the request [goes on without the caller](Kiocb).
    fn write_iter(
        kiocb: &mut Kiocb<'_, Self::FileSystem>,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize>;

    /// Moves the position, and returns the new one.
    fn llseek(
        _inode: &Inode<Self::FileSystem>,
        _file: &LocalFile,
        _offset: i64,
        _whence: i32,
    ) -> Result<u64> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Brings bytes `start..=last`, and what is needed to find them, to stable media; with all other
    /// metadata of the file unless `data_only`. Sleeps.
    fn fsync(
        inode: &Inode<Self::FileSystem>,
        file: &LocalFile,
        start: u64,
        last: u64,
        data_only: bool,
    ) -> Result;

    /// Changes the blocks that belong to `offset..offset + len`, as `mode` says (`FALLOC_FL_*`).
    /// The kernel has checked that `len` is not zero and the range fits the largest file. Sleeps.
    fn fallocate(
        _inode: &Inode<Self::FileSystem>,
        _file: &File,
        _mode: u32,
        _offset: u64,
        _len: u64,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Answers an ioctl. `ENOTTY` for unknown ones.
    fn ioctl(
        _inode: &Inode<Self::FileSystem>,
        _file: &File,
        _command: ioctl::Command,
    ) -> Result<c_long> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Whether reads may go on without asking the file system: it is asked before `splice(2)` reads.
    ///
    /// # Errors
    ///
    /// Why not.
    fn check_read(_inode: &Inode<Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

impl<F: FileSystem> NewInode<F> {
    /// Makes this inode, which must be a regular file, one that is opened with the operations `T`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is none.
    pub fn set_file_operations<T: Operations<FileSystem = F>>(&mut self) -> Result {
        if !self.is_regular() {
            return Err(EINVAL);
        }
        let table: &'static _ = &Glue::<T>::TABLE;
        // SAFETY: The inode is new, so that nobody else uses this field; the table is a constant for
        // inodes of `F`.
        unsafe { (*self.as_ptr()).__bindgen_anon_3.i_fop = table };
        Ok(())
    }
}

/// Moves the position of an open file as `lseek(2)` wants it, for all but `SEEK_HOLE` and
/// `SEEK_DATA`. Returns the new position.
///
/// # Errors
///
/// `EINVAL` for a position before the start or beyond `max`.
pub fn seek<F: FileSystem>(
    inode: &Inode<F>,
    file: &LocalFile,
    offset: i64,
    whence: i32,
    max: u64,
) -> Result<u64> {
    // SAFETY: The file is valid; the function takes what locks the position needs.
    let pos = unsafe {
        bindings::generic_file_llseek_size(
            file.as_ptr(),
            offset,
            whence,
            max as i64,
            inode.size() as i64,
        )
    };
    u64::try_from(pos).map_err(|_| Error::from_errno(pos as i32))
}

/// Sets the position of an open file to `pos`, which `SEEK_HOLE` or `SEEK_DATA` has found.
///
/// # Errors
///
/// `EINVAL` if it is beyond `max`.
pub fn set_position(file: &LocalFile, pos: u64, max: u64) -> Result<u64> {
    // SAFETY: The file is valid.
    let pos = unsafe { bindings::vfs_setpos(file.as_ptr(), pos as i64, max as i64) };
    u64::try_from(pos).map_err(|_| Error::from_errno(pos as i32))
}

/// `EBUSY` within a transaction: the file may be one of another file system, which must not be entered then.
fn outside_of_transactions() -> Result {
    if transaction::is_open() {
        return Err(EBUSY);
    }
    Ok(())
}

/// Notes that the file was read, for its access time; not within a transaction.
pub fn accessed(file: &LocalFile) {
    if outside_of_transactions().is_ok() {
        // SAFETY: The file is valid.
        unsafe { bindings::file_accessed(file.as_ptr()) };
    }
}

/// Updates the times of a file that is written to.
///
/// # Errors
///
/// `EBUSY` within a transaction, or what the file system's own operation says.
pub fn update_time(file: &LocalFile) -> Result {
    outside_of_transactions()?;
    // SAFETY: The file is valid.
    to_result(unsafe { bindings::file_update_time(file.as_ptr()) })
}

/// Removes privileges and updates times, as every change of the contents must. Called with the
/// inode's lock held.
///
/// # Errors
///
/// `EBUSY` within a transaction, or what the file system's own operations say.
pub fn modified(file: &LocalFile) -> Result {
    outside_of_transactions()?;
    // SAFETY: The file is valid.
    to_result(unsafe { bindings::file_modified(file.as_ptr()) })
}

/// Writes the dirty folios that touch bytes `start..=last` and waits for them. Sleeps.
///
/// # Errors
///
/// `EBUSY` within a transaction, or an error of writeback that this open file was not yet told of.
pub fn write_and_wait(file: &LocalFile, start: u64, last: u64) -> Result {
    outside_of_transactions()?;
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    // SAFETY: The file is valid.
    to_result(unsafe { bindings::file_write_and_wait_range(file.as_ptr(), start as i64, last) })
}

/// The error of writeback that this open file was not yet told of, if there is one.
///
/// # Errors
///
/// That error.
pub fn check_writeback_error(file: &LocalFile) -> Result {
    // SAFETY: The file is valid.
    to_result(unsafe { bindings::file_check_and_advance_wb_err(file.as_ptr()) })
}

/// The functions of the C structure.
///
/// All are called by the kernel only, with a file of an inode that [`NewInode::set_file_operations`]
/// made ready.
struct Glue<T: Operations>(PhantomData<T>);

impl<T: Operations> Glue<T> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        fop_flags: T::FEATURES.0,
        open: if T::HAS_OPEN {
            Some(Self::open)
        } else {
            Some(bindings::generic_file_open)
        },
        release: optional!(T::HAS_RELEASE, Self::release),
        llseek: if T::HAS_LLSEEK {
            Some(Self::llseek)
        } else {
            Some(bindings::generic_file_llseek)
        },
        read_iter: Some(Self::read_iter),
        write_iter: Some(Self::write_iter),
        mmap_prepare: Some(Self::mmap_prepare),
        // Without huge pages the name is a macro for none.
        #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        fsync: Some(Self::fsync),
        fallocate: optional!(T::HAS_FALLOCATE, Self::fallocate),
        splice_read: Some(Self::splice_read),
        splice_write: Some(bindings::iter_file_splice_write),
        unlocked_ioctl: optional!(T::HAS_IOCTL, Self::unlocked_ioctl),
        compat_ioctl: optional!(T::HAS_IOCTL, Self::compat_ioctl),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe fn arguments<'a>(
        file: *mut bindings::file,
    ) -> (&'a Inode<T::FileSystem>, &'a LocalFile) {
        // SAFETY: The file is open for the time of the call and holds its inode.
        unsafe {
            (
                Inode::from_ptr(bindings::file_inode(file)),
                LocalFile::from_raw_file(file),
            )
        }
    }

    /// As [`Self::arguments`], for the calls that do not come from within the use of a position.
    ///
    /// # Safety
    ///
    /// See [`Glue`].
    unsafe fn shared_arguments<'a>(
        file: *mut bindings::file,
    ) -> (&'a Inode<T::FileSystem>, &'a File) {
        // SAFETY: As in `arguments()`. Who calls `fallocate` or an ioctl does not use the position, and so
        // has not found the file by an `fdget_pos()` without the lock.
        unsafe {
            (
                Inode::from_ptr(bindings::file_inode(file)),
                File::from_raw_file(file),
            )
        }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: Both are valid.
            to_result(unsafe { bindings::generic_file_open(inode, file) })?;
            // SAFETY: By this function's contract the inode is of the file system. The file is not open
            // yet, and nobody else's.
            let (inode, file) = unsafe { (Inode::from_ptr(inode), Opening::from_ptr(file)) };
            T::open(inode, &file)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn release(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // The file has no references left, so that it cannot be lent.
        // SAFETY: By this function's contract.
        let (inode, writable) =
            unsafe { (Inode::from_ptr(inode), bindings::file_is_writable(file)) };
        T::release(inode, writable);
        0
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: c_int,
    ) -> bindings::loff_t {
        // SAFETY: By this function's contract.
        let (inode, file) = unsafe { Self::arguments(file) };
        match T::llseek(inode, file, offset, whence) {
            Ok(pos) => pos as bindings::loff_t,
            Err(error) => error.to_errno().into(),
        }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn read_iter(
        kiocb: *mut bindings::kiocb,
        to: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: Both are valid for the time of the call; a read has a destination.
        let (mut kiocb, to) = unsafe { (Kiocb::from_ptr(kiocb), IovIterDest::from_raw(to)) };
        let asked = to.len();
        let result = T::read_iter(&mut kiocb, to);
        kiocb.answer(result, asked)
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn write_iter(
        kiocb: *mut bindings::kiocb,
        from: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: Both are valid for the time of the call; a write has a source.
        let (mut kiocb, from) = unsafe { (Kiocb::from_ptr(kiocb), IovIterSource::from_raw(from)) };
        let asked = from.len();
        let result = T::write_iter(&mut kiocb, from);
        kiocb.answer(result, asked)
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn mmap_prepare(desc: *mut bindings::vm_area_desc) -> c_int {
        from_result(|| {
            // SAFETY: `desc` is valid for the time of the call.
            unsafe {
                bindings::file_accessed((*desc).file);
                (*desc).vm_ops = vm::table::<T::Mappings>();
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        start: bindings::loff_t,
        last: bindings::loff_t,
        data_only: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By this function's contract.
            let (inode, file) = unsafe { Self::arguments(file) };
            T::fsync(inode, file, start as u64, last as u64, data_only != 0)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn fallocate(
        file: *mut bindings::file,
        mode: c_int,
        offset: bindings::loff_t,
        len: bindings::loff_t,
    ) -> c_long {
        // SAFETY: By this function's contract.
        let (inode, file) = unsafe { Self::shared_arguments(file) };
        match T::fallocate(inode, file, mode as u32, offset as u64, len as u64) {
            Ok(()) => 0,
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn splice_read(
        file: *mut bindings::file,
        pos: *mut bindings::loff_t,
        pipe: *mut kernel::bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
    ) -> isize {
        if T::HAS_CHECK_READ {
            // SAFETY: By this function's contract.
            let (inode, _) = unsafe { Self::arguments(file) };
            if let Err(error) = T::check_read(inode) {
                return error.to_errno() as isize;
            }
        }
        // SAFETY: All are what the kernel passed.
        unsafe { kernel::bindings::filemap_splice_read(file, pos, pipe, len, flags) }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn unlocked_ioctl(
        file: *mut bindings::file,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        // SAFETY: By this function's contract.
        let (inode, file) = unsafe { Self::shared_arguments(file) };
        let command = ioctl::Command::native(command, argument);
        ioctl::answer(T::ioctl(inode, file, command))
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn compat_ioctl(
        file: *mut bindings::file,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        // SAFETY: By this function's contract.
        let (inode, file) = unsafe { Self::shared_arguments(file) };
        let command = ioctl::Command::compat(command, argument);
        ioctl::answer(T::ioctl(inode, file, command))
    }
}
