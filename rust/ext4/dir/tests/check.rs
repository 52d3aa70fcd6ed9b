// SPDX-License-Identifier: GPL-2.0

//! A check of a whole directory that shares no code with what it checks.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::vec::Vec;

use crate::dir::PositionForm;

use super::store::Disk;

fn u16_at(block: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([block[at], block[at + 1]]))
}

fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(block[at..at + 4].try_into().unwrap())
}

/// The names of a leaf.
fn names(disk: &Disk, block: &[u8]) -> Vec<(Vec<u8>, u32)> {
    let end = block.len()
        - if disk.format.checksum.is_some() {
            12
        } else {
            0
        };
    let mut at = 0;
    let mut names = Vec::new();
    while at < end {
        let length = match u16_at(block, at + 4) {
            0xffff => 65536,
            length => length,
        };
        assert!(length >= 12 && length % 4 == 0);
        if u32_at(block, at) != 0 {
            let name_length = usize::from(block[at + 6]);
            names.push((
                block[at + 8..at + 8 + name_length].to_vec(),
                u32_at(block, at),
            ));
        }
        at += length;
    }
    assert_eq!(at, end);
    names
}

struct Walk<'a> {
    disk: &'a Disk,
    seen: BTreeSet<u32>,
    names: Vec<(Vec<u8>, u32)>,
    /// The smallest and the largest major hash of each leaf, and its hash in the index.
    leaves: Vec<(u32, Option<(u32, u32)>)>,
}

impl Walk<'_> {
    fn node(&mut self, number: u32, levels: usize, start: u32) {
        assert!(
            self.seen.insert(number),
            "block {number} is used more than once"
        );
        let block = self.disk.bytes(number);
        if levels == 0 {
            let names = names(self.disk, &block);
            let hashes: Vec<u32> = names
                .iter()
                .map(|(name, _)| self.disk.format.hasher.hash(name).major)
                .collect();
            let range = hashes
                .iter()
                .min()
                .copied()
                .zip(hashes.iter().max().copied());
            self.leaves.push((start, range));
            self.names.extend(names);
            return;
        }
        let header = if number == 0 { 32 } else { 8 };
        let tail = if self.disk.format.checksum.is_some() {
            8
        } else {
            0
        };
        let (limit, count) = (u16_at(&block, header), u16_at(&block, header + 2));
        assert_eq!(limit, (block.len() - header - tail) / 8);
        assert!(count >= 1 && count <= limit);
        for entry in 0..count {
            let at = header + entry * 8;
            let hash = if entry == 0 {
                start
            } else {
                u32_at(&block, at)
            };
            self.node(u32_at(&block, at + 4), levels - 1, hash);
        }
    }
}

/// Checks the structure of a directory and that it holds exactly what `model` says.
pub(crate) fn check(disk: &Disk, model: &BTreeMap<Vec<u8>, u32>) {
    let mut found: Vec<(Vec<u8>, u32)> = Vec::new();
    if disk.indexed.get() {
        let root = disk.bytes(0);
        let levels = usize::from(root[0x1e]) + 1;
        let mut walk = Walk {
            disk,
            seen: BTreeSet::new(),
            names: Vec::new(),
            leaves: Vec::new(),
        };
        walk.node(0, levels, 0);
        assert_eq!(walk.seen.len() as u32, disk.len(), "a block is not used");
        for pair in walk.leaves.windows(2) {
            let (start, next) = (pair[0].0, pair[1].0);
            assert!(start <= next && (start < next || start & 1 == 1));
            if let Some((_, largest)) = pair[0].1 {
                assert!(largest < next);
            }
        }
        for (start, range) in &walk.leaves {
            if let Some((smallest, _)) = range {
                assert!(*smallest >= start & !1);
            }
        }
        found.extend(walk.names);
    } else {
        for number in 0..disk.len() {
            let skip = if number == 0 { 2 } else { 0 };
            found.extend(names(disk, &disk.bytes(number)).into_iter().skip(skip));
        }
    }
    found.sort();
    let expected: Vec<_> = model.iter().map(|(n, i)| (n.clone(), *i)).collect();
    assert!(
        found == expected,
        "the blocks hold other names than the model"
    );

    for (name, inode) in model {
        let entry = disk.lookup(name).unwrap().expect("a name is not found");
        assert_eq!(entry.inode.get(), *inode);
    }
    let mut listed = disk.list(PositionForm::Wide).unwrap();
    assert_eq!(listed[0].0, b".");
    if disk.open().has_hash_order() {
        assert!(listed.windows(2).all(|pair| pair[0].2 <= pair[1].2));
    } else {
        assert!(listed.windows(2).all(|pair| pair[0].2 < pair[1].2));
    }
    listed.sort();
    let listed: Vec<_> = listed
        .into_iter()
        .filter(|(name, _, _)| name != b"." && name != b"..")
        .map(|(name, inode, _)| (name, inode))
        .collect();
    assert!(listed == expected, "the iteration differs from the model");
    assert_eq!(disk.open().is_empty().unwrap(), model.is_empty());
}
