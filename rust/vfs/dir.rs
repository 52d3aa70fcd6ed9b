// SPDX-License-Identifier: GPL-2.0

//! Open directories: `struct file_operations` of directories, and the listing of names.
//!
//! Each open directory has data of the file system's own, made by
//! [`open`](Operations::open) and dropped when the file is closed.
//!
//! C header: `include/linux/fs.h`.

use core::marker::PhantomData;
use kernel::ffi::c_int;
use kernel::ffi::c_long;
use kernel::ffi::c_uint;
use kernel::ffi::c_ulong;

use ferrofs_bindings as bindings;
use kernel::error::from_result;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::fs::File;
use kernel::fs::LocalFile;
use kernel::prelude::*;
use kernel::types::Opaque;
use pin_init::PinInit;

use crate::file::Opening;
use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::inode::NewInode;
use crate::ioctl;

/// The kind of file that a name is of, as `readdir(3)` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileType {
    /// Not known without a look at the inode.
    Unknown,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Socket,
}

impl FileType {
    /// The type that a mode tells.
    pub fn from_mode(mode: u16) -> Self {
        match (u32::from(mode) & bindings::S_IFMT) >> 12 {
            bindings::DT_FIFO => Self::Fifo,
            bindings::DT_CHR => Self::CharDevice,
            bindings::DT_DIR => Self::Directory,
            bindings::DT_BLK => Self::BlockDevice,
            bindings::DT_REG => Self::Regular,
            bindings::DT_LNK => Self::Symlink,
            bindings::DT_SOCK => Self::Socket,
            _ => Self::Unknown,
        }
    }

    fn to_raw(self) -> c_uint {
        match self {
            Self::Unknown => bindings::DT_UNKNOWN,
            Self::Fifo => bindings::DT_FIFO,
            Self::CharDevice => bindings::DT_CHR,
            Self::Directory => bindings::DT_DIR,
            Self::BlockDevice => bindings::DT_BLK,
            Self::Regular => bindings::DT_REG,
            Self::Symlink => bindings::DT_LNK,
            Self::Socket => bindings::DT_SOCK,
        }
    }
}

/// Takes the names of a directory: `struct dir_context`.
///
/// # Invariants
///
/// The C object is valid and used by one iteration only.
#[repr(transparent)]
pub struct Context(Opaque<bindings::dir_context>);

impl Context {
    /// # Safety
    ///
    /// `context` must be what `->iterate_shared` was called with, for `'a`.
    unsafe fn from_ptr<'a>(context: *mut bindings::dir_context) -> &'a mut Self {
        // SAFETY: By this function's contract; `Context` is transparent.
        unsafe { &mut *context.cast() }
    }

    /// The position from which the caller wants names: 0 to begin with, or one that was set before a
    /// name was given.
    pub fn position(&self) -> i64 {
        // SAFETY: By the type invariants.
        unsafe { (*self.0.get()).pos }
    }

    /// Sets the position of the name that is given next, or of the end.
    pub fn set_position(&mut self, position: i64) {
        // SAFETY: By the type invariants.
        unsafe { (*self.0.get()).pos = position };
    }

    /// Gives a name; it lies at the current position. `false` means that the caller has enough, and
    /// that the name must be given again when it comes back.
    ///
    /// Writes to user memory: must be called without locks that a page fault may need.
    #[must_use]
    pub fn emit(&mut self, name: &[u8], ino: u64, file_type: FileType) -> bool {
        // The object is part of a larger one of the caller's, which the actor gets at by this pointer.
        let context = self.0.get();
        let Ok(length) = c_int::try_from(name.len()) else {
            return false;
        };
        // SAFETY: By the type invariants the context is valid; the actor is its own, and the name has that
        // length.
        unsafe {
            let Some(actor) = (*context).actor else {
                return false;
            };
            let types = bindings::S_DT_MASK | (*context).dt_flags_mask;
            actor(
                context,
                name.as_ptr().cast(),
                length,
                (*context).pos,
                ino,
                file_type.to_raw() & types,
            )
        }
    }
}

/// How many bits a position of a directory may have, by who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PositionWidth {
    /// 31 bits: a 32-bit program, or NFS version 2.
    Narrow,
    /// 63 bits.
    Wide,
}

impl PositionWidth {
    /// The width that who opens this directory can take.
    pub fn of(file: &Opening<'_>) -> Self {
        // SAFETY: The file is valid; the rest asks about the current task.
        if unsafe { bindings::file_has_narrow_positions(file.as_ptr()) } {
            Self::Narrow
        } else {
            Self::Wide
        }
    }
}

/// Moves the position of an open directory as `lseek(2)` wants it.
///
/// Positions up to `max` are possible; `SEEK_END` counts from `end`.
///
/// # Errors
///
/// `EINVAL` for a position out of that range.
pub fn seek(file: &LocalFile, offset: i64, whence: i32, max: i64, end: i64) -> Result<i64> {
    // SAFETY: The file is valid; the function takes what locks the position needs.
    let position =
        unsafe { bindings::generic_file_llseek_size(file.as_ptr(), offset, whence, max, end) };
    match c_int::try_from(position) {
        Ok(errno) if errno < 0 => Err(Error::from_errno(errno)),
        _ => Ok(position),
    }
}

/// The operations of an open directory.
#[vtable]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// The data of an open directory. Several tasks may share an open directory.
    type OpenData: Send + Sync;

    /// Opens the directory.
    fn open(
        dir: &Inode<Self::FileSystem>,
        file: &Opening<'_>,
    ) -> Result<impl PinInit<Self::OpenData, Error>>;

    /// Gives names, from the position of `context` on, until it has enough or there are no more.
    ///
    /// The directory is locked shared, and exists still (it may have been removed since it was
    /// opened, but then this is not called).
    fn iterate(
        dir: &Inode<Self::FileSystem>,
        file: &LocalFile,
        open: &Self::OpenData,
        context: &mut Context,
    ) -> Result;

    /// Moves the position; gives the new one. See [`seek`].
    fn seek(
        dir: &Inode<Self::FileSystem>,
        file: &LocalFile,
        open: &Self::OpenData,
        offset: i64,
        whence: i32,
    ) -> Result<i64>;

    /// Brings the directory to stable storage; without what only describes it (times) when
    /// `data_only`.
    fn fsync(dir: &Inode<Self::FileSystem>, file: &LocalFile, data_only: bool) -> Result;

    /// Answers an ioctl. `ENOTTY` for unknown ones.
    fn ioctl(
        _dir: &Inode<Self::FileSystem>,
        _file: &File,
        _command: ioctl::Command,
    ) -> Result<c_long> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

impl<F: FileSystem> NewInode<F> {
    /// Makes this inode, which must be a directory, one that is opened with the operations `T`.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` when it is none.
    pub fn set_dir_operations<T: Operations<FileSystem = F>>(&mut self) -> Result {
        if !self.is_dir() {
            return Err(ENOTDIR);
        }
        let table: &'static _ = &Glue::<T>::TABLE;
        // SAFETY: The inode is new, so that nobody else uses this field; the table is a constant for
        // inodes of `F`.
        unsafe { (*self.as_ptr()).__bindgen_anon_3.i_fop = table };
        Ok(())
    }
}

/// The functions of the C structure.
///
/// All are called by the kernel only, with a file that was opened by [`Glue::open`] on an inode
/// that [`NewInode::set_dir_operations`] made ready, but for `open` itself.
struct Glue<T: Operations>(PhantomData<T>);

impl<T: Operations> Glue<T> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        llseek: Some(Self::llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        fsync: Some(Self::fsync),
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
    ) -> (&'a Inode<T::FileSystem>, &'a LocalFile, &'a T::OpenData) {
        // SAFETY: The file is open for the time of the call and holds its inode; its private data is
        // what `open` put there.
        unsafe {
            (
                Inode::from_ptr((*file).f_inode),
                LocalFile::from_raw_file(file),
                &*(*file).private_data.cast::<T::OpenData>(),
            )
        }
    }

    /// What an ioctl is about.
    ///
    /// # Safety
    ///
    /// See [`Glue`].
    unsafe fn shared_arguments<'a>(
        file: *mut bindings::file,
    ) -> (&'a Inode<T::FileSystem>, &'a File) {
        // SAFETY: As in `arguments()`. Who calls an ioctl does not use the position, and so has not found
        // the file by an `fdget_pos()` without the lock.
        unsafe { (Inode::from_ptr((*file).f_inode), File::from_raw_file(file)) }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: The kernel calls with an inode of the file system, and a file that is not yet
            // reachable by anybody else.
            let (inode, opening) = unsafe { (Inode::from_ptr(inode), Opening::from_ptr(file)) };
            let data = KBox::try_pin_init(T::open(inode, &opening)?, GFP_KERNEL)?;
            // SAFETY: As above. The box is dropped in place by `release`, which is called if and only
            // if this function succeeds; until then the data is reached by shared references only.
            unsafe {
                (*file).private_data = KBox::into_raw(Pin::into_inner_unchecked(data)).cast()
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` put the box there, and the file is closed once.
        drop(unsafe { KBox::<T::OpenData>::from_raw((*file).private_data.cast()) });
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
        let (dir, file, open) = unsafe { Self::arguments(file) };
        match T::seek(dir, file, open, offset, whence) {
            Ok(position) => position,
            Err(error) => error.to_errno().into(),
        }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        context: *mut bindings::dir_context,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By this function's contract.
            let (dir, file, open) = unsafe { Self::arguments(file) };
            // SAFETY: The context is the caller's, for the time of the call.
            T::iterate(dir, file, open, unsafe { Context::from_ptr(context) })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        _start: bindings::loff_t,
        _end: bindings::loff_t,
        data_only: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By this function's contract.
            let (dir, file, _) = unsafe { Self::arguments(file) };
            T::fsync(dir, file, data_only != 0)?;
            Ok(0)
        })
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
        let (dir, file) = unsafe { Self::shared_arguments(file) };
        ioctl::answer(T::ioctl(
            dir,
            file,
            ioctl::Command::native(command, argument),
        ))
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
        let (dir, file) = unsafe { Self::shared_arguments(file) };
        ioctl::answer(T::ioctl(
            dir,
            file,
            ioctl::Command::compat(command, argument),
        ))
    }
}
