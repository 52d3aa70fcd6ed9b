// SPDX-License-Identifier: GPL-2.0

//! Work queues of one's own.
//!
//! C header: `include/linux/workqueue.h`.

use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::prelude::*;
use kernel::workqueue::Queue;
use kernel::workqueue::RawWorkItem;

/// A work queue that has a thread in reserve, so that its work goes on when there is no memory for
/// another one: for work that memory reclaim waits for. Dropping it waits for all work that is on
/// it.
///
/// It is no [`Queue`]: that one takes work for later, too, which is on it only when its time has come and
/// for which dropping the queue does not wait.
///
/// # Invariants
///
/// `queue` is a valid work queue that belongs to this value.
pub struct OwnedQueue {
    queue: NonNull<bindings::workqueue_struct>,
}

// SAFETY: Work queues may be used by any thread.
unsafe impl Send for OwnedQueue {}
// SAFETY: As above.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Makes a queue whose work is not bound to a CPU, of which up to `max_active` run at a time (0
    /// for the kernel's default).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(name: &CStr, max_active: u32) -> Result<Self> {
        let flags = bindings::wq_flags_WQ_MEM_RECLAIM | bindings::wq_flags_WQ_UNBOUND;
        // SAFETY: The name is copied.
        let queue =
            unsafe { bindings::alloc_workqueue(name.as_char_ptr(), flags, max_active as i32) };
        // INVARIANT: It was just made.
        Ok(OwnedQueue {
            queue: NonNull::new(queue).ok_or(ENOMEM)?,
        })
    }

    /// Puts `work` on the queue, unless it is on one already. See [`Queue::enqueue`].
    pub fn enqueue<W, const ID: u64>(&self, work: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        // SAFETY: By the type invariants the queue lives as long as `self`.
        unsafe { Queue::from_raw(self.queue.as_ptr()) }.enqueue(work)
    }

    /// Has the queue call `f`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn spawn(&self, f: impl FnOnce() + Send + 'static) -> Result {
        // SAFETY: By the type invariants the queue lives as long as `self`.
        let queue = unsafe { Queue::from_raw(self.queue.as_ptr()) };
        Ok(queue.try_spawn(GFP_KERNEL, f)?)
    }

    /// Waits for all work that is on the queue now. Sleeps.
    pub fn flush(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::__flush_workqueue(self.queue.as_ptr()) };
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: The queue is ours; work that is on it is waited for.
        unsafe { bindings::destroy_workqueue(self.queue.as_ptr()) };
    }
}
