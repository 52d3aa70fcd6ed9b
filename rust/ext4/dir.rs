// SPDX-License-Identifier: GPL-2.0

//! Directories: names and the inodes that they stand for.
//!
//! A directory is a file whose blocks hold *entries*, one after the other, without a gap. The last entry
//! of a block reaches to its end, so what is free belongs to the entry before it:
//!
//! ```text
//! offset  0    4        6         7          8
//!         inode rec_len  name_len  file_type  name ...    (to the next multiple of 4)
//!         0c 00 00 00 | 10 00 | 05 | 01 | 68 65 6c 6c 6f 00 00 00   "hello", inode 12, a file, 16 bytes
//! ```
//!
//! An entry whose inode is 0 is unused. With `metadata_csum` the last 12 bytes of the block are an unused
//! entry of the type 0xde, where the name would be stands the checksum of what is before it.
//!
//! A directory of one block is just that: *linear*. When it overflows and the filesystem has `dir_index`,
//! it is turned into a tree (see [`crate::htree`]): its blocks of entries become the leaves and an index
//! finds the leaf by the hash of the name.
//!
//! [`Directory`] has the operations, on whatever implements [`DirStore`]. Blocks are checked in two steps.
//! [`DirFormat::verify_block`] does the expensive part, checksum and every entry, and is to be called once,
//! when a block has been read from disk. The operations then still do not trust the block: whatever it
//! says, they neither panic nor read outside of it nor loop for ever, but report [`Corrupt`].
//!
//! A directory whose index is damaged is reported as corrupt and not searched block by block, as some
//! implementations do: what such a search finds may be what an attacker wants to be found, and whoever
//! wants the entries back runs `e2fsck`, which rebuilds the index.
//!
//! Format: `Documentation/filesystems/ext4/directory.rst`.
//!
//! [`Corrupt`]: crate::Corrupt

mod directory;
mod entry;
mod error;
mod format;
mod iterate;
pub(crate) mod leaf;
mod position;
mod store;

pub(crate) use directory::corrupt;
pub use directory::Directory;
pub use directory::Found;
pub use directory::Insertion;
pub use entry::Entries;
pub use entry::Entry;
pub use entry::FileType;
pub use entry::Name;
pub use error::DirectoryError;
pub use format::BlockKind;
pub use format::Credits;
pub use format::DirFeatures;
pub use format::DirFormat;
pub use position::Cursor;
pub use position::HashedEntry;
pub use position::PositionForm;
pub use position::Scratch;
pub use store::DirLister;
pub use store::DirReader;
pub use store::DirStore;

#[cfg(test)]
mod tests;
