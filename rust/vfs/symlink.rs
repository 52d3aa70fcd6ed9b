// SPDX-License-Identifier: GPL-2.0

//! The text of symbolic links.
//!
//! A *fast* link keeps its text in the inode: set it when the inode is made, with
//! [`NewInode::set_link_text`], and the kernel follows the link without calling the file system, in
//! RCU mode too. For any other link the kernel calls
//! [`get_link`](crate::inode_ops::Operations::get_link) each time and frees the answer.

use core::ptr;

use ferrofs_bindings as bindings;
use kernel::alloc::KVec;
use kernel::prelude::*;

use crate::fs::FileSystem;
use crate::inode::NewInode;

/// The text of a symbolic link.
///
/// # Invariants
///
/// The last byte is NUL, and there is no other.
pub struct LinkText(KVec<u8>);

impl LinkText {
    /// Copies the text; it ends before the first NUL, if there is one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(text: &[u8]) -> Result<Self> {
        let length = text
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(text.len());
        let mut copy = KVec::with_capacity(length + 1, GFP_KERNEL)?;
        copy.extend_from_slice(&text[..length], GFP_KERNEL)?;
        copy.push(0, GFP_KERNEL)?;
        // INVARIANT: The text was cut before its first NUL, and one was appended.
        Ok(Self(copy))
    }

    /// Gives up the memory, which must be freed with `kfree`.
    fn into_ptr(self) -> *mut core::ffi::c_void {
        let (text, _, _) = self.0.into_raw_parts();
        text.cast()
    }

    /// Gives the text to the kernel, which frees it when it is through with it.
    ///
    /// # Safety
    ///
    /// `done` must be what `->get_link` was called with.
    pub(crate) unsafe fn deliver(self, done: *mut bindings::delayed_call) -> *const u8 {
        let text = self.into_ptr();
        // SAFETY: The caller promises a valid `done`; a `KVec` is memory of `kmalloc`, which is what
        // `kfree_link` frees.
        unsafe {
            (*done).fn_ = Some(bindings::kfree_link);
            (*done).arg = text;
        }
        text.cast_const().cast()
    }
}

impl<F: FileSystem> NewInode<F> {
    /// Keeps the text of this symbolic link with the inode.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the inode is no symbolic link, or has a text already.
    pub fn set_link_text(&mut self, text: LinkText) -> Result {
        let inode = self.as_ptr();
        // SAFETY: The inode is new, so nobody else looks at these fields. The union holds a link
        // text, null to begin with, as long as the type of the inode is symbolic link.
        unsafe {
            if u32::from((*inode).i_mode) & bindings::S_IFMT != bindings::S_IFLNK {
                return Err(EINVAL);
            }
            let slot = &raw mut (*inode).__bindgen_anon_5.i_link;
            if !(*slot).is_null() {
                return Err(EINVAL);
            }
            slot.write(text.into_ptr().cast());
        }
        Ok(())
    }
}

/// Frees the text of a fast symbolic link, if `inode` is one.
///
/// # Safety
///
/// Nobody else may use the inode: it is beyond its RCU grace period and on its way to the slab cache,
/// or was just made and is not to be found by anybody yet.
pub(crate) unsafe fn free_link_text(inode: *mut bindings::inode) {
    // SAFETY: Nobody uses the inode any more. The union holds a link text or null when the type is
    // symbolic link, and the type of an inode never changes.
    unsafe {
        if u32::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFLNK {
            bindings::kfree((*inode).__bindgen_anon_5.i_link.cast());
            (*inode).__bindgen_anon_5.i_link = ptr::null_mut();
        }
    }
}
