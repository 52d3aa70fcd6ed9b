// SPDX-License-Identifier: GPL-2.0

//! Growing an index: insertion, splitting of leaves and nodes, new levels.
//!
//! Each step that changes the tree needs one new block, allocates it before it changes anything and
//! leaves a valid tree. The new block is declared last, so that it is complete before the changes of the
//! others take effect. An insertion repeats such steps until its leaf has room, so it can fail for want of
//! a block between any two of them.

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use super::node;
use super::node::Index;
use super::path::Path;
use crate::dir::corrupt;
use crate::dir::leaf;
use crate::dir::leaf::Packer;
use crate::dir::leaf::Room;
use crate::dir::BlockKind;
use crate::dir::DirFormat;
use crate::dir::DirStore;
use crate::dir::Directory;
use crate::dir::DirectoryError;
use crate::dir::Entries;
use crate::dir::Entry;
use crate::dir::FileType;
use crate::dir::Insertion;
use crate::dir::Name;
use crate::hash::NameHasher;
use crate::sort::sort_by_key;
use crate::types::InodeNumber;
use crate::types::LogicalBlock;

/// An insertion takes at most one step for each level, and some for entries of very uneven size.
const MAX_STEPS: usize = 8;

impl<S: DirStore> Directory<S> {
    /// Inserts an entry into a directory with an index.
    pub(crate) fn insert_indexed(
        &mut self,
        name: Name<'_>,
        inode: InodeNumber,
        file_type: FileType,
    ) -> Result<Insertion, S::Error> {
        for _ in 0..MAX_STEPS {
            let root = self.root()?;
            let hasher = root.hasher;
            let path = self.probe(&root, hasher.hash(name.bytes()).major)?;
            drop(root);
            let block = self.read(path.leaf(), BlockKind::Leaf)?;
            match leaf::find_room(self.format(), &block, name).map_err(corrupt)? {
                Room::Exists => return Ok(Insertion::Exists),
                Room::None => {}
                room => {
                    self.insert_into(block, room, name, inode, file_type)?;
                    return Ok(Insertion::Done(path.leaf()));
                }
            }
            drop(block);
            if !self.make_room(&path, hasher)? {
                return Ok(Insertion::Full);
            }
        }
        Err(corrupt(DirectoryError::IndexLoop))
    }

    /// Takes one step towards a leaf with room: splits the leaf, or what is full above it.
    ///
    /// `false` when the tree cannot grow.
    fn make_room(&mut self, path: &Path, hasher: NameHasher) -> Result<bool, S::Error> {
        if self.blocks() >= node::MAX_BLOCKS {
            return Ok(false);
        }
        let levels = path.frames().len();
        // The lowest level that takes another entry, if there is one.
        let mut with_room = None;
        for level in (0..levels).rev() {
            let kind = Path::kind(level);
            let block = self.read(path.frames()[level].block, kind)?;
            if !self.parse(kind, &block)?.is_full() {
                with_room = Some(level);
                break;
            }
        }
        match with_room {
            Some(level) if level + 1 == levels => self.split_leaf(path, hasher)?,
            Some(level) => self.split_node(path, level)?,
            None if levels < self.format().max_levels() => self.add_level(levels)?,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Turns a linear directory of one block into an index with one leaf.
    pub(crate) fn build_index(&mut self) -> Result<(), S::Error> {
        let format = *self.format();
        // All that can be wrong with the block is found here, before anything changes.
        let check = |block: &[u8]| {
            for entry in Entries::new(&format, block) {
                entry?;
            }
            dot_inodes(&format, block)
        };
        let (mut root, (inode, parent)) = self.stage(LogicalBlock::ZERO, BlockKind::Leaf, check)?;
        let (number, mut leaf) = self.append(BlockKind::Leaf)?;

        let mut packer = Packer::new();
        for entry in Entries::new(&format, root.bytes()).skip(2) {
            let entry = entry.map_err(corrupt)?;
            packer
                .copy(&format, leaf.bytes(), &entry)
                .map_err(corrupt)?;
        }
        packer.finish(&format, leaf.bytes()).map_err(corrupt)?;
        drop(leaf);
        root.becomes(BlockKind::Root);
        let version = format.hasher.version();
        node::init_root(&format, root.bytes(), inode, parent, version, number).map_err(corrupt)?;
        self.set_indexed();
        self.store.set_indexed();
        Ok(())
    }

    /// Moves all entries of the root into a new node below it.
    fn add_level(&mut self, levels: usize) -> Result<(), S::Error> {
        let format = *self.format();
        let (mut root, ()) = self.stage(LogicalBlock::ZERO, BlockKind::Root, |_| Ok(()))?;
        let (number, mut node) = self.append(BlockKind::Node)?;
        node::move_entries(
            &format,
            BlockKind::Root,
            root.bytes(),
            0,
            node.bytes(),
            number,
        )
        .map_err(corrupt)?;
        node::RootInfo::store_levels(root.bytes(), levels + 1);
        Ok(())
    }

    /// Moves the upper half of the node below `level` on the path into a new one.
    fn split_node(&mut self, path: &Path, level: usize) -> Result<(), S::Error> {
        let format = *self.format();
        let (above, below) = (path.frames()[level], path.frames()[level + 1]);
        let kind = Path::kind(level);
        let (mut parent, ()) = self.stage(above.block, kind, |_| Ok(()))?;
        let (mut full, (half, hash)) = self.stage(below.block, BlockKind::Node, |block| {
            let index = Index::parse(&format, BlockKind::Node, block)?;
            let half = index.count() / 2;
            let hash = index.hash(half).ok_or(DirectoryError::IndexCount {
                found: index.count() as u16,
                limit: node::limit(&format, BlockKind::Node) as u16,
            })?;
            Ok((half, hash))
        })?;
        let (number, mut node) = self.append(BlockKind::Node)?;
        node::move_entries(
            &format,
            BlockKind::Node,
            full.bytes(),
            half,
            node.bytes(),
            number,
        )
        .map_err(corrupt)?;
        node::insert(&format, kind, parent.bytes(), above.at, hash, number).map_err(corrupt)
    }

    /// Moves the entries with the larger hashes, about half of the bytes, into a new leaf.
    fn split_leaf(&mut self, path: &Path, hasher: NameHasher) -> Result<(), S::Error> {
        let format = *self.format();
        let kind = Path::kind(path.frames().len() - 1);
        let (mut parent, ()) = self.stage(path.lowest().block, kind, |_| Ok(()))?;
        let (mut low, count) = self.stage(path.leaf(), BlockKind::Leaf, |block| {
            let mut count = 0;
            for entry in Entries::new(&format, block) {
                count += usize::from(entry?.inode.is_some());
            }
            if count < 2 {
                // Two of the longest names fit into the smallest block beside a third one.
                return Err(DirectoryError::IndexLoop);
            }
            Ok(count)
        })?;
        let (number, mut high) = self.append(BlockKind::Leaf)?;

        let start =
            move_upper_half(&format, hasher, count, low.bytes(), high.bytes()).map_err(corrupt)?;
        let at = path.lowest().at;
        node::insert(&format, kind, parent.bytes(), at, start, number).map_err(corrupt)
    }
}

/// The inodes of `.` and `..` in the block of a linear directory.
fn dot_inodes(
    format: &DirFormat,
    block: &[u8],
) -> Result<(InodeNumber, InodeNumber), DirectoryError> {
    let (dot, dot_dot) = leaf::dots(format, block, format.entries_end())?;
    dot.inode.zip(dot_dot.inode).ok_or(DirectoryError::NoDots)
}

/// An entry of a leaf that is being split.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Split {
    hash: U32,
    offset: U16,
    size: U16,
}

/// Moves the entries with the larger hashes from `low` to `high`, and returns the hash of `high` for the
/// index.
///
/// `count` is the number of entries of `low`, at least 2. They are sorted in a table of 8 bytes each at the end
/// of `high`, so that no other memory is needed. What moves fits before its part of the table: it is at
/// most half a block and half an entry, and each of its entries has at least 12 bytes.
fn move_upper_half(
    format: &DirFormat,
    hasher: NameHasher,
    count: usize,
    low: &mut [u8],
    high: &mut [u8],
) -> Result<u32, DirectoryError> {
    const LOST: DirectoryError = DirectoryError::IndexLoop;

    let table_size = count * size_of::<Split>();
    let table_start = high.len().checked_sub(table_size).ok_or(LOST)?;
    let (_, table) = high.split_at_mut(table_start);
    let table = <[Split]>::mut_from_bytes(table).map_err(|_| LOST)?;
    let mut slots = table.iter_mut();
    let mut total = 0;
    for entry in Entries::new(format, low) {
        let entry = entry?;
        if entry.inode.is_none() {
            continue;
        }
        let size = entry.used();
        total += size;
        *slots.next().ok_or(LOST)? = Split {
            hash: U32::new(hasher.hash(entry.name).major),
            // Both are below 64 KiB.
            offset: U16::new(entry.offset as u16),
            size: U16::new(size as u16),
        };
    }
    sort_by_key(table, |split| (split.hash.get(), split.offset.get()));

    // How many stay: those that lie, by more than half of themselves, in the lower half of the bytes.
    let mut sum = 0;
    let stay = table
        .iter()
        .take_while(|split| {
            let size = usize::from(split.size.get());
            let stays = sum + size / 2 <= total / 2;
            sum += size;
            stays
        })
        .count()
        .clamp(1, count - 1);
    let last_low = table.get(stay - 1).ok_or(LOST)?.hash.get();
    let first_high = table.get(stay).ok_or(LOST)?.hash.get();
    let start = if first_high == last_low {
        first_high | 1
    } else {
        first_high
    };

    let moved_size = (count - stay) * size_of::<Split>();
    let moved_start = high.len().checked_sub(moved_size).ok_or(LOST)?;
    let (front, moved) = high.split_at_mut(moved_start);
    let moved = <[Split]>::ref_from_bytes(moved).map_err(|_| LOST)?;
    let mut packer = Packer::new();
    for split in moved {
        let offset = usize::from(split.offset.get());
        let entry = Entry::parse(format, low, offset, format.entries_end())?;
        packer.copy(format, front, &entry)?;
        leaf::forget_at(low, offset)?;
    }
    packer.finish(format, high)?;
    leaf::compact(format, low)?;
    Ok(start)
}
