// SPDX-License-Identifier: GPL-2.0

//! Memory mappings of files: `struct vm_operations_struct`.
//!
//! C header: `include/linux/mm.h`.

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::fs::LocalFile;
use kernel::prelude::*;
use kernel::types::NotThreadSafe;

use crate::folio::LockedFolio;
use crate::fs::FileSystem;
use crate::inode::Inode;

/// A page fault that is about to let a mapping write to a folio.
///
/// # Invariants
///
/// `fault` is valid for `'a`, with a page of a file of `F` to which the fault holds a reference.
pub struct WriteFault<'a, F: FileSystem> {
    fault: *mut bindings::vm_fault,
    _life: PhantomData<&'a Inode<F>>,
}

impl<'a, F: FileSystem> WriteFault<'a, F> {
    /// The file that is mapped.
    pub fn file(&self) -> &'a LocalFile {
        // SAFETY: By the type invariants.
        unsafe { LocalFile::from_raw_file(bindings::vmf_file(self.fault)) }
    }

    /// The inode that is mapped.
    pub fn inode(&self) -> &'a Inode<F> {
        // SAFETY: By the type invariants.
        unsafe { Inode::from_ptr(bindings::file_inode(self.file().as_ptr())) }
    }

    /// The folio, locked, with the number of its bytes that lie before the end of the file. [`None`]
    /// if there are none, for it was truncated. Sleeps.
    pub fn lock_folio(&self) -> Option<(LockedFolio<F>, usize)> {
        // SAFETY: By the type invariants. The value gets a reference of its own and the lock.
        let folio = unsafe {
            let folio = bindings::vmf_folio(self.fault);
            bindings::folio_get(folio);
            bindings::folio_lock(folio);
            LockedFolio::<F>::from_raw(folio)
        };
        // SAFETY: The folio is locked, and the inode valid.
        let len = unsafe {
            bindings::folio_mkwrite_check_truncate(folio.as_ptr(), self.inode().as_ptr())
        };
        let len = usize::try_from(len).ok()?;
        folio.belongs_to(self.inode()).then_some((folio, len))
    }
}

/// How mappings of the files of a file system work. Reading faults are the page cache's matter.
#[vtable]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// Makes ready that a folio is written to through a mapping: it must have its place on disk, or
    /// a promise of one, and be marked as dirty. It is returned locked, so that nothing changes that
    /// before the mapping is in place; [`None`] has the fault tried again. Sleeps.
    ///
    /// # Errors
    ///
    /// The process gets `SIGBUS`; for `ENOMEM` the fault fails as one without memory, and for
    /// `EAGAIN` it is tried again.
    fn page_mkwrite(
        _fault: &WriteFault<'_, Self::FileSystem>,
    ) -> Result<Option<LockedFolio<Self::FileSystem>>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The kernel's page faults of writers, kept from running while the file system is frozen. Released
/// on drop.
pub struct FaultProtection<'a, F: FileSystem>(&'a Inode<F>, NotThreadSafe);

impl<F: FileSystem> Inode<F> {
    /// Takes part in writing through a mapping: waits while the file system is frozen, and keeps it
    /// from being frozen. Sleeps.
    pub fn start_page_fault(&self) -> FaultProtection<'_, F> {
        // SAFETY: The super block is live; the guard ends it.
        unsafe { bindings::sb_start_pagefault(self.sb().as_ptr()) };
        FaultProtection(self, NotThreadSafe)
    }
}

impl<F: FileSystem> Drop for FaultProtection<'_, F> {
    fn drop(&mut self) {
        // SAFETY: The guard was made with the protection taken.
        unsafe { bindings::sb_end_pagefault(self.0.sb().as_ptr()) };
    }
}

/// The C structure for `T`.
pub(crate) fn table<T: Operations>() -> *const bindings::vm_operations_struct {
    &Glue::<T>::TABLE
}

/// The functions of the C structure, called by the kernel only, for mappings of files that
/// [`crate::file`] made.
struct Glue<T: Operations>(PhantomData<T>);

impl<T: Operations> Glue<T> {
    const TABLE: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(bindings::filemap_fault),
        map_pages: Some(bindings::filemap_map_pages),
        page_mkwrite: if T::HAS_PAGE_MKWRITE {
            Some(Self::page_mkwrite)
        } else {
            Some(bindings::filemap_page_mkwrite)
        },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn page_mkwrite(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // INVARIANT: By this function's contract.
        let fault = WriteFault {
            fault,
            _life: PhantomData,
        };
        match T::page_mkwrite(&fault) {
            Ok(Some(folio)) => {
                let same = {
                    // SAFETY: The fault is valid.
                    let expected = unsafe { bindings::vmf_folio(fault.fault) };
                    core::ptr::eq(expected, folio.as_ptr())
                };
                if !same {
                    return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
                }
                if !folio.belongs_to(fault.inode()) {
                    // It was truncated: the fault is tried again, and finds out.
                    return bindings::vm_fault_reason_VM_FAULT_NOPAGE;
                }
                // The fault has a reference; the lock passes to it.
                let folio = folio.into_raw();
                // SAFETY: This is the reference of the value that was taken apart.
                unsafe { bindings::folio_put(folio) };
                bindings::vm_fault_reason_VM_FAULT_LOCKED
            }
            Ok(None) => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
            // SAFETY: The function takes any error number.
            Err(error) => unsafe { bindings::vmf_fs_error(error.to_errno()) },
        }
    }
}
