// SPDX-License-Identifier: GPL-2.0

//! Symbolic links.
//!
//! A *fast* link has its text where other inodes have the root of their map, if it fits there with a NUL.
//! Any other has one block of its own, which begins with the text. That block is metadata: it is written
//! through the journal, and so in place when its inode is.

use ext4::inode::InodeFlags;
use ext4::inode::BLOCK_LENGTH;
use ext4::LogicalBlock;
use kernel::prelude::*;
use vfs::buffer::Buffer;
use vfs::dentry::Instantiated;
use vfs::dentry::Negative;
use vfs::idmap::IdMap;
use vfs::inode::NewInode;
use vfs::inode::S_IFLNK;
use vfs::symlink::LinkText;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;
use vfs::transaction::Unsealed;

use crate::credits;
use crate::error;
use crate::error::Place;
use crate::extent_status::Status;
use crate::inode;
use crate::map;
use crate::namei;
use crate::volume::kind;
use crate::Ferrofs;
use crate::Inode;

/// The permissions of a link, which nobody looks at.
const MODE: u16 = S_IFLNK | 0o777;

/// Whether a link with a text of that many bytes is a fast one.
pub(crate) fn is_fast(length: usize) -> bool {
    length < BLOCK_LENGTH
}

pub(crate) fn symlink<'d>(
    idmap: &IdMap,
    dir: &Inode,
    dentry: Negative<'d, Ferrofs>,
    target: &CStr,
) -> Result<Instantiated<'d>> {
    let text = target.to_bytes();
    // The NUL is stored too.
    if text.len() >= dir.sb().block_size() as usize {
        return Err(ENAMETOOLONG);
    }
    let credits = if is_fast(text.len()) {
        Credits::default()
    } else {
        credits::append(dir, 1)
    };
    namei::make(idmap, dir, dentry, MODE, credits, |txn, new| {
        if is_fast(text.len()) {
            store_fast(txn, new, text)
        } else {
            store_slow(txn, new, text)
        }
    })
}

fn store_fast(txn: &Transaction<'_>, new: &mut NewInode<Ferrofs>, text: &[u8]) -> Result {
    inode::modify_raw(txn, new, |raw| {
        let area = raw.block_mut();
        area.fill(0);
        area[..text.len()].copy_from_slice(text);
    })?;
    let data = new.data();
    data.set_flags(data.flags().without(InodeFlags::EXTENTS));
    set_length(new, text);
    new.set_link_text(LinkText::new(text)?)
}

fn store_slow(txn: &Transaction<'_>, new: &NewInode<Ferrofs>, text: &[u8]) -> Result {
    let run = map::create(txn, new, LogicalBlock::ZERO, 1)?;
    let Status::Written(block) = run.status else {
        return Err(EIO);
    };
    let mut block = txn.create(block.get(), kind::SYMLINK, Unsealed)?;
    block[..text.len()].copy_from_slice(text);
    drop(block);
    set_length(new, text);
    Ok(())
}

fn set_length(new: &NewInode<Ferrofs>, text: &[u8]) {
    new.set_size(text.len() as u64);
    new.data().set_disk_size(text.len() as u64);
}

/// The text of a link that is not a fast one.
pub(crate) fn get_link(inode: &Inode) -> Result<LinkText> {
    let sb = inode.sb();
    let place = Place::inode(inode::number(inode));
    let length = usize::try_from(inode.size())
        .ok()
        .filter(|&length| length != 0 && length < sb.block_size() as usize)
        .ok_or_else(|| error::corrupt(sb, place, "a symbolic link of impossible length"))?;
    let run = map::lookup(inode, LogicalBlock::ZERO, 1)?;
    let Status::Written(block) = run.status else {
        return Err(error::corrupt(sb, place, "a symbolic link without a block"));
    };
    // The text has no checksum, and any bytes will do.
    let buffer = Buffer::read(sb.data().journal.device(), block.get())?;
    let bytes = buffer.data();
    LinkText::new(bytes.get(..length).ok_or(EIO)?)
}
