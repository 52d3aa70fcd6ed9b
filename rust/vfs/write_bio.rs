// SPDX-License-Identifier: GPL-2.0

//! Writes of folios: the memory for their bios, and what happens when they have ended. The file system sees
//! all of it in [`bio`](crate::bio).

use core::marker::PhantomData;
use core::marker::PhantomPinned;
use core::ops::Deref;
use core::pin::Pin;
use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Full;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;
use kernel::types::Opaque;
use pin_init::pin_data;
use pin_init::pinned_drop;

use crate::bio::add_folio;
use crate::bio::end_sector;
use crate::bio::for_each_folio;
use crate::bio::is_for;
use crate::bio::segments;
use crate::bio::status_result;
use crate::bio::Flags;
use crate::folio_io::settle_write;
use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::super_block::SuperBlock;

/// What happens when a write of file system `FileSystem` has ended. The value travels with the bio.
pub trait Completion: Sized + Send + 'static {
    /// The file system whose folios are written.
    type FileSystem: FileSystem;

    /// What the ends of all writes of a [`BioSet`] share, such as a worker.
    type Shared: Send + Sync + 'static;

    /// Takes a bio that has ended.
    ///
    /// May be called from softirq context: must not sleep.
    fn complete(bio: CompletedBio<Self>);
}

/// What lies in front of each bio of a [`BioSet`].
#[repr(C, align(8))]
struct Front<C: Completion> {
    set: *const BioSet<C>,
    context: C,
}

/// Memory for the writes of a file system, enough of it reserved that writeback goes on when there
/// is no memory left. Dropping it waits for the bios in flight.
///
/// # Invariants
///
/// `set` is an initialised bio set whose bios have room for a [`Front<C>`] in front. `users` is one
/// plus the number of its bios; `idle` is completed when it gets to zero. The value is pinned: there is
/// no way to make one that is not.
#[pin_data(PinnedDrop)]
pub struct BioSet<C: Completion> {
    #[pin]
    set: Opaque<bindings::bio_set>,
    users: Atomic<usize>,
    #[pin]
    idle: kernel::sync::Completion,
    #[pin]
    _pin: PhantomPinned,
    shared: C::Shared,
}

// SAFETY: Bio sets may be used by any thread.
unsafe impl<C: Completion> Send for BioSet<C> {}
// SAFETY: As above; allocation locks as needed.
unsafe impl<C: Completion> Sync for BioSet<C> {}

/// Number of bios that are always to be had.
const RESERVE: u32 = 16;

impl<C: Completion> BioSet<C> {
    const FRONT: usize = size_of::<Front<C>>();

    /// Makes a bio set. What is `shared` is dropped after the last bio has ended.
    pub fn new(shared: C::Shared) -> impl PinInit<Self, Error> {
        const { assert!(align_of::<Front<C>>() == 8 && size_of::<Front<C>>() % 8 == 0) };
        try_pin_init!(Self {
            set <- Opaque::try_ffi_init(|slot: *mut bindings::bio_set| {
                // SAFETY: `slot` is valid for writes and pinned. A bio set that is to be initialised
                // must be zeroed.
                to_result(unsafe {
                    slot.write(pin_init::zeroed());
                    bindings::bioset_init(
                        slot,
                        RESERVE,
                        Self::FRONT as u32,
                        bindings::BIOSET_NEED_BVECS as i32,
                    )
                })
            }),
            users: Atomic::new(1),
            idle <- kernel::sync::Completion::new(),
            _pin: PhantomPinned,
            shared,
        }? Error)
    }

    /// A write to the device of `sb` from `sector` (of 512 bytes) on, of up to `bytes` bytes.
    /// Sleeps until there is memory: a task must submit one bio before it makes the next.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `sb` is not on a block device.
    pub fn write<'a>(
        &'a self,
        sb: &'a SuperBlock<C::FileSystem>,
        sector: u64,
        bytes: u64,
        flags: Flags,
        context: C,
    ) -> Result<WriteBio<'a, C>> {
        let bdev = sb.bdev().ok_or(EINVAL)?;
        // SAFETY: The device is open while the super block lives, which is while folios are under
        // writeback.
        let bio = unsafe { self.make(bdev.as_ptr(), segments(bytes), flags, context)? };
        // SAFETY: The bio is ours.
        unsafe {
            (*bio.as_ptr()).bi_iter.bi_sector = sector;
            (*bio.as_ptr()).bi_end_io = Some(end_write::<C>);
        }
        // INVARIANT: The bio is of this set, and empty.
        Ok(WriteBio {
            bio,
            _set: PhantomData,
        })
    }

    /// An empty bio of this set, with its front initialised. Sleeps until there is memory.
    ///
    /// # Safety
    ///
    /// `bdev` must be open as long as the bio lives, or null if the bio will not be submitted.
    pub(crate) unsafe fn make(
        &self,
        bdev: *mut bindings::block_device,
        segments: u16,
        flags: Flags,
        context: C,
    ) -> Result<NonNull<bindings::bio>> {
        let flags = bindings::req_op_REQ_OP_WRITE | flags.0;
        // SAFETY: By this function's contract; the bio set is initialised.
        let bio = unsafe { bindings::bio_alloc_nofs(self.set.get(), bdev, segments, flags) };
        let bio = NonNull::new(bio).ok_or(ENOMEM)?;
        self.users.fetch_add(1, Relaxed);
        // SAFETY: The bio is ours, with room for a `Front<C>` before it.
        unsafe { front::<C>(bio).as_ptr().write(Front { set: self, context }) };
        Ok(bio)
    }

    /// What the ends of all writes share.
    pub fn shared(&self) -> &C::Shared {
        &self.shared
    }

    /// One user less.
    fn put(&self) {
        if self.users.fetch_sub(1, Full) == 1 {
            self.idle.complete_all();
        }
    }
}

#[pinned_drop]
impl<C: Completion> PinnedDrop for BioSet<C> {
    fn drop(self: Pin<&mut Self>) {
        self.put();
        self.idle.wait_for_completion();
        // SAFETY: The set is initialised and has no bios any more.
        unsafe { bindings::bioset_exit(self.set.get()) };
    }
}

/// The front of a bio.
///
/// # Safety
///
/// `bio` must be of a `BioSet<C>`.
unsafe fn front<C: Completion>(bio: NonNull<bindings::bio>) -> NonNull<Front<C>> {
    // SAFETY: By the invariants of `BioSet` there are that many bytes in front of the bio.
    unsafe { bio.byte_sub(BioSet::<C>::FRONT).cast() }
}

/// A write that is being built. Dropping it fails it with `EIO`; [`Self::submit`] it instead.
///
/// # Invariants
///
/// `bio` is of a `BioSet<C>` that lives, with its front initialised, not yet submitted, and each range
/// in it is a share of the writeback of its folio.
pub struct WriteBio<'a, C: Completion> {
    bio: NonNull<bindings::bio>,
    _set: PhantomData<&'a BioSet<C>>,
}

impl<C: Completion> WriteBio<'_, C> {
    /// What travels with the bio.
    pub fn context(&mut self) -> &mut C {
        // SAFETY: By the type invariants the front is initialised, and ours.
        unsafe { &mut (*front::<C>(self.bio).as_ptr()).context }
    }

    /// The sector that follows what the bio writes.
    pub fn end_sector(&self) -> u64 {
        // SAFETY: The bio is valid and ours.
        unsafe { end_sector(self.bio) }
    }

    /// Whether it goes to the device of `sb`.
    pub(crate) fn is_for<F: FileSystem>(&self, sb: &SuperBlock<F>) -> bool {
        // SAFETY: The bio is valid and ours.
        unsafe { is_for(self.bio, sb) }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        // SAFETY: The bio is valid and ours.
        unsafe { (*self.bio.as_ptr()).bi_iter.bi_size == 0 }
    }

    /// Hints at how long the data will live, as the inode says.
    pub fn set_write_hint(&mut self, inode: &Inode<C::FileSystem>) {
        // SAFETY: The bio is ours and the inode valid; the hint is a single byte, which others may write.
        unsafe {
            (*self.bio.as_ptr()).bi_write_hint =
                (&raw const (*inode.as_ptr()).i_write_hint).read_volatile();
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::bio {
        self.bio.as_ptr()
    }

    /// Adds a range of a folio, if there is room.
    ///
    /// # Safety
    ///
    /// The range must be in the folio. If this returns `true`, it must be a share of the writeback of
    /// the folio, which passes to the bio.
    pub(crate) unsafe fn add(
        &mut self,
        folio: *mut bindings::folio,
        offset: usize,
        len: usize,
    ) -> bool {
        // SAFETY: By this function's contract and the type invariants.
        unsafe { add_folio(self.bio.as_ptr(), folio, offset, len) }
    }

    /// Sends it off.
    pub fn submit(self) {
        let this = core::mem::ManuallyDrop::new(self);
        if this.is_empty() {
            // SAFETY: The bio is ours and not used any more.
            unsafe { free::<C>(this.bio) };
        } else {
            // SAFETY: The bio is valid and ours; this passes it to the block layer.
            unsafe { bindings::submit_bio(this.bio.as_ptr()) };
        }
    }
}

impl<C: Completion> Drop for WriteBio<'_, C> {
    fn drop(&mut self) {
        if self.is_empty() {
            // SAFETY: The bio is ours and not used any more.
            unsafe { free::<C>(self.bio) };
        } else {
            // SAFETY: The bio is ours; this ends it.
            unsafe { bindings::bio_io_error(self.bio.as_ptr()) };
        }
    }
}

/// # Safety
///
/// Called by the block layer with a bio of a [`WriteBio<'_, C>`] that has ended.
unsafe extern "C" fn end_write<C: Completion>(bio: *mut bindings::bio) {
    // SAFETY: The bio is not null.
    let bio = unsafe { NonNull::new_unchecked(bio) };
    // INVARIANT: The block layer is done with the bio, which is not empty.
    C::complete(CompletedBio {
        bio,
        _context: PhantomData,
    });
}

/// Frees a bio that carries no shares.
///
/// # Safety
///
/// `bio` must be of a `BioSet<C>`, with its front initialised, and owned by the caller.
unsafe fn free<C: Completion>(bio: NonNull<bindings::bio>) {
    // SAFETY: By this function's contract; the set lives until its last bio has said `put()`.
    unsafe {
        let front = front::<C>(bio);
        let set = (*front.as_ptr()).set;
        core::ptr::drop_in_place(&raw mut (*front.as_ptr()).context);
        bindings::bio_put(bio.as_ptr());
        (*set).put();
    }
}

/// A write that has ended. Dereferences to what travelled with it. Dropping it finishes it.
///
/// # Invariants
///
/// `bio` is of a `BioSet<C>`, with its front initialised, not empty, and each range in it is a share
/// of the writeback of its folio.
pub struct CompletedBio<C: Completion> {
    bio: NonNull<bindings::bio>,
    _context: PhantomData<C>,
}

// SAFETY: The block layer is done with the bio; `C` is `Send`.
unsafe impl<C: Completion> Send for CompletedBio<C> {}

impl<C: Completion> Deref for CompletedBio<C> {
    type Target = C;

    fn deref(&self) -> &C {
        // SAFETY: By the type invariants the front is initialised.
        unsafe { &(*front::<C>(self.bio).as_ptr()).context }
    }
}

impl<C: Completion> CompletedBio<C> {
    /// # Safety
    ///
    /// `bio` must satisfy the type invariants and pass to the new value.
    pub(crate) unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // INVARIANT: By this function's contract.
        Self {
            bio,
            _context: PhantomData,
        }
    }

    /// The bio, which the caller owns now.
    pub(crate) fn into_raw(self) -> NonNull<bindings::bio> {
        core::mem::ManuallyDrop::new(self).bio
    }

    /// How the write went.
    pub fn result(&self) -> Result {
        // SAFETY: The bio is valid.
        status_result(unsafe { (*self.bio.as_ptr()).bi_status })
    }

    /// The inode whose folios were written.
    pub fn inode(&self) -> &Inode<C::FileSystem> {
        let mut iter = bindings::folio_iter::default();
        // SAFETY: The bio is not empty. Its first folio is under writeback, and so stays in the page
        // cache of its inode, which cannot go away before it is empty. Folios get into such bios
        // from a `WritingFolio` of this file system only.
        unsafe {
            bindings::bio_first_folio(&mut iter, self.bio.as_ptr());
            Inode::from_ptr(bindings::folio_inode(iter.folio))
        }
    }

    /// Calls `f` with the bio and with what is shared, which stays while `f` runs even if the bio does
    /// not.
    pub fn with_shared<R>(self, f: impl FnOnce(Self, &C::Shared) -> R) -> R {
        // SAFETY: The set lives while this bio does, and from then on until `put()`.
        let set = unsafe { &*(*front::<C>(self.bio).as_ptr()).set };
        set.users.fetch_add(1, Relaxed);
        let result = f(self, &set.shared);
        set.put();
        result
    }

    /// Ends the writeback of what the bio carried. `result` is what went wrong after the write, or
    /// with it: it is recorded in the mapping, for `fsync` to report.
    pub fn finish(self, result: Result) {
        let result = result.and(self.result());
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: By the type invariants the ranges are shares of writebacks, so that each folio is in its
        // mapping until its share is settled; the bio is not used any more.
        unsafe {
            for_each_folio(this.bio.as_ptr(), |folio, _, len| {
                if let Err(error) = result {
                    let inode = Inode::<C::FileSystem>::from_ptr(bindings::folio_inode(folio));
                    inode.set_writeback_error(error);
                }
                settle_write(folio, len);
            });
            free::<C>(this.bio);
        }
    }
}

impl<C: Completion> Drop for CompletedBio<C> {
    fn drop(&mut self) {
        // INVARIANT: `self` is not used any more, its share passes on.
        CompletedBio {
            bio: self.bio,
            _context: PhantomData::<C>,
        }
        .finish(Ok(()));
    }
}
