// SPDX-License-Identifier: GPL-2.0

//! The map of a file: which blocks hold its contents.

use ext4::inode::BLOCK_LENGTH;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::SpinLock;

use crate::extent_status::Run;
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

/// Where `block` is. The run contains it, and goes on for up to `count` blocks behind it. Sleeps.
pub(crate) fn lookup(_inode: &Inode, _block: u32, _count: u32) -> Result<Run> {
    Err(EOPNOTSUPP)
}

/// Where `block` is, if that is known in memory. Does not sleep.
pub(crate) fn lookup_cached(_inode: &Inode, _block: u32) -> Option<Run> {
    None
}

/// Promises space for those of `count` blocks from `block` on that have none; they are delayed then.
/// Called with a folio locked. Sleeps.
pub(crate) fn reserve(_inode: &Inode, _block: u32, _count: u32) -> Result {
    Err(EOPNOTSUPP)
}

/// Gives up the promise for those of `count` blocks from `block` on that are delayed. Sleeps.
pub(crate) fn release(_inode: &Inode, _block: u32, _count: u32) -> Result {
    Err(EOPNOTSUPP)
}

/// Finds a place on the disk for the delayed blocks around `block`, at least for it, and for `count` of
/// them if it can. Returns the run that contains `block`, not written. Opens its own transaction. Sleeps.
pub(crate) fn allocate(_inode: &Inode, _block: u32, _count: u32) -> Result<Run> {
    Err(EOPNOTSUPP)
}

/// Marks `count` blocks from `block` on as written, and moves the size on disk up to `disk_size`. Opens its
/// own transaction. Sleeps.
pub(crate) fn convert(_inode: &Inode, _block: u32, _count: u32, _disk_size: Option<u64>) -> Result {
    Err(EOPNOTSUPP)
}

/// A number that changes whenever a block of the file gets another place or state.
pub(crate) fn sequence(_inode: &Inode) -> u64 {
    0
}
