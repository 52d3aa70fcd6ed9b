// SPDX-License-Identifier: GPL-2.0

//! Times of inodes.
//!
//! C header: `include/linux/time64.h`.

use ferrofs_bindings as bindings;

/// A point in time: seconds since 1970 and nanoseconds into that second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp {
    /// Seconds since the epoch, negative before it.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// The time now, in the kernel's coarse clock.
    pub fn now() -> Self {
        let mut now = bindings::timespec64::default();
        // SAFETY: `now` is valid for writes.
        unsafe { bindings::ktime_get_coarse_real_ts64(&mut now) };
        now.into()
    }
}

impl From<bindings::timespec64> for Timestamp {
    fn from(time: bindings::timespec64) -> Self {
        Self {
            seconds: time.tv_sec,
            nanoseconds: time.tv_nsec as u32,
        }
    }
}

impl From<Timestamp> for bindings::timespec64 {
    fn from(time: Timestamp) -> Self {
        Self {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds as isize,
        }
    }
}
