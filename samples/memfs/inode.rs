// SPDX-License-Identifier: GPL-2.0

//! Inodes: what is in memory of a node while somebody uses it.
//!
//! The kernel keeps inodes in a cache, by number. [`get`] asks it for one. If the answer is a
//! [`Got::New`], nobody else has it yet, and it is ours to fill from the disk; who else looks for it
//! waits until we are done. From then on the inode is what counts: operations change it and mark it as
//! dirty, and some time later the kernel has it written ([`save`]). When nobody uses it any more, it is
//! evicted ([`evict`]); without links, that is the end of the node, too.

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SetOnce;
use vfs::attr;
use vfs::attr::Stat;
use vfs::idmap::IdMap;
use vfs::inode::Got;
use vfs::inode::NewInode;
use vfs::inode_ops::Operations;
use vfs::inode_ops::Table;
use vfs::symlink::LinkText;

use crate::dir;
use crate::file;
use crate::namei;
use crate::store::Attributes;
use crate::store::Contents;
use crate::store::Names;
use crate::store::Node;
use crate::store::Pages;
use crate::Inode;
use crate::Memfs;
use crate::SuperBlock;

/// Units of `stat(2)`'s count of blocks in a page.
const SECTORS_PER_PAGE: u64 = kernel::page::PAGE_SIZE as u64 / 512;

/// What we keep beside each inode of the kernel's.
///
/// It is dropped in a context that must not sleep. Dropping the last reference to a node only frees
/// memory, which does not.
pub(crate) struct InodeData {
    /// Set before anybody else sees the inode.
    node: SetOnce<Arc<Node>>,
}

impl InodeData {
    /// The data of an inode that was just allocated.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        Ok(Self {
            node: SetOnce::new(),
        })
    }
}

fn node(inode: &Inode) -> Result<&Node> {
    inode.data().node.as_ref().map(|node| &**node).ok_or(EIO)
}

/// The pages of a file.
pub(crate) fn pages(inode: &Inode) -> Result<&Mutex<Pages>> {
    match &node(inode)?.contents {
        Contents::File(pages) => Ok(pages),
        _ => Err(EINVAL),
    }
}

/// The names of a directory.
pub(crate) fn names(inode: &Inode) -> Result<&Mutex<Names>> {
    match &node(inode)?.contents {
        Contents::Directory(names) => Ok(names),
        _ => Err(ENOTDIR),
    }
}

/// The inode of the node `number`.
///
/// # Errors
///
/// `ESTALE` when there is none.
pub(crate) fn get(sb: &SuperBlock, number: u64) -> Result<ARef<Inode>> {
    let mut new = match sb.iget(number)? {
        Got::Cached(inode) => return Ok(inode),
        Got::New(new) => new,
    };
    // On an error `new` is dropped, which tells those who wait for it.
    let node = sb.data().find(number).ok_or(ESTALE)?;
    let attributes = node.attributes();
    new.set_mode(attributes.mode);
    new.set_owner(attributes.uid, attributes.gid);
    new.set_nlink(attributes.links);
    new.set_size(attributes.size);
    new.set_atime(attributes.atime);
    new.set_mtime(attributes.mtime);
    new.set_ctime(attributes.ctime);
    attach(&mut new, node)?;
    Ok(new.unlock())
}

/// Makes a node with `contents` and its inode, owned by the current task. It has no name yet.
///
/// Who finds that it gets none after all, clears its link count and [discards](NewInode::discard) it.
pub(crate) fn create(
    idmap: &IdMap,
    dir: &Inode,
    mode: u16,
    contents: Contents,
) -> Result<NewInode<Memfs>> {
    let sb = dir.sb();
    let mut fresh = sb.new_inode()?;
    fresh.init_owner(idmap, dir, mode);
    let now = fresh.touch_ctime();
    fresh.set_mtime(now);
    fresh.set_atime(now);
    match &contents {
        Contents::File(_) => {}
        // The name in the parent, and the directory's own ".".
        Contents::Directory(_) => fresh.set_nlink(2),
        Contents::Symlink(text) => fresh.set_size(text.len() as u64),
    }
    let mut new = fresh.insert(sb.data().new_number())?;
    let node = Node::new(new.ino(), contents, attributes(&new))?;
    attach(&mut new, node.clone())?;
    sb.data().add(node)?;
    Ok(new)
}

/// Gives a new inode, whose mode is set, its node and the operations of its type.
fn attach(new: &mut NewInode<Memfs>, node: Arc<Node>) -> Result {
    match &node.contents {
        Contents::File(pages) => {
            new.set_blocks(pages.lock().count() * SECTORS_PER_PAGE);
            new.set_operations(Table::new::<File>());
            file::set_operations(new)?;
        }
        Contents::Directory(_) => {
            new.set_operations(Table::new::<namei::Directory>());
            new.set_dir_operations::<dir::Directory>()?;
        }
        Contents::Symlink(_) => new.set_operations(Table::new::<Symlink>()),
    }
    // A new inode has no node: this is the first.
    new.data().node.populate(node);
    Ok(())
}

fn attributes(inode: &Inode) -> Attributes {
    Attributes {
        mode: inode.mode(),
        links: inode.nlink(),
        uid: inode.uid(),
        gid: inode.gid(),
        size: inode.size(),
        atime: inode.atime(),
        mtime: inode.mtime(),
        ctime: inode.ctime(),
    }
}

/// Writes the inode to the disk.
pub(crate) fn save(inode: &Inode) -> Result {
    node(inode)?.set_attributes(attributes(inode));
    Ok(())
}

/// The inode leaves memory. If it has no link left, nobody can come back to its node.
pub(crate) fn evict(inode: &Inode) {
    if inode.nlink() != 0 {
        return;
    }
    // An inode that was thrown away before it had its node has nothing on the disk.
    let Ok(node) = node(inode) else {
        return;
    };
    let store = inode.sb().data();
    if let Contents::File(pages) = &node.contents {
        store.give_back(pages.lock().truncate(0));
    }
    store.remove(node.number);
}

/// Changes attributes. The kernel calls with the inode locked.
pub(crate) fn setattr(change: &mut attr::Attributes<'_, Memfs>) -> Result {
    change.prepare()?;
    let inode = change.inode();
    if let Some(size) = change.size() {
        file::set_size(inode, u64::try_from(size).map_err(|_| EINVAL)?)?;
        change.touch_times();
    }
    change.apply();
    inode.mark_dirty();
    Ok(())
}

/// Tells attributes: what the kernel's inode knows, and what only we know.
pub(crate) fn getattr(idmap: &IdMap, inode: &Inode, wanted: u32, stat: &mut Stat) -> Result {
    stat.fill(idmap, wanted, inode);
    let born = node(inode)?.born;
    stat.set_birth_time(born.seconds, born.nanoseconds);
    Ok(())
}

/// The operations of files that are not about their contents; those are in `file.rs`.
struct File;

#[vtable]
impl Operations for File {
    type FileSystem = Memfs;

    fn setattr(change: &mut attr::Attributes<'_, Memfs>) -> Result {
        setattr(change)
    }

    fn getattr(idmap: &IdMap, inode: &Inode, wanted: u32, _flags: u32, stat: &mut Stat) -> Result {
        getattr(idmap, inode, wanted, stat)
    }
}

/// The operations of symbolic links.
struct Symlink;

#[vtable]
impl Operations for Symlink {
    type FileSystem = Memfs;

    fn get_link(inode: &Inode) -> Result<LinkText> {
        match &node(inode)?.contents {
            Contents::Symlink(text) => LinkText::new(text),
            _ => Err(EINVAL),
        }
    }

    fn setattr(change: &mut attr::Attributes<'_, Memfs>) -> Result {
        setattr(change)
    }

    fn getattr(idmap: &IdMap, inode: &Inode, wanted: u32, _flags: u32, stat: &mut Stat) -> Result {
        getattr(idmap, inode, wanted, stat)
    }
}
