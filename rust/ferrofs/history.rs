// SPDX-License-Identifier: GPL-2.0

//! What the super block tells an administrator of the life of a disk: where it was mounted last, and how much was
//! written to it since it was made. `dumpe2fs -h` shows both.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use ext4::superblock::Superblock;
use kernel::prelude::*;
use vfs::block_device::BlockDevice;
use vfs::block_device::SECTOR_SIZE;
use vfs::file::Opening;
use vfs::transaction::Credits;

use crate::checksum::crc32c;
use crate::state;
use crate::SuperBlock;

/// The sectors in a kilobyte.
const SECTORS_PER_KBYTE: u64 = 1024 / SECTOR_SIZE;

/// The room that the super block has for a path, in bytes, the NUL behind it included.
const PATH_LENGTH: usize = 64;

/// What of it the super block does not know yet.
pub(crate) struct History {
    /// Whether this mount has noted where it is, or has found that it cannot.
    mount_point: AtomicBool,
    /// Up to this count of sectors, of those that the kernel counts for the device, writes are in the super block.
    sectors: AtomicU64,
}

impl History {
    /// A mount begins: what is written to `device` from now on belongs to it.
    pub(crate) fn new(device: &BlockDevice) -> Self {
        History {
            mount_point: AtomicBool::new(false),
            sectors: AtomicU64::new(device.sectors_written()),
        }
    }

    /// Adds to `superblock` what was written to `device` since the last call.
    pub(crate) fn count_written(&self, device: &BlockDevice, superblock: &mut Superblock) {
        let now = device.sectors_written();
        let before = self.sectors.load(Relaxed);
        let kbytes = now.saturating_sub(before) / SECTORS_PER_KBYTE;
        // The half of a kilobyte is left for the next time. Callers have the super block to themselves.
        let counted = before.saturating_add(kbytes.saturating_mul(SECTORS_PER_KBYTE));
        self.sectors.store(counted, Relaxed);
        let total = superblock.kbytes_written.get().saturating_add(kbytes);
        superblock.set_kbytes_written(total);
    }
}

/// Notes at the first opening of a file where the file system is mounted: a mount is made before it has a place.
/// Sleeps.
///
/// # Errors
///
/// Those of the journal.
pub(crate) fn note_mount_point(sb: &SuperBlock, file: &Opening<'_>) -> Result {
    let volume = sb.data();
    let noted = &volume.history.mount_point;
    // Most find no more than this.
    if noted.load(Relaxed) || sb.is_read_only() || volume.state.check().is_err() {
        return Ok(());
    }
    // Whoever opens a file to read it must not wait for a thaw.
    let Some(_not_frozen) = sb.try_protect_from_freeze() else {
        return Ok(());
    };
    if noted.swap(true, Relaxed) {
        return Ok(());
    }
    let mut buffer = [0; PATH_LENGTH];
    let Ok(path) = file.mount_point(&mut buffer) else {
        // It is too long for the super block.
        return Ok(());
    };
    // The block of the super block.
    let txn = state::transaction(sb, Credits::blocks(1))?;
    volume.write_superblock(&txn, |superblock| {
        superblock.set_last_mounted(path);
        superblock.update_checksum(crc32c);
    })?;
    txn.stop()
}
