// SPDX-License-Identifier: GPL-2.0

//! The free runs of one group, in memory.

use core::ops::Range;

use ext4::bitmap::Bitmap;
use ext4::bitmap::BitmapError;
use ext4::free_space::FreeSummary;
use ext4::free_space::Request;
use kernel::prelude::*;

/// Bytes of our own, in the form that bitmaps want.
struct Bytes(KVVec<u8>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Bytes {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The block bitmap of a group as far as allocating is concerned, and what is free in it in numbers.
///
/// It differs from the one on disk in the blocks that are free but wait for a commit: here they are used.
pub(super) struct Summary {
    bits: Bitmap<Bytes>,
    free: FreeSummary,
}

impl Summary {
    /// Takes in the bitmap of a group of `count` blocks.
    pub(super) fn new(bytes: &[u8], count: u32) -> Result<Self> {
        let mut copy = KVVec::with_capacity(bytes.len(), GFP_KERNEL)?;
        copy.extend_from_slice(bytes, GFP_KERNEL)?;
        let bits = Bitmap::new(Bytes(copy), count).ok_or(EINVAL)?;
        Ok(Self {
            free: FreeSummary::from_bitmap(&bits),
            bits,
        })
    }

    /// How many blocks are free.
    pub(super) fn free_count(&self) -> u32 {
        self.free.free()
    }

    /// The logarithm of the length of the longest run; `None` when nothing is free.
    pub(super) fn largest_order(&self) -> Option<u32> {
        self.free.largest_order()
    }

    /// Whether a block is free.
    pub(super) fn is_free(&self, bit: u32) -> bool {
        !self.bits.is_set(bit)
    }

    /// The best run for a request.
    pub(super) fn find(&self, request: &Request) -> Option<Range<u32>> {
        let run = self.free.find(&self.bits, request)?;
        Some(run.start..run.end())
    }

    /// Marks blocks as used, all of which must be free.
    pub(super) fn mark_used(&mut self, range: Range<u32>) -> Result<(), BitmapError> {
        let count = range.end - range.start;
        self.free.allocate(&mut self.bits, range.start, count)
    }

    /// Marks blocks as free, all of which must be used.
    pub(super) fn mark_free(&mut self, range: Range<u32>) -> Result<(), BitmapError> {
        let count = range.end - range.start;
        self.free.release(&mut self.bits, range.start, count)
    }
}
