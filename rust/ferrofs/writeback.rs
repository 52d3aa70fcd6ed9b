// SPDX-License-Identifier: GPL-2.0

//! Writeback.

use kernel::prelude::*;

/// Data of an inode that is on its way to the disk.
#[pin_data]
pub(crate) struct InodeState {}

impl InodeState {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {})
    }

    /// Waits until no end of I/O refers to the inode.
    pub(crate) fn wait_until_idle(&self) {}
}

/// Ends of I/O that wait for their extents to be converted.
#[pin_data]
pub(crate) struct Conversions {}

impl Conversions {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {})
    }

    /// Waits until those that wait now are done.
    pub(crate) fn flush(&self) {}
}
