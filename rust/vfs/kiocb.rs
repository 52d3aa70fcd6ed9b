// SPDX-License-Identifier: GPL-2.0

//! One read or write that is under way.
//!
//! C headers: `include/linux/fs.h`, `include/linux/uio.h`.

use core::marker::PhantomData;
use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::fs::LocalFile;
use kernel::iov::IovIterDest;
use kernel::iov::IovIterSource;
use kernel::prelude::*;

use crate::fs::FileSystem;
use crate::inode::Inode;
use crate::mapping::c_offset;

// Flags that user space passes in with `preadv2(2)`; see `include/uapi/linux/fs.h`.
const RWF_DSYNC: u32 = 0x02;
const RWF_NOWAIT: u32 = 0x08;
const RWF_APPEND: u32 = 0x10;
const RWF_ATOMIC: u32 = 0x40;

/// Takes a result as kernel functions return it: a count, or a negated error number.
pub(crate) fn count_result(ret: isize) -> Result<usize> {
    usize::try_from(ret).map_err(|_| Error::from_errno(ret as i32))
}

/// The other way round, for a request of `asked` bytes.
///
/// Kernel code that reads into a buffer or writes from a pipe goes on at that count without looking
/// whether it asked for so much, so that a larger one must not get there.
pub(crate) fn from_count_result(result: Result<usize>, asked: usize) -> isize {
    if result.is_ok_and(|count| count > asked) {
        kernel::pr_warn_once!("a read or write claims more bytes than it was asked for\n");
    }
    bounded_count(result, asked)
}

/// As [`from_count_result`], without a word: a count that is too large is `EIO`.
fn bounded_count(result: Result<usize>, asked: usize) -> isize {
    match result {
        // No request is larger than `MAX_RW_COUNT`, which fits.
        Ok(count) if count <= asked => count as isize,
        // The caller would wait for an end that nobody is going to tell it of.
        Ok(_) | Err(EIOCBQUEUED) => EIO.to_errno() as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// A read or write request on a file of file system `F`.
///
/// A request may be *queued*: [direct I/O](crate::iomap::direct_read) of a caller that does not wait goes
/// on by itself, and a [read](Self::read_from_page_cache) of io_uring's begins again when the folio that
/// it met is unlocked. Its end is told to the caller from elsewhere. From then on the request is not ours
/// any more, and may be gone: the position reads as 0, no flag is set, and what could fail does so with
/// `EIOCBQUEUED`. Whatever the operation returns then, the caller learns that the request is queued.
///
/// # Invariants
///
/// `file` is valid for `'a`, and one of `F`; `kiocb` is a request on it that is valid for `'a`, unless
/// `queued`: then it must not be used.
pub struct Kiocb<'a, F: FileSystem> {
    kiocb: NonNull<bindings::kiocb>,
    file: *mut bindings::file,
    queued: bool,
    _life: PhantomData<&'a Inode<F>>,
}

impl<'a, F: FileSystem> Kiocb<'a, F> {
    /// # Safety
    ///
    /// `kiocb` must satisfy the type invariants for `'a`, and be used through the new value only. Its file
    /// must stay for `'a` even if the request is queued and ends meanwhile, as whoever calls an operation
    /// sees to.
    pub(crate) unsafe fn from_ptr(kiocb: *mut bindings::kiocb) -> Self {
        // INVARIANT: By this function's contract.
        Kiocb {
            // SAFETY: By this function's contract.
            file: unsafe { (*kiocb).ki_filp },
            // SAFETY: By this function's contract.
            kiocb: unsafe { NonNull::new_unchecked(kiocb) },
            queued: false,
            _life: PhantomData,
        }
    }

    /// The C object, which is valid; `EIOCBQUEUED` if it is not ours any more.
    pub(crate) fn get(&self) -> Result<*mut bindings::kiocb> {
        if self.queued {
            return Err(EIOCBQUEUED);
        }
        Ok(self.kiocb.as_ptr())
    }

    /// Takes note of how a function has ended that may have queued the request.
    pub(crate) fn queued_if(&mut self, result: Result<usize>) -> Result<usize> {
        self.queued |= result == Err(EIOCBQUEUED);
        result
    }

    /// What the operation on this request, of `asked` bytes, returns to the kernel.
    ///
    /// The kernel ends a request that is not said to be queued, and frees it.
    pub(crate) fn answer(self, result: Result<usize>, asked: usize) -> isize {
        if self.queued {
            return EIOCBQUEUED.to_errno() as isize;
        }
        from_count_result(result, asked)
    }

    /// The file.
    pub fn file(&self) -> &'a LocalFile {
        // SAFETY: By the type invariants.
        unsafe { LocalFile::from_raw_file(self.file) }
    }

    /// The inode.
    pub fn inode(&self) -> &'a Inode<F> {
        // SAFETY: By the type invariants.
        unsafe { Inode::from_ptr(bindings::file_inode(self.file)) }
    }

    /// The position in the file.
    pub fn pos(&self) -> u64 {
        self.get()
            // SAFETY: The request is valid. The kernel never lets a position be negative here.
            .map_or(0, |kiocb| unsafe { (*kiocb).ki_pos as u64 })
    }

    /// Sets the position in the file.
    pub fn set_pos(&mut self, pos: u64) {
        if let Ok(kiocb) = self.get() {
            // SAFETY: The request is valid.
            unsafe { (*kiocb).ki_pos = c_offset(pos) };
        }
    }

    fn flags(&self) -> u32 {
        self.get()
            // SAFETY: The request is valid.
            .map_or(0, |kiocb| unsafe { (*kiocb).ki_flags as u32 })
    }

    fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    /// Whether the request must fail with `EAGAIN` rather than sleep.
    pub fn is_nowait(&self) -> bool {
        self.has(RWF_NOWAIT)
    }

    /// Whether it bypasses the page cache.
    pub fn is_direct(&self) -> bool {
        self.has(bindings::IOCB_DIRECT)
    }

    /// Whether it writes at the end of the file.
    pub fn is_append(&self) -> bool {
        self.has(RWF_APPEND)
    }

    /// Whether the data must be on stable media when it ends.
    pub fn is_dsync(&self) -> bool {
        self.has(RWF_DSYNC)
    }

    /// Whether it must be done in one piece or not at all.
    pub fn is_atomic(&self) -> bool {
        self.has(RWF_ATOMIC)
    }

    /// Whether the caller waits for it.
    pub fn is_sync(&self) -> bool {
        self.get()
            // SAFETY: The request is valid.
            .is_ok_and(|kiocb| unsafe { bindings::is_sync_kiocb(kiocb) })
    }

    /// Makes it go through the page cache.
    pub fn clear_direct(&mut self) {
        if let Ok(kiocb) = self.get() {
            // SAFETY: The request is valid.
            unsafe { (*kiocb).ki_flags &= !(bindings::IOCB_DIRECT as i32) };
        }
    }

    /// Checks a write against the limits of file, process and file system, moves the position to
    /// the end if it appends, and shortens `from` to what may be written. Returns that count.
    ///
    /// Called with the inode's lock held.
    ///
    /// # Errors
    ///
    /// `EFBIG`, `EINVAL`, `ETXTBSY`, `EPERM`.
    pub fn write_checks(&mut self, from: &mut IovIterSource<'_>) -> Result<usize> {
        let kiocb = self.get()?;
        // SAFETY: Both are valid.
        count_result(unsafe { bindings::generic_write_checks(kiocb, from.as_raw()) })
    }

    /// Removes privileges and updates times, as every write must. Called with the inode's lock held.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when this would sleep and must not, or what the file system's own operations say.
    pub fn modified(&mut self) -> Result {
        let kiocb = self.get()?;
        // SAFETY: The request is valid.
        to_result(unsafe { bindings::kiocb_modified(kiocb) })
    }

    /// Copies `from` to the page cache, folio by folio, through `write_begin` and `write_end` of the
    /// inode's address space operations. Throttles the writer. Moves the position and returns the
    /// count. Called with the inode's lock held.
    ///
    /// # Errors
    ///
    /// Only if nothing was written.
    pub fn write_to_page_cache(&mut self, from: &mut IovIterSource<'_>) -> Result<usize> {
        let kiocb = self.get()?;
        if !has_write_operations(self.inode()) {
            return Err(EINVAL);
        }
        // SAFETY: Both are valid; the address space operations have both methods.
        count_result(unsafe { bindings::generic_perform_write(kiocb, from.as_raw()) })
    }

    /// As [`Self::write_to_page_cache`], for a request that must not sleep: neither the throttling of
    /// writers nor the faulting in of the source nor, if they obey the request, the operations do.
    /// Ends early where going on would take a sleep.
    ///
    /// # Errors
    ///
    /// Only if nothing was written: `EAGAIN` if that would have taken a sleep.
    pub fn write_to_page_cache_nowait(&mut self, from: &mut IovIterSource<'_>) -> Result<usize> {
        if !self.is_nowait() {
            return Err(EINVAL);
        }
        let mut written = 0;
        while !from.is_empty() {
            match self.write_folio_nowait(self.pos() + written as u64, from) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if written == 0 {
            // The source is not in memory.
            return Err(EAGAIN);
        }
        self.set_pos(self.pos() + written as u64);
        Ok(written)
    }

    /// Copies as much of `from` as fits into the folio at `pos`. Returns the count; zero if the source
    /// is not in memory.
    fn write_folio_nowait(&mut self, pos: u64, from: &mut IovIterSource<'_>) -> Result<usize> {
        let kiocb = self.get()?;
        let mapping = self.inode().mapping_ptr();
        // SAFETY: The mapping is valid.
        to_result(unsafe {
            bindings::balance_dirty_pages_ratelimited_flags(mapping, bindings::BDP_ASYNC)
        })?;
        // SAFETY: The mapping is valid, and so are its operations.
        let ops = unsafe { &*(*mapping).a_ops };
        let (Some(write_begin), Some(write_end)) = (ops.write_begin, ops.write_end) else {
            return Err(EINVAL);
        };
        // SAFETY: The mapping is valid.
        let largest = unsafe { bindings::mapping_max_folio_size(mapping) };
        let offset = pos as usize & (largest - 1);
        let len = from.len().min(largest - offset);
        let mut folio = core::ptr::null_mut();
        let mut data = core::ptr::null_mut();
        // SAFETY: This is what the kernel calls the operation with: the request, the mapping and what is to
        // be filled in are valid; the length is that of a part of a folio, which fits the type.
        to_result(unsafe {
            write_begin(
                kiocb, mapping, pos as i64, len as u32, &mut folio, &mut data,
            )
        })?;
        // SAFETY: `write_begin()` has returned a locked folio with byte `pos` of the file in it, and the
        // copy stops at its end. Page faults are not served while it is made.
        let (len, copied) = unsafe {
            let offset = (pos - bindings::folio_pos(folio) as u64) as usize;
            let len = len.min(bindings::folio_size(folio) - offset);
            let copied = bindings::copy_folio_from_iter_atomic(folio, offset, len, from.as_raw());
            (len, copied)
        };
        // SAFETY: This gives the folio back to the operations that it came from.
        let accepted = unsafe {
            write_end(
                kiocb,
                mapping,
                pos as i64,
                len as u32,
                copied as u32,
                folio,
                data,
            )
        };
        let count = usize::try_from(accepted).unwrap_or(0).min(copied);
        // SAFETY: The vector was moved on by what was copied.
        unsafe { bindings::iov_iter_revert(from.as_raw(), copied - count) };
        to_result(accepted.min(0))?;
        Ok(count)
    }

    /// Reads through the page cache. Moves the position and returns the count.
    ///
    /// # Errors
    ///
    /// Only if nothing was read; `EIOCBQUEUED` if the request goes on without the caller.
    pub fn read_from_page_cache(&mut self, to: &mut IovIterDest<'_>) -> Result<usize> {
        let kiocb = self.get()?;
        // SAFETY: Both are valid.
        let result = count_result(unsafe { bindings::filemap_read(kiocb, to.as_raw(), 0) });
        self.queued_if(result)
    }

    /// As [`Self::read_from_page_cache`], and asks `keep` afterwards whether what was read is of use. If not,
    /// nothing was read: the position and `to` are what they were, but that `to` ends where the largest
    /// file does, and the result is [`None`]. `keep` is not asked when there was nothing to read or an error.
    pub fn read_from_page_cache_if(
        &mut self,
        to: &mut IovIterDest<'_>,
        keep: impl FnOnce() -> bool,
    ) -> Option<Result<usize>> {
        let pos = self.pos();
        let flags = self.flags();
        let result = self.read_from_page_cache(to);
        let count = match result {
            Ok(count) if count > 0 && !keep() => count,
            result => return Some(result),
        };
        // SAFETY: The vector was moved on by what was read.
        unsafe { bindings::iov_iter_revert(to.as_raw(), count) };
        self.set_pos(pos);
        // A request that waits for pages must not do so any more once it has read something: here it has not.
        if let Ok(kiocb) = self.get() {
            // SAFETY: The request is valid.
            unsafe { (*kiocb).ki_flags = flags as i32 };
        }
        None
    }

    /// Ends a write of `count` bytes that went well: makes them durable if the request says so. The
    /// inode's lock must not be held.
    ///
    /// # Errors
    ///
    /// What `fsync` says.
    pub fn write_sync(&mut self, count: usize) -> Result<usize> {
        let kiocb = self.get()?;
        // SAFETY: The request is valid.
        count_result(unsafe { bindings::generic_write_sync(kiocb, count as isize) })
    }
}

/// Whether the address space operations have what `generic_perform_write()` calls.
fn has_write_operations<F: FileSystem>(inode: &Inode<F>) -> bool {
    // SAFETY: The inode is valid, and so are its operations, if only the kernel's empty ones.
    unsafe {
        let ops = (*inode.mapping_ptr()).a_ops;
        (*ops).write_begin.is_some() && (*ops).write_end.is_some()
    }
}

/// What the kernel crate's I/O vectors lack.
pub trait IovIterExt {
    /// The alignment that all addresses and lengths share, as a number with those bits clear that
    /// all have clear.
    fn alignment_bits(&mut self) -> usize;

    /// Shortens it to `count` bytes.
    fn shorten(&mut self, count: usize);
}

impl IovIterExt for IovIterSource<'_> {
    fn alignment_bits(&mut self) -> usize {
        // SAFETY: The vector is valid.
        unsafe { bindings::iov_iter_alignment(self.as_raw()) }
    }

    fn shorten(&mut self, count: usize) {
        // SAFETY: The vector is valid.
        unsafe { bindings::iov_iter_truncate(self.as_raw(), count as u64) };
    }
}

impl IovIterExt for IovIterDest<'_> {
    fn alignment_bits(&mut self) -> usize {
        // SAFETY: The vector is valid.
        unsafe { bindings::iov_iter_alignment(self.as_raw()) }
    }

    fn shorten(&mut self, count: usize) {
        // SAFETY: The vector is valid.
        unsafe { bindings::iov_iter_truncate(self.as_raw(), count as u64) };
    }
}

#[kunit_tests(vfs_kiocb)]
mod tests {
    use super::*;

    #[test]
    fn counts_do_not_exceed_what_was_asked_for() {
        assert_eq!(bounded_count(Ok(0), 0), 0);
        assert_eq!(bounded_count(Ok(4096), 4096), 4096);
        assert_eq!(bounded_count(Ok(4097), 4096), EIO.to_errno() as isize);
        assert_eq!(bounded_count(Ok(usize::MAX), 1), EIO.to_errno() as isize);
        assert_eq!(bounded_count(Err(ENOSPC), 4096), ENOSPC.to_errno() as isize);
    }

    #[test]
    fn a_request_is_queued_only_if_it_was() {
        // The kernel takes it for a bug of its own if a caller that waits is told so.
        let result = Err(EIOCBQUEUED);
        assert_eq!(bounded_count(result, 4096), EIO.to_errno() as isize);
    }
}
