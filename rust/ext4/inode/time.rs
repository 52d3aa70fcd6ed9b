// SPDX-License-Identifier: GPL-2.0

//! Times in inodes.
//!
//! A time is a signed 32-bit number of seconds since 1970, and in inodes with room for it 32 bits more:
//!
//! ```text
//! 31                          2 1 0
//! |        nanoseconds         | epoch |
//! ```
//!
//! The epoch is added to the seconds as bits 32 and 33. So the range is from 1901, which is epoch 0
//! and a negative number, up to the year 2446, which is epoch 3 and a positive one:
//!
//! ```text
//! 1901-12-13  base 0x80000000  epoch 0
//! 2038-01-19  base 0x7fffffff  epoch 0
//! 2038-01-19  base 0x80000000  epoch 1    one second later: -2^31 + 2^32
//! 2446-05-10  base 0x7fffffff  epoch 3
//! ```

/// A point in time, in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after that, below 10^9.
    pub nanos: u32,
}

const EPOCH_BITS: u32 = 2;
const EPOCH_MASK: u32 = 0x3;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

impl Timestamp {
    /// The earliest time that an inode can hold.
    pub const MIN_SECONDS: i64 = i32::MIN as i64;
    /// The latest time that an inode can hold which has room for nanoseconds and epoch.
    pub const MAX_SECONDS: i64 = (3 << 32) + i32::MAX as i64;
    /// The latest time that an inode of 128 bytes can hold.
    pub const MAX_SECONDS_SHORT: i64 = i32::MAX as i64;

    /// Reads a time. `extra` is the second word, if the inode has it.
    ///
    /// The word has room for more nanoseconds than a second has. Such a value is not a time; it is
    /// taken as the last nanosecond of its second.
    pub const fn decode(base: u32, extra: Option<u32>) -> Self {
        let base = base as i32 as i64;
        match extra {
            None => Self {
                seconds: base,
                nanos: 0,
            },
            Some(extra) => {
                let nanos = extra >> EPOCH_BITS;
                Self {
                    seconds: base + (((extra & EPOCH_MASK) as i64) << 32),
                    nanos: if nanos < NANOS_PER_SECOND {
                        nanos
                    } else {
                        NANOS_PER_SECOND - 1
                    },
                }
            }
        }
    }

    /// The two words of a time. What is out of range becomes the first or the last second.
    pub fn encode(self) -> (u32, u32) {
        let seconds = self.seconds.clamp(Self::MIN_SECONDS, Self::MAX_SECONDS);
        // The lower half as a signed number, so the rest is a multiple of 2^32, from 0 to 3.
        let base = seconds as i32;
        let epoch = ((seconds - i64::from(base)) >> 32) as u32 & EPOCH_MASK;
        let nanos = if seconds == self.seconds {
            self.nanos.min(NANOS_PER_SECOND - 1)
        } else {
            0
        };
        (base as u32, nanos << EPOCH_BITS | epoch)
    }

    /// The only word of a time in an inode of 128 bytes. What is out of range becomes the first or the
    /// last second.
    pub fn encode_short(self) -> u32 {
        self.seconds
            .clamp(Self::MIN_SECONDS, Self::MAX_SECONDS_SHORT) as i32 as u32
    }
}
