// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions for writing file systems.
//!
//! This crate knows nothing of any on-disk format. All unsafe code of the project lives here and in
//! the bindings; what it offers cannot be used from safe code to corrupt memory.

#![allow(unused_attributes)] // The kernel build passes `no_std` on the command line.

pub mod block_device;
pub mod buffer;
pub mod context;
pub mod fs;
pub mod inode;
pub mod journal;
pub mod percpu;
pub mod super_block;
pub mod time;
pub mod transaction;

/// What messages of this crate begin with.
const __LOG_PREFIX: &[u8] = b"ferrofs\0";
