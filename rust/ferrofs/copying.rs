// SPDX-License-Identifier: GPL-2.0

//! Writes that are being copied into the page cache, for those who read there at the same time.
//!
//! Readers take no lock: of two tasks that copy to and from the same folio at the same time, the reader may get
//! something of both states. A sequence count per inode tells it: the count is odd from the moment at which a
//! write has got its folio until all that it has for this folio was copied. A reader that finds the count
//! odd, or another one after it has copied, forgets what it has and reads again with the inode's lock held
//! shared, which keeps writers out.
//!
//! So of what a write changes in one folio, a read sees all or nothing. Readers of a file that nobody writes
//! to pay two loads for it. What mappings store, and what `splice(2)` lends of the page cache, is not covered.

use core::sync::atomic::fence;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Acquire;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::Ordering::Release;

/// What an inode keeps for it. Changed with the inode's lock held exclusively only.
pub(crate) struct InodeState {
    /// Odd while a write is copied.
    sequence: AtomicU64,
    /// The position at which the write's part of its folio ends, if the first attempt to copy it was cut
    /// short, and 0 if not.
    end: AtomicU64,
}

/// A moment at which no write was being copied.
#[derive(Clone, Copy)]
pub(crate) struct Moment(u64);

impl InodeState {
    /// No write is being copied.
    pub(crate) const fn new() -> Self {
        InodeState {
            sequence: AtomicU64::new(0),
            end: AtomicU64::new(0),
        }
    }

    /// A write has its folio and is about to be copied into it.
    pub(crate) fn begin(&self) {
        let sequence = self.sequence.load(Relaxed);
        if sequence & 1 == 0 {
            self.sequence.store(sequence.wrapping_add(1), Relaxed);
            // Whoever reads a byte of what is copied now finds the count odd, or a later one, afterwards.
            fence(Release);
        }
    }

    /// A write was copied up to the position `reached`, and asked for a copy up to `asked` in this folio.
    /// Unless that was all, the write goes on where it stopped, in the same folio.
    pub(crate) fn copied(&self, reached: u64, asked: u64) {
        if self.sequence.load(Relaxed) & 1 == 0 {
            return;
        }
        let end = self.end.load(Relaxed).max(asked);
        if reached < end {
            self.end.store(end, Relaxed);
        } else {
            self.finish();
        }
    }

    /// A write goes on no more, or has all it wanted of its folio.
    pub(crate) fn finish(&self) {
        let sequence = self.sequence.load(Relaxed);
        if sequence & 1 != 0 {
            self.end.store(0, Relaxed);
            self.sequence.store(sequence.wrapping_add(1), Release);
        }
    }

    /// This moment, if no write is being copied.
    pub(crate) fn quiet(&self) -> Option<Moment> {
        let sequence = self.sequence.load(Acquire);
        (sequence & 1 == 0).then_some(Moment(sequence))
    }

    /// Whether no write was copied between `moment` and now. Reads that come before this are not moved
    /// behind it.
    pub(crate) fn quiet_since(&self, moment: Moment) -> bool {
        fence(Acquire);
        self.sequence.load(Relaxed) == moment.0
    }
}
