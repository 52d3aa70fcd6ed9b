// SPDX-License-Identifier: GPL-2.0

//! What memory allocations of a task may do.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::alloc::AllocError;

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
        // SAFETY: By the type invariant. Ended out of order, a scope may end late or early, which
        // concerns when the task may deadlock and no memory safety.
        unsafe { bindings::memalloc_nofs_restore(self.flags) }
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
