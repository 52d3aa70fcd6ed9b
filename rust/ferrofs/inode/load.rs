// SPDX-License-Identifier: GPL-2.0

//! From the inode table to memory.

use ext4::inode::FileType;
use ext4::inode::InodeFlags;
use ext4::inode::RawInode;
use ext4::inode::ValidInode;
use ext4::InodeNumber;
use kernel::prelude::*;
use vfs::inode::Got;
use vfs::inode::NewInode;
use vfs::inode_ops::Device;
use vfs::symlink::LinkText;

use super::apply_flags;
use super::from_disk;
use super::store::table_block;
use crate::error;
use crate::error::Place;
use crate::group;
use crate::ops;
use crate::Ferrofs;
use crate::InodeRef;
use crate::SuperBlock;

/// The inode `number`, which something on disk names: it must be in use.
pub(crate) fn get(sb: &SuperBlock, number: InodeNumber) -> Result<InodeRef> {
    read(sb, number, false)
}

/// The inode `number`, which the orphan list names: it may have no links.
pub(crate) fn get_orphan(sb: &SuperBlock, number: InodeNumber) -> Result<InodeRef> {
    read(sb, number, true)
}

/// The journal's inode.
pub(crate) fn get_journal(sb: &SuperBlock, number: InodeNumber) -> Result<InodeRef> {
    let inode = get(sb, number)?;
    if !inode.is_regular() {
        return Err(error::corrupt(
            sb,
            Place::inode(number),
            "the journal is not a file",
        ));
    }
    Ok(inode)
}

fn read(sb: &SuperBlock, number: InodeNumber, orphan: bool) -> Result<InodeRef> {
    let new = match sb.iget(number.get().into())? {
        Got::Cached(inode) => return Ok(inode),
        Got::New(new) => new,
    };
    let (block, offset) = group::inode_place(sb, number)?;
    let buffer = table_block(sb, block)?;
    let layout = &sb.data().layout;
    // The contents of the table block are held no longer than it takes to copy what is needed.
    let checked = {
        let bytes = buffer.data();
        let raw = bytes
            .get(offset..offset + layout.geometry.inode_size())
            .and_then(RawInode::from_bytes)
            .ok_or(EIO)?;
        raw.validate(layout, number, orphan)
            .map(|valid| (valid, *raw.block()))
    };
    let (valid, map) =
        checked.map_err(|what| error::corrupt(sb, Place::both(number, block), what))?;
    fill(sb, new, &valid, &map)
}

/// Fills the kernel's inode with what is on disk.
fn fill(
    sb: &SuperBlock,
    mut new: NewInode<Ferrofs>,
    valid: &ValidInode,
    map: &[u8; ext4::inode::BLOCK_LENGTH],
) -> Result<InodeRef> {
    let number = super::number(&new);
    if valid.flags.contains(InodeFlags::INLINE_DATA)
        || valid.flags.contains(InodeFlags::EA_INODE)
        || valid.flags.contains(InodeFlags::ENCRYPT)
    {
        // Cannot happen without features that a mount refuses.
        return Err(error::corrupt(sb, Place::inode(number), "unknown contents"));
    }
    new.set_mode(valid.mode);
    new.set_owner(valid.uid, valid.gid);
    new.set_nlink(valid.links.into());
    new.set_size(valid.size);
    new.set_blocks(valid.sectors);
    new.set_atime(from_disk(valid.atime));
    new.set_mtime(from_disk(valid.mtime));
    new.set_ctime(from_disk(valid.ctime));
    new.set_generation(valid.generation);
    new.set_version(valid.version);

    let data = new.data();
    data.set_flags(valid.flags);
    data.set_disk_size(valid.size);
    data.set_project_id(valid.project.unwrap_or(0));
    data.xattrs.set_block(valid.xattr_block);
    if let Some(crtime) = valid.crtime {
        data.crtime.populate(from_disk(crtime));
    }
    if let Some(checksum) = valid.checksum {
        data.checksum.populate(checksum);
    }
    // `fsync` of an inode that was not changed since waits for what was running when it was read: its
    // last change may be part of that.
    data.note_data_change(sb.data().journal.latest_tid());
    data.flush.set_read(sb.data().flushes.now());
    apply_flags(&new);

    if let Some(device) = valid.device {
        let device = Device::new(device.major, device.minor);
        new.init_special(valid.mode, device.as_raw());
    } else if matches!(valid.file_type, FileType::Fifo | FileType::Socket) {
        new.init_special(valid.mode, 0);
    } else if valid.fast_symlink {
        let text = map.get(..valid.size as usize).ok_or(EIO)?;
        new.set_link_text(LinkText::new(text)?)?;
    } else if valid.flags.contains(InodeFlags::EXTENTS) {
        data.map.load(&new, map)?;
    } else {
        return Err(error::corrupt(
            sb,
            Place::inode(number),
            "mapped by indirect blocks, which is not supported yet",
        ));
    }
    ops::set(&mut new)?;
    Ok(new.unlock())
}
