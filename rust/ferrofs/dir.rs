// SPDX-License-Identifier: GPL-2.0

//! Directories.

use kernel::prelude::*;

/// What is kept of a directory in memory.
#[pin_data]
pub(crate) struct InodeState {}

impl InodeState {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {})
    }
}
