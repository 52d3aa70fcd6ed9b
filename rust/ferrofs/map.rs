// SPDX-License-Identifier: GPL-2.0

//! The map of a file: which blocks hold its contents.

use ext4::inode::BLOCK_LENGTH;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::SpinLock;

use crate::Inode;

/// The map of an inode in memory.
#[pin_data]
pub(crate) struct MapState {
    #[pin]
    root: SpinLock<[u8; BLOCK_LENGTH]>,
}

impl MapState {
    /// The map of an inode of which nothing is known yet.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            root <- new_spinlock!([0; BLOCK_LENGTH]),
        })
    }

    /// The root of the tree as it is to be stored in the inode. Takes a spinlock only.
    pub(crate) fn root(&self) -> [u8; BLOCK_LENGTH] {
        *self.root.lock()
    }

    /// Takes over the root of an inode that was read, after checking it.
    pub(crate) fn load(&self, _inode: &Inode, root: &[u8; BLOCK_LENGTH]) -> Result {
        *self.root.lock() = *root;
        Ok(())
    }

    /// Makes the map of a new inode: empty.
    pub(crate) fn init_empty(&self) {}
}
