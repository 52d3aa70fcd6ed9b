// SPDX-License-Identifier: GPL-2.0

//! Whether a mount may still change its disk.
//!
//! After an error that leaves the disk inconsistent nothing may be written any more, and what was written so far
//! must stay as it is for the replay of the journal. The kernel's own flag for read-only mounts does not say that:
//! it belongs to remounts, and to set it behind the back of a freeze leaves the thaw waiting for ever. So the mount
//! has a state of its own, which every operation that changes something asks for: those with a transaction by
//! [`transaction`], the others by [`check`].

use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

use kernel::prelude::*;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use crate::error;
use crate::SuperBlock;

/// The disk may be changed, as far as the mount is not read-only.
const RUNNING: u8 = 0;
/// An error was met: nothing is written any more.
const STOPPED: u8 = 1;
/// The device is gone, or was taken away by an administrator.
const SHUT_DOWN: u8 = 2;

/// The state of a mount. It never goes back.
pub(crate) struct State(AtomicU8);

impl State {
    /// Running.
    pub(crate) const fn new() -> Self {
        State(AtomicU8::new(RUNNING))
    }

    /// Whether the disk may be changed.
    ///
    /// # Errors
    ///
    /// `EROFS` after an error, `EIO` after a shutdown.
    pub(crate) fn check(&self) -> Result {
        match self.0.load(Relaxed) {
            RUNNING => Ok(()),
            STOPPED => Err(EROFS),
            _ => Err(EIO),
        }
    }

    /// Nothing may be written from now on, because of an error. Whether that is news.
    pub(crate) fn stop(&self) -> bool {
        self.0
            .compare_exchange(RUNNING, STOPPED, Relaxed, Relaxed)
            .is_ok()
    }

    /// Nothing may be written from now on, because the device is gone. Whether that is news.
    pub(crate) fn shut_down(&self) -> bool {
        self.0.swap(SHUT_DOWN, Relaxed) != SHUT_DOWN
    }

    /// What `/proc/mounts` shows of it.
    pub(crate) fn shown(&self) -> Option<&'static str> {
        match self.0.load(Relaxed) {
            RUNNING => None,
            STOPPED => Some("emergency_ro"),
            _ => Some("shutdown"),
        }
    }
}

/// Whether the disk of `sb` may be changed. Finds out if the journal has given up, and then does what an error
/// calls for. Sleeps.
///
/// # Errors
///
/// `EROFS` after an error, `EIO` after a shutdown.
pub(crate) fn check(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    volume.state.check()?;
    if volume.journal.is_aborted() {
        error::journal_aborted(sb);
        return Err(EROFS);
    }
    Ok(())
}

/// Starts a transaction, or joins that of this task: see [`vfs::journal::Journal::start`]. Sleeps.
///
/// # Errors
///
/// Those of [`check`]. Not `ENOMEM`: it waits until there is memory.
pub(crate) fn transaction(sb: &SuperBlock, credits: Credits) -> Result<Transaction<'_>> {
    check(sb)?;
    sb.data().journal.start(credits)
}
