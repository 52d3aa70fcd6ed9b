// SPDX-License-Identifier: GPL-2.0

//! Allocation of blocks and inodes.

use kernel::prelude::*;
use kernel::sync::Arc;
use vfs::journal::CommitListener;
use vfs::journal::Tid;

use crate::SuperBlock;

pub(crate) mod inodes;

struct Listener;

impl CommitListener for Listener {
    fn committed(&self, _tid: Tid) {}
}

/// What is free, group by group.
#[pin_data]
pub(crate) struct Allocator {
    listener: Arc<Listener>,
}

impl Allocator {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            listener: Arc::new(Listener, GFP_KERNEL)?,
        })
    }

    /// Reads the descriptors.
    pub(crate) fn load(&self, _sb: &SuperBlock) -> Result {
        Ok(())
    }

    /// No more allocations.
    pub(crate) fn stop(&self) {}

    pub(crate) fn commit_listener(&self) -> Arc<dyn CommitListener> {
        self.listener.clone()
    }

    pub(crate) fn free_blocks(&self) -> u64 {
        0
    }

    pub(crate) fn unreserved_blocks(&self) -> u64 {
        0
    }

    pub(crate) fn free_inodes(&self) -> u32 {
        0
    }
}
