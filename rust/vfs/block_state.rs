// SPDX-License-Identifier: GPL-2.0

//! The state of the blocks of one folio.
//!
//! A folio has one dirty and one up-to-date flag. When it holds several file system blocks that is
//! not enough: a write of one block must not read, nor later write, its neighbours. So such a folio
//! carries, in its `private` field, two bits for each block and the number of bytes of it that are
//! in flight.
//!
//! # Rules
//!
//! - The state is attached and detached with the folio locked. It is never detached while the
//!   folio is under writeback or being read. Its memory is freed after an RCU grace period, since
//!   [`dirty_folio`](crate::address_space) may look at it without the lock: it is called for pages that are
//!   mapped, and a large folio loses its state, when it is split, while it is.
//! - A folio without a state counts as one piece: all of it is as dirty and as up to date as its
//!   flags say.
//! - Up-to-date bits are only ever set, from any context; dirty bits are set from any context and
//!   cleared with the folio locked.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr::NonNull;

use ferrofs_bindings as bindings;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Full;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;
use kernel::sync::barrier::smp_mb;

const WORD_BITS: usize = u64::BITS as usize;

/// Bits of consecutive blocks that several contexts set and clear at the same time.
#[derive(Clone, Copy)]
struct Bits<'a> {
    words: &'a [Atomic<u64>],
    len: usize,
}

impl Bits<'_> {
    /// The masks that select the bits of `range`, each with its word.
    fn masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
        let words = range.start / WORD_BITS..range.end.div_ceil(WORD_BITS);
        words.map(move |word| {
            let first = word * WORD_BITS;
            let low = range.start.saturating_sub(first).min(WORD_BITS);
            let high = (range.end - first).min(WORD_BITS);
            let ones = if high - low == WORD_BITS {
                u64::MAX
            } else {
                ((1 << (high - low)) - 1) << low
            };
            (word, ones)
        })
    }

    fn update(&self, range: Range<usize>, change: impl Fn(u64, u64) -> u64) {
        debug_assert!(range.end <= self.len);
        if range.is_empty() {
            return;
        }
        for (word, mask) in Self::masks(range) {
            let word = &self.words[word];
            let mut old = word.load(Relaxed);
            while let Err(current) = word.cmpxchg(old, change(old, mask), Full) {
                old = current;
            }
        }
    }

    fn set(&self, range: Range<usize>) {
        self.update(range, |old, mask| old | mask);
    }

    fn clear(&self, range: Range<usize>) {
        self.update(range, |old, mask| old & !mask);
    }

    /// The first bit of `range` whose value is `value`.
    fn next(&self, range: Range<usize>, value: bool) -> Option<usize> {
        if range.start >= range.end {
            return None;
        }
        for (word, mask) in Self::masks(range) {
            let bits = self.words[word].load(Relaxed);
            let found = if value { bits } else { !bits } & mask;
            if found != 0 {
                return Some(word * WORD_BITS + found.trailing_zeros() as usize);
            }
        }
        None
    }

    /// The first run of bits in `range` whose value is `value`.
    fn next_run(&self, range: Range<usize>, value: bool) -> Option<Range<usize>> {
        let start = self.next(range.clone(), value)?;
        let end = self.next(start..range.end, !value).unwrap_or(range.end);
        Some(start..end)
    }

    fn all(&self) -> bool {
        self.next(0..self.len, false).is_none()
    }
}

/// What `folio->private` points to; the words with the bits follow it in memory.
#[repr(C)]
struct Header {
    /// For `kfree_rcu()`, which expects it here.
    _rcu: MaybeUninit<bindings::callback_head>,
    /// Number of blocks in the folio.
    blocks: usize,
    /// Binary logarithm of the block size.
    block_bits: u32,
    /// Bytes of the folio that a read has yet to settle.
    read_pending: Atomic<u32>,
    /// Bytes of the folio that a writeback has yet to settle.
    write_pending: Atomic<u32>,
}

const _: () = assert!(size_of::<Header>() % align_of::<Atomic<u64>>() == 0);

/// The state of the blocks of a folio.
///
/// # Invariants
///
/// `header` points to a live `Header` that is followed by two arrays of `words()` initialised words:
/// the up-to-date bits and the dirty bits. It stays so for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct BlockState<'a> {
    header: NonNull<Header>,
    _life: PhantomData<&'a Header>,
}

impl<'a> BlockState<'a> {
    /// Makes the state of a folio of `blocks` blocks of `1 << block_bits` bytes, all clean and none
    /// up to date. Without `nowait` this sleeps until there is memory.
    ///
    /// Returns [`None`] when `nowait` and there is no memory.
    fn make_header(blocks: usize, block_bits: u32, nowait: bool) -> Option<NonNull<Header>> {
        let words = 2 * blocks.div_ceil(WORD_BITS);
        let size = size_of::<Header>() + words * size_of::<Atomic<u64>>();
        // SAFETY: Takes any size.
        let header = unsafe { bindings::folio_state_alloc(size, nowait) };
        let header = NonNull::new(header.cast::<Header>())?;
        // SAFETY: The allocation is valid for writes of a `Header`. It is zeroed, so the words that
        // follow are initialised.
        unsafe {
            header.write(Header {
                _rcu: MaybeUninit::zeroed(),
                blocks,
                block_bits,
                read_pending: Atomic::new(0),
                write_pending: Atomic::new(0),
            })
        };
        Some(header)
    }

    /// The state that is attached to `folio`.
    ///
    /// # Safety
    ///
    /// `folio` must be a valid folio of a mapping that this crate drives, and its state must not be
    /// detached for `'a`, or `'a` must end with an RCU read-side critical section that the caller is in.
    pub(crate) unsafe fn of(folio: *mut bindings::folio) -> Option<Self> {
        // SAFETY: By this function's contract.
        let private = unsafe { bindings::folio_get_private(folio) };
        // INVARIANT: Only `attach` sets the private field of such a folio, to what `make_header` made.
        Some(Self {
            header: NonNull::new(private.cast())?,
            _life: PhantomData,
        })
    }

    /// Returns the state that is attached to `folio`, attaching one if there is none.
    ///
    /// Returns [`None`] for a folio of one block, and when `nowait` and there is no memory.
    ///
    /// # Safety
    ///
    /// As for [`Self::of`]; `folio` must be locked by the caller and in its mapping.
    pub(crate) unsafe fn attach(
        folio: *mut bindings::folio,
        block_bits: u32,
        nowait: bool,
    ) -> Option<Self> {
        // SAFETY: By this function's contract.
        if let Some(state) = unsafe { Self::of(folio) } {
            return Some(state);
        }
        // SAFETY: By this function's contract `folio` is valid.
        let blocks = unsafe { bindings::folio_size(folio) } >> block_bits;
        if blocks <= 1 {
            return None;
        }
        let header = Self::make_header(blocks, block_bits, nowait)?;
        // INVARIANT: `make_header` made the header, and the caller keeps it attached for `'a`.
        let state = Self {
            header,
            _life: PhantomData,
        };
        // SAFETY: `folio` is valid and, being locked by the caller, nobody else attaches a state.
        // It takes over the header, which `detach` frees.
        unsafe {
            if bindings::folio_test_uptodate(folio) {
                state.uptodate().set(0..blocks);
            }
            bindings::folio_attach_private(folio, header.as_ptr().cast());
        }
        // The folio may be dirtied by somebody who does not hold its lock and who did not see the
        // state yet. That context sets the flag first and then looks for a state again (see
        // `dirty_folio`), so one of the two sees the other.
        smp_mb(Full);
        // SAFETY: `folio` is valid.
        if unsafe { bindings::folio_test_dirty(folio) } {
            state.dirty().set(0..blocks);
        }
        Some(state)
    }

    /// Takes the state off `folio` and frees it.
    ///
    /// # Safety
    ///
    /// `folio` must be a valid folio of a mapping that this crate drives, locked by the caller,
    /// neither under writeback nor being read, and no `BlockState` of it may be used any more but by
    /// those who are in an RCU read-side critical section.
    pub(crate) unsafe fn detach(folio: *mut bindings::folio) {
        // SAFETY: By this function's contract the caller owns what is attached, if anything is, and it
        // came from `folio_state_alloc`, that is, from kmalloc. A `Header` begins with its RCU head.
        unsafe { bindings::folio_state_free(bindings::folio_detach_private(folio)) };
    }

    /// Where the state lies, to tell it from another one.
    pub(crate) fn address(&self) -> usize {
        self.header.as_ptr().addr()
    }

    fn header(&self) -> &Header {
        // SAFETY: By the type invariants.
        unsafe { self.header.as_ref() }
    }

    fn words(&self) -> usize {
        self.header().blocks.div_ceil(WORD_BITS)
    }

    fn bits(&self, which: usize) -> Bits<'a> {
        let words = self.words();
        // SAFETY: By the type invariants two arrays of `words` words follow the header.
        let array = unsafe {
            let first = self.header.add(1).cast::<Atomic<u64>>();
            core::slice::from_raw_parts(first.as_ptr().add(which * words), words)
        };
        Bits {
            words: array,
            len: self.header().blocks,
        }
    }

    fn uptodate(&self) -> Bits<'a> {
        self.bits(0)
    }

    fn dirty(&self) -> Bits<'a> {
        self.bits(1)
    }

    /// The blocks that `bytes` touches.
    fn touched(&self, bytes: Range<usize>) -> Range<usize> {
        let header = self.header();
        let last = bytes.end.div_ceil(1 << header.block_bits);
        bytes.start >> header.block_bits..last.min(header.blocks)
    }

    /// The blocks that lie in `bytes` entirely.
    fn covered(&self, bytes: Range<usize>) -> Range<usize> {
        let header = self.header();
        let end = (bytes.end >> header.block_bits).min(header.blocks);
        bytes.start.div_ceil(1 << header.block_bits).min(end)..end
    }

    fn bytes(&self, blocks: Range<usize>) -> Range<usize> {
        let bits = self.header().block_bits;
        blocks.start << bits..blocks.end << bits
    }

    /// Marks the blocks that `bytes` touches as up to date.
    pub(crate) fn set_uptodate(&self, bytes: Range<usize>) {
        self.uptodate().set(self.touched(bytes));
    }

    /// Whether all blocks are up to date.
    pub(crate) fn all_uptodate(&self) -> bool {
        self.uptodate().all()
    }

    /// Whether the blocks that `bytes` touches are up to date.
    pub(crate) fn is_uptodate(&self, bytes: Range<usize>) -> bool {
        self.uptodate().next(self.touched(bytes), false).is_none()
    }

    /// The first run of blocks in `bytes` that are not up to date, in bytes.
    pub(crate) fn next_not_uptodate(&self, bytes: Range<usize>) -> Option<Range<usize>> {
        let run = self.uptodate().next_run(self.touched(bytes), false)?;
        Some(self.bytes(run))
    }

    /// Marks the blocks that `bytes` touches as dirty.
    pub(crate) fn set_dirty(&self, bytes: Range<usize>) {
        self.dirty().set(self.touched(bytes));
    }

    /// Marks the blocks that lie in `bytes` entirely as clean.
    pub(crate) fn clear_dirty(&self, bytes: Range<usize>) {
        self.dirty().clear(self.covered(bytes));
    }

    /// The first run of dirty blocks in `bytes`, in bytes.
    pub(crate) fn next_dirty(&self, bytes: Range<usize>) -> Option<Range<usize>> {
        let run = self.dirty().next_run(self.touched(bytes), true)?;
        Some(self.bytes(run))
    }

    /// Begins a read: `len` bytes are to be settled.
    pub(crate) fn begin_read(&self, len: usize) {
        self.header().read_pending.store(len as u32, Relaxed);
    }

    /// Settles `len` bytes of a read; true when they were the last.
    pub(crate) fn settle_read(&self, len: usize) -> bool {
        let before = self.header().read_pending.fetch_sub(len as u32, Full);
        before == len as u32
    }

    /// Begins a writeback: `len` bytes are to be settled.
    pub(crate) fn begin_write(&self, len: usize) {
        self.header().write_pending.store(len as u32, Relaxed);
    }

    /// Settles `len` bytes of a writeback; true when they were the last.
    pub(crate) fn settle_write(&self, len: usize) -> bool {
        let before = self.header().write_pending.fetch_sub(len as u32, Full);
        before == len as u32
    }
}

#[kunit_tests(vfs_block_state)]
mod tests {
    use super::*;

    /// A state that belongs to no folio.
    struct Loose(NonNull<Header>);

    impl Loose {
        fn new(blocks: usize) -> Self {
            Loose(BlockState::make_header(blocks, 10, false).expect("waits until there is memory"))
        }

        fn state(&self) -> BlockState<'_> {
            // INVARIANT: `make_header` made the header, which lives as long as `self`.
            BlockState {
                header: self.0,
                _life: PhantomData,
            }
        }
    }

    impl Drop for Loose {
        fn drop(&mut self) {
            // SAFETY: The header came from kmalloc and `self` owns it.
            unsafe { bindings::kfree(self.0.as_ptr().cast()) };
        }
    }

    #[test]
    fn fresh_state_is_clean_and_empty() {
        let loose = Loose::new(64);
        let state = loose.state();
        assert!(!state.all_uptodate());
        assert_eq!(state.next_dirty(0..64 << 10), None);
        assert_eq!(state.next_not_uptodate(0..64 << 10), Some(0..64 << 10));
    }

    #[test]
    fn dirty_rounds_out_and_clean_rounds_in() {
        let loose = Loose::new(16);
        let state = loose.state();
        state.set_dirty(1500..2049);
        assert_eq!(state.next_dirty(0..16 << 10), Some(1024..3072));
        state.clear_dirty(1500..3072);
        assert_eq!(state.next_dirty(0..16 << 10), Some(1024..2048));
        state.clear_dirty(1024..2047);
        assert_eq!(state.next_dirty(0..16 << 10), Some(1024..2048));
        state.clear_dirty(0..2048);
        assert_eq!(state.next_dirty(0..16 << 10), None);
    }

    #[test]
    fn runs_cross_words() {
        let loose = Loose::new(200);
        let state = loose.state();
        state.set_dirty(60 << 10..140 << 10);
        assert_eq!(state.next_dirty(0..200 << 10), Some(60 << 10..140 << 10));
        assert_eq!(
            state.next_dirty(100 << 10..200 << 10),
            Some(100 << 10..140 << 10)
        );
        assert_eq!(state.next_dirty(140 << 10..200 << 10), None);
        state.clear_dirty(64 << 10..128 << 10);
        assert_eq!(state.next_dirty(0..200 << 10), Some(60 << 10..64 << 10));
        assert_eq!(
            state.next_dirty(64 << 10..200 << 10),
            Some(128 << 10..140 << 10)
        );
    }

    #[test]
    fn all_uptodate_needs_every_block() {
        let loose = Loose::new(65);
        let state = loose.state();
        state.set_uptodate(0..64 << 10);
        assert!(!state.all_uptodate());
        assert!(state.is_uptodate(10..64 << 10));
        assert!(!state.is_uptodate(10..(64 << 10) + 1));
        assert_eq!(
            state.next_not_uptodate(0..65 << 10),
            Some(64 << 10..65 << 10)
        );
        state.set_uptodate(64 << 10..65 << 10);
        assert!(state.all_uptodate());
        assert_eq!(state.next_not_uptodate(0..65 << 10), None);
    }

    #[test]
    fn ranges_past_the_folio_are_cut() {
        let loose = Loose::new(3);
        let state = loose.state();
        state.set_uptodate(2048..1 << 20);
        assert_eq!(state.next_not_uptodate(0..1 << 20), Some(0..2048));
        state.set_dirty(0..1 << 20);
        state.clear_dirty(1 << 20..2 << 20);
        assert_eq!(state.next_dirty(0..1 << 20), Some(0..3072));
    }

    #[test]
    fn the_last_byte_settles() {
        let loose = Loose::new(4);
        let state = loose.state();
        state.begin_write(4096);
        assert!(!state.settle_write(1024));
        assert!(!state.settle_write(2048));
        assert!(state.settle_write(1024));
        state.begin_read(4096);
        assert!(state.settle_read(4096));
    }
}
