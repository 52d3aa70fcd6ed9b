// SPDX-License-Identifier: GPL-2.0

//! Blocks of extended attributes.
//!
//! Inodes with the same attributes can share a block, which counts its users. Here no sharing begins; a
//! block that is shared already is copied before it is changed, and freed by the last user.
//!
//! The count of users changes with the contents of the buffer held exclusively, as inodes that share a block
//! have no lock in common.

use ext4::features::Compat;
use ext4::features::RoCompat;
use ext4::xattr::BlockHeader;
use ext4::xattr::Edit;
use ext4::xattr::Set;
use ext4::xattr::Table;
use ext4::xattr::XattrError;
use ext4::xattr::XattrName;
use ext4::Corrupt;
use ext4::PhysicalBlock;
use kernel::error::code::ENODATA;
use kernel::error::code::ENOSPC;
use kernel::prelude::*;
use vfs::buffer::Buffer;
use vfs::transaction::Transaction;

use super::has_ea_inode;
use crate::alloc::blocks;
use crate::alloc::blocks::Claim;
use crate::alloc::blocks::Request;
use crate::checksum::crc32c;
use crate::error;
use crate::error::Place;
use crate::inode;
use crate::volume::kind;
use crate::Inode;

/// Reports damage of the attributes in a block.
#[track_caller]
fn corrupt(inode: &Inode, block: PhysicalBlock, what: XattrError) -> Error {
    let place = Place::both(inode::number(inode), block);
    error::corrupt(inode.sb(), place, Corrupt::from(what))
}

fn read(inode: &Inode, block: PhysicalBlock) -> Result<Buffer> {
    let ea_inode = has_ea_inode(inode);
    let volume = inode.sb().data();
    let place = Place::both(inode::number(inode), block);
    volume
        .read_block(block, kind::XATTR, |bytes| {
            BlockHeader::verify(bytes, block, volume.layout.checksum, ea_inode)
        })
        .map_err(|error| error.report(inode.sb(), place))
}

/// Calls `read` with the table in the inode's block, if there is one. `read` must not sleep.
pub(super) fn with_table<R>(
    inode: &Inode,
    visit: impl FnOnce(&Table<'_>) -> R,
) -> Result<Option<R>> {
    let Some(block) = inode.data().xattrs.block() else {
        return Ok(None);
    };
    let buffer = read(inode, block)?;
    let result = {
        let bytes = buffer.data();
        Table::in_block(&bytes, has_ea_inode(inode)).map(|table| visit(&table))
    };
    result.map(Some).map_err(|what| corrupt(inode, block, what))
}

/// What makes the checksum of the block right.
fn seal(inode: &Inode, block: PhysicalBlock) -> impl Fn(&mut [u8]) {
    let checksum = inode.sb().data().layout.checksum;
    move |bytes| {
        // Fails for bytes that are no block of attributes, and such are never written.
        if BlockHeader::update_checksum(bytes, block, checksum).is_err() {
            debug_assert!(false);
        }
    }
}

/// Sets or removes an attribute in the block of the inode, which may be another one afterwards, or none.
///
/// The caller holds the lock of the inode's attributes and stores the inode.
///
/// # Errors
///
/// `ENOSPC` when the value does not fit or no block is free; then nothing has changed.
pub(super) fn change(
    txn: &Transaction<'_>,
    inode: &Inode,
    name: XattrName<'_>,
    value: Option<&[u8]>,
) -> Result {
    let state = &inode.data().xattrs;
    let old = match state.block() {
        None => None,
        Some(block) => Some(read(inode, block)?),
    };

    let mut bytes = KVVec::with_capacity(inode.sb().block_size() as usize, GFP_KERNEL)?;
    match &old {
        Some(buffer) => bytes.extend_from_slice(&buffer.data(), GFP_KERNEL)?,
        None => {
            bytes.resize(inode.sb().block_size() as usize, 0, GFP_KERNEL)?;
            BlockHeader::init(&mut bytes).map_err(|_| EINVAL)?;
        }
    }
    let place = state.block().unwrap_or(PhysicalBlock::ZERO);
    let empty = edit(&mut bytes, has_ea_inode(inode), name, value)
        .map_err(|what| corrupt(inode, place, what))??;

    if empty {
        state.set_block(None);
        return match old {
            Some(buffer) => drop_user(txn, inode, &buffer),
            None => Ok(()),
        };
    }
    if let Some(buffer) = &old {
        if store_in_place(txn, inode, buffer, &bytes)? {
            return Ok(());
        }
    }
    let block = allocate(txn, inode)?;
    BlockHeader::set_references(&mut bytes, 1).map_err(|what| corrupt(inode, block, what))?;
    let mut new = txn.create(block.get(), kind::XATTR, seal(inode, block))?;
    new.copy_from_slice(&bytes);
    drop(new);
    inode.add_bytes(inode.sb().block_size().into());
    state.set_block(Some(block));
    match old {
        Some(buffer) => drop_user(txn, inode, &buffer),
        None => Ok(()),
    }
}

/// Changes a copy of a block; whether it is empty then. `ENOSPC` when it has no room, `ENODATA` when there is
/// nothing to remove.
fn edit(
    bytes: &mut [u8],
    ea_inode: bool,
    name: XattrName<'_>,
    value: Option<&[u8]>,
) -> Result<Result<bool>, XattrError> {
    let mut edit = Edit::in_block(bytes, ea_inode);
    match value {
        Some(value) => {
            if edit.set(name, value)? == Set::NoSpace {
                return Ok(Err(ENOSPC));
            }
        }
        None => {
            if edit.remove(name)?.is_none() {
                return Ok(Err(ENODATA));
            }
        }
    }
    Ok(Ok(edit.table()?.is_empty()))
}

/// Stores `bytes` in the block, unless others use it too. Returns whether that was done.
fn store_in_place(
    txn: &Transaction<'_>,
    inode: &Inode,
    buffer: &Buffer,
    bytes: &[u8],
) -> Result<bool> {
    let block = PhysicalBlock::new(buffer.block());
    let mut contents = txn.write(buffer, seal(inode, block))?;
    if BlockHeader::parse(&contents).is_ok_and(|header| header.references() == 1) {
        contents.copy_from_slice(bytes);
        return Ok(true);
    }
    Ok(false)
}

/// The inode no longer uses the block; the last user frees it.
fn drop_user(txn: &Transaction<'_>, inode: &Inode, buffer: &Buffer) -> Result {
    let block = PhysicalBlock::new(buffer.block());
    let last = {
        let mut contents = txn.write(buffer, seal(inode, block))?;
        match BlockHeader::parse(&contents).map(BlockHeader::references) {
            Ok(references) if references > 1 => {
                BlockHeader::set_references(&mut contents, references - 1).map(|()| false)
            }
            Ok(_) => Ok(true),
            Err(what) => Err(what),
        }
    };
    if last.map_err(|what| corrupt(inode, block, what))? {
        txn.revoke(block.get())?;
        blocks::free(txn, inode.sb(), block, 1)?;
    }
    inode.sub_bytes(inode.sb().block_size().into());
    Ok(())
}

/// Finds a block for attributes, near the inode.
fn allocate(txn: &Transaction<'_>, inode: &Inode) -> Result<PhysicalBlock> {
    let geometry = &inode.sb().data().layout.geometry;
    let (group, _) = geometry.locate_inode(inode::number(inode)).ok_or(EINVAL)?;
    let request = Request {
        goal: geometry.first_block(group),
        adjacent: false,
        count: 1,
        claim: Claim::Now,
    };
    Ok(blocks::allocate(txn, inode.sb(), &request)?.start)
}

/// The inode is being deleted: it no longer uses its block. Takes [`set_credits`](super::set_credits).
pub(crate) fn release(txn: &Transaction<'_>, inode: &Inode) -> Result {
    let state = &inode.data().xattrs;
    let Some(block) = state.block() else {
        return Ok(());
    };
    let buffer = read(inode, block)?;
    state.set_block(None);
    drop_user(txn, inode, &buffer)
}

/// Notes in the super block, once in the life of a file system, that there are attributes.
pub(super) fn note_feature(txn: &Transaction<'_>, inode: &Inode) -> Result {
    let volume = inode.sb().data();
    if volume.layout.features.compat(Compat::EXT_ATTR) {
        return Ok(());
    }
    volume.write_superblock(txn, |superblock| {
        superblock.add_features(Compat::EXT_ATTR, RoCompat::NONE);
        superblock.update_checksum(crc32c);
    })
}
