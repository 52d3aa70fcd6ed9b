// SPDX-License-Identifier: GPL-2.0

//! Inodes, and the file system's own data beside each.
//!
//! # Life of an inode
//!
//! An inode is one slab object: the file system's [`FileSystem::InodeData`] and the kernel's
//! `struct inode`. The data is initialised when the object is allocated and dropped when the inode was
//! evicted, so every `&Inode` sees valid data: none is made where the kernel looks at inodes by RCU. The
//! object itself is freed an RCU grace period later.
//!
//! ```text
//!  SuperBlock::iget ---> NewInode --unlock()--> ARef<Inode> --last reference--> evict_inode, freed
//!        (read from disk)   ^   \--drop--> bad inode, lookups fail
//!  SuperBlock::new_inode -> FreshInode --insert(number)--/
//!        (made now)             \--drop--> bad inode, freed
//! ```
//!
//! # Examples
//!
//! An inode that is read from disk when it is not in memory:
//!
//! ```ignore
//! fn get(sb: &SuperBlock<SimpleFs>, number: u64) -> Result<ARef<Inode<SimpleFs>>> {
//!     let mut new = match sb.iget(number)? {
//!         Got::Cached(inode) => return Ok(inode),
//!         Got::New(new) => new,
//!     };
//!     // An error on the way drops `new`, and those who wait for the inode fail as well.
//!     let on_disk = read_inode(sb, number)?;
//!     new.set_mode(on_disk.mode);
//!     new.set_size(on_disk.size);
//!     new.set_operations(Table::new::<FileInode>());
//!     new.set_file_operations::<OpenFile>()?;
//!     new.set_address_space_operations::<Pages>();
//!     Ok(new.unlock())
//! }
//! ```
//!
//! C headers: `include/linux/fs.h`.

use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU16;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;

use ferrofs_bindings as bindings;
use kernel::prelude::*;
use kernel::sync::aref::AlwaysRefCounted;
use kernel::types::NotThreadSafe;
use kernel::types::Opaque;

use crate::fs::FileSystem;
use crate::inode_cache::Object;
use crate::mapping::c_offset;
pub use crate::new_inode::FreshInode;
pub use crate::new_inode::Got;
pub use crate::new_inode::NewInode;
use crate::super_block::SuperBlock;
use crate::time::Timestamp;

/// What became dirty of an inode (`I_DIRTY_*`).
#[derive(Clone, Copy)]
pub struct DirtyFlags(pub(crate) u32);

impl DirtyFlags {
    /// Only a time changed, and the mount is lazy about times: nothing need be written yet.
    pub fn is_lazy_time_only(self) -> bool {
        self.0 == bindings::inode_state_flags_enum_I_DIRTY_TIME
    }
}

/// An inode of file system `F`.
///
/// Fields of the C inode which the kernel protects by locks are read and written one by one with
/// relaxed atomic accesses, so that no method needs a lock for memory safety. Which lock orders
/// changes is said at each method where it matters.
///
/// # Invariants
///
/// The C inode is initialised, lies in an [`Object<F>`] with initialised data and belongs to a live
/// super block of `F`. Its reference count is above zero, or else it is borrowed from somebody who keeps
/// it in memory by other means: a locked folio or one under I/O, its writeback, its eviction.
///
/// The super block lives until the last of its inodes is destroyed (see [`FileSystem::stop`]).
#[repr(transparent)]
pub struct Inode<F: FileSystem>(Opaque<bindings::inode>, PhantomData<F>);

// SAFETY: Methods access the inode by atomics or by C functions that lock.
unsafe impl<F: FileSystem> Send for Inode<F> {}
// SAFETY: As above; the data is `Sync`.
unsafe impl<F: FileSystem> Sync for Inode<F> {}

// SAFETY: The reference count keeps the inode in memory.
unsafe impl<F: FileSystem> AlwaysRefCounted for Inode<F> {
    fn inc_ref(&self) {
        // SAFETY: By the type invariants the inode lies in an initialised object.
        let complete = unsafe { &(*self.as_ptr().cast::<Object<F>>()).complete };
        assert!(
            complete.load(Ordering::Acquire),
            "reference to an inode that is not complete"
        );
        // An inode that is on its way out, or written for the last time before, may be lent to the file
        // system with a count of zero; a reference made then would dangle. The function tells, and
        // also whether one more reference can be counted.
        // SAFETY: The inode is valid.
        let taken = unsafe { bindings::inode_get(self.as_ptr()) };
        assert!(taken, "reference to an inode that is being evicted");
    }

    unsafe fn dec_ref(inode: NonNull<Self>) {
        // SAFETY: The caller gives up one reference.
        unsafe { bindings::iput(inode.as_ref().as_ptr()) }
    }
}

macro_rules! field {
    ($self:expr, $field:ident as $atomic:ident) => {
        // SAFETY: The field is aligned, as large as the atomic type and lives as long as `self`; C
        // accesses it with single loads and stores.
        unsafe { $atomic::from_ptr((&raw mut (*$self.as_ptr()).$field).cast()) }
    };
}

/// The bits of a mode that tell the type of a file.
pub const S_IFMT: u16 = 0o170000;
/// A named pipe.
pub const S_IFIFO: u16 = 0o010000;
/// A character device.
pub const S_IFCHR: u16 = 0o020000;
/// A directory.
pub const S_IFDIR: u16 = 0o040000;
/// A block device.
pub const S_IFBLK: u16 = 0o060000;
/// A regular file.
pub const S_IFREG: u16 = 0o100000;
/// A symbolic link.
pub const S_IFLNK: u16 = 0o120000;
/// A socket.
pub const S_IFSOCK: u16 = 0o140000;

/// Inode flags of the kernel (`S_*`) that a file system sets from what is on disk.
pub mod flags {
    use ferrofs_bindings as bindings;

    /// Writes are synchronous.
    pub const SYNC: u32 = bindings::S_SYNC;
    /// Access times are not updated.
    pub const NOATIME: u32 = bindings::S_NOATIME;
    /// Writes append.
    pub const APPEND: u32 = bindings::S_APPEND;
    /// Nothing can be changed.
    pub const IMMUTABLE: u32 = bindings::S_IMMUTABLE;
    /// Directory changes are synchronous.
    pub const DIRSYNC: u32 = bindings::S_DIRSYNC;

    /// Those which only say what a program may do. The others change how the kernel handles the inode.
    pub(super) const HARMLESS: u32 = SYNC | NOATIME | APPEND | IMMUTABLE | DIRSYNC;
}

impl<F: FileSystem> Inode<F> {
    /// # Safety
    ///
    /// `ptr` must satisfy the type invariants for `'a`.
    pub(crate) unsafe fn from_ptr<'a>(ptr: *mut bindings::inode) -> &'a Self {
        // SAFETY: By this function's contract; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// The file system's own data of this inode.
    #[inline]
    pub fn data(&self) -> &F::InodeData {
        // SAFETY: By the type invariants the inode lies in an object with initialised data.
        unsafe { &*(&raw const (*self.as_ptr().cast::<Object<F>>()).data).cast() }
    }

    /// The super block.
    #[inline]
    pub fn sb(&self) -> &SuperBlock<F> {
        // SAFETY: `i_sb` is constant, and by the type invariants live and of `F`.
        unsafe { SuperBlock::from_ptr((*self.as_ptr()).i_sb) }
    }

    /// The inode number.
    #[inline]
    pub fn ino(&self) -> u64 {
        field!(self, i_ino as AtomicU64).load(Ordering::Relaxed)
    }

    /// Sets the number of an inode that has none yet.
    pub(crate) fn set_ino(&self, ino: u64) {
        field!(self, i_ino as AtomicU64).store(ino, Ordering::Relaxed);
    }

    /// Whether the inode could not be read, or is being thrown away.
    pub fn is_bad(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::is_bad_inode(self.as_ptr()) }
    }

    /// Type and permissions.
    #[inline]
    pub fn mode(&self) -> u16 {
        field!(self, i_mode as AtomicU16).load(Ordering::Relaxed)
    }

    /// Sets type and permissions. Changes are ordered by the inode's lock.
    ///
    /// The type of an inode is set once: it decides what a union of the C inode holds. Once there is
    /// one, only the permissions change.
    pub fn set_mode(&self, mode: u16) {
        let keep_type = |old: u16| match old & S_IFMT {
            0 => Some(mode),
            kind => Some(kind | mode & !S_IFMT),
        };
        // The update is made whatever the old mode is.
        let _ = field!(self, i_mode as AtomicU16).fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            keep_type,
        );
    }

    /// Whether it is a directory.
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.mode() & S_IFMT == S_IFDIR
    }

    /// Whether it is a regular file.
    #[inline]
    pub fn is_regular(&self) -> bool {
        self.mode() & S_IFMT == S_IFREG
    }

    /// The owner, as the file system's user namespace numbers users.
    pub fn uid(&self) -> u32 {
        // SAFETY: The inode is valid.
        unsafe { bindings::i_uid_read(self.as_ptr()) }
    }

    /// The group, as the file system's user namespace numbers groups.
    pub fn gid(&self) -> u32 {
        // SAFETY: The inode is valid.
        unsafe { bindings::i_gid_read(self.as_ptr()) }
    }

    /// Sets owner and group, as read from disk.
    pub fn set_owner(&self, uid: u32, gid: u32) {
        // SAFETY: The inode is valid; the ids are plain integers.
        unsafe {
            bindings::i_uid_write(self.as_ptr(), uid);
            bindings::i_gid_write(self.as_ptr(), gid);
        }
    }

    /// Number of links.
    pub fn nlink(&self) -> u32 {
        // CAST: `i_nlink` is the const member of a union with `__i_nlink`.
        field!(self, __bindgen_anon_1 as AtomicU32).load(Ordering::Relaxed)
    }

    /// Sets the number of links. Changes are ordered by the inode's lock.
    pub fn set_nlink(&self, links: u32) {
        // SAFETY: The inode is valid. The function keeps the super block's count of unlinked
        // inodes right.
        unsafe { bindings::set_nlink(self.as_ptr(), links) }
    }

    /// One link more. Changes are ordered by the inode's lock.
    pub fn inc_nlink(&self) {
        // SAFETY: As in `set_nlink()`.
        unsafe { bindings::inc_nlink(self.as_ptr()) }
    }

    /// One link less; the caller has made sure that there is one. Changes are ordered by the
    /// inode's lock.
    pub fn drop_nlink(&self) {
        // SAFETY: As in `set_nlink()`; a count of zero is warned about and survived.
        unsafe { bindings::drop_nlink(self.as_ptr()) }
    }

    /// No link left. Changes are ordered by the inode's lock.
    pub fn clear_nlink(&self) {
        // SAFETY: As in `set_nlink()`.
        unsafe { bindings::clear_nlink(self.as_ptr()) }
    }

    /// Size in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        // SAFETY: The inode is valid.
        unsafe { bindings::i_size_read(self.as_ptr()) as u64 }
    }

    /// Sets the size in bytes, which is cut to the largest that there is. The inode's lock orders writers.
    pub fn set_size(&self, size: u64) {
        // SAFETY: The inode is valid. On 64-bit the store is a single one.
        unsafe { bindings::i_size_write(self.as_ptr(), c_offset(size)) }
    }

    /// Space taken, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        field!(self, i_blocks as AtomicU64).load(Ordering::Relaxed)
    }

    /// Sets the space taken, in units of 512 bytes, as read from disk.
    pub fn set_blocks(&self, sectors: u64) {
        field!(self, i_blocks as AtomicU64).store(sectors, Ordering::Relaxed);
    }

    /// Counts `bytes` more space.
    pub fn add_bytes(&self, bytes: u64) {
        // SAFETY: The inode is valid; the function takes `i_lock`.
        unsafe { bindings::inode_add_bytes(self.as_ptr(), bytes as i64) }
    }

    /// Counts `bytes` less space.
    pub fn sub_bytes(&self, bytes: u64) {
        // SAFETY: The inode is valid; the function takes `i_lock`.
        unsafe { bindings::inode_sub_bytes(self.as_ptr(), bytes as i64) }
    }

    /// The generation, which tells successive users of one inode number apart.
    pub fn generation(&self) -> u32 {
        field!(self, i_generation as AtomicU32).load(Ordering::Relaxed)
    }

    /// Sets the generation.
    pub fn set_generation(&self, generation: u32) {
        field!(self, i_generation as AtomicU32).store(generation, Ordering::Relaxed);
    }

    /// The device that a device node stands for, in the kernel's own encoding.
    pub fn rdev(&self) -> u32 {
        field!(self, i_rdev as AtomicU32).load(Ordering::Relaxed)
    }

    /// Last access.
    pub fn atime(&self) -> Timestamp {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_get_atime(self.as_ptr()) }.into()
    }

    /// Last change of the contents.
    pub fn mtime(&self) -> Timestamp {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_get_mtime(self.as_ptr()) }.into()
    }

    /// Last change of the inode.
    pub fn ctime(&self) -> Timestamp {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_get_ctime(self.as_ptr()) }.into()
    }

    /// Sets the time of the last access.
    pub fn set_atime(&self, time: Timestamp) {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_set_atime_to_ts(self.as_ptr(), time.into()) }
    }

    /// Sets the time of the last change of the contents.
    pub fn set_mtime(&self, time: Timestamp) {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_set_mtime_to_ts(self.as_ptr(), time.into()) }
    }

    /// Sets the time of the last change of the inode.
    pub fn set_ctime(&self, time: Timestamp) {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_set_ctime_to_ts(self.as_ptr(), time.into()) };
    }

    /// Sets the time of the last change of the inode to now and returns it.
    pub fn touch_ctime(&self) -> Timestamp {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_set_ctime_current(self.as_ptr()) }.into()
    }

    /// Contents and inode change now: sets both times.
    pub fn touch_mtime_ctime(&self) {
        let now = self.touch_ctime();
        self.set_mtime(now);
    }

    /// Sets those of the kernel's inode flags that are in `mask` to `set`. Those that [`flags`] does not
    /// list are left as they are.
    pub fn set_flags(&self, set: u32, mask: u32) {
        let mask = mask & flags::HARMLESS;
        // SAFETY: The inode is valid; the function updates the flags atomically.
        unsafe { bindings::inode_set_flags(self.as_ptr(), set & mask, mask) }
    }

    /// Whether all of the kernel's inode flags `flags` are set.
    pub fn has_flags(&self, flags: u32) -> bool {
        field!(self, i_flags as AtomicU32).load(Ordering::Relaxed) & flags == flags
    }

    /// Whether directory changes (or any, with `S_SYNC` or `-o sync`) must be durable at once.
    pub fn is_dirsync(&self) -> bool {
        let flags = field!(self, i_flags as AtomicU32).load(Ordering::Relaxed);
        self.sb().is_dirsync() || flags & (flags::SYNC | flags::DIRSYNC) != 0
    }

    /// Whether writes must be durable at once (`S_SYNC`, `-o sync`).
    pub fn is_sync(&self) -> bool {
        self.sb().is_sync() || self.has_flags(flags::SYNC)
    }

    /// The change counter as it is on disk.
    pub fn version(&self) -> u64 {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_peek_iversion(self.as_ptr()) }
    }

    /// Sets the change counter, as read from disk.
    pub fn set_version(&self, version: u64) {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_set_iversion_queried(self.as_ptr(), version) }
    }

    /// Counts a change.
    pub fn inc_version(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_inc_iversion(self.as_ptr()) }
    }

    /// Tells the kernel that the inode changed; it calls [`FileSystem::dirty_inode`] and puts the
    /// inode on the list of those that writeback visits.
    pub fn mark_dirty(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::mark_inode_dirty(self.as_ptr()) }
    }

    /// Writes the inode's dirty pages in the whole file and waits. Sleeps.
    pub fn write_and_wait(&self) -> Result {
        self.write_and_wait_range(0, u64::MAX)
    }

    /// Takes the inode's lock (`i_rwsem`) exclusively. Sleeps.
    pub fn lock(&self) -> Locked<'_, F> {
        // SAFETY: The inode is valid; the guard unlocks.
        unsafe { bindings::inode_lock(self.as_ptr()) }
        Locked(self, NotThreadSafe)
    }

    /// Takes the inode's lock exclusively if that needs no sleep.
    pub fn try_lock(&self) -> Option<Locked<'_, F>> {
        // SAFETY: As in `lock()`.
        let locked = unsafe { bindings::inode_trylock(self.as_ptr()) } != 0;
        // The guard must not exist, and be dropped, when the lock was not taken.
        locked.then(|| Locked(self, NotThreadSafe))
    }

    /// Takes the inode's lock shared. Sleeps.
    pub fn lock_shared(&self) -> LockedShared<'_, F> {
        // SAFETY: The inode is valid; the guard unlocks.
        unsafe { bindings::inode_lock_shared(self.as_ptr()) }
        LockedShared(self, NotThreadSafe)
    }

    /// Takes the inode's lock shared if that needs no sleep.
    pub fn try_lock_shared(&self) -> Option<LockedShared<'_, F>> {
        // SAFETY: As in `lock_shared()`.
        let locked = unsafe { bindings::inode_trylock_shared(self.as_ptr()) } != 0;
        // As in `try_lock()`.
        locked.then(|| LockedShared(self, NotThreadSafe))
    }
}

/// The inode's lock is held exclusively, by this task. Released on drop.
pub struct Locked<'a, F: FileSystem>(&'a Inode<F>, NotThreadSafe);

impl<F: FileSystem> Deref for Locked<'_, F> {
    type Target = Inode<F>;

    fn deref(&self) -> &Inode<F> {
        self.0
    }
}

impl<F: FileSystem> Drop for Locked<'_, F> {
    fn drop(&mut self) {
        // SAFETY: The guard was made with the lock taken.
        unsafe { bindings::inode_unlock(self.0.as_ptr()) }
    }
}

/// The inode's lock is held shared, by this task. Released on drop.
pub struct LockedShared<'a, F: FileSystem>(&'a Inode<F>, NotThreadSafe);

impl<F: FileSystem> Deref for LockedShared<'_, F> {
    type Target = Inode<F>;

    fn deref(&self) -> &Inode<F> {
        self.0
    }
}

impl<F: FileSystem> Drop for LockedShared<'_, F> {
    fn drop(&mut self) {
        // SAFETY: The guard was made with the lock taken.
        unsafe { bindings::inode_unlock_shared(self.0.as_ptr()) }
    }
}
