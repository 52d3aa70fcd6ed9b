// SPDX-License-Identifier: GPL-2.0

//! Reading a table of attributes.

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use super::block::BlockHeader;
use super::error::XattrError;
use super::name::NameIndex;
use super::name::XattrName;
use crate::types::InodeNumber;

/// What a table begins with in both places.
pub const MAGIC: u32 = 0xea02_0000;

/// The size of the magic number in an inode.
pub(super) const INODE_HEADER: usize = 4;

/// The size of the header of a block.
pub(super) const BLOCK_HEADER: usize = size_of::<BlockHeader>();

/// The size of the fixed part of an entry.
pub(super) const ENTRY_HEADER: usize = size_of::<RawEntry>();

/// The size of the zeroes behind the last entry.
pub(super) const TERMINATOR: usize = 4;

/// Where a table lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Inode,
    Block,
}

impl Place {
    /// Where the first entry stands, counted as the offsets of values are.
    pub(super) const fn first(self) -> usize {
        match self {
            Self::Inode => 0,
            Self::Block => BLOCK_HEADER,
        }
    }
}

/// The fixed part of an entry on disk.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawEntry {
    pub(super) name_length: u8,
    pub(super) name_index: u8,
    pub(super) value_offset: U16,
    pub(super) value_inode: U32,
    pub(super) value_size: U32,
    pub(super) hash: U32,
}

/// Sizes are rounded up to multiples of four.
pub(super) const fn padded(size: usize) -> usize {
    (size + 3) & !3
}

/// How much an entry takes whose name has `suffix` bytes.
pub(super) const fn entry_size(suffix: usize) -> usize {
    ENTRY_HEADER + padded(suffix)
}

/// Where the value of an attribute is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Here.
    Here(&'a [u8]),
    /// In an inode of its own.
    Inode {
        /// The inode.
        inode: InodeNumber,
        /// The length of the value in bytes.
        size: u32,
    },
}

impl Value<'_> {
    /// The length of the value in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Here(value) => value.len(),
            Self::Inode { size, .. } => *size as usize,
        }
    }
}

/// An attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// What the name begins with.
    pub index: NameIndex,
    /// The rest of the name.
    pub suffix: &'a [u8],
    /// The value.
    pub value: Value<'a>,
    /// The hash of name and value: 0 in an inode, and in a block that may not be shared.
    pub hash: u32,
    /// Where the entry stands.
    pub(super) offset: usize,
    /// Where the value stands, when it is here and not empty.
    pub(super) value_offset: Option<usize>,
}

impl<'a> Entry<'a> {
    /// Reads and checks the entry at `offset`; `None` when the entries end there.
    fn parse(area: &'a [u8], offset: usize, ea_inode: bool) -> Result<Option<Self>, XattrError> {
        // A table has up to 64 KiB.
        let at = offset as u32;
        let unterminated = XattrError::Unterminated { entry: at };
        let rest = area.get(offset..).ok_or(unterminated)?;
        let start = rest.first_chunk::<TERMINATOR>().ok_or(unterminated)?;
        if *start == [0; TERMINATOR] {
            return Ok(None);
        }
        let (raw, rest) = RawEntry::ref_from_prefix(rest).map_err(|_| unterminated)?;
        let suffix = rest
            .get(..usize::from(raw.name_length))
            .ok_or(unterminated)?;
        if suffix.contains(&0) {
            return Err(XattrError::Name { entry: at });
        }
        let size = raw.value_size.get();
        let value_start = usize::from(raw.value_offset.get());
        let (value, value_offset) = match InodeNumber::new(raw.value_inode.get()) {
            Some(inode) if ea_inode => (Value::Inode { inode, size }, None),
            Some(inode) => {
                return Err(XattrError::ValueInode {
                    entry: at,
                    inode: inode.get(),
                });
            }
            None if size == 0 => (Value::Here(&[]), None),
            None => {
                let misplaced = XattrError::ValuePlace {
                    entry: at,
                    offset: value_start as u32,
                    size,
                };
                let value = area
                    .get(value_start..)
                    .and_then(|rest| rest.get(..size as usize))
                    .filter(|value| value_start + padded(value.len()) <= area.len())
                    .ok_or(misplaced)?;
                (Value::Here(value), Some(value_start))
            }
        };
        Ok(Some(Self {
            index: NameIndex::from_raw(raw.name_index),
            suffix,
            value,
            hash: raw.hash.get(),
            offset,
            value_offset,
        }))
    }

    /// The name; `None` when it is one that no attribute can have.
    pub fn name(&self) -> Option<XattrName<'a>> {
        XattrName::new(self.index, self.suffix)
    }

    /// Where the next entry stands.
    pub(super) fn next_offset(&self) -> usize {
        self.offset + entry_size(self.suffix.len())
    }

    /// How much the value takes from the table.
    pub(super) fn value_room(&self) -> usize {
        match self.value {
            Value::Here(value) => padded(value.len()),
            Value::Inode { .. } => 0,
        }
    }
}

/// A table of attributes that was checked.
///
/// # Invariants
///
/// The entries end, and behind their end but within the area lies every value that is here.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    pub(super) place: Place,
    /// The bytes that the offsets of values count in.
    pub(super) area: &'a [u8],
    ea_inode: bool,
    /// Where the entries end.
    pub(super) end: usize,
    /// Where the values begin.
    pub(super) values: usize,
}

impl<'a> Table<'a> {
    /// The table in an inode.
    ///
    /// `room` is what the fields of the inode leave free: from byte 128 + `i_extra_isize` to the end. `None`
    /// when there are no attributes in it. `ea_inode` is the feature of that name.
    pub fn in_inode(room: &'a [u8], ea_inode: bool) -> Result<Option<Self>, XattrError> {
        match room.split_first_chunk::<INODE_HEADER>() {
            Some((magic, area)) if *magic == MAGIC.to_le_bytes() => {
                Self::parse(Place::Inode, area, ea_inode).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The table in a block.
    ///
    /// The checksum is not looked at, see [`BlockHeader::verify`].
    pub fn in_block(block: &'a [u8], ea_inode: bool) -> Result<Self, XattrError> {
        BlockHeader::parse(block)?;
        Self::parse(Place::Block, block, ea_inode)
    }

    pub(super) fn parse(place: Place, area: &'a [u8], ea_inode: bool) -> Result<Self, XattrError> {
        let mut end = place.first();
        let mut values = area.len();
        while let Some(entry) = Entry::parse(area, end, ea_inode)? {
            if let Some(offset) = entry.value_offset {
                values = values.min(offset);
            }
            end = entry.next_offset();
        }
        // INVARIANT: `Entry::parse` has checked each entry but for this.
        let table = Self {
            place,
            area,
            ea_inode,
            end,
            values,
        };
        for entry in table.entries() {
            if entry
                .value_offset
                .is_some_and(|offset| offset < end + TERMINATOR)
            {
                return Err(XattrError::ValuePlace {
                    // A table has up to 64 KiB.
                    entry: entry.offset as u32,
                    offset: entry.value_offset.unwrap_or_default() as u32,
                    size: entry.value.size() as u32,
                });
            }
        }
        Ok(table)
    }

    /// All attributes, in the order in which they stand.
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            area: self.area,
            ea_inode: self.ea_inode,
            next: self.place.first(),
        }
    }

    /// Looks an attribute up.
    pub fn find(&self, name: XattrName<'_>) -> Option<Entry<'a>> {
        self.entries()
            .find(|entry| name.compare(entry.index, entry.suffix).is_eq())
    }

    /// Whether there are no attributes.
    pub fn is_empty(&self) -> bool {
        self.entries().next().is_none()
    }

    /// How many bytes are free for entries and values.
    pub fn free(&self) -> usize {
        self.values.saturating_sub(self.end + TERMINATOR)
    }

    /// Whether an attribute with a value of `size` bytes can be set here, if need be in the place of the one
    /// that has the name now.
    pub fn fits(&self, name: XattrName<'_>, size: usize) -> bool {
        let Some(size) = size.checked_add(3).map(|size| size & !3) else {
            return false;
        };
        match self.find(name) {
            Some(entry) => size <= self.free() + entry.value_room(),
            None => size
                .checked_add(entry_size(name.suffix().len()))
                .is_some_and(|needed| needed <= self.free()),
        }
    }

    /// Whether an attribute with a value of `size` bytes fits an inode without attributes that has `room` bytes
    /// free for them.
    pub fn fits_new(room: usize, name: XattrName<'_>, size: usize) -> bool {
        let Some(room) = room.checked_sub(INODE_HEADER + TERMINATOR) else {
            return false;
        };
        size.checked_add(3)
            .map(|size| size & !3)
            .and_then(|size| size.checked_add(entry_size(name.suffix().len())))
            .is_some_and(|needed| needed <= room)
    }

    /// No two values overlap. Takes time with the square of the number of attributes.
    pub(super) fn check_overlap(&self) -> Result<(), XattrError> {
        for one in self.entries() {
            let Some(start) = one.value_offset else {
                continue;
            };
            let end = start + one.value_room();
            let overlaps = self.entries().any(|other| {
                other.offset != one.offset
                    && other
                        .value_offset
                        .is_some_and(|offset| offset < end && start < offset + other.value_room())
            });
            if overlaps {
                return Err(XattrError::ValueOverlap {
                    entry: one.offset as u32,
                });
            }
        }
        Ok(())
    }
}

/// The attributes of a table.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    area: &'a [u8],
    ea_inode: bool,
    next: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        // The table was checked: nothing can be wrong with an entry.
        let entry = Entry::parse(self.area, self.next, self.ea_inode).ok()??;
        self.next = entry.next_offset();
        Some(entry)
    }
}
