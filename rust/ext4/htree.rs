// SPDX-License-Identifier: GPL-2.0

//! Hash trees: the index of a large directory.
//!
//! The index is a B-tree over the hashes of the names ([`crate::hash`]), which only ever grows. Logical
//! block 0 is its root; the leaves are ordinary blocks of entries, each with the names of a range of hashes,
//! in no particular order. To software that knows no index, root and nodes look like blocks without
//! entries: `..` in the root, and an unused entry in a node, reach to the end of the block.
//!
//! ```text
//! root  0x00 entry "."             node  0x00 unused entry, length of the block
//!       0x0c entry "..", to the end      0x08 limit, count, block    as in the root
//!       0x18 0, hash version,            0x10 hash, block
//!            8, levels - 1, flags             ...
//!       0x20 limit, count, block               with metadata_csum, after `limit` entries:
//!       0x28 hash, block                      reserved, checksum
//!       ...
//! ```
//!
//! An entry of the index has the smallest hash of what it points to; the first one has none, limit and
//! count stand in its place. Major hashes are even. When a leaf is split between two names of equal hash,
//! the hash of the second leaf in the index gets its lowest bit set: the leaf *continues* the one before,
//! and who looks for that hash must look on. All leaves that continue each other are called a chain here.
//!
//! An index has at most two levels, three with the feature `large_dir`.

mod insert;
pub(crate) mod node;
mod path;

pub(crate) use path::Path;
