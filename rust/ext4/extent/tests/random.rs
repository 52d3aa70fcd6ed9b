// SPDX-License-Identifier: GPL-2.0

//! Random sequences of operations, compared with a model that has an entry for each block.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::store::check;
use super::store::Error;
use super::store::Store;
use super::store::NODES;
use super::*;
use crate::Corrupt;

const GOAL: PhysicalBlock = PhysicalBlock::new(NODES);

/// How many blocks the files have.
const BLOCKS: u32 = 3000;

#[derive(Clone, Debug)]
enum Operation {
    /// Maps the holes in a range. The parts are contiguous on the device for the same `place`.
    Map {
        start: u32,
        len: u32,
        place: u8,
        state: State,
    },
    Convert {
        start: u32,
        len: u32,
        state: State,
    },
    Remove {
        start: u32,
        len: u32,
    },
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Written), Just(State::Unwritten)]
}

fn operation() -> impl Strategy<Value = Operation> {
    let range = || {
        (
            0..BLOCKS,
            prop_oneof![4 => 1..8u32, 2 => 1..100u32, 1 => 1..BLOCKS],
        )
    };
    prop_oneof![
        5 => (range(), 0..6u8, state())
            .prop_map(|((start, len), place, state)| Operation::Map { start, len, place, state }),
        3 => (range(), state())
            .prop_map(|((start, len), state)| Operation::Convert { start, len, state }),
        2 => range().prop_map(|(start, len)| Operation::Remove { start, len }),
    ]
}

/// What each block is mapped to.
type Model = BTreeMap<u32, (u64, State)>;

/// The model of what a tree has.
fn model_of(extents: &[Extent]) -> Model {
    let blocks = |extent: &Extent| {
        let (logical, physical) = (extent.logical().get(), extent.physical().get());
        let state = extent.state();
        (0..extent.len()).map(move |n| (logical + u32::from(n), (physical + u64::from(n), state)))
    };
    extents.iter().flat_map(blocks).collect()
}

struct File {
    root: [u8; ROOT_SIZE],
    store: Store,
    model: Model,
    /// Every how many calls of the store one fails.
    failures: Option<u32>,
}

impl File {
    fn tree(&mut self) -> Tree<'_, Store> {
        self.store.fail_in = self.failures;
        Tree::new(&mut self.root, &mut self.store, GOAL)
    }

    /// Checks a tree against the model. Returns the model of the tree.
    fn check(&self) -> Model {
        self.store.check_footprint();
        let extents = check(&self.root, &self.store);
        for pair in extents.windows(2) {
            assert!(pair[0].end() <= pair[1].logical());
        }
        model_of(&extents)
    }

    fn map(&mut self, start: u32, end: u32, place: u8, state: State) {
        let mut at = start;
        while at < end {
            let found = find(&self.root, &self.store, LogicalBlock::new(at)).unwrap();
            let hole_end = match found {
                Mapping::Extent(extent) => {
                    assert_eq!(
                        self.model.get(&at).map(|(_, state)| *state),
                        Some(extent.state())
                    );
                    at = extent.end().get();
                    continue;
                }
                Mapping::Hole { end, .. } => end.get(),
            };
            assert!(self.model.range(at..hole_end).next().is_none());
            assert!(hole_end == LogicalBlock::COUNT || self.model.contains_key(&hole_end));
            let len = hole_end.min(end) - at;
            let physical = u64::from(place) * 100_000 + u64::from(at);
            let new = extent(at, len as u16, physical, state);
            self.store
                .expect(Footprint::of_insert(depth(&self.root).unwrap()));
            let before = self.root;
            let mut tree = self.tree();
            let result = tree.insert(new);
            let changed = tree.root_changed();
            assert!(changed || self.root == before);
            match result {
                Ok(()) => self.model.extend(model_of(&[new])),
                // A tree of such small nodes may be full.
                Err(Error::Corrupt(Corrupt::Extent(ExtentError::TooDeep))) => return,
                Err(Error::Injected) => assert_eq!(self.check(), self.model),
                Err(error) => panic!("{error:?}"),
            }
            at += len;
        }
    }

    fn convert(&mut self, start: u32, end: u32, to: State) {
        let mut start = start;
        loop {
            self.store
                .expect(Footprint::of_convert(depth(&self.root).unwrap()));
            let result = self.tree().convert(range(start, end), to);
            let done = match result {
                Ok(Progress::Done) => end,
                Ok(Progress::Partial(at)) => {
                    assert!(start < at.get() && at.get() < end);
                    at.get()
                }
                Err(Error::Corrupt(Corrupt::Extent(ExtentError::TooDeep)) | Error::Injected) => {
                    // Some steps may have been done.
                    let now = self.check();
                    let range = start..end;
                    assert!(now
                        .iter()
                        .map(|(at, (physical, _))| (at, physical))
                        .eq(self.model.iter().map(|(at, (physical, _))| (at, physical))));
                    for (at, (_, state)) in &now {
                        let may_differ = range.contains(at) && *state == to;
                        assert!(may_differ || *state == self.model[at].1);
                    }
                    self.model = now;
                    return;
                }
                Err(error) => panic!("{error:?}"),
            };
            for (_, state) in self.model.range_mut(start..done).map(|(_, block)| block) {
                *state = to;
            }
            if done == end {
                return;
            }
            assert_eq!(self.check(), self.model);
            start = done;
            self.store.room = 2;
        }
    }

    fn remove(&mut self, start: u32, end: u32) {
        let mut end = end;
        loop {
            self.store
                .expect(Footprint::of_remove(depth(&self.root).unwrap()));
            let mut freed = Vec::new();
            let result = self.tree().remove(range(start, end), |_, extent| {
                freed.push(extent);
                Ok(())
            });
            for (at, block) in model_of(&freed) {
                assert!((start..end).contains(&at));
                assert_eq!(self.model.remove(&at), Some(block));
            }
            match result {
                Ok(Progress::Done) => {
                    assert!(self.model.range(start..end).next().is_none());
                    return;
                }
                Ok(Progress::Partial(at)) => {
                    assert!(start < at.get() && at.get() < end);
                    assert!(self.model.range(at.get()..end).next().is_none());
                    assert_eq!(self.check(), self.model);
                    end = at.get();
                    self.store.room = 4;
                }
                Err(Error::Corrupt(Corrupt::Extent(ExtentError::TooDeep)) | Error::Injected) => {
                    return
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn run(&mut self, operation: &Operation) {
        let range = |start: u32, len: u32| (start, (start + len).min(BLOCKS));
        match *operation {
            Operation::Map {
                start,
                len,
                place,
                state,
            } => {
                let (start, end) = range(start, len);
                self.map(start, end, place, state);
            }
            Operation::Convert { start, len, state } => {
                let (start, end) = range(start, len);
                self.convert(start, end, state);
            }
            Operation::Remove { start, len } => {
                let (start, end) = range(start, len);
                self.remove(start, end);
            }
        }
        self.store.fail_in = None;
        assert_eq!(self.check(), self.model);
    }
}

fn play(max: usize, room: u32, failures: Option<u32>, checksums: bool, operations: &[Operation]) {
    let mut file = File {
        root: empty_root(),
        store: Store::new(max),
        model: Model::new(),
        failures,
    };
    if !checksums {
        file.store.checksum = None;
    }
    for operation in operations {
        file.store.room = room;
        file.run(operation);
    }
    // What is left goes, and no node stays behind.
    file.failures = None;
    file.store.room = room;
    file.remove(0, BLOCKS);
    assert_eq!(file.root, empty_root());
    assert_eq!(file.store.nodes(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_what_the_model_is(
        max in 6usize..12,
        checksums: bool,
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        play(max, u32::MAX, None, checksums, &operations);
    }

    #[test]
    fn operations_that_end_early_can_go_on(
        max in 6usize..12,
        room in 0u32..5,
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        play(max, room, None, true, &operations);
    }

    #[test]
    fn a_failure_leaves_a_right_tree(
        max in 6usize..12,
        failures in 0u32..8,
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        play(max, u32::MAX, Some(failures), true, &operations);
    }
}

/// Many extents in random order in nodes of the smallest real size, and in the smallest nodes.
#[test]
fn large_trees_grow_and_shrink() {
    for (max, count) in [(6, 900u32), (84, 9000)] {
        // A walk through all numbers below `count`, which is not a multiple of the step.
        let order: Box<[u32]> = (0..count).map(|n| n * 7919 % count).collect();
        let mut root = empty_root();
        let mut store = Store::new(max);
        let mut depth_seen = 0;
        for &n in &order {
            store.expect(Footprint::of_insert(depth(&root).unwrap()));
            let mut tree = Tree::new(&mut root, &mut store, GOAL);
            tree.insert(extent(n * 3, 1, 10 + u64::from(n) * 5, State::Written))
                .unwrap();
            depth_seen = depth_seen.max(depth(&root).unwrap());
        }
        assert_eq!(check(&root, &store).len(), count as usize);
        assert_eq!(depth_seen, if max == 6 { 4 } else { 2 });
        for (index, &n) in order.iter().enumerate() {
            store.expect(Footprint::of_remove(depth(&root).unwrap()));
            let mut tree = Tree::new(&mut root, &mut store, GOAL);
            let progress = tree.remove(range(n * 3, n * 3 + 1), |_, _| Ok(()));
            assert_eq!(progress, Ok(Progress::Done));
            if index % 97 == 0 {
                assert_eq!(check(&root, &store).len(), count as usize - 1 - index);
            }
        }
        assert_eq!((root, store.nodes()), (empty_root(), 0));
    }
}
