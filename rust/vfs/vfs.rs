// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions for writing file systems.
//!
//! This crate knows nothing of any on-disk format. All unsafe code of the project lives here and in
//! the bindings; what it offers cannot be used from safe code to corrupt memory.

#![allow(unused_attributes)] // The kernel build passes `no_std` on the command line.

/// A function for a table of operations, if the file system has the method.
macro_rules! optional {
    ($has:expr, $function:expr) => {
        if $has {
            Some($function)
        } else {
            None
        }
    };
}

pub mod acl;
pub mod address_space;
pub mod attr;
pub mod bio;
mod bio_list;
pub mod block_device;
mod block_state;
pub mod buffer;
pub mod context;
pub mod crc;
pub mod credentials;
pub mod dentry;
pub mod dir;
pub mod file;
pub mod fileattr;
pub mod folio;
mod folio_io;
pub mod fs;
pub mod idmap;
pub mod inode;
mod inode_cache;
mod inode_glue;
pub mod inode_ops;
pub mod ioctl;
pub mod iomap;
pub mod journal;
pub mod kiocb;
pub mod mapping;
pub mod memory;
mod new_inode;
mod parameter;
pub mod percpu;
pub mod random;
pub mod ratelimit;
pub mod readahead;
mod recovery;
pub mod rwsem;
pub mod super_block;
mod super_glue;
pub mod symlink;
pub mod time;
pub mod transaction;
pub mod vm;
pub mod workqueue;
mod write_bio;
pub mod writeback;
pub mod xattr;

/// What messages of this crate begin with, whatever file system it is linked to. Those that concern a
/// mount name it.
const __LOG_PREFIX: &[u8] = b"vfs\0";
