// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: names with values that belong to an inode.
//!
//! They stand in one or both of two places: in the inode, in what its fields leave free of its room in the
//! inode table, and in a block, which inodes with the same attributes can share. Both have the same table.
//! Entries grow up from its start, values grow down from its end:
//!
//! ```text
//! in an inode                      in a block
//! 0x00 magic 0xea020000            0x00 magic, reference count, blocks (1), hash, checksum, 12 bytes of 0
//! 0x04 entries                     0x20 entries
//!      00 00 00 00                      00 00 00 00
//!      free                             free
//!      values, to the end               values, to the end
//!
//! entry  0        1          2          4           8           12
//!        name_len name_index value_offs value_inode value_size  hash   name ... (to a multiple of 4)
//! ```
//!
//! The offset of a value counts from the first entry in an inode, and from the start of the block in a
//! block. What most names begin with is not stored, a number stands for it ([`NameIndex`]). In a block the
//! entries are sorted, and each has a hash of its name and value; in an inode neither is so.
//!
//! With the feature `ea_inode` a value can have an inode of its own. Such values can be listed and their
//! inode is told; this module does not make them.
//!
//! Format: `Documentation/filesystems/ext4/attributes.rst`.

mod block;
mod edit;
mod error;
mod name;
mod table;

pub use block::BlockHeader;
pub use edit::Edit;
pub use edit::Removed;
pub use edit::Set;
pub use error::XattrError;
pub use name::NameIndex;
pub use name::XattrName;
pub use table::Entries;
pub use table::Entry;
pub use table::Table;
pub use table::Value;
pub use table::MAGIC;

#[cfg(test)]
mod tests;
