// SPDX-License-Identifier: GPL-2.0

//! The contents of a directory: names and the numbers of their nodes.
//!
//! Each name has a position, by which a program that lists the directory comes back to where it was.
//! Positions are handed out in ascending order and never again, so a listing sees every name that is
//! there from its beginning to its end, and none twice, whatever comes and goes meanwhile.
//!
//! A name is found by comparing it with all others, which keeps the sample short. A file system that is
//! meant to hold large directories would have an index.

use kernel::prelude::*;
use vfs::dir::FileType;

use crate::NAME_LENGTH;

/// A name in a directory.
pub(crate) struct Entry {
    pub(crate) name: KVec<u8>,
    pub(crate) number: u64,
    pub(crate) file_type: FileType,
    pub(crate) position: i64,
}

/// The names of a directory.
pub(crate) struct Names {
    /// The number of the directory that this one lies in.
    pub(crate) parent: u64,
    /// In the order of their positions.
    entries: KVec<Entry>,
    next_position: i64,
}

/// Where names begin: before are `.` and `..`, which are not stored.
const FIRST_POSITION: i64 = 2;

impl Names {
    /// An empty directory in `parent`.
    pub(crate) fn new(parent: u64) -> Self {
        Self {
            parent,
            entries: KVec::new(),
            next_position: FIRST_POSITION,
        }
    }

    /// Whether there is no name.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The position behind all names.
    pub(crate) fn end(&self) -> i64 {
        self.next_position
    }

    /// The entry of `name`.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name[..] == *name)
    }

    /// The first entry from `position` on.
    pub(crate) fn from(&self, position: i64) -> Option<&Entry> {
        let index = self
            .entries
            .partition_point(|entry| entry.position < position);
        self.entries.get(index)
    }

    /// Adds a name that is not there.
    ///
    /// # Errors
    ///
    /// `ENAMETOOLONG`, `ENOMEM`.
    pub(crate) fn add(&mut self, name: &[u8], number: u64, file_type: FileType) -> Result {
        if name.len() > NAME_LENGTH {
            return Err(ENAMETOOLONG);
        }
        let mut copy = KVec::new();
        copy.extend_from_slice(name, GFP_KERNEL)?;
        let entry = Entry {
            name: copy,
            number,
            file_type,
            position: self.next_position,
        };
        self.entries.push(entry, GFP_KERNEL)?;
        self.next_position += 1;
        Ok(())
    }

    /// Has `name`, which is there, stand for another node. It keeps its position.
    pub(crate) fn replace(&mut self, name: &[u8], number: u64, file_type: FileType) -> Result {
        let entry = self
            .entries
            .iter_mut()
            .find(|entry| entry.name[..] == *name);
        let entry = entry.ok_or(ENOENT)?;
        entry.number = number;
        entry.file_type = file_type;
        Ok(())
    }

    /// Removes `name`, which is there.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Result {
        let index = self
            .entries
            .iter()
            .position(|entry| entry.name[..] == *name);
        self.entries
            .remove(index.ok_or(ENOENT)?)
            .map_err(|_| ENOENT)?;
        Ok(())
    }
}
