// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with extended attributes.

use core::fmt;

/// What is wrong with extended attributes. Offsets are in bytes, as the table counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XattrError {
    /// A block of attributes does not begin with the magic number.
    Magic {
        /// What it begins with.
        found: u32,
    },
    /// A block of attributes claims to have more blocks or no user.
    Header {
        /// How many blocks it claims.
        blocks: u32,
        /// How many inodes it claims to be used by.
        references: u32,
    },
    /// The entries do not end within their place.
    Unterminated {
        /// The entry that is cut off.
        entry: u32,
    },
    /// There is a 0 in a name.
    Name {
        /// The entry.
        entry: u32,
    },
    /// A value does not lie between the entries and the end.
    ValuePlace {
        /// The entry.
        entry: u32,
        /// Where its value should be.
        offset: u32,
        /// How long its value should be.
        size: u32,
    },
    /// Two values overlap.
    ValueOverlap {
        /// One of the entries.
        entry: u32,
    },
    /// A value lies in an inode, and the filesystem does not have the feature `ea_inode`.
    ValueInode {
        /// The entry.
        entry: u32,
        /// The inode.
        inode: u32,
    },
}

impl fmt::Display for XattrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic { found } => write!(f, "attribute block with the magic {found:#x}"),
            Self::Header { blocks, references } => {
                write!(
                    f,
                    "attribute block claims {blocks} blocks and {references} users"
                )
            }
            Self::Unterminated { entry } => write!(f, "attribute entry at {entry} has no end"),
            Self::Name { entry } => write!(f, "attribute entry at {entry} has a 0 in its name"),
            Self::ValuePlace {
                entry,
                offset,
                size,
            } => {
                write!(
                    f,
                    "attribute entry at {entry} has a value of {size} bytes at {offset}, out of place"
                )
            }
            Self::ValueOverlap { entry } => {
                write!(
                    f,
                    "attribute entry at {entry} shares its value with another one"
                )
            }
            Self::ValueInode { entry, inode } => {
                write!(
                    f,
                    "attribute entry at {entry} has its value in inode {inode}, without ea_inode"
                )
            }
        }
    }
}
