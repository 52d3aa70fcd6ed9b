// SPDX-License-Identifier: GPL-2.0

//! One node: its layout, how it is verified and how its entries are edited.

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::transmute;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use super::error::ExtentError;
use super::Extent;
use super::State;
use super::MAX_DEPTH;
use super::ROOT_SIZE;
use crate::Checksummer;
use crate::Corrupt;
use crate::LogicalBlock;
use crate::PhysicalBlock;

const MAGIC: u16 = 0xf30a;
const HEADER_SIZE: usize = size_of::<Header>();
const ENTRY_SIZE: usize = size_of::<Entry>();
const TAIL_SIZE: usize = size_of::<U32>();

/// How many entries the root has room for.
pub(super) const ROOT_ENTRIES: usize = (ROOT_SIZE - HEADER_SIZE) / ENTRY_SIZE;

/// The lengths from here on mark unwritten extents; this one is still a written extent.
const LONGEST_WRITTEN: u16 = 1 << 15;

/// The header of a node (`struct ext4_extent_header`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    magic: U16,
    entries: U16,
    max: U16,
    depth: U16,
    generation: U32,
}

impl Header {
    fn new(entries: u16, max: u16, depth: u16) -> Self {
        Self {
            magic: U16::new(MAGIC),
            entries: U16::new(entries),
            max: U16::new(max),
            depth: U16::new(depth),
            generation: U32::ZERO,
        }
    }

    /// Reads the header of a node of `bytes.len()` bytes.
    ///
    /// What is returned has the magic number, no more entries than it says it has room for, and room
    /// for no more than fit the node, at least for one.
    pub fn read(bytes: &[u8]) -> Result<Self, ExtentError> {
        let (header, rest) = Self::read_from_prefix(bytes).map_err(|_| ExtentError::Size)?;
        let fit = rest.len() / ENTRY_SIZE;
        if header.magic.get() != MAGIC {
            return Err(ExtentError::Magic(header.magic.get()));
        }
        if header.max() == 0 || header.max() > fit {
            return Err(ExtentError::Max {
                found: header.max.get(),
                fit,
            });
        }
        if header.entries() > header.max() {
            return Err(ExtentError::Entries {
                found: header.entries.get(),
                max: header.max.get(),
            });
        }
        Ok(header)
    }

    /// The number of entries in use.
    pub fn entries(&self) -> usize {
        self.entries.get().into()
    }

    /// The number of entries for which there is room.
    pub fn max(&self) -> usize {
        self.max.get().into()
    }

    /// How many levels are below this node; 0 for a leaf.
    pub fn depth(&self) -> u16 {
        self.depth.get()
    }

    /// Where the checksum is, for a node block.
    fn tail(&self) -> core::ops::Range<usize> {
        let start = HEADER_SIZE + self.max() * ENTRY_SIZE;
        start..start + TAIL_SIZE
    }
}

/// An entry of a leaf (`struct ext4_extent`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LeafEntry {
    logical: U32,
    len: U16,
    physical_high: U16,
    physical_low: U32,
}

impl LeafEntry {
    /// The extent that the entry describes.
    pub fn extent(&self) -> Result<Extent, ExtentError> {
        let len = self.len.get();
        let (len, state) = if len > LONGEST_WRITTEN {
            (len - LONGEST_WRITTEN, State::Unwritten)
        } else {
            (len, State::Written)
        };
        let physical = join(self.physical_high, self.physical_low);
        Extent::new(LogicalBlock::new(self.logical.get()), len, physical, state).ok_or(
            ExtentError::Extent {
                logical: self.logical.get(),
                len,
            },
        )
    }
}

impl From<Extent> for LeafEntry {
    fn from(extent: Extent) -> Self {
        let (physical_high, physical_low) = split(extent.physical());
        let mark = match extent.state() {
            State::Written => 0,
            State::Unwritten => LONGEST_WRITTEN,
        };
        Self {
            logical: U32::new(extent.logical().get()),
            len: U16::new(extent.len() + mark),
            physical_high,
            physical_low,
        }
    }
}

/// An entry of an index node (`struct ext4_extent_idx`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IndexEntry {
    logical: U32,
    child_low: U32,
    child_high: U16,
    unused: U16,
}

impl IndexEntry {
    /// An entry for the node at `child`, the first key of which is `key`.
    pub(super) fn new(key: u32, child: PhysicalBlock) -> Self {
        let (child_high, child_low) = split(child);
        Self {
            logical: U32::new(key),
            child_low,
            child_high,
            unused: U16::ZERO,
        }
    }

    /// The first logical block of what the node below maps.
    pub fn key(&self) -> u32 {
        self.logical.get()
    }

    /// The block of the node below.
    pub fn child(&self) -> PhysicalBlock {
        join(self.child_high, self.child_low)
    }
}

fn join(high: U16, low: U32) -> PhysicalBlock {
    PhysicalBlock::new(u64::from(high.get()) << 32 | u64::from(low.get()))
}

fn split(block: PhysicalBlock) -> (U16, U32) {
    let raw = block.get();
    (U16::new((raw >> 32) as u16), U32::new(raw as u32))
}

/// An entry of either kind, as editing moves them about. Both begin with their key.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Entry {
    key: U32,
    rest: [u8; 8],
}

impl Entry {
    pub(super) const EMPTY: Self = Self {
        key: U32::ZERO,
        rest: [0; 8],
    };

    pub(super) fn key(&self) -> u32 {
        self.key.get()
    }
}

impl From<Extent> for Entry {
    fn from(extent: Extent) -> Self {
        transmute!(LeafEntry::from(extent))
    }
}

impl From<IndexEntry> for Entry {
    fn from(entry: IndexEntry) -> Self {
        transmute!(entry)
    }
}

/// What a node block must be, by its place in the tree.
///
/// [`super::NodeReader::read`] is given one, for blocks that have not been verified since they were read
/// from the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    pub(super) depth: u16,
    pub(super) first: u32,
    pub(super) end: u32,
}

impl Expected {
    /// Verifies the whole node: its checksum (when the filesystem has checksums), then its header, then
    /// every entry.
    ///
    /// `checksum` is that of the inode, see [`Checksummer::for_inode`]. `valid` tells whether a run of
    /// blocks may belong to this file: inside of the filesystem and outside of its static metadata.
    pub fn verify(
        &self,
        bytes: &[u8],
        checksum: Option<Checksummer>,
        valid: impl FnMut(PhysicalBlock, u16) -> bool,
    ) -> Result<(), Corrupt> {
        let header = Header::read(bytes)?;
        if let Some(checksum) = checksum {
            let tail = header.tail();
            let (Some(summed), Some(stored)) = (bytes.get(..tail.start), bytes.get(tail.clone()))
            else {
                return Err(Corrupt::Truncated {
                    needed: tail.end,
                    found: bytes.len(),
                });
            };
            let stored = U32::read_from_bytes(stored).map_err(|_| ExtentError::Size)?;
            checksum.with_bytes(summed).verify(stored.get())?;
        }
        Node::new(bytes, self.depth)?.verify(Some(self.first), self.end, valid)?;
        Ok(())
    }
}

/// Verifies the root of a tree, as it has been read in an inode. `valid` is as for [`Expected::verify`].
pub fn verify_root(
    root: &[u8; ROOT_SIZE],
    valid: impl FnMut(PhysicalBlock, u16) -> bool,
) -> Result<(), Corrupt> {
    let node = Node::root(root)?;
    Ok(node.verify(None, LogicalBlock::COUNT, valid)?)
}

/// The root of the tree of a file without blocks.
pub fn empty_root() -> [u8; ROOT_SIZE] {
    let mut root = [0; ROOT_SIZE];
    clear(&mut root, 0);
    root
}

/// The depth of the tree with this root: 0 when its extents are in the root itself.
pub fn depth(root: &[u8; ROOT_SIZE]) -> Result<u16, ExtentError> {
    Ok(Node::root(root)?.header.depth())
}

/// Whether the tree with this root maps nothing.
pub fn is_empty(root: &[u8; ROOT_SIZE]) -> Result<bool, ExtentError> {
    Ok(Node::root(root)?.header.entries() == 0)
}

/// A node to be read, the header of which is right.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) header: Header,
    /// As many bytes as the header's entries have.
    entries: &'a [u8],
}

impl<'a> Node<'a> {
    /// Looks at a node that must have the given depth.
    pub(super) fn new(bytes: &'a [u8], expected: u16) -> Result<Self, ExtentError> {
        let header = Header::read(bytes)?;
        let found = header.depth();
        if found != expected {
            return Err(ExtentError::Depth { found, expected });
        }
        let end = HEADER_SIZE + header.entries() * ENTRY_SIZE;
        let entries = bytes.get(HEADER_SIZE..end).ok_or(ExtentError::Size)?;
        Ok(Self { header, entries })
    }

    /// Looks at the root of a tree.
    pub(super) fn root(root: &'a [u8; ROOT_SIZE]) -> Result<Self, ExtentError> {
        let found = Header::read(root)?.depth();
        if found > MAX_DEPTH {
            return Err(ExtentError::Depth {
                found,
                expected: MAX_DEPTH,
            });
        }
        Self::new(root, found)
    }

    /// The entries as those of a leaf.
    pub(super) fn extents(&self) -> &'a [LeafEntry] {
        <[LeafEntry]>::ref_from_bytes(self.entries).unwrap_or(&[])
    }

    /// The entries as those of an index node.
    pub(super) fn children(&self) -> &'a [IndexEntry] {
        <[IndexEntry]>::ref_from_bytes(self.entries).unwrap_or(&[])
    }

    /// The entries whatever they are.
    pub(super) fn raw(&self) -> &'a [Entry] {
        <[Entry]>::ref_from_bytes(self.entries).unwrap_or(&[])
    }

    /// The extent at `index`; `None` when there are not so many.
    pub(super) fn extent(&self, index: usize) -> Result<Option<Extent>, ExtentError> {
        self.extents().get(index).map(LeafEntry::extent).transpose()
    }

    /// How many entries begin at `logical` or before.
    pub(super) fn rank(&self, logical: u32) -> usize {
        self.raw().partition_point(|entry| entry.key() <= logical)
    }

    fn verify(
        &self,
        first: Option<u32>,
        end: u32,
        mut valid: impl FnMut(PhysicalBlock, u16) -> bool,
    ) -> Result<(), ExtentError> {
        let found = self.raw().first().map(Entry::key);
        match (first, found) {
            (Some(expected), Some(found)) if found != expected => {
                return Err(ExtentError::FirstKey { found, expected });
            }
            (_, None) if self.header.depth() > 0 => {
                return Err(ExtentError::Entries {
                    found: 0,
                    max: self.header.max.get(),
                });
            }
            _ => {}
        }
        // Where the next entry may begin.
        let mut free = first.unwrap_or(0);
        let mut take = |logical: u32, entry_end: u32, physical: PhysicalBlock, len: u16| {
            if logical < free || entry_end > end {
                return Err(ExtentError::Order { logical });
            }
            free = entry_end;
            if !valid(physical, len) {
                return Err(ExtentError::Place {
                    logical,
                    physical: physical.get(),
                    len,
                });
            }
            Ok(())
        };
        if self.header.depth() == 0 {
            for entry in self.extents() {
                let extent = entry.extent()?;
                let logical = extent.logical().get();
                let physical = extent.physical();
                take(logical, extent.end().get(), physical, extent.len())?;
            }
        } else {
            for entry in self.children() {
                // A child has at least one block to map, so the keys strictly ascend.
                let next = entry.key().saturating_add(1);
                take(entry.key(), next, entry.child(), 1)?;
            }
        }
        Ok(())
    }
}

/// Makes an empty node with as much room as it can have, whatever was there before.
pub(super) fn clear(bytes: &mut [u8], depth: u16) {
    bytes.fill(0);
    let fit = bytes.len().saturating_sub(HEADER_SIZE) / ENTRY_SIZE;
    let max = fit.try_into().unwrap_or(u16::MAX);
    // A node that is too small for a header stays as it is; nothing will take it for one.
    let _ = Header::new(0, max, depth).write_to_prefix(bytes);
}

/// Stores the checksum of a node block.
pub(super) fn seal(bytes: &mut [u8], checksum: Checksummer) {
    let Ok(header) = Header::read(bytes) else {
        // Without a header it is no node, and whoever reads it finds out.
        return;
    };
    let tail = header.tail();
    let Some((summed, rest)) = bytes.split_at_mut_checked(tail.start) else {
        return;
    };
    let sum = U32::new(checksum.with_bytes(summed).value());
    // Every block size leaves room for the tail behind its entries.
    let _ = sum.write_to_prefix(rest);
}

/// The header and all entries for which there is room, to be changed.
fn parts(bytes: &mut [u8]) -> Result<(&mut Header, &mut [Entry]), ExtentError> {
    let max = Header::read(bytes)?.max();
    let (header, rest) = Header::mut_from_prefix(bytes).map_err(|_| ExtentError::Size)?;
    let (entries, _) =
        <[Entry]>::mut_from_prefix_with_elems(rest, max).map_err(|_| ExtentError::Size)?;
    Ok((header, entries))
}

/// What a splice made of a node.
#[derive(Clone, Copy)]
pub(super) struct Spliced {
    /// The first key of the node, unless it is empty now.
    pub(super) first: Option<u32>,
    /// The first key of the new node to the right.
    pub(super) right: Option<u32>,
}

/// Replaces the `removed` entries at `at` by `new`.
///
/// With a `right` node, which must have been [cleared](clear), the entries are shared out between the
/// two; without one they must fit.
pub(super) fn splice(
    bytes: &mut [u8],
    right: Option<&mut [u8]>,
    at: usize,
    removed: usize,
    new: &[Entry],
) -> Result<Spliced, ExtentError> {
    let (header, entries) = parts(bytes)?;
    let old = header.entries();
    let crowded = ExtentError::Entries {
        found: header.entries.get(),
        max: header.max.get(),
    };
    if at > old || removed > old - at {
        return Err(crowded);
    }
    let total = old - removed + new.len();
    // Files that grow at their end, or downwards at their start, leave full nodes behind. Others share
    // evenly, since the next change may be anywhere.
    let keep = match right {
        Some(_) if at + removed == old => entries.len().min(total - 1),
        Some(_) if at == 0 && removed == 0 => new.len().clamp(1, entries.len()),
        Some(_) => total.div_ceil(2).min(entries.len()),
        None => total,
    };
    if keep > entries.len() {
        return Err(crowded);
    }

    let mut right_key = None;
    if let Some(right) = right {
        let (right_header, right_entries) = parts(right)?;
        let moved = right_entries.get_mut(..total - keep).ok_or(crowded)?;
        // The entries as they would be in one node that has room for all of them.
        let whole = entries[..at]
            .iter()
            .chain(new)
            .chain(&entries[at + removed..old]);
        for (to, from) in moved.iter_mut().zip(whole.skip(keep)) {
            *to = *from;
        }
        right_key = moved.first().map(Entry::key);
        right_header.entries = U16::new((total - keep) as u16);
    }

    let new_kept = new.len().min(keep.saturating_sub(at));
    let rest_kept = keep.saturating_sub(at + new.len());
    entries.copy_within(at + removed..at + removed + rest_kept, at + new_kept);
    entries[at..at + new_kept].copy_from_slice(&new[..new_kept]);
    // What is no longer used says nothing about where data was.
    if let Some(unused) = entries.get_mut(keep..old) {
        unused.fill(Entry::EMPTY);
    }
    header.entries = U16::new(keep as u16);
    Ok(Spliced {
        first: entries[..keep].first().map(Entry::key),
        right: right_key,
    })
}

/// Changes the key of the entry at `index`.
pub(super) fn set_key(bytes: &mut [u8], index: usize, key: u32) -> Result<(), ExtentError> {
    let (header, entries) = parts(bytes)?;
    let used = header.entries();
    let entry = entries[..used].get_mut(index).ok_or(ExtentError::Size)?;
    entry.key = U32::new(key);
    Ok(())
}

/// Makes `to` a node with the depth and the entries of `from`, in as much room as `to` has.
pub(super) fn copy(from: Node<'_>, to: &mut [u8]) -> Result<(), ExtentError> {
    clear(to, from.header.depth());
    append(from.raw(), to)
}

/// Puts entries behind those of a node.
pub(super) fn append(entries: &[Entry], to: &mut [u8]) -> Result<(), ExtentError> {
    let old = Header::read(to)?.entries();
    splice(to, None, old, 0, entries).map(|_| ())
}
