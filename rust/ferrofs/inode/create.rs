// SPDX-License-Identifier: GPL-2.0

//! New inodes.

use ext4::inode::FileType;
use ext4::inode::InodeFlags;
use kernel::prelude::*;
use vfs::idmap::IdMap;
use vfs::inode::NewInode;
use vfs::time::Timestamp;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use super::apply_flags;
use super::store::fill;
use super::store::modify_raw;
use super::UPDATE_CREDITS;
use crate::alloc;
use crate::error;
use crate::error::Place;
use crate::options::Flags;
use crate::Ferrofs;
use crate::Inode;

/// What [`create`] may change: what finding a number does, and the inode's place in the table.
pub(crate) const CREATE_CREDITS: Credits =
    Credits::blocks(alloc::inodes::ALLOCATE_CREDITS.block_count() + UPDATE_CREDITS.block_count());

/// Makes an inode of type and permissions `mode`, owned as a new entry `name` of `dir` would be, with
/// one link and no contents, as part of `txn`.
///
/// It has no operations, attributes or name yet. If it will not be used after all, the caller clears
/// its link count and [discards](NewInode::discard) it.
pub(crate) fn create(
    txn: &Transaction<'_>,
    idmap: &IdMap,
    dir: &Inode,
    mode: u16,
    name: &[u8],
) -> Result<NewInode<Ferrofs>> {
    let sb = dir.sb();
    let volume = sb.data();
    let mut fresh = sb.new_inode()?;
    fresh.init_owner(idmap, dir, mode);
    if volume.settings().has(Flags::GRPID) {
        fresh.set_owner(fresh.uid(), dir.gid());
    }
    let number = alloc::inodes::allocate(txn, sb, dir, mode, name)?;
    let new = fresh.insert(number.get().into()).map_err(|_| {
        error::corrupt(
            sb,
            Place::inode(number),
            "free on disk but in use in memory",
        )
    })?;
    init(&new, dir);
    // From here on the number is given back by the eviction of the inode.
    let stored = modify_raw(txn, &new, |raw| {
        raw.init(volume.layout.want_extra_isize);
        fill(volume, &new, raw)
    });
    match stored {
        Ok(_) => {
            new.data().note_data_change(txn.tid());
            Ok(new)
        }
        Err(error) => {
            new.clear_nlink();
            new.discard();
            Err(error)
        }
    }
}

fn init(new: &NewInode<Ferrofs>, dir: &Inode) {
    let volume = dir.sb().data();
    let layout = &volume.layout;
    let data = new.data();
    new.set_nlink(1);
    new.set_size(0);
    new.set_blocks(0);
    let now = new.touch_ctime();
    new.set_atime(now);
    new.set_mtime(now);
    new.set_generation(vfs::random::random_u32());
    new.set_version(1);
    if layout.geometry.inode_size() > ext4::inode::BASE_SIZE {
        data.crtime.populate(Timestamp { ..now });
    }
    data.set_project_id(inherited_project(dir));
    if let Some(seed) = layout.checksum {
        data.checksum
            .populate(seed.for_inode(super::number(new), new.generation()));
    }

    let file_type = FileType::from_mode(new.mode());
    let mut flags = match file_type {
        Some(file_type) => dir
            .data()
            .flags()
            .and(InodeFlags::INHERITED)
            .for_type(file_type),
        None => InodeFlags::NONE,
    };
    if matches!(
        file_type,
        Some(FileType::Regular | FileType::Directory | FileType::Symlink)
    ) {
        flags = flags.with(InodeFlags::EXTENTS);
        data.map.init_empty();
    }
    data.set_flags(flags);
    apply_flags(new);
}

/// The project of a directory that passes it on.
fn inherited_project(dir: &Inode) -> u32 {
    if dir.data().flags().contains(InodeFlags::PROJECT_INHERIT) {
        dir.data().project_id()
    } else {
        0
    }
}
