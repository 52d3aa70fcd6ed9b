// SPDX-License-Identifier: GPL-2.0

use std::collections::HashSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Bytes in which runs of zeroes and ones are as likely as noise.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0), Just(0xff), any::<u8>()];
    prop::collection::vec(byte, 1..64)
}

fn request(goal: u32, continues: bool, wanted: u32, least: u32) -> Request {
    Request {
        goal,
        continues,
        wanted,
        least,
    }
}

#[test]
fn the_example_of_the_documentation() {
    let mut bytes = [0xff; 16];
    let mut bitmap = Bitmap::new(&mut bytes, 128).unwrap();
    let mut summary = FreeSummary::from_bitmap(&bitmap);
    assert_eq!(summary, FreeSummary::full());
    let mut start = 0;
    for count in [3, 1, 70, 2, 5] {
        summary.release(&mut bitmap, start, count).unwrap();
        start += count + 1;
    }
    assert_eq!(summary.free(), 81);
    assert_eq!(summary.run_count(), 5);
    assert_eq!(summary.runs()[..7], [1, 2, 1, 0, 0, 0, 1]);
    assert_eq!(summary.largest_order(), Some(6));
    assert_eq!(summary.fit(64), Fit::Certain);
    assert_eq!(summary.fit(65), Fit::Possible);
    assert_eq!(summary.fit(127), Fit::Possible);
    assert_eq!(summary.fit(128), Fit::Impossible);
    assert_eq!(FreeSummary::full().fit(1), Fit::Impossible);
}

#[test]
fn the_largest_bitmap() {
    let mut bytes = std::vec![0; 65536];
    let mut bitmap = Bitmap::new(&mut bytes, 524_288).unwrap();
    let mut summary = FreeSummary::from_bitmap(&bitmap);
    assert_eq!(summary.largest_order(), Some(19));
    summary.allocate(&mut bitmap, 262_144, 1).unwrap();
    assert_eq!(summary, FreeSummary::from_bitmap(&bitmap));
}

#[test]
fn where_things_go() {
    // Free: 8..16, 24..28, 40..64.
    let mut bytes = [0xff, 0x00, 0xff, 0xf0, 0xff, 0x00, 0x00, 0x00];
    let bitmap = Bitmap::new(&mut bytes, 64).unwrap();
    let summary = FreeSummary::from_bitmap(&bitmap);
    let find = |goal, continues, wanted, least| {
        let run = summary.find(&bitmap, &request(goal, continues, wanted, least))?;
        Some((run.start, run.count))
    };
    // At the goal, if all fits or something continues there.
    assert_eq!(find(10, false, 6, 1), Some((10, 6)));
    assert_eq!(find(14, true, 6, 1), Some((14, 2)));
    assert_eq!(find(14, true, 6, 3), Some((8, 6)));
    // Around the goal, then behind it, then before it.
    assert_eq!(find(12, false, 8, 1), Some((8, 8)));
    assert_eq!(find(16, false, 4, 1), Some((24, 4)));
    assert_eq!(find(16, false, 5, 1), Some((40, 5)));
    assert_eq!(find(64, false, 5, 1), Some((8, 5)));
    assert_eq!(find(1000, false, 5, 1), Some((8, 5)));
    // The longest if nothing is long enough, and nothing if that is too short.
    assert_eq!(find(0, false, 100, 1), Some((40, 24)));
    assert_eq!(find(0, false, 100, 24), Some((40, 24)));
    assert_eq!(find(0, false, 100, 25), None);
}

#[test]
fn groups_are_tried_from_the_best_to_the_worst() {
    let free: [u32; 6] = [1000, 0, 64, 40, 3, 200];
    // The bitmap of group 5 was not read yet; group 2 is in small pieces.
    let space = |group: Group| {
        let free = free[group.get() as usize];
        GroupSpace {
            free,
            largest_order: match group.get() {
                5 => None,
                2 => Some(2),
                _ => free.checked_ilog2(),
            },
        }
    };
    let mut search = GroupSearch::new(Group::new(3), 6, 100);
    let mut found = Vec::new();
    while let Some((group, criterion)) = search.next(space) {
        found.push((group.get(), criterion));
    }
    assert_eq!(
        found,
        [
            (3, Criterion::Goal),
            (5, Criterion::Whole),
            (0, Criterion::Whole),
            (3, Criterion::Part),
            (5, Criterion::Part),
            (0, Criterion::Part),
            (3, Criterion::Any),
            (4, Criterion::Any),
            (5, Criterion::Any),
            (0, Criterion::Any),
            (2, Criterion::Any),
        ]
    );
    assert_eq!(search.next(space), None);
}

proptest! {
    #[test]
    fn the_summary_follows_the_bitmap(
        bytes in bytes(),
        operations in prop::collection::vec((any::<bool>(), 0..520u32, 0..60u32), 1..40),
    ) {
        let mut bytes = bytes;
        let bits = bytes.len() as u32 * 8;
        let mut bitmap = Bitmap::new(&mut bytes, bits).unwrap();
        let mut summary = FreeSummary::from_bitmap(&bitmap);
        for (allocate, start, count) in operations {
            let before = summary.clone();
            let result = if allocate {
                summary.allocate(&mut bitmap, start, count)
            } else {
                summary.release(&mut bitmap, start, count)
            };
            if result.is_err() {
                prop_assert_eq!(&summary, &before);
            }
            prop_assert_eq!(&summary, &FreeSummary::from_bitmap(&bitmap));
        }
        prop_assert_eq!(summary.free(), bitmap.count_free(0..bits));
        let longest = bitmap.free_runs(0..bits).map(|run| run.count).max().unwrap_or(0);
        for length in 1..=bits {
            match summary.fit(length) {
                Fit::Certain => prop_assert!(longest >= length),
                Fit::Impossible => prop_assert!(longest < length),
                Fit::Possible => prop_assert!(longest >= length.div_ceil(2)),
            }
        }
    }

    #[test]
    fn what_is_found_is_free_and_as_long_as_possible(
        bytes in bytes(),
        goal in 0..600u32,
        continues: bool,
        wanted in 1..300u32,
        least in 1..40u32,
    ) {
        let bits = bytes.len() as u32 * 8;
        let bitmap = Bitmap::new(&bytes, bits).unwrap();
        let summary = FreeSummary::from_bitmap(&bitmap);
        let longest = bitmap.free_runs(0..bits).map(|run| run.count).max().unwrap_or(0);
        let least_possible = least.min(wanted);
        match summary.find(&bitmap, &request(goal, continues, wanted, least)) {
            None => prop_assert!(longest < least_possible),
            Some(run) => {
                prop_assert_eq!(bitmap.check_free(run.start, run.count), Ok(()));
                prop_assert!(run.count >= least_possible && run.count <= wanted);
                let at_goal = run.start == goal && continues;
                // If nothing is long enough, one of the longest order is given.
                prop_assert!(at_goal || run.count >= wanted.min(1 << longest.ilog2()));
                prop_assert!(at_goal || longest < wanted || run.count == wanted);
            }
        }
    }

    /// Every group with free space comes, whatever is known, and the search ends.
    #[test]
    fn no_group_is_forgotten(
        groups in prop::collection::vec((0..50u32, any::<bool>()), 1..30),
        goal in 0..40u32,
        wanted in 1..100u32,
    ) {
        let space = |group: Group| {
            let (free, known) = groups[group.get() as usize];
            GroupSpace {
                free,
                largest_order: if known { free.checked_ilog2() } else { None },
            }
        };
        let mut search = GroupSearch::new(Group::new(goal), groups.len() as u32, wanted);
        let mut seen = HashSet::new();
        let mut last = Criterion::Goal;
        let mut steps = 0;
        while let Some((group, criterion)) = search.next(space) {
            prop_assert!(criterion >= last);
            last = criterion;
            seen.insert(group.get());
            steps += 1;
            prop_assert!(steps <= 4 * groups.len());
        }
        for (number, (free, _)) in groups.iter().enumerate() {
            prop_assert_eq!(seen.contains(&(number as u32)), *free > 0);
        }
    }
}
