// SPDX-License-Identifier: GPL-2.0

//! Folios on their way between memory and disk.
//!
//! The blocks of one folio may lie in several places of the disk, and so travel in several bios.
//! Each bio settles the bytes that it carried when it ends; whoever settles the last bytes of the
//! folio ends its read or writeback. The value that feeds the bios settles what it gave to none when
//! it is dropped, so a folio cannot be forgotten and cannot end too early.

use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ops::Range;

use ferrofs_bindings as bindings;
use kernel::prelude::*;

use crate::bio::ReadBio;
use crate::bio::WriteBio;
use crate::block_device::SECTOR_SIZE;
use crate::block_state::BlockState;
use crate::folio::Folio;
use crate::folio::LockedFolio;
use crate::fs::FileSystem;
use crate::inode::Inode;

/// Whether devices can carry `bytes`: whole sectors, and some. A request for less than a sector counts as one
/// for none, of which the block layer does not look where on the device it is.
pub(crate) fn is_whole_sectors(bytes: &Range<usize>) -> bool {
    bytes.start < bytes.end && (bytes.start | bytes.end) as u64 % SECTOR_SIZE == 0
}

/// A locked folio that is being read. Dropping it says that all was added that is to be read: the
/// folio is unlocked when the last of it has arrived, and is up to date if all blocks are by then.
///
/// # Invariants
///
/// The folio is locked and in its mapping. The lock and one reference belong to the read; they are
/// given up by whoever settles its last byte. If the folio has a state, one byte more than the folio
/// has is to be settled, by this value, so that the read cannot end before.
pub struct ReadingFolio<F: FileSystem> {
    folio: ManuallyDrop<LockedFolio<F>>,
    /// Bytes in bios.
    added: usize,
    /// There is no state, and all of the folio was zeroed.
    zeroed: bool,
}

impl<F: FileSystem> Deref for ReadingFolio<F> {
    type Target = Folio<F>;

    fn deref(&self) -> &Folio<F> {
        &self.folio
    }
}

impl<F: FileSystem> ReadingFolio<F> {
    pub(crate) fn new(folio: LockedFolio<F>) -> Result<Self> {
        if folio.inode().is_none() {
            return Err(EINVAL);
        }
        if let Some(state) = folio.state() {
            state.begin_read(folio.size() + 1);
        }
        // INVARIANT: The lock keeps the folio in its mapping.
        Ok(Self {
            folio: ManuallyDrop::new(folio),
            added: 0,
            zeroed: false,
        })
    }

    /// The inode.
    pub fn inode(&self) -> &Inode<F> {
        // SAFETY: By the type invariants the folio is in its mapping, so that the inode lives.
        unsafe { Inode::from_ptr(bindings::folio_inode(self.as_ptr())) }
    }

    /// The state of the blocks, attached if there is none yet and the folio has several blocks.
    fn state(&self) -> Option<BlockState<'_>> {
        if let Some(state) = self.folio.state() {
            return Some(state);
        }
        let state = self.folio.attach_state(false)?;
        state.begin_read(self.size() + 1);
        Some(state)
    }

    /// The first run of blocks from byte `from` on that must be read or zeroed, in bytes.
    pub fn next_needed(&self, from: usize) -> Option<Range<usize>> {
        if self.zeroed {
            return None;
        }
        self.folio.next_not_uptodate(from..self.size())
    }

    /// Zeroes `bytes`, whole blocks, which are up to date then.
    pub fn zero(&mut self, bytes: Range<usize>) {
        self.folio.zero(bytes.clone());
        if bytes == (0..self.size()) && self.folio.state().is_none() {
            self.zeroed = true;
        } else if let Some(state) = self.state() {
            state.set_uptodate(bytes);
        }
    }

    /// Has `bio` read the whole folio, of which no block is up to date, from where the bio ends on
    /// the disk. This needs no state of the blocks.
    ///
    /// Gives the folio back if the bio cannot take it, or if it has a state.
    pub fn add_whole(self, bio: &mut ReadBio) -> core::result::Result<(), Self> {
        let usable = self.folio.state().is_none() && !self.zeroed;
        if !usable || !bio.is_for(self.inode().sb()) {
            return Err(self);
        }
        // SAFETY: The folio is locked and stays so until the bytes are settled; without a state
        // they are the only share.
        if !unsafe { bio.add(self.as_ptr(), 0, self.size()) } {
            return Err(self);
        }
        // The bio has the lock and the reference now.
        core::mem::forget(self);
        Ok(())
    }

    /// Has `bio` read `bytes`, whole blocks that need it, from where the bio ends on the disk.
    ///
    /// Returns `false` if the bio cannot take them, and nothing happened. A folio of one block is only
    /// taken by [`Self::add_whole`]. Bytes that are not the folio's, or a bio for another device than the
    /// file system's, are a mistake: the folio will not be up to date.
    pub fn add_to(&mut self, bio: &mut ReadBio, bytes: Range<usize>) -> bool {
        let fits = is_whole_sectors(&bytes)
            && bytes.end <= self.size()
            && self.added + bytes.len() <= self.size()
            && bio.is_for(self.inode().sb());
        let whole = bytes == (0..self.size()) && !self.zeroed;
        if fits && whole && self.added == 0 && self.state().is_none() {
            // A folio without a state goes by `add_whole`, which found no room in this bio.
            return false;
        }
        if !fits || self.state().is_none() {
            // A mistake of the caller, who would try for ever if it were told that the bio is full.
            // The folio will not be up to date.
            kernel::pr_warn_once!("read of bytes that are not the folio's\n");
            return true;
        }
        // SAFETY: The range is in the folio, which is locked and stays so until the bytes that the
        // bio carries are settled.
        if !unsafe { bio.add(self.as_ptr(), bytes.start, bytes.len()) } {
            return false;
        }
        self.added += bytes.len();
        true
    }
}

impl<F: FileSystem> Drop for ReadingFolio<F> {
    fn drop(&mut self) {
        let folio = self.as_ptr();
        if self.folio.state().is_some() {
            // SAFETY: The rest of the folio's bytes was in no bio, and one more byte is ours.
            unsafe { settle_read(folio, 0, self.size() - self.added + 1, None) };
        } else {
            // SAFETY: Without a state nothing was added, so that this ends the read.
            unsafe { end_read(folio, self.zeroed) };
        }
    }
}

/// Ends the read of a folio: unlocks it, up to date if `success`, and gives up the reference.
///
/// # Safety
///
/// The read must own the lock and a reference, and no share of the folio be left.
unsafe fn end_read(folio: *mut bindings::folio, success: bool) {
    // SAFETY: By this function's contract. `folio_end_read()` must not be told of success for a
    // folio that is up to date already.
    unsafe {
        let already = bindings::folio_test_uptodate(folio);
        bindings::folio_end_read(folio, success && !already);
        bindings::folio_put(folio);
    }
}

/// Settles `len` bytes at `offset` of a folio that is being read. `result` is how reading them went;
/// [`None`] if they did not need to be read.
///
/// # Safety
///
/// The bytes must be a share of the read of `folio`, which ends with this call.
pub(crate) unsafe fn settle_read(
    folio: *mut bindings::folio,
    offset: usize,
    len: usize,
    result: Option<Result>,
) {
    // SAFETY: The state of a folio that is being read is not detached.
    match unsafe { BlockState::of(folio) } {
        Some(state) => {
            if let Some(Ok(())) = result {
                state.set_uptodate(offset..offset + len);
            }
            // Settling is a full barrier: whoever settles last sees the bits of all others.
            if state.settle_read(len) {
                let success = state.all_uptodate();
                // SAFETY: The last share was settled.
                unsafe { end_read(folio, success) };
            }
        }
        // SAFETY: A folio without state travels in one piece.
        None => unsafe { end_read(folio, matches!(result, Some(Ok(())))) },
    }
}

/// A locked folio that is being written to disk. Dropping it says that all was added that is to be
/// written: what was not [kept back](Self::keep_dirty_from) is marked as clean and it is unlocked; its
/// writeback ends when the last of it has arrived.
///
/// # Invariants
///
/// The folio is locked, in its mapping and under writeback; that state is ended by whoever settles
/// the last byte. A folio of several blocks has a state.
pub struct WritingFolio<F: FileSystem> {
    folio: LockedFolio<F>,
    /// Bytes in bios.
    added: usize,
    /// From this byte on what is dirty stays so.
    kept_from: usize,
}

impl<F: FileSystem> Deref for WritingFolio<F> {
    type Target = Folio<F>;

    fn deref(&self) -> &Folio<F> {
        &self.folio
    }
}

impl<F: FileSystem> WritingFolio<F> {
    pub(crate) fn new(folio: LockedFolio<F>) -> Result<Self> {
        if folio.inode().is_none() || folio.is_under_writeback() {
            return Err(EINVAL);
        }
        let attached = folio.state().is_some();
        if let Some(state) = folio.attach_state(false) {
            if !attached {
                // All of it was dirty until writeback cleared the flag a moment ago.
                state.set_dirty(0..folio.size());
            }
            state.begin_write(folio.size());
        }
        // SAFETY: The folio is locked, in its mapping and not under writeback.
        unsafe { bindings::folio_start_writeback(folio.as_ptr()) };
        // INVARIANT: It is under writeback now.
        Ok(Self {
            added: 0,
            kept_from: folio.size(),
            folio,
        })
    }

    /// Dirty blocks that end behind byte `offset` cannot be written now and stay dirty, for a later
    /// writeback. They may have been added to a bio: then they are written twice.
    pub fn keep_dirty_from(&mut self, offset: usize) {
        self.kept_from = self.kept_from.min(offset);
    }

    /// The inode.
    pub fn inode(&self) -> &Inode<F> {
        // SAFETY: By the type invariants the folio is in its mapping, so that the inode lives.
        unsafe { Inode::from_ptr(bindings::folio_inode(self.as_ptr())) }
    }

    /// Copies bytes of the folio to `to`, for a file system that writes to somewhere else than a
    /// device. They are part of what is settled when this value is dropped.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not in the folio.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result {
        self.folio.copy_out(offset, to)
    }

    /// The first run of dirty blocks in `bytes`, in bytes.
    pub fn next_dirty(&self, bytes: Range<usize>) -> Option<Range<usize>> {
        match self.folio.state() {
            Some(state) => state.next_dirty(bytes),
            None => (!bytes.is_empty()).then_some(0..self.size()),
        }
    }

    /// Has `bio` write `bytes`, whole blocks, to where the bio ends on the disk.
    ///
    /// Returns `false` if the bio cannot take them, and nothing happened.
    pub fn add_to<C>(&mut self, bio: &mut WriteBio<'_, C>, bytes: Range<usize>) -> bool
    where
        C: crate::bio::Completion<FileSystem = F>,
    {
        let whole = bytes == (0..self.size());
        let fits = is_whole_sectors(&bytes)
            && bytes.end <= self.size()
            && self.added + bytes.len() <= self.size()
            && bio.is_for(self.inode().sb());
        if !fits || (!whole && self.folio.state().is_none()) {
            // A mistake of the caller, who would try for ever if it were told that the bio is full.
            // Errors of writeback are the mapping's to remember.
            kernel::pr_warn_once!("writeback of bytes that are not the folio's\n");
            self.inode().set_writeback_error(EIO);
            return true;
        }
        // SAFETY: The range is in the folio, which is under writeback and stays so until the bytes
        // that the bio carries are settled by `settle_write()`.
        if !unsafe { bio.add(self.as_ptr(), bytes.start, bytes.len()) } {
            return false;
        }
        self.added += bytes.len();
        true
    }
}

impl<F: FileSystem> Drop for WritingFolio<F> {
    fn drop(&mut self) {
        let rest = self.size() - self.added;
        let kept = self.kept_from < self.size();
        if let Some(state) = self.folio.state() {
            // Blocks past the end of the file may be marked, too, when a mapping dirtied the folio.
            state.clear_dirty(0..self.kept_from);
            if kept {
                self.folio.mark_dirty_again();
            }
            if rest != 0 {
                // SAFETY: The rest of the folio's bytes was in no bio.
                unsafe { settle_write(self.as_ptr(), rest) };
            }
        } else {
            if kept {
                self.folio.mark_dirty_again();
            }
            if rest != 0 {
                // SAFETY: Nothing was added: a folio without state travels in one piece.
                unsafe { settle_write(self.as_ptr(), rest) };
            }
        }
    }
}

/// Settles `len` bytes of a folio that is under writeback.
///
/// # Safety
///
/// The bytes must be a share of the writeback of `folio`, which ends with this call.
pub(crate) unsafe fn settle_write(folio: *mut bindings::folio, len: usize) {
    // SAFETY: The state of a folio under writeback is not detached.
    let last = unsafe { BlockState::of(folio) }.is_none_or(|state| state.settle_write(len));
    if last {
        // SAFETY: The last share was settled.
        unsafe { bindings::folio_end_writeback(folio) };
    }
}

#[kunit_tests(vfs_folio_io)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_of_whole_sectors() {
        assert!(is_whole_sectors(&(0..512)));
        assert!(is_whole_sectors(&(1024..4096)));
        assert!(!is_whole_sectors(&(0..100)));
        assert!(!is_whole_sectors(&(100..612)));
        assert!(!is_whole_sectors(&(512..512)));
        let (start, end) = (1024, 512);
        assert!(!is_whole_sectors(&(start..end)));
    }
}
