// SPDX-License-Identifier: GPL-2.0

//! Transactions: the only way to change metadata.
//!
//! A [`Transaction`] is one operation of the file system that must reach the disk as a whole (a
//! *handle* in jbd2's words). It is started with [`Credits`], the number of blocks that it may change,
//! computed by the operation beforehand. With the transaction in hand,
//! [`write`](Transaction::write) gives exclusive access to a block. When that access ends the block's
//! [`Seal`] is applied, which recomputes its checksum, and the block is filed with the journal.
//!
//! # Examples
//!
//! A counter in a block of its own is raised, together with whatever else changes in the same
//! transaction:
//!
//! ```ignore
//! fn count(journal: &Journal, counter: &Buffer) -> Result {
//!     let txn = journal.start(Credits::blocks(1))?;
//!     {
//!         let mut block = txn.write(counter, |block: &mut [u8]| set_checksum(block))?;
//!         let bytes = block.first_chunk_mut().ok_or(EINVAL)?;
//!         *bytes = u32::from_le_bytes(*bytes).wrapping_add(1).to_le_bytes();
//!         // Here the checksum is computed, and the journal gets the block.
//!     }
//!     txn.stop()
//! }
//! ```
//!
//! No memory allocation within a transaction enters the file system again: jbd2 sets the task's
//! `PF_MEMALLOC_NOFS`, and a transaction without a log does the same. Nor does the memory of user space: what
//! copies from or to it fails with `EFAULT` where a page fault would be needed. The page may belong to a file of
//! any file system, and jbd2 keeps the transaction of a task where other file systems look for theirs.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Add;
use core::ops::Deref;
use core::ops::DerefMut;
use core::ptr;
use core::slice;

use ferrofs_bindings as bindings;
use kernel::alloc::AllocError;
use kernel::error::code::EBUSY;
use kernel::error::code::EINVAL;
use kernel::error::code::ENOMEM;
use kernel::error::code::ENOSPC;
use kernel::error::code::EROFS;
use kernel::error::from_err_ptr;
use kernel::error::to_result;
use kernel::error::Error;
use kernel::error::Result;
use kernel::macros::kunit_tests;

use crate::buffer::Buffer;
use crate::buffer::Kind;
use crate::buffer::Unread;
use crate::journal::InUse;
use crate::journal::Journal;
use crate::journal::Tid;
use crate::memory::until_available;
use crate::memory::NoFs;
use crate::memory::NoPageFaults;

/// Whether this task has a transaction open that has a log. No other file system must be entered then, since it
/// would take the transaction for one of its own.
pub(crate) fn is_open() -> bool {
    // SAFETY: Looks at the current task only.
    !unsafe { bindings::journal_current_handle() }.is_null()
}

/// How much of the log a transaction needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credits {
    blocks: u32,
    revokes: u32,
}

impl Credits {
    /// For changing up to `blocks` different blocks.
    pub const fn blocks(blocks: u32) -> Self {
        Self { blocks, revokes: 0 }
    }

    /// As this, and for revoking up to `revokes` blocks.
    pub const fn with_revokes(self, revokes: u32) -> Self {
        Self { revokes, ..self }
    }

    /// The number of blocks.
    pub const fn block_count(self) -> u32 {
        self.blocks
    }

    /// As C wants it. More than `MOST` is more than any log has, and refused by the journal.
    fn to_c(self) -> (i32, i32) {
        // jbd2 adds them to each other and to what it has.
        const MOST: i32 = i32::MAX / 4;
        let clamp = |count: u32| i32::try_from(count).map_or(MOST, |count| count.min(MOST));
        (clamp(self.blocks), clamp(self.revokes))
    }
}

impl Add for Credits {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.saturating_add(other.blocks),
            revokes: self.revokes.saturating_add(other.revokes),
        }
    }
}

/// What is done to a block after it was changed and before the journal has it: mostly, to recompute its
/// checksum.
pub trait Seal {
    /// Makes the changed block good.
    fn seal(&self, block: &mut [u8]);
}

impl<F: Fn(&mut [u8])> Seal for F {
    fn seal(&self, block: &mut [u8]) {
        self(block);
    }
}

/// The seal of a block without a checksum of its own.
pub struct Unsealed;

impl Seal for Unsealed {
    fn seal(&self, _block: &mut [u8]) {}
}

/// One operation on the metadata of a file system, which reaches the disk as a whole or not at all.
///
/// It ends when it is dropped; [`stop`](Self::stop) also tells whether all went well. Transactions of
/// one task nest: an inner one is part of the outer one. They must end in reverse order of their start,
/// which they do when they are ordinary variables.
///
/// # Invariants
///
/// `handle` is null exactly if the journal has no log, and else a handle of this task on which this
/// object owns one reference.
pub struct Transaction<'a> {
    in_use: InUse<'a>,
    handle: *mut bindings::handle_t,
    _no_faults: NoPageFaults,
    /// Without a log.
    _nofs: Option<NoFs>,
    /// Whether changed blocks are written at once, without a log.
    sync: Cell<bool>,
    failure: Cell<Option<Error>>,
    // A handle belongs to the task that has started it.
    _not_send: PhantomData<*mut ()>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn start(in_use: InUse<'a>, credits: Credits) -> Result<Self> {
        let (mut handle, mut nofs) = (ptr::null_mut(), None);
        if let Some(log) = in_use.log() {
            let (blocks, revokes) = credits.to_c();
            // SAFETY: The journal is valid while in use; the task's open handle, if it has one, is its
            // own.
            unsafe {
                let outer = bindings::journal_current_handle();
                if !outer.is_null() {
                    // One that has lost its transaction when a restart failed cannot be joined, and one
                    // of another journal is not ours to join.
                    let transaction = (*outer).__bindgen_anon_1.h_transaction;
                    if transaction.is_null() {
                        return Err(EROFS);
                    }
                    if (*transaction).t_journal != log {
                        return Err(EBUSY);
                    }
                }
                // Whoever frees the last reference to a file, or ends a write, has nobody to tell that there was
                // no memory for a handle.
                handle = until_available(|| {
                    let started = from_err_ptr(bindings::jbd2__journal_start(
                        log,
                        blocks,
                        0,
                        revokes,
                        bindings::gfp_nofs(),
                        0,
                        0,
                    ));
                    match started {
                        Err(error) if error == ENOMEM => Err(AllocError),
                        started => Ok(started),
                    }
                })?;
                // An inner transaction brings no credits of its own.
                if !outer.is_null() && bindings::is_handle_aborted(handle) == 0 {
                    let lacking = blocks - bindings::jbd2_handle_buffer_credits(handle);
                    let lacking_revokes = revokes - (*handle).h_revoke_credits;
                    if lacking > 0 || lacking_revokes > 0 {
                        // Denied when the transaction is about to commit: then what the outer one has
                        // asked for must do, as the check on each block will tell.
                        bindings::jbd2_journal_extend(
                            handle,
                            lacking.max(0),
                            lacking_revokes.max(0),
                        );
                    }
                }
            }
        } else {
            nofs = Some(NoFs::enter());
        }
        // INVARIANT: The start has taken a reference on the handle.
        Ok(Self {
            in_use,
            handle,
            _no_faults: NoPageFaults::enter(),
            _nofs: nofs,
            sync: Cell::new(false),
            failure: Cell::new(None),
            _not_send: PhantomData,
        })
    }

    /// The journal that the transaction belongs to.
    #[inline]
    pub fn journal(&self) -> &'a Journal {
        self.in_use.journal()
    }

    /// Whether there is a log.
    #[inline]
    pub fn is_logged(&self) -> bool {
        !self.handle.is_null()
    }

    /// The number of the transaction that will commit this; 0 without a log.
    #[inline]
    pub fn tid(&self) -> Tid {
        if !self.is_alive() || self.handle.is_null() {
            return Tid::default();
        }
        // SAFETY: By the type invariant; a handle that is not aborted is part of a transaction.
        Tid::new(unsafe { (*(*self.handle).__bindgen_anon_1.h_transaction).t_tid })
    }

    /// Whether changes can still reach the disk: the journal was not aborted.
    #[inline]
    pub fn is_alive(&self) -> bool {
        // SAFETY: By the type invariant.
        self.handle.is_null() || unsafe { bindings::is_handle_aborted(self.handle) == 0 }
    }

    /// Exclusive access to the contents of `buffer`, to change them. Sleeps.
    ///
    /// When it ends, `seal` is applied and the block becomes part of the transaction. Takes one credit,
    /// unless the block is part of the running transaction already. The task must not hold the contents
    /// of the same buffer. `EINVAL` when the buffer is not one of the journal's device.
    pub fn write<S: Seal>(&self, buffer: &Buffer, seal: S) -> Result<BufferMut<'_, S>> {
        if !buffer.is_of(self.journal().device()) {
            return Err(EINVAL);
        }
        self.get_write_access(buffer)?;
        self.access(buffer.clone(), seal)
    }

    /// Tells the journal, if there is a log, that the block is going to be changed. Sleeps.
    #[inline]
    fn get_write_access(&self, buffer: &Buffer) -> Result {
        if self.handle.is_null() {
            return Ok(());
        }
        // SAFETY: The handle is ours and the buffer head referenced.
        to_result(unsafe { bindings::jbd2_journal_get_write_access(self.handle, buffer.as_ptr()) })
    }

    /// As [`write`](Self::write), for a block that was just allocated: it is not read but begins as
    /// zeroes, and will be good as `kind`.
    pub fn create<S: Seal>(&self, block: u64, kind: Kind, seal: S) -> Result<BufferMut<'_, S>> {
        let unread = Unread::get(self.journal().device(), block)?;
        let buffer = unread.create(|head| {
            if self.handle.is_null() {
                return Ok(());
            }
            // SAFETY: The handle is ours, the buffer head referenced and locked.
            to_result(unsafe { bindings::jbd2_journal_get_create_access(self.handle, head) })
        })?;
        buffer.set_kind(kind);
        self.access(buffer, seal)
    }

    /// Locks a buffer of which the journal has been told.
    #[inline]
    fn access<S: Seal>(&self, buffer: Buffer, seal: S) -> Result<BufferMut<'_, S>> {
        if buffer.lock_to_change() {
            // Another task has revoked the block since. With the contents held, none can do so again.
            if let Err(error) = self.get_write_access(&buffer) {
                // SAFETY: Locked above.
                unsafe { buffer.unlock_exclusive() };
                return Err(error);
            }
        }
        // INVARIANT: Locked, and the journal has been told.
        Ok(BufferMut {
            transaction: self,
            buffer,
            seal,
        })
    }

    /// Tells the journal that metadata block `block` is no longer in use, so that no older copy of it in
    /// the log is replayed over what the next owner writes there. Takes one revoke credit. Sleeps.
    ///
    /// Waits until nobody holds the contents of the block: the task must not. `EROFS` when the journal was
    /// aborted, `ENOSPC` without a credit.
    pub fn revoke(&self, block: u64) -> Result {
        if self.handle.is_null() {
            Buffer::forget(self.journal().device(), block, |head| {
                if !head.is_null() {
                    // SAFETY: Drops the reference that is passed.
                    unsafe { bindings::__bforget(head) };
                }
            });
            return Ok(());
        }
        if !self.is_alive() {
            return Err(EROFS);
        }
        if self.remaining().revokes == 0 {
            return Err(ENOSPC);
        }
        // jbd2 lets go of what it knows of the block, which who has write access to it relies on.
        Buffer::forget(self.journal().device(), block, |head| {
            // SAFETY: The handle is ours and was alive; the function takes over the reference on the buffer.
            to_result(unsafe { bindings::jbd2_journal_revoke(self.handle, block, head) })
        })
    }

    /// How many more blocks can be changed.
    pub fn remaining(&self) -> Credits {
        if self.handle.is_null() || !self.is_alive() {
            return Credits::blocks(u32::MAX).with_revokes(u32::MAX);
        }
        // SAFETY: By the type invariant; the handle is part of a transaction.
        let (blocks, revokes) = unsafe {
            (
                bindings::jbd2_handle_buffer_credits(self.handle),
                (*self.handle).h_revoke_credits,
            )
        };
        Credits {
            blocks: u32::try_from(blocks).unwrap_or(0),
            revokes: u32::try_from(revokes).unwrap_or(0),
        }
    }

    /// Asks for more credits in the same transaction. `false` when there is no room: the caller stops
    /// here or [restarts](Self::restart).
    pub fn extend(&self, more: Credits) -> Result<bool> {
        if self.handle.is_null() {
            return Ok(true);
        }
        let (blocks, revokes) = more.to_c();
        // SAFETY: By the type invariant.
        match unsafe { bindings::jbd2_journal_extend(self.handle, blocks, revokes) } {
            0 => Ok(true),
            denied if denied > 0 => Ok(false),
            errno => Err(Error::from_errno(errno)),
        }
    }

    /// Ends the transaction here, so that what was done so far may be committed, and goes on in another
    /// one with fresh `credits`. Sleeps.
    ///
    /// The disk must be consistent at this point, and whatever else the rest of the operation relies on
    /// must be looked at again. `EBUSY` within another transaction of the task.
    pub fn restart(&mut self, credits: Credits) -> Result {
        if self.handle.is_null() {
            return Ok(());
        }
        if !self.is_alive() {
            return Err(EROFS);
        }
        // With a count of 1 this object is the only one of the handle, and as it is borrowed mutably
        // nobody has write access to a block.
        // SAFETY: By the type invariant; only this task changes the count.
        if unsafe { (*self.handle).h_ref } != 1 {
            return Err(EBUSY);
        }
        let (blocks, revokes) = credits.to_c();
        // SAFETY: As above.
        to_result(unsafe {
            bindings::jbd2__journal_restart(self.handle, blocks, revokes, bindings::gfp_nofs())
        })
    }

    /// Makes sure that `credits` remain: extends or, failing that, restarts. Returns whether it has
    /// restarted.
    pub fn ensure(&mut self, credits: Credits) -> Result<bool> {
        if !self.is_alive() {
            return Err(EROFS);
        }
        if self.has(credits)? {
            return Ok(false);
        }
        self.restart(credits)?;
        Ok(true)
    }

    /// Makes sure that `credits` remain without ending anything; `false` when that cannot be.
    pub fn has(&self, credits: Credits) -> Result<bool> {
        let remaining = self.remaining();
        let lacking = Credits {
            blocks: credits.blocks.saturating_sub(remaining.blocks),
            revokes: credits.revokes.saturating_sub(remaining.revokes),
        };
        Ok(lacking == Credits::default() || self.extend(lacking)?)
    }

    /// Asks that the end of the transaction waits until it is on disk (`O_SYNC`, `dirsync`).
    pub fn set_sync(&self) {
        self.sync.set(true);
        if !self.handle.is_null() {
            // SAFETY: By the type invariant.
            unsafe { bindings::jbd2_handle_set_sync(self.handle) };
        }
    }

    /// Ends the transaction. Fails when a change could not be recorded or the journal was aborted, or
    /// when the transaction was [synchronous](Self::set_sync) and could not be committed.
    pub fn stop(self) -> Result {
        let mut this = self;
        let result = this.end();
        match this.failure.get() {
            Some(error) => Err(error),
            None => result,
        }
    }

    fn end(&mut self) -> Result {
        let handle = core::mem::replace(&mut self.handle, ptr::null_mut());
        if handle.is_null() {
            return Ok(());
        }
        // SAFETY: The reference is ours and is not used again.
        to_result(unsafe { bindings::jbd2_journal_stop(handle) })
    }

    /// A change could not be recorded: the journal can no longer be trusted with the rest.
    fn fail(&self, error: Error) {
        self.failure.set(Some(error));
        self.journal().abort(error);
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // Whoever wants to know calls stop(); an aborted journal fails every later operation, too.
        let _ = self.end();
    }
}

/// Exclusive access to the contents of a buffer within a transaction.
///
/// # Invariants
///
/// Holds the content lock of `buffer` in exclusive mode. The transaction has write access to it, which a
/// revocation would end: that takes the lock, too.
pub struct BufferMut<'a, S: Seal = Unsealed> {
    transaction: &'a Transaction<'a>,
    buffer: Buffer,
    seal: S,
}

impl<S: Seal> BufferMut<'_, S> {
    /// The buffer.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The number of the block.
    pub fn block(&self) -> u64 {
        self.buffer.block()
    }
}

impl<S: Seal> Deref for BufferMut<'_, S> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let head = self.buffer.as_ptr();
        // SAFETY: By the invariants of `Buffer` the bytes are initialised; the content lock is held.
        unsafe { slice::from_raw_parts((*head).b_data.cast(), (*head).b_size) }
    }
}

impl<S: Seal> DerefMut for BufferMut<'_, S> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let head = self.buffer.as_ptr();
        // SAFETY: As above; the lock is held in exclusive mode.
        unsafe { slice::from_raw_parts_mut((*head).b_data.cast(), (*head).b_size) }
    }
}

impl<S: Seal> Drop for BufferMut<'_, S> {
    fn drop(&mut self) {
        let head = self.buffer.as_ptr();
        // SAFETY: As in `deref_mut()`. A copy of the reference to `self.seal` is not needed beyond this.
        let bytes = unsafe { slice::from_raw_parts_mut((*head).b_data.cast(), (*head).b_size) };
        self.seal.seal(bytes);

        let transaction = self.transaction;
        let mut result = Ok(());
        // SAFETY: The buffer head is referenced, its contents are in memory, and the transaction has
        // write access; the lock is held and not used again.
        unsafe {
            if transaction.handle.is_null() {
                bindings::mark_buffer_dirty(head);
            } else {
                result = to_result(bindings::jbd2_journal_dirty_metadata(
                    transaction.handle,
                    head,
                ));
            }
            self.buffer.unlock_exclusive();
            if transaction.handle.is_null() {
                transaction.journal().note_unlogged_change();
            }
            if transaction.handle.is_null() && transaction.sync.get() {
                result = to_result(bindings::sync_dirty_buffer(head));
            }
        }
        if let Err(error) = result {
            transaction.fail(error);
        }
    }
}

#[kunit_tests(vfs_credits)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_wrap() {
        let some = Credits::blocks(3).with_revokes(1);
        assert_eq!(
            some + Credits::blocks(4),
            Credits::blocks(7).with_revokes(1)
        );
        let most = Credits::blocks(u32::MAX).with_revokes(u32::MAX);
        assert_eq!(most + some, most);
    }

    #[test]
    fn what_c_cannot_count_is_more_than_any_log_has() {
        assert_eq!(Credits::blocks(5).with_revokes(2).to_c(), (5, 2));
        for count in [1 << 29, i32::MAX as u32, 1 << 31, u32::MAX] {
            let (blocks, revokes) = Credits::blocks(count).with_revokes(count).to_c();
            assert!(blocks > 1 << 28 && revokes > 1 << 28);
            // jbd2 adds them to other numbers.
            assert!(blocks.checked_add(revokes).is_some());
        }
    }
}
