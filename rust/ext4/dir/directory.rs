// SPDX-License-Identifier: GPL-2.0

//! The operations on a directory.

use super::entry::Entries;
use super::entry::Entry;
use super::entry::FileType;
use super::entry::Name;
use super::error::DirectoryError;
use super::format::BlockKind;
use super::format::DirFormat;
use super::format::FIRST_BLOCK;
use super::leaf;
use super::leaf::Room;
use super::store::Changing;
use super::store::DirReader;
use super::store::DirStore;
use crate::error::Corrupt;
use crate::htree::node;
use crate::types::InodeNumber;
use crate::types::LogicalBlock;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The inode. In range, but not known to be in use.
    pub inode: InodeNumber,
    /// The type of the file.
    pub file_type: FileType,
    /// The block in which the entry stands.
    pub block: LogicalBlock,
    place: Place,
}

/// Where an entry stands in its block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    kind: BlockKind,
    offset: usize,
    /// The offset of the entry before it.
    previous: Option<usize>,
}

/// What became of an insertion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Insertion {
    /// The name is in the directory now, in this block.
    Done(LogicalBlock),
    /// The name was in the directory before. Nothing has changed.
    Exists,
    /// The directory cannot grow any more, as its index has no more levels. Nothing has changed.
    Full,
}

/// An entry, with the block in which it stands.
struct Location<B> {
    block: B,
    found: Found,
}

/// A directory, with the store that its blocks come from.
///
/// The handle is made for one operation or a few and does not cache blocks. Whoever makes it holds the
/// lock of the directory's inode: shared for what takes `&self`, exclusive for what takes `&mut self`.
pub struct Directory<S> {
    pub(crate) store: S,
    format: DirFormat,
    indexed: bool,
}

impl<S> Directory<S> {
    /// A handle for the directory behind `store`.
    ///
    /// `index_flag` is the flag `INDEX` of its inode. It counts only with the feature `dir_index`.
    pub fn new(store: S, format: DirFormat, index_flag: bool) -> Self {
        Self {
            store,
            format,
            indexed: index_flag && format.features.dir_index,
        }
    }

    /// Whether the directory has an index.
    pub fn is_indexed(&self) -> bool {
        self.indexed
    }

    /// What the format depends on.
    pub fn format(&self) -> &DirFormat {
        &self.format
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Ends the use of the handle.
    pub fn into_store(self) -> S {
        self.store
    }

    pub(crate) fn set_indexed(&mut self) {
        self.indexed = true;
    }
}

impl<S: DirReader> Directory<S> {
    /// The size of the directory in blocks.
    pub(crate) fn blocks(&self) -> u32 {
        self.store.blocks()
    }

    /// Reads a block and makes sure of its length.
    pub(crate) fn read(&self, block: LogicalBlock, kind: BlockKind) -> Result<S::Block, S::Error> {
        if block.get() >= self.blocks() {
            return Err(match self.blocks() {
                0 => corrupt(DirectoryError::NoBlocks),
                _ => corrupt(DirectoryError::IndexBlock { block: block.get() }),
            });
        }
        let held = self.store.read(block, kind)?;
        self.format.check_length(&held)?;
        Ok(held)
    }

    /// Looks `name` up; `.` and `..` are found too.
    pub fn lookup(&self, name: Name<'_>) -> Result<Option<Found>, S::Error> {
        let location = self.locate(name)?;
        Ok(location.map(|location| location.found))
    }

    /// Whether the directory holds nothing but `.` and `..`.
    ///
    /// A directory that does not even hold these two is corrupt.
    pub fn is_empty(&self) -> Result<bool, S::Error> {
        if self.indexed {
            let root = self.root()?;
            let mut path = self.probe(&root, 0)?;
            for _ in 0..self.blocks() {
                let leaf = self.read(path.leaf(), BlockKind::Leaf)?;
                if self.has_names(Entries::new(&self.format, &leaf))? {
                    return Ok(false);
                }
                if !self.advance(&mut path)? {
                    return Ok(true);
                }
            }
            return Err(corrupt(DirectoryError::IndexLoop));
        }
        let first = self.read(FIRST_BLOCK, BlockKind::Leaf)?;
        leaf::dots(&self.format, &first, self.format.entries_end()).map_err(corrupt)?;
        if self.has_names(Entries::new(&self.format, &first).skip(2))? {
            return Ok(false);
        }
        for number in 1..self.blocks() {
            let block = self.read(LogicalBlock::new(number), BlockKind::Leaf)?;
            if self.has_names(Entries::new(&self.format, &block))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_names<'a>(
        &self,
        entries: impl Iterator<Item = Result<Entry<'a>, DirectoryError>>,
    ) -> Result<bool, S::Error> {
        for entry in entries {
            if entry.map_err(corrupt)?.inode.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds the entry of `name`.
    fn locate(&self, name: Name<'_>) -> Result<Option<Location<S::Block>>, S::Error> {
        if self.indexed {
            return self.locate_indexed(name);
        }
        for number in 0..self.blocks() {
            let number = LogicalBlock::new(number);
            let block = self.read(number, BlockKind::Leaf)?;
            if let Some(location) = self.locate_in(number, block, name)? {
                return Ok(Some(location));
            }
        }
        Ok(None)
    }

    /// Finds the entry of `name`, which was found before, perhaps in another place.
    fn locate_again(
        &self,
        name: Name<'_>,
        found: Found,
    ) -> Result<Option<Location<S::Block>>, S::Error> {
        // The first block of a linear directory becomes the root when the directory gets an index.
        let kind = match found.block {
            FIRST_BLOCK if self.indexed => BlockKind::Root,
            _ => BlockKind::Leaf,
        };
        if kind == found.place.kind {
            let block = self.read(found.block, kind)?;
            if found.is_in(&self.format, &block, name) {
                return Ok(Some(Location { block, found }));
            }
        }
        self.locate(name)
    }

    fn locate_indexed(&self, name: Name<'_>) -> Result<Option<Location<S::Block>>, S::Error> {
        let root = self.root()?;
        if name.is_dots() {
            let (dot, dot_dot) = node::root_dots(&self.format, &root.block).map_err(corrupt)?;
            let (entry, previous) = if name == Name::DOT {
                (dot, None)
            } else {
                (dot_dot, Some(dot.offset))
            };
            let found = found(&entry, FIRST_BLOCK, BlockKind::Root, previous);
            return Ok(found.map(|found| Location {
                block: root.block,
                found,
            }));
        }
        let hash = root.hasher.hash(name.bytes()).major;
        let mut path = self.probe(&root, hash)?;
        // Each leaf of a chain is a block of its own.
        for _ in 0..self.blocks() {
            let block = self.read(path.leaf(), BlockKind::Leaf)?;
            if let Some(location) = self.locate_in(path.leaf(), block, name)? {
                return Ok(Some(location));
            }
            if path.next() != Some(hash | 1) || !self.advance(&mut path)? {
                return Ok(None);
            }
        }
        Err(corrupt(DirectoryError::IndexLoop))
    }

    fn locate_in(
        &self,
        number: LogicalBlock,
        block: S::Block,
        name: Name<'_>,
    ) -> Result<Option<Location<S::Block>>, S::Error> {
        let found = leaf::find(&self.format, &block, name)
            .map_err(corrupt)?
            .and_then(|(entry, previous)| found(&entry, number, BlockKind::Leaf, previous));
        Ok(found.map(|found| Location { block, found }))
    }
}

impl<S: DirStore> Directory<S> {
    /// Asks for write access to a block that was read, to change nothing else.
    pub(crate) fn modify(
        &mut self,
        kind: BlockKind,
        block: S::Block,
    ) -> Result<Changing<S::BlockMut>, S::Error> {
        let block = self.store.modify(block)?;
        self.format.check_length(&block)?;
        Ok(Changing::new(&self.format, kind, block))
    }

    /// Reads a block and asks for write access to it, to change it together with others.
    ///
    /// `check` sees the block first, while nothing has changed.
    pub(crate) fn stage<R>(
        &mut self,
        number: LogicalBlock,
        kind: BlockKind,
        check: impl FnOnce(&[u8]) -> Result<R, DirectoryError>,
    ) -> Result<(Changing<S::Draft>, R), S::Error> {
        let block = self.read(number, kind)?;
        let seen = check(&block).map_err(corrupt)?;
        let block = self.store.stage(block)?;
        self.format.check_length(&block)?;
        Ok((Changing::new(&self.format, kind, block), seen))
    }

    /// Appends a block, which the caller then fills.
    pub(crate) fn append(
        &mut self,
        kind: BlockKind,
    ) -> Result<(LogicalBlock, Changing<S::BlockMut>), S::Error> {
        let (number, block) = self.store.append()?;
        self.format.check_length(&block)?;
        Ok((number, Changing::new(&self.format, kind, block)))
    }

    /// Makes the first block of a new directory, with `.` and `..`.
    ///
    /// The directory must not have blocks yet.
    pub fn init(&mut self, inode: InodeNumber, parent: InodeNumber) -> Result<(), S::Error> {
        let (_, mut block) = self.append(BlockKind::Leaf)?;
        leaf::init_dots(&self.format, block.bytes(), inode, parent).map_err(corrupt)
    }

    /// Inserts an entry.
    ///
    /// That `name` is not there yet is for the caller to know: [`Insertion::Exists`] is the answer when it is
    /// met on the way to a place with enough room.
    ///
    /// `hint` is where to begin in a directory without an index: the block that an insertion answered with,
    /// or a smaller one from which something has been removed since. Give block 0 when in doubt.
    ///
    /// When a block cannot be allocated the entry is not inserted and the directory is valid; it may have an
    /// index then that it did not have before ([`DirStore::set_indexed`]).
    pub fn insert(
        &mut self,
        name: Name<'_>,
        inode: InodeNumber,
        file_type: FileType,
        hint: LogicalBlock,
    ) -> Result<Insertion, S::Error> {
        if name.is_dots() {
            return Ok(Insertion::Exists);
        }
        if self.indexed {
            return self.insert_indexed(name, inode, file_type);
        }
        let blocks = self.blocks();
        if blocks == 0 {
            return Err(corrupt(DirectoryError::NoBlocks));
        }
        let first = if hint.get() < blocks { hint.get() } else { 0 };
        for number in first..blocks {
            let number = LogicalBlock::new(number);
            let block = self.read(number, BlockKind::Leaf)?;
            match leaf::find_room(&self.format, &block, name).map_err(corrupt)? {
                Room::Exists => return Ok(Insertion::Exists),
                Room::None => continue,
                // Where positions are offsets, entries must stay where they are.
                Room::Scattered if !self.has_hash_order() => continue,
                room => {
                    self.insert_into(block, room, name, inode, file_type)?;
                    return Ok(Insertion::Done(number));
                }
            }
        }
        if blocks == 1 && self.format.features.dir_index {
            self.build_index()?;
            return self.insert_indexed(name, inode, file_type);
        }
        let (number, mut block) = self.append(BlockKind::Leaf)?;
        let bytes = block.bytes();
        leaf::init_empty(&self.format, bytes).map_err(corrupt)?;
        leaf::insert_at(&self.format, bytes, 0, name, inode, file_type).map_err(corrupt)?;
        Ok(Insertion::Done(number))
    }

    /// Inserts an entry into a block that has room for it.
    pub(crate) fn insert_into(
        &mut self,
        block: S::Block,
        room: Room,
        name: Name<'_>,
        inode: InodeNumber,
        file_type: FileType,
    ) -> Result<(), S::Error> {
        let mut block = self.modify(BlockKind::Leaf, block)?;
        let offset = match room {
            Room::At(offset) => offset,
            _ => leaf::compact(&self.format, block.bytes()).map_err(corrupt)?,
        };
        leaf::insert_at(&self.format, block.bytes(), offset, name, inode, file_type)
            .map_err(corrupt)
    }

    /// Removes an entry and returns what it stood for; `None` when it was not there.
    ///
    /// `.` and `..` are never removed.
    pub fn remove(&mut self, name: Name<'_>) -> Result<Option<Found>, S::Error> {
        if name.is_dots() {
            return Ok(None);
        }
        let Some(location) = self.locate(name)? else {
            return Ok(None);
        };
        self.remove_at(location).map(Some)
    }

    /// Removes an entry that was looked up before: without a search if it still stands where it did.
    ///
    /// Otherwise as [`Self::remove`].
    pub fn remove_found(
        &mut self,
        name: Name<'_>,
        found: Found,
    ) -> Result<Option<Found>, S::Error> {
        if name.is_dots() {
            return Ok(None);
        }
        let Some(location) = self.locate_again(name, found)? else {
            return Ok(None);
        };
        self.remove_at(location).map(Some)
    }

    fn remove_at(&mut self, location: Location<S::Block>) -> Result<Found, S::Error> {
        let place = location.found.place;
        let mut block = self.modify(place.kind, location.block)?;
        leaf::remove_at(&self.format, block.bytes(), place.offset, place.previous)
            .map_err(corrupt)?;
        Ok(location.found)
    }

    /// Lets an entry stand for another inode and returns what it stood for; `None` when it was not there.
    pub fn set_inode(
        &mut self,
        name: Name<'_>,
        inode: InodeNumber,
        file_type: FileType,
    ) -> Result<Option<Found>, S::Error> {
        let Some(location) = self.locate(name)? else {
            return Ok(None);
        };
        self.set_inode_at(location, inode, file_type).map(Some)
    }

    /// Lets an entry that was looked up before stand for another inode: without a search if it still stands
    /// where it did.
    ///
    /// Otherwise as [`Self::set_inode`].
    pub fn set_inode_found(
        &mut self,
        name: Name<'_>,
        found: Found,
        inode: InodeNumber,
        file_type: FileType,
    ) -> Result<Option<Found>, S::Error> {
        let Some(location) = self.locate_again(name, found)? else {
            return Ok(None);
        };
        self.set_inode_at(location, inode, file_type).map(Some)
    }

    fn set_inode_at(
        &mut self,
        location: Location<S::Block>,
        inode: InodeNumber,
        file_type: FileType,
    ) -> Result<Found, S::Error> {
        let place = location.found.place;
        let mut block = self.modify(place.kind, location.block)?;
        leaf::set_inode_at(&self.format, block.bytes(), place.offset, inode, file_type)
            .map_err(corrupt)?;
        Ok(location.found)
    }

    /// Lets `..` stand for another directory, as when a directory is moved.
    pub fn set_parent(&mut self, parent: InodeNumber) -> Result<(), S::Error> {
        match self.set_inode(Name::DOT_DOT, parent, FileType::Directory)? {
            Some(_) => Ok(()),
            None => Err(corrupt(DirectoryError::NoDots)),
        }
    }
}

impl Found {
    /// Whether the entry stands in `block` where it did.
    fn is_in(&self, format: &DirFormat, block: &[u8], name: Name<'_>) -> bool {
        let Place {
            offset, previous, ..
        } = self.place;
        let entry_at = |offset| Entry::parse(format, block, offset, format.entries_end()).ok();
        let follows = previous.is_none_or(|previous| {
            entry_at(previous).is_some_and(|entry| entry.offset + entry.length == offset)
        });
        follows
            && entry_at(offset)
                .is_some_and(|entry| entry.inode == Some(self.inode) && entry.name == name.bytes())
    }
}

/// What an entry stands for; `None` for an unused one.
fn found(
    entry: &Entry<'_>,
    block: LogicalBlock,
    kind: BlockKind,
    previous: Option<usize>,
) -> Option<Found> {
    Some(Found {
        inode: entry.inode?,
        file_type: entry.file_type,
        block,
        place: Place {
            kind,
            offset: entry.offset,
            previous,
        },
    })
}

/// An error of a store that says that the directory is corrupt.
pub(crate) fn corrupt<E: From<Corrupt>>(error: DirectoryError) -> E {
    Corrupt::from(error).into()
}
