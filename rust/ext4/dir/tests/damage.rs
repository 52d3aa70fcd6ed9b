// SPDX-License-Identifier: GPL-2.0

//! Directories that lie: nothing panics, loops, or goes unnoticed that must not.

use core::ops::ControlFlow;
use std::format;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::store::Disk;
use super::store::Error;
use super::store::Shape;
use crate::dir::BlockKind;
use crate::dir::Cursor;
use crate::dir::DirectoryError;
use crate::dir::FileType;
use crate::dir::HashedEntry;
use crate::dir::Name;
use crate::dir::PositionForm;
use crate::dir::Scratch;
use crate::Corrupt;
use crate::InodeNumber;

/// A directory with an index, or a smaller one without, of blocks that nobody verifies.
fn filled(shape: Shape, names: usize) -> Disk {
    let disk = Disk::new(shape.format());
    disk.verify.set(false);
    for number in 0..names {
        let _ = disk.insert(&name(number), 20).unwrap();
    }
    disk
}

fn name(number: usize) -> Vec<u8> {
    format!("{number:x>width$}", width = 10 + number % 150).into_bytes()
}

/// Does everything that can be done, and returns how many entries were visited.
fn use_all(disk: &Disk) -> usize {
    let limit = 50 * disk.len() as usize + 1000;
    let mut visits = 0;
    for form in [PositionForm::Wide, PositionForm::Narrow] {
        for scratch in [3, 100] {
            let mut scratch = Scratch::new(vec![HashedEntry::default(); scratch]);
            let mut cursor = Cursor::start(form);
            let _ = disk.open().iterate(&mut cursor, &mut scratch, |entry, _| {
                visits += 1;
                assert!(entry.inode.is_some() && !entry.name.is_empty());
                ControlFlow::Continue(())
            });
        }
    }
    let _ = disk.open().is_empty();
    for number in [0, 1, 7, 100] {
        disk.reads.set(0);
        let _ = disk.lookup(&name(number));
        assert!(disk.reads.get() <= limit);
        let _ = disk.remove(&name(number));
        let _ = disk.open().set_inode(
            Name::new(&name(number + 1)).unwrap(),
            InodeNumber::ROOT,
            FileType::Directory,
        );
        disk.reads.set(0);
        let _ = disk.insert(format!("{number:>250}").as_bytes(), 40);
        assert!(disk.reads.get() <= limit);
    }
    let _ = disk.open().set_parent(InodeNumber::ROOT);
    visits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_do_no_harm(
        large_dir: bool,
        checksums: bool,
        dir_index: bool,
        names in prop::sample::select(vec![3_usize, 40, 900]),
        damage in prop::collection::vec((any::<u32>(), 0..1024_usize, any::<u8>()), 1..40),
        header_damage in prop::collection::vec((any::<u32>(), 0..48_usize, any::<u8>()), 0..10),
    ) {
        let shape = Shape { large_dir, checksums, dir_index, ..Shape::new(1024) };
        let disk = filled(shape, names);
        let blocks = disk.len();
        for (block, offset, byte) in damage.iter().chain(&header_damage) {
            disk.patch(block % blocks, *offset, &[*byte]);
        }
        use_all(&disk);
    }

    #[test]
    fn with_checksums_all_damage_is_noticed(
        names in prop::sample::select(vec![3_usize, 40, 900]),
        block in any::<u32>(),
        offset in 0..1024_usize,
        bit in 0..8_u32,
    ) {
        let disk = filled(Shape::new(1024), names);
        let number = block % disk.len();
        let kinds = [BlockKind::Root, BlockKind::Node, BlockKind::Leaf];
        let verify = |kind| disk.format.verify_block(kind, &disk.bytes(number), disk.len());
        let kind = kinds.into_iter().find(|&kind| verify(kind).is_ok()).unwrap();
        let bytes = disk.bytes(number);
        let unused = match kind {
            BlockKind::Leaf => false,
            // The entries of an index that are not in use are not summed.
            BlockKind::Root | BlockKind::Node => {
                let header = if kind == BlockKind::Root { 32 } else { 8 };
                let count = usize::from(bytes[header + 2]) | usize::from(bytes[header + 3]) << 8;
                (header + count * 8..1016).contains(&offset)
            }
        };
        disk.patch(number, offset, &[bytes[offset] ^ 1 << bit]);
        prop_assert_eq!(verify(kind).is_ok(), unused);
    }

    #[test]
    fn noise_is_no_directory(
        indexed: bool,
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1024), 1..4),
    ) {
        let disk = Disk::of(Shape::new(1024).format(), &blocks, indexed);
        disk.verify.set(false);
        disk.capacity.set(6);
        use_all(&disk);
    }
}

/// An index of two levels in which every entry of the root points to one node, and every entry of that to
/// one leaf.
fn woven() -> Disk {
    let mut root = vec![0; 1024];
    let shape = Shape {
        checksums: false,
        ..Shape::new(1024)
    };
    let small = filled(shape, 0);
    root[..32].copy_from_slice(&small.bytes(0)[..32]);
    root[16..18].copy_from_slice(&1012_u16.to_le_bytes());
    root[24..32].copy_from_slice(&[0, 0, 0, 0, 1, 8, 1, 0]);
    let fill = |block: &mut [u8], header: usize, child: u32, shift: u32| {
        let limit = (1024 - header) / 8;
        for entry in 0..limit {
            let at = header + entry * 8;
            block[at..at + 4].copy_from_slice(&((entry as u32) << shift).to_le_bytes());
            block[at + 4..at + 8].copy_from_slice(&child.to_le_bytes());
        }
        let both = [limit as u16, limit as u16].map(u16::to_le_bytes).concat();
        block[header..header + 4].copy_from_slice(&both);
    };
    fill(&mut root, 32, 1, 24);
    let mut node = vec![0; 1024];
    node[4..6].copy_from_slice(&1024_u16.to_le_bytes());
    fill(&mut node, 8, 2, 4);
    let mut leaf = vec![0; 1024];
    leaf[4..6].copy_from_slice(&1024_u16.to_le_bytes());
    Disk::of(shape.format(), &[root, node, leaf], true)
}

fn is_loop<T: core::fmt::Debug>(result: Result<T, Error>) -> bool {
    let error = Error::Corrupt(Corrupt::Directory(DirectoryError::IndexLoop));
    result.is_err_and(|found| found == error)
}

#[test]
fn an_index_that_repeats_itself_ends() {
    let disk = woven();
    for (number, kind) in [BlockKind::Root, BlockKind::Node, BlockKind::Leaf]
        .into_iter()
        .enumerate()
    {
        disk.format
            .verify_block(kind, &disk.bytes(number as u32), 3)
            .unwrap();
    }
    disk.reads.set(0);
    assert!(is_loop(disk.list(PositionForm::Wide)));
    assert!(is_loop(disk.open().is_empty()));
    assert!(disk.reads.get() < 50);
}

#[test]
fn an_index_that_points_to_itself_is_refused() {
    for child in [0_u32, 1, 3, 0x0fff_ffff] {
        let disk = woven();
        for entry in 0..127 {
            disk.patch(1, 8 + entry * 8 + 4, &child.to_le_bytes());
        }
        disk.verify.set(false);
        assert!(disk.lookup(b"name").is_err());
        assert!(disk.list(PositionForm::Wide).is_err());
        assert!(disk.insert(b"name", 20).is_err());
    }
}

#[test]
fn a_name_in_the_wrong_leaf_is_noticed() {
    let disk = filled(Shape::new(1024), 200);
    assert!(disk.indexed.get());
    let leaf = disk.bytes(1);
    disk.patch(2, 0, &leaf);
    let error = disk.list(PositionForm::Wide).unwrap_err();
    assert!(matches!(
        error,
        Error::Corrupt(Corrupt::Directory(DirectoryError::HashOutOfRange { .. }))
    ));
}

#[test]
fn each_fault_of_an_entry_has_a_name() {
    let shape = Shape {
        checksums: false,
        ..Shape::new(1024)
    };
    let good = filled(shape, 1).bytes(0);
    let fault = |offset: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[offset..offset + bytes.len()].copy_from_slice(bytes);
        let error = shape.format().verify_block(BlockKind::Leaf, &bad, 1);
        match error.unwrap_err() {
            Corrupt::Directory(error) => error,
            other => panic!("{other:?}"),
        }
    };
    let length = |offset, length| DirectoryError::EntryLength { offset, length };
    let overrun = |offset, length| DirectoryError::EntryOverrun { offset, length };
    assert_eq!(fault(4, &[8, 0]), length(0, 8));
    assert_eq!(fault(4, &[0, 0]), length(0, 0));
    assert_eq!(fault(4, &[13, 0]), length(0, 13));
    assert_eq!(fault(18, &[5]), length(12, 12));
    assert_eq!(fault(28, &[0, 4]), overrun(24, 1024));
    assert_eq!(fault(28, &[0xe0, 3]), overrun(24, 0x3e0));
    let inode = 1_000_001_u32;
    let offset = 24;
    assert_eq!(
        fault(24, &inode.to_le_bytes()),
        DirectoryError::EntryInode { offset, inode }
    );
    assert_eq!(fault(30, &[0]), DirectoryError::EntryWithoutName { offset });
}

#[test]
fn each_fault_of_an_index_has_a_name() {
    let good = woven();
    let fault = |kind, bytes: Vec<u8>, offset: usize, new: &[u8]| {
        let mut bad = bytes;
        bad[offset..offset + new.len()].copy_from_slice(new);
        match good.format.verify_block(kind, &bad, 3).unwrap_err() {
            Corrupt::Directory(error) => error,
            other => panic!("{other:?}"),
        }
    };
    let root = |offset, new: &[u8]| fault(BlockKind::Root, good.bytes(0), offset, new);
    let node = |offset, new: &[u8]| fault(BlockKind::Node, good.bytes(1), offset, new);
    let info = |info| DirectoryError::IndexRoot { info };
    assert_eq!(root(8, b"x"), DirectoryError::NoDots);
    assert_eq!(root(24, &[1]), info([1, 8, 1, 0]));
    assert_eq!(root(28, &[3]), info([3, 8, 1, 0]));
    assert_eq!(root(29, &[9]), info([1, 9, 1, 0]));
    assert_eq!(root(30, &[2]), info([1, 8, 2, 0]));
    assert_eq!(root(30, &[255]), info([1, 8, 255, 0]));
    assert_eq!(root(31, &[1]), info([1, 8, 1, 1]));
    assert_eq!(
        root(32, &[1, 0]),
        DirectoryError::IndexLimit {
            found: 1,
            expected: 124
        }
    );
    for count in [0_u16, 125, 0xffff] {
        assert_eq!(
            root(34, &count.to_le_bytes()),
            DirectoryError::IndexCount {
                found: count,
                limit: 124
            }
        );
    }
    assert_eq!(
        root(40, &[0xff; 4]),
        DirectoryError::IndexOrder { entry: 2 }
    );
    assert_eq!(root(44, &[3, 0]), DirectoryError::IndexBlock { block: 3 });
    assert_eq!(root(44, &[0, 0]), DirectoryError::IndexBlock { block: 0 });
    assert_eq!(
        node(0, &[1]),
        DirectoryError::EntryWithoutName { offset: 0 }
    );
    assert_eq!(node(5, &[2]), DirectoryError::IndexDisguise);
}

#[test]
fn a_short_block_is_refused() {
    let disk = Disk::new(Shape::new(1024).format());
    let block = disk.bytes(0);
    for kind in [BlockKind::Root, BlockKind::Node, BlockKind::Leaf] {
        for length in [0, 1, 11, 1023] {
            let error = disk.format.verify_block(kind, &block[..length], 1);
            assert_eq!(
                error,
                Err(Corrupt::Truncated {
                    needed: 1024,
                    found: length
                })
            );
        }
    }
    let empty = Disk::of(disk.format, &[], false);
    assert!(empty.lookup(b"x").unwrap().is_none());
    assert!(empty.open().is_empty().is_err());
    assert!(empty.insert(b"x", 20).is_err());
    assert_eq!(empty.list(PositionForm::Wide).unwrap(), Vec::new());
    let empty = Disk::of(disk.format, &[], true);
    assert!(empty.lookup(b"x").is_err());
}
