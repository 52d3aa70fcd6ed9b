// SPDX-License-Identifier: GPL-2.0

//! The blocks of an index: the root and the nodes below it.
//!
//! All functions take a block of the right length ([`DirFormat::check_length`]).

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use crate::checksum::Checksummer;
use crate::dir::leaf;
use crate::dir::BlockKind;
use crate::dir::DirFormat;
use crate::dir::DirectoryError;
use crate::dir::Entry;
use crate::error::Corrupt;
use crate::hash::HashVersion;
use crate::types::InodeNumber;
use crate::types::LogicalBlock;

/// The size of an entry of the index.
const ENTRY_SIZE: usize = 8;

/// Where the header of the root lies, behind `.` and `..`.
const INFO_OFFSET: usize = 24;

/// Where the entries of the root begin.
const ROOT_HEADER: usize = 32;

/// Where the entries of a node begin, behind an unused directory entry.
const NODE_HEADER: usize = 8;

/// The length of the header of the root, which it states.
const INFO_LENGTH: u8 = 8;

/// Where `..` begins in a root.
const DOT_DOT_OFFSET: usize = 12;

/// The upper bits of a block number in the index have no meaning yet and are ignored.
const BLOCK_MASK: u32 = 0x0fff_ffff;

/// How many blocks a directory with an index can have.
pub(crate) const MAX_BLOCKS: u32 = BLOCK_MASK + 1;

/// An entry of the index. In the first one the place of the hash has limit and count.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    hash: U32,
    block: U32,
}

/// Limit and count: how many entries there can be and how many there are, these included.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LimitCount {
    limit: U16,
    count: U16,
}

const fn header_size(kind: BlockKind) -> usize {
    match kind {
        BlockKind::Root => ROOT_HEADER,
        BlockKind::Node | BlockKind::Leaf => NODE_HEADER,
    }
}

/// How many entries a root or a node has room for.
pub(crate) fn limit(format: &DirFormat, kind: BlockKind) -> usize {
    let checksum = match format.checksum {
        Some(_) => ENTRY_SIZE,
        None => 0,
    };
    (format.block_size.bytes() - header_size(kind) - checksum) / ENTRY_SIZE
}

/// What the root says about the whole index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RootInfo {
    /// The function that the names are hashed with.
    pub(crate) version: HashVersion,
    /// How many levels the index has, the root included: 1 to 3.
    pub(crate) levels: usize,
}

impl RootInfo {
    /// Reads the header of the root.
    pub(crate) fn parse(format: &DirFormat, root: &[u8]) -> Result<Self, DirectoryError> {
        let truncated = DirectoryError::NoDots;
        let raw = root
            .get(INFO_OFFSET..INFO_OFFSET + ENTRY_SIZE)
            .ok_or(truncated)?;
        let (reserved, info) = raw.split_first_chunk::<4>().ok_or(truncated)?;
        let info: [u8; 4] = info.try_into().map_err(|_| truncated)?;
        let [version, length, indirect_levels, flags] = info;
        let unusable = DirectoryError::IndexRoot { info };
        let version = HashVersion::from_raw(version).ok_or(unusable)?;
        let levels = usize::from(indirect_levels) + 1;
        if *reserved != [0; 4]
            || length != INFO_LENGTH
            || flags & 1 != 0
            || levels > format.max_levels()
        {
            return Err(unusable);
        }
        Ok(Self { version, levels })
    }

    fn store(&self, root: &mut [u8]) {
        // Levels are 1 to 3.
        let levels = self.levels as u8 - 1;
        root[INFO_OFFSET..ROOT_HEADER].copy_from_slice(&[
            0,
            0,
            0,
            0,
            self.version.raw(),
            INFO_LENGTH,
            levels,
            0,
        ]);
    }

    /// Says in the root that the index has one more level.
    pub(crate) fn store_levels(root: &mut [u8], levels: usize) {
        // Levels are 1 to 3.
        root[INFO_OFFSET + 6] = levels as u8 - 1;
    }
}

/// The entries `.` and `..` of a root.
pub(crate) fn root_dots<'a>(
    format: &DirFormat,
    root: &'a [u8],
) -> Result<(Entry<'a>, Entry<'a>), DirectoryError> {
    let end = format.block_size.bytes();
    let (dot, dot_dot) = leaf::dots(format, root, end)?;
    if dot_dot.offset == DOT_DOT_OFFSET && dot_dot.offset + dot_dot.length == end {
        Ok((dot, dot_dot))
    } else {
        Err(DirectoryError::NoDots)
    }
}

/// The entries of a root or node, with a limit and a count that fit the block.
#[derive(Clone, Copy)]
pub(crate) struct Index<'a> {
    entries: &'a [RawEntry],
    limit: usize,
}

impl<'a> Index<'a> {
    /// Takes a block for a root or a node.
    ///
    /// Cheap: that the hashes are sorted and that the blocks exist is not looked at.
    pub(crate) fn parse(
        format: &DirFormat,
        kind: BlockKind,
        block: &'a [u8],
    ) -> Result<Self, DirectoryError> {
        match kind {
            BlockKind::Root => {
                root_dots(format, block)?;
            }
            BlockKind::Node | BlockKind::Leaf => {
                let end = format.block_size.bytes();
                let disguise = Entry::parse(format, block, 0, end)?;
                if disguise.inode.is_some() || disguise.length != end {
                    return Err(DirectoryError::IndexDisguise);
                }
            }
        }
        let raw = block
            .get(header_size(kind)..)
            .ok_or(DirectoryError::IndexDisguise)?;
        let (counts, _) =
            LimitCount::ref_from_prefix(raw).map_err(|_| DirectoryError::IndexDisguise)?;
        let (found, count) = (counts.limit.get(), counts.count.get());
        let expected = limit(format, kind);
        if usize::from(found) != expected {
            return Err(DirectoryError::IndexLimit {
                found,
                // A block has room for up to 8188 entries.
                expected: expected as u16,
            });
        }
        let bad_count = DirectoryError::IndexCount {
            found: count,
            limit: found,
        };
        if count == 0 || count > found {
            return Err(bad_count);
        }
        let (entries, _) = <[RawEntry]>::ref_from_prefix_with_elems(raw, usize::from(count))
            .map_err(|_| bad_count)?;
        Ok(Self {
            entries,
            limit: expected,
        })
    }

    /// How many entries there are. Never 0.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no room for another entry.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    /// The smallest hash of what entry `at` points to; `None` for the first entry and behind the last.
    pub(crate) fn hash(&self, at: usize) -> Option<u32> {
        match at {
            0 => None,
            _ => self.entries.get(at).map(|entry| entry.hash.get()),
        }
    }

    /// What entry `at` points to; `None` behind the last one.
    pub(crate) fn block(&self, at: usize) -> Option<LogicalBlock> {
        let entry = self.entries.get(at)?;
        Some(LogicalBlock::new(entry.block.get() & BLOCK_MASK))
    }

    /// The entry that is responsible for `hash`: the last one whose hash is not larger.
    ///
    /// As major hashes are even and the index says so with an odd one when a leaf continues, this is the
    /// first leaf of a chain.
    pub(crate) fn position(&self, hash: u32) -> usize {
        self.entries
            .get(1..)
            .unwrap_or_default()
            .partition_point(|entry| entry.hash.get() <= hash)
    }
}

/// The checksum that a root or node should have, and where the stored one stands.
///
/// It covers the entries that are in use, and the reserved half of the structure that it lies in.
fn checksum(
    format: &DirFormat,
    checksum: Checksummer,
    kind: BlockKind,
    block: &[u8],
) -> Result<(Checksummer, usize), DirectoryError> {
    let index = Index::parse(format, kind, block)?;
    let covered = header_size(kind) + index.count() * ENTRY_SIZE;
    let tail = header_size(kind) + index.limit * ENTRY_SIZE;
    let value = checksum
        .with_bytes(block.get(..covered).unwrap_or_default())
        .with_bytes(block.get(tail..tail + 4).unwrap_or_default())
        .with_u32(0);
    Ok((value, tail + 4))
}

/// Checks the checksum, the header and every entry.
pub(crate) fn verify(
    format: &DirFormat,
    kind: BlockKind,
    block: &[u8],
    blocks: u32,
) -> Result<(), Corrupt> {
    let index = Index::parse(format, kind, block)?;
    if let Some(seed) = format.checksum {
        let (computed, at) = checksum(format, seed, kind, block)?;
        let stored = block.get(at..at + 4).and_then(|raw| raw.try_into().ok());
        let stored = u32::from_le_bytes(stored.ok_or(DirectoryError::NoChecksumEntry)?);
        computed.verify(stored)?;
    }
    if kind == BlockKind::Root {
        RootInfo::parse(format, block)?;
    }
    let mut previous = 0;
    for at in 0..index.count() {
        let hash = index.hash(at).unwrap_or(previous);
        if hash < previous {
            return Err(DirectoryError::IndexOrder {
                // The count is a 16-bit number.
                entry: at as u16,
            }
            .into());
        }
        previous = hash;
        let child = index.block(at).map_or(0, LogicalBlock::get);
        if child == 0 || child >= blocks {
            return Err(DirectoryError::IndexBlock { block: child }.into());
        }
    }
    Ok(())
}

/// Stores the checksum.
///
/// A block that is no index never gets here: the operations that change one have parsed it.
pub(crate) fn seal(format: &DirFormat, seed: Checksummer, kind: BlockKind, block: &mut [u8]) {
    if let Ok((value, at)) = checksum(format, seed, kind, block) {
        block[at..at + 4].copy_from_slice(&value.value().to_le_bytes());
    }
}

/// Stores limit and count.
fn set_counts(format: &DirFormat, kind: BlockKind, block: &mut [u8], count: usize) {
    let at = header_size(kind);
    // A block has room for up to 8188 entries.
    block[at..at + 2].copy_from_slice(&(limit(format, kind) as u16).to_le_bytes());
    block[at + 2..at + 4].copy_from_slice(&(count as u16).to_le_bytes());
}

/// Stores the block of the first entry.
fn set_first(kind: BlockKind, block: &mut [u8], child: LogicalBlock) {
    let at = header_size(kind) + 4;
    block[at..at + 4].copy_from_slice(&child.get().to_le_bytes());
}

/// Makes the root of an index with one level and one leaf.
pub(crate) fn init_root(
    format: &DirFormat,
    root: &mut [u8],
    inode: InodeNumber,
    parent: InodeNumber,
    version: HashVersion,
    child: LogicalBlock,
) -> Result<(), DirectoryError> {
    leaf::init_root_dots(format, root, inode, parent)?;
    RootInfo { version, levels: 1 }.store(root);
    set_counts(format, BlockKind::Root, root, 1);
    set_first(BlockKind::Root, root, child);
    Ok(())
}

/// Makes a node of the entries of `source` from number `from` on, and takes these from `source`.
///
/// When `from` is 0, `source` keeps one entry: for the new node, the block `node_block`.
pub(crate) fn move_entries(
    format: &DirFormat,
    source_kind: BlockKind,
    source: &mut [u8],
    from: usize,
    node: &mut [u8],
    node_block: LogicalBlock,
) -> Result<(), DirectoryError> {
    let count = Index::parse(format, source_kind, source)?.count();
    let header = header_size(source_kind);
    let moved = source
        .get(header + from * ENTRY_SIZE..header + count * ENTRY_SIZE)
        .filter(|moved| !moved.is_empty())
        .ok_or(DirectoryError::IndexLoop)?;

    node.fill(0);
    leaf::init_disguise(format, node)?;
    node.get_mut(NODE_HEADER..NODE_HEADER + moved.len())
        .ok_or(DirectoryError::IndexDisguise)?
        .copy_from_slice(moved);
    set_counts(format, BlockKind::Node, node, count - from);

    if from == 0 {
        set_counts(format, source_kind, source, 1);
        set_first(source_kind, source, node_block);
    } else {
        set_counts(format, source_kind, source, from);
    }
    Ok(())
}

/// Inserts an entry behind entry `after`.
pub(crate) fn insert(
    format: &DirFormat,
    kind: BlockKind,
    block: &mut [u8],
    after: usize,
    hash: u32,
    child: LogicalBlock,
) -> Result<(), DirectoryError> {
    let index = Index::parse(format, kind, block)?;
    let count = index.count();
    if index.is_full() || after >= count {
        return Err(DirectoryError::IndexCount {
            found: count as u16,
            limit: index.limit as u16,
        });
    }
    let at = header_size(kind) + (after + 1) * ENTRY_SIZE;
    let end = header_size(kind) + count * ENTRY_SIZE;
    // There is room for one more entry behind the last one, since the index is not full.
    block.copy_within(at..end, at + ENTRY_SIZE);
    block[at..at + 4].copy_from_slice(&hash.to_le_bytes());
    block[at + 4..at + 8].copy_from_slice(&child.get().to_le_bytes());
    set_counts(format, kind, block, count + 1);
    Ok(())
}
