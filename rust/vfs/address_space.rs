// SPDX-License-Identifier: GPL-2.0

//! What a file system does for the page cache of its files: `struct address_space_operations`.
//!
//! The state of the blocks of a folio (which are up to date, which are dirty) is kept by this crate,
//! so that the operations which concern it alone are not the file system's matter: dirtying,
//! invalidating, releasing and migrating a folio.
//!
//! C header: `include/linux/fs.h`.

use core::marker::PhantomData;

use ferrofs_bindings as bindings;
use kernel::error::from_result;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::ffi::c_int;
use kernel::ffi::c_uint;
use kernel::ffi::c_void;
use kernel::fs::LocalFile;
use kernel::prelude::*;
use kernel::sync::rcu;

use crate::block_state::BlockState;
use crate::folio::LockedFolio;
use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::inode::NewInode;
use crate::kiocb::Kiocb;
use crate::readahead::Readahead;
use crate::writeback::WritebackControl;

/// The swap area that a file is to become.
///
/// # Invariants
///
/// `info`, `file` and `span` are valid for `'a`, and the file is one of `F`.
pub struct SwapArea<'a, F: FileSystem> {
    pub(crate) info: *mut bindings::swap_info_struct,
    pub(crate) file: *mut bindings::file,
    pub(crate) span: *mut bindings::sector_t,
    _life: PhantomData<fn(&'a F) -> &'a F>,
}

/// Says that a file has become a swap area: only [`crate::iomap::swap_activate`] makes one.
///
/// The kernel trusts in what was recorded then when it writes to the device. The lifetime ties this to the
/// area, so that it says so of no other one.
pub struct SwapExtents<'a> {
    count: c_int,
    _area: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl<'a> SwapExtents<'a> {
    /// So many extents were recorded of `area`.
    pub(crate) fn new<F: FileSystem>(_area: SwapArea<'a, F>, count: c_int) -> Self {
        Self {
            count,
            _area: PhantomData,
        }
    }
}

/// How far [`Operations::read_folio`] has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FolioRead {
    /// The read was started, or is over: the folio will tell how it went.
    Started,
    /// The folio cannot be read whole, but more of its blocks are up to date than before. Who wants to
    /// read it looks again whether those that matter are. Only to be returned when that is so: the
    /// reader would try for ever.
    Partly,
}

/// The operations of a page cache.
#[vtable]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// Has the folio filled. It is unlocked when that is done, whether it went well or not. Sleeps.
    ///
    /// # Errors
    ///
    /// Why no read could be started. An error of the read shows as a folio that is not up to date.
    fn read_folio(
        file: Option<&LocalFile>,
        folio: LockedFolio<Self::FileSystem>,
    ) -> Result<FolioRead>;

    /// Has folios filled of which nobody has said yet that they are needed. Sleeps.
    fn readahead(_folios: Readahead<'_, Self::FileSystem>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes dirty folios. Sleeps.
    ///
    /// # Errors
    ///
    /// The first failure to start writing one. An error of the write itself goes to the mapping.
    fn writepages(_inode: &Inode<Self::FileSystem>, _control: &mut WritebackControl) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the locked folio at byte `pos`, made ready to take `len` bytes from there on (fewer, if
    /// it ends before): each byte of a block that those bytes do not cover is as it should be.
    ///
    /// Called with the inode's lock held. Sleeps unless `kiocb` says otherwise.
    fn write_begin(
        _kiocb: Option<&Kiocb<'_, Self::FileSystem>>,
        _inode: &Inode<Self::FileSystem>,
        _pos: u64,
        _len: usize,
    ) -> Result<LockedFolio<Self::FileSystem>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Takes the folio back, with `copied` bytes of the `len` that were asked for in place, and returns
    /// how many of these were accepted: `copied` or, if it is less than `len`, possibly fewer.
    ///
    /// Called with the inode's lock held. Sleeps.
    fn write_end(
        _kiocb: Option<&Kiocb<'_, Self::FileSystem>>,
        _inode: &Inode<Self::FileSystem>,
        _pos: u64,
        _len: usize,
        _copied: usize,
        _folio: LockedFolio<Self::FileSystem>,
    ) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The block of the device that holds block `block` of the file; zero if none does. Sleeps.
    fn bmap(_inode: &Inode<Self::FileSystem>, _block: u64) -> u64 {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Has the file become a swap area; see [`crate::iomap::swap_activate`]. Called with the inode's
    /// lock held. Sleeps.
    fn swap_activate<'a>(
        _inode: &Inode<Self::FileSystem>,
        _area: SwapArea<'a, Self::FileSystem>,
    ) -> Result<SwapExtents<'a>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The operations of the page cache of an inode that was given no others: nothing can be read, and what
/// is made there by hand is kept in order.
///
/// Every inode begins with these. The kernel takes what hangs on a folio for buffer heads where there is
/// no `release_folio`, and calls `read_folio` without a look at whether there is one.
pub(crate) const BARE: bindings::address_space_operations = bindings::address_space_operations {
    read_folio: Some(refuse_read),
    dirty_folio: Some(dirty_folio),
    invalidate_folio: Some(invalidate_folio),
    release_folio: Some(release_folio),
    migrate_folio: Some(bindings::filemap_migrate_folio),
    is_partially_uptodate: Some(is_partially_uptodate),
    error_remove_folio: Some(bindings::generic_error_remove_folio),
    ..pin_init::zeroed()
};

/// # Safety
///
/// Called by the kernel with a locked folio, to end its lock.
unsafe extern "C" fn refuse_read(_file: *mut bindings::file, folio: *mut bindings::folio) -> c_int {
    // SAFETY: The folio is locked, and the lock is ours to end.
    unsafe { bindings::folio_unlock(folio) };
    EIO.to_errno()
}

/// Gives a new inode the operations with which each one begins.
///
/// # Safety
///
/// `inode` must be valid and nobody else's yet.
pub(crate) unsafe fn init_mapping(inode: *mut bindings::inode) {
    let table: &'static _ = &BARE;
    // SAFETY: By this function's contract.
    unsafe { (*inode).i_data.a_ops = table };
}

impl<F: FileSystem> NewInode<F> {
    /// Has the page cache of this inode work by the operations `T`.
    pub fn set_address_space_operations<T: Operations<FileSystem = F>>(&mut self) {
        let table: &'static _ = &Glue::<T>::TABLE;
        // SAFETY: The inode is new, so that nobody else uses this field; the table is a constant for
        // inodes of `F`.
        unsafe { (*self.mapping_ptr()).a_ops = table };
    }
}

/// Marks all of a folio as dirty: some of it was written to through a mapping.
///
/// # Safety
///
/// Called by the kernel with a folio of `mapping` that cannot be truncated meanwhile, locked or not.
unsafe extern "C" fn dirty_folio(
    mapping: *mut bindings::address_space,
    folio: *mut bindings::folio,
) -> bool {
    // Sets the bits of the state, unless it is the one at `done`; tells which one it is.
    let mark = |done: Option<usize>| {
        let _rcu = rcu::read_lock();
        // SAFETY: The folio is valid, and belongs to a mapping with a table of ours. A state that it
        // loses meanwhile is not freed before the RCU read-side critical section ends.
        let state = unsafe { BlockState::of(folio) }?;
        if done != Some(state.address()) {
            // SAFETY: The folio is valid.
            state.set_dirty(0..unsafe { bindings::folio_size(folio) });
        }
        Some(state.address())
    };
    let marked = mark(None);
    // SAFETY: By this function's contract.
    let dirtied = unsafe { bindings::filemap_dirty_folio(mapping, folio) };
    // Without the lock, a state may have been attached by one who did not see the dirty flag. Setting
    // that was a full barrier, so that either they saw it or the state is seen here.
    mark(marked);
    dirtied
}

/// Forgets about a range of a folio, which is going to be truncated.
///
/// # Safety
///
/// Called by the kernel with a locked folio that is not under writeback.
unsafe extern "C" fn invalidate_folio(folio: *mut bindings::folio, offset: usize, len: usize) {
    // SAFETY: The folio is valid, locked, and belongs to a mapping with a table of ours.
    unsafe {
        if offset == 0 && len == bindings::folio_size(folio) {
            bindings::folio_cancel_dirty(folio);
            BlockState::detach(folio);
        } else if let Some(state) = BlockState::of(folio) {
            state.clear_dirty(offset..offset + len);
        }
    }
}

/// Frees the state of a folio, so that it can leave the page cache; false if that cannot be now.
///
/// # Safety
///
/// Called by the kernel with a locked folio that is not under writeback.
unsafe extern "C" fn release_folio(folio: *mut bindings::folio, _gfp: bindings::gfp_t) -> bool {
    // SAFETY: The folio is valid, locked, and belongs to a mapping with a table of ours.
    unsafe {
        // Which of its blocks are dirty is known by the state only.
        if bindings::folio_test_dirty(folio) {
            return false;
        }
        BlockState::detach(folio);
        true
    }
}

/// Whether a range of a folio that is not up to date is so.
///
/// # Safety
///
/// Called by the kernel with a locked folio.
unsafe extern "C" fn is_partially_uptodate(
    folio: *mut bindings::folio,
    from: usize,
    count: usize,
) -> bool {
    // SAFETY: The folio is valid, locked, and belongs to a mapping with a table of ours.
    unsafe {
        let end = from.saturating_add(count).min(bindings::folio_size(folio));
        BlockState::of(folio).is_some_and(|state| state.is_uptodate(from..end))
    }
}

/// The functions of the C structure, called by the kernel only, with folios and inodes that
/// [`NewInode::set_address_space_operations`] made ready.
struct Glue<T: Operations>(PhantomData<T>);

impl<T: Operations> Glue<T> {
    const TABLE: bindings::address_space_operations = bindings::address_space_operations {
        read_folio: Some(Self::read_folio),
        readahead: optional!(T::HAS_READAHEAD, Self::readahead),
        writepages: optional!(T::HAS_WRITEPAGES, Self::writepages),
        write_begin: optional!(T::HAS_WRITE_BEGIN, Self::write_begin),
        write_end: optional!(T::HAS_WRITE_END, Self::write_end),
        bmap: optional!(T::HAS_BMAP, Self::bmap),
        swap_activate: optional!(T::HAS_SWAP_ACTIVATE, Self::swap_activate),
        ..BARE
    };

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn read_folio(
        file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The file is null or valid for the time of the call.
            let file = (!file.is_null()).then(|| unsafe { LocalFile::from_raw_file(file) });
            // SAFETY: The folio is locked, and the lock is ours to end. The value gets a reference
            // of its own.
            let folio = unsafe {
                bindings::folio_get(folio);
                LockedFolio::from_raw(folio)
            };
            Ok(match T::read_folio(file, folio)? {
                FolioRead::Started => 0,
                FolioRead::Partly => bindings::positive_aop_returns_AOP_TRUNCATED_PAGE as c_int,
            })
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn readahead(rac: *mut bindings::readahead_control) {
        // SAFETY: `rac` is valid for the time of the call, and of such an inode.
        T::readahead(unsafe { Readahead::from_ptr(rac) });
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn writepages(
        mapping: *mut bindings::address_space,
        wbc: *mut bindings::writeback_control,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Both are valid for the time of the call, and `wbc` is the caller's alone.
            let (inode, control) = unsafe {
                (
                    Inode::from_ptr((*mapping).host),
                    WritebackControl::from_ptr(wbc),
                )
            };
            T::writepages(inode, control)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn write_begin(
        kiocb: *const bindings::kiocb,
        mapping: *mut bindings::address_space,
        pos: bindings::loff_t,
        len: c_uint,
        foliop: *mut *mut bindings::folio,
        _fsdata: *mut *mut c_void,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The request is null or valid for the time of the call; what is made of it is
            // lent for reading only.
            let kiocb = (!kiocb.is_null()).then(|| unsafe { Kiocb::from_ptr(kiocb.cast_mut()) });
            // SAFETY: The inode is valid for the time of the call.
            let inode = unsafe { Inode::from_ptr((*mapping).host) };
            let folio = T::write_begin(kiocb.as_ref(), inode, pos as u64, len as usize)?;
            // The kernel copies to where the position is in a folio of that size.
            let range = folio.pos()..folio.end();
            if !folio.belongs_to(inode) || !range.contains(&(pos as u64)) {
                kernel::pr_warn_once!("write_begin returned another folio than was asked for\n");
                return Err(EIO);
            }
            // SAFETY: `foliop` takes the folio, with its lock and reference.
            unsafe { *foliop = folio.into_raw() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn write_end(
        kiocb: *const bindings::kiocb,
        mapping: *mut bindings::address_space,
        pos: bindings::loff_t,
        len: c_uint,
        copied: c_uint,
        folio: *mut bindings::folio,
        _fsdata: *mut c_void,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As in `write_begin()`.
            let kiocb = (!kiocb.is_null()).then(|| unsafe { Kiocb::from_ptr(kiocb.cast_mut()) });
            // SAFETY: The inode is valid for the time of the call.
            let inode = unsafe { Inode::from_ptr((*mapping).host) };
            // SAFETY: This is what `write_begin()` gave away.
            let folio = unsafe { LockedFolio::from_raw(folio) };
            let accepted = T::write_end(
                kiocb.as_ref(),
                inode,
                pos as u64,
                len as usize,
                copied as usize,
                folio,
            )?;
            // The kernel moves on by that, in a buffer of which it copied so many bytes.
            Ok(accepted.min(copied as usize) as c_int)
        })
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn bmap(
        mapping: *mut bindings::address_space,
        block: bindings::sector_t,
    ) -> bindings::sector_t {
        // SAFETY: The inode is valid for the time of the call.
        T::bmap(unsafe { Inode::from_ptr((*mapping).host) }, block)
    }

    /// # Safety
    ///
    /// See [`Glue`].
    unsafe extern "C" fn swap_activate(
        info: *mut bindings::swap_info_struct,
        file: *mut bindings::file,
        span: *mut bindings::sector_t,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The file is valid for the time of the call.
            let inode = unsafe { Inode::from_ptr(bindings::file_inode(file)) };
            let area = SwapArea {
                info,
                file,
                span,
                _life: PhantomData,
            };
            Ok(T::swap_activate(inode, area)?.count)
        })
    }
}
