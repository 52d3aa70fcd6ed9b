// SPDX-License-Identifier: GPL-2.0

//! Trees that are wrong.

use std::vec::Vec;

use proptest::prelude::*;

use super::super::node::seal;
use super::store::Error;
use super::store::Store;
use super::store::NODES;
use super::State::Written;
use super::*;
use crate::Corrupt;

const GOAL: PhysicalBlock = PhysicalBlock::new(NODES);

/// A leaf for the blocks 10 to 99 with three extents.
fn leaf() -> (Vec<u8>, Expected) {
    let mut root = empty_root();
    let mut store = Store::new(6);
    for (at, len) in [(10, 10), (20, 1), (90, 10)] {
        let new = extent(at, len, 1000 + 2 * u64::from(at), Written);
        Tree::new(&mut root, &mut store, GOAL).insert(new).unwrap();
    }
    let expected = Expected {
        depth: 0,
        first: 10,
        end: 100,
    };
    (root.to_vec(), expected)
}

fn verify(bytes: &[u8], expected: Expected) -> Result<(), ExtentError> {
    match expected.verify(bytes, None, |at, _| at.get() != 1040) {
        Ok(()) => Ok(()),
        Err(Corrupt::Extent(error)) => Err(error),
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn each_field_is_verified() {
    let (good, expected) = leaf();
    // The block 1040 is refused, where the second extent is.
    let place = ExtentError::Place {
        logical: 20,
        physical: 1040,
        len: 1,
    };
    assert_eq!(verify(&good, expected), Err(place));
    let (mut good, expected) = leaf();
    good[32] = 0x11;
    assert_eq!(verify(&good, expected), Ok(()));

    let cases: [(usize, &[u8], ExtentError); 11] = [
        (0, &[0x0b], ExtentError::Magic(0xf30b)),
        (2, &[5], ExtentError::Entries { found: 5, max: 4 }),
        (4, &[5], ExtentError::Max { found: 5, fit: 4 }),
        (4, &[0], ExtentError::Max { found: 0, fit: 4 }),
        (
            6,
            &[1],
            ExtentError::Depth {
                found: 1,
                expected: 0,
            },
        ),
        (
            12,
            &[9],
            ExtentError::FirstKey {
                found: 9,
                expected: 10,
            },
        ),
        (
            16,
            &[0],
            ExtentError::Extent {
                logical: 10,
                len: 0,
            },
        ),
        (16, &[11], ExtentError::Order { logical: 20 }),
        (40, &[11], ExtentError::Order { logical: 90 }),
        (
            36,
            &[255, 255, 255, 255],
            ExtentError::Extent {
                logical: u32::MAX,
                len: 10,
            },
        ),
        (
            42,
            &[255, 255, 255, 255, 255, 255],
            ExtentError::Extent {
                logical: 90,
                len: 10,
            },
        ),
    ];
    for (at, bytes, error) in cases {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(verify(&bad, expected), Err(error), "bytes from {at}");
    }
    for len in 0..12 {
        assert_eq!(verify(&good[..len], expected), Err(ExtentError::Size));
    }
    // The same bytes as an index node: keys 10, 20, 90 of nodes that are not all valid.
    good[6] = 1;
    let index = Expected {
        depth: 1,
        ..expected
    };
    assert_eq!(verify(&good, index), Ok(()));
    good[36..40].copy_from_slice(&20u32.to_le_bytes());
    assert_eq!(
        verify(&good, index),
        Err(ExtentError::Order { logical: 20 })
    );
    good[36..40].copy_from_slice(&100u32.to_le_bytes());
    assert_eq!(
        verify(&good, index),
        Err(ExtentError::Order { logical: 100 })
    );
    good[2] = 0;
    assert_eq!(
        verify(&good, index),
        Err(ExtentError::Entries { found: 0, max: 4 })
    );
}

#[test]
fn roots_are_verified() {
    let mut root = empty_root();
    assert_eq!(verify_root(&root, |_, _| true), Ok(()));
    root[6] = 6;
    let deep = ExtentError::Depth {
        found: 6,
        expected: 5,
    };
    assert_eq!(verify_root(&root, |_, _| true), Err(deep.into()));
    root[6] = 1;
    let empty = ExtentError::Entries { found: 0, max: 4 };
    assert_eq!(verify_root(&root, |_, _| true), Err(empty.into()));
    assert_eq!(
        verify_root(&[0; ROOT_SIZE], |_, _| true),
        Err(ExtentError::Magic(0).into())
    );
}

#[test]
fn every_bit_of_a_node_is_in_its_checksum() {
    let (root, store) = tree(30);
    let node = PhysicalBlock::new(store.addresses()[0]);
    let bytes = store.bytes(node).unwrap();
    let first = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
    let expected = Expected {
        depth: 0,
        first,
        end: LogicalBlock::COUNT,
    };
    assert_eq!(expected.verify(&bytes, store.checksum, |_, _| true), Ok(()));
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(
            expected.verify(&bad, store.checksum, |_, _| true).is_err(),
            "bit {bit}"
        );
    }
    assert_eq!(depth(&root), Ok(2));
}

/// A tree of one-block extents at every second block.
fn tree(count: u32) -> ([u8; ROOT_SIZE], Store) {
    let mut root = empty_root();
    let mut store = Store::new(6);
    for n in 0..count {
        let new = extent(n * 2, 1, 1000 + u64::from(n) * 3, Written);
        Tree::new(&mut root, &mut store, GOAL).insert(new).unwrap();
    }
    (root, store)
}

/// Does one of everything. That it returns is what is tested.
fn exercise(root: &mut [u8; ROOT_SIZE], store: &mut Store, at: u32) {
    let _ = find(root, store, LogicalBlock::new(at));
    let mut seen = 0;
    let _ = walk(root, store, range(0, LogicalBlock::COUNT), |_| {
        seen += 1;
        core::ops::ControlFlow::<()>::Continue(())
    });
    assert!(seen < 100_000);
    let mut tree = Tree::new(root, store, GOAL);
    let _ = tree.insert(extent(at, 1, 77, Written));
    let _ = tree.convert(range(at.saturating_sub(7), at + 9), State::Unwritten);
    let _ = tree.remove(range(at.saturating_sub(5), at + 5), |_, _| Ok(()));
    let _ = tree.convert(range(0, LogicalBlock::COUNT), State::Unwritten);
    let _ = tree.remove(range(0, LogicalBlock::COUNT), |_, _| Ok(()));
}

/// Changes some bytes of a tree, gives the nodes right checksums, and does one of everything.
fn mutated(trust: bool, changes: &[(prop::sample::Index, prop::sample::Index, u8)], at: u32) {
    let (mut root, mut store) = tree(60);
    let addresses = store.addresses();
    store.trust = trust;
    for (node, byte, value) in changes {
        match node.index(addresses.len() + 1) {
            0 => root[byte.index(ROOT_SIZE)] = *value,
            n => {
                let address = PhysicalBlock::new(addresses[n - 1]);
                let mut bytes = store.bytes(address).unwrap();
                let byte = byte.index(bytes.len());
                bytes[byte] = *value;
                seal(&mut bytes, store.checksum.unwrap());
                store.set_bytes(address, bytes);
            }
        }
    }
    exercise(&mut root, &mut store, at);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_roots_are_survived(bytes: [u8; 32], more: [u8; 28], at in 0..200u32, header: bool) {
        let mut root = [0; ROOT_SIZE];
        root[..32].copy_from_slice(&bytes);
        root[32..].copy_from_slice(&more);
        if header {
            root[..4].copy_from_slice(&[0x0a, 0xf3, bytes[0] % 6, 0]);
            root[4..8].copy_from_slice(&[4, 0, bytes[1] % 3, 0]);
        }
        exercise(&mut root, &mut Store::new(6), at);
    }

    #[test]
    fn mutated_trees_are_survived(
        changes: [(prop::sample::Index, prop::sample::Index, u8); 3],
        at in 0..200u32,
    ) {
        mutated(false, &changes, at);
    }

    // As when a node that has been verified in one place of the tree is found in another one too.
    #[test]
    fn nodes_that_lie_are_survived(
        changes: [(prop::sample::Index, prop::sample::Index, u8); 3],
        at in 0..200u32,
    ) {
        mutated(true, &changes, at);
    }

    // Index entries that point to other nodes of the same tree.
    #[test]
    fn shared_nodes_are_survived(
        swaps: [(prop::sample::Index, prop::sample::Index, u8); 2],
        at in 0..200u32,
        trust: bool,
    ) {
        let (mut root, mut store) = tree(60);
        let addresses = store.addresses();
        store.trust = trust;
        for (node, target, slot) in swaps {
            let target = addresses[target.index(addresses.len())].to_le_bytes();
            // The low half of the number lies before the high half.
            let low = 12 + usize::from(slot % 6) * 12 + 4;
            let point = |bytes: &mut [u8]| {
                bytes[low..low + 4].copy_from_slice(&target[..4]);
                bytes[low + 4..low + 6].copy_from_slice(&target[4..6]);
            };
            match node.index(addresses.len() + 1) {
                0 if slot % 6 < 4 => point(&mut root),
                0 => {}
                n => {
                    let address = PhysicalBlock::new(addresses[n - 1]);
                    let mut bytes = store.bytes(address).unwrap();
                    point(&mut bytes);
                    seal(&mut bytes, store.checksum.unwrap());
                    store.set_bytes(address, bytes);
                }
            }
        }
        exercise(&mut root, &mut store, at);
    }

    #[test]
    fn random_bytes_are_no_node(bytes: Vec<u8>, depth in 0..6u16, first: u32, end: u32) {
        let _ = Expected { depth, first, end }.verify(&bytes, None, |_, _| true);
    }
}

#[test]
fn a_full_tree_refuses_and_stays_right() {
    let (mut root, mut store) = tree(0);
    let mut inserted = 0u32;
    // From both ends to the middle, so that every split leaves half of each node free.
    let error = loop {
        let place = match inserted % 2 {
            0 => inserted,
            _ => (1 << 20) - inserted,
        };
        let new = extent(place, 1, u64::from(place) * 3, Written);
        match Tree::new(&mut root, &mut store, GOAL).insert(new) {
            Ok(()) => inserted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Corrupt(ExtentError::TooDeep.into()));
    assert_eq!(depth(&root), Ok(MAX_DEPTH));
    assert_eq!(super::store::check(&root, &store).len(), inserted as usize);
}
