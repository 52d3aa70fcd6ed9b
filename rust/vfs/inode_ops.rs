// SPDX-License-Identifier: GPL-2.0

//! What can be done with an inode: `struct inode_operations`.
//!
//! One trait serves directories, files, symbolic links and special files; each kind of inode
//! implements the methods that it has, and the others stay null in the C structure.
//!
//! # Locking
//!
//! The kernel calls with these locks held (`Documentation/filesystems/directory-locking.rst`):
//!
//! | operation | directory | victim, source or target |
//! |---|---|---|
//! | `lookup` | shared | |
//! | `create`, `mkdir`, `mknod`, `symlink` | exclusive | |
//! | `link` | exclusive | the linked inode: exclusive |
//! | `unlink`, `rmdir` | exclusive | exclusive |
//! | `rename` | both exclusive | exclusive, but for directories that keep their parent |
//! | `tmpfile`, `getattr`, `get_link`, `get_acl`, `list_xattr`, `fileattr_get`, `update_time` | | |
//! | `setattr`, `set_acl`, `fileattr_set` | | the inode: exclusive |
//!
//! All may sleep. Where the kernel would call in RCU mode, in which inodes are not pinned, the glue
//! answers `ECHILD`, and the kernel comes back with references.
//!
//! C header: `include/linux/fs.h`.

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use crate::acl;
use crate::acl::PosixAcl;
use crate::attr::Attributes;
use crate::attr::Stat;
use crate::attr::UpdateTime;
use crate::dentry::Dentry;
use crate::dentry::Entry;
use crate::dentry::Instantiated;
use crate::dentry::Negative;
use crate::dentry::Positive;
use crate::dentry::Spliced;
use crate::dentry::Tmpfile;
use crate::dentry::Unhashed;
use crate::fileattr::FileAttributes;
use crate::fs::FileSystem;
use crate::idmap::IdMap;
use crate::inode::Inode;
use crate::inode::NewInode;
use crate::inode_glue::Glue;
use crate::symlink::LinkText;
use crate::xattr::NameList;

/// The flags of `renameat2(2)`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RenameFlags(u32);

impl RenameFlags {
    /// The target must not exist. The kernel has made sure of it already.
    pub const NOREPLACE: Self = Self(bindings::RENAME_NOREPLACE);
    /// The two names swap what they name.
    pub const EXCHANGE: Self = Self(bindings::RENAME_EXCHANGE);
    /// A whiteout takes the place of the source.
    pub const WHITEOUT: Self = Self(bindings::RENAME_WHITEOUT);

    pub(crate) fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a flag is set beyond those of `known`.
    pub const fn has_other_than(self, known: &[Self]) -> bool {
        let mut rest = self.0;
        let mut i = 0;
        while i < known.len() {
            rest &= !known[i].0;
            i += 1;
        }
        rest != 0
    }
}

/// A device number as the kernel encodes it in memory (`dev_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device(bindings::dev_t);

impl Device {
    const MINOR_BITS: u32 = 20;

    /// From the numbers; they are cut to 12 and 20 bits.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self((major & 0xfff) << Self::MINOR_BITS | (minor & 0xf_ffff))
    }

    /// The major number.
    pub const fn major(self) -> u32 {
        self.0 >> Self::MINOR_BITS
    }

    /// The minor number.
    pub const fn minor(self) -> u32 {
        self.0 & ((1 << Self::MINOR_BITS) - 1)
    }

    /// From the kernel's encoding.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The kernel's encoding.
    pub const fn as_raw(self) -> u32 {
        self.0
    }
}

/// An extent map that `FS_IOC_FIEMAP` asks for.
pub struct Fiemap<'a> {
    info: *mut bindings::fiemap_extent_info,
    _info: PhantomData<&'a mut bindings::fiemap_extent_info>,
}

impl Fiemap<'_> {
    /// # Safety
    ///
    /// `info` must be what `->fiemap` was called with, and the result must not outlive the call.
    pub(crate) unsafe fn from_ptr(info: *mut bindings::fiemap_extent_info) -> Self {
        Self {
            info,
            _info: PhantomData,
        }
    }

    /// The C object, valid for the life of `self`.
    pub(crate) fn as_ptr(&mut self) -> *mut bindings::fiemap_extent_info {
        self.info
    }
}

/// The operations of an inode.
///
/// Modes and device numbers are the kernel's; names come with their dentries. See the
/// [module](self) for the locks that are held.
#[vtable]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// Finds the name of `dentry` in `dir`. A name that does not exist is no error:
    /// [`Unhashed::splice_alias`] with `None`.
    fn lookup<'d>(
        _dir: &Inode<Self::FileSystem>,
        _dentry: Unhashed<'d, Self::FileSystem>,
    ) -> Result<Spliced<'d, Self::FileSystem>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a regular file.
    fn create<'d>(
        _idmap: &IdMap,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'d, Self::FileSystem>,
        _mode: u16,
    ) -> Result<Instantiated<'d>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Gives `inode`, which is no directory, one more name.
    fn link<'d>(
        _inode: &Inode<Self::FileSystem>,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'d, Self::FileSystem>,
    ) -> Result<Instantiated<'d>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes a name that is no directory.
    fn unlink(_dir: &Inode<Self::FileSystem>, _dentry: Positive<'_, Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a symbolic link to `target`.
    fn symlink<'d>(
        _idmap: &IdMap,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'d, Self::FileSystem>,
        _target: &CStr,
    ) -> Result<Instantiated<'d>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a directory.
    fn mkdir<'d>(
        _idmap: &IdMap,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'d, Self::FileSystem>,
        _mode: u16,
    ) -> Result<Instantiated<'d>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes a directory; `ENOTEMPTY` when there are names in it.
    fn rmdir(_dir: &Inode<Self::FileSystem>, _dentry: Positive<'_, Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a special file; `mode` holds its type.
    fn mknod<'d>(
        _idmap: &IdMap,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'d, Self::FileSystem>,
        _mode: u16,
        _device: Device,
    ) -> Result<Instantiated<'d>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Moves the name `old` of `old_dir` to `new` of `new_dir`, in place of what is there.
    ///
    /// The kernel moves the dentries when this succeeds.
    fn rename(
        _idmap: &IdMap,
        _old_dir: &Inode<Self::FileSystem>,
        _old: Positive<'_, Self::FileSystem>,
        _new_dir: &Inode<Self::FileSystem>,
        _new: Entry<'_, Self::FileSystem>,
        _flags: RenameFlags,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a file without a name (`O_TMPFILE`). The kernel opens it afterwards.
    fn tmpfile<'d>(
        _idmap: &IdMap,
        _dir: &Inode<Self::FileSystem>,
        _file: Tmpfile<'d, Self::FileSystem>,
        _mode: u16,
    ) -> Result<Instantiated<'d>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes attributes (`chmod`, `chown`, `truncate`, `utimes` ...).
    fn setattr(_attributes: &mut Attributes<'_, Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Tells attributes (`stat`, `statx`). `request` is a mask of `STATX_*`; `flags` are those of
    /// `AT_STATX_SYNC_TYPE`.
    fn getattr(
        _idmap: &IdMap,
        _inode: &Inode<Self::FileSystem>,
        _request: u32,
        _flags: u32,
        _stat: &mut Stat,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes access time, or modification and change time, as the kernel decides.
    ///
    /// `EAGAIN` when `nowait` is set and it would block.
    fn update_time(_inode: &Inode<Self::FileSystem>, _what: UpdateTime, _nowait: bool) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The text of a symbolic link. Not called for links whose text was set with
    /// [`NewInode::set_link_text`](crate::inode::NewInode::set_link_text).
    fn get_link(_inode: &Inode<Self::FileSystem>) -> Result<LinkText> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The ACL of that kind as it is stored. The kernel caches the answer.
    fn get_acl(
        _inode: &Inode<Self::FileSystem>,
        _kind: acl::Kind,
    ) -> Result<Option<ARef<PosixAcl>>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Stores an ACL, or removes it. The kernel has validated it.
    fn set_acl(
        _idmap: &IdMap,
        _inode: &Inode<Self::FileSystem>,
        _kind: acl::Kind,
        _acl: Option<&PosixAcl>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Lists the names of the extended attributes that the caller may see.
    fn list_xattr(
        _dentry: &Dentry<Self::FileSystem>,
        _inode: &Inode<Self::FileSystem>,
        _names: &mut NameList<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Maps the extents of `length` bytes from `start` on.
    fn fiemap(
        _inode: &Inode<Self::FileSystem>,
        _map: Fiemap<'_>,
        _start: u64,
        _length: u64,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Tells the inode's flags (`lsattr`) and project.
    fn fileattr_get(_inode: &Inode<Self::FileSystem>, _attributes: &mut FileAttributes) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes the inode's flags (`chattr`) and project. The kernel has checked that the caller may.
    fn fileattr_set(
        _idmap: &IdMap,
        _inode: &Inode<Self::FileSystem>,
        _attributes: &FileAttributes,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The operations of a kind of inode of `F`, ready to be given to an inode.
///
/// # Invariants
///
/// The C structure was made from an [`Operations`] of `F`.
pub struct Table<F: FileSystem> {
    table: &'static bindings::inode_operations,
    _fs: PhantomData<F>,
}

impl<F: FileSystem> Clone for Table<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: FileSystem> Copy for Table<F> {}

impl<F: FileSystem> Table<F> {
    /// The table of the operations `T`.
    pub const fn new<T: Operations<FileSystem = F>>() -> Self {
        // INVARIANT: `T` is of the file system `F`.
        Self {
            table: &Glue::<T>::TABLE,
            _fs: PhantomData,
        }
    }
}

impl<F: FileSystem> NewInode<F> {
    /// Gives the inode its operations.
    pub fn set_operations(&mut self, table: Table<F>) {
        // SAFETY: The inode is new, so that nobody else uses this field; the table is for inodes of
        // `F`.
        unsafe { (*self.as_ptr()).i_op = table.table };
    }
}
