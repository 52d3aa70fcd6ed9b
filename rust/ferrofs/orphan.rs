// SPDX-License-Identifier: GPL-2.0

//! Orphans: inodes without links whose storage must be freed even after a crash.

use kernel::prelude::*;

use crate::SuperBlock;

/// The orphans of a mount.
#[pin_data]
pub(crate) struct Orphans {}

impl Orphans {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {})
    }
}

/// Finishes what the last mount could not.
pub(crate) fn process(_sb: &SuperBlock) -> Result {
    Ok(())
}
