// SPDX-License-Identifier: GPL-2.0

//! Mount and unmount.
//!
//! [`load`] reads and checks the super block and writes nothing: a disk that is refused is not
//! touched. [`start`] replays the journal, checks the descriptors, sees to the orphans and marks the
//! disk as in use. [`stop`] undoes all of it in reverse order.

use ext4::features::Incompat;
use ext4::features::RoCompat;
use ext4::features::Supported;
use ext4::superblock::JournalLocation;
use ext4::superblock::Superblock;
use ext4::superblock::SuperblockError;
use ext4::superblock::ValidSuperblock;
use ext4::superblock::LENGTH;
use ext4::superblock::OFFSET;
use ext4::BlockSize;
use ext4::InodeNumber;
use kernel::prelude::*;
use kernel::sync::Arc;
use vfs::block_device::SECTOR_SIZE;
use vfs::buffer::Buffer;
use vfs::context::Log;
use vfs::journal::Checksums;
use vfs::journal::Journal;
use vfs::journal::Recovery;
use vfs::journal::Settings as JournalSettings;
use vfs::super_block::NewSuperBlock;
use vfs::time::Timestamp;

use crate::alloc::Allocator;
use crate::announce;
use crate::checksum::crc32c;
use crate::error;
use crate::group;
use crate::inode;
use crate::options::Flags;
use crate::options::Options;
use crate::options::Settings;
use crate::volume::Volume;
use crate::xattr;
use crate::Ferrofs;
use crate::InodeRef;
use crate::SuperBlock;

/// The magic number that `statfs(2)` tells.
pub(crate) const MAGIC: u32 = 0xef53;
/// The unit of the option `sb=`.
const SB_OPTION_UNIT: u64 = 1024;

/// The features that this driver knows.
pub(crate) const SUPPORTED: Supported = Supported {
    incompat: Incompat::FILETYPE
        .with(Incompat::RECOVER)
        .with(Incompat::META_BG)
        .with(Incompat::EXTENTS)
        .with(Incompat::SIXTY_FOUR_BIT)
        .with(Incompat::FLEX_BG)
        .with(Incompat::CSUM_SEED)
        .with(Incompat::LARGE_DIR),
    ro_compat: RoCompat::SPARSE_SUPER
        .with(RoCompat::LARGE_FILE)
        .with(RoCompat::HUGE_FILE)
        .with(RoCompat::GDT_CSUM)
        .with(RoCompat::DIR_NLINK)
        .with(RoCompat::EXTRA_ISIZE)
        .with(RoCompat::METADATA_CSUM)
        .with(RoCompat::ORPHAN_PRESENT),
};

/// Reads and checks the super block.
pub(crate) fn load(
    sb: &mut NewSuperBlock<'_, Ferrofs>,
    options: &Options,
    log: &Log<'_>,
) -> Result<Pin<KBox<Volume>>> {
    let position = options
        .super_block
        .map_or(OFFSET as u64, |block| u64::from(block) * SB_OPTION_UNIT);
    // The block size is not known before the super block is read: begin with the smallest that the
    // device can do.
    sb.set_min_block_size(BlockSize::MIN.bytes() as u32)
        .map_err(|_| log.invalid(fmt!("the device has no usable block size")))?;
    let device_bytes = sb.device_bytes();
    let (layout, wanted) = {
        let (buffer, offset) = read_superblock(sb, position, log)?;
        let data = buffer.data();
        let superblock = data
            .get(offset..offset + LENGTH)
            .and_then(Superblock::from_bytes)
            .ok_or_else(|| log.invalid(fmt!("the device is too small for a file system")))?;
        let layout = check(superblock, sb, device_bytes, log)?;
        (layout, layout.geometry.block_size())
    };

    sb.set_block_size(wanted.bytes() as u32).map_err(|_| {
        log.invalid(fmt!(
            "blocks of {} bytes are not possible on this device and kernel",
            wanted.bytes()
        ))
    })?;
    let (super_buffer, super_offset) = read_superblock(sb, position, log)?;
    let (resolved, was_clean) = {
        let data = super_buffer.data();
        let superblock = data
            .get(super_offset..super_offset + LENGTH)
            .and_then(Superblock::from_bytes)
            .ok_or(EINVAL)?;
        error::show_recorded(sb.id(), superblock);
        announce::recommend_check(superblock, sb.id(), sb.is_read_only());
        (options.resolve(superblock, log), superblock.is_clean())
    };
    let settings = resolved.settings;
    if options.abort {
        log.warning(fmt!("abort has no effect: it is for remounts"));
    }

    check_access(sb, &layout, &settings, log)?;
    if position != OFFSET as u64 && !sb.is_read_only() {
        return Err(log.invalid(fmt!(
            "the super block at byte {} is a copy, which is for read-only mounts; use ro",
            position
        )));
    }
    describe(sb, &layout, &settings);
    let journal = Journal::new(sb.device()?);
    let alloc = Allocator::new(sb.device()?, sb.id())?;
    Volume::new(
        layout,
        journal,
        alloc,
        super_buffer,
        super_offset,
        resolved,
        was_clean,
    )
}

/// The block that holds the super block, and where in it that begins.
fn read_superblock(
    sb: &NewSuperBlock<'_, Ferrofs>,
    position: u64,
    log: &Log<'_>,
) -> Result<(Buffer, usize)> {
    let device = sb.device()?;
    // The size of a device's buffers is a power of two.
    let size = device.buffer_size() as u64;
    let buffer = Buffer::read(&device, position >> size.trailing_zeros()).inspect_err(|_| {
        log.error(fmt!("the super block at byte {} cannot be read", position));
    })?;
    Ok((buffer, (position & (size - 1)) as usize))
}

fn check(
    superblock: &Superblock,
    sb: &NewSuperBlock<'_, Ferrofs>,
    device_bytes: u64,
    log: &Log<'_>,
) -> Result<ValidSuperblock> {
    let blocks = |size: BlockSize| device_bytes >> size.bits();
    let layout = superblock
        .validate(crc32c, blocks, &SUPPORTED, sb.is_read_only())
        .map_err(|what| {
            log.error(fmt!("{}", error::Shown(what)));
            match what {
                SuperblockError::Checksum(_) => kernel::error::code::EBADMSG,
                _ => EINVAL,
            }
        })?;
    if layout.geometry.cluster_ratio() != 1 {
        return Err(log.invalid(fmt!("clusters of several blocks are not supported yet")));
    }
    if !layout.features.incompat(Incompat::EXTENTS) {
        return Err(log.invalid(fmt!(
            "files mapped by indirect blocks (ext2, ext3) are not supported yet"
        )));
    }
    if layout.geometry.block_size().bytes() > kernel::page::PAGE_SIZE {
        return Err(log.invalid(fmt!(
            "blocks of {} bytes, larger than a page, are not supported yet",
            layout.geometry.block_size().bytes()
        )));
    }
    if let JournalLocation::External { .. } = layout.journal {
        return Err(log.invalid(fmt!("a journal on another device is not supported yet")));
    }
    Ok(layout)
}

/// Refuses what cannot be mounted in the way that is asked for, and sets the super block up.
fn check_access(
    sb: &mut NewSuperBlock<'_, Ferrofs>,
    layout: &ValidSuperblock,
    settings: &Settings,
    log: &Log<'_>,
) -> Result {
    settings.check(log)?;
    let needs_recovery = layout.features.incompat(Incompat::RECOVER);
    if settings.has(Flags::NO_LOAD) && needs_recovery && !sb.is_read_only() {
        return Err(log.invalid(fmt!(
            "the journal must be replayed before anything is written; use ro,norecovery"
        )));
    }
    if sb.device_is_read_only() {
        if needs_recovery && !settings.has(Flags::NO_LOAD) {
            log.error(fmt!(
                "the journal must be replayed but the device is read-only; use norecovery"
            ));
            return Err(EROFS);
        }
        sb.set_read_only();
    }
    if layout.read_only_revision {
        log.warning(fmt!(
            "the file system is of a later revision; mounting read-only"
        ));
        sb.set_read_only();
    }
    set_limits(sb, layout);
    sb.set_posix_acl(settings.has(Flags::ACL));
    sb.set_i_version();
    sb.set_cgroup_writeback();
    Ok(())
}

fn set_limits(sb: &mut NewSuperBlock<'_, Ferrofs>, layout: &ValidSuperblock) {
    sb.set_magic(MAGIC);
    sb.set_xattr_handlers(xattr::HANDLERS);
    sb.set_uuid(&layout.uuid);
    // Logical blocks have 32 bits, and the last number stands for "none".
    let bits = layout.geometry.block_size().bits();
    let mut max = u64::from(u32::MAX) << bits;
    if !layout.features.ro_compat(RoCompat::HUGE_FILE) {
        // The space that a file takes is counted in 32 bits, in sectors.
        max = max.min((u64::from(u32::MAX) * SECTOR_SIZE) >> bits << bits);
    }
    sb.set_max_bytes(max.min(i64::MAX as u64) as i64);
    sb.set_max_links(0);
    let (first, last) = inode::time_range(layout.geometry.inode_size());
    let granularity = if layout.geometry.inode_size() > ext4::inode::BASE_SIZE {
        1
    } else {
        1_000_000_000
    };
    sb.set_time_range(granularity, first, last);
}

fn describe(sb: &NewSuperBlock<'_, Ferrofs>, layout: &ValidSuperblock, settings: &Settings) {
    if settings.has(Flags::DEBUG) {
        pr_info!(
            "({}): {} blocks of {} bytes in {} groups, {} inodes\n",
            sb.id().to_str().unwrap_or("?"),
            layout.geometry.blocks_count().get(),
            layout.geometry.block_size().bytes(),
            layout.geometry.group_count(),
            layout.geometry.inodes_count()
        );
    }
}

/// Brings the mount to life.
pub(crate) fn start(sb: &SuperBlock) -> Result<InodeRef> {
    let volume = sb.data();
    // An earlier mount may have left blocks in memory that it found good, and that were changed since.
    sb.invalidate_device();
    // Opening the journal writes to it. What can be refused is refused before; but descriptors that a
    // replay is going to bring up to date say nothing yet.
    if !volume.layout.features.incompat(Incompat::RECOVER) {
        group::read_descriptors(sb)?;
    }
    open_journal(sb)?;
    check_unchanged(sb)?;
    volume.descriptors.load(sb)?;
    volume.alloc.load(sb)?;
    let root = inode::get(sb, InodeNumber::ROOT)?;
    if !root.is_dir() || root.nlink() == 0 {
        return Err(error::corrupt(
            sb,
            error::Place::inode(InodeNumber::ROOT),
            "the root is not a directory",
        ));
    }
    // From here on the disk is ours to write.
    if sb.is_read_only() {
        end_recovery(sb)?;
    } else {
        begin_writing(sb)?;
    }
    Ok(root)
}

/// A mount that is going to write nothing else has replayed the journal: says so in the super block, or each mount
/// would do so again.
fn end_recovery(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    let replayed = volume.layout.features.incompat(Incompat::RECOVER) && volume.journal.has_log();
    if !replayed || !volume.has_primary() {
        return Ok(());
    }
    let _empty = volume.journal.flush()?;
    volume.update_superblock(|superblock| {
        superblock.set_needs_recovery(false);
        superblock.update_checksum(crc32c);
    })
}

/// Finds the log, replays what is in it, and lets transactions begin.
fn open_journal(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    let settings = volume.settings();
    let JournalLocation::Internal(number) = volume.layout.journal else {
        return volume.journal.open_unlogged();
    };
    if settings.has(Flags::NO_LOAD) {
        return volume.journal.open_unlogged();
    }
    let inode = inode::get_journal(sb, number)?;
    let listener: Arc<dyn vfs::journal::CommitListener> = volume.alloc.commit_listener();
    // The log's own messages say what is wrong with it, and not where it is.
    let unusable = |error: &Error| {
        pr_err!(
            "({}): inode #{}: the journal cannot be opened: {:?}\n",
            sb.id().to_str().unwrap_or("?"),
            number.get(),
            error
        )
    };
    let mut recovery = Recovery::from_inode(inode, listener).inspect_err(unusable)?;
    if volume.layout.features.incompat(Incompat::RECOVER) {
        pr_info!(
            "({}): replaying the journal\n",
            sb.id().to_str().unwrap_or("?")
        );
    } else {
        recovery.wipe(!sb.is_read_only()).inspect_err(unusable)?;
    }
    let features = &volume.layout.features;
    let checksums = match settings.has(Flags::JOURNAL_CHECKSUM) {
        true if features.ro_compat(RoCompat::METADATA_CSUM) => Checksums::Blocks,
        true => Checksums::Transactions,
        false => Checksums::None,
    };
    let mut loaded = recovery
        .load(checksums, features.incompat(Incompat::SIXTY_FOUR_BIT))
        .inspect_err(unusable)?;
    let recorded = loaded.recorded_error();
    if recorded.is_err() {
        loaded.clear_error()?;
    }
    volume.journal.open(loaded)?;
    configure_journal(volume, &settings);
    if let Err(error) = volume.journal.set_io_priority(settings.io_priority) {
        pr_warn!(
            "({}): the I/O priority of the journal cannot be set: {:?}\n",
            sb.id().to_str().unwrap_or("?"),
            error
        );
    }
    if let Err(cause) = recorded {
        // The last mount gave its journal up: whatever it knew of the reason is in the super block.
        pr_warn!(
            "({}): the journal was aborted with {:?} by the last mount; running e2fsck is \
             recommended\n",
            sb.id().to_str().unwrap_or("?"),
            cause
        );
        volume.update_superblock(|superblock| {
            superblock.state = (superblock.state.get() | ext4::superblock::state::ERRORS).into();
            superblock.update_checksum(crc32c);
        })?;
    }
    Ok(())
}

/// Tells the journal of options that concern it.
pub(crate) fn configure_journal(volume: &Volume, settings: &Settings) {
    volume.journal.configure(&JournalSettings {
        commit_interval_msecs: settings.commit_interval as usize * 1000,
        min_batch_usecs: settings.min_batch,
        max_batch_usecs: settings.max_batch,
        barrier: settings.has(Flags::BARRIER),
    });
}

/// The replay may have brought another super block than the one that was checked.
fn check_unchanged(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    let checked = volume.with_superblock(|superblock| {
        let blocks = |size: BlockSize| sb.device_bytes() >> size.bits();
        superblock.validate(crc32c, blocks, &SUPPORTED, sb.is_read_only())
    })?;
    let place = error::Place::block(volume.layout.geometry.super_block());
    match checked {
        Ok(now) if now.geometry == volume.layout.geometry => Ok(()),
        Ok(_) => Err(error::corrupt(
            sb,
            place,
            "the journal holds a change of size; run e2fsck first",
        )),
        Err(what) => Err(error::corrupt(sb, place, what)),
    }
}

/// The disk is in use from now on: says so in the super block, then cleans up after the last mount.
///
/// Called at mount and when a read-only mount becomes writable.
pub(crate) fn begin_writing(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    // The last thing that may be found to be damaged before anything is written.
    crate::orphan::open(sb)?;
    volume.set_writing(true);
    volume.update_superblock(|superblock| {
        mark_in_use(volume, superblock);
        superblock.set_mtime(Timestamp::now().seconds);
        superblock.count_mount();
        // The signedness of characters in directory hashes: `char` is signed on x86.
        superblock.set_hash_signedness(false);
        superblock.update_checksum(crc32c);
    })?;
    crate::orphan::process(sb)
}

/// Has the super block say what whoever looks at the disk after a crash must do: replay the journal, or check all if
/// there is none, and look into the orphan file. Leaves the checksum to the caller.
pub(crate) fn mark_in_use(volume: &Volume, superblock: &mut Superblock) {
    let logged = volume.journal.has_log();
    if !logged {
        superblock.set_valid(false);
    }
    superblock.set_needs_recovery(logged);
    if volume.layout.orphan_file.is_some() {
        superblock.set_orphan_present(true);
    }
}

/// Nothing will be written any more: brings the disk to the state of a clean unmount.
///
/// Called at unmount, for a freeze and when a mount becomes read-only. Sleeps; not within a transaction.
pub(crate) fn end_writing(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    // Until the super block says that there is nothing to replay, nothing may get into the log.
    let _empty = volume.journal.flush()?;
    let free_blocks = volume.alloc.free_blocks();
    let free_inodes = volume.alloc.free_inodes();
    volume.update_superblock(|superblock| {
        superblock.set_free_blocks_count(free_blocks);
        superblock.set_free_inodes_count(free_inodes);
        superblock.set_needs_recovery(false);
        if volume.layout.orphan_file.is_some() && volume.orphans.is_file_empty() {
            superblock.set_orphan_present(false);
        }
        // A disk that was not clean before stays so until e2fsck has seen it; a replayed journal makes
        // it clean, which the flag then says already.
        if volume.was_clean() {
            superblock.set_valid(true);
        }
        volume.update_counts(superblock);
        superblock.set_wtime(Timestamp::now().seconds);
        superblock.update_checksum(crc32c);
    })?;
    volume.set_writing(false);
    Ok(())
}

/// Lets go of everything the mount holds. It may not have come far.
pub(crate) fn stop(sb: &SuperBlock) {
    let volume = sb.data();
    let id = sb.id().to_str().unwrap_or("?");
    let stopped = volume.state.check().is_err() || volume.journal.is_aborted();
    let was_writing = volume.is_writing();
    let closed = volume.journal.close();
    if let Err(error) = closed {
        pr_err!("({id}): the journal cannot be emptied: {error:?}\n");
    }
    // After an error the disk stays as it is, for the next mount to replay or e2fsck to repair.
    if was_writing && !stopped && closed.is_ok() {
        if let Err(error) = sb.sync_device().and_then(|()| end_writing(sb)) {
            pr_err!("({id}): the super block cannot be written: {error:?}\n");
        }
    }
}
