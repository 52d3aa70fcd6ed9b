// SPDX-License-Identifier: GPL-2.0

//! Mount options: declared in a table, parsed by the kernel, handed over typed.
//!
//! C header: `include/linux/fs_parser.h`.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use ferrofs_bindings as bindings;
use kernel::prelude::*;
use kernel::str::CString;

use crate::context::Log;

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

    /// A text that may be empty: [`Value::Text`].
    pub const fn string_or_empty(name: &'static CStr, key: u8) -> Self {
        let mut parameter = Self::string(name, key);
        parameter.0.flags = bindings::fs_param_can_be_empty as u16;
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

    /// Parses one option.
    ///
    /// # Errors
    ///
    /// `ENOPARAM` for one that is not in the table; `EINVAL` for a value that is not of its kind, which `log` is
    /// told of.
    ///
    /// # Safety
    ///
    /// `param` must be valid for `'a`, with a terminated key, and a terminated string where its type says that
    /// it has one.
    pub(crate) unsafe fn parse<'a>(
        &self,
        param: *mut bindings::fs_parameter,
        log: &Log<'_>,
    ) -> Result<Given<'a>> {
        let mut result = MaybeUninit::<bindings::fs_parse_result>::zeroed();
        // SAFETY: The table is terminated by its type invariants; the rest is valid by this
        // function's contract.
        let key =
            unsafe { bindings::__fs_parse(log.of_parser(), self.0, param, result.as_mut_ptr()) };
        if key < 0 {
            return Err(Error::from_errno(key));
        }
        // SAFETY: All bit patterns, zeroes included, are valid for this structure of integers.
        let result = unsafe { result.assume_init() };
        let key = key as u8;
        // SAFETY: `__fs_parse()` returned the key of an entry of the table, so the walk finds it
        // before the end. The entry's type decides which field of the union and which kind of
        // parameter value is valid. An enumeration's value is an `int`; ids are 32-bit. The key is a
        // terminated string.
        unsafe {
            Ok(Given {
                name: CStr::from_char_ptr((*param).key),
                key,
                value: Value::of(find(self, key, &*param), param, &result)?,
            })
        }
    }

    /// Parses `text`, options with commas between them as `mount(2)` takes them, and passes each to `take`.
    ///
    /// # Errors
    ///
    /// Those of `take`; `EINVAL` for an option that is not in the table or whose value is not of its kind,
    /// which `log` is told of, as it is of one without a name; `ENOMEM`.
    pub fn parse_text(
        &self,
        text: &[u8],
        log: &Log<'_>,
        mut take: impl FnMut(&Given<'_>) -> Result,
    ) -> Result {
        for option in text.split(|byte| *byte == b',') {
            if option.is_empty() {
                continue;
            }
            let mut parts = option.splitn(2, |byte| *byte == b'=');
            let name = terminated(parts.next().unwrap_or_default())?;
            let value = parts.next().map(terminated).transpose()?;
            let mut param: bindings::fs_parameter = pin_init::zeroed();
            param.key = name.as_char_ptr();
            param.set_type(bindings::fs_value_type_fs_value_is_flag);
            if let Some(value) = &value {
                param.set_type(bindings::fs_value_type_fs_value_is_string);
                // The parsers of the kinds that a table can have read the string only.
                param.__bindgen_anon_1.string = value.as_char_ptr().cast_mut();
                param.size = value.to_bytes().len();
            }
            // SAFETY: The parameter is valid, and its strings, which are terminated, live as long as what
            // is made of it.
            let given = unsafe { self.parse(&mut param, log) };
            let given = given.map_err(|error| {
                if error == ENOPARAM {
                    log.invalid(fmt!("unknown option '{}'", name.to_str().unwrap_or("?")))
                } else {
                    error
                }
            })?;
            take(&given)?;
        }
        Ok(())
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

/// An option that was given.
pub struct Given<'a> {
    name: &'a CStr,
    /// The number that its entry in the table has.
    pub key: u8,
    /// Its value, of the kind that was declared.
    pub value: Value<'a>,
}

impl Given<'_> {
    /// Its name as it was given, with the "no" of a negated one.
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or("?")
    }
}

/// The bytes as a string of C. `EINVAL` when there is a NUL among them or when they are no text.
fn terminated(bytes: &[u8]) -> Result<CString> {
    let text = core::str::from_utf8(bytes).map_err(|_| EINVAL)?;
    CString::try_from_fmt(fmt!("{}", text))
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
