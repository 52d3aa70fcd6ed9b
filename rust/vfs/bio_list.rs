// SPDX-License-Identifier: GPL-2.0

//! Writes that have ended, in queues and lists on their way to whoever finishes them. Neither takes memory:
//! the bios are linked by themselves.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::sync::atomic::ordering::Acquire;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::ordering::Release;
use kernel::sync::atomic::Atomic;

use crate::bio::CompletedBio;
use crate::bio::Completion;

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// Writes that have ended and wait for a worker. Any context may push.
///
/// # Invariants
///
/// `head` is the head of a list of bios, linked by `bi_next`, each of which satisfies the invariants of
/// [`CompletedBio<C>`] and is owned by the queue.
pub struct CompletedQueue<C: Completion> {
    head: Atomic<*mut bindings::bio>,
    _context: PhantomData<C>,
}

// SAFETY: The queue hands over ownership by atomic operations; `CompletedBio<C>` is `Send`.
unsafe impl<C: Completion> Send for CompletedQueue<C> {}
// SAFETY: As above.
unsafe impl<C: Completion> Sync for CompletedQueue<C> {}

impl<C: Completion> CompletedQueue<C> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            head: Atomic::new(core::ptr::null_mut()),
            _context: PhantomData,
        }
    }

    /// Puts `bio` on the queue; true if it was empty.
    pub fn push(&self, bio: CompletedBio<C>) -> bool {
        let bio = bio.into_raw().as_ptr();
        let mut head = self.head.load(Relaxed);
        loop {
            // SAFETY: The queue owns the bio, which nobody else sees yet.
            unsafe { (*bio).bi_next = head };
            match self.head.cmpxchg(head, bio, Release) {
                Ok(_) => return head.is_null(),
                Err(current) => head = current,
            }
        }
    }

    /// Takes all that is on the queue, the last that was pushed first.
    pub fn take(&self) -> CompletedList<C> {
        // INVARIANT: The list owns what the queue did.
        CompletedList {
            head: self.head.xchg(core::ptr::null_mut(), Acquire),
            _context: PhantomData,
        }
    }
}

impl<C: Completion> Default for CompletedQueue<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Completion> Drop for CompletedQueue<C> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Writes that have ended.
///
/// # Invariants
///
/// As for [`CompletedQueue`].
pub struct CompletedList<C: Completion> {
    head: *mut bindings::bio,
    _context: PhantomData<C>,
}

// SAFETY: The list owns its bios; `CompletedBio<C>` is `Send`.
unsafe impl<C: Completion> Send for CompletedList<C> {}

impl<C: Completion> CompletedList<C> {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            head: core::ptr::null_mut(),
            _context: PhantomData,
        }
    }

    /// Puts `bio` in front.
    pub fn push(&mut self, bio: CompletedBio<C>) {
        let bio = bio.into_raw().as_ptr();
        // SAFETY: The list owns the bio now.
        unsafe { (*bio).bi_next = self.head };
        self.head = bio;
    }

    /// Takes the first if `condition` holds for it.
    pub fn next_if(
        &mut self,
        condition: impl FnOnce(&CompletedBio<C>) -> bool,
    ) -> Option<CompletedBio<C>> {
        let bio = self.next()?;
        if condition(&bio) {
            return Some(bio);
        }
        self.push(bio);
        None
    }

    /// Puts the bios in the order of `key`, the smallest first. Takes no memory.
    pub fn sort_by_key<K: Ord>(&mut self, key: impl Fn(&CompletedBio<C>) -> K) {
        // Bios come nearly in the reverse order of their submission, which is in file order, so
        // that inserting each from the front is mostly a push.
        let mut sorted = Self::new();
        for bio in self.by_ref() {
            let new = key(&bio);
            let bio = bio.into_raw().as_ptr();
            let mut link: *mut *mut bindings::bio = &mut sorted.head;
            // SAFETY: `link` points to the head or to the link of a bio of the sorted list, which
            // owns them; the new bio is owned by nobody else.
            unsafe {
                while let Some(at) = NonNull::new(*link) {
                    let at_bio = ManuallyDrop::new(CompletedBio::<C>::from_raw(at));
                    if new <= key(&at_bio) {
                        break;
                    }
                    link = &raw mut (*at.as_ptr()).bi_next;
                }
                (*bio).bi_next = *link;
                *link = bio;
            }
        }
        *self = sorted;
    }
}

impl<C: Completion> Default for CompletedList<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Completion> Iterator for CompletedList<C> {
    type Item = CompletedBio<C>;

    fn next(&mut self) -> Option<CompletedBio<C>> {
        let bio = NonNull::new(self.head)?;
        // SAFETY: The list owns the bio, which by the invariants of the list is a completed one.
        unsafe {
            self.head = (*bio.as_ptr()).bi_next;
            (*bio.as_ptr()).bi_next = core::ptr::null_mut();
            Some(CompletedBio::from_raw(bio))
        }
    }
}

impl<C: Completion> Drop for CompletedList<C> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}
