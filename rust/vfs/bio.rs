// SPDX-License-Identifier: GPL-2.0

//! Block I/O of folios.
//!
//! A [`ReadBio`] or [`WriteBio`] is built by adding ranges of folios that lie one after another on
//! the disk, and is submitted by value. When a read ends, its folios learn of it at once. When a
//! write ends, the file system's [`Completion`] gets it as a [`CompletedBio`], in a context that
//! cannot sleep, and may finish it there or put it on a [`CompletedQueue`] for a worker. The folios
//! stay under writeback until it is finished.
//!
//! # Examples
//!
//! Writing folios whose bytes lie in one piece on the disk each, by a file system that has nothing to do
//! when a write has ended:
//!
//! ```ignore
//! struct Written;
//!
//! impl Completion for Written {
//!     type FileSystem = SimpleFs;
//!     type Shared = ();
//!
//!     fn complete(bio: CompletedBio<Self>) {
//!         bio.finish(Ok(()));
//!     }
//! }
//!
//! fn writepages(inode: &Inode<SimpleFs>, control: &mut WritebackControl) -> Result {
//!     let bios: &BioSet<Written> = &inode.sb().data().bios;
//!     control.for_each_dirty(inode, |control, folio| {
//!         let sector = sector_of(inode, folio.pos())?;
//!         let bytes = 0..folio.size();
//!         let size = bytes.len() as u64;
//!         let mut bio = bios.write(inode.sb(), sector, size, control.write_flags(), Written)?;
//!         control.init_bio(&mut bio);
//!         let mut folio = folio.start_writeback()?;
//!         folio.add_to(&mut bio, bytes);
//!         bio.submit();
//!         Ok(())
//!     })
//! }
//! ```
//!
//! C headers: `include/linux/bio.h`, `include/linux/blk_types.h`.

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

pub use crate::bio_list::CompletedList;
pub use crate::bio_list::CompletedQueue;
use crate::folio_io::settle_read;
use crate::folio_io::settle_write;
use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::super_block::SuperBlock;

/// Flags of a request.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub(crate) u32);

impl Flags {
    /// None.
    pub const NONE: Self = Flags(0);
    /// Somebody waits for it.
    pub const SYNC: Self = Flags(1 << bindings::req_flag_bits___REQ_SYNC);
    /// It is file system metadata.
    pub const META: Self = Flags(1 << bindings::req_flag_bits___REQ_META);
    /// It goes before others.
    pub const PRIO: Self = Flags(1 << bindings::req_flag_bits___REQ_PRIO);
    /// It ends only when its data is on stable media.
    pub const FUA: Self = Flags(1 << bindings::req_flag_bits___REQ_FUA);
    /// The device's cache is flushed first.
    pub const PREFLUSH: Self = Flags(1 << bindings::req_flag_bits___REQ_PREFLUSH);
    /// It is background work.
    pub const BACKGROUND: Self = Flags(1 << bindings::req_flag_bits___REQ_BACKGROUND);
    /// It is read ahead of need and may fail.
    pub const RAHEAD: Self = Flags(1 << bindings::req_flag_bits___REQ_RAHEAD);
}

impl core::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Flags(self.0 | other.0)
    }
}

/// Number of segments to ask for when `bytes` contiguous bytes may follow.
fn segments(bytes: u64) -> u16 {
    let pages = bytes.div_ceil(bindings::PAGE_SIZE as u64);
    pages.clamp(1, u64::from(bindings::BIO_MAX_VECS)) as u16
}

/// The result that a status of a bio stands for.
fn status_result(status: bindings::blk_status_t) -> Result {
    // SAFETY: The function takes any status.
    to_result(unsafe { bindings::blk_status_to_errno(status) })
}

/// Calls `f` for each range of a folio that `bio` carries: folio, offset, length.
///
/// # Safety
///
/// `bio` must be valid, owned by the caller and carry folios only.
unsafe fn for_each_folio(
    bio: *mut bindings::bio,
    mut f: impl FnMut(*mut bindings::folio, usize, usize),
) {
    let mut iter = bindings::folio_iter::default();
    // SAFETY: By this function's contract. Stepping needs nothing of the folio that was visited, of
    // which `f` may have given up the last share: where the next one lies was noted before.
    unsafe {
        bindings::bio_first_folio(&mut iter, bio);
        while !iter.folio.is_null() {
            f(iter.folio, iter.offset, iter.length);
            bindings::bio_next_folio(&mut iter, bio);
        }
    }
}

/// The sector that follows what `bio` carries.
///
/// # Safety
///
/// `bio` must be valid, owned by the caller and not yet submitted.
unsafe fn end_sector(bio: NonNull<bindings::bio>) -> u64 {
    // SAFETY: By this function's contract.
    let iter = unsafe { (*bio.as_ptr()).bi_iter };
    // The first sector is what the file system said; the block layer looks whether there is one.
    iter.bi_sector
        .saturating_add(u64::from(iter.bi_size >> bindings::SECTOR_SHIFT))
}

/// Whether `bio` is for the device of `sb`.
///
/// # Safety
///
/// `bio` must be valid, owned by the caller and not yet submitted.
unsafe fn is_for<F: FileSystem>(bio: NonNull<bindings::bio>, sb: &SuperBlock<F>) -> bool {
    // SAFETY: By this function's contract.
    let bdev = unsafe { (*bio.as_ptr()).bi_bdev };
    sb.bdev()
        .is_some_and(|own| core::ptr::eq(own.as_ptr(), bdev))
}

/// Adds a range of a folio to `bio`, if it has room.
///
/// # Safety
///
/// `bio` must be valid and not yet submitted; the range must be in the folio.
unsafe fn add_folio(
    bio: *mut bindings::bio,
    folio: *mut bindings::folio,
    offset: usize,
    len: usize,
) -> bool {
    // SAFETY: By this function's contract.
    unsafe { bindings::bio_add_folio(bio, folio, len, offset) }
}

/// A read that is being built. Dropping it submits it.
///
/// # Invariants
///
/// `bio` is valid, not yet submitted, and each range in it is a share of the read of its folio.
pub struct ReadBio {
    bio: NonNull<bindings::bio>,
}

impl ReadBio {
    /// A read from `sector` (of 512 bytes) of the device of `sb` on, of up to `bytes` bytes. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `sb` is not on a block device.
    pub fn new<F: FileSystem>(
        sb: &SuperBlock<F>,
        sector: u64,
        bytes: u64,
        flags: Flags,
    ) -> Result<Self> {
        let bdev = sb.bdev().ok_or(EINVAL)?;
        // SAFETY: The device is open while the super block lives, which is while folios are being
        // read. An allocation from the kernel's bio set that may sleep does not fail.
        let bio = unsafe {
            bindings::bio_alloc_nofs(
                &raw mut bindings::fs_bio_set,
                bdev.as_ptr(),
                segments(bytes),
                bindings::req_op_REQ_OP_READ | flags.0,
            )
        };
        let bio = NonNull::new(bio).ok_or(ENOMEM)?;
        // SAFETY: The bio is ours.
        unsafe {
            (*bio.as_ptr()).bi_iter.bi_sector = sector;
            (*bio.as_ptr()).bi_end_io = Some(end_read);
        }
        // INVARIANT: The bio is empty.
        Ok(ReadBio { bio })
    }

    /// The sector that follows what the bio reads.
    pub fn end_sector(&self) -> u64 {
        // SAFETY: The bio is valid and ours.
        unsafe { end_sector(self.bio) }
    }

    /// Whether it goes to the device of `sb`.
    pub(crate) fn is_for<F: FileSystem>(&self, sb: &SuperBlock<F>) -> bool {
        // SAFETY: The bio is valid and ours.
        unsafe { is_for(self.bio, sb) }
    }

    /// Adds a range of a folio, if there is room.
    ///
    /// # Safety
    ///
    /// The range must be in the folio. If this returns `true`, it must be a share of the read of the
    /// folio, which passes to the bio.
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
        drop(self);
    }
}

impl Drop for ReadBio {
    fn drop(&mut self) {
        let bio = self.bio.as_ptr();
        // SAFETY: The bio is valid and ours; submitting passes it to the block layer.
        unsafe {
            if (*bio).bi_iter.bi_size == 0 {
                bindings::bio_put(bio);
            } else {
                bindings::submit_bio(bio);
            }
        }
    }
}

/// # Safety
///
/// Called by the block layer with a bio of a [`ReadBio`] that has ended.
unsafe extern "C" fn end_read(bio: *mut bindings::bio) {
    // SAFETY: The bio is ours again. Each range in it is a share of a read.
    unsafe {
        let result = status_result((*bio).bi_status);
        for_each_folio(bio, |folio, offset, len| {
            settle_read(folio, offset, len, Some(result));
        });
        bindings::bio_put(bio);
    }
}

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
        // writeback. The bio set is initialised.
        let bio = unsafe {
            bindings::bio_alloc_nofs(
                self.set.get(),
                bdev.as_ptr(),
                segments(bytes),
                bindings::req_op_REQ_OP_WRITE | flags.0,
            )
        };
        let bio = NonNull::new(bio).ok_or(ENOMEM)?;
        self.users.fetch_add(1, Relaxed);
        // SAFETY: The bio is ours, with room for a `Front<C>` before it.
        unsafe {
            front::<C>(bio).as_ptr().write(Front { set: self, context });
            (*bio.as_ptr()).bi_iter.bi_sector = sector;
            (*bio.as_ptr()).bi_end_io = Some(end_write::<C>);
        }
        // INVARIANT: The bio is of this set, and empty.
        Ok(WriteBio {
            bio,
            _set: PhantomData,
        })
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
        // SAFETY: The bio is ours and the inode valid; the hint is a single byte.
        unsafe { (*self.bio.as_ptr()).bi_write_hint = (*inode.as_ptr()).i_write_hint };
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

/// Runs `f` with requests held back until it returns or sleeps, so that the block layer sees
/// neighbours together.
pub fn with_plug<R>(f: impl FnOnce() -> R) -> R {
    struct Finish(*mut bindings::blk_plug);

    impl Drop for Finish {
        fn drop(&mut self) {
            // SAFETY: The plug was started, by this task, and lives until the function returns.
            unsafe { bindings::blk_finish_plug(self.0) };
        }
    }

    let plug = Opaque::<bindings::blk_plug>::uninit();
    // SAFETY: The plug stays where it is until it is finished, which the guard sees to.
    unsafe { bindings::blk_start_plug(plug.get()) };
    let _finish = Finish(plug.get());
    f()
}
