// SPDX-License-Identifier: GPL-2.0

//! Extent trees: where the blocks of a file are.
//!
//! An [`Extent`] says that a run of blocks of a file lies in a run of blocks of the device. The extents
//! of a file are the leaves of a tree, in the order of the file's blocks. Its root is in the inode, in
//! the 60 bytes of `i_block`; the other nodes are blocks. Each node has the same shape:
//!
//! ```text
//! root (i_block, 60 bytes)                 node block
//! +--------+-----+-----+-----+-----+       +--------+-----+-----+ ... +-----+------+--------+
//! | header | e 0 | e 1 | e 2 | e 3 |       | header | e 0 | e 1 |     | e n |      | crc32c |
//! +--------+-----+-----+-----+-----+       +--------+-----+-----+ ... +-----+------+--------+
//!     12      12    12    12    12             12     12    12          12             4
//! ```
//!
//! The entries of a leaf are extents, those of an index node name the nodes below and the first logical
//! block of each. For example, a file of which the blocks 0 to 4 are the device's blocks 0x8200 to
//! 0x8204, and that has three blocks from 7 on preallocated but never written at 0x9000:
//!
//! ```text
//! 0a f3  02 00  04 00  00 00  00 00 00 00   magic 0xf30a, 2 entries of at most 4, depth 0, generation 0
//! 00 00 00 00  05 00  00 00  00 82 00 00    from block 0, 5 blocks, at 0x0000_00008200
//! 07 00 00 00  03 80  00 00  00 90 00 00    from block 7, 3 blocks (0x8003 - 0x8000: unwritten), at 0x9000
//! ```
//!
//! # Invariants of a tree
//!
//! - All leaves are at the same depth, which is at most [`MAX_DEPTH`].
//! - Extents are sorted, do not overlap and end at [`LogicalBlock::COUNT`] or before.
//! - The key of an index entry *is* the first key of the node that it names. So a hole in front of a
//!   node belongs to its left neighbour, and only what comes before everything lowers a key.
//! - No index node is empty. An empty leaf that is not the root is tolerated, never made.
//!
//! # How it is used
//!
//! The algorithms reach node blocks through [`NodeReader`] and [`NodeStore`], which the filesystem
//! implements on its journal and the tests on a map. Reading is by the functions [`find`] and [`walk`]
//! on a root, changing through a [`Tree`]. All of them need the caller to keep others from changing
//! the tree at the same time.
//!
//! See `Documentation/filesystems/ext4/ifork.rst` in the kernel source for the format.

mod convert;
mod error;
mod find;
mod insert;
mod node;
mod remove;
mod splice;
mod store;
mod tidy;
mod tree;

#[cfg(test)]
mod tests;

use crate::LogicalBlock;
use crate::PhysicalBlock;

pub use error::ExtentError;
pub use find::find;
pub use find::next_extent;
pub use find::walk;
pub use find::Mapping;
pub use node::depth;
pub use node::empty_root;
pub use node::is_empty;
pub use node::verify_root;
pub use node::Expected;
pub use node::Header;
pub use node::IndexEntry;
pub use node::LeafEntry;
pub use store::Footprint;
pub use store::NodeReader;
pub use store::NodeStore;
pub use tree::Progress;
pub use tree::Tree;

/// How many bytes of the inode hold the root (`i_block`).
pub const ROOT_SIZE: usize = 60;

/// The largest depth: how many nodes are below the root on the way to an extent.
///
/// Five levels suffice for every file, since even nodes of 1 KiB have 84 entries.
pub const MAX_DEPTH: u16 = 5;

/// Whether the blocks of an extent have ever been written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// They hold data.
    Written,
    /// They are allocated, but read as zeroes whatever they hold.
    Unwritten,
}

impl State {
    /// The largest number of blocks in an extent of this state.
    ///
    /// The length field has 16 bits, of which the highest one marks unwritten extents; the value that
    /// would be an unwritten extent of no blocks is a written one of 32768.
    pub const fn max_len(self) -> u16 {
        match self {
            Self::Written => 1 << 15,
            Self::Unwritten => (1 << 15) - 1,
        }
    }
}

/// A run of blocks of a file that is a run of blocks of the device as well.
///
/// # Invariants
///
/// - The length is not 0 and at most [`State::max_len`].
/// - The logical end is at most [`LogicalBlock::COUNT`].
/// - The physical end is at most 2^48.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Extent {
    logical: LogicalBlock,
    len: u16,
    physical: PhysicalBlock,
    state: State,
}

impl Extent {
    /// Physical block numbers have 48 bits on disk.
    const PHYSICAL_END: u64 = 1 << 48;

    /// Makes an extent; `None` when the invariants do not hold.
    pub fn new(
        logical: LogicalBlock,
        len: u16,
        physical: PhysicalBlock,
        state: State,
    ) -> Option<Self> {
        let fits = len != 0
            && len <= state.max_len()
            && logical.get() <= LogicalBlock::COUNT - u32::from(len)
            && physical.get() <= Self::PHYSICAL_END - u64::from(len);
        // INVARIANT: All of them were just checked.
        fits.then_some(Self {
            logical,
            len,
            physical,
            state,
        })
    }

    /// The first block of the file that it maps.
    pub const fn logical(&self) -> LogicalBlock {
        self.logical
    }

    /// The number of blocks. Never 0.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> u16 {
        self.len
    }

    /// The block of the device where it begins.
    pub const fn physical(&self) -> PhysicalBlock {
        self.physical
    }

    /// Whether the blocks have been written.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The first block of the file after it.
    pub const fn end(&self) -> LogicalBlock {
        // The sum does not overflow by the invariants.
        LogicalBlock::new(self.logical.get() + self.len as u32)
    }

    /// The first block of the device after it.
    pub const fn physical_end(&self) -> PhysicalBlock {
        // The sum does not overflow by the invariants.
        PhysicalBlock::new(self.physical.get() + self.len as u64)
    }

    /// The part of it that lies in `start..end`; `None` when there is no such part.
    pub fn part(&self, start: LogicalBlock, end: LogicalBlock) -> Option<Self> {
        let start = start.max(self.logical);
        let end = end.min(self.end());
        let skip = start.distance_from(self.logical)?;
        let len = end.distance_from(start).filter(|&len| len != 0)?;
        // INVARIANT: `len` is not 0, and all ends are inside of those of `self`. It fits 16 bits since
        // it is at most `self.len`.
        Some(Self {
            logical: start,
            len: len as u16,
            physical: PhysicalBlock::new(self.physical.get() + u64::from(skip)),
            state: self.state,
        })
    }

    /// The same blocks in another state; `None` when they are too many for that state.
    pub fn with_state(self, state: State) -> Option<Self> {
        // INVARIANT: Only the limit of the length depends on the state.
        (self.len <= state.max_len()).then_some(Self { state, ..self })
    }

    /// Joins `next` to its end when it is the continuation in the file and on the device, in the same
    /// state, and both together are not too long.
    pub fn joined(&self, next: &Self) -> Option<Self> {
        let len = self.len.checked_add(next.len)?;
        let follows = self.end() == next.logical
            && self.physical_end() == next.physical
            && self.state == next.state
            && len <= self.state.max_len();
        // INVARIANT: The length was just checked, and the ends are those of `next`.
        follows.then_some(Self { len, ..*self })
    }
}
