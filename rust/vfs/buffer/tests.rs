// SPDX-License-Identifier: GPL-2.0

//! The content locks of buffers, and the kinds that their contents were found good as.

use kernel::prelude::*;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;
use kernel::sync::Arc;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

use super::*;
use crate::workqueue::OwnedQueue;

/// How many bytes the buffers of these tests have.
const SIZE: usize = 16;

/// A buffer head of no device.
struct Loose {
    head: NonNull<bindings::buffer_head>,
    /// What `b_data` points to.
    _bytes: KVec<u8>,
}

// SAFETY: The bytes are used through `Buffer` only, which orders that, and `head` does not change.
unsafe impl Send for Loose {}
// SAFETY: As above.
unsafe impl Sync for Loose {}

impl Loose {
    fn new() -> Result<Arc<Self>> {
        let mut bytes = KVec::from_elem(0, SIZE, GFP_KERNEL)?;
        // SAFETY: The function may be called where one can sleep.
        let head = unsafe { bindings::alloc_buffer_head(bindings::gfp_nofs()) };
        let head = NonNull::new(head).ok_or(ENOMEM)?;
        // SAFETY: The buffer head is ours; the bytes do not move as long as the vector does not grow.
        unsafe {
            (*head.as_ptr()).b_data = bytes.as_mut_ptr().cast();
            (*head.as_ptr()).b_size = SIZE;
        }
        let loose = Self {
            head,
            _bytes: bytes,
        };
        Ok(Arc::new(loose, GFP_KERNEL)?)
    }

    /// Another reference on it, which must end before it does.
    fn buffer(&self) -> Buffer {
        // SAFETY: The buffer head lives.
        unsafe { bindings::get_bh(self.head.as_ptr()) };
        // INVARIANT: The reference was just taken, and the bytes are initialised.
        Buffer { head: self.head }
    }

    /// How many references there are.
    fn references(&self) -> i32 {
        // SAFETY: The buffer head lives, and in these tests no other task counts meanwhile.
        unsafe { (*self.head.as_ptr()).b_count.counter }
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        // SAFETY: Nobody has a reference any more.
        unsafe { bindings::free_buffer_head(self.head.as_ptr()) };
    }
}

/// Changes the contents with exclusive access.
fn change(buffer: &Buffer, f: impl FnOnce(&mut [u8])) {
    buffer.lock_exclusive();
    // SAFETY: The bytes are initialised, and locked for this task alone.
    f(unsafe { slice::from_raw_parts_mut((*buffer.head.as_ptr()).b_data.cast(), SIZE) });
    // SAFETY: Locked above.
    unsafe { buffer.unlock_exclusive() };
}

/// How many readers there are.
fn readers(buffer: &Buffer) -> usize {
    (buffer.state().load(Relaxed) & READERS_MASK) / READER
}

/// Whether nobody holds the contents or waits for them.
fn is_idle(buffer: &Buffer) -> bool {
    buffer.state().load(Relaxed) & (HOLDERS_MASK | WAITERS) == 0
}

fn sleep(milliseconds: i64) {
    fsleep(Delta::from_millis(milliseconds));
}

/// Waits until somebody waits for the contents; false if nobody does so within some seconds.
fn has_waiter(buffer: &Buffer) -> bool {
    for _ in 0..5000 {
        if buffer.state().load(Relaxed) & WAITERS != 0 {
            return true;
        }
        sleep(1);
    }
    false
}

#[kunit_tests(vfs_buffer)]
mod contents {
    use super::*;

    #[test]
    fn a_writer_waits_for_the_last_reader() -> Result {
        let queue = OwnedQueue::new(c"vfs-buffer", 0)?;
        let loose = Loose::new()?;
        let buffer = loose.buffer();
        let first = buffer.data();
        let second = buffer.data();
        assert_eq!(readers(&buffer), 2);
        let writing = loose.clone();
        queue.spawn(move || change(&writing.buffer(), |bytes| bytes.fill(7)))?;
        assert!(has_waiter(&buffer));
        // Readers do not wait for those who wait.
        let third = buffer.data();
        drop(first);
        drop(third);
        sleep(20);
        assert_eq!(second[SIZE - 1], 0);
        drop(second);
        queue.flush();
        assert_eq!(buffer.data()[SIZE - 1], 7);
        assert!(is_idle(&buffer));
        Ok(())
    }

    #[test]
    fn all_wait_for_a_writer() -> Result {
        let queue = OwnedQueue::new(c"vfs-buffer", 0)?;
        let loose = Loose::new()?;
        let done = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let seen = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let buffer = loose.buffer();
        buffer.lock_exclusive();
        for _ in 0..2 {
            let (reading, done, seen) = (loose.clone(), done.clone(), seen.clone());
            queue.spawn(move || {
                seen.fetch_add(i32::from(reading.buffer().data()[0]), Relaxed);
                done.fetch_add(1, Relaxed);
            })?;
        }
        let (writing, ended) = (loose.clone(), done.clone());
        queue.spawn(move || {
            change(&writing.buffer(), |bytes| bytes[1] = bytes[0] + 1);
            ended.fetch_add(1, Relaxed);
        })?;
        assert!(has_waiter(&buffer));
        sleep(20);
        assert_eq!(done.load(Relaxed), 0);
        // SAFETY: Locked above, and nobody else looks.
        unsafe { (*buffer.head.as_ptr()).b_data.cast::<u8>().write(5) };
        // SAFETY: Locked above.
        unsafe { buffer.unlock_exclusive() };
        queue.flush();
        assert_eq!(done.load(Relaxed), 3);
        assert_eq!(seen.load(Relaxed), 10);
        assert_eq!(buffer.data()[1], 6);
        assert!(is_idle(&buffer));
        Ok(())
    }

    #[test]
    fn nobody_sees_a_change_by_halves() -> Result {
        const TASKS: u8 = 4;
        const ROUNDS: u8 = 20;

        let queue = OwnedQueue::new(c"vfs-buffer", 0)?;
        let loose = Loose::new()?;
        let halves = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        for _ in 0..TASKS {
            let (loose, halves) = (loose.clone(), halves.clone());
            queue.spawn(move || {
                let buffer = loose.buffer();
                for _ in 0..ROUNDS {
                    change(&buffer, |bytes| {
                        let count = bytes[0];
                        bytes[0] = count + 1;
                        fsleep(Delta::from_micros(50));
                        bytes[SIZE - 1] = count + 1;
                    });
                    let bytes = buffer.data();
                    let before = bytes[0];
                    fsleep(Delta::from_micros(50));
                    halves.fetch_add(i32::from(before != bytes[SIZE - 1]), Relaxed);
                }
            })?;
        }
        queue.flush();
        let buffer = loose.buffer();
        assert_eq!(halves.load(Relaxed), 0);
        assert_eq!(buffer.data()[0], TASKS * ROUNDS);
        assert!(is_idle(&buffer));
        Ok(())
    }

    #[test]
    fn what_c_keeps_in_the_state_stays() -> Result {
        let loose = Loose::new()?;
        let buffer = loose.buffer();
        let of_c = u32::MAX as usize;
        buffer.state().store(of_c, Relaxed);
        buffer.set_kind(Kind::new(u8::MAX));
        let shared = buffer.data();
        assert!(buffer.kind() == Kind::new(u8::MAX));
        buffer.set_kind(Kind::new(1));
        assert_eq!(readers(&buffer), 1);
        drop(shared);
        change(&buffer, |_| buffer.set_kind(Kind::new(u8::MAX)));
        assert!(is_idle(&buffer) && buffer.kind() == Kind::new(u8::MAX));
        buffer.set_kind(Kind::UNKNOWN);
        assert_eq!(buffer.state().load(Relaxed), of_c);
        buffer.state().store(0, Relaxed);
        Ok(())
    }

    #[test]
    fn who_changes_a_block_learns_that_it_was_forgotten() -> Result {
        let loose = Loose::new()?;
        let buffer = loose.buffer();
        let lock = |take: fn(&Buffer) -> bool| {
            let told = take(&buffer);
            // SAFETY: Just locked.
            unsafe { buffer.unlock_exclusive() };
            told
        };
        let forget = |buffer: &Buffer| {
            buffer.lock_to_forget();
            false
        };
        let exclude = |buffer: &Buffer| {
            buffer.lock_exclusive();
            false
        };
        assert!(!lock(Buffer::lock_to_change));
        lock(forget);
        assert!(is_idle(&buffer) && buffer.kind() == Kind::UNKNOWN);
        // Others do not take that away.
        lock(exclude);
        drop(buffer.data());
        assert!(lock(Buffer::lock_to_change));
        assert!(!lock(Buffer::lock_to_change));
        assert_eq!(buffer.state().load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn a_block_is_not_forgotten_under_the_eyes_of_a_reader() -> Result {
        let queue = OwnedQueue::new(c"vfs-buffer", 0)?;
        let loose = Loose::new()?;
        let buffer = loose.buffer();
        let reading = buffer.data();
        let forgetting = loose.clone();
        queue.spawn(move || {
            let buffer = forgetting.buffer();
            buffer.lock_to_forget();
            // SAFETY: Just locked.
            unsafe { buffer.unlock_exclusive() };
        })?;
        assert!(has_waiter(&buffer));
        assert_eq!(buffer.state().load(Relaxed) & FORGOTTEN, 0);
        drop(reading);
        queue.flush();
        assert!(buffer.lock_to_change());
        // SAFETY: Just locked.
        unsafe { buffer.unlock_exclusive() };
        assert!(is_idle(&buffer));
        Ok(())
    }

    #[test]
    fn as_many_readers_as_there_is_room_for() -> Result {
        let loose = Loose::new()?;
        let buffer = loose.buffer();
        buffer.state().store(READERS_MASK - READER, Relaxed);
        let last = buffer.data();
        assert_eq!(buffer.state().load(Relaxed), READERS_MASK);
        drop(last);
        assert_eq!(buffer.state().load(Relaxed), READERS_MASK - READER);
        buffer.state().store(0, Relaxed);
        Ok(())
    }

    #[test]
    fn a_block_is_verified_once_as_what_it_is() -> Result {
        let loose = Loose::new()?;
        let buffer = loose.buffer();
        let calls = Atomic::new(0);
        let verify = |buffer: &Buffer, kind, result: Result| {
            buffer.verify_once(kind, |bytes| {
                calls.fetch_add(i32::from(bytes.len() == SIZE), Relaxed);
                result
            })
        };
        let (leaf, node) = (Kind::new(1), Kind::new(2));
        // What is not good is not remembered.
        assert_eq!(verify(&buffer, leaf, Err(EIO)), Err(EIO));
        assert!(is_idle(&buffer) && buffer.kind() == Kind::UNKNOWN);
        verify(&buffer, leaf, Ok(()))?;
        assert_eq!(calls.load(Relaxed), 2);
        verify(&buffer, leaf, Err(EIO))?;
        verify(&buffer.clone(), leaf, Err(EIO))?;
        assert_eq!(calls.load(Relaxed), 2);
        // As another kind it is, whatever it was before.
        assert_eq!(verify(&buffer, node, Err(EIO)), Err(EIO));
        verify(&buffer, node, Ok(()))?;
        verify(&buffer, leaf, Ok(()))?;
        assert_eq!(calls.load(Relaxed), 5);
        // As what is not known, each time.
        verify(&buffer, Kind::UNKNOWN, Ok(()))?;
        verify(&buffer, Kind::UNKNOWN, Ok(()))?;
        assert_eq!(calls.load(Relaxed), 7);
        Ok(())
    }

    #[test]
    fn references_and_guards_end_once() -> Result {
        let loose = Loose::new()?;
        let data = loose.buffer().into_data();
        assert_eq!((loose.references(), readers(data.buffer())), (1, 1));
        let other = data.buffer().clone();
        let again = other.clone().into_data();
        assert_eq!((loose.references(), readers(&other)), (3, 2));
        let kept = data.into_buffer();
        assert_eq!((loose.references(), readers(&other)), (3, 1));
        drop(again);
        assert_eq!((loose.references(), readers(&other)), (2, 0));
        drop((kept, other));
        assert_eq!(loose.references(), 0);
        Ok(())
    }
}
