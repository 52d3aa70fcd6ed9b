// SPDX-License-Identifier: GPL-2.0

//! From the function pointers of `struct super_operations` and of `struct file_system_type` to the methods
//! of [`FileSystem`].

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::error::from_result;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::aref::ARef;

use crate::context;
use crate::fs::Backing;
use crate::fs::FileSystem;
use crate::inode::DirtyFlags;
use crate::inode::Inode;
use crate::inode_cache;
use crate::super_block::Mount;
use crate::super_block::NewSuperBlock;
use crate::super_block::SuperBlock;

/// Has the file system let go of the mount, and waits until nobody can get at it any more.
///
/// References to inodes can be kept anywhere, in work that is queued for instance, and each leads to the
/// super block, its device and the code of this module. What C only warns about must not happen here.
///
/// # Safety
///
/// `sb` must be a super block of `F` with per-mount data which is being shut down.
unsafe fn stop<F: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: By this function's contract.
    let (sb, mount) = unsafe { (SuperBlock::<F>::from_ptr(sb), Mount::<F>::of(sb)) };
    F::stop(sb);
    mount.wait_for_inodes(sb);
}

/// The functions of `struct super_operations`, called by the kernel only.
struct Vtable<F: FileSystem>(PhantomData<F>);

impl<F: FileSystem> Vtable<F> {
    const OPERATIONS: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(inode_cache::alloc_inode::<F>),
        destroy_inode: Some(inode_cache::destroy_inode::<F>),
        free_inode: Some(inode_cache::free_inode::<F>),
        evict_inode: Some(inode_cache::evict_inode::<F>),
        put_super: Some(put_super::<F>),
        dirty_inode: optional!(F::HAS_DIRTY_INODE, dirty_inode::<F>),
        write_inode: optional!(F::HAS_WRITE_INODE, write_inode::<F>),
        sync_fs: optional!(F::HAS_SYNC_FS, sync_fs::<F>),
        freeze_fs: optional!(F::HAS_FREEZE_FS, freeze_fs::<F>),
        unfreeze_fs: optional!(F::HAS_UNFREEZE_FS, unfreeze_fs::<F>),
        statfs: optional!(F::HAS_STATFS, statfs::<F>),
        show_options: optional!(F::HAS_SHOW_OPTIONS, show_options::<F>),
        shutdown: optional!(F::HAS_SHUTDOWN, shutdown::<F>),
        ..pin_init::zeroed()
    };
}

/// # Safety
///
/// `sb` must be a new super block of `F` and `fc` the context that it is made for.
pub(crate) unsafe extern "C" fn fill_super<F: FileSystem>(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> core::ffi::c_int {
    from_result(|| {
        // SAFETY: `sb` is valid and not yet visible to anybody else; nobody else uses the options.
        let (options, log) = unsafe {
            (*sb).s_op = &Vtable::<F>::OPERATIONS;
            (context::options::<F>(fc), context::log::<F>(fc, sb))
        };
        // SAFETY: As above.
        let mut new = unsafe { NewSuperBlock::<F>::from_ptr(sb) };
        let data = F::load(&mut new, options, &log)?;
        let mount = KBox::new(Mount::<F>::new(data), GFP_KERNEL)?;
        // SAFETY: `sb` is valid.
        let this = unsafe {
            (*sb).s_fs_info = KBox::into_raw(mount).cast();
            // INVARIANT: `s_fs_info` has just been set.
            SuperBlock::<F>::from_ptr(sb)
        };
        let root = F::start(this).and_then(|root| {
            if !core::ptr::eq(root.sb(), this) {
                return Err(EXDEV);
            }
            if !root.is_dir() {
                return Err(ENOTDIR);
            }
            // SAFETY: `d_make_root()` takes over the reference, also when it fails.
            let dentry = unsafe { bindings::d_make_root(ARef::into_raw(root).as_ref().as_ptr()) };
            if dentry.is_null() {
                Err(ENOMEM)
            } else {
                Ok(dentry)
            }
        });
        match root {
            Ok(dentry) => {
                // SAFETY: `sb` is valid and takes over the reference to its root.
                unsafe { (*sb).s_root = dentry };
                Ok(0)
            }
            Err(error) => {
                // Without a root the kernel does not call `put_super`.
                // SAFETY: The per-mount data was set above, and the super block is given up.
                unsafe { stop::<F>(sb) };
                Err(error)
            }
        }
    })
}

/// # Safety
///
/// `sb` must be a super block of `F` that nobody uses any more.
pub(crate) unsafe extern "C" fn kill_sb<F: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: `sb` is valid. `s_fs_info` is null when `load()` failed.
    unsafe {
        let mount = (*sb).s_fs_info.cast::<Mount<F>>();
        match F::BACKING {
            Backing::BlockDevice => bindings::kill_block_super(sb),
            Backing::Memory => bindings::kill_anon_super(sb),
        }
        // There are no inodes any more: `stop()` has waited for the last one.
        if !mount.is_null() {
            drop(KBox::from_raw(mount));
        }
    }
}

/// # Safety
///
/// `sb` must be a live super block of `F`.
unsafe extern "C" fn put_super<F: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: By this function's contract. The data is there, since the mount was alive.
    unsafe { stop::<F>(sb) };
}

/// # Safety
///
/// `inode` must be a live inode of `F`.
unsafe extern "C" fn dirty_inode<F: FileSystem>(
    inode: *mut bindings::inode,
    flags: core::ffi::c_int,
) {
    // SAFETY: The kernel passes a live inode of `F`.
    F::dirty_inode(unsafe { Inode::from_ptr(inode) }, DirtyFlags(flags as u32));
}

/// # Safety
///
/// `inode` must be a live inode of `F`, and `wbc` valid.
unsafe extern "C" fn write_inode<F: FileSystem>(
    inode: *mut bindings::inode,
    wbc: *mut bindings::writeback_control,
) -> core::ffi::c_int {
    from_result(|| {
        // SAFETY: The kernel passes a live inode of `F` and a valid control. A sync writes inodes
        // twice, with `for_sync` set, and waits for all of them at once in `sync_fs`.
        let (inode, wait) = unsafe {
            let wait = (*wbc).sync_mode == bindings::writeback_sync_modes_WB_SYNC_ALL
                && (*wbc).for_sync() == 0;
            (Inode::<F>::from_ptr(inode), wait)
        };
        F::write_inode(inode, wait)?;
        Ok(0)
    })
}

/// # Safety
///
/// `sb` must be a live super block of `F`.
unsafe extern "C" fn sync_fs<F: FileSystem>(
    sb: *mut bindings::super_block,
    wait: core::ffi::c_int,
) -> core::ffi::c_int {
    // SAFETY: The kernel passes a live super block of `F`.
    from_result(|| F::sync_fs(unsafe { SuperBlock::from_ptr(sb) }, wait != 0).map(|()| 0))
}

/// # Safety
///
/// `sb` must be a live super block of `F`.
unsafe extern "C" fn freeze_fs<F: FileSystem>(sb: *mut bindings::super_block) -> core::ffi::c_int {
    // SAFETY: The kernel passes a live super block of `F`.
    from_result(|| F::freeze_fs(unsafe { SuperBlock::from_ptr(sb) }).map(|()| 0))
}

/// # Safety
///
/// `sb` must be a live super block of `F`.
unsafe extern "C" fn unfreeze_fs<F: FileSystem>(
    sb: *mut bindings::super_block,
) -> core::ffi::c_int {
    // SAFETY: The kernel passes a live super block of `F`.
    from_result(|| F::unfreeze_fs(unsafe { SuperBlock::from_ptr(sb) }).map(|()| 0))
}

/// # Safety
///
/// `dentry` must be one of a live mount of `F`, and `buf` valid and zeroed.
unsafe extern "C" fn statfs<F: FileSystem>(
    dentry: *mut bindings::dentry,
    buf: *mut kernel::bindings::kstatfs,
) -> core::ffi::c_int {
    from_result(|| {
        // SAFETY: The kernel passes a dentry of a live mount.
        let stat = F::statfs(unsafe { SuperBlock::from_ptr((*dentry).d_sb) })?;
        // SAFETY: `buf` is valid and zeroed by the caller. CAST: The kernel crate knows `kstatfs`
        // only as an opaque type.
        let buf = unsafe { &mut *buf.cast::<bindings::kstatfs>() };
        buf.f_type = stat.magic as isize;
        buf.f_bsize = stat.block_size as isize;
        buf.f_frsize = stat.block_size as isize;
        buf.f_blocks = stat.blocks;
        buf.f_bfree = stat.free;
        buf.f_bavail = stat.available;
        buf.f_files = stat.files;
        buf.f_ffree = stat.free_files;
        buf.f_namelen = stat.name_length as isize;
        buf.f_fsid.val = [stat.id as i32, (stat.id >> 32) as i32];
        Ok(0)
    })
}

/// # Safety
///
/// `dentry` must be one of a live mount of `F`, and `seq` valid and used by this thread only.
unsafe extern "C" fn show_options<F: FileSystem>(
    seq: *mut bindings::seq_file,
    dentry: *mut bindings::dentry,
) -> core::ffi::c_int {
    from_result(|| {
        // SAFETY: The kernel passes the root of a live mount and a `seq_file` of this thread.
        let (sb, out) = unsafe {
            (
                SuperBlock::<F>::from_ptr((*dentry).d_sb),
                SeqFile::from_raw(seq),
            )
        };
        F::show_options(sb, out)?;
        Ok(0)
    })
}

/// # Safety
///
/// `sb` must be a live super block of `F`.
unsafe extern "C" fn shutdown<F: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: The kernel passes a live super block of `F`.
    F::shutdown(unsafe { SuperBlock::from_ptr(sb) });
}
