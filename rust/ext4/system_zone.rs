// SPDX-License-Identifier: GPL-2.0

//! The blocks that belong to no file.
//!
//! A file whose map leads to a bitmap or an inode table, by an error or by malice, would let a write to
//! the file change the filesystem itself. So what a map says is compared with the *system zone*: all
//! blocks of superblocks, descriptors, bitmaps and inode tables, and of the journal, as a sorted list
//! of ranges. With `flex_bg` there are few, as most of them touch each other:
//!
//! ```text
//! | super | descriptors | reserved | bitmaps of 16 groups | inode tables of 16 groups | data ...
//! |<---------------------------- one range ---------------------------------------->|
//! ```
//!
//! The list is in memory of the caller's, who fills it with
//! [`GroupDesc::meta_ranges`](crate::group_desc::GroupDesc::meta_ranges) of every group, four at most
//! for each.

use core::ops::Range;

use crate::sort::sort_by_key;
use crate::BlockCount;
use crate::PhysicalBlock;

/// A range of blocks, never empty in a list that [`merge`] has put in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct BlockRange {
    /// The first block.
    pub start: u64,
    /// The block after the last one.
    pub end: u64,
}

impl From<Range<u64>> for BlockRange {
    fn from(range: Range<u64>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

/// Sorts ranges and merges those that touch or overlap. What is left stands at the front of the slice;
/// gives how many ranges that are. Empty ones are dropped.
pub fn merge(ranges: &mut [BlockRange]) -> usize {
    sort_by_key(ranges, |range| *range);
    let mut merged: usize = 0;
    for index in 0..ranges.len() {
        let range = ranges[index];
        if range.start >= range.end {
            continue;
        }
        match merged.checked_sub(1).and_then(|last| ranges.get_mut(last)) {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => {
                // `merged` is at most `index`: nothing is overwritten that was not looked at.
                ranges[merged] = range;
                merged += 1;
            }
        }
    }
    merged
}

/// The first range of a merged list that has a block in common with the `count` blocks from `start`
/// on; `None` when there is none, which is as it should be.
pub fn find_overlap(
    zone: &[BlockRange],
    start: PhysicalBlock,
    count: BlockCount,
) -> Option<BlockRange> {
    let end = start.get().saturating_add(count.get());
    // Ends are in order as well, so this is the first range that does not lie before `start`.
    let index = zone.partition_point(|range| range.end <= start.get());
    zone.get(index)
        .copied()
        .filter(|range| range.start < end && start.get() < end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Image;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn zone(options: &[&str]) -> (Image, Vec<BlockRange>) {
        let image = Image::make(options, 40_000);
        let geometry = image.validate().geometry;
        let mut ranges: Vec<BlockRange> = geometry
            .groups()
            .flat_map(|group| {
                image
                    .desc(&geometry, group)
                    .meta_ranges(&geometry, group)
                    .map(BlockRange::from)
            })
            .collect();
        let count = merge(&mut ranges);
        ranges.truncate(count);
        (image, ranges)
    }

    #[test]
    fn the_zone_of_a_real_disk() {
        let (mut image, zone) = zone(&["-t", "ext4", "-b", "1024"]);
        // One for the flex group, and the copies of superblock and descriptors.
        assert_eq!(zone[0].start, 1);
        assert!(zone.len() <= 3, "{zone:?}");
        let root = image.debugfs(&["blocks <2>"]);
        let journal = image.debugfs(&["bmap <8> 0"]);
        for text in [root, journal] {
            let block: u64 = text.split_whitespace().last().unwrap().parse().unwrap();
            let start = PhysicalBlock::new(block);
            assert_eq!(find_overlap(&zone, start, BlockCount::new(1)), None);
            let whole = find_overlap(&zone, PhysicalBlock::ZERO, BlockCount::new(block));
            assert_eq!(whole, Some(zone[0]));
        }
    }

    proptest! {
        #[test]
        fn lists_agree_with_the_model(
            ranges in prop::collection::vec((0..200u64, 0..20u64), 0..30),
            start in 0..250u64,
            count in 0..30u64,
        ) {
            let mut model = std::vec![false; 300];
            let mut list: Vec<BlockRange> = Vec::new();
            for (start, length) in ranges {
                model[start as usize..][..length as usize].fill(true);
                list.push((start..start + length).into());
            }
            let merged = merge(&mut list);
            list.truncate(merged);
            prop_assert!(list.windows(2).all(|pair| pair[0].end < pair[1].start));
            for (block, used) in model.iter().enumerate() {
                let found = list.iter().any(|range| (range.start..range.end).contains(&(block as u64)));
                prop_assert_eq!(found, *used);
            }
            let overlap = find_overlap(&list, PhysicalBlock::new(start), BlockCount::new(count));
            let expected = (start..start + count).any(|block| model[block as usize]);
            prop_assert_eq!(overlap.is_some(), expected);
        }

        #[test]
        fn the_ends_of_the_numbers(start: u64, count: u64) {
            let list = [BlockRange { start: 0, end: u64::MAX }];
            let found = find_overlap(&list, PhysicalBlock::new(start), BlockCount::new(count));
            prop_assert_eq!(found.is_some(), count > 0 && start < u64::MAX);
        }
    }
}
