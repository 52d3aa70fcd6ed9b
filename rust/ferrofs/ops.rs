// SPDX-License-Identifier: GPL-2.0

//! Which operations an inode has, by its type.
//!
//! The bodies are in the files named after what they do.

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use vfs::acl::Kind;
use vfs::acl::PosixAcl;
use vfs::attr::Attributes;
use vfs::attr::Stat;
use vfs::dentry::Dentry;
use vfs::dentry::Entry;
use vfs::dentry::Instantiated;
use vfs::dentry::Negative;
use vfs::dentry::Positive;
use vfs::dentry::Spliced;
use vfs::dentry::Tmpfile;
use vfs::dentry::Unhashed;
use vfs::fileattr::FileAttributes;
use vfs::idmap::IdMap;
use vfs::inode::NewInode;
use vfs::inode::S_IFDIR;
use vfs::inode::S_IFLNK;
use vfs::inode::S_IFMT;
use vfs::inode::S_IFREG;
use vfs::inode_ops::Device;
use vfs::inode_ops::Fiemap;
use vfs::inode_ops::Operations;
use vfs::inode_ops::RenameFlags;
use vfs::inode_ops::Table;
use vfs::symlink::LinkText;
use vfs::xattr::NameList;

use crate::acl;
use crate::attr;
use crate::dir;
use crate::file;
use crate::namei;
use crate::rename;
use crate::symlink;
use crate::xattr;
use crate::Ferrofs;
use crate::Inode;

/// Gives an inode, whose mode is set, the operations of its type.
pub(crate) fn set(inode: &mut NewInode<Ferrofs>) -> Result {
    match inode.mode() & S_IFMT {
        S_IFREG => {
            inode.set_operations(Table::new::<File>());
            file::set_operations(inode)?;
        }
        S_IFDIR => {
            inode.set_operations(Table::new::<Directory>());
            inode.set_dir_operations::<dir::Operations>()?;
        }
        // A fast link has its text with it and is never asked.
        S_IFLNK => inode.set_operations(Table::new::<Symlink>()),
        _ => inode.set_operations(Table::new::<Special>()),
    }
    Ok(())
}

struct File;

#[vtable]
impl Operations for File {
    type FileSystem = Ferrofs;

    fn setattr(attributes: &mut Attributes<'_, Ferrofs>) -> Result {
        attr::setattr(attributes)
    }

    fn getattr(idmap: &IdMap, inode: &Inode, request: u32, _flags: u32, stat: &mut Stat) -> Result {
        attr::getattr_file(idmap, inode, request, stat)
    }

    fn get_acl(inode: &Inode, kind: Kind) -> Result<Option<ARef<PosixAcl>>> {
        acl::get(inode, kind)
    }

    fn set_acl(idmap: &IdMap, inode: &Inode, kind: Kind, acl: Option<&PosixAcl>) -> Result {
        acl::set(idmap, inode, kind, acl)
    }

    fn list_xattr(dentry: &Dentry<Ferrofs>, inode: &Inode, names: &mut NameList<'_>) -> Result {
        xattr::list(dentry, inode, names)
    }

    fn fiemap(inode: &Inode, map: Fiemap<'_>, start: u64, length: u64) -> Result {
        file::fiemap(inode, map, start, length)
    }

    fn fileattr_get(inode: &Inode, attributes: &mut FileAttributes) -> Result {
        attr::fileattr_get(inode, attributes)
    }

    fn fileattr_set(_idmap: &IdMap, inode: &Inode, attributes: &FileAttributes) -> Result {
        attr::fileattr_set(inode, attributes)
    }
}

struct Directory;

#[vtable]
impl Operations for Directory {
    type FileSystem = Ferrofs;

    fn lookup<'d>(dir: &Inode, dentry: Unhashed<'d, Ferrofs>) -> Result<Spliced<'d, Ferrofs>> {
        namei::lookup(dir, dentry)
    }

    fn create<'d>(
        idmap: &IdMap,
        dir: &Inode,
        dentry: Negative<'d, Ferrofs>,
        mode: u16,
    ) -> Result<Instantiated<'d>> {
        namei::create(idmap, dir, dentry, mode)
    }

    fn link<'d>(
        inode: &Inode,
        dir: &Inode,
        dentry: Negative<'d, Ferrofs>,
    ) -> Result<Instantiated<'d>> {
        namei::link(inode, dir, dentry)
    }

    fn unlink(dir: &Inode, dentry: Positive<'_, Ferrofs>) -> Result {
        namei::unlink(dir, dentry)
    }

    fn symlink<'d>(
        idmap: &IdMap,
        dir: &Inode,
        dentry: Negative<'d, Ferrofs>,
        target: &CStr,
    ) -> Result<Instantiated<'d>> {
        symlink::symlink(idmap, dir, dentry, target)
    }

    fn mkdir<'d>(
        idmap: &IdMap,
        dir: &Inode,
        dentry: Negative<'d, Ferrofs>,
        mode: u16,
    ) -> Result<Instantiated<'d>> {
        namei::mkdir(idmap, dir, dentry, mode)
    }

    fn rmdir(dir: &Inode, dentry: Positive<'_, Ferrofs>) -> Result {
        namei::rmdir(dir, dentry)
    }

    fn mknod<'d>(
        idmap: &IdMap,
        dir: &Inode,
        dentry: Negative<'d, Ferrofs>,
        mode: u16,
        device: Device,
    ) -> Result<Instantiated<'d>> {
        namei::mknod(idmap, dir, dentry, mode, device)
    }

    fn rename(
        idmap: &IdMap,
        old_dir: &Inode,
        old: Positive<'_, Ferrofs>,
        new_dir: &Inode,
        new: Entry<'_, Ferrofs>,
        flags: RenameFlags,
    ) -> Result {
        rename::rename(idmap, old_dir, old, new_dir, new, flags)
    }

    fn tmpfile<'d>(
        idmap: &IdMap,
        dir: &Inode,
        file: Tmpfile<'d, Ferrofs>,
        mode: u16,
    ) -> Result<Instantiated<'d>> {
        namei::tmpfile(idmap, dir, file, mode)
    }

    fn setattr(attributes: &mut Attributes<'_, Ferrofs>) -> Result {
        attr::setattr(attributes)
    }

    fn getattr(idmap: &IdMap, inode: &Inode, request: u32, _flags: u32, stat: &mut Stat) -> Result {
        attr::getattr(idmap, inode, request, stat)
    }

    fn get_acl(inode: &Inode, kind: Kind) -> Result<Option<ARef<PosixAcl>>> {
        acl::get(inode, kind)
    }

    fn set_acl(idmap: &IdMap, inode: &Inode, kind: Kind, acl: Option<&PosixAcl>) -> Result {
        acl::set(idmap, inode, kind, acl)
    }

    fn list_xattr(dentry: &Dentry<Ferrofs>, inode: &Inode, names: &mut NameList<'_>) -> Result {
        xattr::list(dentry, inode, names)
    }

    fn fileattr_get(inode: &Inode, attributes: &mut FileAttributes) -> Result {
        attr::fileattr_get(inode, attributes)
    }

    fn fileattr_set(_idmap: &IdMap, inode: &Inode, attributes: &FileAttributes) -> Result {
        attr::fileattr_set(inode, attributes)
    }
}

struct Symlink;

#[vtable]
impl Operations for Symlink {
    type FileSystem = Ferrofs;

    fn get_link(inode: &Inode) -> Result<LinkText> {
        symlink::get_link(inode)
    }

    fn setattr(attributes: &mut Attributes<'_, Ferrofs>) -> Result {
        attr::setattr(attributes)
    }

    fn getattr(idmap: &IdMap, inode: &Inode, request: u32, _flags: u32, stat: &mut Stat) -> Result {
        attr::getattr(idmap, inode, request, stat)
    }

    fn list_xattr(dentry: &Dentry<Ferrofs>, inode: &Inode, names: &mut NameList<'_>) -> Result {
        xattr::list(dentry, inode, names)
    }
}

/// Devices, pipes and sockets.
struct Special;

#[vtable]
impl Operations for Special {
    type FileSystem = Ferrofs;

    fn setattr(attributes: &mut Attributes<'_, Ferrofs>) -> Result {
        attr::setattr(attributes)
    }

    fn getattr(idmap: &IdMap, inode: &Inode, request: u32, _flags: u32, stat: &mut Stat) -> Result {
        attr::getattr(idmap, inode, request, stat)
    }

    fn get_acl(inode: &Inode, kind: Kind) -> Result<Option<ARef<PosixAcl>>> {
        acl::get(inode, kind)
    }

    fn set_acl(idmap: &IdMap, inode: &Inode, kind: Kind, acl: Option<&PosixAcl>) -> Result {
        acl::set(idmap, inode, kind, acl)
    }

    fn list_xattr(dentry: &Dentry<Ferrofs>, inode: &Inode, names: &mut NameList<'_>) -> Result {
        xattr::list(dentry, inode, names)
    }
}
