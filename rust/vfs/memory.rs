// SPDX-License-Identifier: GPL-2.0

//! What a task may do when it needs memory.
//!
//! C headers: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h),
//! [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h)

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::alloc::AllocError;

use crate::transaction;

/// While this lives, allocations of the task do not enter file systems to free memory.
///
/// Needed wherever a lock is held that the freeing of memory may take, too: freeing memory writes data
/// back and evicts inodes. A transaction brings its own.
///
/// # Invariants
///
/// `flags` is what `memalloc_nofs_save()` of this task returned.
#[must_use = "the scope ends when this is dropped"]
pub struct NoFs {
    flags: core::ffi::c_uint,
    _not_send: PhantomData<*mut ()>,
}

impl NoFs {
    /// Begins such a scope. Scopes nest; they end in reverse order.
    pub fn enter() -> Self {
        // INVARIANT: Of this task, and the object stays with it.
        Self {
            // SAFETY: Restored when this is dropped.
            flags: unsafe { bindings::memalloc_nofs_save() },
            _not_send: PhantomData,
        }
    }
}

impl Drop for NoFs {
    fn drop(&mut self) {
        // A transaction that was started within the scope and outlives it needs it: another file system
        // that is entered to free memory would take the transaction for one of its own.
        if !transaction::is_open() {
            // SAFETY: By the type invariant. Ended out of order, a scope may end late or early, which
            // concerns when the task may deadlock and no memory safety.
            unsafe { bindings::memalloc_nofs_restore(self.flags) }
        }
    }
}

/// While this lives, page faults of the task on its own memory are not served: what copies from or to memory
/// that is not there fails with `EFAULT`.
///
/// # Invariants
///
/// Counted by the task, with which the object stays.
pub(crate) struct NoPageFaults(PhantomData<*mut ()>);

impl NoPageFaults {
    /// Begins such a scope. Scopes nest, and end in any order.
    #[inline]
    pub(crate) fn enter() -> Self {
        // SAFETY: Undone when this is dropped. The task may sleep meanwhile.
        unsafe { bindings::pagefault_disable() };
        // INVARIANT: Just counted.
        Self(PhantomData)
    }
}

impl Drop for NoPageFaults {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::pagefault_enable() };
    }
}

/// Calls `allocate` until it finds memory, with a pause after each failure: for what nothing can take back that
/// was done before. Allocations that are small hardly ever fail, but they do for a task that is being killed
/// because there is no memory left.
///
/// Sleeps, and uninterruptibly. Not with a lock held without which no memory can be freed.
pub fn until_available<T>(mut allocate: impl FnMut() -> Result<T, AllocError>) -> T {
    loop {
        if let Ok(value) = allocate() {
            return value;
        }
        // SAFETY: The caller may sleep.
        unsafe { bindings::memalloc_retry_wait_nofs() };
    }
}
