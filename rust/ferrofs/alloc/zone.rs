// SPDX-License-Identifier: GPL-2.0

//! The system zone: blocks at fixed places that belong to no file.
//!
//! On a damaged disk a file can claim the blocks of a bitmap or an inode table. Each mapping that is read
//! from the disk is checked against this list, so that no write of data lands on them.

use core::ops::Range;

use kernel::prelude::*;

/// Disjoint ranges of blocks, in order.
pub(super) struct Zone(KVVec<Range<u64>>);

impl Zone {
    /// Whether a block of `range` is in the zone.
    pub(super) fn overlaps(&self, range: Range<u64>) -> bool {
        !range.is_empty() && !self.in_range(range).is_empty()
    }

    /// The ranges with blocks in `range`.
    pub(super) fn in_range(&self, range: Range<u64>) -> &[Range<u64>] {
        let first = self.0.partition_point(|zone| zone.end <= range.start);
        let rest = self.0.get(first..).unwrap_or(&[]);
        let count = rest.partition_point(|zone| zone.start < range.end);
        rest.get(..count).unwrap_or(&[])
    }
}

/// Gathers the ranges.
pub(super) struct Builder(KVVec<Range<u64>>);

impl Builder {
    pub(super) fn new() -> Self {
        Self(KVVec::new())
    }

    /// Adds a range, which may be empty or overlap others.
    pub(super) fn add(&mut self, range: Range<u64>) -> Result {
        if range.is_empty() {
            return Ok(());
        }
        // The metadata of neighbouring groups mostly lies side by side.
        if let Some(last) = self.0.last_mut() {
            if last.start <= range.start && range.start <= last.end {
                last.end = last.end.max(range.end);
                return Ok(());
            }
        }
        self.0.push(range, GFP_KERNEL)?;
        Ok(())
    }

    /// Sorts and joins the ranges.
    pub(super) fn finish(mut self) -> Zone {
        self.0.sort_unstable_by_key(|range| range.start);
        let mut kept = 0;
        for index in 1..self.0.len() {
            let range = self.0[index].clone();
            if range.start <= self.0[kept].end {
                self.0[kept].end = self.0[kept].end.max(range.end);
            } else {
                kept += 1;
                self.0[kept] = range;
            }
        }
        let length = (kept + 1).min(self.0.len());
        self.0.truncate(length);
        Zone(self.0)
    }
}

#[kunit_tests(ferrofs_system_zone)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_joined() -> Result {
        let mut builder = Builder::new();
        for range in [50..60, 60..70, 10..20, 15..18, 19..30] {
            builder.add(range)?;
        }
        let zone = builder.finish();
        assert_eq!(zone.0.len(), 2);
        assert!(zone.overlaps(29..30));
        assert!(!zone.overlaps(30..50));
        assert!(zone.overlaps(0..100));
        assert!(!zone.overlaps(65..65));
        assert_eq!(zone.in_range(25..55).len(), 2);
        Ok(())
    }

    #[test]
    fn an_empty_zone_has_no_blocks() {
        assert!(!Builder::new().finish().overlaps(0..u64::MAX));
    }
}
