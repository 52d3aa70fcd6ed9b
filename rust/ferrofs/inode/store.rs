// SPDX-License-Identifier: GPL-2.0

//! From memory to the inode table.

use ext4::features::Compat;
use ext4::features::RoCompat;
use ext4::inode::InodeFlags;
use ext4::inode::RawInode;
use ext4::InodeNumber;
use ext4::PhysicalBlock;
use kernel::error::code::EFBIG;
use kernel::prelude::*;
use vfs::buffer::Buffer;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use super::number;
use super::to_disk;
use crate::checksum::crc32c;
use crate::error::Place;
use crate::group;
use crate::volume::kind;
use crate::volume::Volume;
use crate::Inode;
use crate::SuperBlock;

/// What [`update`] and [`modify_raw`] may change: the block of the inode table and, once in the life
/// of a file system, the feature for large files in the super block.
pub(crate) const UPDATE_CREDITS: Credits = Credits::blocks(2);

/// The largest size that needs no feature.
const SMALL_FILE_MAX: u64 = 0x7fff_ffff;

/// The block `block` of an inode table. Each inode in it is verified when it is read.
pub(super) fn table_block(sb: &SuperBlock, block: PhysicalBlock) -> Result<Buffer> {
    sb.data()
        .read_block(block, kind::INODE_TABLE, |_| Ok(()))
        .map_err(|error| error.report(sb, Place::block(block)))
}

/// The block of the table that `inode` is in. Sleeps.
///
/// As long as it is held, the block stays in memory, and [`update`] and [`modify_raw`] do not fail because it
/// cannot be read. For what changes several blocks or none: nothing takes back the first change of a
/// transaction when a later one fails.
pub(crate) fn hold(inode: &Inode) -> Result<Buffer> {
    let (block, _) = inode.data().place(inode)?;
    table_block(inode.sb(), block)
}

/// Reads the inode as it stands in the table (in memory). `read` runs with the block's contents held.
pub(crate) fn read_raw<R>(inode: &Inode, read: impl FnOnce(&RawInode) -> R) -> Result<R> {
    let sb = inode.sb();
    let (block, offset) = inode.data().place(inode)?;
    let buffer = table_block(sb, block)?;
    let bytes = buffer.data();
    let raw = bytes
        .get(offset..offset + sb.data().layout.geometry.inode_size())
        .and_then(RawInode::from_bytes)
        .ok_or(EIO)?;
    Ok(read(raw))
}

/// Changes the inode as it stands in the table. `change` runs with the block's contents held
/// exclusively; afterwards the inode's checksum is made right. Takes [`UPDATE_CREDITS`].
pub(crate) fn modify_raw<R>(
    txn: &Transaction<'_>,
    inode: &Inode,
    change: impl FnOnce(&mut RawInode) -> R,
) -> Result<R> {
    let place = inode.data().place(inode)?;
    modify_raw_at(txn, inode.sb(), number(inode), place, change)
}

/// As [`modify_raw`], of an inode that need not be in memory.
pub(crate) fn modify_raw_of<R>(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    number: InodeNumber,
    change: impl FnOnce(&mut RawInode) -> R,
) -> Result<R> {
    modify_raw_at(txn, sb, number, group::inode_place(sb, number)?, change)
}

fn modify_raw_at<R>(
    txn: &Transaction<'_>,
    sb: &SuperBlock,
    number: InodeNumber,
    (block, offset): (PhysicalBlock, usize),
    change: impl FnOnce(&mut RawInode) -> R,
) -> Result<R> {
    let buffer = table_block(sb, block)?;
    let volume = sb.data();
    let range = offset..offset + volume.layout.geometry.inode_size();
    let seal = |bytes: &mut [u8]| {
        if let Some(raw) = bytes
            .get_mut(range.clone())
            .and_then(RawInode::from_bytes_mut)
        {
            raw.update_checksum(volume.layout.checksum, number);
        }
    };
    let mut bytes = txn.write(&buffer, seal)?;
    let raw = bytes
        .get_mut(range.clone())
        .and_then(RawInode::from_bytes_mut)
        .ok_or(EIO)?;
    Ok(change(raw))
}

/// Writes the state of the inode in memory to its place in the table, as part of `txn`.
///
/// # Errors
///
/// `EFBIG` when the file takes more space than the format can count; then nothing was changed.
pub(crate) fn update(txn: &Transaction<'_>, inode: &Inode) -> Result {
    update_with(txn, inode, |_| ())
}

/// As [`update`]; `more` changes what memory does not have.
pub(crate) fn update_with(
    txn: &Transaction<'_>,
    inode: &Inode,
    more: impl FnOnce(&mut RawInode),
) -> Result {
    let volume = inode.sb().data();
    let stored = modify_raw(txn, inode, |raw| {
        more(raw);
        fill(volume, inode, raw)
    })?;
    if !stored {
        return Err(EFBIG);
    }
    inode.data().note_change(txn.tid());
    if inode.is_regular() && inode.data().disk_size() > SMALL_FILE_MAX {
        note_large_file(txn, volume)?;
    }
    Ok(())
}

/// Whether all of it could be stored.
pub(super) fn fill(volume: &Volume, inode: &Inode, raw: &mut RawInode) -> bool {
    let data = inode.data();
    let layout = &volume.layout;
    let huge_file = layout.features.ro_compat(RoCompat::HUGE_FILE);
    raw.set_flags(data.flags());
    // Depends on the flags and may change one.
    if !raw.set_sectors(inode.blocks(), layout.geometry.block_size(), huge_file) {
        return false;
    }
    raw.set_mode(inode.mode());
    raw.set_uid(inode.uid());
    raw.set_gid(inode.gid());
    raw.set_links(inode.nlink() as u16);
    raw.set_size(if inode.is_regular() {
        data.disk_size()
    } else {
        inode.size()
    });
    raw.set_atime(to_disk(inode.atime()));
    raw.set_ctime(to_disk(inode.ctime()));
    raw.set_mtime(to_disk(inode.mtime()));
    if let Some(crtime) = data.crtime() {
        raw.set_crtime(to_disk(crtime));
    }
    raw.set_generation(inode.generation());
    raw.set_version(inode.version());
    raw.set_xattr_block(data.xattrs.block());
    if layout.features.ro_compat(RoCompat::PROJECT) {
        // An inode too small for a project has none, and is not given another one than 0 either.
        let _ = raw.set_project(data.project_id());
    }
    if data.flags().contains(InodeFlags::EXTENTS) {
        *raw.block_mut() = data.map.root();
    }
    true
}

/// Notes in the super block that there is a file beyond 2 GiB.
fn note_large_file(txn: &Transaction<'_>, volume: &Volume) -> Result {
    if volume.layout.features.ro_compat(RoCompat::LARGE_FILE) {
        return Ok(());
    }
    volume.write_superblock(txn, |superblock| {
        superblock.add_features(Compat::NONE, RoCompat::LARGE_FILE);
        superblock.update_checksum(crc32c);
    })
}

/// Without a journal: writes the block of the table that holds the inode, and waits.
pub(super) fn write_table_block(inode: &Inode) -> Result {
    let device = inode.sb().data().journal.device();
    hold(inode)?.update_now(device, false, |_| ())
}
