// SPDX-License-Identifier: GPL-2.0

//! What the kernel log tells of mounts: that they begin and end, and when the disk wants a check.

use core::sync::atomic::Ordering::Relaxed;

use ext4::features::Compat;
use ext4::superblock::state;
use ext4::superblock::DueCheck;
use ext4::superblock::Superblock;
use kernel::fmt;
use kernel::prelude::*;
use vfs::time::Timestamp;

use crate::SuperBlock;

/// A uuid in its usual form.
struct Uuid([u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Recommends a check of a disk that is about to be mounted, where its super block gives reason to. One that is only
/// read gets a reason for a check from its state, not from how long ago the last one was.
pub(crate) fn recommend_check(superblock: &Superblock, id: &CStr, read_only: bool) {
    let logged = superblock.features().compat(Compat::HAS_JOURNAL);
    let reason = if !superblock.is_clean() && !logged {
        "not unmounted cleanly and without a journal"
    } else if superblock.state.get() & state::ERRORS != 0 {
        "errors were recorded"
    } else if read_only {
        return;
    } else {
        match superblock.due_check(Timestamp::now().seconds) {
            Some(DueCheck::MountCount) => "the count of mounts is at its maximum",
            Some(DueCheck::Interval) => "the last check was too long ago",
            None => return,
        }
    };
    let id = id.to_str().unwrap_or("?");
    pr_warn!("({}): {}; running e2fsck is recommended\n", id, reason);
}

/// A mount has come to life.
pub(crate) fn mounted(sb: &SuperBlock) {
    let volume = sb.data();
    volume.announced.store(true, Relaxed);
    pr_info!(
        "({}): mounted {}, {}, {}\n",
        sb.id().to_str().unwrap_or("?"),
        Uuid(volume.layout.uuid),
        if sb.is_read_only() {
            "read-only"
        } else {
            "read-write"
        },
        if volume.journal.has_log() {
            "with its journal"
        } else {
            "without a journal"
        }
    );
}

/// A mount ends, if it ever began.
pub(crate) fn unmounted(sb: &SuperBlock) {
    let volume = sb.data();
    if volume.announced.load(Relaxed) {
        pr_info!(
            "({}): unmounted {}\n",
            sb.id().to_str().unwrap_or("?"),
            Uuid(volume.layout.uuid)
        );
    }
}
