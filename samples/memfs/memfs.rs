// SPDX-License-Identifier: GPL-2.0

//! A file system in memory, to be read by those who want to write one.
//!
//! memfs is built like a file system on a disk, only that its disk is a few data structures in memory
//! ([`store`]). Inodes and the page cache come and go above that disk as they do above a real one: an
//! inode is read when it is looked up, written when it is dirty and forgotten when nobody uses it; bytes
//! are read into folios and dirty folios are written back. So everything that a file system has to tell
//! the kernel is here, with nothing of a format or of I/O in between.
//!
//! Read in this order:
//!
//! | file | what it shows |
//! |---|---|
//! | `memfs.rs` | what a file system is to the kernel: [`FileSystem`], a mount from load to stop |
//! | `options.rs` | mount options |
//! | `store.rs`, `store/` | the disk |
//! | `inode.rs` | inodes: looked up, made, written, evicted; attributes |
//! | `namei.rs` | names: found, made, removed, moved |
//! | `dir.rs` | directories: listed |
//! | `file.rs` | files: read, written, mapped, written back, truncated |
//!
//! `Documentation/vfs/` walks through it with more words.

#![deny(unsafe_code)]
#![allow(unused_attributes)] // The kernel build passes `no_std` on the command line.

use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::aref::ARef;
use vfs::context::Given;
use vfs::context::Log;
use vfs::context::ParameterTable;
use vfs::fs::Backing;
use vfs::fs::FileSystem;
use vfs::fs::Purpose;
use vfs::super_block::NewSuperBlock;
use vfs::super_block::StatFs;

mod dir;
mod file;
mod inode;
mod namei;
mod options;
mod store;

/// The file system: a type without values that ties all other types together.
struct Memfs;

// The types of vfs are generic over the file system. These names spare everybody the parameter.
type SuperBlock = vfs::super_block::SuperBlock<Memfs>;
type Inode = vfs::inode::Inode<Memfs>;
type Kiocb<'a> = vfs::kiocb::Kiocb<'a, Memfs>;

/// What `statfs(2)` tells programs that want to know on which file system they are.
const MAGIC: u32 = 0x6d65_6d66;
/// The longest name in bytes.
const NAME_LENGTH: usize = 255;

vfs::module_filesystem! {
    fs: Memfs,
    name: "memfs",
    authors: ["ferrofs developers"],
    description: "A sample: a file system in memory",
    license: "GPL v2",
    alias: ["fs-memfs"],
}

#[vtable]
impl FileSystem for Memfs {
    const NAME: &'static CStr = c"memfs";
    const BACKING: Backing = Backing::Memory;
    // All operations pass on the id map that they are called with.
    const ALLOW_IDMAP: bool = true;
    const PARAMETERS: &'static ParameterTable = &options::PARAMETERS;

    type Options = options::Options;
    type SuperData = store::Store;
    type InodeData = inode::InodeData;

    fn new_options(purpose: Purpose<'_, Self>) -> Result<options::Options> {
        Ok(match purpose {
            Purpose::Mount => options::Options::default(),
            Purpose::Reconfigure(sb) => sb.data().options(),
        })
    }

    fn parse_parameter(options: &mut options::Options, given: &Given<'_>, log: &Log<'_>) -> Result {
        options.parse(given, log)
    }

    /// Another file system would read its disk here; this one makes it.
    fn load(
        sb: &mut NewSuperBlock<'_, Self>,
        options: &options::Options,
        _log: &Log<'_>,
    ) -> Result<Pin<KBox<store::Store>>> {
        sb.set_magic(MAGIC);
        sb.set_block_size(PAGE_SIZE as u32)?;
        sb.set_max_bytes(i64::MAX);
        sb.set_time_range(1, i64::MIN, i64::MAX);
        // Without a device nobody writes dirty inodes and folios back unless asked to.
        sb.set_up_writeback()?;
        let store = KBox::try_pin_init(store::Store::new(options), GFP_KERNEL)?;
        store.format(options.mode)?;
        Ok(store)
    }

    fn start(sb: &SuperBlock) -> Result<ARef<Inode>> {
        inode::get(sb, store::ROOT)
    }

    /// Nothing to let go of: no inode is held, and the store is dropped by itself.
    fn stop(_sb: &SuperBlock) {}

    fn reconfigure(
        sb: &SuperBlock,
        options: &options::Options,
        _read_only: bool,
        log: &Log<'_>,
    ) -> Result {
        sb.data()
            .set_limit(options.size)
            .map_err(|_| log.invalid(fmt!("size= is less than what is in use")))
    }

    fn new_inode_data() -> impl PinInit<inode::InodeData, Error> {
        inode::InodeData::new()
    }

    fn evict_inode(inode: &Inode) {
        inode::evict(inode);
    }

    fn write_inode(inode: &Inode, _wait: bool) -> Result {
        inode::save(inode)
    }

    fn statfs(sb: &SuperBlock) -> Result<StatFs> {
        let store = sb.data();
        let (limit, used) = store.pages();
        let free = limit.saturating_sub(used);
        Ok(StatFs {
            magic: MAGIC,
            block_size: sb.block_size(),
            blocks: limit,
            free,
            available: free,
            // There is no limit for inodes, and so no number that would mean anything.
            files: 0,
            free_files: 0,
            name_length: NAME_LENGTH as u32,
            id: sb.device_number(),
        })
    }

    fn show_options(sb: &SuperBlock, out: &SeqFile) -> Result {
        sb.data().options().show(out);
        Ok(())
    }
}
