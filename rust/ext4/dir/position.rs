// SPDX-License-Identifier: GPL-2.0

//! Positions in a directory, as `telldir` gives them out.
//!
//! In a directory that is kept in the order of hashes a position is a hash, so it stays right however the
//! blocks are split: 64 bits, the major hash without its lowest bit in the upper half and the minor hash in
//! the lower, or just the major hash for callers that have only 32 bits. These are the positions that the
//! kernel's ext4 gives out. `.` is at hash 0 and `..` at hash 2, before names with the same hash.
//!
//! In a directory without that order it is the offset of the entry in bytes: entries stay where they are.

use core::ops::DerefMut;

use super::entry::Entry;
use crate::hash::NameHash;

/// How wide the positions are that a caller can keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PositionForm {
    /// 31 bits, for 32-bit processes and old protocols.
    Narrow,
    /// 63 bits.
    Wide,
}

impl PositionForm {
    /// The position behind everything in a directory in the order of hashes.
    pub const fn end(self) -> u64 {
        match self {
            Self::Narrow => 0x7fff_ffff,
            Self::Wide => 0x7fff_ffff_ffff_ffff,
        }
    }

    #[inline]
    const fn encode(self, hash: NameHash) -> u64 {
        let major = (hash.major >> 1) as u64;
        match self {
            Self::Narrow => major,
            Self::Wide => major << 32 | hash.minor as u64,
        }
    }

    const fn decode(self, position: u64) -> NameHash {
        match self {
            Self::Narrow => NameHash {
                major: (position as u32) << 1,
                minor: 0,
            },
            Self::Wide => NameHash {
                major: ((position >> 32) as u32) << 1,
                minor: position as u32,
            },
        }
    }
}

/// Where an entry stands in the order of hashes.
///
/// Names of equal hash are ordered by `tie`, another hash of theirs, and only names that agree in that too
/// by the place where they stand, which may change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Key {
    pub(crate) hash: NameHash,
    pub(crate) tie: u32,
    pub(crate) block: u32,
    pub(crate) offset: u32,
}

impl Key {
    /// The key of `.`.
    pub(crate) const DOT: Self = Self::first(0);
    /// The key of `..`.
    pub(crate) const DOT_DOT: Self = Self::first(2);

    /// The smallest key with this major hash.
    #[inline]
    pub(crate) const fn first(major: u32) -> Self {
        Self {
            hash: NameHash { major, minor: 0 },
            tie: 0,
            block: 0,
            offset: 0,
        }
    }

    /// The key of a name that stands at the given place, with what a [`crate::hash::NameHasher`] says of it.
    #[inline]
    pub(crate) fn of((hash, tie): (NameHash, u32), block: u32, offset: usize) -> Self {
        Self {
            hash,
            // 0 is for `.` and `..`, which come first.
            tie: tie.max(1),
            block,
            // Offsets are below 64 KiB.
            offset: offset as u32,
        }
    }

    /// The same, wherever the entry stands.
    #[inline]
    pub(crate) fn anywhere(self) -> Self {
        Self {
            block: 0,
            offset: 0,
            ..self
        }
    }

    /// The key that comes right behind this one.
    pub(crate) fn successor(self) -> Self {
        Self {
            // Offsets are far below the largest number.
            offset: self.offset + 1,
            ..self
        }
    }
}

/// An entry with its place in the order, for the buffer in which the entries of a leaf are sorted.
#[derive(Clone, Copy, Debug, Default)]
pub struct HashedEntry {
    pub(crate) key: Key,
}

/// What the sorted entries in a buffer are good for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ahead {
    /// The first entry that was not visited yet.
    pub(crate) next: usize,
    /// How many entries there are.
    pub(crate) held: usize,
    /// Whether there are more of the same leaves, for which there was no room.
    pub(crate) overflowed: bool,
    /// The smallest hash behind these leaves, or `None` when they were the last ones.
    pub(crate) start: Option<u32>,
    /// How many leaves these are.
    pub(crate) leaves: u32,
    /// How many bytes of a leaf the entries take, from its start to the end of the last one.
    pub(crate) used: usize,
    /// The entries `.` and `..`, if they are among these.
    pub(crate) dots: [Option<Entry<'static>>; 2],
}

/// A buffer in which the entries of a leaf are sorted.
///
/// Keep it with the [`Cursor`]: an iteration that goes on need not sort a leaf again. Whoever keeps it must
/// [`forget`](Self::forget) what is in it when the directory has changed, or the cursor is another one.
pub struct Scratch<B> {
    pub(crate) buffer: B,
    pub(crate) ahead: Ahead,
}

impl<B: DerefMut<Target = [HashedEntry]>> Scratch<B> {
    /// In `buffer`, which must not be empty; [`super::Directory::scratch_size`] says which size is best.
    pub fn new(buffer: B) -> Self {
        Self {
            buffer,
            ahead: Ahead::default(),
        }
    }

    /// How many entries it has room for.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets the entries that were sorted.
    pub fn forget(&mut self) {
        self.ahead = Ahead::default();
    }
}

/// How far an iteration has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// In a directory in the order of hashes: what comes next has this key or a larger one.
    Hashed(Key),
    /// In any other: what comes next stands at this offset in bytes or behind it.
    Linear(u64),
    /// Behind everything in a directory in the order of hashes.
    End,
}

/// How far an iteration over a directory has come.
///
/// It knows more than the position, which cannot tell names of equal hash from each other. So keep it with
/// the open directory, and make another one with [`super::Directory::cursor_at`] only when the position
/// was changed from outside, that is, when it is no more what [`Cursor::position`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    pub(crate) form: PositionForm,
    pub(crate) state: State,
}

impl Cursor {
    /// The start of any directory.
    pub const fn start(form: PositionForm) -> Self {
        Self {
            form,
            state: State::Linear(0),
        }
    }

    /// From a position in a directory that is in the order of hashes, or is not.
    pub(crate) fn new(position: u64, form: PositionForm, hashed: bool) -> Self {
        let state = if !hashed {
            State::Linear(position)
        } else if position >= form.end() {
            State::End
        } else {
            let hash = form.decode(position);
            State::Hashed(Key {
                hash,
                ..Key::default()
            })
        };
        Self { form, state }
    }

    /// The position, for `telldir` and the like.
    #[inline]
    pub fn position(&self) -> u64 {
        match self.state {
            State::Hashed(key) => self.form.encode(key.hash),
            State::Linear(offset) => offset,
            State::End => self.form.end(),
        }
    }

    /// The same cursor for a directory that is in the order of hashes, or is not.
    ///
    /// It matters when a directory has got that order since the cursor was made.
    pub(crate) fn in_order(self, hashed: bool) -> Self {
        match (self.state, hashed) {
            (State::Linear(_), false) | (State::Hashed(_) | State::End, true) => self,
            _ => Self::new(self.position(), self.form, hashed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_hashes() {
        let hash = NameHash {
            major: 0xe2dd_f968,
            minor: 0xc8bc_0924,
        };
        assert_eq!(PositionForm::Wide.encode(hash), 0x716e_fcb4_c8bc_0924);
        assert_eq!(PositionForm::Narrow.encode(hash), 0x716e_fcb4);
        assert_eq!(PositionForm::Wide.decode(0x716e_fcb4_c8bc_0924), hash);
        assert_eq!(
            PositionForm::Narrow.decode(0x716e_fcb4),
            NameHash {
                major: 0xe2dd_f968,
                minor: 0
            }
        );
    }

    #[test]
    fn the_end_is_behind_every_hash() {
        let largest = NameHash {
            major: NameHash::END_MAJOR - 2,
            minor: u32::MAX,
        };
        for form in [PositionForm::Narrow, PositionForm::Wide] {
            assert!(form.encode(largest) < form.end());
            let cursor = Cursor::new(form.end(), form, true);
            assert_eq!(cursor.state, State::End);
            assert_eq!(cursor.position(), form.end());
        }
    }

    #[test]
    fn the_start_is_the_same_everywhere() {
        let start = Cursor::start(PositionForm::Wide);
        assert_eq!(start.position(), 0);
        assert_eq!(start.in_order(true).state, State::Hashed(Key::DOT));
        assert_eq!(start.in_order(false), start);
    }
}
