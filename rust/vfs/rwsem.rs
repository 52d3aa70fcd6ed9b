// SPDX-License-Identifier: GPL-2.0

//! Sleeping locks with many readers or one writer.
//!
//! C header: [`include/linux/rwsem.h`](srctree/include/linux/rwsem.h)

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ops::DerefMut;
use core::pin::Pin;

use ferrofs_bindings as bindings;
use kernel::prelude::*;
use kernel::sync::LockClassKey;
use kernel::types::Opaque;

/// Makes a [`RwSemaphore`] with a lock class of its own, as `new_mutex!` does for mutexes.
#[macro_export]
macro_rules! new_rwsem {
    ($value:expr, $name:literal) => {
        $crate::rwsem::RwSemaphore::new(
            $value,
            ::kernel::c_str!($name),
            ::kernel::sync::static_lock_class!(),
        )
    };
}

/// A value behind a lock that many tasks may hold to read or one to write. Waiting for it sleeps.
#[pin_data]
pub struct RwSemaphore<T> {
    #[pin]
    semaphore: Opaque<bindings::rw_semaphore>,
    value: UnsafeCell<T>,
}

// SAFETY: The lock moves access to the value between tasks.
unsafe impl<T: Send> Send for RwSemaphore<T> {}
// SAFETY: Readers share the value, writers take turns with it.
unsafe impl<T: Send + Sync> Sync for RwSemaphore<T> {}

impl<T> RwSemaphore<T> {
    /// A lock around `value`. `name` and `key` are for lockdep; see [`new_rwsem!`](crate::new_rwsem).
    pub fn new(
        value: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            semaphore <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid and pinned; name and key live for ever.
                unsafe { bindings::__init_rwsem(slot, name.as_char_ptr(), key.as_ptr()) }
            }),
            value: UnsafeCell::new(value),
        })
    }

    /// Waits for shared access.
    pub fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: The semaphore is initialised.
        unsafe { bindings::down_read(self.semaphore.get()) };
        // INVARIANT: Just locked.
        ReadGuard {
            lock: self,
            _not_send: PhantomData,
        }
    }

    /// Shared access if that can be had without waiting.
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        // SAFETY: The semaphore is initialised.
        if unsafe { bindings::down_read_trylock(self.semaphore.get()) } == 0 {
            return None;
        }
        // INVARIANT: Just locked.
        Some(ReadGuard {
            lock: self,
            _not_send: PhantomData,
        })
    }

    /// Waits for exclusive access.
    pub fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: The semaphore is initialised.
        unsafe { bindings::down_write(self.semaphore.get()) };
        // INVARIANT: Just locked.
        WriteGuard {
            lock: self,
            _not_send: PhantomData,
        }
    }

    /// Exclusive access if that can be had without waiting.
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        // SAFETY: The semaphore is initialised.
        if unsafe { bindings::down_write_trylock(self.semaphore.get()) } == 0 {
            return None;
        }
        // INVARIANT: Just locked.
        Some(WriteGuard {
            lock: self,
            _not_send: PhantomData,
        })
    }

    /// The value, of which nobody else has a reference.
    pub fn get_mut(self: Pin<&mut Self>) -> &mut T {
        // SAFETY: The value is not structurally pinned and not moved with the lock.
        unsafe { self.get_unchecked_mut() }.value.get_mut()
    }
}

/// Shared access to the value of a [`RwSemaphore`].
///
/// # Invariants
///
/// This task holds the lock for reading.
pub struct ReadGuard<'a, T> {
    lock: &'a RwSemaphore<T>,
    // Lockdep wants the lock released by the task that has taken it.
    _not_send: PhantomData<*mut ()>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariant nobody writes.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::up_read(self.lock.semaphore.get()) }
    }
}

/// Exclusive access to the value of a [`RwSemaphore`].
///
/// # Invariants
///
/// This task holds the lock for writing.
pub struct WriteGuard<'a, T> {
    lock: &'a RwSemaphore<T>,
    _not_send: PhantomData<*mut ()>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariant nobody else has access.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: As above.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::up_write(self.lock.semaphore.get()) }
    }
}
