// SPDX-License-Identifier: GPL-2.0

//! Directory entries of the dentry cache.
//!
//! # States of a dentry
//!
//! - *Unhashed*: made by the kernel for a name that it is looking up. Nobody else finds it yet. The
//!   file system turns it into one of the next two with [`Unhashed::splice_alias`].
//! - *Negative*: the name is known not to exist. Creating a file turns it positive:
//!   [`Negative::instantiate_new`], [`Negative::instantiate`].
//! - *Positive*: the name of an inode. It stays positive while anybody but the kernel's removal of
//!   the last name refers to it, so a reference to a positive dentry pins the inode.
//!
//! The name and the parent of a dentry change when it is renamed. They stand still while the parent
//! directory is locked, which it is in the operations that work on names: these get an [`Entry`].
//! Elsewhere there is a [`Dentry`], which does not tell its name.
//!
//! An operation that must change the state of a dentry gets it by value and returns a token
//! ([`Spliced`], [`Instantiated`]) that only the change of state makes. So a `create` that forgets to
//! instantiate its dentry does not compile.
//!
//! # Examples
//!
//! ```ignore
//! fn lookup<'d>(
//!     dir: &Inode<SimpleFs>,
//!     dentry: Unhashed<'d, SimpleFs>,
//! ) -> Result<Spliced<'d, SimpleFs>> {
//!     let inode = match find(dir, dentry.name())? {
//!         Some(number) => Some(get(dir.sb(), number)?),
//!         None => None,
//!     };
//!     dentry.splice_alias(inode)
//! }
//! ```
//!
//! C header: `include/linux/dcache.h`; locking: `Documentation/filesystems/directory-locking.rst`.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr;
use core::slice;

use ferrofs_bindings as bindings;
use kernel::error::from_err_ptr;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::types::Opaque;

use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::inode::NewInode;
use crate::super_block::SuperBlock;

/// A directory entry in memory: `struct dentry`.
///
/// Dentries are only lent for the time of a call. A reference that were kept beyond an unmount would
/// be one to a dentry without a super block: the kernel frees the tree whether it is in use or not.
///
/// # Invariants
///
/// The reference count is not zero, and the dentry belongs to a super block of `F`.
#[repr(transparent)]
pub struct Dentry<F: FileSystem>(Opaque<bindings::dentry>, PhantomData<F>);

// SAFETY: What can be done through a shared reference may be done from any thread.
unsafe impl<F: FileSystem> Send for Dentry<F> {}
// SAFETY: The methods read fields that are constant, or written once with release ordering.
unsafe impl<F: FileSystem> Sync for Dentry<F> {}

impl<F: FileSystem> Dentry<F> {
    /// Gives a raw pointer its type.
    ///
    /// # Safety
    ///
    /// `ptr` must be a valid dentry of a super block of `F`, with a reference held for `'a`.
    pub(crate) unsafe fn from_ptr<'a>(ptr: *mut bindings::dentry) -> &'a Self {
        // SAFETY: The caller promises a valid pointer; `Dentry` is transparent.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub(crate) fn as_ptr(&self) -> *mut bindings::dentry {
        self.0.get()
    }

    /// The super block that the dentry belongs to.
    pub fn sb(&self) -> &SuperBlock<F> {
        // SAFETY: `d_sb` is set when the dentry is allocated and constant. The super block outlives
        // its dentries and, by the type invariants, is one of `F`.
        unsafe { SuperBlock::from_ptr((*self.0.get()).d_sb) }
    }

    /// The inode that the dentry names; `None` when it is negative.
    pub fn inode(&self) -> Option<&Inode<F>> {
        // SAFETY: The dentry is valid. The field is written by others while we read: it is one
        // word, and a volatile read is the kernel's `READ_ONCE`.
        let inode = unsafe { ptr::addr_of!((*self.0.get()).d_inode).read_volatile() };
        if inode.is_null() {
            return None;
        }
        // SAFETY: A positive dentry holds a reference to its inode, and it turns negative only under
        // the holder of its last reference, which is not us as long as `self` is borrowed from one.
        Some(unsafe { Inode::from_ptr(inode) })
    }
}

/// A dentry whose parent directory is locked, so that its name stands still.
///
/// # Invariants
///
/// For `'a`, a reference to the dentry is held and its parent directory is locked, at least shared.
pub struct Entry<'a, F: FileSystem> {
    dentry: &'a Dentry<F>,
    // Not `Send`: the lock belongs to the task that called the operation.
    _locked: PhantomData<*mut ()>,
}

impl<'a, F: FileSystem> Entry<'a, F> {
    /// Gives a raw pointer its type.
    ///
    /// # Safety
    ///
    /// `ptr` must be a valid dentry of a super block of `F`, with a reference held and its parent
    /// directory locked for `'a`.
    pub(crate) unsafe fn from_ptr(ptr: *mut bindings::dentry) -> Self {
        // INVARIANT: By this function's contract.
        Self {
            // SAFETY: By this function's contract.
            dentry: unsafe { Dentry::from_ptr(ptr) },
            _locked: PhantomData,
        }
    }

    /// The name: never empty, without `/` and NUL, and possibly longer than 255 bytes, because it is
    /// the file system that decides how long names may be.
    pub fn name(&self) -> &'a [u8] {
        // SAFETY: The dentry is valid and, by the type invariants, its name does not change for `'a`.
        unsafe {
            let name = &(*self.dentry.as_ptr()).__bindgen_anon_1.d_name;
            slice::from_raw_parts(name.name, self.name_len(name))
        }
    }

    fn name_len(&self, name: &bindings::qstr) -> usize {
        // SAFETY: Every `qstr` holds hash and length; the union only gives both one name.
        unsafe { name.__bindgen_anon_1.__bindgen_anon_1.len as usize }
    }

    /// The dentry itself.
    pub fn dentry(&self) -> &'a Dentry<F> {
        self.dentry
    }
}

impl<F: FileSystem> Deref for Entry<'_, F> {
    type Target = Dentry<F>;

    fn deref(&self) -> &Dentry<F> {
        self.dentry
    }
}

/// The dentry of a lookup that is in progress.
///
/// # Invariants
///
/// The dentry is negative and unhashed, and belongs to the calling lookup alone.
pub struct Unhashed<'a, F: FileSystem>(Entry<'a, F>);

/// A lookup has come to an end, with a hashed dentry or by the file system's wish without.
///
/// The lifetime ties it to the lookup that it was made in.
///
/// # Invariants
///
/// `other` is null, or a dentry of the same super block to which this value owns a reference.
pub struct Spliced<'a, F: FileSystem> {
    other: *mut bindings::dentry,
    _lookup: PhantomData<fn(&'a F) -> &'a F>,
}

impl<'a, F: FileSystem> Unhashed<'a, F> {
    /// # Safety
    ///
    /// As [`Entry::from_ptr`]; the dentry must be negative and unhashed, and belong to the caller.
    pub(crate) unsafe fn from_ptr(ptr: *mut bindings::dentry) -> Self {
        // SAFETY: By this function's contract.
        // INVARIANT: By this function's contract.
        Self(unsafe { Entry::from_ptr(ptr) })
    }

    /// Ends the lookup: the name belongs to `inode`, or to nothing.
    ///
    /// When `inode` is a directory that the cache knows under another name (after an open by handle,
    /// or behind our back) that dentry moves here.
    ///
    /// # Errors
    ///
    /// `ESTALE` when a directory is being moved by somebody else, `ELOOP` when it contains the one
    /// that it was found in, `EXDEV` when `inode` belongs to another super block.
    pub fn splice_alias(self, inode: Option<ARef<Inode<F>>>) -> Result<Spliced<'a, F>> {
        let inode = match inode {
            None => ptr::null_mut(),
            Some(inode) => {
                if !ptr::eq(inode.sb(), self.0.sb()) {
                    return Err(EXDEV);
                }
                ARef::into_raw(inode).cast().as_ptr()
            }
        };
        // SAFETY: By the type invariants the dentry is negative and unhashed and its parent is
        // locked; the reference to the inode is handed over.
        let other = from_err_ptr(unsafe { bindings::d_splice_alias(inode, self.0.as_ptr()) })?;
        // INVARIANT: The function returns null or a dentry of the same super block, with a reference.
        Ok(Spliced {
            other,
            _lookup: PhantomData,
        })
    }

    /// Ends the lookup without caching that there is no such name.
    pub fn forget(self) -> Spliced<'a, F> {
        // INVARIANT: There is no other dentry.
        Spliced {
            other: ptr::null_mut(),
            _lookup: PhantomData,
        }
    }
}

impl<F: FileSystem> Spliced<'_, F> {
    /// What `->lookup` returns: null for the dentry that it was given, or another one with a
    /// reference.
    pub(crate) fn into_ptr(self) -> *mut bindings::dentry {
        ManuallyDrop::new(self).other
    }
}

impl<F: FileSystem> Drop for Spliced<'_, F> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; null is allowed.
        unsafe { bindings::dput(self.other) };
    }
}

impl<'a, F: FileSystem> Deref for Unhashed<'a, F> {
    type Target = Entry<'a, F>;

    fn deref(&self) -> &Entry<'a, F> {
        &self.0
    }
}

/// A name that does not exist, in a directory that is locked exclusively.
///
/// # Invariants
///
/// The dentry is negative, and only the holder of this value may turn it positive.
pub struct Negative<'a, F: FileSystem>(Entry<'a, F>);

/// A dentry has turned positive. The lifetime ties the token to the call that it was made in.
pub struct Instantiated<'a>(PhantomData<fn(&'a ()) -> &'a ()>);

impl<'a, F: FileSystem> Negative<'a, F> {
    /// # Safety
    ///
    /// As [`Entry::from_ptr`]; the dentry must be negative and its parent locked exclusively.
    pub(crate) unsafe fn from_ptr(ptr: *mut bindings::dentry) -> Self {
        // SAFETY: By this function's contract.
        // INVARIANT: By this function's contract.
        Self(unsafe { Entry::from_ptr(ptr) })
    }

    /// Makes this the name of a new inode, which everybody may find from now on.
    ///
    /// # Errors
    ///
    /// `EXDEV` when `inode` belongs to another super block; the inode is then discarded.
    pub fn instantiate_new(self, inode: NewInode<F>) -> Result<Instantiated<'a>> {
        if !ptr::eq(inode.sb(), self.0.sb()) {
            return Err(EXDEV);
        }
        // SAFETY: By the type invariants the dentry is negative; the inode is new, and the reference
        // to it is handed over.
        unsafe {
            bindings::d_instantiate_new(
                self.0.as_ptr(),
                ARef::into_raw(inode.into_locked()).cast().as_ptr(),
            )
        };
        Ok(Instantiated(PhantomData))
    }

    /// Makes this one more name of `inode`.
    ///
    /// # Errors
    ///
    /// `EXDEV` when `inode` belongs to another super block, `EPERM` when it is a directory.
    pub fn instantiate(self, inode: ARef<Inode<F>>) -> Result<Instantiated<'a>> {
        if !ptr::eq(inode.sb(), self.0.sb()) {
            return Err(EXDEV);
        }
        if inode.is_dir() {
            return Err(EPERM);
        }
        let inode = ARef::into_raw(inode).cast().as_ptr();
        // SAFETY: By the type invariants the dentry is negative; the reference to the inode is
        // handed over.
        unsafe { bindings::d_instantiate(self.0.as_ptr(), inode) };
        Ok(Instantiated(PhantomData))
    }
}

impl<'a, F: FileSystem> Deref for Negative<'a, F> {
    type Target = Entry<'a, F>;

    fn deref(&self) -> &Entry<'a, F> {
        &self.0
    }
}

/// A name that exists, in a directory that is locked exclusively.
///
/// # Invariants
///
/// The dentry is positive.
pub struct Positive<'a, F: FileSystem> {
    entry: Entry<'a, F>,
    inode: &'a Inode<F>,
}

impl<'a, F: FileSystem> Positive<'a, F> {
    /// # Safety
    ///
    /// As [`Entry::from_ptr`]; the dentry must be positive.
    pub(crate) unsafe fn from_ptr(ptr: *mut bindings::dentry) -> Self {
        // INVARIANT: By this function's contract.
        Self {
            // SAFETY: By this function's contract.
            entry: unsafe { Entry::from_ptr(ptr) },
            // SAFETY: A positive dentry has an inode, pinned as long as the dentry is.
            inode: unsafe { Inode::from_ptr((*ptr).d_inode) },
        }
    }

    /// The inode of that name.
    pub fn inode(&self) -> &'a Inode<F> {
        self.inode
    }
}

impl<'a, F: FileSystem> Deref for Positive<'a, F> {
    type Target = Entry<'a, F>;

    fn deref(&self) -> &Entry<'a, F> {
        &self.entry
    }
}

/// A file without a name that `open(2)` with `O_TMPFILE` is making.
///
/// # Invariants
///
/// The file is not open yet and its dentry is negative, unhashed and without a name.
pub struct Tmpfile<'a, F: FileSystem> {
    file: *mut bindings::file,
    _dentry: PhantomData<&'a Dentry<F>>,
}

impl<'a, F: FileSystem> Tmpfile<'a, F> {
    /// # Safety
    ///
    /// `file` must be what `->tmpfile` was called with, on a file system of `F`, for `'a`.
    pub(crate) unsafe fn from_ptr(file: *mut bindings::file) -> Self {
        // INVARIANT: By this function's contract.
        Self {
            file,
            _dentry: PhantomData,
        }
    }

    /// # Safety
    ///
    /// `file` must be what `->tmpfile` was called with.
    pub(crate) unsafe fn dentry_of(file: *mut bindings::file) -> *mut bindings::dentry {
        // SAFETY: The file has been given its path before `->tmpfile` is called, and the path of a
        // file is constant from then on.
        unsafe { (*file).__bindgen_anon_1.f_path.dentry }
    }

    /// Makes the open file one of the new inode, which must have no links.
    ///
    /// # Errors
    ///
    /// `EXDEV` when `inode` belongs to another super block, `EINVAL` when it has links; the inode is
    /// then discarded.
    pub fn instantiate_new(self, inode: NewInode<F>) -> Result<Instantiated<'a>> {
        // SAFETY: By the type invariants.
        let dentry = unsafe { Self::dentry_of(self.file) };
        // SAFETY: The file holds a reference to the dentry for `'a`.
        let sb = unsafe { Dentry::<F>::from_ptr(dentry) }.sb();
        if !ptr::eq(inode.sb(), sb) {
            return Err(EXDEV);
        }
        if inode.nlink() != 0 {
            return Err(EINVAL);
        }
        let inode = ARef::into_raw(inode.into_locked()).cast().as_ptr();
        // SAFETY: By the type invariants the dentry is negative, unhashed and nameless, as
        // `d_mark_tmpfile` wants it, and the new inode has no dentry; the reference to the inode is
        // handed over.
        unsafe {
            bindings::d_mark_tmpfile(self.file, inode);
            bindings::d_instantiate_new(dentry, inode);
        }
        Ok(Instantiated(PhantomData))
    }
}
