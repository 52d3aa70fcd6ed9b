// SPDX-License-Identifier: GPL-2.0

//! The page cache of an inode as a whole: truncation, flushing, and the lock that keeps page faults
//! and reads out while the blocks below it change.
//!
//! C headers: `include/linux/pagemap.h`, `include/linux/mm.h`.

use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::NotThreadSafe;

use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::inode::NewInode;
use crate::super_block::SuperBlock;

/// An offset in a file as C has it. What is beyond the largest is cut to it.
pub(crate) fn c_offset(bytes: u64) -> bindings::loff_t {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl<F: FileSystem> SuperBlock<F> {
    /// The block device; [`None`] if the file system is not on one.
    pub(crate) fn bdev(&self) -> Option<NonNull<bindings::block_device>> {
        // SAFETY: The super block is valid; `s_bdev` is set once, before it is used.
        NonNull::new(unsafe { (*self.as_ptr()).s_bdev })
    }

    /// The largest size of a file in bytes.
    pub fn max_bytes(&self) -> u64 {
        // SAFETY: The super block is valid; the field is set once, before there are files.
        unsafe { (*self.as_ptr()).s_maxbytes as u64 }
    }

    /// Alignment in file and length that direct I/O needs; one if there is no device.
    pub fn device_block_size(&self) -> u32 {
        self.bdev()
            // SAFETY: As above.
            .map_or(1, |bdev| unsafe {
                bindings::bdev_logical_block_size(bdev.as_ptr())
            })
    }

    /// Alignment in memory that direct I/O needs.
    pub fn device_memory_alignment(&self) -> u32 {
        self.bdev()
            // SAFETY: As above.
            .map_or(1, |bdev| unsafe {
                bindings::bdev_dma_alignment(bdev.as_ptr()) + 1
            })
    }
}

impl<F: FileSystem> Inode<F> {
    pub(crate) fn mapping_ptr(&self) -> *mut bindings::address_space {
        // `i_mapping` of a device node may be that of the device: not ours, and subject to change.
        // SAFETY: The inode is valid; no reference is made.
        unsafe { &raw mut (*self.as_ptr()).i_data }
    }

    /// Binary logarithm of the block size.
    #[inline]
    pub fn block_bits(&self) -> u32 {
        self.sb().block_bits().into()
    }

    /// The block size in bytes.
    #[inline]
    pub fn block_size(&self) -> usize {
        1 << self.block_bits()
    }

    /// Whether there are folios in the page cache.
    pub fn has_pages(&self) -> bool {
        // SAFETY: The inode is valid; the count is a single word.
        unsafe { core::ptr::read_volatile(&raw const (*self.mapping_ptr()).nrpages) != 0 }
    }

    /// Records an error of writeback, for each open file to report once at its next sync.
    pub fn set_writeback_error(&self, error: Error) {
        // SAFETY: The inode is valid. The function may be called from any context.
        unsafe { bindings::mapping_set_error(self.mapping_ptr(), error.to_errno()) };
    }

    /// Unmaps and drops the page cache from byte `size` on, the new size, which was set before.
    /// Waits for writeback. Sleeps.
    pub fn truncate_page_cache(&self, size: u64) {
        // SAFETY: The inode is valid.
        unsafe { bindings::truncate_pagecache(self.as_ptr(), c_offset(size)) };
    }

    /// Unmaps and drops the page cache from byte `start` up to but not including `end`; bytes of
    /// folios that lie in it partly are zeroed. Waits for writeback. Sleeps.
    pub fn truncate_page_cache_range(&self, start: u64, end: u64) {
        if start < end {
            // SAFETY: The inode is valid.
            unsafe {
                bindings::truncate_pagecache_range(
                    self.as_ptr(),
                    c_offset(start),
                    c_offset(end - 1),
                );
            }
        }
    }

    /// After the size grew from `from` to `to`: has page faults ask again before the folio of the
    /// old end is written to through a mapping, for blocks in it that were beyond the end then.
    pub fn page_cache_extended(&self, from: u64, to: u64) {
        // SAFETY: The inode is valid.
        unsafe { bindings::pagecache_isize_extended(self.as_ptr(), c_offset(from), c_offset(to)) };
    }

    /// Writes the dirty folios that touch `start..end` and waits. Sleeps.
    ///
    /// # Errors
    ///
    /// What went wrong with the writeback of them.
    pub fn write_and_wait_range(&self, start: u64, end: u64) -> Result {
        if start >= end {
            return Ok(());
        }
        // SAFETY: The inode is valid.
        to_result(unsafe {
            bindings::filemap_write_and_wait_range(
                self.mapping_ptr(),
                c_offset(start),
                c_offset(end - 1),
            )
        })
    }

    /// Starts to write the dirty folios, without waiting for them.
    ///
    /// # Errors
    ///
    /// What went wrong with starting.
    pub fn start_writeback(&self) -> Result {
        // SAFETY: The inode is valid.
        to_result(unsafe { bindings::filemap_flush(self.mapping_ptr()) })
    }

    /// Drops the clean folios that touch `start..end` from the page cache, as far as nobody uses
    /// them.
    pub fn drop_clean_pages(&self, start: u64, end: u64) {
        if start < end {
            let shift = bindings::PAGE_SHIFT;
            // SAFETY: The inode is valid.
            unsafe {
                bindings::invalidate_mapping_pages(
                    self.mapping_ptr(),
                    (start >> shift) as usize,
                    ((end - 1) >> shift) as usize,
                );
            }
        }
    }

    /// Waits until no direct I/O is in flight. The inode's lock keeps new ones out. Sleeps.
    pub fn wait_for_direct_io(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_dio_wait(self.as_ptr()) };
    }

    /// Whether direct I/O is in flight.
    pub fn has_direct_io(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_dio_in_flight(self.as_ptr()) }
    }

    /// Whether a write needs no look at privileges that it may have to remove.
    pub fn is_nosec(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_is_nosec(self.as_ptr()) }
    }

    /// Keeps folios from being added to the page cache: by reads, page faults and readahead. Taken
    /// inside the inode's lock and outside folio locks. Sleeps.
    pub fn lock_page_cache(&self) -> PageCacheLocked<'_, F> {
        // SAFETY: The inode is valid; the guard unlocks.
        unsafe { bindings::filemap_invalidate_lock(self.mapping_ptr()) };
        PageCacheLocked(self, NotThreadSafe)
    }

    /// Keeps [`Self::lock_page_cache`] out, for those that add folios. Sleeps.
    pub fn lock_page_cache_shared(&self) -> PageCacheLockedShared<'_, F> {
        // SAFETY: The inode is valid; the guard unlocks.
        unsafe { bindings::filemap_invalidate_lock_shared(self.mapping_ptr()) };
        PageCacheLockedShared(self, NotThreadSafe)
    }
}

/// `invalidate_lock` is held exclusively, by this task. Released on drop.
pub struct PageCacheLocked<'a, F: FileSystem>(&'a Inode<F>, NotThreadSafe);

impl<F: FileSystem> Drop for PageCacheLocked<'_, F> {
    fn drop(&mut self) {
        // SAFETY: The guard was made with the lock taken.
        unsafe { bindings::filemap_invalidate_unlock(self.0.mapping_ptr()) };
    }
}

/// `invalidate_lock` is held shared, by this task. Released on drop.
pub struct PageCacheLockedShared<'a, F: FileSystem>(&'a Inode<F>, NotThreadSafe);

impl<F: FileSystem> Drop for PageCacheLockedShared<'_, F> {
    fn drop(&mut self) {
        // SAFETY: The guard was made with the lock taken.
        unsafe { bindings::filemap_invalidate_unlock_shared(self.0.mapping_ptr()) };
    }
}

impl<F: FileSystem> NewInode<F> {
    /// Lets the page cache use large folios.
    pub fn allow_large_folios(&self) {
        // SAFETY: The inode is valid and not yet in use by anybody else.
        unsafe { bindings::mapping_set_large_folios(self.mapping_ptr()) };
    }
}
