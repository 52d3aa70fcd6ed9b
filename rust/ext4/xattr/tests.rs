// SPDX-License-Identifier: GPL-2.0

//! Tests of extended attributes: against a model, on damaged tables, and against e2fsprogs.

use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::checksum::software_crc32c;
use crate::inode::RawInode;
use crate::testing::Image;
use crate::Checksummer;
use crate::Corrupt;
use crate::InodeNumber;
use crate::PhysicalBlock;

type Key = (u8, Vec<u8>);

/// A place for attributes, and what should be in it.
struct Place {
    bytes: Vec<u8>,
    is_block: bool,
    model: BTreeMap<Key, Vec<u8>>,
}

impl Place {
    fn new(size: usize, is_block: bool) -> Self {
        let mut bytes = vec![0; size];
        if is_block {
            BlockHeader::init(&mut bytes).unwrap();
        } else {
            // What is behind the fields of an inode without attributes need not be zero.
            bytes.fill(0x5a);
        }
        Self {
            bytes,
            is_block,
            model: BTreeMap::new(),
        }
    }

    fn edit(&mut self) -> Edit<'_> {
        if self.is_block {
            Edit::in_block(&mut self.bytes, false)
        } else {
            Edit::in_inode(&mut self.bytes, false).unwrap()
        }
    }

    fn table(&self) -> Option<Table<'_>> {
        if self.is_block {
            Some(Table::in_block(&self.bytes, false).unwrap())
        } else {
            Table::in_inode(&self.bytes, false).unwrap()
        }
    }

    /// How many bytes entries and values may take.
    fn room(&self) -> usize {
        self.bytes.len() - if self.is_block { 36 } else { 8 }
    }

    fn taken(&self) -> usize {
        let size = |size: usize| size.div_ceil(4) * 4;
        self.model
            .iter()
            .map(|((_, suffix), value)| 16 + size(suffix.len()) + size(value.len()))
            .sum()
    }

    fn set(&mut self, key: &Key, value: &[u8]) {
        let name = XattrName::new(NameIndex::from_raw(key.0), &key.1).unwrap();
        let before = self.bytes.clone();
        let old = self.model.insert(key.clone(), value.to_vec());
        let fits = self.taken() <= self.room();
        let edit = self.edit().set(name, value).unwrap();
        if fits {
            assert_eq!(edit, Set::Done { old_inode: None });
        } else {
            assert_eq!(edit, Set::NoSpace);
            match old {
                Some(old) => self.model.insert(key.clone(), old),
                None => self.model.remove(key),
            };
            if !self.model.is_empty() {
                assert_eq!(self.bytes, before);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        let name = XattrName::new(NameIndex::from_raw(key.0), &key.1).unwrap();
        let removed = self.edit().remove(name).unwrap();
        let old_inode = None;
        assert_eq!(
            removed,
            self.model.remove(key).map(|_| Removed { old_inode })
        );
    }

    fn check(&self) {
        let Some(table) = self.table() else {
            assert!(self.model.is_empty());
            assert!(self.bytes.iter().all(|&byte| byte == 0));
            return;
        };
        table.check_overlap().unwrap();
        assert_eq!(table.free(), self.room() - self.taken());
        assert_eq!(table.is_empty(), self.model.is_empty());
        let listed: Vec<(Key, Vec<u8>)> = table
            .entries()
            .map(|entry| {
                let Value::Here(value) = entry.value else {
                    panic!("a value has gone to an inode");
                };
                ((entry.index.raw(), entry.suffix.to_vec()), value.to_vec())
            })
            .collect();
        assert_eq!(listed.len(), self.model.len());
        for (key, value) in &listed {
            assert_eq!(self.model.get(key), Some(value));
            let name = XattrName::new(NameIndex::from_raw(key.0), &key.1).unwrap();
            let found = table.find(name).unwrap();
            assert_eq!(found.name(), Some(name));
            assert_eq!(found.value, Value::Here(value));
            // Only of a name without bytes and a value of zeroes the hash is 0 in a block.
            assert!(found.hash == 0 || self.is_block);
            assert!(found.hash != 0 || !self.is_block || key.1.is_empty());
        }
        let order = |((index, suffix), _): &(Key, Vec<u8>)| (*index, suffix.len(), suffix.clone());
        assert!(listed
            .windows(2)
            .all(|pair| order(&pair[0]) < order(&pair[1])));
    }
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        ("[ab]{1,3}").prop_map(|suffix| (1, suffix.into_bytes())),
        Just((2, Vec::new())),
        Just((4, vec![b'l'; 255])),
        ("[c-z]{10,30}").prop_map(|suffix| (6, suffix.into_bytes())),
    ]
}

proptest! {
    #[test]
    fn attributes_are_a_map(
        (size, is_block) in prop::sample::select(vec![
            (8, false), (24, false), (96, false), (100, false), (892, false),
            (1024, true), (4096, true), (65536, true),
        ]),
        operations in prop::collection::vec(
            (key(), prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..300))),
            1..60,
        ),
    ) {
        let mut place = Place::new(size, is_block);
        for (key, value) in &operations {
            match value {
                Some(value) => place.set(key, value),
                None => place.remove(key),
            }
            place.check();
        }
    }

    #[test]
    fn nonsense_is_never_trusted(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        ea_inode: bool,
        key in key(),
        value in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let name = XattrName::new(NameIndex::from_raw(key.0), &key.1).unwrap();
        for is_block in [false, true] {
            if let Some(start) = bytes.first_chunk_mut::<4>() {
                *start = MAGIC.to_le_bytes();
            }
            if let (true, Some(header)) = (is_block, bytes.get_mut(4..12)) {
                header.copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
            }
            let table = if is_block {
                Table::in_block(&bytes, ea_inode).ok()
            } else {
                Table::in_inode(&bytes, ea_inode).ok().flatten()
            };
            if let Some(table) = table {
                prop_assert!(table.entries().count() <= bytes.len() / 16);
                prop_assert!(table.free() <= bytes.len());
            }
            let mut copy = bytes.clone();
            let edit = if is_block {
                Some(Edit::in_block(&mut copy, ea_inode))
            } else {
                Edit::in_inode(&mut copy, ea_inode)
            };
            if let Some(mut edit) = edit {
                let set = edit.set(name, &value);
                let found = edit.table().ok().and_then(|table| table.find(name));
                if let Ok(Set::Done { .. }) = set {
                    prop_assert_eq!(found.map(|entry| entry.value), Some(Value::Here(&value)));
                }
                let _ = edit.remove(name);
            }
        }
    }

    #[test]
    fn damage_to_a_table_is_survived(
        damage in prop::collection::vec((0..256_usize, any::<u8>()), 1..6),
        which in 0..4_usize,
    ) {
        let mut place = Place::new(256, true);
        for number in 0..4_u8 {
            place.set(&(1, vec![b'n', b'a' + number]), &[number; 20]);
        }
        for (offset, byte) in damage {
            place.bytes[offset] = byte;
        }
        let suffix = [b'n', b'a' + which as u8];
        let name = XattrName::new(NameIndex::USER, &suffix).unwrap();
        let mut edit = Edit::in_block(&mut place.bytes, true);
        if let Ok(Set::Done { .. }) = edit.set(name, b"new") {
            let table = edit.table().unwrap();
            prop_assert_eq!(table.find(name).unwrap().value, Value::Here(b"new"));
        }
        if let Ok(Some(_)) = edit.remove(name) {
            prop_assert!(edit.table().is_ok());
        }
    }
}

#[test]
fn each_fault_has_a_name() {
    let mut place = Place::new(256, true);
    place.set(&(1, b"one".to_vec()), &[1; 10]);
    place.set(&(1, b"two".to_vec()), &[2; 10]);
    let good = place.bytes;
    let fault = |offset: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[offset..offset + bytes.len()].copy_from_slice(bytes);
        Table::in_block(&bad, false).unwrap_err()
    };
    assert_eq!(fault(0, &[0; 4]), XattrError::Magic { found: 0 });
    assert_eq!(
        fault(8, &[2]),
        XattrError::Header {
            blocks: 2,
            references: 1
        }
    );
    assert_eq!(
        fault(33, &[1, 0, 1]),
        XattrError::ValuePlace {
            entry: 32,
            offset: 256,
            size: 10
        }
    );
    assert_eq!(
        fault(34, &[33]),
        XattrError::ValuePlace {
            entry: 32,
            offset: 33,
            size: 10
        }
    );
    assert_eq!(
        fault(36, &[9]),
        XattrError::ValueInode {
            entry: 32,
            inode: 9
        }
    );
    assert_eq!(fault(49, &[0]), XattrError::Name { entry: 32 });
    assert_eq!(fault(52, &[200]), XattrError::Unterminated { entry: 52 });

    let mut shared = good.clone();
    let offset = [good[34], good[35]];
    shared[54..56].copy_from_slice(&offset);
    let name = XattrName::new(NameIndex::USER, b"one").unwrap();
    let mut edit = Edit::in_block(&mut shared, false);
    assert_eq!(
        edit.set(name, b"x"),
        Err(XattrError::ValueOverlap { entry: 32 })
    );
}

#[test]
fn a_value_in_an_inode_is_told() {
    let mut place = Place::new(1024, true);
    place.set(&(1, b"far".to_vec()), &[]);
    place.set(&(1, b"near".to_vec()), b"value");
    place.bytes[36..44].copy_from_slice(&[77, 0, 0, 0, 0, 0, 1, 0]);
    let inode = InodeNumber::new(77).unwrap();
    let far = XattrName::new(NameIndex::USER, b"far").unwrap();
    let table = Table::in_block(&place.bytes, true).unwrap();
    let value = Value::Inode { inode, size: 65536 };
    assert_eq!(table.find(far).unwrap().value, value);
    assert_eq!(value.size(), 65536);

    let mut copy = place.bytes.clone();
    let mut edit = Edit::in_block(&mut copy, true);
    let old_inode = Some(inode);
    assert_eq!(edit.set(far, b"here now"), Ok(Set::Done { old_inode }));
    assert_eq!(edit.remove(far).unwrap().unwrap().old_inode, None);
    let mut edit = Edit::in_block(&mut place.bytes, true);
    assert_eq!(edit.remove(far), Ok(Some(Removed { old_inode })));
    assert_eq!(edit.remove(far), Ok(None));
}

#[test]
fn a_block_knows_its_number() {
    let mut place = Place::new(1024, true);
    place.set(&(1, b"x".to_vec()), b"y");
    let checksum = Some(Checksummer::with_seed(software_crc32c, 5));
    let number = PhysicalBlock::new(1 << 40);
    BlockHeader::set_references(&mut place.bytes, 3).unwrap();
    BlockHeader::update_checksum(&mut place.bytes, number, checksum).unwrap();
    assert_eq!(BlockHeader::parse(&place.bytes).unwrap().references(), 3);
    BlockHeader::verify(&place.bytes, number, checksum, false).unwrap();
    let elsewhere = number.checked_add(1).unwrap();
    let error = BlockHeader::verify(&place.bytes, elsewhere, checksum, false);
    assert!(matches!(error, Err(Corrupt::Checksum(_))));
    BlockHeader::verify(&place.bytes, elsewhere, None, false).unwrap();
}

/// A filesystem with a file, whose inode it tells, that has attributes in the inode and in a block.
fn image(options: &[&str]) -> (Image, InodeNumber) {
    let mut image = Image::make(options, 8192);
    let long = |byte: &str, count| byte.repeat(count);
    image.debugfs(&[
        "write /dev/null file",
        "ea_set file user.comment hello",
        "ea_set file security.x abc",
        &format!("ea_set file user.long {}", long("B", 200)),
        &format!("ea_set file trusted.longer {}", long("C", 301)),
        &format!("ea_set file user.{} x", long("n", 255)),
    ]);
    let inode = image.inode_number("file");
    (image, inode)
}

const FLAVOURS: [&[&str]; 3] = [
    &["-t", "ext4", "-b", "1024"],
    &[
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "512",
        "-O",
        "metadata_csum_seed",
    ],
    &["-t", "ext3", "-b", "1024", "-I", "128"],
];

/// All attributes of the file, wherever they are.
fn attributes(image: &Image, inode: InodeNumber) -> BTreeMap<String, Vec<u8>> {
    let valid = image.validate();
    let raw = RawInode::from_bytes(image.inode(&valid.geometry, inode)).unwrap();
    let mut tables = Vec::new();
    tables.extend(
        raw.xattr_area()
            .and_then(|area| Table::in_inode(area, false).unwrap()),
    );
    if let Some(number) = raw.xattr_block(true) {
        let block = image.block(number);
        BlockHeader::verify(block, number, valid.checksum, false).unwrap();
        let table = Table::in_block(block, false).unwrap();
        for entry in table.entries() {
            let Value::Here(value) = entry.value else {
                panic!("a value is in an inode");
            };
            assert_eq!(entry.hash, super::block::entry_hash(entry.suffix, value));
        }
        tables.push(table);
    }
    let mut found = BTreeMap::new();
    for entry in tables.iter().flat_map(Table::entries) {
        let Value::Here(value) = entry.value else {
            panic!("a value is in an inode");
        };
        let prefix = entry.index.prefix().unwrap();
        let suffix = core::str::from_utf8(entry.suffix).unwrap();
        found.insert(format!("{prefix}{suffix}"), value.to_vec());
    }
    found
}

#[test]
fn attributes_of_e2fsprogs_are_read() {
    for options in FLAVOURS {
        let (image, inode) = image(options);
        let found = attributes(&image, inode);
        assert_eq!(found.len(), 5);
        assert_eq!(found["user.comment"], b"hello");
        assert_eq!(found["security.x"], b"abc");
        assert_eq!(found["user.long"], [b'B'; 200]);
        assert_eq!(found["trusted.longer"], [b'C'; 301]);
        assert_eq!(found[&format!("user.{}", "n".repeat(255))], b"x");
    }
}

/// Sets or removes attributes where they are, or where there is room, as a filesystem would.
fn change(image: &mut Image, inode: InodeNumber, changes: &[(&str, Option<&[u8]>)]) {
    let valid = image.validate();
    let raw = RawInode::from_bytes(image.inode(&valid.geometry, inode)).unwrap();
    let number = raw.xattr_block(true).unwrap();
    let mut block = image.block(number).to_vec();
    let raw = RawInode::from_bytes_mut(image.inode_mut(&valid.geometry, inode)).unwrap();
    for (full, value) in changes {
        let name = XattrName::from_full(full.as_bytes()).unwrap();
        let mut here = raw
            .xattr_area_mut()
            .and_then(|area| Edit::in_inode(area, false));
        let mut there = Edit::in_block(&mut block, false);
        let Some(value) = value else {
            let from_inode = here.and_then(|mut here| here.remove(name).unwrap());
            assert!(from_inode.or(there.remove(name).unwrap()).is_some());
            continue;
        };
        let set = here.as_mut().map(|here| here.set(name, value).unwrap());
        if let Some(Set::Done { .. }) = set {
            there.remove(name).unwrap();
        } else {
            assert!(matches!(there.set(name, value).unwrap(), Set::Done { .. }));
            if let Some(here) = &mut here {
                here.remove(name).unwrap();
            }
        }
    }
    raw.update_checksum(valid.checksum, inode);
    BlockHeader::update_checksum(&mut block, number, valid.checksum).unwrap();
    image.block_mut(number).copy_from_slice(&block);
}

#[test]
fn what_we_write_is_clean_for_e2fsck() {
    for options in FLAVOURS {
        let (mut image, inode) = image(options);
        change(
            &mut image,
            inode,
            &[
                ("user.comment", Some(b"something longer than before")),
                ("user.long", Some(b"short")),
                ("security.x", None),
                ("security.y", Some(b"12345")),
                ("trusted.bytes", Some(&[0xff, 0x80, 0x00, 0x7f, 0xfe])),
                ("user.gr\u{fc}n", Some(&[0xc3; 33])),
                ("user.empty", Some(b"")),
                (
                    "system.posix_acl_access",
                    Some(&[1, 0, 0, 0, 1, 0, 6, 0, 4, 0, 4, 0, 0x20, 0, 4, 0]),
                ),
            ],
        );
        image.assert_clean();
        let found = attributes(&image, inode);
        assert_eq!(found.len(), 9);
        assert_eq!(found["user.comment"], b"something longer than before");
        let listed = image.debugfs(&["ea_list file"]);
        for line in [
            "user.comment (28) = \"something longer than before\"",
            "user.long (5) = \"short\"",
            "security.y (5) = \"12345\"",
            "trusted.bytes (5) = ff 80 00 7f fe",
            "user.empty (0)",
        ] {
            assert!(listed.contains(line), "{line} is not in {listed}");
        }
        assert!(!listed.contains("security.x"));

        // And e2fsprogs can go on from there.
        image.debugfs(&["ea_set file user.more more", "ea_rm file user.long"]);
        image.assert_clean();
        let found = attributes(&image, inode);
        assert_eq!(found["user.more"], b"more");
        assert!(!found.contains_key("user.long"));
    }
}
