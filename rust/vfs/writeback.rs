// SPDX-License-Identifier: GPL-2.0

//! Writeback: what the kernel wants written, and the walk over the dirty folios of an inode.
//!
//! C header: `include/linux/writeback.h`.

use ferrofs_bindings as bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

use crate::bio::Completion;
use crate::bio::Flags;
use crate::bio::WriteBio;
use crate::folio::LockedFolio;
use crate::fs::FileSystem;
use crate::inode::Inode;

/// How much a writeback must do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Write what is convenient.
    None,
    /// Write all that is dirty and wait for it.
    All,
}

/// What is to be written, and why.
///
/// # Invariants
///
/// A valid `struct writeback_control` that this task uses alone.
#[repr(transparent)]
pub struct WritebackControl(Opaque<bindings::writeback_control>);

impl WritebackControl {
    /// # Safety
    ///
    /// `wbc` must satisfy the type invariants for `'a`.
    pub(crate) unsafe fn from_ptr<'a>(wbc: *mut bindings::writeback_control) -> &'a mut Self {
        // SAFETY: By this function's contract; the type is transparent.
        unsafe { &mut *wbc.cast() }
    }

    fn as_ptr(&self) -> *mut bindings::writeback_control {
        self.0.get()
    }

    /// Whether somebody waits for all of it.
    pub fn sync_mode(&self) -> SyncMode {
        // SAFETY: By the type invariants.
        if unsafe { (*self.as_ptr()).sync_mode } == bindings::writeback_sync_modes_WB_SYNC_ALL {
            SyncMode::All
        } else {
            SyncMode::None
        }
    }

    /// How many pages are still to be written.
    pub fn nr_to_write(&self) -> i64 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_ptr()).nr_to_write as i64 }
    }

    /// The flags for the bios of this writeback.
    pub fn write_flags(&self) -> Flags {
        // SAFETY: By the type invariants.
        Flags(unsafe { bindings::wbc_to_write_flags(self.as_ptr()) })
    }

    /// Bills `bio`, which is to be part of this writeback, to the cgroup that it is for.
    pub fn init_bio<C: Completion>(&self, bio: &mut WriteBio<'_, C>) {
        // SAFETY: Both are valid, and the bio has its device.
        unsafe { bindings::wbc_init_bio(self.as_ptr(), bio.as_ptr()) };
    }

    /// Notes that `bytes` of `folio` are written, to find out whose dirty pages this inode has.
    pub fn account<F: FileSystem>(&self, folio: &crate::folio::Folio<F>, bytes: usize) {
        // SAFETY: Both are valid.
        unsafe { bindings::wbc_account_cgroup_owner(self.as_ptr(), folio.as_ptr(), bytes) };
    }

    /// Makes a folio that cannot be written now dirty again. Nothing happens to one that was truncated.
    pub fn redirty<F: FileSystem>(&self, folio: &LockedFolio<F>) {
        if folio.inode().is_none() {
            return;
        }
        // SAFETY: Both are valid, and the folio is locked and in its mapping.
        unsafe { bindings::folio_redirty_for_writepage(self.as_ptr(), folio.as_ptr()) };
    }

    /// Calls `write` for each dirty folio of `inode` that is to be written, in file order. It gets
    /// the folio locked, not under writeback, and with its dirty flag cleared for I/O; it must start
    /// its writeback, redirty it, or have a reason why its bytes need not be written.
    ///
    /// Folios under writeback are waited for or passed by, as the sync mode says. Sleeps. The walk keeps its
    /// state in `self`, which `write` therefore gets to look at only: no other walk is begun meanwhile.
    ///
    /// # Errors
    ///
    /// The first that `write` returned. It does not end the walk when all is to be written.
    pub fn for_each_dirty<F: FileSystem>(
        &mut self,
        inode: &Inode<F>,
        mut write: impl FnMut(&Self, LockedFolio<F>) -> Result,
    ) -> Result {
        let mut folio = core::ptr::null_mut();
        let mut error = 0;
        loop {
            // SAFETY: The inode and `wbc` are valid. The function is called until it returns null,
            // with what it returned last, of which it keeps a reference.
            folio = unsafe {
                bindings::writeback_iter(inode.mapping_ptr(), self.as_ptr(), folio, &mut error)
            };
            if folio.is_null() {
                break;
            }
            // SAFETY: The folio is of the inode, locked, and the lock is ours to end. The value
            // gets a reference of its own.
            let locked = unsafe {
                bindings::folio_get(folio);
                LockedFolio::from_raw(folio)
            };
            error = match write(self, locked) {
                Ok(()) => 0,
                Err(error) => error.to_errno(),
            };
        }
        kernel::error::to_result(error)
    }
}

/// Whether this task frees memory for others right now. Writing files from there has no place: it
/// would take stack and locks that the one who waits may hold.
pub fn in_memory_reclaim() -> bool {
    // SAFETY: `current` is valid, and its flags are changed by itself only.
    let flags = unsafe { (*kernel::current!().as_ptr()).flags };
    flags & (bindings::PF_MEMALLOC | bindings::PF_KSWAPD) == bindings::PF_MEMALLOC
}
