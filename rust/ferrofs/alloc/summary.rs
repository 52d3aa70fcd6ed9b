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

#[kunit_tests(ferrofs_summary)]
mod tests {
    use super::*;

    /// A group of `count` blocks in which those of `used` are used, and every bit behind the last block.
    fn summary(count: u32, used: &[Range<u32>]) -> Result<Summary> {
        let mut bytes = KVVec::from_elem(0, count.div_ceil(64) as usize * 8, GFP_KERNEL)?;
        let size = bytes.len() as u32 * 8;
        let mut all = Bitmap::new(&mut bytes[..], size).ok_or(EINVAL)?;
        all.allocate(count, size - count).map_err(|_| EINVAL)?;
        for range in used {
            all.allocate(range.start, range.end - range.start)
                .map_err(|_| EINVAL)?;
        }
        Summary::new(&bytes, count)
    }

    fn request(goal: u32, wanted: u32, least: u32) -> Request {
        Request {
            goal,
            continues: false,
            wanted,
            least,
        }
    }

    /// Takes the best run for a request.
    fn take(summary: &mut Summary, request: Request) -> Option<Range<u32>> {
        let found = summary.find(&request)?;
        summary.mark_used(found.clone()).ok()?;
        Some(found)
    }

    #[test]
    fn a_group_is_used_up_block_by_block() -> Result {
        // It ends in the middle of a word, and not at a byte.
        let mut summary = summary(131, &[])?;
        assert_eq!(
            (summary.free_count(), summary.largest_order()),
            (131, Some(7))
        );
        // From the last block on, and then around.
        let mut at = 130;
        for left in (0..131).rev() {
            assert_eq!(take(&mut summary, request(at, 1, 1)), Some(at..at + 1));
            assert_eq!(summary.free_count(), left);
            at = (at + 1) % 131;
        }
        assert_eq!((summary.free_count(), summary.largest_order()), (0, None));
        assert!(!summary.is_free(0) && !summary.is_free(130));
        assert_eq!(take(&mut summary, request(0, 1, 1)), None);
        // And free again, from both ends to the middle.
        for bits in [0..64, 65..131, 64..65] {
            assert!(summary.mark_free(bits).is_ok());
        }
        assert_eq!(take(&mut summary, request(60, 131, 131)), Some(0..131));
        Ok(())
    }

    #[test]
    fn the_goal_goes_before_the_first_that_fits() -> Result {
        // Free: 0..10, 62..66 across words, 100..128.
        let used = [10..62, 66..100];
        let mut group = summary(128, &used)?;
        assert_eq!(take(&mut group, request(62, 4, 4)), Some(62..66));
        let mut group = summary(128, &used)?;
        // What is wanted ends with the group.
        assert_eq!(take(&mut group, request(120, 8, 8)), Some(120..128));
        assert_eq!(group.find(&request(110, 8, 8)), Some(110..118));
        // It does not fit at the goal: the first behind it, and then those before.
        let group = summary(128, &used)?;
        assert_eq!(group.find(&request(62, 8, 8)), Some(100..108));
        assert_eq!(group.find(&request(120, 10, 10)), Some(100..110));
        assert_eq!(group.find(&request(127, 29, 8)), Some(100..128));
        assert_eq!(group.find(&request(127, 29, 29)), None);
        // A goal outside of the group is as good as none.
        assert_eq!(group.find(&request(u32::MAX, 4, 4)), Some(0..4));
        Ok(())
    }

    #[test]
    fn what_continues_an_extent_may_be_short() -> Result {
        let group = summary(128, &[10..62, 66..100])?;
        let continues = |goal, least| Request {
            continues: true,
            ..request(goal, 8, least)
        };
        assert_eq!(group.find(&continues(64, 1)), Some(64..66));
        assert_eq!(group.find(&continues(64, 3)), Some(100..108));
        // Nothing is free there.
        assert_eq!(group.find(&continues(66, 1)), Some(100..108));
        Ok(())
    }

    #[test]
    fn a_contradiction_changes_nothing() -> Result {
        let mut group = summary(128, &[10..62, 66..100])?;
        let state = |group: &Summary| (group.free_count(), group.largest_order());
        let before = state(&group);
        for bits in [9..11, 61..63, 65..67, 127..129, 128..129, 10..11] {
            assert!(group.mark_used(bits).is_err());
        }
        for bits in [61..63, 99..101, 9..11, 127..128, 128..130] {
            assert!(group.mark_free(bits).is_err());
        }
        assert_eq!(state(&group), before);
        assert!(group.is_free(9) && group.is_free(62) && group.is_free(127));
        assert!(!group.is_free(10) && !group.is_free(61) && !group.is_free(99));
        Ok(())
    }

    #[test]
    fn it_is_a_copy_of_the_bitmap() -> Result {
        let bytes = [0; 8];
        let mut group = Summary::new(&bytes, 64)?;
        assert_eq!(take(&mut group, request(0, 64, 64)), Some(0..64));
        assert_eq!(bytes, [0; 8]);
        // One that is too short for its group is refused.
        assert!(Summary::new(&bytes, 65).is_err());
        Ok(())
    }
}
