// SPDX-License-Identifier: GPL-2.0

//! Names of equal hash.

use std::collections::BTreeMap;
use std::format;

use super::check::check;
use super::store::Disk;
use super::store::Shape;
use crate::dir::Insertion;
use crate::dir::PositionForm;
use crate::hash::HashVersion;
use crate::hash::NameHasher;
use crate::hash::Signedness;

/// Names that the legacy hash cannot tell from each other, found by trying.
pub(crate) const ALIKE: [&str; 24] = [
    "7ca96-E`",
    "15d035-t|",
    "15d035-|t",
    "1ab213-dB",
    "1b2119-Y`",
    "1b2119-`Y",
    "274f24-ar",
    "2acf43-^c",
    "2acf43-c^",
    "2b374e-fk",
    "2b374e-kf",
    "2e297c-[5",
    "2e297c-k%",
    "2e9515-W.",
    "308966-DE",
    "308966-ED",
    "3b0d78-xl",
    "43f9fe-GH",
    "43f9fe-HG",
    "44d4ae-cs",
    "5f7422-2J",
    "5f7422-J2",
    "75c913-U>",
    "7ee19f-|M",
];

/// A directory whose names are hashed with the legacy function.
pub(crate) fn legacy(block_size: u32) -> Shape {
    Shape {
        version: HashVersion::Legacy,
        ..Shape::new(block_size)
    }
}

/// Whether a leaf continues another one.
fn has_chain(disk: &Disk) -> bool {
    (1..disk.len()).chain([0]).any(|number| {
        let block = disk.bytes(number);
        let header = match number {
            0 => 32,
            // A node is an unused entry as large as a block.
            _ if block[..8] == [0, 0, 0, 0, 0, 4, 0, 0] => 8,
            _ => return false,
        };
        let count = usize::from(block[header + 2]) | usize::from(block[header + 3]) << 8;
        (1..count).any(|entry| block[header + entry * 8] & 1 == 1)
    })
}

#[test]
fn they_are_alike() {
    let hasher = NameHasher::new(HashVersion::Legacy, Signedness::Signed, [9; 4]);
    for name in ALIKE {
        assert_eq!(hasher.hash(name.as_bytes()).major, 0x2000_0000);
    }
}

#[test]
fn leaves_continue_each_other() {
    // All that are alike come first, or one after the other between the others.
    for distance in [0, 100] {
        let disk = Disk::new(legacy(1024).format());
        let mut model = BTreeMap::new();
        let mut insert = |name: &str| {
            let Insertion::Done(_) = disk.insert(name.as_bytes(), 20).unwrap() else {
                panic!("an insertion was refused");
            };
            model.insert(name.as_bytes().to_vec(), 20);
        };
        let mut alike = ALIKE.iter().enumerate().peekable();
        for number in 0..3000 {
            insert(&format!("{number:y>200}"));
            while let Some((_, name)) = alike.next_if(|(at, _)| at * distance <= number) {
                insert(name);
            }
        }
        check(&disk, &model);
        assert!(
            has_chain(&disk),
            "no split went through names of equal hash"
        );

        let listed = disk.list(PositionForm::Wide).unwrap();
        let alike = listed.iter().filter(|(_, _, at)| *at == 0x1000_0000 << 32);
        assert_eq!(alike.count(), ALIKE.len());

        for name in ALIKE {
            let removed = disk.remove(name.as_bytes()).unwrap();
            assert!(removed.is_some());
            model.remove(name.as_bytes());
            check(&disk, &model);
        }
    }
}
