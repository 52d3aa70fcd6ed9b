// SPDX-License-Identifier: GPL-2.0

//! The ext4 on-disk format, in pure Rust.
//!
//! Structures, checksums and the algorithms on them. Nothing here performs I/O, knows of the kernel
//! or allocates: the same files are compiled into the kernel module and, by cargo, on the host, where
//! they are tested.

#![no_std]
// The kernel build passes `no_std` on the command line as well.
#![allow(clippy::duplicated_attributes, unused_attributes)]
#![forbid(unsafe_code)]

#[cfg(test)]
#[macro_use] // The macros of proptest use `format!` as if it were there.
extern crate std;

pub mod acl;
pub mod bitmap;
pub mod checksum;
pub mod dir;
pub mod error;
pub mod extent;
pub mod features;
pub mod free_space;
pub mod geometry;
pub mod group_desc;
pub mod hash;
pub mod htree;
pub mod inode;
pub mod inode_policy;
pub mod orphan_file;
mod sort;
pub mod superblock;
pub mod system_zone;
pub mod types;
pub mod xattr;

#[cfg(test)]
mod testing;

pub use checksum::Checksummer;
pub use error::Corrupt;
pub use geometry::Geometry;
pub use types::BlockCount;
pub use types::BlockSize;
pub use types::Cluster;
pub use types::Group;
pub use types::InodeNumber;
pub use types::LogicalBlock;
pub use types::PhysicalBlock;
