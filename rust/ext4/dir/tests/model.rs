// SPDX-License-Identifier: GPL-2.0

//! Directories against a map from names to inodes.

use std::collections::btree_map::Entry;
use std::collections::BTreeMap;
use std::format;
use std::vec;
use std::vec::Vec;

use crate::dir::FileType;
use crate::dir::Insertion;
use crate::dir::Name;
use crate::dir::PositionForm;
use crate::hash::HashVersion;
use crate::InodeNumber;
use crate::LogicalBlock;
use proptest::prelude::*;

use super::check::check;
use super::store::Disk;
use super::store::Error;
use super::store::Shape;
use super::store::OWN;

#[derive(Clone, Debug)]
enum Operation {
    Insert(usize),
    Remove(usize),
    Redirect(usize, u32),
}

/// The names that operations draw from: short and long ones, and all in between.
fn name(number: usize) -> Vec<u8> {
    let mut name = format!("{number:x}").into_bytes();
    let length = [0, 3, 17, 60, 200, 255][number % 6];
    while name.len() < length {
        name.push(b'a' + (number % 26) as u8);
    }
    name
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (0..900_usize).prop_map(Operation::Insert),
        3 => (0..900_usize).prop_map(Operation::Remove),
        1 => (0..900_usize, 1..1_000_000_u32).prop_map(|(n, i)| Operation::Redirect(n, i)),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let versions = [HashVersion::Legacy, HashVersion::HalfMd4, HashVersion::Tea];
    (
        prop::sample::select(vec![1024_u32, 1024, 2048, 4096, 65536]),
        any::<bool>(),
        prop::bool::weighted(0.8),
        any::<bool>(),
        prop::sample::select(versions.to_vec()),
    )
        .prop_map(
            |(block_size, checksums, dir_index, large_dir, version)| Shape {
                block_size,
                checksums,
                dir_index,
                large_dir,
                version,
            },
        )
}

fn apply(disk: &Disk, model: &mut BTreeMap<Vec<u8>, u32>, operation: &Operation) {
    match operation {
        Operation::Insert(number) => {
            let name = name(*number);
            if model.contains_key(&name) {
                return;
            }
            let inode = *number as u32 + 20;
            let Insertion::Done(_) = disk.insert(&name, inode).unwrap() else {
                panic!("an insertion was refused");
            };
            model.insert(name, inode);
        }
        Operation::Remove(number) => {
            let name = name(*number);
            let removed = match disk.lookup(&name).unwrap() {
                Some(found) if number % 2 == 0 => disk.remove_found(&name, found).unwrap(),
                _ => disk.remove(&name).unwrap(),
            };
            assert_eq!(removed.map(|found| found.inode.get()), model.remove(&name));
        }
        Operation::Redirect(number, inode) => {
            let name = name(*number);
            let old = disk
                .open()
                .set_inode(
                    Name::new(&name).unwrap(),
                    InodeNumber::new(*inode).unwrap(),
                    FileType::Symlink,
                )
                .unwrap();
            let expected = model
                .get_mut(&name)
                .map(|slot| core::mem::replace(slot, *inode));
            assert_eq!(old.map(|found| found.inode.get()), expected);
            if old.is_some() {
                let found = disk.lookup(&name).unwrap().unwrap();
                assert_eq!(found.file_type, FileType::Symlink);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_directory_is_a_map(shape in shape(), operations in prop::collection::vec(operation(), 1..500)) {
        let disk = Disk::new(shape.format());
        let mut model = BTreeMap::new();
        for (number, operation) in operations.iter().enumerate() {
            apply(&disk, &mut model, operation);
            if number % 16 == 0 {
                check(&disk, &model);
            }
        }
        check(&disk, &model);
    }

    /// What was found may have moved, or have come to lie behind another entry, by the time it is removed.
    #[test]
    fn a_stale_place_does_not_mislead(
        shape in shape(),
        names in prop::collection::hash_set(0..400_u16, 1..300),
        more in prop::collection::hash_set(400..600_u16, 0..100),
    ) {
        let disk = Disk::new(shape.format());
        let mut model = BTreeMap::new();
        let mut places = Vec::new();
        for &number in &names {
            apply(&disk, &mut model, &Operation::Insert(number.into()));
        }
        for &number in &names {
            places.push((name(number.into()), disk.lookup(&name(number.into())).unwrap().unwrap()));
        }
        // These split leaves.
        for &number in &more {
            apply(&disk, &mut model, &Operation::Insert(number.into()));
        }
        for (name, found) in places {
            let removed = disk.remove_found(&name, found).unwrap();
            prop_assert_eq!(removed.map(|found| found.inode.get()), model.remove(&name));
        }
        check(&disk, &model);
    }

    #[test]
    fn running_out_of_blocks_leaves_a_valid_directory(
        checksums: bool,
        capacity in 1..60_u32,
        operations in prop::collection::vec(operation(), 1..400),
    ) {
        let disk = Disk::new(Shape { checksums, ..Shape::new(1024) }.format());
        disk.capacity.set(capacity);
        let mut model = BTreeMap::new();
        for operation in &operations {
            if let Operation::Insert(number) = operation {
                let name = name(*number);
                if let Entry::Vacant(slot) = model.entry(name.clone()) {
                    match disk.insert(&name, 20) {
                        Ok(Insertion::Done(_)) => {
                            slot.insert(20);
                        }
                        Err(Error::NoSpace) => {
                            // Growing the directory is possible now: as it will be on a disk on which
                            // something was deleted.
                            check(&disk, &model);
                            let more = u32::from(number.is_power_of_two());
                            disk.capacity.set(disk.capacity.get() + more);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            } else {
                apply(&disk, &mut model, operation);
            }
        }
        check(&disk, &model);
    }
}

#[test]
fn a_new_directory_has_dots() {
    let disk = Disk::new(Shape::new(4096).format());
    check(&disk, &BTreeMap::new());
    assert_eq!(disk.lookup(b".").unwrap().unwrap().inode, OWN);
    assert_eq!(
        disk.lookup(b"..").unwrap().unwrap().inode,
        InodeNumber::ROOT
    );
    assert_eq!(disk.lookup(b"...").unwrap(), None);
    assert_eq!(disk.remove(b".").unwrap(), None);
    assert_eq!(disk.insert(b"..", 5).unwrap(), Insertion::Exists);
}

/// As when a file is renamed within its directory, which that turns into an index.
#[test]
fn a_place_in_the_block_that_becomes_the_root_is_stale() {
    let disk = Disk::new(Shape::new(1024).format());
    let _ = disk.insert(b"first", 12).unwrap();
    let found = disk.lookup(b"first").unwrap().unwrap();
    let mut number = 0;
    while !disk.indexed.get() {
        let _ = disk.insert(&name(number), 13).unwrap();
        number += 1;
    }
    let removed = disk.remove_found(b"first", found).unwrap().unwrap();
    assert_eq!(removed.inode.get(), 12);
    assert_eq!(disk.lookup(b"first").unwrap(), None);
}

#[test]
fn the_parent_can_change_with_and_without_an_index() {
    let disk = Disk::new(Shape::new(1024).format());
    let mut model = BTreeMap::new();
    for number in 0..40 {
        disk.open()
            .set_parent(InodeNumber::new(100 + number).unwrap())
            .unwrap();
        let dots = disk.lookup(b"..").unwrap().unwrap();
        assert_eq!(dots.inode.get(), 100 + number);
        assert_eq!(dots.file_type, FileType::Directory);
        apply(&disk, &mut model, &Operation::Insert(number as usize));
    }
    assert!(disk.indexed.get());
    assert_eq!(disk.lookup(b".").unwrap().unwrap().inode, OWN);
    check(&disk, &model);
}

#[test]
fn a_name_is_not_inserted_twice() {
    let disk = Disk::new(Shape::new(1024).format());
    let _ = disk.insert(b"name", 20).unwrap();
    assert_eq!(disk.insert(b"name", 21).unwrap(), Insertion::Exists);
    assert_eq!(disk.lookup(b"name").unwrap().unwrap().inode.get(), 20);
}

#[test]
fn a_hint_saves_reading() {
    let shape = Shape {
        dir_index: false,
        ..Shape::new(1024)
    };
    let disk = Disk::new(shape.format());
    let mut hint = LogicalBlock::ZERO;
    for number in 0..2000_u32 {
        let name = format!("some name number {number}");
        let name = Name::new(name.as_bytes()).unwrap();
        let before = disk.reads.get();
        let inode = InodeNumber::new(number + 20).unwrap();
        match disk
            .open()
            .insert(name, inode, FileType::Regular, hint)
            .unwrap()
        {
            Insertion::Done(block) => hint = block,
            other => panic!("{other:?}"),
        }
        assert!(disk.reads.get() - before <= 1);
    }
    assert!(disk.len() > 50);
    // A hint from another time must not do harm.
    let name = Name::new(b"last").unwrap();
    let far = LogicalBlock::new(1 << 30);
    let last = disk
        .open()
        .insert(name, OWN, FileType::Regular, far)
        .unwrap();
    assert!(matches!(last, Insertion::Done(_)));
}

/// Fills a directory until it has the given number of levels, then empties it.
fn fill_to(shape: Shape, levels: u8, limit: usize) {
    let disk = Disk::new(shape.format());
    disk.verify.set(false);
    let mut model = BTreeMap::new();
    let name = |number: usize| format!("{number:0>250}").into_bytes();
    let mut number = 0;
    while disk.bytes(0)[0x1e] + 1 < levels || !disk.indexed.get() {
        assert!(number < limit, "the index does not grow");
        let Insertion::Done(_) = disk.insert(&name(number), 20).unwrap() else {
            panic!("an insertion was refused");
        };
        model.insert(name(number), 20);
        number += 1;
    }
    disk.verify.set(true);
    check(&disk, &model);
    for gone in 0..number {
        assert!(disk.remove(&name(gone)).unwrap().is_some());
        model.remove(&name(gone));
        if gone % 5000 == 4999 {
            check(&disk, &model);
        }
    }
    check(&disk, &model);
}

#[test]
fn two_levels() {
    fill_to(Shape::new(1024), 2, 1000);
}

#[test]
fn three_levels_with_large_dir() {
    let shape = Shape {
        large_dir: true,
        ..Shape::new(1024)
    };
    fill_to(shape, 3, 100_000);
}

#[test]
fn a_full_index_refuses_and_stays_valid() {
    let disk = Disk::new(Shape::new(1024).format());
    disk.verify.set(false);
    let mut model = BTreeMap::new();
    for number in 0..100_000 {
        let name = format!("{number:0>250}").into_bytes();
        match disk.insert(&name, 20).unwrap() {
            Insertion::Done(_) => {
                model.insert(name, 20);
            }
            Insertion::Full => {
                assert!(model.len() > 20_000);
                assert_eq!(disk.lookup(&name).unwrap(), None);
                disk.verify.set(true);
                check(&disk, &model);
                return;
            }
            Insertion::Exists => panic!("a new name exists"),
        }
    }
    panic!("the index grows for ever");
}

#[test]
fn a_hundred_thousand_names() {
    let disk = Disk::new(Shape::new(4096).format());
    disk.verify.set(false);
    let mut model = BTreeMap::new();
    for number in 0..100_000_u32 {
        let name = format!("file number {number}").into_bytes();
        let Insertion::Done(_) = disk.insert(&name, number + 20).unwrap() else {
            panic!("an insertion was refused");
        };
        model.insert(name, number + 20);
    }
    // Half full leaves at the least: a name takes 28 bytes here.
    assert!(disk.len() < 100_000 * 28 / 4096 * 2);
    assert_eq!(disk.bytes(0)[0x1e], 1);
    check(&disk, &model);
    disk.verify.set(true);
    let positions = disk.list(PositionForm::Narrow).unwrap();
    assert_eq!(positions.len(), 100_002);
}
