// SPDX-License-Identifier: GPL-2.0

//! Folios: what the page cache of a file consists of.
//!
//! # Life of a folio
//!
//! ```text
//!             Operations::read_folio, readahead, write_begin
//!                                  |
//!                             LockedFolio --- drop: unlock
//!            start_read() /        |        \ start_writeback()
//!               ReadingFolio  mark_dirty()   WritingFolio --- drop: unlock
//!             add_to(bio) |                        | add_to(bio)
//!          (in flight, locked)            (in flight, under writeback)
//!                         |                        |
//!         end of I/O: unlocked,           end of I/O: writeback over
//!         up to date if all was read
//! ```
//!
//! A state is a type; what changes the state consumes the value.
//!
//! # Examples
//!
//! Reading a folio whose bytes lie in one piece on the disk:
//!
//! ```ignore
//! fn read_folio(_file: Option<&LocalFile>, folio: LockedFolio<SimpleFs>) -> Result {
//!     let folio = folio.start_read()?;
//!     let sector = sector_of(folio.inode(), folio.pos())?;
//!     let bytes = folio.size() as u64;
//!     let mut bio = ReadBio::new(folio.inode().sb(), sector, bytes, Flags::NONE)?;
//!     // If the bio does not take it, the folio ends its read here, and is not up to date.
//!     folio.add_whole(&mut bio).map_err(|_| EIO)?;
//!     bio.submit();
//!     Ok(())
//! }
//! ```
//!
//! # Bytes
//!
//! User space may have a folio mapped and change its bytes at any time, so no reference to them is
//! ever made. They are copied in and out, or zeroed, by the kernel's functions for that.
//!
//! C headers: `include/linux/pagemap.h`, `include/linux/mm_types.h`.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ops::Range;
use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::error::from_err_ptr;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::aref::AlwaysRefCounted;
use kernel::types::Opaque;

use crate::block_state::BlockState;
use crate::folio_io::is_whole_sectors;
pub use crate::folio_io::ReadingFolio;
pub use crate::folio_io::WritingFolio;
use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::kiocb::Kiocb;

/// A folio of the page cache of an inode of file system `F`.
///
/// # Invariants
///
/// The folio has a reference, and was in the page cache of an inode of `F`, with operations made by
/// [`address_space`](crate::address_space), when it was found. It may have been truncated since.
#[repr(transparent)]
pub struct Folio<F: FileSystem>(Opaque<bindings::folio>, PhantomData<F>);

// SAFETY: A folio belongs to no thread; its flags are atomic.
unsafe impl<F: FileSystem> Send for Folio<F> {}
// SAFETY: As above.
unsafe impl<F: FileSystem> Sync for Folio<F> {}

// SAFETY: A folio with references stays in memory.
unsafe impl<F: FileSystem> AlwaysRefCounted for Folio<F> {
    fn inc_ref(&self) {
        // SAFETY: By the type invariants there is a reference already.
        unsafe { bindings::folio_get(self.as_ptr()) };
    }

    unsafe fn dec_ref(folio: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::folio_put(folio.cast().as_ptr()) };
    }
}

impl<F: FileSystem> Folio<F> {
    pub(crate) fn as_ptr(&self) -> *mut bindings::folio {
        self.0.get()
    }

    /// Size in bytes, a power of two.
    #[inline]
    pub fn size(&self) -> usize {
        // SAFETY: The folio is valid.
        unsafe { bindings::folio_size(self.as_ptr()) }
    }

    /// Position of the first byte in the file. It means something only while the folio is in the
    /// page cache.
    #[inline]
    pub fn pos(&self) -> u64 {
        // SAFETY: The folio is valid.
        unsafe { bindings::folio_pos(self.as_ptr()) as u64 }
    }

    /// The position after the last byte.
    #[inline]
    pub fn end(&self) -> u64 {
        self.pos() + self.size() as u64
    }

    /// Whether all bytes are what they should be.
    #[inline]
    pub fn is_uptodate(&self) -> bool {
        // SAFETY: The folio is valid.
        unsafe { bindings::folio_test_uptodate(self.as_ptr()) }
    }

    /// Whether some byte is newer than on disk.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        // SAFETY: The folio is valid.
        unsafe { bindings::folio_test_dirty(self.as_ptr()) }
    }

    /// Whether the folio is on its way to the disk.
    #[inline]
    pub fn is_under_writeback(&self) -> bool {
        // SAFETY: The folio is valid.
        unsafe { bindings::folio_test_writeback(self.as_ptr()) }
    }

    /// Locks the folio. Sleeps.
    pub fn lock(folio: ARef<Self>) -> LockedFolio<F> {
        // SAFETY: The folio is valid.
        unsafe { bindings::folio_lock(folio.as_ptr()) };
        // INVARIANT: This context just took the lock.
        LockedFolio { folio }
    }
}

impl<F: FileSystem> Inode<F> {
    /// The folio at byte `pos`, locked, made when there is none: of a size that suits a write of
    /// `len` bytes. Waits for writeback of the folio where the device needs stable pages. Sleeps,
    /// unless the write that `kiocb` describes must not.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EAGAIN` when this would sleep and must not, `EFBIG` beyond the largest offset.
    pub fn write_begin_folio(
        &self,
        kiocb: Option<&Kiocb<'_, F>>,
        pos: u64,
        len: usize,
    ) -> Result<LockedFolio<F>> {
        if i64::try_from(pos).is_err() {
            return Err(EFBIG);
        }
        let kiocb = kiocb.map(Kiocb::get).transpose()?;
        let kiocb = kiocb.unwrap_or(core::ptr::null_mut());
        let index = (pos >> bindings::PAGE_SHIFT) as usize;
        // SAFETY: The inode is valid, and `kiocb` is null or valid.
        let folio = unsafe {
            from_err_ptr(bindings::write_begin_get_folio(
                kiocb,
                self.mapping_ptr(),
                index,
                len,
            ))?
        };
        // SAFETY: The function returned a folio of this inode, locked and with a reference that is
        // ours.
        Ok(unsafe { LockedFolio::from_raw(folio) })
    }

    /// The folio at byte `pos`, locked, if there is one in the page cache. Sleeps.
    pub fn lock_folio(&self, pos: u64) -> Option<LockedFolio<F>> {
        let index = (pos >> bindings::PAGE_SHIFT) as usize;
        // SAFETY: The inode is valid.
        let folio = unsafe { bindings::filemap_lock_folio(self.mapping_ptr(), index) };
        let folio = from_err_ptr(folio).ok()?;
        // SAFETY: As in `write_begin_folio()`.
        Some(unsafe { LockedFolio::from_raw(folio) })
    }
}

/// A locked folio. Dropping it unlocks.
///
/// The lock keeps the folio from being truncated and from changing between the states of
/// [the module's picture](self).
///
/// # Invariants
///
/// The folio is locked, and this value is what stands for the lock.
pub struct LockedFolio<F: FileSystem> {
    folio: ARef<Folio<F>>,
}

impl<F: FileSystem> Deref for LockedFolio<F> {
    type Target = Folio<F>;

    fn deref(&self) -> &Folio<F> {
        &self.folio
    }
}

impl<F: FileSystem> Drop for LockedFolio<F> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held, and it is ours.
        unsafe { bindings::folio_unlock(self.as_ptr()) };
    }
}

impl<F: FileSystem> LockedFolio<F> {
    /// # Safety
    ///
    /// `folio` must satisfy the invariants of [`Folio<F>`] and be locked; the lock and one reference
    /// pass to the new value.
    pub(crate) unsafe fn from_raw(folio: *mut bindings::folio) -> Self {
        // SAFETY: `folio` is not null, and the caller passes a reference.
        let folio = unsafe { ARef::from_raw(NonNull::new_unchecked(folio.cast())) };
        // INVARIANT: By this function's contract.
        LockedFolio { folio }
    }

    /// The folio, still locked and with its reference.
    pub(crate) fn into_raw(self) -> *mut bindings::folio {
        let this = ManuallyDrop::new(self);
        this.as_ptr()
    }

    /// Another reference to the folio, which outlives the lock.
    pub fn share(&self) -> ARef<Folio<F>> {
        self.folio.clone()
    }

    /// The inode; [`None`] if the folio was truncated.
    pub fn inode(&self) -> Option<&Inode<F>> {
        // SAFETY: The lock keeps the folio in its mapping if it still is in one, which keeps the
        // inode. By the invariants of `Folio` it is one of `F`.
        unsafe {
            let inode = bindings::folio_inode(self.as_ptr());
            (!inode.is_null()).then(|| Inode::from_ptr(inode))
        }
    }

    /// Whether the folio is in the page cache of `inode`.
    pub fn belongs_to(&self, inode: &Inode<F>) -> bool {
        // SAFETY: Both are valid.
        unsafe { bindings::folio_belongs_to(self.as_ptr(), inode.as_ptr()) }
    }

    /// The state of the blocks, if it is attached.
    pub(crate) fn state(&self) -> Option<BlockState<'_>> {
        // SAFETY: The folio belongs to a mapping of ours, and only the holder of the lock detaches.
        unsafe { BlockState::of(self.as_ptr()) }
    }

    /// The state of the blocks, attached if the folio has several.
    pub(crate) fn attach_state(&self, nowait: bool) -> Option<BlockState<'_>> {
        let block_bits = self.inode()?.block_bits();
        // SAFETY: The folio belongs to a mapping of ours and is locked.
        unsafe { BlockState::attach(self.as_ptr(), block_bits, nowait) }
    }

    /// Prepares for a write of a part of the folio: from now on it remembers which of its blocks
    /// are dirty and which are up to date. Nothing to do for a folio of one block.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when `nowait` and there is no memory at once; without `nowait` this sleeps until
    /// there is.
    pub fn track_blocks(&self, nowait: bool) -> Result {
        let one_block = self
            .inode()
            .is_none_or(|inode| self.size() >> inode.block_bits() <= 1);
        if !one_block && self.attach_state(nowait).is_none() {
            return Err(EAGAIN);
        }
        Ok(())
    }

    fn check(&self, offset: usize, len: usize) -> Result {
        if offset > self.size() || len > self.size() - offset {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Copies `from` into the folio.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not in the folio.
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Result {
        self.check(offset, from.len())?;
        // SAFETY: The range was checked; the function does not mind that user space may write to
        // the same bytes.
        unsafe {
            bindings::memcpy_to_folio(self.as_ptr(), offset, from.as_ptr().cast(), from.len())
        };
        Ok(())
    }

    /// Copies bytes of the folio to `to`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not in the folio.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result {
        self.check(offset, to.len())?;
        // SAFETY: As in `copy_in()`.
        unsafe {
            bindings::memcpy_from_folio(to.as_mut_ptr().cast(), self.as_ptr(), offset, to.len())
        };
        Ok(())
    }

    /// Zeroes the part of `bytes` which is in the folio.
    pub fn zero(&self, bytes: Range<usize>) {
        let end = bytes.end.min(self.size());
        if bytes.start < end {
            // SAFETY: The range is in the folio.
            unsafe { bindings::folio_zero_range(self.as_ptr(), bytes.start, end - bytes.start) };
        }
    }

    /// The first run of blocks among those that `bytes` touches which are not up to date, in bytes.
    /// Its edges are those of blocks.
    pub fn next_not_uptodate(&self, bytes: Range<usize>) -> Option<Range<usize>> {
        if self.is_uptodate() || bytes.is_empty() {
            return None;
        }
        match self.state() {
            Some(state) => state.next_not_uptodate(bytes),
            None => {
                let mask = self.inode()?.block_size() - 1;
                let end = bytes.end.min(self.size());
                Some(bytes.start & !mask..((end + mask) & !mask).min(self.size()))
            }
        }
    }

    /// Marks the blocks that `bytes` touches as up to date: each of their bytes was read, written
    /// or zeroed.
    pub fn mark_uptodate(&self, bytes: Range<usize>) {
        if self.is_uptodate() || bytes.is_empty() {
            return;
        }
        let whole = bytes.start == 0 && bytes.end >= self.size();
        let all = match self.state() {
            Some(state) => {
                state.set_uptodate(bytes);
                state.all_uptodate()
            }
            None if whole => true,
            None => match self.attach_state(false) {
                Some(state) => {
                    state.set_uptodate(bytes);
                    state.all_uptodate()
                }
                None => true,
            },
        };
        if all {
            // SAFETY: The folio is locked, and every block is up to date.
            unsafe { bindings::folio_mark_uptodate(self.as_ptr()) };
        }
    }

    /// Marks the blocks that `bytes` touches, and with them the folio and the inode, as dirty.
    /// Accounts the folio as dirty. Nothing happens to a folio that was truncated.
    pub fn mark_dirty(&self, bytes: Range<usize>) {
        if bytes.is_empty() || self.inode().is_none() {
            return;
        }
        let whole = bytes.start == 0 && bytes.end >= self.size();
        let state = if whole {
            self.state()
        } else {
            self.attach_state(false)
        };
        if let Some(state) = state {
            state.set_dirty(bytes);
        }
        self.mark_dirty_again();
    }

    /// Marks the folio and the inode as dirty, and leaves it to the state which of its blocks are.
    pub(crate) fn mark_dirty_again(&self) {
        if let Some(inode) = self.inode() {
            // SAFETY: The folio is locked and in this mapping.
            unsafe { bindings::filemap_dirty_folio(inode.mapping_ptr(), self.as_ptr()) };
        }
    }

    /// Whether one of the blocks that `bytes` touches is dirty.
    pub fn is_range_dirty(&self, bytes: Range<usize>) -> bool {
        self.is_dirty()
            && !bytes.is_empty()
            && self
                .state()
                .is_none_or(|state| state.next_dirty(bytes).is_some())
    }

    /// Waits until the folio's bytes may be changed, where the device needs them stable while it
    /// writes. Sleeps. Nothing writes a folio that was truncated.
    pub fn wait_stable(&self) {
        if self.inode().is_none() {
            return;
        }
        // SAFETY: The folio is valid and, being locked, stays in its mapping.
        unsafe { bindings::folio_wait_stable(self.as_ptr()) };
    }

    /// Waits until the folio is not under writeback. Sleeps.
    pub fn wait_writeback(&self) {
        // SAFETY: The folio is valid.
        unsafe { bindings::folio_wait_writeback(self.as_ptr()) };
    }

    /// Reads `len` bytes at `sector` (of 512 bytes) of the device to byte `offset`, and waits. They
    /// are not marked as up to date. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not in the folio or not of whole sectors, or the folio was truncated, or
    /// what the device says.
    pub fn read_sync(&self, offset: usize, len: usize, sector: u64) -> Result {
        self.check(offset, len)?;
        if len == 0 {
            // Devices count from zero, to which a request for nothing is a very long one.
            return Ok(());
        }
        if !is_whole_sectors(&(offset..offset + len)) {
            return Err(EINVAL);
        }
        let inode = self.inode().ok_or(EINVAL)?;
        let bdev = inode.sb().bdev().ok_or(EINVAL)?;
        // SAFETY: The device is open while the super block lives. The folio is locked, and the
        // range is in it.
        to_result(unsafe {
            bindings::folio_read_sync(bdev.as_ptr(), self.as_ptr(), offset, len, sector)
        })
    }

    /// Begins to read the folio.
    ///
    /// # Errors
    ///
    /// `EINVAL`, and the folio is unlocked, if it was truncated.
    pub fn start_read(self) -> Result<ReadingFolio<F>> {
        ReadingFolio::new(self)
    }

    /// Begins to write the folio to disk.
    ///
    /// # Errors
    ///
    /// `EINVAL`, and the folio is unlocked, if it was truncated or is under writeback.
    pub fn start_writeback(self) -> Result<WritingFolio<F>> {
        WritingFolio::new(self)
    }
}
