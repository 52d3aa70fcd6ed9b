// SPDX-License-Identifier: GPL-2.0

//! What happens when the disk turns out to be damaged.
//!
//! [`corrupt`] is the one way to say so: it tells the user what is wrong and where, records it in the
//! super block, where `e2fsck` and the next mount see it, and does what `errors=` asks for.

use core::fmt::Display;
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

use ext4::superblock::ErrorCode;
use ext4::superblock::ErrorRecord;
use ext4::superblock::OnError;
use ext4::superblock::Superblock;
use ext4::InodeNumber;
use ext4::PhysicalBlock;
use kernel::error::code::EIO;
use kernel::error::Error;
use kernel::prelude::*;
use vfs::time::Timestamp;

use crate::checksum::crc32c;
use crate::Inode;
use crate::SuperBlock;

/// The structure needs cleaning: what ext4 answers when it finds damage (`EFSCORRUPTED`).
pub(crate) const EFSCORRUPTED: Error = kernel::error::code::EUCLEAN;

/// Who is said to have been silent when there were too many messages.
const LOG_NAME: &CStr = c"ferrofs";

/// Where something is wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    /// The inode concerned, if it is known.
    pub(crate) inode: Option<InodeNumber>,
    /// The block concerned, if it is known.
    pub(crate) block: Option<PhysicalBlock>,
}

impl Place {
    /// In an inode.
    pub(crate) const fn inode(inode: InodeNumber) -> Self {
        Self {
            inode: Some(inode),
            block: None,
        }
    }

    /// In a block.
    pub(crate) const fn block(block: PhysicalBlock) -> Self {
        Self {
            inode: None,
            block: Some(block),
        }
    }

    /// In a block that belongs to an inode.
    pub(crate) const fn both(inode: InodeNumber, block: PhysicalBlock) -> Self {
        Self {
            inode: Some(inode),
            block: Some(block),
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if let Some(inode) = self.inode {
            write!(f, "inode #{}: ", inode.get())?;
        }
        if let Some(block) = self.block {
            write!(f, "block {}: ", block.get())?;
        }
        Ok(())
    }
}

/// Lets the kernel's formatting show what `core` can.
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: Display> kernel::fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// Reports damage; returns `EFSCORRUPTED` for the operation that met it.
///
/// Sleeps. No spinlock and no contents of the super block's buffer may be held.
#[track_caller]
pub(crate) fn corrupt(sb: &SuperBlock, place: Place, what: impl Display) -> Error {
    report(sb, place, ErrorCode::Efscorrupted, what, false);
    EFSCORRUPTED
}

/// Reports that the device failed where that leaves the file system inconsistent; returns `EIO`.
///
/// The context is as for [`corrupt`].
#[track_caller]
pub(crate) fn io_failed(sb: &SuperBlock, place: Place, what: impl Display) -> Error {
    report(sb, place, ErrorCode::Eio, what, false);
    EIO
}

/// Reports that `bytes` of a file could not be written. Whoever syncs the file is told; this is for the log, which is
/// spared when it happens often. Any context.
pub(crate) fn data_lost(inode: &Inode, bytes: Range<u64>, cause: Error) {
    let sb = inode.sb();
    if sb.data().losses.allows(LOG_NAME) {
        pr_err!(
            "({}): inode #{}: data lost, bytes {} to {} cannot be written: {:?}\n",
            sb.id().to_str().unwrap_or("?"),
            inode.ino(),
            bytes.start,
            bytes.end,
            cause
        );
    }
}

/// Reports, once, that the journal has given up behind our back, mostly because it could not be written. There is no
/// going on from there, whatever `errors=` says, but for `panic`.
///
/// The context is as for [`corrupt`].
#[track_caller]
pub(crate) fn journal_aborted(sb: &SuperBlock) {
    let what = "the journal was aborted";
    report(sb, Place::default(), ErrorCode::Eio, what, true);
}

#[track_caller]
fn report(sb: &SuperBlock, place: Place, code: ErrorCode, what: impl Display, must_stop: bool) {
    let caller = core::panic::Location::caller();
    let volume = sb.data();
    let on_error = volume.settings().on_error;
    let stops = must_stop || on_error != OnError::Continue;
    // First of all, so that nobody mistakes the end of the journal for another error.
    let news = stops && volume.state.stop();
    if must_stop && !news {
        return;
    }
    // A program that tries again and again must not flood the log, nor keep the disk busy with records.
    if !news && !volume.reports.allows(LOG_NAME) {
        volume.unreported.fetch_add(1, Relaxed);
        return;
    }

    pr_crit!(
        "({}): error at {}:{}: {}{}\n",
        sb.id().to_str().unwrap_or("?"),
        file_name(caller.file()),
        caller.line(),
        Shown(place),
        Shown(what)
    );

    // A mount that writes nothing leaves no record either, nor does one that is being refused: what it
    // found is still as it was.
    if volume.is_writing() {
        let record = ErrorRecord {
            time: Timestamp::now().seconds,
            inode: place.inode,
            block: place.block.unwrap_or(PhysicalBlock::ZERO),
            function: file_name(caller.file()).as_bytes(),
            line: caller.line(),
            code: code as u8,
        };
        if stops {
            volume.journal.abort(EIO);
        }
        if let Err(error) = volume.update_superblock(|superblock| {
            superblock.record_error(&record);
            volume.update_counts(superblock);
            superblock.update_checksum(crc32c);
        }) {
            pr_crit!(
                "({}): the error cannot be recorded in the super block: {:?}\n",
                sb.id().to_str().unwrap_or("?"),
                error
            );
        }
    }

    if on_error == OnError::Panic {
        sb.panic_after_error();
    }
    if news {
        pr_crit!(
            "({}): remounting read-only; run e2fsck\n",
            sb.id().to_str().unwrap_or("?")
        );
    }
}

/// The last component of a source path: what fits the 32 bytes that the super block has for it.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Says at mount what errors the super block remembers.
pub(crate) fn show_recorded(id: &CStr, superblock: &Superblock) {
    let id = id.to_str().unwrap_or("?");
    for (when, record) in [
        ("first", superblock.first_error()),
        ("last", superblock.last_error()),
    ] {
        if let Some(record) = record {
            pr_notice!(
                "({}): {} error at time {}: {}:{}: inode {}: block {}\n",
                id,
                when,
                record.time,
                core::str::from_utf8(record.function)
                    .unwrap_or("?")
                    .trim_end_matches('\0'),
                record.line,
                record.inode.map_or(0, InodeNumber::get),
                record.block.get()
            );
        }
    }
}
