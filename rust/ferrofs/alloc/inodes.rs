// SPDX-License-Identifier: GPL-2.0

//! Allocating and freeing inode numbers.
//!
//! Where an inode is decides where its data will be: see [`ext4::inode_policy`].

use core::sync::atomic::Ordering::Relaxed;

use ext4::group_desc::flags;
use ext4::inode::InodeFlags;
use ext4::inode_policy::Chooser;
use ext4::inode_policy::Load;
use ext4::Group;
use ext4::InodeNumber;
use kernel::error::code::ENOSPC;
use kernel::prelude::*;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;
use vfs::transaction::Unsealed;

use super::bitmap;
use super::bitmap::Change;
use super::bitmap::Which;
use super::groups;
use super::Core;
use crate::error;
use crate::error::Place;
use crate::group;
use crate::inode;
use crate::volume::kind;
use crate::Inode;
use crate::SuperBlock;

/// What [`allocate`] may change: the bitmap, the descriptor, and the block of the inode table that it
/// begins to use. The block bitmap and its descriptor, when the group was not in use at all.
pub(crate) const ALLOCATE_CREDITS: Credits = Credits::blocks(5);

/// What [`free`] may change: the bitmap and the descriptor.
pub(crate) const FREE_CREDITS: Credits = Credits::blocks(2);

/// The type of a directory in a mode.
const S_IFMT: u16 = 0o170000;
const S_IFDIR: u16 = 0o040000;

/// Allocates an inode number for a new entry `name` of `dir`, of type and permissions `mode`.
///
/// Takes [`ALLOCATE_CREDITS`]. `ENOSPC` when there is none.
pub(crate) fn allocate(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    dir: &Inode,
    mode: u16,
    name: &[u8],
) -> Result<InodeNumber> {
    let core = &*sb.data().alloc.0;
    let geometry = &sb.data().layout.geometry;
    let directory = mode & S_IFMT == S_IFDIR;
    let first = choose(sb, core, dir, directory, name);
    for step in 0..geometry.group_count() {
        let number = Group::new((first.get() + step) % geometry.group_count());
        let group = core.group(number)?;
        if group.free_inodes.load(Relaxed) == 0 {
            continue;
        }
        if let Some(index) = allocate_in(txn, sb, core, group, directory)? {
            return geometry.inode_at(number, index).ok_or(EINVAL);
        }
    }
    Err(ENOSPC)
}

/// Any number that depends on the name, the same for the same name.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(5381, |hash: u32, &byte| {
        hash.wrapping_mul(33) ^ u32::from(byte)
    })
}

/// The group to try first.
fn choose(sb: &SuperBlock, core: &Core, dir: &Inode, directory: bool, name: &[u8]) -> Group {
    let geometry = &sb.data().layout.geometry;
    let number = inode::number(dir);
    let parent = geometry
        .locate_inode(number)
        .map_or(Group::ZERO, |(group, _)| group);
    let load = |group| {
        core.group(group)
            .map_or(Load::default(), groups::Group::load)
    };
    let chooser = Chooser::new(geometry, core.space.load(), load);
    let top = number == InodeNumber::ROOT || dir.data().flags().contains(InodeFlags::TOP_DIR);
    let chosen = if !directory {
        chooser.file(parent, None)
    } else if top {
        chooser.top_directory(parent, hash(name))
    } else {
        chooser.directory(parent)
    };
    chosen.unwrap_or(parent)
}

/// Allocates in one group; `None` when it has none or is damaged.
fn allocate_in(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    core: &Core,
    group: &groups::Group,
    directory: bool,
) -> Result<Option<u32>> {
    let geometry = &sb.data().layout.geometry;
    let mut state = group.lock();
    if state.bad_inodes {
        return Ok(None);
    }
    let from = match geometry.locate_inode(geometry.first_inode()) {
        Some((first, index)) if first == group.number => index,
        _ => 0,
    };
    let index = match bitmap::find_free_inode(sb, group.number, from) {
        Ok(Some(index)) => index,
        Ok(None) => {
            // The count was wrong: e2fsck will say so, and nobody looks here again.
            group.free_inodes.store(0, Relaxed);
            return Ok(None);
        }
        Err(_) => {
            state.bad_inodes = true;
            group.free_inodes.store(0, Relaxed);
            return Ok(None);
        }
    };
    begin_table_block(txn, sb, group.number, index)?;
    let change = Change::begin(txn, sb, group.number, Which::Inodes)?;
    let marked = change
        .mark(index..index + 1, true, |descriptor| {
            let layout = &sb.data().layout;
            descriptor.inode_allocated(index, directory, &layout.geometry, &layout.desc_checksum)
        })
        .and_then(|()| begin_block_bitmap(txn, sb, group.number));
    if marked.is_err() {
        state.bad_inodes = true;
        group.free_inodes.store(0, Relaxed);
        drop(state);
        return super::next_group(txn, ALLOCATE_CREDITS);
    }
    group.free_inodes.fetch_sub(1, Relaxed);
    group.directories.fetch_add(directory.into(), Relaxed);
    core.space.inode_used(directory);
    Ok(Some(index))
}

/// Zeroes the block of the inode table in which an inode is the first one ever to be used, unless
/// somebody has zeroed the whole table before.
fn begin_table_block(txn: &Transaction<'_>, sb: &SuperBlock, number: Group, index: u32) -> Result {
    let layout = &sb.data().layout;
    let geometry = &layout.geometry;
    let (table, initialised, zeroed) = group::with_descriptor(sb, number, |descriptor| {
        (
            descriptor.inode_table(),
            descriptor.initialised_inodes(geometry, &layout.desc_checksum),
            descriptor.flags(&layout.desc_checksum) & flags::INODE_ZEROED != 0,
        )
    })?;
    let (block, _) = geometry.inode_offset(index);
    let first_in_block = block * geometry.inodes_per_block();
    if zeroed || first_in_block < initialised {
        return Ok(());
    }
    let block = table.checked_add(block.into()).ok_or(EINVAL)?;
    drop(txn.create(block.get(), kind::INODE_TABLE, Unsealed)?);
    Ok(())
}

/// Writes the block bitmap of a group of which no block was used so far: e2fsck wants one in each group
/// that has inodes.
fn begin_block_bitmap(txn: &Transaction<'_>, sb: &SuperBlock, number: Group) -> Result {
    let layout = &sb.data().layout;
    let uninit = group::with_descriptor(sb, number, |descriptor| {
        descriptor.flags(&layout.desc_checksum) & flags::BLOCK_UNINIT != 0
    })?;
    if !uninit {
        return Ok(());
    }
    Change::begin(txn, sb, number, Which::Blocks)?.mark(0..0, true, |_| Ok(()))
}

/// Frees the number of an inode that has left the disk.
///
/// Takes [`FREE_CREDITS`]. A number that is free already is damage, which is reported.
pub(crate) fn free(txn: &Transaction<'_>, inode: &Inode) -> Result {
    let sb = inode.sb();
    let core = &*sb.data().alloc.0;
    let geometry = &sb.data().layout.geometry;
    let number = inode::number(inode);
    let directory = inode.is_dir();
    let located = geometry.locate_inode(number);
    let (group, index) = match located {
        Some(place) if number >= geometry.first_inode() => place,
        _ => {
            return Err(error::corrupt(
                sb,
                Place::inode(number),
                "a reserved inode is to be freed",
            ))
        }
    };
    let group = core.group(group)?;
    let mut state = group.lock();
    if state.bad_inodes {
        return Ok(());
    }
    let change = Change::begin(txn, sb, group.number, Which::Inodes)?;
    let marked = change.mark(index..index + 1, false, |descriptor| {
        descriptor.inode_freed(directory, geometry)
    });
    if let Err(error) = marked {
        state.bad_inodes = true;
        group.free_inodes.store(0, Relaxed);
        return Err(error);
    }
    group.free_inodes.fetch_add(1, Relaxed);
    if directory {
        group.directories.fetch_sub(1, Relaxed);
    }
    core.space.inode_freed(directory);
    Ok(())
}
