// SPDX-License-Identifier: GPL-2.0

//! What ioctls of files and directories have in common.
//!
//! The kernel itself answers those for flags (`FS_IOC_GETFLAGS` and its kin) through
//! [`fileattr_get`](crate::inode_ops::Operations::fileattr_get), as well as `FS_IOC_FIEMAP`,
//! `FIBMAP` and `FS_IOC_GETFSUUID`; a file system sees the rest.
//!
//! C headers: `include/uapi/linux/fs.h`, `include/linux/mount.h`.

use core::marker::PhantomData;
use kernel::ffi::c_long;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::ioctl::_IOC_SIZE;
use kernel::ioctl::_IOR;
use kernel::ioctl::_IOW;
use kernel::prelude::*;
use kernel::uaccess::UserPtr;
use kernel::uaccess::UserSlice;

use crate::idmap::IdMap;

/// Gets the generation of an inode (`FS_IOC_GETVERSION`). Takes an `int`, whatever the number says.
pub const GET_VERSION: u32 = _IOR::<c_long>(b'v' as u32, 1);
/// Sets the generation of an inode (`FS_IOC_SETVERSION`). Takes an `int`, whatever the number says.
pub const SET_VERSION: u32 = _IOW::<c_long>(b'v' as u32, 2);

const GET_VERSION_COMPAT: u32 = _IOR::<i32>(b'v' as u32, 1);
const SET_VERSION_COMPAT: u32 = _IOW::<i32>(b'v' as u32, 2);

/// An ioctl that a program asks for.
///
/// Programs of 32 bits come with commands in which `long` had the size 4; those that a file system
/// needs are translated here.
#[derive(Clone, Copy)]
pub struct Command {
    number: u32,
    argument: usize,
}

impl Command {
    pub(crate) fn native(number: u32, argument: usize) -> Self {
        Self { number, argument }
    }

    pub(crate) fn compat(number: u32, argument: usize) -> Self {
        let number = match number {
            GET_VERSION_COMPAT => GET_VERSION,
            SET_VERSION_COMPAT => SET_VERSION,
            other => other,
        };
        // A pointer of a 32-bit program has 32 bits.
        Self::native(number, argument & u32::MAX as usize)
    }

    /// The number of the command (`_IO*()`).
    pub fn number(self) -> u32 {
        self.number
    }

    /// The argument as a number.
    pub fn argument(self) -> usize {
        self.argument
    }

    /// The memory of the caller that the argument points to, as large as the number says.
    pub fn memory(self) -> UserSlice {
        UserSlice::new(UserPtr::from_addr(self.argument), _IOC_SIZE(self.number))
    }

    /// Like [`Self::memory`], for commands whose number tells another size than they use.
    pub fn memory_of(self, size: usize) -> UserSlice {
        UserSlice::new(UserPtr::from_addr(self.argument), size)
    }
}

/// What `->unlocked_ioctl` returns.
pub(crate) fn answer(result: Result<c_long>) -> c_long {
    match result {
        Ok(value) => value,
        Err(error) => error.to_errno() as c_long,
    }
}

/// The mount of a file takes part in a change: it cannot turn read-only nor be frozen meanwhile.
///
/// # Invariants
///
/// Write access to the mount of the file is held.
pub struct WriteAccess<'a> {
    file: &'a File,
    // Freeze protection belongs to the task.
    _task: PhantomData<*mut ()>,
}

impl<'a> WriteAccess<'a> {
    /// Asks for write access to the mount of `file`. Sleeps while the file system is frozen.
    ///
    /// # Errors
    ///
    /// `EROFS` when the mount is read-only.
    pub fn new(file: &'a File) -> Result<Self> {
        // SAFETY: The file is valid.
        to_result(unsafe { bindings::mnt_want_write_file(file.as_ptr()) })?;
        // INVARIANT: It was just got.
        Ok(Self {
            file,
            _task: PhantomData,
        })
    }
}

impl Drop for WriteAccess<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is held.
        unsafe { bindings::mnt_drop_write_file(self.file.as_ptr()) };
    }
}

/// The id map of the mount that `file` was opened through.
pub fn idmap(file: &File) -> &IdMap {
    // SAFETY: The file is valid and holds its mount, which holds its map.
    unsafe { IdMap::from_ptr(bindings::file_mnt_idmap(file.as_ptr())) }
}

/// Whether the current task has the capability to administer the system (`CAP_SYS_ADMIN`) or, for
/// `CAP_SYS_RESOURCE` and others, the one of that number. Nobody has one that there is not.
pub fn capable(capability: u32) -> bool {
    // SAFETY: Asks about the current task only, and for a capability that there is, as it must.
    capability <= bindings::CAP_LAST_CAP && unsafe { bindings::capable(capability as i32) }
}
