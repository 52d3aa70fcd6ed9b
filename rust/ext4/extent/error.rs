// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with a tree.

use core::fmt;

use super::MAX_DEPTH;
use crate::PhysicalBlock;

/// What is wrong with a node of an extent tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtentError {
    /// There are too few bytes for a header.
    Size,
    /// The magic number is another one.
    Magic(u16),
    /// The node claims to have room for a number of entries that it cannot have room for.
    Max {
        /// What it claims.
        found: u16,
        /// How many it has room for.
        fit: usize,
    },
    /// There are more entries than there is room for, or none where there must be some.
    Entries {
        /// How many there are.
        found: u16,
        /// How many there may be.
        max: u16,
    },
    /// The depth is not the one that follows from the node's place in the tree.
    Depth {
        /// The depth that it has.
        found: u16,
        /// The depth that it should have, or for a root the largest one.
        expected: u16,
    },
    /// The first key is not the one that the node above has for this node.
    FirstKey {
        /// The first key of the node.
        found: u32,
        /// The key in the node above.
        expected: u32,
    },
    /// An entry is not after the one before it, or reaches into the node to the right.
    Order {
        /// The logical block of the entry.
        logical: u32,
    },
    /// An extent has no blocks, or reaches beyond the largest logical or physical block.
    Extent {
        /// Its logical block.
        logical: u32,
        /// Its length.
        len: u16,
    },
    /// An extent or a node lies where the file cannot have blocks.
    Place {
        /// The logical block of the entry.
        logical: u32,
        /// The physical block.
        physical: u64,
        /// How many blocks from there on.
        len: u16,
    },
    /// The same block is used twice in the tree.
    Shared(PhysicalBlock),
    /// A block to be mapped is already mapped.
    Mapped(u32),
    /// The tree would become deeper than the format allows.
    TooDeep,
}

impl fmt::Display for ExtentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size => write!(f, "extent node is too small for a header"),
            Self::Magic(found) => write!(f, "extent node has magic number {found:#x}"),
            Self::Max { found, fit } => write!(
                f,
                "extent node claims room for {found} entries, it has room for {fit}"
            ),
            Self::Entries { found, max } => {
                write!(f, "extent node has {found} entries of at most {max}")
            }
            Self::Depth { found, expected } => {
                write!(f, "extent node has depth {found}, not {expected}")
            }
            Self::FirstKey { found, expected } => write!(
                f,
                "extent node begins at logical block {found}, the index says {expected}"
            ),
            Self::Order { logical } => {
                write!(
                    f,
                    "extent entry for logical block {logical} is out of order"
                )
            }
            Self::Extent { logical, len } => {
                write!(f, "extent at logical block {logical} has bad length {len}")
            }
            Self::Place {
                logical,
                physical,
                len,
            } => write!(
                f,
                "extent entry for logical block {logical} points to bad blocks {physical}+{len}"
            ),
            Self::Shared(block) => write!(f, "extent tree uses block {block} twice"),
            Self::Mapped(logical) => write!(f, "logical block {logical} is already mapped"),
            Self::TooDeep => write!(f, "extent tree is deeper than {MAX_DEPTH}"),
        }
    }
}

impl core::error::Error for ExtentError {}
