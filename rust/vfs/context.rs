// SPDX-License-Identifier: GPL-2.0

//! The mount API: options declared in a table, parsed by the kernel, handed over typed.
//!
//! C headers: `include/linux/fs_context.h`, `include/linux/fs_parser.h`.

use core::ffi::CStr;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

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

/// One name of an enumerated option and its value.
#[repr(transparent)]
pub struct EnumName(bindings::constant_table);

impl EnumName {
    /// `name` stands for `value`.
    pub const fn new(name: &'static CStr, value: i32) -> Self {
        Self(bindings::constant_table {
            name: name.to_bytes_with_nul().as_ptr(),
            value,
        })
    }
}

/// The names of an enumerated option.
pub struct EnumTable<const N: usize> {
    names: [EnumName; N],
    end: EnumName,
}

// SAFETY: The table is never written; its pointers are to `'static` strings.
unsafe impl<const N: usize> Sync for EnumTable<N> {}

impl<const N: usize> EnumTable<N> {
    /// Makes the table.
    pub const fn new(names: [EnumName; N]) -> Self {
        const { assert!(core::mem::offset_of!(Self, names) == 0) };
        const { assert!(core::mem::offset_of!(Self, end) == N * size_of::<bindings::constant_table>()) };
        Self {
            names,
            end: EnumName(bindings::constant_table {
                name: core::ptr::null(),
                value: 0,
            }),
        }
    }
}

/// One mount option.
#[repr(transparent)]
pub struct Parameter(bindings::fs_parameter_spec);

impl Parameter {
    const fn raw(name: &'static CStr, key: u8) -> Self {
        Self(bindings::fs_parameter_spec {
            name: name.to_bytes_with_nul().as_ptr(),
            type_: None,
            opt: key,
            flags: 0,
            data: core::ptr::null(),
        })
    }

    /// An option without a value: [`Value::Flag`].
    pub const fn flag(name: &'static CStr, key: u8) -> Self {
        Self::raw(name, key)
    }

    /// An option without a value that "no" in front of its name negates.
    pub const fn flag_or_no(name: &'static CStr, key: u8) -> Self {
        let mut parameter = Self::raw(name, key);
        parameter.0.flags = bindings::fs_param_neg_with_no as u16;
        parameter
    }

    /// A number: [`Value::Number`].
    pub const fn u32(name: &'static CStr, key: u8) -> Self {
        let mut parameter = Self::raw(name, key);
        parameter.0.type_ = Some(bindings::fs_param_is_u32);
        parameter
    }

    /// A number in octal digits, such as permissions: [`Value::Number`].
    pub const fn u32_octal(name: &'static CStr, key: u8) -> Self {
        let mut parameter = Self::u32(name, key);
        // The parser of numbers takes the base from here.
        parameter.0.data = core::ptr::without_provenance(8);
        parameter
    }

    /// A text that must not be empty: [`Value::Text`].
    pub const fn string(name: &'static CStr, key: u8) -> Self {
        let mut parameter = Self::raw(name, key);
        parameter.0.type_ = Some(bindings::fs_param_is_string);
        parameter
    }

    /// One name out of `names`: [`Value::Choice`] with that name's value.
    pub const fn choice<const N: usize>(
        name: &'static CStr,
        key: u8,
        names: &'static EnumTable<N>,
    ) -> Self {
        let mut parameter = Self::raw(name, key);
        parameter.0.type_ = Some(bindings::fs_param_is_enum);
        parameter.0.data = core::ptr::from_ref(names).cast();
        parameter
    }

    /// A user: [`Value::Number`] holds the id as the initial user namespace sees it.
    pub const fn uid(name: &'static CStr, key: u8) -> Self {
        let mut parameter = Self::raw(name, key);
        parameter.0.type_ = Some(bindings::fs_param_is_uid);
        parameter
    }

    /// A group, as [`Parameter::uid`].
    pub const fn gid(name: &'static CStr, key: u8) -> Self {
        let mut parameter = Self::raw(name, key);
        parameter.0.type_ = Some(bindings::fs_param_is_gid);
        parameter
    }
}

/// The mount options of a file system.
///
/// # Invariants
///
/// `0` points to `fs_parameter_spec`s with `'static` contents of which the last is all zeroes.
pub struct ParameterTable(*const bindings::fs_parameter_spec);

// SAFETY: What the table points to is never written.
unsafe impl Sync for ParameterTable {}
// SAFETY: What the table points to is `'static` and bound to no thread.
unsafe impl Send for ParameterTable {}

impl ParameterTable {
    /// Makes a table of `parameters`, whose last element must be [`Parameter::END`].
    ///
    /// # Panics
    ///
    /// At compile time when the end is missing.
    pub const fn new(parameters: &'static [Parameter]) -> Self {
        assert!(!parameters.is_empty());
        assert!(parameters[parameters.len() - 1].0.name.is_null());
        // INVARIANT: Just checked; every other way to make a `Parameter` takes `'static` data.
        Self(parameters.as_ptr().cast())
    }

    pub(crate) fn as_ptr(&self) -> *const bindings::fs_parameter_spec {
        self.0
    }
}

impl Parameter {
    /// The end of a table.
    pub const END: Self = Self(bindings::fs_parameter_spec {
        name: core::ptr::null(),
        type_: None,
        opt: 0,
        flags: 0,
        data: core::ptr::null(),
    });
}

// SAFETY: A parameter is never written; its pointers are to `'static` data.
unsafe impl Sync for Parameter {}

/// The value of an option that was given.
pub enum Value<'a> {
    /// A flag; false when it was negated.
    Flag(bool),
    /// A number or an id.
    Number(u32),
    /// The value of the name that was chosen.
    Choice(i32),
    /// A text.
    Text(&'a CStr),
}

/// Where messages about a mount go: the log of the context, which `fsopen(2)` users can read, and
/// the kernel log for users of `mount(2)`. The name of the file system stands before each message.
pub struct Log<'a> {
    fc: *mut bindings::fs_context,
    _fc: PhantomData<&'a bindings::fs_context>,
}

impl Log<'_> {
    /// Says why something fails.
    pub fn error(&self, args: fmt::Arguments<'_>) {
        if let Ok(text) = CString::try_from_fmt(args) {
            // SAFETY: `fc` is a valid context for the life of `self`; `text` is terminated.
            unsafe { bindings::fc_log_error(self.fc, text.as_char_ptr()) }
        }
    }

    /// Says what the user should know.
    pub fn warning(&self, args: fmt::Arguments<'_>) {
        if let Ok(text) = CString::try_from_fmt(args) {
            // SAFETY: As in `error()`.
            unsafe { bindings::fc_log_warning(self.fc, text.as_char_ptr()) }
        }
    }

    /// Says why something fails and returns `EINVAL`.
    pub fn invalid(&self, args: fmt::Arguments<'_>) -> Error {
        self.error(args);
        EINVAL
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

/// # Safety
///
/// `fc` must be valid for `'a`.
pub(crate) unsafe fn log<'a>(fc: *mut bindings::fs_context) -> Log<'a> {
    Log {
        fc,
        _fc: PhantomData,
    }
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
        let mut result = MaybeUninit::<bindings::fs_parse_result>::zeroed();
        // SAFETY: The table is terminated by its type invariants; the rest is valid by this
        // function's contract.
        let key = unsafe {
            bindings::__fs_parse(
                &mut (*fc).log,
                F::PARAMETERS.as_ptr(),
                param,
                result.as_mut_ptr(),
            )
        };
        if key < 0 {
            return Err(Error::from_errno(key));
        }
        // SAFETY: All bit patterns, zeroes included, are valid for this structure of integers.
        let result = unsafe { result.assume_init() };
        let key = key as u8;
        // SAFETY: `__fs_parse()` returned the key of an entry of the table, so the walk finds it
        // before the end. The entry's type decides which field of the union and which kind of
        // parameter value is valid. An enumeration's value is an `int`; ids are 32-bit.
        let value = unsafe { Value::of(find(F::PARAMETERS, key, &*param), param, &result)? };
        // SAFETY: `uapi_mutex` makes this the only user of the options.
        let (options, log) = unsafe { (options::<F>(fc), log(fc)) };
        F::parse_parameter(options, key, value, &log)?;
        Ok(0)
    })
}

/// The entry of `table` that `param` was matched with.
///
/// Entries may share a key (synonyms) or a name (with and without a value), so both decide, the name
/// without its "no" where it is negated.
///
/// # Safety
///
/// `param` must be valid.
unsafe fn find(
    table: &ParameterTable,
    key: u8,
    param: &bindings::fs_parameter,
) -> *const bindings::fs_parameter_spec {
    // SAFETY: Keys are terminated strings.
    let given = unsafe { CStr::from_char_ptr(param.key) }.to_bytes();
    let flag = param.type_() == bindings::fs_value_type_fs_value_is_flag;
    let mut same_key = core::ptr::null();
    let mut entry = table.0;
    // SAFETY: By the type invariants of the table it ends with a null name, before which every
    // entry is valid with a terminated name.
    unsafe {
        while !(*entry).name.is_null() {
            if (*entry).opt == key && (*entry).type_.is_none() == flag {
                same_key = entry;
                let name = CStr::from_char_ptr((*entry).name).to_bytes();
                if name == given || given.strip_prefix(b"no") == Some(name) {
                    return entry;
                }
            }
            entry = entry.add(1);
        }
    }
    same_key
}

impl<'a> Value<'a> {
    /// # Safety
    ///
    /// `spec` must be null or the entry which `param` was parsed by, with the result `result`;
    /// `param` must stay valid for `'a`.
    unsafe fn of(
        spec: *const bindings::fs_parameter_spec,
        param: *mut bindings::fs_parameter,
        result: &bindings::fs_parse_result,
    ) -> Result<Self> {
        if spec.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: `spec` is valid by the contract.
        let Some(kind) = (unsafe { (*spec).type_ }) else {
            return Ok(Value::Flag(!result.negated));
        };
        let is = |known: unsafe extern "C" fn(
            *mut bindings::p_log,
            *const bindings::fs_parameter_spec,
            *mut bindings::fs_parameter,
            *mut bindings::fs_parse_result,
        ) -> core::ffi::c_int| kind as usize == known as usize;
        // SAFETY: Each field of the union is the one that the type's parser fills in; they are plain
        // integers. A string parameter's value is a terminated string that lives as long as `param`.
        unsafe {
            if is(bindings::fs_param_is_string) {
                return Ok(Value::Text(CStr::from_char_ptr(
                    (*param).__bindgen_anon_1.string,
                )));
            }
            if is(bindings::fs_param_is_enum) {
                return Ok(Value::Choice(*result.__bindgen_anon_1.int_32.as_ref()));
            }
            Ok(Value::Number(*result.__bindgen_anon_1.uint_32.as_ref()))
        }
    }
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
            F::reconfigure(sb, options::<F>(fc), read_only, &log(fc))?;
        }
        Ok(0)
    })
}
