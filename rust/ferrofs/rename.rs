// SPDX-License-Identifier: GPL-2.0

//! Renaming: moving a name, in place of another one or in exchange with it.
//!
//! The kernel holds the locks of both directories, of the inodes that move if they are no directories or
//! change their parent, and of the one that is replaced. It has made sure that no directory moves into
//! itself. After success it moves the dentries.

use ext4::dir::Found;
use ext4::dir::Name;
use ext4::inode::InodeFlags;
use ext4::LogicalBlock;
use kernel::prelude::*;
use vfs::buffer::Buffer;
use vfs::dentry::Entry;
use vfs::dentry::Positive;
use vfs::idmap::IdMap;
use vfs::inode::S_IFCHR;
use vfs::inode_ops::RenameFlags;
use vfs::transaction::Transaction;

use crate::acl;
use crate::credits;
use crate::dir_blocks;
use crate::inode;
use crate::namei;
use crate::namei::Draft;
use crate::options::Flags;
use crate::writeback;
use crate::Ferrofs;
use crate::Inode;

/// A whiteout is a character device with the number 0, and mode 0.
const WHITEOUT_MODE: u16 = S_IFCHR;

/// A name in a directory.
#[derive(Clone, Copy)]
struct Place<'a> {
    dir: &'a Inode,
    name: Name<'a>,
}

impl Place<'_> {
    /// Lets the name, which was found as `found` before, stand for `inode`.
    fn set(&self, txn: &Transaction<'_>, found: Found, inode: &Inode) -> Result {
        dir_blocks::open_mut(txn, self.dir)
            .set_inode_found(
                self.name,
                found,
                inode::number(inode),
                namei::file_type(inode),
            )
            .map_err(|error| error.report(self.dir))?
            .ok_or(ENOENT)?;
        namei::touch(txn, self.dir)
    }

    /// Whether both are in the same directory.
    fn is_beside(&self, other: &Self) -> bool {
        core::ptr::eq(self.dir, other.dir)
    }

    /// Whether `inode` may come here: a directory whose files inherit its project takes no others.
    fn check_project(&self, inode: &Inode) -> Result {
        let dir = self.dir.data();
        if dir.flags().contains(InodeFlags::PROJECT_INHERIT)
            && dir.project_id() != inode.data().project_id()
        {
            return Err(EXDEV);
        }
        Ok(())
    }
}

pub(crate) fn rename(
    idmap: &IdMap,
    old_dir: &Inode,
    old: Positive<'_, Ferrofs>,
    new_dir: &Inode,
    new: Entry<'_, Ferrofs>,
    flags: RenameFlags,
) -> Result {
    let known = [
        RenameFlags::NOREPLACE,
        RenameFlags::EXCHANGE,
        RenameFlags::WHITEOUT,
    ];
    if flags.has_other_than(&known) {
        return Err(EINVAL);
    }
    let from = Place {
        dir: old_dir,
        name: namei::checked_name(old.name())?,
    };
    let to = Place {
        dir: new_dir,
        name: namei::checked_name(new.name())?,
    };
    let inode = old.inode();
    match new.inode() {
        Some(other) if flags.contains(RenameFlags::EXCHANGE) => exchange(from, inode, to, other),
        target => {
            let whiteout = flags.contains(RenameFlags::WHITEOUT).then_some(idmap);
            replace(from, inode, to, target, whiteout)
        }
    }
}

/// Starts a transaction that changes two directories.
fn start<'a>(
    from: &Place<'a>,
    to: &Place<'a>,
    credits: vfs::transaction::Credits,
) -> Result<Transaction<'a>> {
    let txn = namei::start(from.dir, credits)?;
    if to.dir.is_dirsync() {
        txn.set_sync();
    }
    Ok(txn)
}

/// Makes sure that `..` of the directory `inode` can be changed, before anything is.
fn check_parent(inode: &Inode, parent: &Inode) -> Result {
    namei::find_expected(inode, Name::DOT_DOT, parent)?;
    Ok(())
}

/// The block in which `..` of the directory `inode` stands: see [`dir_blocks::hold`].
fn hold_parent(inode: &Inode) -> Result<Buffer> {
    dir_blocks::hold(inode, LogicalBlock::ZERO)
}

/// Lets `..` of the directory `inode` stand for `parent`.
fn set_parent(txn: &Transaction<'_>, inode: &Inode, parent: &Inode) -> Result {
    dir_blocks::open_mut(txn, inode)
        .set_parent(inode::number(parent))
        .map_err(|error| error.report(inode))
}

/// Moves `inode` from one name to another, in place of `target` if there is one.
///
/// A whiteout takes the place of the old name if there is an id map to make it with.
fn replace(
    from: Place<'_>,
    inode: &Inode,
    to: Place<'_>,
    target: Option<&Inode>,
    whiteout: Option<&IdMap>,
) -> Result {
    to.check_project(inode)?;
    let old = namei::find_expected(from.dir, from.name, inode)?;
    let moves_directory = inode.is_dir() && !from.is_beside(&to);
    let replaced = match target {
        Some(target) => {
            let found = namei::find_expected(to.dir, to.name, target)?;
            if inode.is_dir() {
                namei::check_empty(target)?;
            }
            Some((target, found))
        }
        None if moves_directory => {
            namei::check_room_for_subdirectory(to.dir)?;
            None
        }
        None => None,
    };
    if moves_directory {
        check_parent(inode, from.dir)?;
    }
    // A program that replaces a file by a new one expects the old contents or the new ones after a crash.
    // So the new ones get their blocks now, and are on the disk when the rename is.
    let settings = inode.sb().data().settings();
    if target.is_some() && inode.is_regular() && settings.has(Flags::AUTO_DA_ALLOC) {
        writeback::flush_for_replace(inode)?;
    }
    let inherited = match whiteout {
        Some(_) => Some(acl::inherit(from.dir, WHITEOUT_MODE)?),
        None => None,
    };

    let _held = (
        inode::hold(from.dir)?,
        inode::hold(to.dir)?,
        inode::hold(inode)?,
        target.map(inode::hold).transpose()?,
        dir_blocks::hold(from.dir, old.block)?,
        moves_directory.then(|| hold_parent(inode)).transpose()?,
    );
    // Both names, `..` of what moves, and the inodes.
    let mut credits = credits::change_entry(from.dir)
        + credits::enter(to.dir)
        + credits::change_entry(inode)
        + credits::change_inode()
        + credits::change_inode()
        + credits::orphan();
    if whiteout.is_some() {
        credits = credits + credits::make_inode(from.dir);
    }
    namei::retry_without_space(to.dir, || {
        let mut draft = Draft::new();
        let txn = start(&from, &to, credits)?;
        let result = (|| {
            if let Some((idmap, inherited)) = whiteout.zip(inherited.as_ref()) {
                let name = from.name.bytes();
                draft.make(&txn, idmap, from.dir, name, inherited, |new| {
                    new.init_special(new.mode(), 0);
                    Ok(())
                })?;
            }
            // First what may find no space.
            match replaced {
                None => namei::enter(&txn, to.dir, to.name, inode),
                Some((target, found)) => {
                    namei::take_name(&txn, target, || to.set(&txn, found, inode))
                }
            }
        })();
        if let Err(error) = result {
            draft.abandon(&txn)?;
            return Err(error);
        }
        let whiteout = draft.finish_if_made();
        match &whiteout {
            None => namei::remove(&txn, from.dir, from.name, old)?,
            Some(new) => {
                from.set(&txn, old, new)?;
                inode::update(&txn, new)?;
            }
        }
        inode.touch_ctime();
        inode::update(&txn, inode)?;
        if moves_directory {
            set_parent(&txn, inode, to.dir)?;
        }
        count_links(&txn, &from, &to, inode, target)?;
        let result = txn.stop();
        if let Some(new) = whiteout {
            // No dentry has it: the kernel makes a negative one of the old name disappear.
            drop(new.unlock());
        }
        result
    })
}

/// The counts of links after a move.
fn count_links(
    txn: &Transaction<'_>,
    from: &Place<'_>,
    to: &Place<'_>,
    inode: &Inode,
    target: Option<&Inode>,
) -> Result {
    match target {
        Some(target) if inode.is_dir() => {
            namei::drop_directory(txn, target)?;
            namei::discount_subdirectory(from.dir);
            inode::update(txn, from.dir)
        }
        Some(target) => namei::drop_link(txn, target),
        None if inode.is_dir() && !from.is_beside(to) => {
            namei::discount_subdirectory(from.dir);
            namei::count_subdirectory(to.dir);
            inode::update(txn, from.dir)?;
            inode::update(txn, to.dir)
        }
        None => Ok(()),
    }
}

/// Lets two names stand for each other's inodes.
fn exchange(from: Place<'_>, inode: &Inode, to: Place<'_>, other: &Inode) -> Result {
    to.check_project(inode)?;
    from.check_project(other)?;
    let here = namei::find_expected(from.dir, from.name, inode)?;
    let there = namei::find_expected(to.dir, to.name, other)?;
    let beside = from.is_beside(&to);
    if !beside {
        for (moving, source, destination, leaving) in
            [(inode, &from, &to, other), (other, &to, &from, inode)]
        {
            if moving.is_dir() {
                check_parent(moving, source.dir)?;
                if !leaving.is_dir() {
                    namei::check_room_for_subdirectory(destination.dir)?;
                }
            }
        }
    }

    let hold_parent_if = |moving: &Inode| {
        let moves = moving.is_dir() && !beside;
        moves.then(|| hold_parent(moving)).transpose()
    };
    let _held = (
        inode::hold(from.dir)?,
        inode::hold(to.dir)?,
        inode::hold(inode)?,
        inode::hold(other)?,
        dir_blocks::hold(to.dir, there.block)?,
        hold_parent_if(inode)?,
        hold_parent_if(other)?,
    );
    // Both names, and `..` and the inode of what they stand for.
    let credits = credits::change_entry(from.dir)
        + credits::change_entry(to.dir)
        + credits::change_entry(inode)
        + credits::change_entry(other);
    let txn = start(&from, &to, credits)?;
    from.set(&txn, here, other)?;
    to.set(&txn, there, inode)?;
    for (moving, destination) in [(inode, &to), (other, &from)] {
        moving.touch_ctime();
        if moving.is_dir() && !beside {
            set_parent(&txn, moving, destination.dir)?;
        }
        inode::update(&txn, moving)?;
    }
    if !beside && inode.is_dir() != other.is_dir() {
        let (loser, winner) = if inode.is_dir() {
            (from.dir, to.dir)
        } else {
            (to.dir, from.dir)
        };
        namei::discount_subdirectory(loser);
        namei::count_subdirectory(winner);
        inode::update(&txn, loser)?;
        inode::update(&txn, winner)?;
    }
    txn.stop()
}
