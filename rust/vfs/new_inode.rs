// SPDX-License-Identifier: GPL-2.0

//! Inodes that are not complete: found on disk or made now, and not yet anybody else's.

use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use ferrofs_bindings as bindings;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

use crate::address_space::init_mapping;
use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::inode_cache::Object;
use crate::super_block::SuperBlock;
use crate::symlink;

/// What [`SuperBlock::iget`] found.
pub enum Got<F: FileSystem> {
    /// The inode is in memory.
    Cached(ARef<Inode<F>>),
    /// The inode is to be read by the caller; others that look for it wait.
    New(NewInode<F>),
}

impl<F: FileSystem> SuperBlock<F> {
    /// Finds the inode with number `ino` in memory, or makes one there to be filled in. Sleeps.
    pub fn iget(&self, ino: u64) -> Result<Got<F>> {
        // SAFETY: The super block is live, with its operations set.
        let inode = unsafe { bindings::iget_locked(self.as_ptr(), ino) };
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        // SAFETY: `iget_locked()` returned a reference to a valid inode of `F`.
        let state = unsafe { bindings::inode_state(inode.as_ptr()) };
        // SAFETY: The reference is passed on; `Inode` is transparent.
        let inode = unsafe { ARef::from_raw(inode.cast::<Inode<F>>()) };
        if state & bindings::inode_state_flags_enum_I_NEW != 0 {
            // SAFETY: The inode is new, and this thread is the one to fill it in.
            unsafe { init_mapping(inode.as_ptr()) };
            // INVARIANT: `I_NEW` is set, and this thread is the one to clear it.
            Ok(Got::New(NewInode(ManuallyDrop::new(inode))))
        } else if inode.is_bad() {
            Err(EIO)
        } else {
            Ok(Got::Cached(inode))
        }
    }

    /// Makes an inode that has no number yet and that nobody can find. Sleeps.
    pub fn new_inode(&self) -> Result<FreshInode<F>> {
        // SAFETY: The super block is live, with its operations set.
        let inode = unsafe { bindings::new_inode(self.as_ptr()) };
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        // SAFETY: Nobody can find the inode.
        unsafe { init_mapping(inode.as_ptr()) };
        // SAFETY: `new_inode()` returned a reference to a valid inode of `F`.
        Ok(FreshInode(ManuallyDrop::new(unsafe {
            ARef::from_raw(inode.cast::<Inode<F>>())
        })))
    }
}

/// An inode that was just made and cannot be found by number. Dropping it throws it away.
///
/// No other references can be made to it, so that nobody sees it before it is complete.
pub struct FreshInode<F: FileSystem>(ManuallyDrop<ARef<Inode<F>>>);

impl<F: FileSystem> Deref for FreshInode<F> {
    type Target = Inode<F>;

    fn deref(&self) -> &Inode<F> {
        &self.0
    }
}

impl<F: FileSystem> FreshInode<F> {
    /// Gives the inode its number and makes it findable; those who find it wait until
    /// [`NewInode::unlock`].
    ///
    /// # Errors
    ///
    /// `EIO` when an inode with that number is in memory already, which means that the number was
    /// not free.
    pub fn insert(self, ino: u64) -> Result<NewInode<F>> {
        self.set_ino(ino);
        // SAFETY: The inode is valid and not hashed.
        if unsafe { bindings::insert_inode_locked(self.as_ptr()) } < 0 {
            return Err(EIO);
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used any more, so that the reference is moved.
        let inode = unsafe { ptr::read(&this.0) };
        // INVARIANT: `insert_inode_locked()` has set `I_NEW`.
        Ok(NewInode(inode))
    }
}

impl<F: FileSystem> Drop for FreshInode<F> {
    fn drop(&mut self) {
        // SAFETY: The inode is valid. Made bad, it is thrown away at the last reference without
        // the file system being asked. The reference is dropped once, here. Nobody else can have
        // found the inode, and it forgets that it was a symbolic link.
        unsafe {
            symlink::free_link_text(self.as_ptr());
            bindings::make_bad_inode(self.as_ptr());
            ManuallyDrop::drop(&mut self.0);
        }
    }
}

/// An inode that others can find but not use yet. Dropping it makes it bad: those who wait for it
/// fail with `EIO`.
///
/// No other references can be made to it, so that nobody sees it before it is complete.
///
/// # Invariants
///
/// The inode is in state `I_NEW`, and this object is the only one that may end that state.
pub struct NewInode<F: FileSystem>(ManuallyDrop<ARef<Inode<F>>>);

impl<F: FileSystem> Deref for NewInode<F> {
    type Target = Inode<F>;

    fn deref(&self) -> &Inode<F> {
        &self.0
    }
}

impl<F: FileSystem> NewInode<F> {
    /// Takes the reference out, still in state `I_NEW`. The caller ends that state.
    fn take(self) -> ARef<Inode<F>> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used any more, so that the reference is moved.
        ManuallyDrop::into_inner(unsafe { ptr::read(&this.0) })
    }

    /// As [`Self::take`], for an inode that is complete: others may have references to it.
    pub(crate) fn into_locked(self) -> ARef<Inode<F>> {
        let inode = self.take();
        // SAFETY: By the invariants of `Inode` it lies in an initialised object.
        let complete = unsafe { &(*inode.as_ptr().cast::<Object<F>>()).complete };
        complete.store(true, Ordering::Release);
        inode
    }

    /// The inode is complete: lets the others have it.
    pub fn unlock(self) -> ARef<Inode<F>> {
        let inode = self.into_locked();
        // SAFETY: The inode is in state `I_NEW` by the type invariants.
        unsafe { bindings::unlock_new_inode(inode.as_ptr()) };
        inode
    }

    /// The inode will not be used after all, and is evicted like any other: with a link count of
    /// zero, its storage is freed.
    pub fn discard(self) {
        let inode = self.take();
        // SAFETY: The inode is in state `I_NEW` by the type invariants; the function takes over
        // the reference.
        unsafe { bindings::discard_new_inode(ARef::into_raw(inode).as_ref().as_ptr()) }
    }

    /// Makes a device node, pipe or socket of the inode: sets the type and permissions `mode`, the
    /// device and the kernel's operations for it. `rdev` is in the kernel's own encoding.
    pub fn init_special(&self, mode: u16, rdev: u32) {
        // An inode that has a type keeps it.
        self.set_mode(mode);
        // SAFETY: The inode is valid and not yet in use by anybody else.
        unsafe { bindings::init_special_inode(self.as_ptr(), self.mode(), rdev) }
    }
}

impl<F: FileSystem> Drop for NewInode<F> {
    fn drop(&mut self) {
        // SAFETY: The inode is in state `I_NEW` by the type invariants; the function takes over
        // the reference, which is not dropped otherwise. Others wait for the end of that state before
        // they look at the inode, which forgets that it was a symbolic link.
        unsafe {
            symlink::free_link_text(self.as_ptr());
            bindings::iget_failed(self.as_ptr());
        }
    }
}
