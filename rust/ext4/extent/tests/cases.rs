// SPDX-License-Identifier: GPL-2.0

//! Single operations, one property each.

use std::vec;
use std::vec::Vec;

use super::store::check;
use super::store::Error;
use super::store::Store;
use super::store::NODES;
use super::State::Unwritten;
use super::State::Written;
use super::*;
use crate::Corrupt;

const GOAL: PhysicalBlock = PhysicalBlock::new(NODES);

/// A tree with these extents, in nodes of six entries.
fn tree_of(extents: &[Extent]) -> ([u8; ROOT_SIZE], Store) {
    let mut root = empty_root();
    let mut store = Store::new(6);
    for extent in extents {
        Tree::new(&mut root, &mut store, GOAL)
            .insert(*extent)
            .unwrap();
    }
    (root, store)
}

/// One-block extents at every second block, so that none of them can be joined.
fn scattered(count: u32) -> Vec<Extent> {
    (0..count)
        .map(|n| extent(n * 2, 1, 1000 + u64::from(n) * 3, Written))
        .collect()
}

#[test]
fn the_layout_is_that_of_the_documentation() {
    let (root, store) = tree_of(&[
        extent(0, 5, 0x8200, Written),
        extent(7, 3, 0x9000, Unwritten),
    ]);
    let expected = [
        0x0a, 0xf3, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, // header
        0, 0, 0, 0, 5, 0, 0, 0, 0, 0x82, 0, 0, // written
        7, 0, 0, 0, 3, 0x80, 0, 0, 0, 0x90, 0, 0, // unwritten
    ];
    assert_eq!(root[..36], expected);
    assert_eq!(store.nodes(), 0);
}

#[test]
fn an_index_entry_has_the_low_half_first() {
    let (root, _) = tree_of(&scattered(5));
    // The first node block is 2^40, of which bit 8 of the high half is set.
    assert_eq!(root[..12], [0x0a, 0xf3, 1, 0, 4, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(root[12..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn lengths_have_their_limits() {
    let extent = |len, state| Extent::new(LogicalBlock::ZERO, len, PhysicalBlock::ZERO, state);
    assert_eq!(extent(0, Written), None);
    assert!(extent(32768, Written).is_some());
    assert_eq!(extent(32769, Written), None);
    assert!(extent(32767, Unwritten).is_some());
    assert_eq!(extent(32768, Unwritten), None);
    for (len, state) in [
        (32768, Written),
        (32767, Unwritten),
        (1, Unwritten),
        (1, Written),
    ] {
        let extent = extent(len, state).unwrap();
        assert_eq!(LeafEntry::from(extent).extent(), Ok(extent));
    }
    let last = LogicalBlock::new(LogicalBlock::COUNT - 1);
    assert!(Extent::new(last, 1, PhysicalBlock::ZERO, Written).is_some());
    assert_eq!(Extent::new(last, 2, PhysicalBlock::ZERO, Written), None);
    let last = PhysicalBlock::new((1 << 48) - 1);
    assert!(Extent::new(LogicalBlock::ZERO, 1, last, Written).is_some());
    assert_eq!(Extent::new(LogicalBlock::ZERO, 2, last, Written), None);
}

#[test]
fn holes_end_at_the_next_extent() {
    let (root, store) = tree_of(&scattered(200));
    for n in 0..199 {
        let at = LogicalBlock::new(n * 2 + 1);
        let Mapping::Hole { end, before } = find(&root, &store, at).unwrap() else {
            panic!("block {at} is mapped");
        };
        assert_eq!(end.get(), n * 2 + 2);
        assert_eq!(before.unwrap().end(), at);
    }
    let last = find(&root, &store, LogicalBlock::new(399)).unwrap();
    let Mapping::Hole { end, .. } = last else {
        panic!("block 399 is mapped");
    };
    assert_eq!(end.get(), LogicalBlock::COUNT);
    let beyond = find(&root, &store, LogicalBlock::MAX).unwrap();
    assert!(matches!(beyond, Mapping::Hole { end, .. } if end.get() == LogicalBlock::COUNT));
}

#[test]
fn extents_are_joined_with_both_neighbours() {
    let (root, store) = tree_of(&[
        extent(0, 4, 100, Written),
        extent(8, 4, 108, Written),
        extent(4, 4, 104, Written),
    ]);
    assert_eq!(check(&root, &store), [extent(0, 12, 100, Written)]);
}

#[test]
fn extents_that_do_not_continue_each_other_are_not_joined() {
    let extents = [
        extent(0, 4, 100, Written),
        extent(4, 4, 104, Unwritten),
        extent(8, 4, 200, Unwritten),
        extent(13, 1, 205, Unwritten),
    ];
    let (root, store) = tree_of(&extents);
    assert_eq!(check(&root, &store), extents);
}

#[test]
fn joined_extents_are_not_too_long() {
    let (root, store) = tree_of(&[
        extent(0, 32767, 100_000, Unwritten),
        extent(32767, 1, 132_767, Unwritten),
        extent(100_000, 32767, 200_000, Written),
        extent(132_767, 1, 232_767, Written),
        extent(132_768, 1, 232_768, Written),
    ]);
    let lens: Vec<_> = check(&root, &store).iter().map(Extent::len).collect();
    assert_eq!(lens, [32767, 1, 32768, 1]);
}

#[test]
fn mapped_blocks_are_not_mapped_again() {
    let (mut root, mut store) = tree_of(&scattered(50));
    let before = root;
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    for new in [
        extent(4, 1, 9000, Written),
        extent(5, 2, 9000, Written),
        extent(13, 40, 1, Written),
    ] {
        let result = tree.insert(new);
        assert!(matches!(
            result,
            Err(Error::Corrupt(Corrupt::Extent(ExtentError::Mapped(_))))
        ));
    }
    assert!(!tree.root_changed());
    assert_eq!(root, before);
}

#[test]
fn files_written_in_order_have_full_nodes() {
    let up = scattered(64);
    let (root, store) = tree_of(&up);
    assert_eq!(check(&root, &store), up);
    // 11 leaves below 2 nodes.
    assert_eq!((depth(&root).unwrap(), store.nodes()), (2, 13));

    let down: Vec<_> = up.iter().rev().copied().collect();
    let (root, store) = tree_of(&down);
    assert_eq!(check(&root, &store), up);
    assert!(store.nodes() <= 14, "{} nodes", store.nodes());
}

#[test]
fn appending_to_the_last_extent_changes_one_node() {
    let (mut root, mut store) = tree_of(&scattered(100));
    store.expect(Footprint {
        modified: 1,
        allocated: 0,
        freed: 0,
    });
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    tree.insert(extent(199, 1, 1000 + 99 * 3 + 1, Written))
        .unwrap();
    assert!(!tree.root_changed());
    store.check_footprint();
    assert_eq!(store.touched.modified.len(), 1);
    assert_eq!(
        check(&root, &store).last(),
        Some(&extent(198, 2, 1297, Written))
    );
}

#[test]
fn converting_in_place_changes_one_node() {
    let extents: Vec<_> = (0..100)
        .map(|n| extent(n * 20, 10, 1000 + u64::from(n) * 30, Unwritten))
        .collect();
    let (mut root, mut store) = tree_of(&extents);
    for n in 0..100 {
        store.expect(Footprint {
            modified: 1,
            allocated: 0,
            freed: 0,
        });
        let mut tree = Tree::new(&mut root, &mut store, GOAL);
        let progress = tree.convert(range(n * 20, n * 20 + 10), Written).unwrap();
        assert_eq!(progress, Progress::Done);
        store.check_footprint();
    }
    assert!(check(&root, &store)
        .iter()
        .all(|extent| extent.state() == Written));
}

#[test]
fn a_preallocated_file_written_in_order_needs_one_entry_more() {
    let (mut root, mut store) = tree_of(&[extent(0, 1000, 5000, Unwritten)]);
    for at in (0..1000).step_by(10) {
        let mut tree = Tree::new(&mut root, &mut store, GOAL);
        assert_eq!(
            tree.convert(range(at, at + 10), Written),
            Ok(Progress::Done)
        );
        assert!(check(&root, &store).len() <= 2);
    }
    assert_eq!(check(&root, &store), [extent(0, 1000, 5000, Written)]);
}

#[test]
fn the_longest_written_extent_becomes_two_unwritten_ones() {
    let (mut root, mut store) = tree_of(&[extent(5, 32768, 100_000, Written)]);
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    assert_eq!(
        tree.convert(range(0, 50_000), Unwritten),
        Ok(Progress::Done)
    );
    assert_eq!(
        check(&root, &store),
        [
            extent(5, 32767, 100_000, Unwritten),
            extent(32772, 1, 132_767, Unwritten)
        ]
    );
}

#[test]
fn conversion_splits_at_the_edges_and_leaves_holes() {
    let (mut root, mut store) = tree_of(&[
        extent(0, 10, 100, Unwritten),
        extent(20, 10, 120, Unwritten),
    ]);
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    assert_eq!(tree.convert(range(3, 25), Written), Ok(Progress::Done));
    assert_eq!(
        check(&root, &store),
        [
            extent(0, 3, 100, Unwritten),
            extent(3, 7, 103, Written),
            extent(20, 5, 120, Written),
            extent(25, 5, 125, Unwritten),
        ]
    );
}

#[test]
fn a_tree_that_becomes_empty_has_no_nodes() {
    let extents = scattered(300);
    let (mut root, mut store) = tree_of(&extents);
    assert_eq!(depth(&root), Ok(3));
    let mut freed = vec![];
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    let progress = tree.remove(range(0, LogicalBlock::COUNT), |_, extent| {
        freed.push(extent);
        Ok(())
    });
    assert_eq!(progress, Ok(Progress::Done));
    freed.reverse();
    assert_eq!(freed, extents);
    assert_eq!(root, empty_root());
    assert_eq!(store.nodes(), 0);
}

#[test]
fn a_hole_punched_into_an_extent_leaves_its_ends() {
    let (mut root, mut store) = tree_of(&[extent(10, 100, 500, Unwritten)]);
    let mut freed = vec![];
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    let progress = tree.remove(range(30, 50), |_, extent| {
        freed.push(extent);
        Ok(())
    });
    assert_eq!(progress, Ok(Progress::Done));
    assert_eq!(freed, [extent(30, 20, 520, Unwritten)]);
    assert_eq!(
        check(&root, &store),
        [
            extent(10, 20, 500, Unwritten),
            extent(50, 60, 540, Unwritten)
        ]
    );
}

#[test]
fn an_operation_without_room_ends_early_and_goes_on() {
    let (mut root, mut store) = tree_of(&scattered(100));
    let mut end = LogicalBlock::COUNT;
    let mut count = 0;
    let mut calls = 0;
    loop {
        store.room = 0;
        calls += 1;
        let mut tree = Tree::new(&mut root, &mut store, GOAL);
        let progress = tree.remove(range(0, end), |_, _| {
            count += 1;
            Ok(())
        });
        match progress.unwrap() {
            Progress::Done => break,
            Progress::Partial(at) => end = at.get(),
        }
        check(&root, &store);
    }
    assert_eq!((count, calls), (100, 100));
}

#[test]
fn shrinking_brings_the_extents_back_into_the_root() {
    let (mut root, mut store) = tree_of(&scattered(300));
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    assert_eq!(
        tree.remove(range(6, 592), |_, _| Ok(())),
        Ok(Progress::Done)
    );
    let left = check(&root, &store);
    assert_eq!(left.len(), 7);
    assert!(
        depth(&root).unwrap() <= 2,
        "depth {}",
        depth(&root).unwrap()
    );
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    assert_eq!(
        tree.remove(range(6, 598), |_, _| Ok(())),
        Ok(Progress::Done)
    );
    assert_eq!(check(&root, &store).len(), 4);
    assert_eq!((depth(&root).unwrap(), store.nodes()), (0, 0));
}

#[test]
fn walking_sees_the_extents_of_the_range() {
    let extents = scattered(100);
    let (root, store) = tree_of(&extents);
    let mut seen = vec![];
    let ended = walk(&root, &store, range(21, 61), |extent| {
        seen.push(extent);
        core::ops::ControlFlow::<()>::Continue(())
    });
    assert_eq!(ended, Ok(None));
    assert_eq!(seen, extents[11..31]);
    assert_eq!(next_extent(&root, &store, range(21, 22)), Ok(None));
    assert_eq!(
        next_extent(&root, &store, range(21, 23)),
        Ok(Some(extents[11]))
    );
    assert_eq!(
        next_extent(&root, &store, range(199, LogicalBlock::COUNT)),
        Ok(None)
    );
}

#[test]
fn the_best_place_continues_the_extent_before() {
    let (root, store) = tree_of(&[extent(10, 5, 100, Written), extent(30, 5, 500, Written)]);
    let place = |at| {
        let at = LogicalBlock::new(at);
        let mapping = find(&root, &store, at).unwrap();
        mapping.place(at).map(PhysicalBlock::get)
    };
    assert_eq!(place(9), None);
    assert_eq!(place(12), Some(102));
    assert_eq!(place(20), Some(110));
    assert_eq!(place(40), Some(510));
}

#[test]
fn extents_that_meet_when_leaves_are_merged_are_joined() {
    // Every second block is unwritten, until all are converted, leaf by leaf.
    let blocks = |n| {
        extent(
            n,
            1,
            500 + u64::from(n),
            if n % 2 == 0 { Written } else { Unwritten },
        )
    };
    let extents: Vec<_> = (0..24).map(blocks).collect();
    let (mut root, mut store) = tree_of(&extents);
    assert_eq!(check(&root, &store), extents);
    assert_eq!((depth(&root), store.nodes()), (Ok(1), 4));
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    assert_eq!(tree.convert(range(0, 24), Written), Ok(Progress::Done));
    assert_eq!(check(&root, &store), [extent(0, 24, 500, Written)]);
    assert_eq!((depth(&root), store.nodes()), (Ok(0), 0));
}

/// Makes the leaf for a block empty, as no driver should leave it.
fn empty_leaf(root: &[u8; ROOT_SIZE], store: &mut Store, at: u32) {
    let (path, _) = super::super::find::Path::to(root, store, at).unwrap();
    let block = path.leaf().block;
    let mut bytes = store.bytes(block).unwrap();
    super::super::node::clear(&mut bytes, 0);
    super::super::node::seal(&mut bytes, store.checksum.unwrap());
    store.set_bytes(block, bytes);
}

#[test]
fn empty_leaves_are_tolerated_and_go() {
    // Of the leaves at the start, in the middle and at the end.
    for at in [0, 40, 98] {
        let (mut root, mut store) = tree_of(&scattered(50));
        empty_leaf(&root, &mut store, at);
        let hole = find(&root, &store, LogicalBlock::new(at)).unwrap();
        assert!(matches!(hole, Mapping::Hole { before: None, .. }));
        let mut tree = Tree::new(&mut root, &mut store, GOAL);
        let new = extent(at + 1, 1, 7, Unwritten);
        tree.insert(new).unwrap();
        assert_eq!(tree.find(new.logical()), Ok(Mapping::Extent(new)));
        check(&root, &store);

        empty_leaf(&root, &mut store, at + 1);
        let mut tree = Tree::new(&mut root, &mut store, GOAL);
        assert_eq!(tree.convert(range(0, 100), Unwritten), Ok(Progress::Done));
        assert_eq!(
            tree.remove(range(0, 100), |_, _| Ok(())),
            Ok(Progress::Done)
        );
        assert_eq!((root, store.nodes()), (empty_root(), 0));
    }
}

#[test]
fn a_bitmap_that_calls_a_node_free_is_noticed() {
    let (mut root, mut store) = tree_of(&scattered(24));
    let (path, leaf) = super::super::find::Path::to(&root, &store, 46).unwrap();
    drop(leaf);
    store.next = path.leaf().block.get();
    let mut tree = Tree::new(&mut root, &mut store, GOAL);
    let result = tree.insert(extent(48, 1, 7, Written));
    let shared = ExtentError::Shared(path.leaf().block);
    assert_eq!(result, Err(Error::Corrupt(shared.into())));
}
