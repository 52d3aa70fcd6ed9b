// SPDX-License-Identifier: GPL-2.0

//! Where inodes are in memory: their slab objects, and the functions of `struct super_operations` that make
//! and end them.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;
use core::ptr::NonNull;
use core::sync::atomic::AtomicBool;

use ferrofs_bindings as bindings;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Acquire;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::ordering::Release;
use kernel::sync::atomic::Atomic;
use kernel::time::delay::fsleep;
use kernel::time::Delta;
use pin_init::PinInit;

use crate::fs::FileSystem;
use crate::fs::Registration;
use crate::inode::Inode;
use crate::super_block::Mount;
use crate::symlink;

/// The slab object of an inode.
#[repr(C)]
pub(crate) struct Object<F: FileSystem> {
    inode: MaybeUninit<bindings::inode>,
    /// What the object was allocated from.
    cache: NonNull<Cache<F>>,
    /// Whether the inode may have other references than that of its [`FreshInode`](crate::inode::FreshInode)
    /// or [`NewInode`](crate::inode::NewInode).
    pub(crate) complete: AtomicBool,
    pub(crate) data: MaybeUninit<F::InodeData>,
}

/// The slab cache of a file system's inodes.
///
/// # Invariants
///
/// `cache` is a valid cache of objects with the size and alignment of [`Object<F>`], whose
/// constructor has initialised the C inode of each object with `inode_init_once()`.
pub(crate) struct Cache<F: FileSystem> {
    cache: NonNull<bindings::kmem_cache>,
    /// Number of objects that are not freed yet.
    objects: Atomic<usize>,
    _fs: PhantomData<F>,
}

impl<F: FileSystem> Cache<F> {
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        const { assert!(core::mem::offset_of!(Object<F>, inode) == 0) };
        // SAFETY: The name is `'static`; the constructor fits the object's size.
        let cache = unsafe {
            bindings::inode_cache_create(
                name.as_char_ptr(),
                size_of::<Object<F>>() as u32,
                align_of::<Object<F>>() as u32,
                Some(construct),
            )
        };
        // INVARIANT: The cache was just made with the size, alignment and constructor.
        Ok(Self {
            cache: NonNull::new(cache).ok_or(ENOMEM)?,
            objects: Atomic::new(0),
            _fs: PhantomData,
        })
    }
}

impl<F: FileSystem> Drop for Cache<F> {
    fn drop(&mut self) {
        // The file system is unregistered and has no mounts, so no inode is in use. Those that wait for an
        // RCU grace period are freed once `rcu_barrier()` returns, and nobody runs `free_inode()` any more.
        // But a task that has just destroyed the last inode of a mount may not have come to `call_rcu()`.
        loop {
            // SAFETY: Sleeping is allowed here.
            unsafe { bindings::rcu_barrier() };
            if self.objects.load(Acquire) == 0 {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
        // SAFETY: Each object was freed.
        unsafe { bindings::kmem_cache_destroy(self.cache.as_ptr()) };
    }
}

/// # Safety
///
/// `object` must be memory for an [`Object`].
unsafe extern "C" fn construct(object: *mut core::ffi::c_void) {
    // SAFETY: The C inode lies at the start of the object.
    unsafe { bindings::inode_init_once(object.cast()) }
}

/// # Safety
///
/// `sb` must be a valid super block of `F`.
pub(crate) unsafe extern "C" fn alloc_inode<F: FileSystem>(
    sb: *mut bindings::super_block,
) -> *mut bindings::inode {
    // SAFETY: By this function's contract.
    let cache = unsafe { Registration::<F>::inode_cache(sb) };
    // SAFETY: `sb` and the cache are valid.
    let object = unsafe { bindings::alloc_inode_sb(sb, cache.cache.as_ptr()) }.cast::<Object<F>>();
    if object.is_null() {
        return ptr::null_mut();
    }
    // The kernel initialises the rest, but leaves the mode of the inode that the object held before.
    // `set_mode()` needs to know that there is no type yet.
    // SAFETY: `object` is a new object of the cache.
    unsafe { (*object.cast::<bindings::inode>()).i_mode = 0 };
    // SAFETY: `object` is a new object of the cache: the slots are valid for writes and pinned, since
    // an inode does not move. On failure they are uninitialised again and given back. Inodes are made
    // after the per-mount data only.
    unsafe {
        (&raw mut (*object).complete).write(AtomicBool::new(false));
        (&raw mut (*object).cache).write(NonNull::from(cache));
        let slot = (&raw mut (*object).data).cast::<F::InodeData>();
        if F::new_inode_data().__init(slot).is_err() {
            bindings::kmem_cache_free(cache.cache.as_ptr(), object.cast());
            return ptr::null_mut();
        }
        cache.objects.fetch_add(1, Relaxed);
        Mount::<F>::of(sb).add_inode();
    }
    object.cast()
}

/// # Safety
///
/// `inode` must be an inode of `F` that only RCU readers look at any more, of a super block that is not
/// gone.
pub(crate) unsafe extern "C" fn destroy_inode<F: FileSystem>(inode: *mut bindings::inode) {
    let object = inode.cast::<Object<F>>();
    // SAFETY: The data was initialised by `alloc_inode()` and is dropped once, here: where one can sleep,
    // and not where the object is freed. RCU readers look at the C inode only; what the kernel asks in RCU
    // mode is not passed on to the file system. The super block is there by this function's contract, and
    // nothing that comes after this in the life of the inode looks at it.
    unsafe {
        ptr::drop_in_place((&raw mut (*object).data).cast::<F::InodeData>());
        Mount::<F>::of((*inode).i_sb).remove_inode();
    }
}

/// # Safety
///
/// `inode` must be an inode of `F` that nobody can reach any more.
pub(crate) unsafe extern "C" fn free_inode<F: FileSystem>(inode: *mut bindings::inode) {
    let object = inode.cast::<Object<F>>();
    // SAFETY: Nobody can reach the inode any more, whose data is dropped. The super block may be gone by now,
    // but the cache is there until its last object was counted off and this function has returned.
    unsafe {
        symlink::free_link_text(inode);
        let cache = (*object).cache.as_ref();
        bindings::kmem_cache_free(cache.cache.as_ptr(), object.cast());
        cache.objects.fetch_sub(1, Release);
    }
}

/// # Safety
///
/// `inode` must be an inode of `F` which is being evicted.
pub(crate) unsafe extern "C" fn evict_inode<F: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: The inode is valid and has no users but the evicting thread. `Inode` never lets its
    // reference count rise from zero (see `inc_ref()`).
    unsafe {
        bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
        let inode = Inode::<F>::from_ptr(inode);
        if F::HAS_EVICT_INODE && !inode.is_bad() {
            F::evict_inode(inode);
        }
        bindings::clear_inode(inode.as_ptr());
    }
}
