// SPDX-License-Identifier: GPL-2.0

//! Names: found, made, removed, moved.
//!
//! The kernel has looked at permissions, at what the names stand for and at mount points before it calls,
//! and it holds the locks of the directories: what an operation finds does not change under it. The state
//! of a name is in the type of its dentry. An operation that makes a name gets a [`Negative`] and must
//! return an [`Instantiated`], which there is no other way to get than by giving the dentry its inode.

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use vfs::attr::Attributes;
use vfs::attr::Stat;
use vfs::dentry::Entry;
use vfs::dentry::Instantiated;
use vfs::dentry::Negative;
use vfs::dentry::Positive;
use vfs::dentry::Spliced;
use vfs::dentry::Unhashed;
use vfs::dir::FileType;
use vfs::idmap::IdMap;
use vfs::inode::S_IFDIR;
use vfs::inode::S_IFLNK;
use vfs::inode::S_IFREG;
use vfs::inode_ops::Operations;
use vfs::inode_ops::RenameFlags;

use crate::inode;
use crate::inode::names;
use crate::store::Contents;
use crate::Inode;
use crate::Memfs;
use crate::NAME_LENGTH;

/// The operations of directories.
pub(crate) struct Directory;

#[vtable]
impl Operations for Directory {
    type FileSystem = Memfs;

    /// That there is no such name is an answer, too, which the kernel remembers.
    fn lookup<'d>(dir: &Inode, dentry: Unhashed<'d, Memfs>) -> Result<Spliced<'d, Memfs>> {
        if dentry.name().len() > NAME_LENGTH {
            return Err(ENAMETOOLONG);
        }
        let number = names(dir)?
            .lock()
            .find(dentry.name())
            .map(|entry| entry.number);
        let inode = match number {
            Some(number) => Some(inode::get(dir.sb(), number)?),
            None => None,
        };
        dentry.splice_alias(inode)
    }

    fn create<'d>(
        idmap: &IdMap,
        dir: &Inode,
        dentry: Negative<'d, Memfs>,
        mode: u16,
    ) -> Result<Instantiated<'d>> {
        make(idmap, dir, dentry, S_IFREG | mode, Contents::file()?)
    }

    fn mkdir<'d>(
        idmap: &IdMap,
        dir: &Inode,
        dentry: Negative<'d, Memfs>,
        mode: u16,
    ) -> Result<Instantiated<'d>> {
        let contents = Contents::directory(dir.ino())?;
        make(idmap, dir, dentry, S_IFDIR | mode, contents)
    }

    fn symlink<'d>(
        idmap: &IdMap,
        dir: &Inode,
        dentry: Negative<'d, Memfs>,
        target: &CStr,
    ) -> Result<Instantiated<'d>> {
        let contents = Contents::symlink(target.to_bytes())?;
        make(idmap, dir, dentry, S_IFLNK | 0o777, contents)
    }

    fn link<'d>(
        inode: &Inode,
        dir: &Inode,
        dentry: Negative<'d, Memfs>,
    ) -> Result<Instantiated<'d>> {
        add(dir, dentry.name(), inode)?;
        inode.inc_nlink();
        inode.touch_ctime();
        inode.mark_dirty();
        dentry.instantiate(ARef::from(inode))
    }

    /// The file itself goes when nobody uses it any more: see [`inode::evict`].
    fn unlink(dir: &Inode, dentry: Positive<'_, Memfs>) -> Result {
        remove(dir, dentry.name())?;
        unlinked(dir, dentry.inode());
        Ok(())
    }

    fn rmdir(dir: &Inode, dentry: Positive<'_, Memfs>) -> Result {
        if !names(dentry.inode())?.lock().is_empty() {
            return Err(ENOTEMPTY);
        }
        remove(dir, dentry.name())?;
        unlinked(dir, dentry.inode());
        Ok(())
    }

    fn rename(
        _idmap: &IdMap,
        old_dir: &Inode,
        old: Positive<'_, Memfs>,
        new_dir: &Inode,
        new: Entry<'_, Memfs>,
        flags: RenameFlags,
    ) -> Result {
        // The kernel itself sees to NOREPLACE.
        if flags.has_other_than(&[RenameFlags::NOREPLACE]) {
            return Err(EINVAL);
        }
        let moved = old.inode();
        // What may fail comes first, so that nothing need be undone.
        match new.inode() {
            Some(target) => {
                if target.is_dir() && !names(target)?.lock().is_empty() {
                    return Err(ENOTEMPTY);
                }
                let file_type = FileType::from_mode(moved.mode());
                names(new_dir)?
                    .lock()
                    .replace(new.name(), moved.ino(), file_type)?;
                touch(new_dir);
                unlinked(new_dir, target);
            }
            None => add(new_dir, new.name(), moved)?,
        }
        remove(old_dir, old.name())?;
        if moved.is_dir() {
            // The ".." of a directory is a link to its parent.
            old_dir.drop_nlink();
            new_dir.inc_nlink();
            names(moved)?.lock().parent = new_dir.ino();
        }
        moved.touch_ctime();
        moved.mark_dirty();
        Ok(())
    }

    fn setattr(change: &mut Attributes<'_, Memfs>) -> Result {
        inode::setattr(change)
    }

    fn getattr(idmap: &IdMap, inode: &Inode, wanted: u32, _flags: u32, stat: &mut Stat) -> Result {
        inode::getattr(idmap, inode, wanted, stat)
    }
}

/// Makes a node and its name.
fn make<'d>(
    idmap: &IdMap,
    dir: &Inode,
    dentry: Negative<'d, Memfs>,
    mode: u16,
    contents: Contents,
) -> Result<Instantiated<'d>> {
    let new = inode::create(idmap, dir, mode, contents)?;
    if let Err(error) = add(dir, dentry.name(), &new) {
        // Without links, its eviction removes it from the disk.
        new.clear_nlink();
        new.discard();
        return Err(error);
    }
    if new.is_dir() {
        dir.inc_nlink();
    }
    dentry.instantiate_new(new)
}

/// Adds a name for `inode`.
fn add(dir: &Inode, name: &[u8], inode: &Inode) -> Result {
    let file_type = FileType::from_mode(inode.mode());
    names(dir)?.lock().add(name, inode.ino(), file_type)?;
    touch(dir);
    Ok(())
}

/// Removes a name.
fn remove(dir: &Inode, name: &[u8]) -> Result {
    names(dir)?.lock().remove(name)?;
    touch(dir);
    Ok(())
}

/// `inode` lost a name in `dir`; a directory, the only one that it had.
fn unlinked(dir: &Inode, inode: &Inode) {
    if inode.is_dir() {
        dir.drop_nlink();
        inode.clear_nlink();
    } else {
        inode.drop_nlink();
    }
    inode.touch_ctime();
    inode.mark_dirty();
}

/// The contents of a directory changed.
fn touch(dir: &Inode) {
    dir.touch_mtime_ctime();
    dir.mark_dirty();
}
