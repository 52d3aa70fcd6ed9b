// SPDX-License-Identifier: GPL-2.0

//! The mount API: a context for each mount or change of one, and where its messages go.
//!
//! The options themselves are in `parameter.rs`.
//!
//! C header: `include/linux/fs_context.h`.

use core::ffi::CStr;
use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::error::from_result;
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::CString;

use crate::fs::Backing;
use crate::fs::FileSystem;
use crate::fs::Purpose;
use crate::super_block::SuperBlock;
use crate::super_glue;

pub use crate::parameter::EnumName;
pub use crate::parameter::EnumTable;
pub use crate::parameter::Given;
pub use crate::parameter::Parameter;
pub use crate::parameter::ParameterTable;
pub use crate::parameter::Value;

/// Where messages about a mount go: the kernel log, and the log of the context where there is one, which
/// users of `fsopen(2)` read. Before each message stand the name of the file system and, where it has one, that
/// of the device.
pub struct Log<'a> {
    fc: *mut bindings::fs_context,
    device: Option<&'a CStr>,
}

impl Log<'_> {
    /// Says why something fails.
    pub fn error(&self, args: fmt::Arguments<'_>) {
        self.say(b'e', args);
    }

    /// Says what the user should know.
    pub fn warning(&self, args: fmt::Arguments<'_>) {
        self.say(b'w', args);
    }

    /// Says what the user may want to know.
    pub fn info(&self, args: fmt::Arguments<'_>) {
        self.say(b'i', args);
    }

    /// Says why something fails and returns `EINVAL`.
    pub fn invalid(&self, args: fmt::Arguments<'_>) -> Error {
        self.error(args);
        EINVAL
    }

    fn say(&self, level: u8, args: fmt::Arguments<'_>) {
        let text = match self.device.and_then(|device| device.to_str().ok()) {
            Some(device) => CString::try_from_fmt(fmt!("({}): {}", device, args)),
            None => CString::try_from_fmt(args),
        };
        if let Ok(text) = text {
            // SAFETY: `fc` is a valid context for the life of `self`; `text` is terminated.
            unsafe { bindings::fc_log(self.fc, level, text.as_char_ptr()) }
        }
    }

    /// The log that the kernel's own parser writes to.
    pub(crate) fn of_parser(&self) -> *mut bindings::p_log {
        // SAFETY: `fc` is a valid context for the life of `self`.
        unsafe { &raw mut (*self.fc).log }
    }
}

struct Vtable<F: FileSystem>(PhantomData<F>);

impl<F: FileSystem> Vtable<F> {
    const OPERATIONS: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(free::<F>),
        parse_param: Some(parse_param::<F>),
        get_tree: Some(get_tree::<F>),
        reconfigure: Some(reconfigure::<F>),
        dup: None,
        parse_monolithic: None,
    };
}

/// # Safety
///
/// `fc` must be a valid context whose `fs_type` is that of a registered `F`.
pub(crate) unsafe extern "C" fn init_fs_context<F: FileSystem>(
    fc: *mut bindings::fs_context,
) -> core::ffi::c_int {
    from_result(|| {
        // SAFETY: `fc` is valid and not shared yet. For a reconfiguration `root` is the root of a
        // live mount of `F`, which the context keeps alive.
        let purpose = unsafe {
            if (*fc).purpose() == bindings::fs_context_purpose_FS_CONTEXT_FOR_RECONFIGURE {
                Purpose::Reconfigure(SuperBlock::from_ptr((*(*fc).root).d_sb))
            } else {
                Purpose::Mount
            }
        };
        let options = KBox::new(F::new_options(purpose)?, GFP_KERNEL)?;
        // SAFETY: As above. `free()` and `options()` rely on `fs_private` being such a box.
        unsafe {
            (*fc).fs_private = KBox::into_raw(options).cast();
            (*fc).ops = &Vtable::<F>::OPERATIONS;
        }
        Ok(0)
    })
}

/// # Safety
///
/// `fc` must have been set up by [`init_fs_context::<F>`] and must not be used after.
unsafe extern "C" fn free<F: FileSystem>(fc: *mut bindings::fs_context) {
    // SAFETY: `fs_private` came from `KBox::into_raw()` and nobody else frees it.
    unsafe { drop(KBox::from_raw((*fc).fs_private.cast::<F::Options>())) }
}

/// # Safety
///
/// `fc` must have been set up by [`init_fs_context::<F>`], and nobody else may use its options while
/// the result lives.
pub(crate) unsafe fn options<'a, F: FileSystem>(
    fc: *mut bindings::fs_context,
) -> &'a mut F::Options {
    // SAFETY: `fs_private` is a leaked box of options, and by this function's contract not aliased.
    unsafe { &mut *(*fc).fs_private.cast() }
}

/// The log of a context. Messages name `sb`, which may be null, or else what the context is about.
///
/// # Safety
///
/// `fc` must be a context for `F` and valid for `'a`, `sb` null or valid for `'a`. Nobody else may change the
/// source of the context meanwhile.
pub(crate) unsafe fn log<'a, F: FileSystem>(
    fc: *mut bindings::fs_context,
    sb: *mut bindings::super_block,
) -> Log<'a> {
    // SAFETY: By this function's contract. A root belongs to a live mount; the source is null or a
    // terminated string that lives as long as the context, as does the id with its super block.
    let device = unsafe {
        if F::BACKING == Backing::Memory {
            None
        } else if !sb.is_null() {
            Some(CStr::from_char_ptr((*sb).s_id.as_ptr()))
        } else if !(*fc).root.is_null() {
            Some(CStr::from_char_ptr((*(*(*fc).root).d_sb).s_id.as_ptr()))
        } else if !(*fc).source.is_null() {
            Some(CStr::from_char_ptr((*fc).source))
        } else {
            None
        }
    };
    Log { fc, device }
}

/// # Safety
///
/// `fc` must have been set up by [`init_fs_context::<F>`]; `param` must be valid. The kernel holds
/// `uapi_mutex`.
unsafe extern "C" fn parse_param<F: FileSystem>(
    fc: *mut bindings::fs_context,
    param: *mut bindings::fs_parameter,
) -> core::ffi::c_int {
    from_result(|| {
        // SAFETY: `uapi_mutex` makes this the only user of the context and its options. The parameter is
        // valid while this runs.
        let (options, log, given) = unsafe {
            let log = log::<F>(fc, core::ptr::null_mut());
            let given = F::PARAMETERS.parse(param, &log)?;
            (options::<F>(fc), log, given)
        };
        F::parse_parameter(options, &given, &log)?;
        Ok(0)
    })
}

/// # Safety
///
/// `fc` must have been set up by [`init_fs_context::<F>`].
unsafe extern "C" fn get_tree<F: FileSystem>(fc: *mut bindings::fs_context) -> core::ffi::c_int {
    // SAFETY: `fc` is valid; `fill_super::<F>` matches it.
    unsafe {
        match F::BACKING {
            Backing::BlockDevice => bindings::get_tree_bdev(fc, Some(super_glue::fill_super::<F>)),
            Backing::Memory => bindings::get_tree_nodev(fc, Some(super_glue::fill_super::<F>)),
        }
    }
}

/// # Safety
///
/// `fc` must have been set up by [`init_fs_context::<F>`] to reconfigure a live mount, with
/// `s_umount` held.
unsafe extern "C" fn reconfigure<F: FileSystem>(fc: *mut bindings::fs_context) -> core::ffi::c_int {
    if !F::HAS_RECONFIGURE {
        return 0;
    }
    from_result(|| {
        // SAFETY: The context keeps its root, and so the mount, alive; nobody else uses the options.
        unsafe {
            let sb = SuperBlock::<F>::from_ptr((*(*fc).root).d_sb);
            let flags = u64::from((*fc).sb_flags);
            let mask = u64::from((*fc).sb_flags_mask);
            let read_only = if mask & u64::from(bindings::SB_RDONLY) != 0 {
                flags & u64::from(bindings::SB_RDONLY) != 0
            } else {
                sb.is_read_only()
            };
            let log = log::<F>(fc, sb.as_ptr());
            F::reconfigure(sb, options::<F>(fc), read_only, &log)?;
        }
        Ok(0)
    })
}
