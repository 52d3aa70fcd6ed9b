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

use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::Opaque;

pub use crate::bio_list::CompletedList;
pub use crate::bio_list::CompletedQueue;
use crate::block_device::OpenDevice;
use crate::folio_io::settle_read;
use crate::fs::FileSystem;
use crate::super_block::SuperBlock;
pub use crate::write_bio::BioSet;
pub use crate::write_bio::CompletedBio;
pub use crate::write_bio::Completion;
pub use crate::write_bio::WriteBio;

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
pub(crate) fn segments(bytes: u64) -> u16 {
    let pages = bytes.div_ceil(bindings::PAGE_SIZE as u64);
    pages.clamp(1, u64::from(bindings::BIO_MAX_VECS)) as u16
}

/// The result that a status of a bio stands for.
pub(crate) fn status_result(status: bindings::blk_status_t) -> Result {
    // SAFETY: The function takes any status.
    to_result(unsafe { bindings::blk_status_to_errno(status) })
}

/// Calls `f` for each range of a folio that `bio` carries: folio, offset, length.
///
/// # Safety
///
/// `bio` must be valid, owned by the caller and carry folios only.
pub(crate) unsafe fn for_each_folio(
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
pub(crate) unsafe fn end_sector(bio: NonNull<bindings::bio>) -> u64 {
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
pub(crate) unsafe fn is_for<F: FileSystem>(
    bio: NonNull<bindings::bio>,
    sb: &SuperBlock<F>,
) -> bool {
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
pub(crate) unsafe fn add_folio(
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
/// `bio` is valid, not yet submitted, for `device`, and each range in it is a share of the read of its folio.
pub struct ReadBio {
    bio: NonNull<bindings::bio>,
    /// Folios that are being read keep it open, but there may be none yet. Another device could be where this
    /// one was by the time that there is one.
    _device: OpenDevice,
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
        let device = sb.device().map_err(|_| EINVAL)?;
        // SAFETY: The device is open as long as the new value, and then while the super block lives, which is
        // while folios are being read. An allocation from the kernel's bio set that may sleep does not fail.
        let bio = unsafe {
            bindings::bio_alloc_nofs(
                &raw mut bindings::fs_bio_set,
                device.as_ptr(),
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
        Ok(ReadBio {
            bio,
            _device: device,
        })
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
