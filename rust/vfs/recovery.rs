// SPDX-License-Identifier: GPL-2.0

//! The log of a mount before it is in use: found, looked into, replayed.
//!
//! C header: [`include/linux/jbd2.h`](srctree/include/linux/jbd2.h)

use core::mem::ManuallyDrop;
use core::ptr;
use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::error::from_err_ptr;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;

use crate::block_device::BlockDevice;
use crate::block_device::OpenDevice;
use crate::buffer::any_held;
use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::journal::CommitListener;
use crate::journal::Tid;

/// Keeps the code of this module in memory.
struct CodeInUse;

impl CodeInUse {
    fn new() -> Self {
        // SAFETY: The module runs this very function.
        unsafe { bindings::this_module_get() };
        Self
    }
}

impl Drop for CodeInUse {
    fn drop(&mut self) {
        // SAFETY: Taken when the value was made.
        unsafe { bindings::this_module_put() };
    }
}

/// What jbd2 keeps a pointer to for its callbacks.
pub(crate) struct Callbacks {
    listener: Arc<dyn CommitListener>,
    /// The journal has a task of its own, which calls back as long as there is a journal, be it one that
    /// everybody has forgotten.
    _code: CodeInUse,
}

/// # Safety
///
/// jbd2 calls this with a live journal whose `j_private` points to [`Callbacks`], and the transaction
/// that it has just committed.
unsafe extern "C" fn commit_callback(
    journal: *mut bindings::journal_t,
    transaction: *mut bindings::transaction_t,
) {
    // SAFETY: See above; the callbacks live longer than the journal.
    let (callbacks, tid) = unsafe {
        (
            &*(*journal).j_private.cast::<Callbacks>(),
            Tid::new((*transaction).t_tid),
        )
    };
    callbacks.listener.committed(tid);
}

/// A log that was found and has not been looked into.
///
/// # Invariants
///
/// `raw` is a journal made by jbd2 that is not loaded and that this object owns; its device stays open
/// as long as `device`.
pub struct Recovery {
    raw: NonNull<bindings::journal_t>,
    callbacks: KBox<Callbacks>,
    device: OpenDevice,
}

// SAFETY: A journal belongs to no task.
unsafe impl Send for Recovery {}

impl Recovery {
    /// Takes over the journal that one of jbd2's init functions makes.
    ///
    /// # Safety
    ///
    /// `init` returns a new journal on `device`, which belongs to the caller, or an error pointer.
    unsafe fn new(
        device: OpenDevice,
        listener: Arc<dyn CommitListener>,
        init: impl FnOnce() -> *mut bindings::journal_t,
    ) -> Result<Self> {
        let callbacks = KBox::new(
            Callbacks {
                listener,
                _code: CodeInUse::new(),
            },
            GFP_KERNEL,
        )?;
        let raw = NonNull::new(from_err_ptr(init())?).ok_or(EINVAL)?;
        // INVARIANT: By this function's contract.
        Ok(Self {
            raw,
            callbacks,
            device,
        })
    }

    /// Finds the log in the blocks of a file, whose `bmap` must work. All its blocks must be allocated.
    pub fn from_inode<F: FileSystem>(
        inode: ARef<Inode<F>>,
        listener: Arc<dyn CommitListener>,
    ) -> Result<Self> {
        // SAFETY: The inode belongs to a live super block.
        let device = unsafe { OpenDevice::of_super_block((*inode.as_ptr()).i_sb)? };
        // SAFETY: The inode is valid and its super block's device is open. Destroying the journal drops
        // one reference on the inode: the one that is given up below.
        let init = || unsafe { bindings::jbd2_journal_init_inode(inode.as_ptr()) };
        // SAFETY: As above.
        let recovery = unsafe { Self::new(device, listener, init)? };
        let _ = ARef::into_raw(inode);
        Ok(recovery)
    }

    /// Whether the log holds transactions that are not known to be in their place.
    pub fn is_needed(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::jbd2_needs_recovery(self.raw.as_ptr()) }
    }

    /// Empties the log without replaying it; in memory only unless `write`.
    pub fn wipe(&mut self, write: bool) -> Result {
        // SAFETY: By the type invariant the journal is not loaded.
        to_result(unsafe { bindings::jbd2_journal_wipe(self.raw.as_ptr(), write.into()) })
    }

    /// Replays the log, begins a new one, with the features we use, and lets it be written.
    ///
    /// `wide` asks for block numbers beyond 32 bits. Everything that was read from the device before
    /// may be out of date afterwards. `EBUSY` when somebody holds the contents of a buffer, which the replay
    /// may change.
    pub fn load(self, checksums: Checksums, wide: bool) -> Result<Loaded> {
        let raw = self.raw.as_ptr();
        if any_held(&self.device) {
            return Err(EBUSY);
        }
        // SAFETY: By the type invariant; `callbacks` is dropped after the journal was destroyed.
        unsafe {
            (*raw).j_private = (&raw const *self.callbacks).cast_mut().cast();
            (*raw).j_commit_callback = Some(commit_callback);
            to_result(bindings::jbd2_journal_load(raw))?;
            set_features(raw, checksums, wide)?;
        }
        // INVARIANT: The journal is loaded.
        Ok(Loaded(self))
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        // SAFETY: The journal is ours and not used again. What it has to say was said before: a journal
        // that is not open has nothing to write.
        unsafe { bindings::jbd2_journal_destroy(self.raw.as_ptr()) };
    }
}

/// What of the log has checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksums {
    /// Nothing.
    None,
    /// Each transaction as a whole, in its commit block: version 1, for file systems without checksums.
    Transactions,
    /// Each block: version 3.
    Blocks,
}

/// Sets the features of a loaded journal.
///
/// # Safety
///
/// `raw` is a loaded journal.
unsafe fn set_features(raw: *mut bindings::journal_t, checksums: Checksums, wide: bool) -> Result {
    let mut incompat = bindings::JBD2_FEATURE_INCOMPAT_REVOKE as usize;
    let mut compat = 0;
    match checksums {
        Checksums::None => {}
        Checksums::Transactions => compat |= bindings::JBD2_FEATURE_COMPAT_CHECKSUM as usize,
        Checksums::Blocks => incompat |= bindings::JBD2_FEATURE_INCOMPAT_CSUM_V3 as usize,
    }
    if wide {
        incompat |= bindings::JBD2_FEATURE_INCOMPAT_64BIT as usize;
    }
    // The log has one kind of checksums or none, and an asynchronous commit would not wait for the blocks
    // that the commit block vouches for.
    let clear = (bindings::JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT
        | bindings::JBD2_FEATURE_INCOMPAT_CSUM_V2
        | bindings::JBD2_FEATURE_INCOMPAT_CSUM_V3) as usize;
    let clear_compat = bindings::JBD2_FEATURE_COMPAT_CHECKSUM as usize;
    // SAFETY: By this function's contract.
    unsafe {
        bindings::jbd2_journal_clear_features(raw, clear_compat, 0, clear);
        if bindings::jbd2_journal_set_features(raw, compat, 0, incompat) == 0 {
            return Err(EINVAL);
        }
    }
    Ok(())
}

/// A log that was replayed and is ready for new transactions.
///
/// # Invariants
///
/// The journal in it is loaded, its callbacks are set.
pub struct Loaded(Recovery);

impl Loaded {
    /// The device that the log lies on.
    pub(crate) fn device(&self) -> &BlockDevice {
        &self.0.device
    }

    /// jbd2's journal and what it calls back, both the caller's now. The caller keeps the device open.
    pub(crate) fn into_parts(self) -> (NonNull<bindings::journal_t>, KBox<Callbacks>) {
        let recovery = ManuallyDrop::new(self.0);
        // SAFETY: Moved out of the object once each, and it is not dropped.
        let (callbacks, device) =
            unsafe { (ptr::read(&recovery.callbacks), ptr::read(&recovery.device)) };
        drop(device);
        (recovery.raw, callbacks)
    }

    /// The error that an earlier mount recorded in the log before it was aborted, if any.
    pub fn recorded_error(&self) -> Result {
        // SAFETY: The journal is valid.
        to_result(unsafe { bindings::jbd2_journal_errno(self.0.raw.as_ptr()) })
    }

    /// Forgets the recorded error, after the file system has noted it in its own super block.
    pub fn clear_error(&mut self) -> Result {
        // SAFETY: The journal is valid and loaded.
        unsafe {
            to_result(bindings::jbd2_journal_clear_err(self.0.raw.as_ptr()))?;
            bindings::jbd2_journal_ack_err(self.0.raw.as_ptr());
        }
        Ok(())
    }
}
