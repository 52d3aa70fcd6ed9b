// SPDX-License-Identifier: GPL-2.0

//! Reading ahead.
//!
//! C header: `include/linux/pagemap.h`.

use core::marker::PhantomData;

use ferrofs_bindings as bindings;

use crate::folio::LockedFolio;
use crate::fs::FileSystem;
use crate::inode::Inode;

/// The folios that are to be read ahead: an iterator over them, in file order. Those which are not
/// taken stay unread.
///
/// # Invariants
///
/// `rac` is valid for `'a`, and its mapping that of an inode of `F`.
pub struct Readahead<'a, F: FileSystem> {
    rac: *mut bindings::readahead_control,
    _life: PhantomData<&'a Inode<F>>,
}

impl<'a, F: FileSystem> Readahead<'a, F> {
    /// # Safety
    ///
    /// `rac` must satisfy the type invariants for `'a`.
    pub(crate) unsafe fn from_ptr(rac: *mut bindings::readahead_control) -> Self {
        Readahead {
            rac,
            _life: PhantomData,
        }
    }

    /// The inode.
    pub fn inode(&self) -> &'a Inode<F> {
        // SAFETY: By the type invariants.
        unsafe { Inode::from_ptr((*(*self.rac).mapping).host) }
    }

    /// The position in the file of the first byte that was not taken yet.
    pub fn pos(&self) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { bindings::readahead_pos(self.rac) as u64 }
    }

    /// Number of bytes from there on.
    pub fn len(&self) -> usize {
        // SAFETY: By the type invariants.
        unsafe { bindings::readahead_length(self.rac) }
    }

    /// Whether all was taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<F: FileSystem> Iterator for Readahead<'_, F> {
    type Item = LockedFolio<F>;

    fn next(&mut self) -> Option<LockedFolio<F>> {
        // SAFETY: By the type invariants.
        let folio = unsafe { bindings::readahead_next(self.rac) };
        // SAFETY: The function returns a folio of the mapping, locked and with a reference, and both
        // are ours.
        (!folio.is_null()).then(|| unsafe { LockedFolio::from_raw(folio) })
    }
}
