// SPDX-License-Identifier: GPL-2.0

//! File systems: what one implements, and its registration.
//!
//! # Life of a mount
//!
//! 1. `mount(2)` or `fsopen(2)` makes a [`Context`] with fresh [`FileSystem::Options`], which
//!    [`FileSystem::parse_parameter`] fills.
//! 2. The kernel finds or makes the super block. For a new one, [`FileSystem::load`] reads what is on
//!    the device and returns the per-mount data, and then [`FileSystem::start`] brings the mount to
//!    life and returns the root inode. Inodes exist only from `start` on.
//! 3. The mount lives; the operations of the trait are called.
//! 4. At the last unmount the kernel writes and evicts the inodes, [`FileSystem::stop`] lets go of
//!    what the mount still holds (its own inodes, its journal), and the per-mount data is dropped.
//!
//! C headers: `include/linux/fs.h`, `include/linux/fs/super_types.h`, `include/linux/fs_context.h`.

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::aref::ARef;
use kernel::types::Opaque;
use kernel::ThisModule;
use pin_init::pin_data;
use pin_init::pinned_drop;

use crate::context;
use crate::context::Given;
use crate::context::Log;
use crate::context::ParameterTable;
use crate::inode;
use crate::inode::Inode;
use crate::inode_cache;
use crate::super_block::NewSuperBlock;
use crate::super_block::StatFs;
use crate::super_block::SuperBlock;

/// What a mount of a file system stands on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// One block device, named by the mount's source.
    BlockDevice,
    /// Memory only: each mount is a new, empty file system.
    Memory,
}

/// Why a [`Context`] exists.
pub enum Purpose<'a, F: FileSystem> {
    /// A new mount.
    Mount,
    /// A change of the options of a mount that exists.
    Reconfigure(&'a SuperBlock<F>),
}

/// A file system.
///
/// The implementor is a type without values that ties the types of a file system together.
#[vtable]
pub trait FileSystem: Sized + Send + Sync + 'static {
    /// The name in `/proc/filesystems` and of `mount -t`.
    const NAME: &'static CStr;

    /// What its mounts stand on.
    const BACKING: Backing;

    /// Whether mounts may be ID-mapped: every operation passes the mount's map on.
    const ALLOW_IDMAP: bool = false;

    /// Whether block sizes beyond the page size are supported (`FS_LBS`).
    const LARGE_BLOCKS: bool = false;

    /// Whether change times get a finer grain when somebody looks (`FS_MGTIME`).
    const MULTIGRAIN_TIMES: bool = false;

    /// The mount options.
    const PARAMETERS: &'static ParameterTable;

    /// What the mount options are parsed into.
    type Options: Send + 'static;

    /// Per-mount data, from [`SuperBlock::data`].
    type SuperData: Send + Sync;

    /// Per-inode data, from [`Inode::data`]. It lies beside the kernel's inode in one slab object.
    ///
    /// It is dropped when the inode was evicted, where one can sleep, possibly while memory is being freed
    /// for others. What needs the inode goes in [`FileSystem::evict_inode`].
    type InodeData: Send + Sync;

    /// Makes the options that a context starts from: the defaults for a mount, those in force for
    /// a reconfiguration.
    fn new_options(purpose: Purpose<'_, Self>) -> Result<Self::Options>;

    /// Takes one option into `options`. A message for the user goes to `log`.
    fn parse_parameter(options: &mut Self::Options, given: &Given<'_>, log: &Log<'_>) -> Result;

    /// Reads the device and makes the per-mount data. No inode can exist yet.
    ///
    /// Called with `s_umount` held. Sleeps.
    fn load(
        sb: &mut NewSuperBlock<'_, Self>,
        options: &Self::Options,
        log: &Log<'_>,
    ) -> Result<Pin<KBox<Self::SuperData>>>;

    /// Brings the mount to life and returns the root directory.
    ///
    /// Called with `s_umount` held. When this fails, [`FileSystem::stop`] is called as after any
    /// mount, so that there is one place that lets go of things.
    fn start(sb: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>>;

    /// Lets go of whatever the mount still holds: references to inodes, journal, timers.
    ///
    /// Called once, after all other inodes were evicted. The unmount then waits for the last reference
    /// to an inode that is still kept anywhere, and reports when it waits for long: one that is never
    /// dropped has it wait for ever.
    fn stop(sb: &SuperBlock<Self>);

    /// Applies `options` to a live mount (`mount -o remount`).
    ///
    /// `read_only` is the state that is asked for; the kernel sets it after this succeeds.
    fn reconfigure(
        _sb: &SuperBlock<Self>,
        _options: &Self::Options,
        _read_only: bool,
        _log: &Log<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Initialises the per-inode data of an inode that was just allocated.
    fn new_inode_data() -> impl PinInit<Self::InodeData, Error>;

    /// An inode leaves memory. Its page cache is already empty. If its link count is zero, its
    /// storage is freed here.
    fn evict_inode(_inode: &Inode<Self>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The kernel's copy of the inode changed in a way that the file system was not told of
    /// (`I_DIRTY_*` flags): times, mostly.
    fn dirty_inode(_inode: &Inode<Self>, _flags: inode::DirtyFlags) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes the inode's metadata out; waits until it is on stable media when `wait`.
    fn write_inode(_inode: &Inode<Self>, _wait: bool) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Brings the file system's own metadata to the device; waits for it when `wait`.
    fn sync_fs(_sb: &SuperBlock<Self>, _wait: bool) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes the image on the device consistent and keeps it so until [`FileSystem::unfreeze_fs`].
    fn freeze_fs(_sb: &SuperBlock<Self>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Ends a freeze.
    fn unfreeze_fs(_sb: &SuperBlock<Self>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Counts blocks and inodes for `statfs(2)`.
    fn statfs(_sb: &SuperBlock<Self>) -> Result<StatFs> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Prints the options that differ from the defaults, each as `,name` or `,name=value`.
    fn show_options(_sb: &SuperBlock<Self>, _out: &SeqFile) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The device is gone: no I/O will succeed any more.
    fn shutdown(_sb: &SuperBlock<Self>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A registered file system.
///
/// # Invariants
///
/// `fs_type` is registered and embedded in a pinned `Registration<F>`; `inode_cache` is a slab cache
/// for objects of [`inode_cache::Object<F>`].
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct Registration<F: FileSystem> {
    #[pin]
    fs_type: Opaque<bindings::file_system_type>,
    inode_cache: inode_cache::Cache<F>,
    _fs: PhantomData<F>,
}

// SAFETY: A registration holds no thread-bound state; unregistering may happen on any thread.
unsafe impl<F: FileSystem> Send for Registration<F> {}
// SAFETY: Nothing of a registration can be changed through a shared reference.
unsafe impl<F: FileSystem> Sync for Registration<F> {}

impl<F: FileSystem> Registration<F> {
    /// Registers `F`. Use [`module_filesystem!`](crate::module_filesystem) instead.
    ///
    /// # Safety
    ///
    /// The registration must not be dropped before `module` is unloaded: open contexts and mounts
    /// refer to it, and it is the module's reference count that keeps the module loaded while there
    /// are any.
    #[doc(hidden)]
    pub unsafe fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let mut flags = 0;
        if matches!(F::BACKING, Backing::BlockDevice) {
            flags |= bindings::FS_REQUIRES_DEV;
        }
        if F::ALLOW_IDMAP {
            flags |= bindings::FS_ALLOW_IDMAP;
        }
        if F::LARGE_BLOCKS {
            flags |= bindings::FS_LBS;
        }
        if F::MULTIGRAIN_TIMES {
            flags |= bindings::FS_MGTIME;
        }
        try_pin_init!(Self {
            inode_cache: inode_cache::Cache::new(F::NAME)?,
            fs_type <- Opaque::try_ffi_init(move |slot: *mut bindings::file_system_type| {
                // SAFETY: `slot` is valid for writes of a zeroed `file_system_type`, which is the
                // state that it must have before its fields are filled in. It is pinned and, by
                // this function's contract, stays registered until the module is unloaded.
                unsafe {
                    slot.write(pin_init::zeroed());
                    (*slot).name = F::NAME.as_char_ptr();
                    (*slot).fs_flags = flags as i32;
                    (*slot).owner = module.as_ptr();
                    // CAST: The kernel crate knows `fs_context` and `fs_parameter_spec` only as
                    // opaque types; they are the same C types.
                    (*slot).init_fs_context =
                        Some(core::mem::transmute::<
                            unsafe extern "C" fn(*mut bindings::fs_context) -> core::ffi::c_int,
                            unsafe extern "C" fn(
                                *mut kernel::bindings::fs_context,
                            ) -> core::ffi::c_int,
                        >(context::init_fs_context::<F>));
                    (*slot).parameters = F::PARAMETERS.as_ptr().cast();
                    (*slot).kill_sb = Some(crate::super_glue::kill_sb::<F>);
                    to_result(bindings::register_filesystem(slot))
                }
            }),
            _fs: PhantomData,
        }? Error)
    }

    /// The inode cache of the file system that `sb` belongs to.
    ///
    /// # Safety
    ///
    /// `sb` must be a valid super block of a registered `F`.
    pub(crate) unsafe fn inode_cache<'a>(
        sb: *mut bindings::super_block,
    ) -> &'a inode_cache::Cache<F> {
        const { assert!(core::mem::offset_of!(Self, fs_type) == 0) };
        // SAFETY: `s_type` is valid for the life of a super block and, since `sb` is of type `F`, by
        // the type invariants the first field of a `Registration<F>`, which outlives its mounts.
        unsafe { &(*(*sb).s_type.cast::<Self>()).inode_cache }
    }
}

#[pinned_drop]
impl<F: FileSystem> PinnedDrop for Registration<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants `fs_type` is registered.
        let result = unsafe { bindings::unregister_filesystem(self.fs_type.get()) };
        debug_assert_eq!(result, 0);
    }
}

/// Declares a kernel module that registers one file system while it is loaded.
///
/// # Examples
///
/// ```ignore
/// vfs::module_filesystem! {
///     fs: SimpleFs,
///     name: "simplefs",
///     authors: ["somebody"],
///     description: "A small file system",
///     license: "GPL",
/// }
/// ```
#[macro_export]
macro_rules! module_filesystem {
    (fs: $fs:ty, $($rest:tt)*) => {
        #[::kernel::prelude::pin_data]
        struct FileSystemModule {
            #[pin]
            registration: $crate::fs::Registration<$fs>,
        }

        impl ::kernel::InPlaceModule for FileSystemModule {
            fn init(
                module: &'static ::kernel::ThisModule,
            ) -> impl ::pin_init::PinInit<Self, ::kernel::error::Error> {
                ::kernel::try_pin_init!(Self {
                    // SAFETY: The module's own data is dropped when the module is unloaded.
                    registration <- unsafe { $crate::fs::Registration::<$fs>::new(module) },
                })
            }
        }

        ::kernel::prelude::module! {
            type: FileSystemModule,
            $($rest)*
        }
    };
}
