// SPDX-License-Identifier: GPL-2.0

//! The block device below a file system.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use core::ops::Deref;
use core::ops::Range;
use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::error::code::EINVAL;
use kernel::error::code::ENODEV;
use kernel::error::to_result;
use kernel::error::Result;
use kernel::types::Opaque;

use crate::fs::FileSystem;
use crate::super_block::NewSuperBlock;
use crate::super_block::SuperBlock;

/// The kernel counts devices in units of 512 bytes, whatever the device's own sector size.
pub const SECTOR_SIZE: u64 = 512;

/// An open block device.
///
/// # Invariants
///
/// A reference to a `BlockDevice` points to a `struct block_device` that stays open for as long as
/// the reference lives.
#[repr(transparent)]
pub struct BlockDevice(Opaque<bindings::block_device>);

// SAFETY: All operations offered here may be called from any task; the kernel does the locking.
unsafe impl Send for BlockDevice {}
// SAFETY: As above.
unsafe impl Sync for BlockDevice {}

impl BlockDevice {
    /// Wraps a pointer from C.
    ///
    /// # Safety
    ///
    /// `ptr` is an open block device and stays so for `'a`.
    #[inline]
    pub(crate) unsafe fn from_ptr<'a>(ptr: *mut bindings::block_device) -> &'a Self {
        // SAFETY: The type is transparent over `struct block_device`, whose life the caller vouches
        // for.
        unsafe { &*ptr.cast() }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::block_device {
        self.0.get()
    }

    /// The size in bytes of this device's buffers: the block size that the super block has set.
    #[inline]
    pub fn buffer_size(&self) -> usize {
        // SAFETY: The device is open, so it has a page cache with an inode. Nobody but the file system that has
        // the device changes the size.
        1 << unsafe { (*(*(*self.as_ptr()).bd_mapping).host).i_blkbits }
    }

    /// The major and the minor number of the device.
    pub fn number(&self) -> (u32, u32) {
        // SAFETY: The device is open, and its number does not change.
        let number = unsafe { (*self.as_ptr()).bd_dev };
        // As MAJOR() and MINOR() of include/linux/kdev_t.h have it.
        (number >> 20, number & ((1 << 20) - 1))
    }

    /// The size of the device in bytes.
    pub fn size(&self) -> u64 {
        // SAFETY: The device is open.
        unsafe { bindings::bdev_nr_bytes(self.as_ptr()) }
    }

    /// Whether the device, or its driver, refuses writes.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: The device is open.
        unsafe { bindings::bdev_read_only(self.as_ptr()) }
    }

    /// How many sectors of [`SECTOR_SIZE`] bytes were written to the device, by anybody, since the kernel knows
    /// it. Disks keep no such count from one boot to the next.
    pub fn sectors_written(&self) -> u64 {
        // SAFETY: The device is open.
        unsafe { bindings::bdev_sectors_written(self.as_ptr()) }
    }

    /// The largest discard in bytes that the device takes at once; 0 when it takes none.
    pub fn max_discard(&self) -> u64 {
        // SAFETY: The device is open.
        u64::from(unsafe { bindings::bdev_max_discard_sectors(self.as_ptr()) }) * SECTOR_SIZE
    }

    /// The granularity in bytes of discards.
    pub fn discard_granularity(&self) -> u64 {
        // SAFETY: The device is open.
        u64::from(unsafe { bindings::bdev_discard_granularity(self.as_ptr()) })
    }

    /// Makes what the device has acknowledged durable: flushes its volatile write cache, if it has one.
    ///
    /// Sleeps.
    pub fn flush(&self) -> Result {
        // SAFETY: The device is open.
        to_result(unsafe { bindings::blkdev_issue_flush(self.as_ptr()) })
    }

    /// Tells the device that the bytes of `range` are no longer needed. Sleeps.
    ///
    /// The range is in bytes and must be aligned to sectors of 512 bytes. Fails with `EOPNOTSUPP` when
    /// the device has no such operation.
    pub fn discard(&self, range: Range<u64>) -> Result {
        let (start, count) = sectors(range)?;
        // SAFETY: The device is open; the range is checked by the block layer.
        to_result(unsafe {
            bindings::blkdev_issue_discard(self.as_ptr(), start, count, bindings::gfp_nofs())
        })
    }

    /// Writes zeroes to the bytes of `range`, without data transfer where the device can. Sleeps.
    ///
    /// The range is in bytes and must be aligned to sectors of 512 bytes.
    pub fn zero(&self, range: Range<u64>) -> Result {
        let (start, count) = sectors(range)?;
        // SAFETY: The device is open; the range is checked by the block layer.
        to_result(unsafe {
            bindings::blkdev_issue_zeroout(self.as_ptr(), start, count, bindings::gfp_nofs(), 0)
        })
    }

    /// Writes all dirty buffers of the device and waits for them. Does not flush the device's cache.
    pub fn sync_buffers(&self) -> Result {
        // SAFETY: The device is open.
        to_result(unsafe { bindings::sync_blockdev(self.as_ptr()) })
    }

    /// Drops what the buffer cache holds of `count` blocks from `block` on.
    ///
    /// For blocks that cease to be metadata: a dirty buffer that was left from an earlier life could be
    /// written over what the new owner writes there.
    pub fn forget_buffers(&self, block: u64, count: u64) {
        // SAFETY: The device is open.
        unsafe { bindings::clean_bdev_aliases(self.as_ptr(), block, count) }
    }
}

/// A byte range as first sector and number of sectors.
fn sectors(range: Range<u64>) -> Result<(u64, u64)> {
    let aligned = range.start % SECTOR_SIZE == 0 && range.end % SECTOR_SIZE == 0;
    if !aligned || range.end < range.start {
        return Err(EINVAL);
    }
    Ok((
        range.start / SECTOR_SIZE,
        (range.end - range.start) / SECTOR_SIZE,
    ))
}

/// A reference that keeps a block device open.
///
/// # Invariants
///
/// `file` is an open file of the block device `bdev`, and this object owns a reference on it.
pub struct OpenDevice {
    file: NonNull<bindings::file>,
    bdev: NonNull<bindings::block_device>,
}

// SAFETY: References on files are counted atomically and belong to no task.
unsafe impl Send for OpenDevice {}
// SAFETY: As above.
unsafe impl Sync for OpenDevice {}

impl OpenDevice {
    /// A new reference to the device of a super block; `ENODEV` when it has none.
    ///
    /// # Safety
    ///
    /// `sb` is a valid super block whose device, if it has one, is open.
    pub(crate) unsafe fn of_super_block(sb: *mut bindings::super_block) -> Result<Self> {
        // SAFETY: By this function's contract.
        let file = NonNull::new(unsafe { (*sb).s_bdev_file }).ok_or(ENODEV)?;
        // SAFETY: The file is one of a block device.
        let bdev = NonNull::new(unsafe { bindings::file_bdev(file.as_ptr()) }).ok_or(ENODEV)?;
        // SAFETY: The super block holds a reference on the file.
        unsafe { bindings::get_file(file.as_ptr()) };
        // INVARIANT: The reference was just taken; a file is of the same device all its life.
        Ok(Self { file, bdev })
    }
}

impl<F: FileSystem> NewSuperBlock<'_, F> {
    /// A reference to the device of the mount; `ENODEV` when it has none.
    pub fn device(&self) -> Result<OpenDevice> {
        // SAFETY: The super block is valid and so is its device.
        unsafe { OpenDevice::of_super_block(self.as_ptr()) }
    }
}

impl<F: FileSystem> SuperBlock<F> {
    /// A reference to the device of the mount; `ENODEV` when it has none.
    pub fn device(&self) -> Result<OpenDevice> {
        // SAFETY: The super block is valid and so is its device.
        unsafe { OpenDevice::of_super_block(self.as_ptr()) }
    }
}

impl Deref for OpenDevice {
    type Target = BlockDevice;

    #[inline]
    fn deref(&self) -> &BlockDevice {
        // SAFETY: By the type invariant the device stays open as long as `self`.
        unsafe { BlockDevice::from_ptr(self.bdev.as_ptr()) }
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        // SAFETY: The reference is ours and is not used again.
        unsafe { bindings::fput(self.file.as_ptr()) }
    }
}
