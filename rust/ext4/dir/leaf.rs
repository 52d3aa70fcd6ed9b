// SPDX-License-Identifier: GPL-2.0

//! Blocks of entries: those of a linear directory and the leaves of an htree.
//!
//! All functions take a block of the right length ([`DirFormat::check_length`]).

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;

use super::entry::encode_length;
use super::entry::entry_size;
use super::entry::Entries;
use super::entry::Entry;
use super::entry::FileType;
use super::entry::Header;
use super::entry::Name;
use super::entry::HEADER_SIZE;
use super::entry::MIN_ENTRY;
use super::error::DirectoryError;
use super::format::DirFormat;
use crate::checksum::Checksummer;
use crate::error::Corrupt;
use crate::types::InodeNumber;

/// The size of the entry at the end of the block that holds the checksum.
pub(crate) const TAIL_SIZE: usize = 12;

/// The type of file that marks the entry with the checksum.
const TAIL_FILE_TYPE: u8 = 0xde;

/// Where a block has room for one more entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// The name is there already.
    Exists,
    /// Behind the entry at this offset, or in it when it is not in use.
    At(usize),
    /// There is enough, but in pieces: [`compact`] joins them.
    Scattered,
    /// Nowhere.
    None,
}

/// Splits off the checksum entry: what it covers and where the checksum stands.
fn split_tail(block: &[u8]) -> Option<(&[u8], U32)> {
    let (covered, tail) = block.split_at_checked(block.len().checked_sub(TAIL_SIZE)?)?;
    let header = Header::read(tail, 0)?;
    let is_tail = header.inode.get() == 0
        && usize::from(header.length.get()) == TAIL_SIZE
        && header.name_length == 0
        && header.file_type == TAIL_FILE_TYPE;
    let stored = tail.get(HEADER_SIZE..)?.try_into().map(U32::from_bytes);
    is_tail.then_some((covered, stored.ok()?))
}

/// Checks the checksum and every entry.
pub(crate) fn verify(format: &DirFormat, block: &[u8]) -> Result<(), Corrupt> {
    if let Some(checksum) = format.checksum {
        let (covered, stored) = split_tail(block).ok_or(DirectoryError::NoChecksumEntry)?;
        checksum.with_bytes(covered).verify(stored.get())?;
    }
    for entry in Entries::new(format, block) {
        entry?;
    }
    Ok(())
}

/// Stores the checksum.
///
/// A block that has no entry for it never gets here: [`verify`] refused it.
pub(crate) fn seal(checksum: Checksummer, block: &mut [u8]) {
    let Some((covered, _)) = split_tail(block) else {
        return;
    };
    let value = checksum.with_bytes(covered).value();
    let end = block.len();
    block[end - 4..].copy_from_slice(&value.to_le_bytes());
}

/// Overwrites the header at `offset`.
fn put(block: &mut [u8], offset: usize, header: Header) -> Result<(), DirectoryError> {
    let overrun = DirectoryError::EntryOverrun {
        offset: offset as u32,
        length: HEADER_SIZE as u32,
    };
    header.write(block, offset).ok_or(overrun)
}

/// Changes the length of the entry at `offset`.
fn set_length(block: &mut [u8], offset: usize, length: usize) -> Result<(), DirectoryError> {
    if let Some(mut header) = Header::read(block, offset) {
        header.length = U16::new(encode_length(length));
        return put(block, offset, header);
    }
    Err(DirectoryError::EntryOverrun {
        offset: offset as u32,
        length: HEADER_SIZE as u32,
    })
}

/// The byte that says the type of a file.
fn raw_type(format: &DirFormat, file_type: FileType) -> u8 {
    if format.features.filetype {
        file_type.raw()
    } else {
        0
    }
}

/// Writes entries into a block one after the other, each as small as it can be.
pub(crate) struct Packer {
    /// Where the entry that was written last stands.
    last: Option<usize>,
    /// Where the next one goes.
    next: usize,
}

impl Packer {
    /// For a block that holds nothing yet.
    pub(crate) const fn new() -> Self {
        Self {
            last: None,
            next: 0,
        }
    }

    /// Writes an entry. `block` may be the front part of a block.
    pub(crate) fn push(
        &mut self,
        block: &mut [u8],
        name: &[u8],
        inode: InodeNumber,
        raw_type: u8,
    ) -> Result<(), DirectoryError> {
        let size = entry_size(name.len());
        let overrun = DirectoryError::EntryOverrun {
            offset: self.next as u32,
            length: size as u32,
        };
        let entry = block.get_mut(self.next..self.next + size).ok_or(overrun)?;
        entry.fill(0);
        let header = Header {
            inode: U32::new(inode.get()),
            length: U16::new(size as u16),
            // Names have up to 255 bytes.
            name_length: name.len() as u8,
            file_type: raw_type,
        };
        put(entry, 0, header)?;
        entry[HEADER_SIZE..HEADER_SIZE + name.len()].copy_from_slice(name);
        self.last = Some(self.next);
        self.next += size;
        Ok(())
    }

    /// Copies `entry` of another block.
    pub(crate) fn copy(
        &mut self,
        format: &DirFormat,
        block: &mut [u8],
        entry: &Entry<'_>,
    ) -> Result<(), DirectoryError> {
        match entry.inode {
            Some(inode) => self.push(block, entry.name, inode, raw_type(format, entry.file_type)),
            None => Ok(()),
        }
    }

    /// Gives what is left of the block to the last entry and makes the checksum entry.
    pub(crate) fn finish(self, format: &DirFormat, block: &mut [u8]) -> Result<(), DirectoryError> {
        let end = format.entries_end();
        if let Some(rest) = block.get_mut(self.next..) {
            rest.fill(0);
        }
        match self.last {
            Some(last) => set_length(block, last, end - last)?,
            None => set_length(block, 0, end)?,
        }
        if format.checksum.is_some() {
            let tail = Header {
                inode: U32::ZERO,
                length: U16::new(TAIL_SIZE as u16),
                name_length: 0,
                file_type: TAIL_FILE_TYPE,
            };
            put(block, end, tail)?;
        }
        Ok(())
    }
}

/// Makes a block without entries.
pub(crate) fn init_empty(format: &DirFormat, block: &mut [u8]) -> Result<(), DirectoryError> {
    Packer::new().finish(format, block)
}

/// Makes the block of a directory that has only `.` and `..`.
pub(crate) fn init_dots(
    format: &DirFormat,
    block: &mut [u8],
    inode: InodeNumber,
    parent: InodeNumber,
) -> Result<(), DirectoryError> {
    let mut packer = Packer::new();
    let raw_type = raw_type(format, FileType::Directory);
    packer.push(block, Name::DOT.bytes(), inode, raw_type)?;
    packer.push(block, Name::DOT_DOT.bytes(), parent, raw_type)?;
    packer.finish(format, block)
}

/// The entries `.` and `..`, which must come first in logical block 0.
///
/// `end` is where the entries end: in the root of an htree at the end of the block.
pub(crate) fn dots<'a>(
    format: &DirFormat,
    block: &'a [u8],
    end: usize,
) -> Result<(Entry<'a>, Entry<'a>), DirectoryError> {
    let dot = Entry::parse(format, block, 0, end)?;
    let next = dot.offset + dot.length;
    if next >= end {
        return Err(DirectoryError::NoDots);
    }
    let dot_dot = Entry::parse(format, block, next, end)?;
    let in_use = dot.inode.is_some() && dot_dot.inode.is_some();
    if in_use && dot.name == Name::DOT.bytes() && dot_dot.name == Name::DOT_DOT.bytes() {
        Ok((dot, dot_dot))
    } else {
        Err(DirectoryError::NoDots)
    }
}

/// Looks a name up: its entry, and the offset of the one before it.
pub(crate) fn find<'a>(
    format: &DirFormat,
    block: &'a [u8],
    name: Name<'_>,
) -> Result<Option<(Entry<'a>, Option<usize>)>, DirectoryError> {
    let mut previous = None;
    for entry in Entries::new(format, block) {
        let entry = entry?;
        if entry.inode.is_some() && entry.name == name.bytes() {
            return Ok(Some((entry, previous)));
        }
        previous = Some(entry.offset);
    }
    Ok(None)
}

/// Looks for room for an entry with the name `name`, and whether the name comes before it.
pub(crate) fn find_room(
    format: &DirFormat,
    block: &[u8],
    name: Name<'_>,
) -> Result<Room, DirectoryError> {
    let needed = name.entry_size();
    let mut free = 0;
    for entry in Entries::new(format, block) {
        let entry = entry?;
        if entry.inode.is_some() && entry.name == name.bytes() {
            return Ok(Room::Exists);
        }
        let unused = entry.length - entry.used();
        if unused >= needed {
            return Ok(Room::At(entry.offset));
        }
        free += unused;
    }
    Ok(if free >= needed {
        Room::Scattered
    } else {
        Room::None
    })
}

/// Moves all entries to the front, so that all that is free lies behind the last one.
///
/// Returns the offset of the last entry.
pub(crate) fn compact(format: &DirFormat, block: &mut [u8]) -> Result<usize, DirectoryError> {
    let end = format.entries_end();
    let mut from = 0;
    let mut to = 0;
    let mut last = 0;
    while from < end {
        let entry = Entry::parse(format, block, from, end)?;
        let (length, used) = (entry.length, entry.used());
        if used > 0 {
            block.copy_within(from..from + used, to);
            set_length(block, to, used)?;
            last = to;
            to += used;
        }
        from += length;
    }
    block[to..end].fill(0);
    set_length(block, last, end - last)?;
    Ok(last)
}

/// Writes a new entry where [`find_room`] found room for it or [`compact`] made some.
pub(crate) fn insert_at(
    format: &DirFormat,
    block: &mut [u8],
    offset: usize,
    name: Name<'_>,
    inode: InodeNumber,
    file_type: FileType,
) -> Result<(), DirectoryError> {
    let entry = Entry::parse(format, block, offset, format.entries_end())?;
    let (used, length) = (entry.used(), entry.length);
    let (at, length) = (offset + used, length - used);
    if length < name.entry_size() {
        return Err(DirectoryError::EntryOverrun {
            offset: at as u32,
            length: name.entry_size() as u32,
        });
    }
    let mut packer = Packer {
        last: None,
        next: at,
    };
    packer.push(block, name.bytes(), inode, raw_type(format, file_type))?;
    set_length(block, at, length)?;
    if used > 0 {
        set_length(block, offset, used)?;
    }
    Ok(())
}

/// Removes the entry at `offset`: what it took belongs to the entry before it then, at `previous`.
///
/// The first entry of a block stays as an unused one.
pub(crate) fn remove_at(
    format: &DirFormat,
    block: &mut [u8],
    offset: usize,
    previous: Option<usize>,
) -> Result<(), DirectoryError> {
    let end = format.entries_end();
    let length = Entry::parse(format, block, offset, end)?.length;
    let (heir, heir_length) = match previous {
        Some(previous) => {
            let length_before = Entry::parse(format, block, previous, end)?.length;
            if previous + length_before != offset {
                return Err(DirectoryError::EntryLength {
                    offset: previous as u32,
                    length: length_before as u32,
                });
            }
            (previous, length_before + length)
        }
        None => (offset, length),
    };
    // The name of what is gone stays on no disk.
    block[offset..offset + length].fill(0);
    set_length(block, heir, heir_length)
}

/// Lets the entry at `offset` stand for another inode.
pub(crate) fn set_inode_at(
    format: &DirFormat,
    block: &mut [u8],
    offset: usize,
    inode: InodeNumber,
    file_type: FileType,
) -> Result<(), DirectoryError> {
    let overrun = DirectoryError::EntryOverrun {
        offset: offset as u32,
        length: HEADER_SIZE as u32,
    };
    let mut header = Header::read(block, offset).ok_or(overrun)?;
    header.inode = U32::new(inode.get());
    header.file_type = raw_type(format, file_type);
    put(block, offset, header)
}

/// Forgets the entry at `offset` but leaves it its room, until [`compact`] takes that.
pub(crate) fn forget_at(block: &mut [u8], offset: usize) -> Result<(), DirectoryError> {
    let overrun = DirectoryError::EntryOverrun {
        offset: offset as u32,
        length: HEADER_SIZE as u32,
    };
    let mut header = Header::read(block, offset).ok_or(overrun)?;
    header.inode = U32::ZERO;
    put(block, offset, header)
}

/// Makes the entries of the root of an htree: `.`, and `..` to the end of the block. The rest is zeroed.
pub(crate) fn init_root_dots(
    format: &DirFormat,
    block: &mut [u8],
    inode: InodeNumber,
    parent: InodeNumber,
) -> Result<(), DirectoryError> {
    init_dots(format, block, inode, parent)?;
    let size = format.block_size.bytes();
    block[format.entries_end()..].fill(0);
    set_length(block, MIN_ENTRY, size - MIN_ENTRY)
}

/// Makes the unused entry that hides a node of the index of an htree.
pub(crate) fn init_disguise(format: &DirFormat, block: &mut [u8]) -> Result<(), DirectoryError> {
    set_length(block, 0, format.block_size.bytes())
}
