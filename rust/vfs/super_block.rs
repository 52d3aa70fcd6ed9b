// SPDX-License-Identifier: GPL-2.0

//! Super blocks: one for each mounted file system.
//!
//! C headers: `include/linux/fs/super_types.h`, `include/linux/fs/super.h`.

use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Acquire;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::ordering::Release;
use kernel::sync::atomic::Atomic;
use kernel::time::delay::fsleep;
use kernel::time::Delta;
use kernel::types::NotThreadSafe;
use kernel::types::Opaque;

use crate::fs::Backing;
use crate::fs::FileSystem;
use crate::xattr::Handlers;

/// The super block of a mount of `F`.
///
/// # Invariants
///
/// The C object is initialised, belongs to file system `F` and is borrowed for at least as long as
/// the reference. Its `s_fs_info` points to a [`Mount<F>`] (except while [`FileSystem::load`] runs,
/// which sees only a [`NewSuperBlock`]) that is dropped after the last inode of the mount.
#[repr(transparent)]
pub struct SuperBlock<F: FileSystem>(Opaque<bindings::super_block>, PhantomData<F>);

// SAFETY: A super block may be used from any thread: what methods touch is either constant while
// mounted, atomic, or locked by the kernel functions called.
unsafe impl<F: FileSystem> Send for SuperBlock<F> {}
// SAFETY: As above.
unsafe impl<F: FileSystem> Sync for SuperBlock<F> {}

/// What is kept for each mount.
pub(crate) struct Mount<F: FileSystem> {
    /// Number of inodes in memory. It is zero only when nobody can get at the super block through one.
    inodes: Atomic<usize>,
    data: Pin<KBox<F::SuperData>>,
}

impl<F: FileSystem> Mount<F> {
    pub(crate) fn new(data: Pin<KBox<F::SuperData>>) -> Self {
        Self {
            inodes: Atomic::new(0),
            data,
        }
    }

    /// # Safety
    ///
    /// `sb` must be a super block of `F` with per-mount data, which stays for `'a`.
    pub(crate) unsafe fn of<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: By this function's contract.
        unsafe { &*(*sb).s_fs_info.cast() }
    }

    /// An inode was allocated.
    pub(crate) fn add_inode(&self) {
        self.inodes.fetch_add(1, Relaxed);
    }

    /// An inode was destroyed, and its super block is not looked at through it any more.
    pub(crate) fn remove_inode(&self) {
        self.inodes.fetch_sub(1, Release);
    }

    /// Waits until there are no inodes, and complains when it takes long. Sleeps.
    pub(crate) fn wait_for_inodes(&self, sb: &SuperBlock<F>) {
        const STEP: Delta = Delta::from_millis(10);
        const STEPS_TO_MESSAGE: u32 = 1000;
        let mut steps = 0u32;
        loop {
            let left = self.inodes.load(Acquire);
            if left == 0 {
                return;
            }
            steps = steps.wrapping_add(1);
            if steps % STEPS_TO_MESSAGE == 0 {
                pr_err!(
                    "{}: unmount waits until references to {left} inodes are dropped\n",
                    sb.id()
                );
            }
            fsleep(STEP);
        }
    }
}

/// What `statfs(2)` tells.
pub struct StatFs {
    /// The file system's magic number.
    pub magic: u32,
    /// Block size in bytes.
    pub block_size: u32,
    /// Size in blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for unprivileged users.
    pub available: u64,
    /// Number of inodes.
    pub files: u64,
    /// Number of free inodes.
    pub free_files: u64,
    /// Longest file name in bytes.
    pub name_length: u32,
    /// File system id.
    pub id: u64,
}

impl<F: FileSystem> SuperBlock<F> {
    /// # Safety
    ///
    /// `ptr` must satisfy the type invariants for `'a`.
    pub(crate) unsafe fn from_ptr<'a>(ptr: *mut bindings::super_block) -> &'a Self {
        // SAFETY: By this function's contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// The file system's per-mount data.
    #[inline]
    pub fn data(&self) -> &F::SuperData {
        // SAFETY: By the type invariants there is per-mount data.
        unsafe { &Mount::<F>::of(self.as_ptr()).data }
    }

    /// The name by which messages call the mount: that of its device.
    pub fn id(&self) -> &CStr {
        // SAFETY: `s_id` is a terminated string that does not change once the device is set up.
        unsafe { CStr::from_char_ptr((*self.as_ptr()).s_id.as_ptr()) }
    }

    /// Block size in bytes.
    #[inline]
    pub fn block_size(&self) -> u32 {
        // SAFETY: The block size is set before the super block is shared.
        unsafe { (*self.as_ptr()).s_blocksize as u32 }
    }

    /// Binary logarithm of the block size.
    #[inline]
    pub fn block_bits(&self) -> u8 {
        // SAFETY: As in `block_size()`.
        unsafe { (*self.as_ptr()).s_blocksize_bits }
    }

    /// Whether the mount is read-only now.
    pub fn is_read_only(&self) -> bool {
        self.has_any(bindings::SB_RDONLY)
    }

    fn flags(&self) -> &AtomicU64 {
        // SAFETY: `s_flags` is an aligned `unsigned long` (64 bits on the architectures that the
        // kernel's Rust supports) that lives as long as `self`; C accesses it word by word.
        unsafe { AtomicU64::from_ptr((&raw mut (*self.as_ptr()).s_flags).cast::<u64>()) }
    }

    /// Whether one of `flags` is set.
    fn has_any(&self, flags: u32) -> bool {
        self.flags().load(Ordering::Relaxed) & u64::from(flags) != 0
    }

    /// Whether all writes must be durable at once (`-o sync`).
    pub fn is_sync(&self) -> bool {
        self.has_any(bindings::SB_SYNCHRONOUS)
    }

    /// Whether changes of directories must be durable at once (`-o dirsync`, `-o sync`).
    pub fn is_dirsync(&self) -> bool {
        self.has_any(bindings::SB_SYNCHRONOUS | bindings::SB_DIRSYNC)
    }

    /// Whether POSIX ACLs are on.
    pub fn has_posix_acl(&self) -> bool {
        self.has_any(bindings::SB_POSIXACL)
    }

    /// Turns POSIX ACLs on or off.
    pub fn set_posix_acl(&self, on: bool) {
        self.set_flag(bindings::SB_POSIXACL, on);
    }

    /// Turns change counters (`i_version`) of inodes on or off.
    pub fn set_i_version(&self, on: bool) {
        self.set_flag(bindings::SB_I_VERSION, on);
    }

    fn set_flag(&self, flag: u32, on: bool) {
        if on {
            self.flags().fetch_or(u64::from(flag), Ordering::Relaxed);
        } else {
            self.flags().fetch_and(!u64::from(flag), Ordering::Relaxed);
        }
    }

    /// Whether the block device refuses writes.
    pub fn device_is_read_only(&self) -> bool {
        // SAFETY: `s_bdev` is null or valid while mounted.
        unsafe {
            let bdev = (*self.as_ptr()).s_bdev;
            !bdev.is_null() && bindings::bdev_read_only(bdev)
        }
    }

    /// Size of the block device in bytes; 0 without a device.
    pub fn device_bytes(&self) -> u64 {
        // SAFETY: As in `device_is_read_only()`.
        unsafe {
            let bdev = (*self.as_ptr()).s_bdev;
            if bdev.is_null() {
                0
            } else {
                bindings::bdev_nr_bytes(bdev)
            }
        }
    }

    /// The number of the device, as `stat(2)` tells it.
    pub fn device_number(&self) -> u64 {
        // SAFETY: `s_dev` does not change while mounted.
        unsafe { bindings::huge_encode_dev((*self.as_ptr()).s_dev) }
    }

    /// Writes the dirty pages of the device itself (metadata) and waits. Sleeps.
    pub fn sync_device(&self) -> Result {
        // SAFETY: `s_bdev` is null (allowed) or valid while mounted.
        to_result(unsafe { bindings::sync_blockdev((*self.as_ptr()).s_bdev) })
    }

    /// Drops what the page cache of the device holds.
    pub fn invalidate_device(&self) {
        // SAFETY: `s_bdev` is null or valid while mounted.
        unsafe {
            let bdev = (*self.as_ptr()).s_bdev;
            if !bdev.is_null() {
                bindings::invalidate_bdev(bdev);
            }
        }
    }

    /// Stops the machine: what `errors=panic` asks for.
    pub fn panic_after_error(&self) -> ! {
        // SAFETY: The format takes one string, which `s_id` is.
        unsafe {
            bindings::panic(
                c"(%s): panic forced after error".as_char_ptr(),
                self.id().as_char_ptr(),
            )
        }
    }

    /// Keeps the file system from being frozen while the result lives. For changes that the kernel
    /// did not ask for and that may start in any context, such as those of an inode's eviction.
    pub fn protect_from_freeze(&self) -> FreezeProtection<'_, F> {
        // SAFETY: The super block is valid; the guard ends what starts here.
        unsafe { bindings::sb_start_intwrite(self.as_ptr()) }
        FreezeProtection(self, NotThreadSafe)
    }

    /// As [`protect_from_freeze`](Self::protect_from_freeze), but does not wait for a thaw: [`None`] if the file
    /// system is frozen or about to be.
    pub fn try_protect_from_freeze(&self) -> Option<FreezeProtection<'_, F>> {
        // SAFETY: The super block is valid; the guard ends what starts here.
        unsafe { bindings::sb_start_intwrite_trylock(self.as_ptr()) }
            .then_some(FreezeProtection(self, NotThreadSafe))
    }
}

/// See [`SuperBlock::protect_from_freeze`].
pub struct FreezeProtection<'a, F: FileSystem>(&'a SuperBlock<F>, NotThreadSafe);

impl<F: FileSystem> Drop for FreezeProtection<'_, F> {
    fn drop(&mut self) {
        // SAFETY: Pairs with `sb_start_intwrite()`, or the attempt of it, when the guard was made.
        unsafe { bindings::sb_end_intwrite(self.0.as_ptr()) }
    }
}

/// A super block that [`FileSystem::load`] sets up: without per-mount data and without inodes.
///
/// # Invariants
///
/// `ptr` is valid for `'a`. Its settings are this object's alone; the rest of it (the lock, the lists that
/// it is on) is not, so that no reference is made to it as a whole.
pub struct NewSuperBlock<'a, F: FileSystem> {
    ptr: *mut bindings::super_block,
    _fs: PhantomData<&'a mut F>,
}

impl<F: FileSystem> NewSuperBlock<'_, F> {
    /// # Safety
    ///
    /// `ptr` must satisfy the type invariants for as long as the result lives.
    pub(crate) unsafe fn from_ptr(ptr: *mut bindings::super_block) -> Self {
        // INVARIANT: By this function's contract.
        Self {
            ptr,
            _fs: PhantomData,
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::super_block {
        self.ptr
    }

    /// The name by which messages call the mount.
    pub fn id(&self) -> &CStr {
        // SAFETY: `s_id` is a terminated string.
        unsafe { CStr::from_char_ptr((&raw const (*self.ptr).s_id).cast()) }
    }

    /// Sets the block size of the device and the super block.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the device cannot do blocks of that size; for a file system in memory, when it is not
    /// a power of two from 512 to 65536, or more than a page without [`FileSystem::LARGE_BLOCKS`].
    pub fn set_block_size(&mut self, size: u32) -> Result {
        if matches!(F::BACKING, Backing::Memory) {
            // As `BLK_MAX_BLOCK_SIZE`: blocks beyond a page need large folios.
            let largest = if F::LARGE_BLOCKS && cfg!(CONFIG_TRANSPARENT_HUGEPAGE) {
                1 << 16
            } else {
                bindings::PAGE_SIZE
            };
            if !size.is_power_of_two() || !(512..=largest).contains(&(size as usize)) {
                return Err(EINVAL);
            }
            // SAFETY: By the type invariants.
            unsafe {
                (*self.ptr).s_blocksize = size as usize;
                (*self.ptr).s_blocksize_bits = size.trailing_zeros() as u8;
            }
            return Ok(());
        }
        // SAFETY: The super block is valid with a device.
        if unsafe { bindings::sb_set_blocksize(self.ptr, size as i32) } == 0 {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Sets the block size to `size` bytes, or to the device's smallest block if that is larger.
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no such size.
    pub fn set_min_block_size(&mut self, size: u32) -> Result {
        if matches!(F::BACKING, Backing::Memory) {
            return self.set_block_size(size);
        }
        // SAFETY: The super block is valid with a device.
        if unsafe { bindings::sb_min_blocksize(self.ptr, size as i32) } == 0 {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Block size in bytes.
    pub fn block_size(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.ptr).s_blocksize as u32 }
    }

    /// Whether the mount is to be read-only.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { (*self.ptr).s_flags & bindings::SB_RDONLY as usize != 0 }
    }

    /// Makes the mount read-only.
    pub fn set_read_only(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { (*self.ptr).s_flags |= bindings::SB_RDONLY as usize };
    }

    /// Whether the block device refuses writes.
    pub fn device_is_read_only(&self) -> bool {
        // SAFETY: By the type invariants; `s_bdev` is null or valid.
        unsafe {
            let bdev = (*self.ptr).s_bdev;
            !bdev.is_null() && bindings::bdev_read_only(bdev)
        }
    }

    /// Size of the block device in bytes; 0 without a device.
    pub fn device_bytes(&self) -> u64 {
        // SAFETY: By the type invariants; `s_bdev` is null or valid.
        unsafe {
            let bdev = (*self.ptr).s_bdev;
            if bdev.is_null() {
                0
            } else {
                bindings::bdev_nr_bytes(bdev)
            }
        }
    }

    /// Has dirty folios and inodes written back in the background, and accounted as dirty, as those of
    /// a block device are. A file system in memory gets none of that by itself.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a file system on a device, and for the second call; `ENOMEM`.
    pub fn set_up_writeback(&mut self) -> Result {
        // SAFETY: By the type invariants.
        let has_one = unsafe { (*self.ptr).s_iflags & bindings::SB_I_PERSB_BDI as usize != 0 };
        if has_one || matches!(F::BACKING, Backing::BlockDevice) {
            return Err(EINVAL);
        }
        // SAFETY: The super block is valid and has the device information that all file systems in
        // memory share. The new one is given up when the super block is shut down.
        to_result(unsafe { bindings::super_setup_bdi(self.ptr) })
    }

    /// Sets the magic number that `statfs(2)` and others tell.
    pub fn set_magic(&mut self, magic: u32) {
        // SAFETY: By the type invariants.
        unsafe { (*self.ptr).s_magic = magic as usize };
    }

    /// Sets the size in bytes that no file can exceed.
    pub fn set_max_bytes(&mut self, bytes: i64) {
        // SAFETY: By the type invariants.
        unsafe { (*self.ptr).s_maxbytes = bytes };
    }

    /// Sets the most links that the kernel lets an inode have; 0 leaves the limit to the file system.
    pub fn set_max_links(&mut self, links: u32) {
        // SAFETY: By the type invariants.
        unsafe { (*self.ptr).s_max_links = links };
    }

    /// Sets the granularity of times in nanoseconds and the first and last second they can hold.
    pub fn set_time_range(&mut self, granularity: u32, first: i64, last: i64) {
        // SAFETY: By the type invariants.
        unsafe {
            (*self.ptr).s_time_gran = granularity;
            (*self.ptr).s_time_min = first;
            (*self.ptr).s_time_max = last;
        }
    }

    /// Sets the UUID.
    pub fn set_uuid(&mut self, uuid: &[u8; 16]) {
        // SAFETY: By the type invariants.
        unsafe {
            (*self.ptr).s_uuid.b = *uuid;
            (*self.ptr).s_uuid_len = 16;
        }
    }

    /// Sets the handlers of extended attributes.
    pub fn set_xattr_handlers(&mut self, handlers: Handlers<F>) {
        // SAFETY: By the type invariants; the handlers are for inodes of `F`.
        unsafe { (*self.ptr).s_xattr = handlers.as_ptr() };
    }

    /// Turns POSIX ACLs on or off.
    pub fn set_posix_acl(&mut self, on: bool) {
        let flag = bindings::SB_POSIXACL as usize;
        // SAFETY: By the type invariants.
        unsafe {
            if on {
                (*self.ptr).s_flags |= flag;
            } else {
                (*self.ptr).s_flags &= !flag;
            }
        }
    }

    /// Turns the change counters (`i_version`) of inodes on.
    pub fn set_i_version(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { (*self.ptr).s_flags |= bindings::SB_I_VERSION as usize };
    }

    /// Lets inodes be written back on behalf of the memory cgroups that dirtied them.
    pub fn set_cgroup_writeback(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { (*self.ptr).s_iflags |= bindings::SB_I_CGROUPWB as usize };
    }
}
