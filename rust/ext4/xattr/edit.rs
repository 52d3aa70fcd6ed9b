// SPDX-License-Identifier: GPL-2.0

//! Changing a table of attributes.

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

use super::block::block_hash;
use super::block::entry_hash;
use super::block::BlockHeader;
use super::error::XattrError;
use super::name::XattrName;
use super::table::entry_size;
use super::table::padded;
use super::table::Entry;
use super::table::Place;
use super::table::RawEntry;
use super::table::Table;
use super::table::Value;
use super::table::ENTRY_HEADER;
use super::table::INODE_HEADER;
use super::table::MAGIC;
use super::table::TERMINATOR;
use crate::types::InodeNumber;

/// What became of an attribute that was to be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Set {
    /// It is set.
    Done {
        /// The inode with the value that it had before: its owner has to drop it.
        old_inode: Option<InodeNumber>,
    },
    /// There is not enough room. Nothing has changed.
    NoSpace,
}

/// An attribute that was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removed {
    /// The inode with the value, if it had one: its owner has to drop it.
    pub old_inode: Option<InodeNumber>,
}

/// A table of attributes that can be changed.
///
/// The table is checked before each change, and no other check is needed before.
pub struct Edit<'a> {
    place: Place,
    /// In an inode, the magic number.
    header: &'a mut [u8],
    area: &'a mut [u8],
    ea_inode: bool,
}

/// What a change has to know of an entry.
#[derive(Clone, Copy)]
struct Target {
    offset: usize,
    next: usize,
    value_offset: Option<usize>,
    value_room: usize,
    inode: Option<InodeNumber>,
}

impl Target {
    fn new(entry: &Entry<'_>) -> Self {
        Self {
            offset: entry.offset,
            next: entry.next_offset(),
            value_offset: entry.value_offset,
            value_room: entry.value_room(),
            inode: match entry.value {
                Value::Inode { inode, .. } => Some(inode),
                Value::Here(_) => None,
            },
        }
    }
}

impl<'a> Edit<'a> {
    /// The table in an inode. When there is none, it comes into being with the first attribute.
    ///
    /// `room` is what the fields of the inode leave free, see [`Table::in_inode`]. `None` when that is too
    /// small for any attribute. The checksum of the inode has to be stored afterwards.
    pub fn in_inode(room: &'a mut [u8], ea_inode: bool) -> Option<Self> {
        if room.len() < INODE_HEADER + TERMINATOR {
            return None;
        }
        if room.get(..INODE_HEADER) != Some(&MAGIC.to_le_bytes()[..]) {
            room.fill(0);
        }
        let (header, area) = room.split_at_mut(INODE_HEADER);
        Some(Self {
            place: Place::Inode,
            header,
            area,
            ea_inode,
        })
    }

    /// The table in a block, which [`BlockHeader::init`] made or which was read.
    ///
    /// The block must have no other users. Its checksum has to be stored afterwards, see
    /// [`BlockHeader::update_checksum`].
    pub fn in_block(block: &'a mut [u8], ea_inode: bool) -> Self {
        Self {
            place: Place::Block,
            header: &mut [],
            area: block,
            ea_inode,
        }
    }

    /// The table as it is now.
    pub fn table(&self) -> Result<Table<'_>, XattrError> {
        if self.place == Place::Block {
            BlockHeader::parse(self.area)?;
        }
        Table::parse(self.place, self.area, self.ea_inode)
    }

    /// Sets an attribute, new or in the place of the one that has the name.
    pub fn set(&mut self, name: XattrName<'_>, value: &[u8]) -> Result<Set, XattrError> {
        let table = self.table()?;
        table.check_overlap()?;
        if !table.fits(name, value.len()) {
            return Ok(Set::NoSpace);
        }
        let old = table.find(name).map(|entry| Target::new(&entry));
        let offset = match old {
            Some(old) => {
                self.drop_value(&old)?;
                old.offset
            }
            None => {
                let behind = table
                    .entries()
                    .find(|entry| name.compare(entry.index, entry.suffix).is_lt());
                let offset = behind.map_or(table.end, |entry| entry.offset);
                let end = table.end;
                self.open_entry(offset, end, name)?;
                offset
            }
        };

        let end_of_room = self.table()?.values;
        let start = end_of_room - padded(value.len());
        if !value.is_empty() {
            let room = self.slice(start, end_of_room)?;
            room.fill(0);
            room[..value.len()].copy_from_slice(value);
        }
        let hash = match self.place {
            Place::Inode => 0,
            Place::Block => entry_hash(name.suffix(), value),
        };
        let raw = self.raw(offset)?;
        // The table has up to 64 KiB, and a value lies behind the entries of it.
        raw.value_offset = U16::new(if value.is_empty() { 0 } else { start as u16 });
        raw.value_size = U32::new(value.len() as u32);
        raw.value_inode = U32::ZERO;
        raw.hash = U32::new(hash);
        self.finish()?;
        Ok(Set::Done {
            old_inode: old.and_then(|old| old.inode),
        })
    }

    /// Removes an attribute; `None` when it is not there.
    ///
    /// When the last attribute is gone, an inode has no table any more, and a block ([`Table::is_empty`]) is
    /// to be freed.
    pub fn remove(&mut self, name: XattrName<'_>) -> Result<Option<Removed>, XattrError> {
        let table = self.table()?;
        table.check_overlap()?;
        let Some(old) = table.find(name).map(|entry| Target::new(&entry)) else {
            return Ok(None);
        };
        let end = table.end;
        self.drop_value(&old)?;
        let size = old.next - old.offset;
        let entries = self.slice(old.offset, end + TERMINATOR)?;
        entries.copy_within(size.., 0);
        let kept = entries.len() - size;
        entries[kept..].fill(0);
        self.finish()?;
        Ok(Some(Removed {
            old_inode: old.inode,
        }))
    }

    /// The bytes from `start` to `end`.
    fn slice(&mut self, start: usize, end: usize) -> Result<&mut [u8], XattrError> {
        self.area
            .get_mut(start..end)
            .ok_or(XattrError::Unterminated {
                // A table has up to 64 KiB.
                entry: start as u32,
            })
    }

    /// The fixed part of the entry at `offset`.
    fn raw(&mut self, offset: usize) -> Result<&mut RawEntry, XattrError> {
        let bytes = self.slice(offset, offset + ENTRY_HEADER)?;
        RawEntry::mut_from_bytes(bytes).map_err(|_| XattrError::Unterminated {
            entry: offset as u32,
        })
    }

    /// Takes the value of an entry away and moves the values before it up.
    fn drop_value(&mut self, old: &Target) -> Result<(), XattrError> {
        if let Some(start) = old.value_offset {
            let size = old.value_room;
            let (first, end) = {
                let table = self.table()?;
                (table.values, table.end)
            };
            let values = self.slice(first, start + size)?;
            let kept = values.len() - size;
            values.copy_within(..kept, size);
            values[..size].fill(0);
            // Entries are walked by hand, as the table is not valid in between.
            let mut offset = self.place.first();
            while offset < end {
                let raw = self.raw(offset)?;
                let value_offset = usize::from(raw.value_offset.get());
                let is_here = raw.value_inode.get() == 0 && raw.value_size.get() != 0;
                if is_here && value_offset < start {
                    raw.value_offset = U16::new((value_offset + size) as u16);
                }
                offset += entry_size(usize::from(raw.name_length));
            }
        }
        let raw = self.raw(old.offset)?;
        raw.value_offset = U16::ZERO;
        raw.value_size = U32::ZERO;
        raw.value_inode = U32::ZERO;
        Ok(())
    }

    /// Makes an entry without a value at `offset`. The entries end at `end`, and there is room.
    fn open_entry(
        &mut self,
        offset: usize,
        end: usize,
        name: XattrName<'_>,
    ) -> Result<(), XattrError> {
        let suffix = name.suffix();
        let size = entry_size(suffix.len());
        let entries = self.slice(offset, end + TERMINATOR + size)?;
        let moved = entries.len() - size;
        entries.copy_within(..moved, size);
        let (header, rest) = entries[..size].split_at_mut(ENTRY_HEADER);
        let raw = RawEntry {
            // A suffix has up to 255 bytes.
            name_length: suffix.len() as u8,
            name_index: name.index().raw(),
            value_offset: U16::ZERO,
            value_inode: U32::ZERO,
            value_size: U32::ZERO,
            hash: U32::ZERO,
        };
        header.copy_from_slice(raw.as_bytes());
        rest.fill(0);
        rest[..suffix.len()].copy_from_slice(suffix);
        Ok(())
    }

    /// Brings up to date what depends on all attributes.
    fn finish(&mut self) -> Result<(), XattrError> {
        let table = self.table()?;
        match self.place {
            Place::Inode if table.is_empty() => {
                self.header.fill(0);
                self.area.fill(0);
            }
            Place::Inode => self.header.copy_from_slice(&MAGIC.to_le_bytes()),
            Place::Block => {
                let hash = block_hash(&table);
                BlockHeader::parse_mut(self.area)?.set_hash(hash);
            }
        }
        Ok(())
    }
}
