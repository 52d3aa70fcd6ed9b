// SPDX-License-Identifier: GPL-2.0

//! The clock that files get their times from, which goes on by ticks.

use rustix::time::clock_gettime;
use rustix::time::ClockId;
use std::time::Duration;

/// Waits until what is changed from now on gets another time than what was changed before.
///
/// A sleep of some ticks does not do for that: one processor of a guest has the clock go on, and on a busy host that one
/// may stand still while the others work.
pub fn next_tick() {
    let now = || {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        (time.tv_sec, time.tv_nsec)
    };
    let before = now();
    while now() == before {
        std::thread::sleep(Duration::from_millis(1));
    }
}
