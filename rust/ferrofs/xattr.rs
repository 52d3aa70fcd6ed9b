// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use ext4::PhysicalBlock;
use kernel::prelude::*;

/// Extended attributes of an inode in memory.
#[pin_data]
pub(crate) struct InodeState {
    block: AtomicU64,
}

impl InodeState {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            block: AtomicU64::new(0),
        })
    }

    /// The block that holds attributes.
    pub(crate) fn block(&self) -> Option<PhysicalBlock> {
        match self.block.load(Relaxed) {
            0 => None,
            block => Some(PhysicalBlock::new(block)),
        }
    }

    pub(crate) fn set_block(&self, block: Option<PhysicalBlock>) {
        self.block
            .store(block.map_or(0, PhysicalBlock::get), Relaxed);
    }
}

/// What [`release`] may change.
pub(crate) const RELEASE_CREDITS: vfs::transaction::Credits = vfs::transaction::Credits::blocks(0);

/// Gives up the block of attributes of an inode that is being deleted.
pub(crate) fn release(_txn: &vfs::transaction::Transaction<'_>, inode: &crate::Inode) -> Result {
    match inode.data().xattrs.block() {
        Some(_) => Err(EOPNOTSUPP),
        None => Ok(()),
    }
}
