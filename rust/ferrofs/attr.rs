// SPDX-License-Identifier: GPL-2.0

//! Attributes of inodes: `stat`, `chmod`, `chown`, `truncate`, `utimes`, and the flags of `chattr`.

use ext4::features::RoCompat;
use ext4::inode::FileType;
use ext4::inode::InodeFlags;
use kernel::prelude::*;
use vfs::attr::attribute;
use vfs::attr::request;
use vfs::attr::Attributes;
use vfs::attr::Stat;
use vfs::fileattr::FileAttributes;
use vfs::idmap::IdMap;

use crate::file::check_mutable;
use crate::inode;
use crate::map;
use crate::resize;
use crate::state;
use crate::Ferrofs;
use crate::Inode;

/// Flags of the format that `statx(2)` tells too.
const ATTRIBUTES: [(InodeFlags, u64); 5] = [
    (InodeFlags::APPEND, attribute::APPEND),
    (InodeFlags::COMPRESS, attribute::COMPRESSED),
    (InodeFlags::ENCRYPT, attribute::ENCRYPTED),
    (InodeFlags::IMMUTABLE, attribute::IMMUTABLE),
    (InodeFlags::NO_DUMP, attribute::NODUMP),
];

pub(crate) fn getattr(idmap: &IdMap, inode: &Inode, wanted: u32, stat: &mut Stat) -> Result {
    stat.fill(idmap, wanted, inode);
    let data = inode.data();
    if wanted & request::BTIME != 0 {
        if let Some(birth) = data.crtime() {
            stat.set_birth_time(birth.seconds, birth.nanoseconds);
        }
    }
    let (mut set, mut known) = (0, 0);
    for (flag, attribute) in ATTRIBUTES {
        known |= attribute;
        if data.flags().contains(flag) {
            set |= attribute;
        }
    }
    stat.set_attributes(set, known);
    Ok(())
}

/// As [`getattr`], of a regular file.
pub(crate) fn getattr_file(idmap: &IdMap, inode: &Inode, wanted: u32, stat: &mut Stat) -> Result {
    getattr(idmap, inode, wanted, stat)?;
    // What was written and has no blocks yet counts, or a file just written would look like a hole.
    let delayed = u64::from(map::delayed_blocks(inode));
    let sectors_per_block = u64::from(inode.sb().block_size() / 512);
    stat.set_blocks(stat.blocks() + delayed * sectors_per_block);
    if wanted & (request::DIOALIGN | request::DIO_READ_ALIGN) != 0 {
        // The disk's own limits: blocks that a direct write covers in part are zeroed around it by iomap.
        let sb = inode.sb();
        stat.set_direct_alignment(sb.device_memory_alignment(), sb.device_block_size());
    }
    Ok(())
}

pub(crate) fn setattr(attributes: &mut Attributes<'_, Ferrofs>) -> Result {
    attributes.prepare()?;
    let inode = attributes.inode();
    // The kernel checks it for some changes only.
    check_mutable(inode)?;
    if let Some(size) = attributes.size() {
        // The kernel lets no negative size come here.
        let size = u64::try_from(size).map_err(|_| EINVAL)?;
        if !inode.is_regular() {
            return Err(EINVAL);
        }
        // Also when the size stays the same.
        attributes.touch_times();
        resize::set_size(inode, size)?;
    }

    let txn = state::transaction(inode.sb(), inode::UPDATE_CREDITS)?;
    attributes.apply();
    inode.inc_version();
    inode::update(&txn, inode)?;
    txn.stop()?;
    if attributes.changes_mode() {
        attributes.chmod_acl()?;
    }
    Ok(())
}

pub(crate) fn fileattr_get(inode: &Inode, attributes: &mut FileAttributes) -> Result {
    let mut flags = inode.data().flags().and(InodeFlags::USER_VISIBLE);
    if inode.is_regular() {
        flags = flags.without(InodeFlags::PROJECT_INHERIT);
    }
    attributes.fill_flags(flags.bits());
    if has_projects(inode) {
        attributes.set_project(inode.data().project_id());
    }
    Ok(())
}

fn has_projects(inode: &Inode) -> bool {
    let features = &inode.sb().data().layout.features;
    features.ro_compat(RoCompat::PROJECT)
}

pub(crate) fn fileattr_set(inode: &Inode, attributes: &FileAttributes) -> Result {
    let wanted = InodeFlags::from_bits(attributes.flags());
    if !wanted.without(InodeFlags::USER_VISIBLE).is_empty() || attributes.has_extent_size() {
        return Err(EOPNOTSUPP);
    }
    if attributes
        .project()
        .is_some_and(|project| project != inode.data().project_id())
    {
        // Projects come with quotas.
        return Err(EOPNOTSUPP);
    }
    let file_type = FileType::from_mode(inode.mode()).ok_or(EINVAL)?;
    let wanted = wanted.for_type(file_type);
    let data = inode.data();
    let old = data.flags();
    let new = old
        .without(InodeFlags::USER_MODIFIABLE)
        .with(wanted.and(InodeFlags::USER_MODIFIABLE));
    if old.contains(InodeFlags::IMMUTABLE) && new.contains(InodeFlags::IMMUTABLE) && new != old {
        return Err(EPERM);
    }
    // Those which would change how the file is stored.
    let stored = InodeFlags::EXTENTS
        .with(InodeFlags::JOURNAL_DATA)
        .with(InodeFlags::CASEFOLD)
        .with(InodeFlags::DAX)
        .with(InodeFlags::EOF_BLOCKS);
    if new.and(stored) != old.and(stored) {
        return Err(EOPNOTSUPP);
    }
    if new.contains(InodeFlags::IMMUTABLE) && inode.is_regular() {
        // Nothing that was written before is to be lost because it cannot be written any more.
        inode.write_and_wait()?;
    }

    let txn = state::transaction(inode.sb(), inode::UPDATE_CREDITS)?;
    if inode.is_sync() {
        txn.set_sync();
    }
    data.set_flags(new);
    inode::apply_flags(inode);
    inode.touch_ctime();
    inode.inc_version();
    inode::update(&txn, inode)?;
    txn.stop()
}

/// Sets the generation, which NFS clients know a file by.
pub(crate) fn set_generation(inode: &Inode, generation: u32) -> Result {
    // With checksums, those of all metadata of the file depend on it.
    if inode.data().checksum().is_some() {
        return Err(ENOTTY);
    }
    let _locked = inode.lock();
    let txn = state::transaction(inode.sb(), inode::UPDATE_CREDITS)?;
    inode.set_generation(generation);
    inode.touch_ctime();
    inode.inc_version();
    inode::update(&txn, inode)?;
    txn.stop()
}
