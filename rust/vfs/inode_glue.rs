// SPDX-License-Identifier: GPL-2.0

//! From the function pointers of `struct inode_operations` to the methods of
//! [`inode_ops::Operations`](crate::inode_ops::Operations).

use core::ffi::c_int;
use core::ffi::c_uint;
use core::marker::PhantomData;
use core::ptr;

use ferrofs_bindings as bindings;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use crate::acl;
use crate::acl::PosixAcl;
use crate::attr::Attributes;
use crate::attr::Stat;
use crate::attr::UpdateTime;
use crate::dentry::Dentry;
use crate::dentry::Entry;
use crate::dentry::Negative;
use crate::dentry::Positive;
use crate::dentry::Tmpfile;
use crate::dentry::Unhashed;
use crate::fileattr::FileAttributes;
use crate::idmap::IdMap;
use crate::inode::Inode;
use crate::inode_ops::Device;
use crate::inode_ops::Fiemap;
use crate::inode_ops::Operations;
use crate::inode_ops::RenameFlags;
use crate::xattr::NameList;

/// The C functions.
///
/// The kernel alone calls them, on inodes of `T::FileSystem`, with the locks that
/// [`inode_ops`](crate::inode_ops) lists and with arguments that are valid for the time of the call.
/// That is the safety requirement of each of them, and what each `SAFETY` comment below refers to.
pub(crate) struct Glue<T: Operations>(PhantomData<T>);

impl<T: Operations> Glue<T> {
    pub(crate) const TABLE: bindings::inode_operations = bindings::inode_operations {
        lookup: optional!(T::HAS_LOOKUP, Self::lookup),
        create: optional!(T::HAS_CREATE, Self::create),
        link: optional!(T::HAS_LINK, Self::link),
        unlink: optional!(T::HAS_UNLINK, Self::unlink),
        symlink: optional!(T::HAS_SYMLINK, Self::symlink),
        mkdir: optional!(T::HAS_MKDIR, Self::mkdir),
        rmdir: optional!(T::HAS_RMDIR, Self::rmdir),
        mknod: optional!(T::HAS_MKNOD, Self::mknod),
        rename: optional!(T::HAS_RENAME, Self::rename),
        tmpfile: optional!(T::HAS_TMPFILE, Self::tmpfile),
        setattr: optional!(T::HAS_SETATTR, Self::setattr),
        getattr: optional!(T::HAS_GETATTR, Self::getattr),
        update_time: optional!(T::HAS_UPDATE_TIME, Self::update_time),
        get_link: optional!(T::HAS_GET_LINK, Self::get_link),
        get_inode_acl: optional!(T::HAS_GET_ACL, Self::get_inode_acl),
        set_acl: optional!(T::HAS_SET_ACL, Self::set_acl),
        listxattr: optional!(T::HAS_LIST_XATTR, Self::listxattr),
        fiemap: optional!(T::HAS_FIEMAP, Self::fiemap),
        fileattr_get: optional!(T::HAS_FILEATTR_GET, Self::fileattr_get),
        fileattr_set: optional!(T::HAS_FILEATTR_SET, Self::fileattr_set),
        ..pin_init::zeroed()
    };

    /// What an operation is called with that makes a name: it does not exist, and the directory is locked
    /// exclusively.
    ///
    /// # Safety
    ///
    /// See [`Glue`].
    unsafe fn new_name<'a>(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> (
        &'a IdMap,
        &'a Inode<T::FileSystem>,
        Negative<'a, T::FileSystem>,
    ) {
        // SAFETY: See `Glue`.
        unsafe {
            (
                IdMap::from_ptr(idmap),
                Inode::from_ptr(dir),
                Negative::from_ptr(dentry),
            )
        }
    }

    /// The inode of a positive dentry.
    ///
    /// # Safety
    ///
    /// See [`Glue`].
    unsafe fn inode_of<'a>(dentry: *mut bindings::dentry) -> &'a Inode<T::FileSystem> {
        // SAFETY: See `Glue`. A positive dentry that is held holds its inode.
        unsafe { Inode::from_ptr((*dentry).d_inode) }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        _flags: c_uint,
    ) -> *mut bindings::dentry {
        // SAFETY: See `Glue`. A dentry that is looked up is negative, unhashed and the caller's own.
        let (dir, dentry) = unsafe { (Inode::from_ptr(dir), Unhashed::from_ptr(dentry)) };
        match T::lookup(dir, dentry) {
            Ok(spliced) => spliced.into_ptr(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn create(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`.
            let (idmap, dir, dentry) = unsafe { Self::new_name(idmap, dir, dentry) };
            T::create(idmap, dir, dentry, mode)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn link(
        old: *mut bindings::dentry,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The old dentry is positive; the new name does not exist, and its
            // directory is locked exclusively.
            let (inode, dir, dentry) = unsafe {
                (
                    Self::inode_of(old),
                    Inode::from_ptr(dir),
                    Negative::from_ptr(dentry),
                )
            };
            T::link(inode, dir, dentry)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn unlink(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The name exists, and the directory is locked exclusively.
            let (dir, dentry) = unsafe { (Inode::from_ptr(dir), Positive::from_ptr(dentry)) };
            T::unlink(dir, dentry)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn symlink(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        target: *const kernel::ffi::c_char,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The target is a string.
            let ((idmap, dir, dentry), target) = unsafe {
                (
                    Self::new_name(idmap, dir, dentry),
                    CStr::from_char_ptr(target),
                )
            };
            T::symlink(idmap, dir, dentry, target)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn mkdir(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> *mut bindings::dentry {
        // SAFETY: See `Glue`.
        let (idmap, dir, dentry) = unsafe { Self::new_name(idmap, dir, dentry) };
        match T::mkdir(idmap, dir, dentry, mode) {
            // Null says that it is the dentry which was passed in.
            Ok(_) => ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn rmdir(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The name exists, and the directory is locked exclusively.
            let (dir, dentry) = unsafe { (Inode::from_ptr(dir), Positive::from_ptr(dentry)) };
            T::rmdir(dir, dentry)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn mknod(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
        device: bindings::dev_t,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`.
            let (idmap, dir, dentry) = unsafe { Self::new_name(idmap, dir, dentry) };
            T::mknod(idmap, dir, dentry, mode, Device::from_raw(device))?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn rename(
        idmap: *mut bindings::mnt_idmap,
        old_dir: *mut bindings::inode,
        old: *mut bindings::dentry,
        new_dir: *mut bindings::inode,
        new: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The old name exists; both directories are locked exclusively.
            let (idmap, old_dir, old, new_dir, new) = unsafe {
                (
                    IdMap::from_ptr(idmap),
                    Inode::from_ptr(old_dir),
                    Positive::from_ptr(old),
                    Inode::from_ptr(new_dir),
                    Entry::from_ptr(new),
                )
            };
            T::rename(
                idmap,
                old_dir,
                old,
                new_dir,
                new,
                RenameFlags::from_raw(flags),
            )?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn tmpfile(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        file: *mut bindings::file,
        mode: bindings::umode_t,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The file has its path, with a fresh dentry.
            let (idmap, dir, tmpfile) = unsafe {
                (
                    IdMap::from_ptr(idmap),
                    Inode::from_ptr(dir),
                    Tmpfile::from_ptr(file),
                )
            };
            T::tmpfile(idmap, dir, tmpfile, mode)?;
            // SAFETY: The file is not open yet, and its dentry has just turned positive.
            to_result(unsafe {
                bindings::finish_open(file, Tmpfile::<T::FileSystem>::dentry_of(file), None)
            })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn setattr(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        attr: *mut bindings::iattr,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`.
            T::setattr(&mut unsafe { Attributes::from_ptr(idmap, dentry, attr) })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn getattr(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        stat: *mut bindings::kstat,
        request: u32,
        flags: c_uint,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The path leads to a positive dentry; the answer is cleared memory
            // of the caller.
            let (idmap, inode, stat) = unsafe {
                (
                    IdMap::from_ptr(idmap),
                    Self::inode_of((*path).dentry),
                    Stat::from_ptr(stat),
                )
            };
            T::getattr(idmap, inode, request, flags, stat)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn update_time(
        inode: *mut bindings::inode,
        what: bindings::fs_update_time,
        flags: c_uint,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`.
            let inode = unsafe { Inode::from_ptr(inode) };
            let nowait = flags & bindings::IOCB_NOWAIT != 0;
            T::update_time(inode, UpdateTime::from_raw(what), nowait)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn get_link(
        dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        done: *mut bindings::delayed_call,
    ) -> *const kernel::ffi::c_char {
        if dentry.is_null() {
            // RCU mode: nothing holds the inode.
            return ECHILD.to_ptr();
        }
        // SAFETY: See `Glue`. The dentry holds the inode.
        match T::get_link(unsafe { Inode::from_ptr(inode) }) {
            // SAFETY: See `Glue`.
            Ok(text) => unsafe { text.deliver(done) },
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn get_inode_acl(
        inode: *mut bindings::inode,
        kind: c_int,
        rcu: bool,
    ) -> *mut kernel::bindings::posix_acl {
        if rcu {
            // Nothing holds the inode.
            return ECHILD.to_ptr();
        }
        // SAFETY: See `Glue`.
        let inode = unsafe { Inode::from_ptr(inode) };
        match acl::Kind::from_raw(kind).and_then(|kind| T::get_acl(inode, kind)) {
            Ok(None) => ptr::null_mut(),
            Ok(Some(acl)) => ARef::into_raw(acl).cast().as_ptr(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn set_acl(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        acl: *mut kernel::bindings::posix_acl,
        kind: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The dentry is positive; the ACL is null or held by the caller.
            let (idmap, inode, acl) = unsafe {
                (
                    IdMap::from_ptr(idmap),
                    Self::inode_of(dentry),
                    PosixAcl::from_ptr(acl.cast()),
                )
            };
            T::set_acl(idmap, inode, acl::Kind::from_raw(kind)?, acl)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn listxattr(
        dentry: *mut bindings::dentry,
        buffer: *mut kernel::ffi::c_char,
        size: usize,
    ) -> isize {
        // SAFETY: See `Glue`. The dentry is positive; the buffer is null or has that size.
        let (inode, mut names) = unsafe {
            (
                Self::inode_of(dentry),
                NameList::from_ptr(buffer.cast(), size),
            )
        };
        // SAFETY: See `Glue`.
        let dentry = unsafe { Dentry::from_ptr(dentry) };
        match T::list_xattr(dentry, inode, &mut names) {
            Ok(()) => names.len() as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn fiemap(
        inode: *mut bindings::inode,
        info: *mut kernel::bindings::fiemap_extent_info,
        start: u64,
        length: u64,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`.
            let (inode, map) = unsafe { (Inode::from_ptr(inode), Fiemap::from_ptr(info.cast())) };
            T::fiemap(inode, map, start, length)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn fileattr_get(
        dentry: *mut bindings::dentry,
        attributes: *mut kernel::bindings::file_kattr,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The dentry is positive.
            let (inode, attributes) = unsafe {
                (
                    Self::inode_of(dentry),
                    FileAttributes::from_ptr(attributes.cast()),
                )
            };
            T::fileattr_get(inode, attributes)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn fileattr_set(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        attributes: *mut kernel::bindings::file_kattr,
    ) -> c_int {
        from_result(|| {
            // SAFETY: See `Glue`. The dentry is positive.
            let (idmap, inode, attributes) = unsafe {
                (
                    IdMap::from_ptr(idmap),
                    Self::inode_of(dentry),
                    FileAttributes::from_ptr(attributes.cast()),
                )
            };
            T::fileattr_set(idmap, inode, attributes)?;
            Ok(0)
        })
    }
}
