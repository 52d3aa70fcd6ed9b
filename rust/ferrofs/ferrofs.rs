// SPDX-License-Identifier: GPL-2.0

//! The ext4 file system: glue between the format (`ext4`) and the kernel (`vfs`).

#![deny(unsafe_code)]
#![allow(unused_attributes)] // The kernel build passes `no_std` on the command line.

use kernel::error::Error;
use kernel::error::Result;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::aref::ARef;
use vfs::context::Given;
use vfs::context::Log;
use vfs::context::ParameterTable;
use vfs::fs::Backing;
use vfs::fs::FileSystem;
use vfs::fs::Purpose;
use vfs::inode::DirtyFlags;
use vfs::super_block::NewSuperBlock;
use vfs::super_block::StatFs;

mod acl;
mod alloc;
mod announce;
mod attr;
mod checksum;
mod completion;
mod copying;
mod credits;
mod dir;
mod dir_blocks;
mod direct;
mod error;
mod extent_status;
mod extents;
mod file;
mod flush;
mod fsync;
mod group;
mod history;
mod inode;
mod ioctl;
mod map;
mod mmap;
mod mount;
mod namei;
mod ops;
mod options;
mod orphan;
mod read;
mod rename;
mod resize;
mod state;
mod super_ops;
mod symlink;
mod truncate;
mod volume;
mod write;
mod writeback;
mod xattr;

/// The file system.
pub(crate) struct Ferrofs;

pub(crate) type SuperBlock = vfs::super_block::SuperBlock<Ferrofs>;
pub(crate) type Inode = vfs::inode::Inode<Ferrofs>;
pub(crate) type InodeRef = ARef<Inode>;
pub(crate) type Kiocb<'a> = vfs::kiocb::Kiocb<'a, Ferrofs>;

vfs::module_filesystem! {
    fs: Ferrofs,
    name: "ferrofs",
    authors: ["ferrofs developers"],
    description: "The ext4 file system, in Rust",
    license: "GPL v2",
    alias: ["fs-ferrofs"],
}

#[vtable]
impl FileSystem for Ferrofs {
    const NAME: &'static CStr = c"ferrofs";
    const BACKING: Backing = Backing::BlockDevice;
    const ALLOW_IDMAP: bool = true;
    const MULTIGRAIN_TIMES: bool = true;
    const PARAMETERS: &'static ParameterTable = &options::PARAMETERS;

    type Options = options::Options;
    type SuperData = volume::Volume;
    type InodeData = inode::InodeData;

    fn new_options(_purpose: Purpose<'_, Self>) -> Result<options::Options> {
        Ok(options::Options::new())
    }

    fn parse_parameter(options: &mut options::Options, given: &Given<'_>, log: &Log<'_>) -> Result {
        options.parse(given, log)
    }

    fn load(
        sb: &mut NewSuperBlock<'_, Self>,
        options: &options::Options,
        log: &Log<'_>,
    ) -> Result<Pin<KBox<volume::Volume>>> {
        mount::load(sb, options, log)
    }

    fn start(sb: &SuperBlock) -> Result<InodeRef> {
        mount::start(sb).inspect(|_| announce::mounted(sb))
    }

    fn stop(sb: &SuperBlock) {
        mount::stop(sb);
        announce::unmounted(sb);
    }

    fn reconfigure(
        sb: &SuperBlock,
        options: &options::Options,
        read_only: bool,
        log: &Log<'_>,
    ) -> Result {
        super_ops::reconfigure(sb, options, read_only, log)
    }

    fn new_inode_data() -> impl PinInit<inode::InodeData, Error> {
        inode::InodeData::new()
    }

    fn evict_inode(inode: &Inode) {
        inode::evict(inode);
    }

    fn dirty_inode(inode: &Inode, flags: DirtyFlags) {
        inode::dirty(inode, flags);
    }

    fn write_inode(inode: &Inode, wait: bool) -> Result {
        inode::write(inode, wait)
    }

    fn sync_fs(sb: &SuperBlock, wait: bool) -> Result {
        super_ops::sync(sb, wait)
    }

    fn freeze_fs(sb: &SuperBlock) -> Result {
        super_ops::freeze(sb)
    }

    fn unfreeze_fs(sb: &SuperBlock) -> Result {
        super_ops::unfreeze(sb)
    }

    fn statfs(sb: &SuperBlock) -> Result<StatFs> {
        super_ops::statfs(sb)
    }

    fn show_options(sb: &SuperBlock, out: &SeqFile) -> Result {
        super_ops::show_options(sb, out)
    }

    fn shutdown(sb: &SuperBlock) {
        super_ops::shutdown(sb);
    }
}
