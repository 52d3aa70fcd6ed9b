// SPDX-License-Identifier: GPL-2.0

//! What the kernel asks of a whole mount while it lives.

use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::seq_print;
use vfs::context::Log;
use vfs::super_block::StatFs;

use crate::checksum::crc32c;
use crate::flush;
use crate::mount;
use crate::mount::SUPPORTED;
use crate::options::Flags;
use crate::options::Options;
use crate::state;
use crate::SuperBlock;

/// The longest file name in bytes.
const NAME_LENGTH: u32 = 255;

/// Counts blocks and inodes.
pub(crate) fn statfs(sb: &SuperBlock) -> Result<StatFs> {
    let volume = sb.data();
    let geometry = &volume.layout.geometry;
    let settings = volume.settings();
    let reserved = volume.with_superblock(|superblock| superblock.reserved_blocks_count())?;
    // What is reserved for delayed allocation is as good as taken.
    let free = volume.alloc.unreserved_blocks();
    let overhead = if settings.has(Flags::MINIX_DF) {
        0
    } else {
        volume.overhead()
    };
    let uuid = u128::from_le_bytes(volume.layout.uuid);
    Ok(StatFs {
        magic: mount::MAGIC,
        block_size: geometry.block_size().bytes() as u32,
        blocks: geometry.blocks_count().get().saturating_sub(overhead),
        free,
        // Nobody gets what the maps of files may need.
        available: free.saturating_sub(reserved.saturating_add(volume.alloc.pool_blocks())),
        files: geometry.inodes_count().into(),
        free_files: volume.alloc.free_inodes().into(),
        name_length: NAME_LENGTH,
        id: (uuid >> 64) as u64 ^ uuid as u64,
    })
}

/// Brings all metadata to the device. Inodes and their data were written before.
pub(crate) fn sync(sb: &SuperBlock, wait: bool) -> Result {
    let volume = sb.data();
    volume.conversions.flush();
    state::check(sb)?;
    let begun = volume.flushes.now();
    // Asked before the commit is started: it may be over soon.
    let flushes = volume.journal.will_flush(volume.journal.latest_tid());
    let commit = volume.journal.start_commit();
    if !wait {
        return Ok(());
    }
    if let Some(tid) = commit {
        volume.journal.wait_commit(tid)?;
        if flushes {
            volume.flushes.flushed(begun);
        }
    } else if !volume.journal.has_log() {
        return flush::sync_all_unlogged(sb);
    }
    flush::flush_all(sb)
}

/// Makes the disk look as after a clean unmount, so that a snapshot of it needs no replay.
pub(crate) fn freeze(sb: &SuperBlock) -> Result {
    if sb.is_read_only() {
        return Ok(());
    }
    let volume = sb.data();
    volume.conversions.flush();
    state::check(sb)?;
    mount::end_writing(sb)
}

/// The disk is in use again.
pub(crate) fn unfreeze(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    if sb.is_read_only() || volume.state.check().is_err() {
        return Ok(());
    }
    volume.set_writing(true);
    volume.update_superblock(|superblock| {
        mount::mark_in_use(volume, superblock);
        superblock.update_checksum(crc32c);
    })
}

/// Prints the options that differ from what the super block asks for.
pub(crate) fn show_options(sb: &SuperBlock, out: &SeqFile) -> Result {
    let volume = sb.data();
    volume.settings().show(&volume.defaults, out);
    if let Some(state) = volume.state.shown() {
        seq_print!(out, ",{}", state);
    }
    Ok(())
}

/// Applies options to a live mount, and makes it read-only or writable.
pub(crate) fn reconfigure(
    sb: &SuperBlock,
    options: &Options,
    read_only: bool,
    log: &Log<'_>,
) -> Result {
    let volume = sb.data();
    let old = volume.settings();
    let mut new = options.apply(old);
    if new.has(Flags::NO_LOAD) != old.has(Flags::NO_LOAD) {
        return Err(log.invalid(fmt!("norecovery cannot be changed by a remount")));
    }
    if options.super_block.is_some() {
        log.warning(fmt!("sb has no effect: the super block was read already"));
    }
    if new.has(Flags::JOURNAL_CHECKSUM) != old.has(Flags::JOURNAL_CHECKSUM) {
        log.warning(fmt!(
            "journal_checksum has no effect: it cannot be changed by a remount"
        ));
        new.keep(Flags::JOURNAL_CHECKSUM, &old);
    }
    new.check(log)?;
    if options.abort {
        give_up(sb, log)?;
    }
    if new.io_priority != old.io_priority {
        volume.journal.set_io_priority(new.io_priority)?;
    }
    if read_only && !sb.is_read_only() {
        become_read_only(sb)?;
    } else if !read_only && sb.is_read_only() {
        become_writable(sb, log)?;
    }
    volume.set_settings(new);
    volume.alloc.settings_changed(sb);
    sb.set_posix_acl(new.has(Flags::ACL));
    mount::configure_journal(volume, &new);
    Ok(())
}

/// Does what the option `abort` asks for: the journal is given up as after an error, for tests.
fn give_up(sb: &SuperBlock, log: &Log<'_>) -> Result {
    let journal = &sb.data().journal;
    if !journal.has_log() {
        return Err(log.invalid(fmt!("abort: there is no journal")));
    }
    journal.abort(EIO);
    // Finds that, says so, and sees to it that nothing is written any more.
    match state::check(sb) {
        Ok(()) => Err(EINVAL),
        Err(_) => Ok(()),
    }
}

/// Everything was written by the kernel before this is called, and no writer is left.
fn become_read_only(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    volume.conversions.flush();
    if state::check(sb).is_err() {
        // The log must stay for the next mount to replay.
        return Ok(());
    }
    if !volume.journal.has_log() {
        sb.sync_device()?;
    }
    mount::end_writing(sb)
}

fn become_writable(sb: &SuperBlock, log: &Log<'_>) -> Result {
    let volume = sb.data();
    if state::check(sb).is_err() {
        log.error(fmt!(
            "the file system has met an error: unmount it and run e2fsck"
        ));
        return Err(EROFS);
    }
    if sb.device_is_read_only() {
        log.error(fmt!("the device is read-only"));
        return Err(EROFS);
    }
    if volume.settings().has(Flags::NO_LOAD) {
        return Err(log.invalid(fmt!(
            "mounted with norecovery: unmount it to mount it for writing"
        )));
    }
    if !volume.has_primary() {
        return Err(log.invalid(fmt!(
            "mounted with a copy of the super block: unmount it to mount it for writing"
        )));
    }
    if volume.layout.read_only_revision {
        log.error(fmt!("the file system is of a later revision"));
        return Err(EROFS);
    }
    SUPPORTED
        .check(&volume.layout.features, false)
        .map_err(|what| {
            log.error(fmt!("{}", crate::error::Shown(what)));
            EROFS
        })?;
    mount::begin_writing(sb)
}

/// The device is gone: nothing more can be written, and what was not is lost.
pub(crate) fn shutdown(sb: &SuperBlock) {
    let volume = sb.data();
    if volume.state.shut_down() {
        pr_crit!(
            "({}): the device is gone, shutting down\n",
            sb.id().to_str().unwrap_or("?")
        );
        volume.journal.abort(EIO);
    }
}
