// SPDX-License-Identifier: GPL-2.0

//! Attributes of an inode as `stat(2)` tells them and as `chmod(2)` and its kin change them.
//!
//! C headers: `include/linux/fs.h` (`struct iattr`), `include/linux/stat.h` (`struct kstat`).

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::prelude::*;

use crate::dentry::Dentry;
use crate::fs::FileSystem;
use crate::idmap::IdMap;
use crate::inode::Inode;

/// A change of attributes that the kernel asks for: `struct iattr`, with the inode it is meant for.
///
/// # Invariants
///
/// `attr` is valid and ours alone for `'a`, the dentry is positive and names `inode`, and `inode` is
/// locked exclusively for `'a`.
pub struct Attributes<'a, F: FileSystem> {
    attr: &'a mut bindings::iattr,
    idmap: &'a IdMap,
    dentry: &'a Dentry<F>,
    inode: &'a Inode<F>,
    // The inode is locked by this task.
    _locked: PhantomData<*mut ()>,
}

impl<'a, F: FileSystem> Attributes<'a, F> {
    /// # Safety
    ///
    /// The arguments must be those of a `->setattr` call on a file system of `F` that lasts for `'a`.
    pub(crate) unsafe fn from_ptr(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        attr: *mut bindings::iattr,
    ) -> Self {
        // SAFETY: `->setattr` is called with a positive dentry, whose inode is locked and pinned.
        let (dentry, inode) =
            unsafe { (Dentry::from_ptr(dentry), Inode::from_ptr((*dentry).d_inode)) };
        // INVARIANT: By the contract of `->setattr`.
        Self {
            // SAFETY: By this function's contract; only the callee of `->setattr` uses `attr`.
            attr: unsafe { &mut *attr },
            // SAFETY: By this function's contract.
            idmap: unsafe { IdMap::from_ptr(idmap) },
            dentry,
            inode,
            _locked: PhantomData,
        }
    }

    /// The inode.
    pub fn inode(&self) -> &'a Inode<F> {
        self.inode
    }

    /// The id map of the mount that the change comes through.
    pub fn idmap(&self) -> &'a IdMap {
        self.idmap
    }

    fn has(&self, flag: u32) -> bool {
        self.attr.ia_valid & flag != 0
    }

    /// The new size in bytes, when the size changes. Never negative.
    pub fn size(&self) -> Option<i64> {
        self.has(bindings::ATTR_SIZE).then_some(self.attr.ia_size)
    }

    /// Whether the mode changes. An ACL must follow it: [`Self::chmod_acl`].
    pub fn changes_mode(&self) -> bool {
        self.has(bindings::ATTR_MODE)
    }

    /// Whether the owner changes.
    pub fn changes_owner(&self) -> bool {
        self.has(bindings::ATTR_UID)
    }

    /// Whether the group changes.
    pub fn changes_group(&self) -> bool {
        self.has(bindings::ATTR_GID)
    }

    /// Makes a change of size change the modification and change times too, as POSIX wants it of
    /// every `truncate`. That leaves it to the file system, `open` with `O_TRUNC` does not.
    pub fn touch_times(&mut self) {
        self.attr.ia_valid |= bindings::ATTR_MTIME | bindings::ATTR_CTIME;
    }

    /// Checks that the caller may make this change, and drops what it may not set (the set-group-ID
    /// bit of a foreign group).
    ///
    /// # Errors
    ///
    /// `EPERM`, `EFBIG`, `ETXTBSY`, or what a security module says.
    pub fn prepare(&mut self) -> Result {
        // SAFETY: By the type invariants the dentry is positive and its inode locked.
        to_result(unsafe {
            bindings::setattr_prepare(self.idmap.as_ptr(), self.dentry.as_ptr(), self.attr)
        })
    }

    /// Makes the change in the inode in memory, but for the size.
    pub fn apply(&self) {
        // SAFETY: By the type invariants the inode is valid and locked exclusively.
        unsafe { bindings::setattr_copy(self.idmap.as_ptr(), self.inode.as_ptr(), self.attr) };
    }

    /// Makes the access ACL follow the mode that was applied. Calls `get_acl` and `set_acl`; must not
    /// be called within a transaction of which they cannot be part.
    pub fn chmod_acl(&self) -> Result {
        // SAFETY: By the type invariants the dentry is positive and its inode locked.
        to_result(unsafe {
            bindings::posix_acl_chmod(
                self.idmap.as_ptr(),
                self.dentry.as_ptr(),
                (*self.inode.as_ptr()).i_mode,
            )
        })
    }
}

/// What `statx(2)` can ask for and get.
pub mod request {
    use ferrofs_bindings as bindings;

    /// The birth time.
    pub const BTIME: u32 = bindings::STATX_BTIME;
    /// Alignment for direct I/O.
    pub const DIOALIGN: u32 = bindings::STATX_DIOALIGN;
    /// Alignment for direct reads, where it is another one.
    pub const DIO_READ_ALIGN: u32 = bindings::STATX_DIO_READ_ALIGN;
}

/// Attributes that `statx(2)` tells beside the mode (`STATX_ATTR_*`).
pub mod attribute {
    use ferrofs_bindings as bindings;

    /// Only appending is possible.
    pub const APPEND: u64 = bindings::STATX_ATTR_APPEND as u64;
    /// The contents are compressed.
    pub const COMPRESSED: u64 = bindings::STATX_ATTR_COMPRESSED as u64;
    /// The contents are encrypted.
    pub const ENCRYPTED: u64 = bindings::STATX_ATTR_ENCRYPTED as u64;
    /// The file cannot be changed.
    pub const IMMUTABLE: u64 = bindings::STATX_ATTR_IMMUTABLE as u64;
    /// Backups leave the file out.
    pub const NODUMP: u64 = bindings::STATX_ATTR_NODUMP as u64;
    /// The file is protected by fs-verity.
    pub const VERITY: u64 = bindings::STATX_ATTR_VERITY as u64;
}

/// The answer to `stat(2)`: `struct kstat`.
#[repr(transparent)]
pub struct Stat(bindings::kstat);

impl Stat {
    /// # Safety
    ///
    /// `stat` must be valid and the caller's alone for `'a`.
    pub(crate) unsafe fn from_ptr<'a>(stat: *mut bindings::kstat) -> &'a mut Self {
        // SAFETY: By this function's contract; `Stat` is transparent.
        unsafe { &mut *stat.cast() }
    }

    /// Takes everything that the kernel's inode knows, owners seen through `idmap`.
    pub fn fill<F: FileSystem>(&mut self, idmap: &IdMap, request: u32, inode: &Inode<F>) {
        // SAFETY: All objects are valid by their type invariants.
        unsafe { bindings::generic_fillattr(idmap.as_ptr(), request, inode.as_ptr(), &mut self.0) };
    }

    /// The birth time, seconds since the epoch and nanoseconds.
    pub fn set_birth_time(&mut self, seconds: i64, nanoseconds: u32) {
        self.0.btime.tv_sec = seconds;
        self.0.btime.tv_nsec = nanoseconds as isize;
        self.0.result_mask |= bindings::STATX_BTIME;
    }

    /// Direct reads and writes need memory and file offsets that are multiples of so many bytes; 0
    /// means that there is no direct I/O.
    pub fn set_direct_alignment(&mut self, memory: u32, offset: u32) {
        self.0.dio_mem_align = memory;
        self.0.dio_offset_align = offset;
        self.0.dio_read_offset_align = offset;
        self.0.result_mask |= bindings::STATX_DIOALIGN | bindings::STATX_DIO_READ_ALIGN;
    }

    /// Sets those of the [`attribute`]s that are `set`, out of the `known` ones.
    pub fn set_attributes(&mut self, set: u64, known: u64) {
        self.0.attributes |= set & known;
        self.0.attributes_mask |= known;
    }

    /// The size of allocated storage in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.0.blocks
    }

    /// Sets the size of allocated storage, in units of 512 bytes: what is reserved but not yet
    /// allocated counts as well, or a file just written would look like a hole.
    pub fn set_blocks(&mut self, blocks: u64) {
        self.0.blocks = blocks;
    }
}

/// Which times `update_time` is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpdateTime {
    /// The access time.
    Access,
    /// Modification and change time, and the change counter.
    Modification,
}

impl UpdateTime {
    pub(crate) fn from_raw(raw: bindings::fs_update_time) -> Self {
        match raw {
            bindings::fs_update_time_FS_UPD_ATIME => Self::Access,
            _ => Self::Modification,
        }
    }

    fn to_raw(self) -> bindings::fs_update_time {
        match self {
            Self::Access => bindings::fs_update_time_FS_UPD_ATIME,
            Self::Modification => bindings::fs_update_time_FS_UPD_CMTIME,
        }
    }

    /// Updates the times in memory as the mount options want it and marks the inode dirty.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when `nowait` is set and it would block.
    pub fn apply<F: FileSystem>(self, inode: &Inode<F>, nowait: bool) -> Result {
        let flags = if nowait { bindings::IOCB_NOWAIT } else { 0 };
        // SAFETY: The inode is valid by its type invariants.
        to_result(unsafe { bindings::generic_update_time(inode.as_ptr(), self.to_raw(), flags) })
    }
}
