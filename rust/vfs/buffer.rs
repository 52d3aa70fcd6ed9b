// SPDX-License-Identifier: GPL-2.0

//! Blocks of metadata in the page cache of the block device: buffer heads.
//!
//! C header: [`include/linux/buffer_head.h`](srctree/include/linux/buffer_head.h)
//!
//! # The life of a buffer
//!
//! The block device has a page cache of its own, and a buffer head describes one block of it: the
//! block's number, where its bytes are and in which state. [`Buffer::read`] finds or makes the buffer
//! of a block and reads the block unless that was done before; from then on the contents in memory
//! are the truth. They are changed within a transaction only, through
//! [`Transaction::write`](crate::transaction::Transaction::write): the journal writes them to the log
//! at commit and to their place later. While anybody holds a reference the block stays in memory at
//! the same address; after the last one the memory may be reclaimed once the block is clean.
//!
//! # Who may look at the bytes
//!
//! The C file systems read metadata without a lock and rely on rules which the compiler does not
//! know. Here each buffer has a lock of its own, many readers or one writer, kept in the upper half of
//! `b_state`. [`Buffer::data`] gives shared access and what `Transaction::write` returns has exclusive
//! access. Taking it uncontended is one atomic operation.
//!
//! It is the *innermost* lock, and one that lockdep does not know: what is exclusive is decided one
//! level up, by the lock of the file, directory or group that owns the block. So: keep the guards
//! short, never start a transaction or take another lock while holding one, never ask for write access
//! to a block of which the same task holds a guard (it would wait for itself).

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr;
use core::ptr::NonNull;
use core::slice;

use ferrofs_bindings as bindings;
use kernel::error::code::EINVAL;
use kernel::error::code::EIO;
use kernel::error::to_result;
use kernel::error::Error;
use kernel::error::Result;
use kernel::sync::atomic::ordering::Full;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;

use crate::block_device::BlockDevice;

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

// The lock and the kind live in bits of `b_state` that the kernel does not use: it has less than 32.
const _: () = assert!(usize::BITS == 64);

/// Where the kind of contents is kept that a block was last verified as.
const KIND_SHIFT: u32 = 32;
const KIND_MASK: usize = 0xff << KIND_SHIFT;
/// The journal was told to forget the block since somebody last had write access to it.
const FORGOTTEN: usize = 1 << 40;
/// One reader. There can be two million; the next one panics, before the count gets at the other bits.
const READER: usize = 1 << 41;
const READERS_MASK: usize = ((1 << 21) - 1) << 41;
/// Somebody sleeps until neither readers nor a writer are left.
const WAITERS_BIT: u32 = 62;
const WAITERS: usize = 1 << WAITERS_BIT;
/// The writer.
const WRITER: usize = 1 << 63;
const HOLDERS_MASK: usize = READERS_MASK | WRITER;

/// Whether somebody holds the contents of a block of `device`. Looks at all of its cache; sleeps.
pub(crate) fn any_held(device: &BlockDevice) -> bool {
    // SAFETY: The device is open.
    unsafe { bindings::bdev_has_buffer_state(device.as_ptr(), HOLDERS_MASK) }
}

/// What a block holds, as far as it matters for not verifying it twice.
///
/// The file system numbers its kinds of metadata blocks from 1. A block that was found good as one kind
/// is verified again when it is read as another: on a malicious disk two structures may claim it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Kind(u8);

impl Kind {
    /// Contents of which nothing is known.
    pub const UNKNOWN: Self = Self(0);

    /// The kind with this number.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }
}

/// A reference to the buffer of one block whose contents are in memory.
///
/// # Invariants
///
/// `head` points to a buffer head on which this object owns a reference, and whose contents have
/// been read or created: `b_data` are `b_size` initialised bytes. They are read by holders of the
/// content lock in shared mode and written by its holder in exclusive mode, and apart from those only
/// by the journal's recovery, which runs before a file system is in use.
pub struct Buffer {
    head: NonNull<bindings::buffer_head>,
}

// SAFETY: The reference count and the state of a buffer head are atomic and it belongs to no task.
unsafe impl Send for Buffer {}
// SAFETY: As above; access to the contents is ordered by the content lock.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// The buffer of `block`, read from the device unless it is in memory. Sleeps.
    ///
    /// `block` counts in units of the device's buffer size. Fails with `EIO` when the block cannot be
    /// read or lies outside of the device.
    pub fn read(device: &BlockDevice, block: u64) -> Result<Self> {
        let buffer = Unread::get(device, block)?;
        buffer.read()
    }

    /// As [`read`](Self::read), and calls `verify` on the contents unless the block was already found
    /// good as this `kind` since it was read. With [`Kind::UNKNOWN`] it is verified every time.
    pub fn read_verified<E: From<Error>>(
        device: &BlockDevice,
        block: u64,
        kind: Kind,
        verify: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let buffer = Self::read(device, block)?;
        buffer.verify_once(kind, verify)?;
        Ok(buffer)
    }

    fn verify_once<E>(
        &self,
        kind: Kind,
        verify: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if kind == Kind::UNKNOWN || self.kind() != kind {
            let data = self.data();
            verify(&data)?;
            self.set_kind(kind);
        }
        Ok(())
    }

    /// Calls `forget` with the buffer of `block` if there is one in memory, with the contents held by nobody,
    /// and with null otherwise. Sleeps.
    ///
    /// `forget` takes over a reference on what it is called with.
    pub(crate) fn forget<R>(
        device: &BlockDevice,
        block: u64,
        forget: impl FnOnce(*mut bindings::buffer_head) -> R,
    ) -> R {
        let size = device.buffer_size() as u32;
        // SAFETY: The device is open.
        let head = unsafe { bindings::__find_get_block_nonatomic(device.as_ptr(), block, size) };
        let Some(head) = NonNull::new(head) else {
            return forget(ptr::null_mut());
        };
        // SAFETY: The function has returned a reference, which `forget` takes over; this is one more.
        unsafe { bindings::get_bh(head.as_ptr()) };
        // INVARIANT: The reference was just taken. It ends after the lock.
        let _reference = Unread { head };
        // The contents, which may not have been read, are not looked at.
        let buffer = ManuallyDrop::new(Self { head });
        buffer.lock_to_forget();
        let result = forget(head.as_ptr());
        // SAFETY: Locked above.
        unsafe { buffer.unlock_exclusive() };
        result
    }

    /// The number of the block.
    #[inline]
    pub fn block(&self) -> u64 {
        // SAFETY: The field does not change while there are references.
        unsafe { (*self.head.as_ptr()).b_blocknr }
    }

    /// The size of the block in bytes.
    #[expect(clippy::len_without_is_empty)]
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: The field does not change while there are references.
        unsafe { (*self.head.as_ptr()).b_size }
    }

    /// Shared access to the contents. Sleeps while somebody has exclusive access.
    pub fn data(&self) -> BufferData<'_> {
        self.lock_shared();
        // INVARIANT: The lock was just taken.
        BufferData { buffer: self }
    }

    /// As [`data`](Self::data), for access that outlives this object.
    pub fn into_data(self) -> OwnedBufferData {
        self.lock_shared();
        // INVARIANT: The lock was just taken.
        OwnedBufferData { buffer: self }
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// The caller holds the content lock in shared mode for the life of the result.
    unsafe fn bytes(&self) -> &[u8] {
        let head = self.head.as_ptr();
        // SAFETY: By the type invariants the bytes are initialised, and nobody writes them while the
        // content lock is held in shared mode.
        unsafe { slice::from_raw_parts((*head).b_data.cast(), (*head).b_size) }
    }

    /// Changes the contents outside of any transaction and waits until they are on the device; on stable
    /// media if `durable`. Sleeps; the task must not hold the contents.
    ///
    /// For the few blocks that must be written when there is no journal to do it, such as the super block
    /// at mount and at unmount. It writes the whole block as it stands in memory, with whatever a
    /// transaction that is not committed yet has changed in it. Fails with `EIO`, and with `EINVAL` when the
    /// buffer is not one of `device`, which is there to say that it is still open.
    pub fn update_now(
        &self,
        device: &BlockDevice,
        durable: bool,
        change: impl FnOnce(&mut [u8]),
    ) -> Result {
        if !self.is_of(device) {
            return Err(EINVAL);
        }
        let head = self.head.as_ptr();
        self.lock_exclusive();
        // SAFETY: The contents are initialised, and nobody else looks at them while the content lock is
        // held.
        change(unsafe { slice::from_raw_parts_mut((*head).b_data.cast(), (*head).b_size) });
        // SAFETY: `self` owns a reference and holds the content lock; the device is open.
        unsafe {
            let result = bindings::write_buffer_now(head, durable);
            self.unlock_exclusive();
            to_result(result)
        }
    }

    /// Whether this is a block of `device`, of the size that its blocks have now.
    #[inline]
    pub(crate) fn is_of(&self, device: &BlockDevice) -> bool {
        // SAFETY: The fields do not change while there are references. The pointer is only compared: the
        // device of a buffer that is kept for too long may be gone.
        let bdev = unsafe { (*self.head.as_ptr()).b_bdev };
        ptr::eq(bdev, device.as_ptr()) && self.len() == device.buffer_size()
    }

    /// As which kind of contents the block was found good.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind(((self.state().load(Relaxed) & KIND_MASK) >> KIND_SHIFT) as u8)
    }

    /// Records that the contents are good as `kind`.
    pub fn set_kind(&self, kind: Kind) {
        let bits = usize::from(kind.0) << KIND_SHIFT;
        let change = |state| Some((state & !KIND_MASK) | bits);
        self.update(change);
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::buffer_head {
        self.head.as_ptr()
    }

    fn state(&self) -> &Atomic<usize> {
        // SAFETY: `b_state` lives as long as the reference; C changes it atomically, too.
        unsafe { Atomic::from_ptr(&raw mut (*self.head.as_ptr()).b_state) }
    }

    /// Changes the state word with `change` until it gives `None`; returns the old state on success.
    fn update(&self, change: impl Fn(usize) -> Option<usize>) -> Option<usize> {
        let mut old = self.state().load(Relaxed);
        loop {
            let new = change(old)?;
            match self.state().cmpxchg(old, new, Full) {
                Ok(_) => return Some(old),
                Err(current) => old = current,
            }
        }
    }

    fn lock_shared(&self) {
        let enter = |state| {
            // Guards that were forgotten never leave.
            assert!(state & READERS_MASK != READERS_MASK, "too many readers");
            (state & WRITER == 0).then_some(state + READER)
        };
        while self.update(enter).is_none() {
            self.wait(WRITER);
        }
    }

    /// Takes the content lock in exclusive mode.
    pub(crate) fn lock_exclusive(&self) {
        self.enter_exclusive(|state| state | WRITER);
    }

    /// As [`lock_exclusive`](Self::lock_exclusive), for one who has asked the journal for write access. Tells
    /// whether the journal was told to forget the block meanwhile, so that it must be asked again.
    pub(crate) fn lock_to_change(&self) -> bool {
        self.enter_exclusive(|state| (state | WRITER) & !FORGOTTEN) & FORGOTTEN != 0
    }

    /// As [`lock_exclusive`](Self::lock_exclusive), to tell the journal to forget the block.
    pub(crate) fn lock_to_forget(&self) {
        self.enter_exclusive(|state| state | WRITER | FORGOTTEN);
    }

    /// Waits until nobody holds the content lock, changes the state and returns the old one.
    fn enter_exclusive(&self, take: impl Fn(usize) -> usize) -> usize {
        let enter = |state| (state & HOLDERS_MASK == 0).then(|| take(state));
        loop {
            if let Some(old) = self.update(enter) {
                return old;
            }
            self.wait(HOLDERS_MASK);
        }
    }

    fn unlock_shared(&self) {
        self.leave(|state| state - READER);
    }

    /// Releases the content lock.
    ///
    /// # Safety
    ///
    /// The caller holds it in exclusive mode.
    pub(crate) unsafe fn unlock_exclusive(&self) {
        self.leave(|state| state & !WRITER);
    }

    /// Sleeps until nobody holds the lock, unless none of `holders` does.
    fn wait(&self, holders: usize) {
        let announce = |state| (state & holders != 0).then_some(state | WAITERS);
        if self.update(announce).is_none() {
            return;
        }
        // SAFETY: The word lives as long as the reference. The last holder clears the bit and wakes.
        unsafe {
            bindings::wait_on_state_bit(&raw mut (*self.head.as_ptr()).b_state, WAITERS_BIT as i32);
        }
    }

    fn leave(&self, release: impl Fn(usize) -> usize) {
        let change = |state| {
            let rest = release(state);
            Some(if rest & HOLDERS_MASK == 0 {
                rest & !WAITERS
            } else {
                rest
            })
        };
        let old = self.update(change);
        let woken = old.is_some_and(|old| old & WAITERS != 0 && release(old) & HOLDERS_MASK == 0);
        if woken {
            // SAFETY: The word lives as long as the reference; the update above is a full barrier.
            unsafe {
                bindings::wake_up_bit(&raw mut (*self.head.as_ptr()).b_state, WAITERS_BIT as i32);
            }
        }
    }
}

impl Clone for Buffer {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: `self` owns a reference, so another may be taken.
        unsafe { bindings::get_bh(self.head.as_ptr()) };
        // INVARIANT: The reference was just taken, the contents are as those of `self`.
        Self { head: self.head }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: The reference is ours and is not used again.
        unsafe { bindings::brelse(self.head.as_ptr()) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("block", &self.block())
            .finish()
    }
}

/// Shared access to the contents of a [`Buffer`].
///
/// # Invariants
///
/// Holds the content lock of `buffer` in shared mode.
pub struct BufferData<'a> {
    buffer: &'a Buffer,
}

impl Deref for BufferData<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariant.
        unsafe { self.buffer.bytes() }
    }
}

impl Drop for BufferData<'_> {
    fn drop(&mut self) {
        self.buffer.unlock_shared();
    }
}

/// Shared access to the contents of a [`Buffer`], together with the reference on it.
///
/// # Invariants
///
/// Holds the content lock of `buffer` in shared mode.
pub struct OwnedBufferData {
    buffer: Buffer,
}

impl OwnedBufferData {
    /// The buffer.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Ends the access, and keeps the buffer.
    pub fn into_buffer(self) -> Buffer {
        self.buffer.clone()
    }
}

impl Deref for OwnedBufferData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariant.
        unsafe { self.buffer.bytes() }
    }
}

impl Drop for OwnedBufferData {
    fn drop(&mut self) {
        self.buffer.unlock_shared();
    }
}

/// A referenced buffer head whose contents may not have been read.
///
/// # Invariants
///
/// `head` points to a mapped buffer head on which this object owns a reference.
pub(crate) struct Unread {
    head: NonNull<bindings::buffer_head>,
}

impl Unread {
    /// Finds or makes the buffer of `block`. Sleeps; fails with `EIO` when there cannot be one.
    pub(crate) fn get(device: &BlockDevice, block: u64) -> Result<Self> {
        let size = device.buffer_size() as u32;
        // SAFETY: The device is open and `size` is its buffer size.
        let head = unsafe { bindings::bdev_getblk_nofs(device.as_ptr(), block, size) };
        // INVARIANT: The reference is now ours.
        Ok(Self {
            head: NonNull::new(head).ok_or(EIO)?,
        })
    }

    /// Reads the block unless its contents are in memory.
    fn read(self) -> Result<Buffer> {
        let head = self.head.as_ptr();
        // SAFETY: `self` owns a reference.
        if unsafe { bindings::buffer_uptodate(head) } != 0 {
            return Ok(self.assume_read());
        }
        // The contents may be in use even so: a failed write clears the flag. With the content lock
        // held, nobody looks at the bytes that the device may be about to overwrite.
        let buffer = ManuallyDrop::new(Buffer { head: self.head });
        buffer.lock_exclusive();
        // SAFETY: `self` owns a reference. When a write failed, what is in memory is newer than the disk.
        let result = unsafe {
            if bindings::buffer_write_io_error(head) != 0 {
                bindings::set_buffer_uptodate(head);
                0
            } else {
                bindings::bh_read(head, bindings::metadata_read_flags())
            }
        };
        // A block that was just read has not been verified; 1 says that another task has read it.
        if result == 0 {
            buffer.set_kind(Kind::UNKNOWN);
        }
        // SAFETY: Locked above.
        unsafe { buffer.unlock_exclusive() };
        if result < 0 {
            return Err(EIO);
        }
        Ok(self.assume_read())
    }

    /// Fills the block with zeroes, without reading it, and runs `prepare` with the buffer locked.
    pub(crate) fn create(
        self,
        prepare: impl FnOnce(*mut bindings::buffer_head) -> Result,
    ) -> Result<Buffer> {
        let head = self.head.as_ptr();
        let buffer = ManuallyDrop::new(Buffer { head: self.head });
        // What `prepare` asks the journal for holds until the block is forgotten again.
        buffer.lock_to_change();
        // SAFETY: `self` owns a reference; nobody else looks at the contents while the content lock is
        // held, and with the buffer lock no I/O is under way.
        let result = unsafe {
            bindings::lock_buffer(head);
            let result = prepare(head);
            if result.is_ok() {
                (*head).b_data.cast::<u8>().write_bytes(0, (*head).b_size);
                bindings::set_buffer_uptodate(head);
            }
            bindings::unlock_buffer(head);
            result
        };
        buffer.set_kind(Kind::UNKNOWN);
        // SAFETY: Locked above.
        unsafe { buffer.unlock_exclusive() };
        result?;
        Ok(self.assume_read())
    }

    /// The buffer, whose contents are in memory.
    fn assume_read(self) -> Buffer {
        // INVARIANT: The reference moves over; the callers have seen that the contents are there.
        Buffer {
            head: ManuallyDrop::new(self).head,
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // SAFETY: The reference is ours and is not used again.
        unsafe { bindings::brelse(self.head.as_ptr()) }
    }
}
