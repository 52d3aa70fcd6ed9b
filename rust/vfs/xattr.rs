// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.
//!
//! The kernel hands an attribute to the [`Handler`] whose prefix its name begins with. A file system
//! has one handler for each namespace that it stores (`user.`, `trusted.`, `security.` ...). POSIX
//! ACLs do not come this way: they have operations of their own in
//! [`inode_ops`](crate::inode_ops::Operations::get_acl).
//!
//! C header: `include/linux/xattr.h`.

use core::ffi::c_int;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr;
use core::slice;

use ferrofs_bindings as bindings;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::prelude::*;

use crate::dentry::Dentry;
use crate::fs::FileSystem;
use crate::idmap::IdMap;
use crate::inode::Inode;

/// What `setxattr(2)` wants to be so before it sets an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetMode {
    /// The attribute is made or replaced.
    Any,
    /// The attribute must not exist (`EEXIST`).
    Create,
    /// The attribute must exist (`ENODATA`).
    Replace,
}

impl SetMode {
    fn from_flags(flags: c_int) -> Self {
        let flags = flags as u32;
        if flags & bindings::XATTR_CREATE != 0 {
            Self::Create
        } else if flags & bindings::XATTR_REPLACE != 0 {
            Self::Replace
        } else {
            Self::Any
        }
    }
}

/// Where the value of an attribute goes.
///
/// Without a buffer only its size is asked for.
pub struct ValueBuffer<'a>(Option<&'a mut [u8]>);

impl<'a> ValueBuffer<'a> {
    /// A buffer of the file system's own.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self(Some(buffer))
    }

    /// No buffer: asks for the size.
    pub fn size_only() -> Self {
        Self(None)
    }

    /// # Safety
    ///
    /// `buffer` must be null, or valid for writes of `size` bytes for `'a`.
    unsafe fn from_ptr(buffer: *mut c_void, size: usize) -> Self {
        let buffer = buffer.cast::<u8>();
        Self((!buffer.is_null()).then(|| {
            // SAFETY: By this function's contract. Some callers come with a buffer on their stack
            // that nobody has cleared, and a slice must be initialised.
            unsafe {
                buffer.write_bytes(0, size);
                slice::from_raw_parts_mut(buffer, size)
            }
        }))
    }

    /// Answers with a value that lies in memory; gives its size.
    ///
    /// # Errors
    ///
    /// `ERANGE` when the buffer is too small.
    pub fn answer(self, value: &[u8]) -> Result<usize> {
        if let Some(buffer) = self.reserve(value.len())? {
            buffer.copy_from_slice(value);
        }
        Ok(value.len())
    }

    /// The place for a value of `size` bytes, which the caller must fill; `None` when only the size
    /// was asked for.
    ///
    /// # Errors
    ///
    /// `ERANGE` when the buffer is too small.
    pub fn reserve(self, size: usize) -> Result<Option<&'a mut [u8]>> {
        match self.0 {
            None => Ok(None),
            Some(buffer) => buffer.get_mut(..size).map(Some).ok_or(ERANGE),
        }
    }
}

/// A list of names in the making, as `listxattr(2)` returns it: each with a NUL after it.
pub struct NameList<'a> {
    // Null when only the size is asked for.
    buffer: Option<&'a mut [u8]>,
    length: usize,
}

impl NameList<'_> {
    /// # Safety
    ///
    /// `buffer` must be null, or valid for writes of `size` bytes.
    pub(crate) unsafe fn from_ptr(buffer: *mut u8, size: usize) -> Self {
        let buffer = (!buffer.is_null()).then(|| {
            // SAFETY: By this function's contract. The caller's buffer is not cleared, and a slice
            // must be initialised.
            unsafe {
                buffer.write_bytes(0, size);
                slice::from_raw_parts_mut(buffer, size)
            }
        });
        Self { buffer, length: 0 }
    }

    /// Adds the name that consists of `prefix` and `suffix`.
    ///
    /// # Errors
    ///
    /// `ERANGE` when the buffer is too small. `EUCLEAN` when a NUL is in the name: it would turn
    /// into two.
    pub fn add(&mut self, prefix: &[u8], suffix: &[u8]) -> Result {
        if suffix.contains(&0) {
            return Err(EUCLEAN);
        }
        let size = prefix.len() + suffix.len() + 1;
        if let Some(buffer) = self.buffer.as_mut() {
            let place = buffer
                .get_mut(self.length..self.length + size)
                .ok_or(ERANGE)?;
            let (head, rest) = place.split_at_mut(prefix.len());
            head.copy_from_slice(prefix);
            let (name, nul) = rest.split_at_mut(suffix.len());
            name.copy_from_slice(suffix);
            nul.fill(0);
        }
        self.length += size;
        Ok(())
    }

    /// The length of the list so far, in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no name in the list yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// The attributes whose names begin with one prefix.
#[vtable]
pub trait Handler: Sized + Send + Sync + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// The prefix, with its dot.
    const PREFIX: &'static CStr;

    /// Whether such names show in the list of `dentry`'s attributes, for the current task.
    fn can_list(_dentry: &Dentry<Self::FileSystem>) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Gets the value of the attribute with that name, prefix left out; gives its size.
    ///
    /// No lock is held.
    ///
    /// # Errors
    ///
    /// `ENODATA` when there is none.
    fn get(inode: &Inode<Self::FileSystem>, name: &[u8], value: ValueBuffer<'_>) -> Result<usize>;

    /// Sets the attribute, or removes it when there is no value.
    ///
    /// The inode is locked exclusively.
    ///
    /// # Errors
    ///
    /// `ENODATA` and `EEXIST` as `mode` wants it, `ENOSPC` when the value does not fit.
    fn set(
        idmap: &IdMap,
        inode: &Inode<Self::FileSystem>,
        name: &[u8],
        value: Option<&[u8]>,
        mode: SetMode,
    ) -> Result;
}

/// A handler in a table of handlers.
#[repr(transparent)]
pub struct HandlerRef<F: FileSystem> {
    handler: *const bindings::xattr_handler,
    _fs: PhantomData<fn(F)>,
}

// SAFETY: Handlers are constants.
unsafe impl<F: FileSystem> Send for HandlerRef<F> {}
// SAFETY: Handlers are constants.
unsafe impl<F: FileSystem> Sync for HandlerRef<F> {}

impl<F: FileSystem> HandlerRef<F> {
    /// What ends a table.
    pub const END: Self = Self {
        handler: ptr::null(),
        _fs: PhantomData,
    };

    /// The handler `T`.
    pub const fn new<T: Handler<FileSystem = F>>() -> Self {
        Self {
            handler: &Glue::<T>::HANDLER,
            _fs: PhantomData,
        }
    }
}

/// The handlers of a file system.
///
/// # Invariants
///
/// The table ends with a null pointer; all handlers were made for `F`.
///
/// # Examples
///
/// ```ignore
/// static HANDLERS: [HandlerRef<SimpleFs>; 2] = [HandlerRef::new::<User>(), HandlerRef::END];
/// const TABLE: Handlers<SimpleFs> = Handlers::new(&HANDLERS);
/// ```
pub struct Handlers<F: FileSystem>(&'static [HandlerRef<F>]);

impl<F: FileSystem> Handlers<F> {
    /// From a table that ends with [`HandlerRef::END`]; anything else does not compile when it is a
    /// constant, and panics otherwise.
    pub const fn new(table: &'static [HandlerRef<F>]) -> Self {
        assert!(!table.is_empty() && table[table.len() - 1].handler.is_null());
        // INVARIANT: The end was just checked.
        Self(table)
    }

    /// The table as `s_xattr` wants it.
    pub(crate) const fn as_ptr(&self) -> *const *const bindings::xattr_handler {
        // `HandlerRef` is transparent: nothing but the pointer.
        self.0.as_ptr().cast()
    }
}

struct Glue<T: Handler>(PhantomData<T>);

impl<T: Handler> Glue<T> {
    const HANDLER: bindings::xattr_handler = bindings::xattr_handler {
        name: ptr::null(),
        prefix: T::PREFIX.to_bytes_with_nul().as_ptr().cast(),
        flags: 0,
        list: optional!(T::HAS_CAN_LIST, Self::list),
        get: Some(Self::get),
        set: Some(Self::set),
    };

    /// # Safety
    ///
    /// Called by the kernel only.
    unsafe extern "C" fn list(dentry: *mut bindings::dentry) -> bool {
        // SAFETY: The kernel calls with a dentry of the file system that the handler is for.
        T::can_list(unsafe { Dentry::from_ptr(dentry) })
    }

    /// # Safety
    ///
    /// Called by the kernel only.
    unsafe extern "C" fn get(
        _handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const kernel::ffi::c_char,
        buffer: *mut c_void,
        size: usize,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The kernel calls with an inode of the file system that the handler is for, a
            // name, and a buffer that is null or has that size.
            let (inode, name, value) = unsafe {
                (
                    Inode::from_ptr(inode),
                    CStr::from_char_ptr(name),
                    ValueBuffer::from_ptr(buffer, size),
                )
            };
            let length = T::get(inode, name.to_bytes(), value)?;
            // The caller copies so many bytes out of the buffer without another look at its size.
            if !buffer.is_null() && length > size {
                return Err(ERANGE);
            }
            Ok(c_int::try_from(length)?)
        })
    }

    /// # Safety
    ///
    /// Called by the kernel only.
    unsafe extern "C" fn set(
        _handler: *const bindings::xattr_handler,
        idmap: *mut bindings::mnt_idmap,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const kernel::ffi::c_char,
        value: *const c_void,
        size: usize,
        flags: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The kernel calls with an inode of the file system that the handler is for, a
            // name, and a value that is null (to remove the attribute) or has that size.
            let (idmap, inode, name, value) = unsafe {
                (
                    IdMap::from_ptr(idmap),
                    Inode::from_ptr(inode),
                    CStr::from_char_ptr(name),
                    (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size)),
                )
            };
            T::set(
                idmap,
                inode,
                name.to_bytes(),
                value,
                SetMode::from_flags(flags),
            )?;
            Ok(0)
        })
    }
}

/// Lets the security modules label a new inode: `store` is called for each attribute
/// (`security.` left out) that they want to be stored with it. Sleeps.
///
/// # Errors
///
/// Those of `store`, `ENOMEM`, or what a security module says.
pub fn init_security<F, S>(inode: &Inode<F>, dir: &Inode<F>, name: &[u8], mut store: S) -> Result
where
    F: FileSystem,
    S: FnMut(&[u8], &[u8]) -> Result,
{
    /// # Safety
    ///
    /// `data` must be a valid `S`, and `xattrs` an array that ends with a nameless one.
    unsafe extern "C" fn store_all<S: FnMut(&[u8], &[u8]) -> Result>(
        _inode: *mut bindings::inode,
        xattrs: *const bindings::xattr,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: By this function's contract; nobody else uses the closure during the call.
        let store = unsafe { &mut *data.cast::<S>() };
        let mut xattr = xattrs;
        from_result(|| {
            // SAFETY: The array ends with a nameless attribute; each one before it has a name and a
            // value of the length that it tells.
            unsafe {
                while !(*xattr).name.is_null() {
                    let name = CStr::from_char_ptr((*xattr).name);
                    let value = if (*xattr).value_len == 0 {
                        &[]
                    } else {
                        slice::from_raw_parts((*xattr).value.cast::<u8>(), (*xattr).value_len)
                    };
                    store(name.to_bytes(), value)?;
                    xattr = xattr.add(1);
                }
            }
            Ok(0)
        })
    }

    // Security modules take the name for a string, whatever its length says.
    let mut text = KVec::with_capacity(name.len() + 1, GFP_KERNEL)?;
    text.extend_from_slice(name, GFP_KERNEL)?;
    text.push(0, GFP_KERNEL)?;
    let mut qstr = bindings::qstr {
        name: text.as_ptr(),
        ..Default::default()
    };
    qstr.__bindgen_anon_1.__bindgen_anon_1 = bindings::qstr__bindgen_ty_1__bindgen_ty_1 {
        hash: 0,
        len: u32::try_from(name.len())?,
    };
    // SAFETY: The inodes are valid by their type invariants, and the name is terminated. `store_all` gets
    // the closure that it is made for, which outlives the call.
    to_result(unsafe {
        bindings::inode_init_security(
            inode.as_ptr(),
            dir.as_ptr(),
            &qstr,
            Some(store_all::<S>),
            (&raw mut store).cast(),
        )
    })
}
