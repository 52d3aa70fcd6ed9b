// SPDX-License-Identifier: GPL-2.0

//! Bitmaps: which clusters, or which inodes, of a group are in use.
//!
//! Bit `n` is bit `n % 8` of byte `n / 8`; 1 means in use. A bitmap takes one block, whose bits beyond
//! those of the group are set:
//!
//! ```text
//! a group of 20 clusters in the first bytes of a block
//! byte  0        1        2        3        4
//!       11111111 10110000 11110000 11111111 11111111 ...      bit 0 on the left
//!                 ^   ^^^^    ^ bit 20: padding from here on
//!                 |   free
//!                 free
//! ```
//!
//! A [`Bitmap`] is such a block together with the number of bits that mean something. Its bytes are
//! `&[u8]` or `&mut [u8]`, wherever they lie. All searches go by 64 bits at a time.
//!
//! What is wrong with a bitmap, and an allocation or a release that contradicts it, is a
//! [`BitmapError`]. Checksums of bitmaps are kept in the [group descriptor](crate::group_desc).
//!
//! Source: `Documentation/filesystems/ext4/bitmaps.rst`.

mod layout;

#[cfg(test)]
mod tests;

use core::fmt;
use core::ops::Range;

pub use layout::check_block_bitmap;
pub use layout::check_inode_bitmap;
pub use layout::init_block_bitmap;
pub use layout::init_inode_bitmap;

/// What is wrong with a bitmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The sentences are below, in `Display`.
pub enum BitmapError {
    Checksum(crate::checksum::BadChecksum),
    OutOfRange { start: u32, count: u32, bits: u32 },
    AlreadyUsed { bit: u32 },
    AlreadyFree { bit: u32 },
    Padding { bit: u32 },
    MetadataFree { block: u64 },
    FreeCount { found: u32, expected: u32 },
}

impl fmt::Display for BitmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Checksum(bad) => write!(f, "bitmap {bad}"),
            Self::OutOfRange { start, count, bits } => {
                write!(f, "{count} bits from {start} on in a bitmap of {bits}")
            }
            Self::AlreadyUsed { bit } => write!(f, "bit {bit} is already in use"),
            Self::AlreadyFree { bit } => write!(f, "bit {bit} is already free"),
            Self::Padding { bit } => write!(f, "bit {bit}, beyond the end, is not set"),
            Self::MetadataFree { block } => write!(f, "metadata block {block} is marked as free"),
            Self::FreeCount { found, expected } => {
                write!(f, "{found} bits are free, the descriptor says {expected}")
            }
        }
    }
}

impl core::error::Error for BitmapError {}

/// A run of equal bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first bit.
    pub start: u32,
    /// How many bits: at least one.
    pub count: u32,
}

impl Run {
    /// The bit after the last one.
    pub const fn end(&self) -> u32 {
        self.start + self.count
    }
}

/// A bitmap: a view of a block.
///
/// # Invariants
///
/// `bits <= 8 * bytes.len()`.
#[derive(Clone, Copy)]
pub struct Bitmap<B> {
    bytes: B,
    bits: u32,
}

impl<B: AsRef<[u8]>> Bitmap<B> {
    /// A view of the first `bits` bits of `bytes`; `None` when there are fewer.
    pub fn new(bytes: B, bits: u32) -> Option<Self> {
        // INVARIANT: Just checked.
        (bits as usize <= bytes.as_ref().len().checked_mul(8)?).then_some(Self { bytes, bits })
    }

    /// How many bits mean something.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The 64 bits from `64 * index` on. Bits beyond the end of the bytes read as 0.
    #[inline]
    fn word(&self, index: usize) -> u64 {
        let rest = self.bytes.as_ref().get(index * 8..).unwrap_or(&[]);
        match rest.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            // The end of a bitmap of an odd number of bytes.
            None => rest
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u64::from(*byte)),
        }
    }

    /// Whether a bit is set. What lies beyond the end counts as set.
    pub fn is_set(&self, bit: u32) -> bool {
        bit >= self.bits || self.word(bit as usize / 64) >> (bit % 64) & 1 == 1
    }

    /// The first bit of `range` that is set (`value`) or clear (`!value`).
    fn find(&self, range: Range<u32>, value: bool) -> Option<u32> {
        let end = range.end.min(self.bits);
        let mut bit = range.start;
        while bit < end {
            let word = self.word(bit as usize / 64);
            let wanted = if value { word } else { !word } >> (bit % 64);
            if wanted != 0 {
                let found = bit + wanted.trailing_zeros();
                return (found < end).then_some(found);
            }
            bit = bit / 64 * 64 + 64;
        }
        None
    }

    /// The last bit of `range` that is set (`value`) or clear (`!value`).
    fn find_last(&self, range: Range<u32>, value: bool) -> Option<u32> {
        let mut end = range.end.min(self.bits);
        while end > range.start {
            let last = end - 1;
            let word = self.word(last as usize / 64);
            let wanted = if value { word } else { !word } << (63 - last % 64);
            if wanted != 0 {
                let distance = wanted.leading_zeros();
                return last.checked_sub(distance).filter(|bit| *bit >= range.start);
            }
            end = last / 64 * 64;
        }
        None
    }

    /// The first bit of `range` that is set.
    pub fn next_set(&self, range: Range<u32>) -> Option<u32> {
        self.find(range, true)
    }

    /// The first bit of `range` that is clear.
    pub fn next_clear(&self, range: Range<u32>) -> Option<u32> {
        self.find(range, false)
    }

    /// The first run of clear bits in `range`, cut off at its ends.
    pub fn next_free_run(&self, range: Range<u32>) -> Option<Run> {
        let end = range.end.min(self.bits);
        let start = self.next_clear(range.start..end)?;
        let stop = self.next_set(start..end).unwrap_or(end);
        Some(Run {
            start,
            count: stop - start,
        })
    }

    /// All runs of clear bits in `range`, in order, cut off at its ends.
    pub fn free_runs(&self, range: Range<u32>) -> impl Iterator<Item = Run> + '_ {
        let mut left = range;
        core::iter::from_fn(move || {
            let run = self.next_free_run(left.clone())?;
            left.start = run.end();
            Some(run)
        })
    }

    /// The whole run of clear bits that `bit` is in; `None` when it is set.
    pub fn free_run_around(&self, bit: u32) -> Option<Run> {
        if self.is_set(bit) {
            return None;
        }
        let start = self.find_last(0..bit, true).map_or(0, |set| set + 1);
        let end = self.next_set(bit..self.bits).unwrap_or(self.bits);
        Some(Run {
            start,
            count: end - start,
        })
    }

    /// How many bits of `range` are clear.
    pub fn count_free(&self, range: Range<u32>) -> u32 {
        let end = range.end.min(self.bits);
        let mut bit = range.start;
        let mut free = 0;
        while bit < end {
            let clear = !self.word(bit as usize / 64) >> (bit % 64);
            let here = (64 - bit % 64).min(end - bit);
            let mask = u64::MAX >> (64 - here);
            free += (clear & mask).count_ones();
            bit += here;
        }
        free
    }

    fn check_range(&self, start: u32, count: u32) -> Result<Range<u32>, BitmapError> {
        match start.checked_add(count) {
            Some(end) if end <= self.bits => Ok(start..end),
            _ => Err(BitmapError::OutOfRange {
                start,
                count,
                bits: self.bits,
            }),
        }
    }

    /// Checks that `count` bits from `start` on exist and are clear.
    pub fn check_free(&self, start: u32, count: u32) -> Result<(), BitmapError> {
        match self.next_set(self.check_range(start, count)?) {
            Some(bit) => Err(BitmapError::AlreadyUsed { bit }),
            None => Ok(()),
        }
    }

    /// Checks that `count` bits from `start` on exist and are set.
    pub fn check_used(&self, start: u32, count: u32) -> Result<(), BitmapError> {
        match self.next_clear(self.check_range(start, count)?) {
            Some(bit) => Err(BitmapError::AlreadyFree { bit }),
            None => Ok(()),
        }
    }

    /// Checks that all bits of the block beyond those that mean something are set.
    pub fn check_padding(&self) -> Result<(), BitmapError> {
        let bytes = self.bytes.as_ref();
        let all = u32::try_from(bytes.len() * 8).unwrap_or(u32::MAX);
        let whole = Bitmap { bytes, bits: all };
        match whole.next_clear(self.bits..all) {
            Some(bit) => Err(BitmapError::Padding { bit }),
            None => Ok(()),
        }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Bitmap<B> {
    /// Sets or clears the bits of a range that was checked.
    fn fill(&mut self, range: Range<u32>, value: bool) {
        let bytes = self.bytes.as_mut();
        let mut bit = range.start;
        while bit < range.end {
            let index = bit as usize / 8;
            let here = (8 - bit % 8).min(range.end - bit);
            if here == 8 {
                // All the whole bytes at once.
                let whole = (range.end - bit) / 8;
                if let Some(bytes) = bytes.get_mut(index..index + whole as usize) {
                    bytes.fill(if value { 0xff } else { 0 });
                }
                bit += whole * 8;
                continue;
            }
            let mask = (0xff_u8 >> (8 - here)) << (bit % 8);
            if let Some(byte) = bytes.get_mut(index) {
                *byte = if value { *byte | mask } else { *byte & !mask };
            }
            bit += here;
        }
    }

    /// Marks `count` bits from `start` on as used.
    ///
    /// # Errors
    ///
    /// When one of them is used already, or does not exist; nothing is changed then.
    pub fn allocate(&mut self, start: u32, count: u32) -> Result<(), BitmapError> {
        self.check_free(start, count)?;
        self.fill(start..start + count, true);
        Ok(())
    }

    /// Marks `count` bits from `start` on as free.
    ///
    /// # Errors
    ///
    /// When one of them is free already, or does not exist; nothing is changed then.
    pub fn release(&mut self, start: u32, count: u32) -> Result<(), BitmapError> {
        self.check_used(start, count)?;
        self.fill(start..start + count, false);
        Ok(())
    }

    /// Marks `count` bits from `start` on as used, whatever they were. What lies beyond the end is
    /// left out.
    pub fn mark_used(&mut self, start: u32, count: u32) {
        let end = start.saturating_add(count).min(self.bits);
        self.fill(start..end, true);
    }

    /// Sets all bits of the block beyond those that mean something.
    pub fn set_padding(&mut self) {
        let all = u32::try_from(self.bytes.as_ref().len() * 8).unwrap_or(u32::MAX);
        self.fill(self.bits..all, true);
    }
}
