// SPDX-License-Identifier: GPL-2.0

//! The ext4 on-disk format, in pure Rust.
//!
//! Structures, checksums and the algorithms on them. Nothing here performs I/O, knows of the kernel
//! or allocates: the same files are compiled into the kernel module and, by cargo, on the host, where
//! they are tested.

#![no_std]
#![allow(unused_attributes)] // The kernel build passes `no_std` on the command line as well.
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod checksum;
pub mod error;
pub mod types;

pub use checksum::Checksummer;
pub use error::Corrupt;
pub use types::BlockCount;
pub use types::BlockSize;
pub use types::Cluster;
pub use types::Group;
pub use types::InodeNumber;
pub use types::LogicalBlock;
pub use types::PhysicalBlock;
