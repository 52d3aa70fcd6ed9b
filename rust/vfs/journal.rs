// SPDX-License-Identifier: GPL-2.0

//! The journal of a mount: jbd2.
//!
//! C header: [`include/linux/jbd2.h`](srctree/include/linux/jbd2.h)
//!
//! # The life of a journal
//!
//! A mount makes a [`Journal`] that is *closed*: no transaction can start. It then either
//!
//! - finds the log, in a file of the file system ([`Recovery::from_inode`]), replays what a crash left
//!   in it ([`Recovery::load`]) and [opens](Journal::open) the journal, or
//! - [opens it without a log](Journal::open_unlogged): transactions then only mark buffers dirty.
//!
//! From then on every change of metadata happens in a
//! [`Transaction`]. jbd2 gathers the transactions of all tasks in one *running*
//! transaction, which is committed every few seconds, when it has grown large, or when somebody needs
//! it on disk. At the end of the mount, [`Journal::close`] commits what is running, writes everything
//! to its place and marks the log empty.

use core::mem::ManuallyDrop;
use core::ptr;

use ferrofs_bindings as bindings;
use kernel::error::code::EBUSY;
use kernel::error::code::EROFS;
use kernel::error::to_result;
use kernel::error::Error;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Acquire;
use kernel::sync::atomic::ordering::Full;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;

use crate::block_device::BlockDevice;
use crate::block_device::OpenDevice;
use crate::recovery::Callbacks;
pub use crate::recovery::Checksums;
pub use crate::recovery::Loaded;
pub use crate::recovery::Recovery;
use crate::transaction::Credits;
use crate::transaction::Transaction;

/// The number of a transaction. Wraps around, so that two of them have an order only while they are
/// less than 2^31 apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Tid(u32);

impl Tid {
    /// Gives a raw number its type.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The raw number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether this transaction is `other` or a later one.
    pub const fn is_at_least(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) as i32 >= 0
    }
}

/// What wants to hear of commits: the owner of blocks that were freed and may be used again once the
/// transaction that freed them is on disk.
pub trait CommitListener: Send + Sync {
    /// Transaction `tid` is on disk, or the journal was aborted and it never will be.
    ///
    /// Called by the journal's own task, in the order of the transactions. May sleep; must not start a
    /// transaction nor wait for one.
    fn committed(&self, tid: Tid);
}

/// What a journal can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// After how many milliseconds a transaction is committed (`commit=`).
    pub commit_interval_msecs: usize,
    /// How long in microseconds a synchronous operation waits at least for others to join.
    pub min_batch_usecs: u32,
    /// How long in microseconds a synchronous operation waits at most for others to join.
    pub max_batch_usecs: u32,
    /// Whether commits order their writes with flushes of the device's cache.
    pub barrier: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            commit_interval_msecs: 5000,
            min_batch_usecs: 0,
            max_batch_usecs: 15000,
            barrier: true,
        }
    }
}

/// Stands in [`Journal::raw`] for "open, without a log". jbd2's journals are aligned.
const UNLOGGED: *mut bindings::journal_t = ptr::without_provenance_mut(1);
/// Stands in [`Journal::raw`] for "being opened or closed".
const CHANGING: *mut bindings::journal_t = ptr::without_provenance_mut(2);

/// The journal of a mount.
///
/// # Invariants
///
/// - `raw` is null while closed, `UNLOGGED`, `CHANGING`, or a loaded journal that this object owns together
///   with `callbacks`, and whose device stays open as long as `device`. Who has set it to `CHANGING` is
///   the only one that may change it and `callbacks`.
/// - A journal is destroyed only after `raw` was set to `CHANGING` and `users` was then seen to be 0; who
///   uses the pointer has incremented `users` before loading it.
pub struct Journal {
    raw: Atomic<*mut bindings::journal_t>,
    callbacks: Atomic<*mut Callbacks>,
    users: Atomic<usize>,
    unlogged_changes: Atomic<u64>,
    device: ManuallyDrop<OpenDevice>,
}

// SAFETY: A journal may be used by all tasks; jbd2 does its own locking.
unsafe impl Send for Journal {}
// SAFETY: As above.
unsafe impl Sync for Journal {}

/// A journal that cannot be closed meanwhile.
///
/// # Invariants
///
/// Counted in `users` of the journal; `raw` is what its `raw` was after that. It is neither null nor
/// `CHANGING`, except in a value that is not given to anybody.
pub(crate) struct InUse<'a> {
    journal: &'a Journal,
    raw: *mut bindings::journal_t,
}

impl<'a> InUse<'a> {
    /// jbd2's journal, unless there is no log.
    pub(crate) fn log(&self) -> Option<*mut bindings::journal_t> {
        (self.raw != UNLOGGED).then_some(self.raw)
    }

    /// The journal.
    pub(crate) fn journal(&self) -> &'a Journal {
        self.journal
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.journal.users.fetch_sub(1, Full);
    }
}

impl Journal {
    /// A closed journal for the file system on `device`.
    pub fn new(device: OpenDevice) -> Self {
        // INVARIANT: Closed.
        Self {
            raw: Atomic::new(ptr::null_mut()),
            callbacks: Atomic::new(ptr::null_mut()),
            users: Atomic::new(0),
            unlogged_changes: Atomic::new(0),
            device: ManuallyDrop::new(device),
        }
    }

    /// The device of the file system.
    #[inline]
    pub fn device(&self) -> &BlockDevice {
        &self.device
    }

    /// Opens the journal with a log. `EBUSY` when it is open, `EINVAL` when the log belongs to the file
    /// system of another device.
    pub fn open(&self, loaded: Loaded) -> Result {
        if !ptr::eq(loaded.device().as_ptr(), self.device.as_ptr()) {
            return Err(EINVAL);
        }
        if self.raw.cmpxchg(ptr::null_mut(), CHANGING, Full).is_err() {
            return Err(EBUSY);
        }
        let (raw, callbacks) = loaded.into_parts();
        self.callbacks.store(KBox::into_raw(callbacks), Relaxed);
        // INVARIANT: The journal is loaded and now ours; both are references to the same device, as the
        // log lies on the device of the file system.
        self.raw.xchg(raw.as_ptr(), Full);
        Ok(())
    }

    /// Opens the journal without a log. `EBUSY` when it is open.
    pub fn open_unlogged(&self) -> Result {
        // INVARIANT: Open without a log.
        match self.raw.cmpxchg(ptr::null_mut(), UNLOGGED, Full) {
            Ok(_) => Ok(()),
            Err(_) => Err(EBUSY),
        }
    }

    /// Commits what is running, writes all of it to its place, marks the log empty and closes it.
    ///
    /// Nothing happens when the journal is closed. `EBUSY` while a transaction is open anywhere; `EIO`
    /// when the log could not be emptied, which is then left for recovery.
    pub fn close(&self) -> Result {
        let raw = self.raw.load(Acquire);
        if raw.is_null() {
            return Ok(());
        }
        if raw == CHANGING || self.raw.cmpxchg(raw, CHANGING, Full).is_err() {
            return Err(EBUSY);
        }
        if self.users.load(Acquire) != 0 {
            self.raw.xchg(raw, Full);
            return Err(EBUSY);
        }
        let mut result = Ok(());
        if raw != UNLOGGED {
            let callbacks = self.callbacks.xchg(ptr::null_mut(), Full);
            // SAFETY: By the type invariant the journal and the callbacks are ours, and nobody uses the
            // journal: whoever is counted in `users` from now on finds that it is being closed.
            unsafe {
                result = to_result(bindings::jbd2_journal_destroy(raw));
                drop(KBox::from_raw(callbacks));
            }
        }
        self.raw.xchg(ptr::null_mut(), Full);
        result
    }

    /// Keeps the journal from being closed; `EROFS` when it is.
    pub(crate) fn enter(&self) -> Result<InUse<'_>> {
        self.users.fetch_add(1, Full);
        // INVARIANT: Counted before the pointer is loaded.
        let in_use = InUse {
            journal: self,
            raw: self.raw.load(Acquire),
        };
        if in_use.raw.is_null() || in_use.raw == CHANGING {
            return Err(EROFS);
        }
        Ok(in_use)
    }

    /// Calls `f` with jbd2's journal; `None` when there is no log or the journal is closed.
    fn with_log<R>(&self, f: impl FnOnce(*mut bindings::journal_t) -> R) -> Option<R> {
        let in_use = self.enter().ok()?;
        in_use.log().map(f)
    }

    /// The length of the log in blocks; 0 without one.
    pub fn log_blocks(&self) -> u32 {
        // SAFETY: The journal is valid while in use; its length does not change.
        self.with_log(|raw| unsafe { (*raw).j_total_len })
            .unwrap_or(0)
    }

    /// Whether transactions can be started. Before that a replay may still change blocks behind the back
    /// of who has read them.
    #[inline]
    pub fn is_open(&self) -> bool {
        !self.raw.load(Relaxed).is_null()
    }

    /// Whether the journal is open and has a log.
    pub fn has_log(&self) -> bool {
        self.with_log(|_| ()).is_some()
    }

    /// How often a block was changed without a log.
    ///
    /// Who has this number, and then has the [buffers of the device
    /// written](BlockDevice::sync_buffers), knows that these changes have arrived at the device.
    pub fn unlogged_changes(&self) -> u64 {
        self.unlogged_changes.load(Acquire)
    }

    /// A block was changed without a log: it is dirty by now.
    pub(crate) fn note_unlogged_change(&self) {
        self.unlogged_changes.fetch_add(1, Full);
    }

    /// Starts a transaction that may change as many blocks as `credits` says, or joins the one that this
    /// task has open. Sleeps, possibly until a commit has made room in the log.
    ///
    /// `EROFS` when the journal is closed or was aborted. No transaction may be started with the content
    /// of a [buffer](crate::buffer) held, and no page of a file locked within one.
    pub fn start(&self, credits: Credits) -> Result<Transaction<'_>> {
        Transaction::start(self.enter()?, credits)
    }

    /// Applies `settings`.
    pub fn configure(&self, settings: &Settings) {
        self.with_log(|raw| {
            // SAFETY: The journal is valid while in use.
            unsafe {
                bindings::jbd2_set_times(
                    raw,
                    settings.commit_interval_msecs,
                    settings.min_batch_usecs,
                    settings.max_batch_usecs,
                );
                bindings::jbd2_set_barrier(raw, settings.barrier);
            }
        });
    }

    /// Sets the I/O priority of the task that commits: a level of the best-effort class, 0 for the first to be
    /// served to 7 for the last. Nothing happens without a log. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for another level; `EPERM` when the caller may not do that; `ENOMEM`.
    pub fn set_io_priority(&self, level: u8) -> Result {
        if level > 7 {
            return Err(EINVAL);
        }
        self.with_log(|raw| {
            // SAFETY: The journal is valid while in use. It is loaded, so that its task runs until it is
            // destroyed.
            to_result(unsafe { bindings::jbd2_set_io_priority(raw, level.into()) })
        })
        .unwrap_or(Ok(()))
    }

    /// Stops all journalling for ever: transactions end with `EROFS`, nothing more is committed.
    ///
    /// `error` is recorded in the log, for the next mount and for fsck.
    pub fn abort(&self, error: Error) {
        self.with_log(|raw| {
            // SAFETY: The journal is valid while in use.
            unsafe { bindings::jbd2_journal_abort(raw, error.to_errno()) }
        });
    }

    /// Whether the journal was aborted.
    pub fn is_aborted(&self) -> bool {
        self.with_log(|raw| {
            // SAFETY: The journal is valid while in use.
            unsafe { bindings::is_journal_aborted(raw) != 0 }
        })
        .unwrap_or(false)
    }

    /// The last transaction that was begun.
    pub fn latest_tid(&self) -> Tid {
        self.with_log(|raw| {
            // SAFETY: The journal is valid while in use.
            Tid(unsafe { bindings::jbd2_get_latest_transaction(raw) })
        })
        .unwrap_or_default()
    }

    /// Whether transaction `tid` is on disk.
    pub fn is_committed(&self, tid: Tid) -> bool {
        self.with_log(|raw| {
            // SAFETY: The journal is valid while in use.
            unsafe { bindings::jbd2_transaction_committed(raw, tid.0) != 0 }
        })
        .unwrap_or(true)
    }

    /// Makes sure that transaction `tid` is on disk, committing it now if need be. Sleeps.
    ///
    /// `EIO` when the journal was aborted.
    pub fn complete(&self, tid: Tid) -> Result {
        self.with_log(|raw| {
            // SAFETY: The journal is valid while in use.
            to_result(unsafe { bindings::jbd2_complete_transaction(raw, tid.0) })
        })
        .unwrap_or(Ok(()))
    }

    /// Begins to commit the running transaction, if there is one, and returns which to wait for.
    pub fn start_commit(&self) -> Option<Tid> {
        self.with_log(|raw| {
            let mut tid = 0;
            // SAFETY: The journal is valid while in use.
            let started = unsafe { bindings::jbd2_journal_start_commit(raw, &mut tid) };
            (started != 0).then_some(Tid(tid))
        })
        .flatten()
    }

    /// Waits until transaction `tid`, whose commit has been asked for, is on disk. Sleeps.
    pub fn wait_commit(&self, tid: Tid) -> Result {
        self.with_log(|raw| {
            // SAFETY: The journal is valid while in use.
            to_result(unsafe { bindings::jbd2_log_wait_commit(raw, tid.0) })
        })
        .unwrap_or(Ok(()))
    }

    /// Whether the commit of transaction `tid` still has a cache flush of the file system's device
    /// before it, so that whoever waits for it need not flush.
    pub fn will_flush(&self, tid: Tid) -> bool {
        self.with_log(|raw| {
            // SAFETY: The journal is valid while in use.
            unsafe { bindings::jbd2_trans_will_send_data_barrier(raw, tid.0) != 0 }
        })
        .unwrap_or(false)
    }

    /// Waits for the open transactions, commits, writes everything to its place and marks the log empty.
    ///
    /// It stays empty as long as what this returns lives: whoever starts a transaction waits for the end of
    /// that. Nothing happens without a log. Sleeps; not within a transaction.
    pub fn flush(&self) -> Result<EmptyLog<'_>> {
        let Ok(in_use) = self.enter() else {
            return Ok(EmptyLog { in_use: None });
        };
        let log = in_use.log();
        if let Some(raw) = log {
            // SAFETY: The journal is valid while in use.
            unsafe { bindings::jbd2_journal_lock_updates(raw) };
        }
        // INVARIANT: Locked above.
        let empty = EmptyLog {
            in_use: Some(in_use),
        };
        if let Some(raw) = log {
            // SAFETY: The journal is valid while in use, and updates are locked.
            to_result(unsafe { bindings::jbd2_journal_flush(raw, 0) })?;
        }
        Ok(empty)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            let (major, minor) = self.device.number();
            pr_err!(
                "the journal of device {major}:{minor} could not be closed cleanly: {error:?}\n"
            );
        }
        if self.raw.load(Relaxed).is_null() {
            // SAFETY: Dropped once, here, and not used any more.
            unsafe { ManuallyDrop::drop(&mut self.device) };
        }
        // Otherwise a transaction was forgotten, and never ends. The journal lives on, and with it the
        // device that it works on and the module that it calls.
    }
}

/// The log of a journal in which no transaction can be started until this is dropped.
///
/// # Invariants
///
/// Holds jbd2's updates lock if there is a log.
#[must_use = "the log stays empty only as long as this lives"]
pub struct EmptyLog<'a> {
    in_use: Option<InUse<'a>>,
}

impl Drop for EmptyLog<'_> {
    fn drop(&mut self) {
        if let Some(raw) = self.in_use.as_ref().and_then(InUse::log) {
            // SAFETY: By the type invariant the updates are locked.
            unsafe { bindings::jbd2_journal_unlock_updates(raw) };
        }
    }
}

#[kunit_tests(vfs_tid)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_transactions_survives_the_end_of_the_numbers() {
        let (before, last, first) = (Tid(u32::MAX - 1), Tid(u32::MAX), Tid(0));
        assert!(last.is_at_least(before) && !before.is_at_least(last));
        assert!(first.is_at_least(last) && !last.is_at_least(first));
        assert!(first.is_at_least(first));
        assert!(Tid(1 << 30).is_at_least(last));
    }
}
