// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with a directory.

use core::fmt;

/// What is wrong with a directory. Offsets are in bytes from the start of the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirectoryError {
    /// The length of an entry is too small for what it holds or no multiple of four.
    EntryLength {
        /// Where the entry stands.
        offset: u32,
        /// The length that it claims.
        length: u32,
    },
    /// An entry reaches over the end of the block, or so near to it that no other entry fits.
    EntryOverrun {
        /// Where the entry stands.
        offset: u32,
        /// The length that it claims.
        length: u32,
    },
    /// An entry names an inode that the filesystem does not have.
    EntryInode {
        /// Where the entry stands.
        offset: u32,
        /// The number of the inode.
        inode: u32,
    },
    /// An entry is in use and has no name.
    EntryWithoutName {
        /// Where the entry stands.
        offset: u32,
    },
    /// The checksum entry at the end of the block is missing.
    NoChecksumEntry,
    /// The directory does not begin with `.` and `..`.
    NoDots,
    /// The directory has no blocks.
    NoBlocks,
    /// A block of the directory is not on the disk.
    Hole {
        /// The logical block.
        block: u32,
    },
    /// The root of the index says what no root may say.
    IndexRoot {
        /// The byte 0x1c to 0x1f of the root: hash version, length of this header, levels, flags.
        info: [u8; 4],
    },
    /// A node of the index is not disguised as an unused entry, as it must be.
    IndexDisguise,
    /// An index has more or less room than its block gives.
    IndexLimit {
        /// What it claims.
        found: u16,
        /// What fits into the block.
        expected: u16,
    },
    /// An index claims no entries or more than it has room for.
    IndexCount {
        /// What it claims.
        found: u16,
        /// How many there can be.
        limit: u16,
    },
    /// The hashes in an index are not sorted.
    IndexOrder {
        /// The number of the first entry that is smaller than the one before it.
        entry: u16,
    },
    /// An index points outside of the directory, or to its root.
    IndexBlock {
        /// The logical block that it points to.
        block: u32,
    },
    /// The index leads in a circle, or to more leaves than the directory has blocks.
    IndexLoop,
    /// A name stands in a leaf that is not for its hash.
    HashOutOfRange {
        /// The major hash of the name.
        hash: u32,
        /// The logical block of the leaf.
        leaf: u32,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EntryLength { offset, length } => {
                write!(
                    f,
                    "directory entry at {offset} has the impossible length {length}"
                )
            }
            Self::EntryOverrun { offset, length } => {
                write!(
                    f,
                    "directory entry at {offset} of length {length} overruns its block"
                )
            }
            Self::EntryInode { offset, inode } => {
                write!(
                    f,
                    "directory entry at {offset} names inode {inode}, which does not exist"
                )
            }
            Self::EntryWithoutName { offset } => {
                write!(f, "directory entry at {offset} has no name")
            }
            Self::NoChecksumEntry => f.write_str("directory block without a checksum"),
            Self::NoDots => f.write_str("directory does not begin with '.' and '..'"),
            Self::NoBlocks => f.write_str("directory without blocks"),
            Self::Hole { block } => write!(f, "directory with a hole at block {block}"),
            Self::IndexRoot { info } => {
                write!(f, "directory index with the unusable header {info:02x?}")
            }
            Self::IndexDisguise => f.write_str("directory index not hidden in an unused entry"),
            Self::IndexLimit { found, expected } => {
                write!(
                    f,
                    "directory index has room for {found} entries, should be {expected}"
                )
            }
            Self::IndexCount { found, limit } => {
                write!(f, "directory index has {found} entries of at most {limit}")
            }
            Self::IndexOrder { entry } => {
                write!(f, "directory index not sorted at entry {entry}")
            }
            Self::IndexBlock { block } => {
                write!(
                    f,
                    "directory index points to block {block}, which is no leaf or node"
                )
            }
            Self::IndexLoop => f.write_str("directory index leads in a circle"),
            Self::HashOutOfRange { hash, leaf } => {
                write!(
                    f,
                    "name of hash {hash:#010x} stands in the wrong leaf, block {leaf}"
                )
            }
        }
    }
}
