// SPDX-License-Identifier: GPL-2.0

//! How much of the journal the operations on names need.
//!
//! Each function says what one step of an operation may change; an operation asks for the sum of its steps.
//! Blocks that several steps change are counted more than once, which costs nothing: what a transaction
//! did not use goes back when it ends.

use ext4::dir::Credits as DirCredits;
use vfs::transaction::Credits;

use crate::dir_blocks;
use crate::inode;
use crate::map;
use crate::orphan;
use crate::xattr;
use crate::Inode;

/// What an operation on the blocks of `dir` changes.
fn blocks(dir: &Inode, changes: DirCredits) -> Credits {
    Credits::blocks(changes.existing) + append(dir, changes.appended)
}

/// Appending `count` blocks to a directory or a symbolic link, each on its own: the blocks, what
/// allocating them changes, and the inode.
pub(crate) fn append(dir: &Inode, count: u32) -> Credits {
    let mut credits = inode::UPDATE_CREDITS;
    for _ in 0..count {
        credits = credits + Credits::blocks(1) + map::create_credits(dir);
    }
    credits
}

/// Making an inode in `dir`, with attributes, and losing it again.
pub(crate) fn make_inode(dir: &Inode) -> Credits {
    inode::CREATE_CREDITS + inode::UPDATE_CREDITS + xattr::create_credits(dir) + orphan::ADD_CREDITS
}

/// Entering a name in `dir`.
pub(crate) fn enter(dir: &Inode) -> Credits {
    let format = dir_blocks::format(dir);
    blocks(dir, format.insert_credits(dir_blocks::block_count(dir))) + inode::UPDATE_CREDITS
}

/// Removing a name from `dir`, or letting it stand for something else.
pub(crate) fn change_entry(dir: &Inode) -> Credits {
    blocks(dir, dir_blocks::format(dir).change_credits()) + inode::UPDATE_CREDITS
}

/// Changing the inode of a file.
pub(crate) fn change_inode() -> Credits {
    inode::UPDATE_CREDITS
}

/// Putting an inode on the list of orphans, or taking it from there.
pub(crate) fn orphan() -> Credits {
    orphan::ADD_CREDITS
}
