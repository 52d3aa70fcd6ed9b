// SPDX-License-Identifier: GPL-2.0

//! A store in memory that watches over the rules for stores, and a whole-tree check.

use core::ops::Deref;
use core::ops::DerefMut;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use super::super::node::Node;
use super::*;
use crate::checksum::software_crc32c;
use crate::Checksummer;
use crate::Corrupt;
use crate::InodeNumber;

/// Where the store takes node blocks from; no data may be there.
pub(super) const NODES: u64 = 1 << 40;

#[derive(Debug, PartialEq)]
pub(super) enum Error {
    Corrupt(Corrupt),
    /// The store was told to fail.
    Injected,
    /// There is no such node block.
    Missing,
}

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

#[derive(Default)]
struct Disk {
    blocks: BTreeMap<u64, Vec<u8>>,
    /// How often a block is held: -1 for writing, or by how many for reading.
    held: BTreeMap<u64, i32>,
}

/// What a step of an operation has touched.
#[derive(Default, Debug)]
pub(super) struct Touched {
    pub(super) modified: BTreeSet<u64>,
    pub(super) allocated: BTreeSet<u64>,
    pub(super) freed: BTreeSet<u64>,
}

pub(super) struct Store {
    disk: Rc<RefCell<Disk>>,
    block_size: usize,
    pub(super) checksum: Option<Checksummer>,
    /// The block that will be allocated next.
    pub(super) next: u64,
    /// After how many calls to fail; and that only once.
    pub(super) fail_in: Option<u32>,
    /// Whether nodes are read without being verified.
    pub(super) trust: bool,
    /// How often to say that there is room.
    pub(super) room: u32,
    /// What the current step may touch, when that is to be checked.
    pub(super) allowed: Option<Footprint>,
    pub(super) touched: Touched,
}

impl Store {
    /// An empty store. Nodes have `max` entries.
    pub(super) fn new(max: usize) -> Self {
        let inode = InodeNumber::new(12).unwrap();
        Self {
            disk: Rc::default(),
            block_size: 12 + 12 * max + 4,
            checksum: Some(Checksummer::new(software_crc32c).for_inode(inode, 99)),
            next: NODES,
            fail_in: None,
            trust: false,
            room: u32::MAX,
            allowed: None,
            touched: Touched::default(),
        }
    }

    /// Says what the next step may touch.
    pub(super) fn expect(&mut self, allowed: Footprint) {
        self.check_footprint();
        self.allowed = Some(allowed);
        self.touched = Touched::default();
    }

    /// Checks that the last step has kept to what it may touch.
    pub(super) fn check_footprint(&self) {
        if let Some(allowed) = self.allowed {
            let touched = &self.touched;
            let ok = touched.modified.len() <= allowed.modified.into()
                && touched.allocated.len() <= allowed.allocated.into()
                && touched.freed.difference(&touched.allocated).count() <= allowed.freed.into();
            assert!(ok, "{touched:?} exceeds {allowed:?}");
        }
    }

    pub(super) fn nodes(&self) -> usize {
        self.disk.borrow().blocks.len()
    }

    pub(super) fn bytes(&self, at: PhysicalBlock) -> Option<Vec<u8>> {
        self.disk.borrow().blocks.get(&at.get()).cloned()
    }

    pub(super) fn set_bytes(&mut self, at: PhysicalBlock, bytes: Vec<u8>) {
        self.disk.borrow_mut().blocks.insert(at.get(), bytes);
    }

    pub(super) fn addresses(&self) -> Vec<u64> {
        self.disk.borrow().blocks.keys().copied().collect()
    }

    fn may_fail(&mut self) -> Result<(), Error> {
        match self.fail_in.as_mut() {
            Some(0) => {
                self.fail_in = None;
                Err(Error::Injected)
            }
            Some(calls) => {
                *calls -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn hold_mut(&self, at: u64, bytes: Vec<u8>) -> Written {
        let mut disk = self.disk.borrow_mut();
        let held = disk.held.entry(at).or_default();
        assert_eq!(*held, 0, "block {at} is held while taken for writing");
        *held = -1;
        Written {
            disk: self.disk.clone(),
            at,
            bytes,
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        assert!(self.disk.borrow().held.values().all(|&held| held == 0));
    }
}

pub(super) struct Read {
    disk: Rc<RefCell<Disk>>,
    at: u64,
    bytes: Vec<u8>,
}

impl Deref for Read {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        *self.disk.borrow_mut().held.get_mut(&self.at).unwrap() -= 1;
    }
}

pub(super) struct Written {
    disk: Rc<RefCell<Disk>>,
    at: u64,
    bytes: Vec<u8>,
}

impl Deref for Written {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Written {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let mut disk = self.disk.borrow_mut();
        disk.held.insert(self.at, 0);
        disk.blocks
            .insert(self.at, core::mem::take(&mut self.bytes));
    }
}

impl NodeReader for Store {
    type Error = Error;
    type Block = Read;

    fn read(&self, at: PhysicalBlock, expected: &Expected) -> Result<Read, Error> {
        let mut disk = self.disk.borrow_mut();
        let bytes = disk.blocks.get(&at.get()).ok_or(Error::Missing)?.clone();
        if !self.trust {
            expected.verify(&bytes, self.checksum, |_, _| true)?;
        }
        let held = disk.held.entry(at.get()).or_default();
        assert!(*held >= 0, "block {at} is held for writing while read");
        *held += 1;
        assert!(disk.held.values().filter(|&&held| held > 0).count() <= 2);
        Ok(Read {
            disk: self.disk.clone(),
            at: at.get(),
            bytes,
        })
    }
}

impl NodeStore for Store {
    type BlockMut = Written;

    fn checksum(&self) -> Option<Checksummer> {
        self.checksum
    }

    fn modify(&mut self, at: PhysicalBlock) -> Result<Written, Error> {
        self.may_fail()?;
        self.touched.modified.insert(at.get());
        let bytes = self
            .bytes(at)
            .expect("a node is read before it is modified");
        Ok(self.hold_mut(at.get(), bytes))
    }

    fn allocate(&mut self, _goal: PhysicalBlock) -> Result<(PhysicalBlock, Written), Error> {
        self.may_fail()?;
        let at = self.next;
        self.next += 1;
        self.touched.allocated.insert(at);
        let block = self.hold_mut(at, vec![0xa5; self.block_size]);
        Ok((PhysicalBlock::new(at), block))
    }

    fn free(&mut self, at: PhysicalBlock) -> Result<(), Error> {
        self.touched.freed.insert(at.get());
        let mut disk = self.disk.borrow_mut();
        assert_eq!(disk.held.remove(&at.get()).unwrap_or(0), 0);
        disk.blocks.remove(&at.get()).ok_or(Error::Missing)?;
        Ok(())
    }

    fn has_room(&mut self, nodes: Footprint, extents: usize) -> bool {
        if self.room == 0 || (extents > 1 && self.room % 3 == 1) {
            return false;
        }
        self.room -= 1;
        if self.allowed.is_some() {
            self.expect(nodes);
        }
        true
    }
}

/// Verifies every node of a tree, and that all blocks of the store are in it. Returns its extents.
pub(super) fn check(root: &[u8; ROOT_SIZE], store: &Store) -> Vec<Extent> {
    fn visit(bytes: &[u8], expected: Expected, store: &Store, all: &mut Vec<Extent>) -> usize {
        let node = Node::new(bytes, expected.depth).unwrap();
        if expected.depth == 0 {
            all.extend(node.extents().iter().map(|entry| entry.extent().unwrap()));
            return 0;
        }
        let children = node.children();
        let mut nodes = 0;
        for (index, entry) in children.iter().enumerate() {
            let expected = Expected {
                depth: expected.depth - 1,
                first: entry.key(),
                end: children
                    .get(index + 1)
                    .map_or(expected.end, |next| next.key()),
            };
            let bytes = store.bytes(entry.child()).unwrap();
            expected
                .verify(&bytes, store.checksum, |_, _| true)
                .unwrap();
            assert!(Header::read(&bytes).unwrap().entries() > 0);
            nodes += 1 + visit(&bytes, expected, store, all);
        }
        nodes
    }

    verify_root(root, |_, _| true).unwrap();
    let mut all = Vec::new();
    let expected = Expected {
        depth: depth(root).unwrap(),
        first: 0,
        end: LogicalBlock::COUNT,
    };
    let nodes = visit(root, expected, store, &mut all);
    assert_eq!(nodes, store.nodes(), "node blocks leaked");
    all
}
