// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with what was read from a disk.
//!
//! Each structure has its own enumeration, in its own file, with a variant for each thing that can be
//! wrong and the offending values in it. [`Corrupt`] gathers them: it is what the validating
//! constructors of this crate return and what the filesystem turns into a message and an `EUCLEAN`.
//! The block and the inode concerned are known to the caller, which adds them to the message.

use core::fmt;

use crate::checksum::BadChecksum;
use crate::dir::DirectoryError;
use crate::extent::ExtentError;
use crate::group_desc::GroupDescError;
use crate::superblock::SuperblockError;

/// What is wrong with a metadata structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Corrupt {
    /// The checksum does not match.
    Checksum(BadChecksum),
    /// A node of an extent tree.
    Extent(ExtentError),
    /// The structure is cut off: it would need more bytes than there are.
    Truncated {
        /// How many bytes the structure needs.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// The superblock.
    Superblock(SuperblockError),
    /// A group descriptor.
    GroupDesc(GroupDescError),
    /// A directory.
    Directory(DirectoryError),
}

impl From<BadChecksum> for Corrupt {
    fn from(bad: BadChecksum) -> Self {
        Self::Checksum(bad)
    }
}

impl From<SuperblockError> for Corrupt {
    fn from(error: SuperblockError) -> Self {
        Self::Superblock(error)
    }
}

impl From<GroupDescError> for Corrupt {
    fn from(error: GroupDescError) -> Self {
        Self::GroupDesc(error)
    }
}

impl From<ExtentError> for Corrupt {
    fn from(bad: ExtentError) -> Self {
        Self::Extent(bad)
    }
}

impl From<DirectoryError> for Corrupt {
    fn from(error: DirectoryError) -> Self {
        Self::Directory(error)
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum(bad) => fmt::Display::fmt(bad, f),
            Self::Superblock(error) => fmt::Display::fmt(error, f),
            Self::GroupDesc(error) => fmt::Display::fmt(error, f),
            Self::Extent(bad) => fmt::Display::fmt(bad, f),
            Self::Directory(error) => fmt::Display::fmt(error, f),
            Self::Truncated { needed, found } => {
                write!(f, "{found} bytes are too few, {needed} are needed")
            }
        }
    }
}

impl core::error::Error for Corrupt {}
