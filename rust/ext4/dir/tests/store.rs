// SPDX-License-Identifier: GPL-2.0

//! A directory in memory that is strict about how its blocks are used.

use core::ops::ControlFlow;
use std::cell::Cell;
use std::cell::Ref;
use std::cell::RefCell;
use std::cell::RefMut;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::ops::DerefMut;
use std::vec;
use std::vec::Vec;

use crate::checksum::software_crc32c;
use crate::dir::BlockKind;
use crate::dir::Cursor;
use crate::dir::DirFeatures;
use crate::dir::DirFormat;
use crate::dir::DirLister;
use crate::dir::DirReader;
use crate::dir::DirStore;
use crate::dir::Directory;
use crate::dir::FileType;
use crate::dir::Found;
use crate::dir::HashedEntry;
use crate::dir::Insertion;
use crate::dir::Name;
use crate::dir::PositionForm;
use crate::dir::Scratch;
use crate::hash::HashVersion;
use crate::hash::NameHasher;
use crate::hash::Signedness;
use crate::BlockSize;
use crate::Checksummer;
use crate::Corrupt;
use crate::InodeNumber;
use crate::LogicalBlock;

/// The inode number of the directory.
pub(crate) const OWN: InodeNumber = InodeNumber::FIRST_UNRESERVED;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Error {
    Corrupt(Corrupt),
    NoSpace,
}

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// What is varied between tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) block_size: u32,
    pub(crate) checksums: bool,
    pub(crate) dir_index: bool,
    pub(crate) large_dir: bool,
    pub(crate) version: HashVersion,
}

impl Shape {
    pub(crate) const fn new(block_size: u32) -> Self {
        Self {
            block_size,
            checksums: true,
            dir_index: true,
            large_dir: false,
            version: HashVersion::HalfMd4,
        }
    }

    pub(crate) fn format(&self) -> DirFormat {
        let seed = Checksummer::new(software_crc32c).for_inode(OWN, 77);
        DirFormat {
            block_size: BlockSize::from_bytes(self.block_size).unwrap(),
            inode_count: 1_000_000,
            checksum: self.checksums.then_some(seed),
            features: DirFeatures {
                filetype: true,
                dir_index: self.dir_index,
                large_dir: self.large_dir,
            },
            hasher: NameHasher::new(self.version, Signedness::Signed, [1, 2, 3, 4]),
        }
    }
}

/// The disk that a directory lies on.
pub(crate) struct Disk {
    pub(crate) format: DirFormat,
    blocks: Vec<RefCell<Vec<u8>>>,
    used: Cell<u32>,
    pub(crate) capacity: Cell<u32>,
    pub(crate) indexed: Cell<bool>,
    /// Whether each block is checked each time that it is read.
    pub(crate) verify: Cell<bool>,
    pub(crate) modified: RefCell<BTreeSet<u32>>,
    pub(crate) reads: Cell<usize>,
    /// How many blocks are held to be read, and how many are being changed in place.
    held: Cell<usize>,
    in_place: Cell<usize>,
}

/// Counts something that is held.
struct Held<'a>(&'a Cell<usize>);

impl<'a> Held<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Disk {
    pub(crate) fn empty(format: DirFormat) -> Self {
        const CAPACITY: u32 = 40_000;

        Self {
            format,
            blocks: (0..CAPACITY).map(|_| RefCell::default()).collect(),
            used: Cell::new(0),
            capacity: Cell::new(CAPACITY),
            indexed: Cell::new(false),
            verify: Cell::new(true),
            modified: RefCell::default(),
            reads: Cell::new(0),
            held: Cell::new(0),
            in_place: Cell::new(0),
        }
    }

    /// A new directory.
    pub(crate) fn new(format: DirFormat) -> Self {
        Self::new_of(format, OWN)
    }

    /// A new directory with a given inode.
    pub(crate) fn new_of(format: DirFormat, inode: InodeNumber) -> Self {
        let disk = Self::empty(format);
        disk.open().init(inode, InodeNumber::ROOT).unwrap();
        disk
    }

    /// A directory of given blocks.
    pub(crate) fn of(format: DirFormat, blocks: &[Vec<u8>], indexed: bool) -> Self {
        let disk = Self::empty(format);
        for (slot, block) in disk.blocks.iter().zip(blocks) {
            slot.replace(block.clone());
        }
        disk.used.set(blocks.len() as u32);
        disk.indexed.set(indexed);
        disk
    }

    pub(crate) fn open(&self) -> Directory<Store<'_>> {
        Directory::new(Store(self), self.format, self.indexed.get())
    }

    pub(crate) fn len(&self) -> u32 {
        self.used.get()
    }

    pub(crate) fn bytes(&self, block: u32) -> Vec<u8> {
        self.blocks[block as usize].borrow().clone()
    }

    pub(crate) fn patch(&self, block: u32, offset: usize, bytes: &[u8]) {
        self.blocks[block as usize].borrow_mut()[offset..offset + bytes.len()]
            .copy_from_slice(bytes);
    }

    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        (0..self.len()).map(|block| self.bytes(block)).collect()
    }

    /// Inserts a regular file.
    pub(crate) fn insert(&self, name: &[u8], inode: u32) -> Result<Insertion, Error> {
        self.modified.borrow_mut().clear();
        let before = self.len();
        let credits = self.format.insert_credits(before);
        let result = self.open().insert(
            Name::new(name).unwrap(),
            InodeNumber::new(inode).unwrap(),
            FileType::Regular,
            LogicalBlock::ZERO,
        );
        let modified = self.modified.borrow();
        let existing = modified.iter().filter(|&&block| block < before).count();
        let appended = modified.len() - existing;
        assert!(existing <= credits.existing as usize, "{modified:?}");
        assert!(appended <= credits.appended as usize, "{modified:?}");
        assert_eq!(appended as u32, self.len() - before);
        result
    }

    pub(crate) fn remove(&self, name: &[u8]) -> Result<Option<Found>, Error> {
        self.modified.borrow_mut().clear();
        let result = self.open().remove(Name::new(name).unwrap());
        assert!(self.modified.borrow().len() <= 1);
        result
    }

    /// Removes what was looked up before.
    pub(crate) fn remove_found(&self, name: &[u8], found: Found) -> Result<Option<Found>, Error> {
        self.modified.borrow_mut().clear();
        let result = self.open().remove_found(Name::new(name).unwrap(), found);
        assert!(self.modified.borrow().len() <= 1);
        result
    }

    pub(crate) fn lookup(&self, name: &[u8]) -> Result<Option<Found>, Error> {
        self.open().lookup(Name::new(name).unwrap())
    }

    /// All entries with their positions, in the order of the iteration.
    pub(crate) fn list(&self, form: PositionForm) -> Result<Vec<(Vec<u8>, u32, u64)>, Error> {
        let entries = vec![HashedEntry::default(); self.format.max_entries()];
        let mut scratch = Scratch::new(entries);
        let mut cursor = Cursor::start(form);
        let mut list = Vec::new();
        self.open()
            .iterate(&mut cursor, &mut scratch, |entry, position| {
                list.push((entry.name.to_vec(), entry.inode.unwrap().get(), position));
                ControlFlow::Continue(())
            })?;
        Ok(list)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Store<'a>(&'a Disk);

pub(crate) struct Block<'a> {
    number: u32,
    bytes: Ref<'a, Vec<u8>>,
    _held: Held<'a>,
}

impl Deref for Block<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A block that must be valid when it is dropped.
pub(crate) struct BlockMut<'a> {
    disk: &'a Disk,
    number: u32,
    bytes: RefMut<'a, Vec<u8>>,
    /// When it is changed in place.
    _held: Option<Held<'a>>,
}

impl Deref for BlockMut<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for BlockMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for BlockMut<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if self._held.is_none() {
            assert_eq!(self.disk.in_place.get(), 0, "a draft goes back too early");
        }
        if !self.disk.verify.get() {
            return;
        }
        let kinds = [BlockKind::Root, BlockKind::Node, BlockKind::Leaf];
        let kinds = match self.number {
            0 => &kinds[..],
            _ => &kinds[1..],
        };
        let results: Vec<_> = kinds
            .iter()
            .map(|&kind| {
                self.disk
                    .format
                    .verify_block(kind, &self.bytes, self.disk.len())
            })
            .collect();
        assert!(
            results.iter().any(Result::is_ok),
            "block {} was left as {results:?}",
            self.number
        );
    }
}

impl<'a> DirReader for Store<'a> {
    type Error = Error;
    type Block = Block<'a>;

    fn blocks(&self) -> u32 {
        self.0.len()
    }

    fn read(&self, block: LogicalBlock, kind: BlockKind) -> Result<Block<'a>, Error> {
        assert!(block.get() < self.0.len());
        assert_eq!(self.0.in_place.get(), 0, "a read amid a change in place");
        self.0.reads.set(self.0.reads.get() + 1);
        let bytes = self.0.blocks[block.get() as usize].borrow();
        if self.0.verify.get() {
            self.0.format.verify_block(kind, &bytes, self.0.len())?;
        }
        Ok(Block {
            number: block.get(),
            bytes,
            _held: Held::new(&self.0.held),
        })
    }
}

impl DirLister for Store<'_> {
    type Copy = Vec<u8>;

    fn copy(&self, block: Block<'_>, length: usize) -> Result<Vec<u8>, Error> {
        Ok(block[..length].to_vec())
    }
}

impl<'a> Store<'a> {
    fn change(&mut self, block: Block<'a>, in_place: bool) -> BlockMut<'a> {
        let number = block.number;
        drop(block);
        assert_eq!(self.0.held.get(), 0, "another block is held");
        assert_eq!(
            self.0.in_place.get(),
            0,
            "another block is changed in place"
        );
        self.0.modified.borrow_mut().insert(number);
        BlockMut {
            disk: self.0,
            number,
            bytes: self.0.blocks[number as usize].borrow_mut(),
            _held: in_place.then(|| Held::new(&self.0.in_place)),
        }
    }
}

impl<'a> DirStore for Store<'a> {
    type BlockMut = BlockMut<'a>;
    type Draft = BlockMut<'a>;

    fn modify(&mut self, block: Block<'a>) -> Result<BlockMut<'a>, Error> {
        Ok(self.change(block, true))
    }

    fn stage(&mut self, block: Block<'a>) -> Result<BlockMut<'a>, Error> {
        Ok(self.change(block, false))
    }

    fn append(&mut self) -> Result<(LogicalBlock, BlockMut<'a>), Error> {
        assert_eq!(self.0.held.get() + self.0.in_place.get(), 0);
        let number = self.0.len();
        if number >= self.0.capacity.get() {
            return Err(Error::NoSpace);
        }
        self.0.used.set(number + 1);
        self.0.modified.borrow_mut().insert(number);
        let mut bytes = self.0.blocks[number as usize].borrow_mut();
        // What a new block holds must not matter.
        *bytes = vec![0xa5; self.0.format.block_size.bytes()];
        Ok((
            LogicalBlock::new(number),
            BlockMut {
                disk: self.0,
                number,
                bytes,
                _held: Some(Held::new(&self.0.in_place)),
            },
        ))
    }

    fn set_indexed(&mut self) {
        assert_eq!(self.0.in_place.get(), 0);
        self.0.indexed.set(true);
    }
}
