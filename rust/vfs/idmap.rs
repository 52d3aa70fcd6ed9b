// SPDX-License-Identifier: GPL-2.0

//! How a mount maps the owners that are stored to those that its users see.
//!
//! A file system passes the map on and never looks into it. What is stored and what
//! [`Inode`](crate::inode::Inode) tells are ids without the map.
//!
//! C header: `include/linux/mnt_idmapping.h`.

use ferrofs_bindings as bindings;
use kernel::types::Opaque;

use crate::fs::FileSystem;
use crate::inode::FreshInode;
use crate::inode::Inode;

/// The id map of a mount: `struct mnt_idmap`.
///
/// # Invariants
///
/// The mount that it belongs to is held for as long as the reference lives.
#[repr(transparent)]
pub struct IdMap(Opaque<bindings::mnt_idmap>);

impl IdMap {
    /// The map that changes nothing.
    pub fn nop() -> &'static Self {
        // SAFETY: The static lives for ever; `IdMap` is transparent.
        unsafe { &*(&raw const bindings::nop_mnt_idmap).cast() }
    }

    /// Gives a raw pointer its type.
    ///
    /// # Safety
    ///
    /// `ptr` must be a valid map for `'a`.
    pub(crate) unsafe fn from_ptr<'a>(ptr: *mut bindings::mnt_idmap) -> &'a Self {
        // SAFETY: By this function's contract; `IdMap` is transparent.
        unsafe { &*ptr.cast() }
    }

    /// The C object. The kernel never changes a map that is in use.
    pub(crate) fn as_ptr(&self) -> *mut bindings::mnt_idmap {
        self.0.get()
    }

    /// Whether the current task owns `inode` through this map, or may act as if it did.
    pub fn owner_or_capable<F: FileSystem>(&self, inode: &Inode<F>) -> bool {
        // SAFETY: Both objects are valid by their type invariants.
        unsafe { bindings::inode_owner_or_capable(self.as_ptr(), inode.as_ptr()) }
    }
}

impl<F: FileSystem> FreshInode<F> {
    /// Gives the new inode its mode and an owner: the current task through `idmap`, and the group of
    /// `dir` if that has its set-group-ID bit.
    pub fn init_owner(&mut self, idmap: &IdMap, dir: &Inode<F>, mode: u16) {
        // SAFETY: All objects are valid; nobody else uses the new inode.
        unsafe { bindings::inode_init_owner(idmap.as_ptr(), self.as_ptr(), dir.as_ptr(), mode) };
    }
}
