// SPDX-License-Identifier: GPL-2.0

//! Changing the size of a file.

use kernel::prelude::*;

use crate::inode;
use crate::state;
use crate::truncate;
use crate::write;
use crate::Inode;

/// Makes the file `size` bytes long. Called with the inode's lock held exclusively and no transaction
/// open. Sleeps.
///
/// # Errors
///
/// `EFBIG` if the format has no such size. When the disk fails half way, the size is the new one and some
/// blocks may stay with the file until it is deleted or `e2fsck` is run.
pub(crate) fn set_size(inode: &Inode, size: u64) -> Result {
    if size > inode.sb().max_bytes() {
        return Err(EFBIG);
    }
    // A direct write in flight must not write to blocks that are freed.
    inode.wait_for_direct_io();
    let old = inode.size();
    // The size on disk is going to move. Where data has yet to be written, it must not get ahead of that: after a
    // crash the file would have zeroes which nobody has written.
    inode.write_and_wait_range(inode.data().disk_size(), size.min(old))?;
    if size > old {
        grow(inode, old, size)
    } else {
        shrink(inode, old, size)
    }
}

fn grow(inode: &Inode, old: u64, size: u64) -> Result {
    write::zero_to_block_end(inode, old)?;
    inode.set_size(size);
    inode.page_cache_extended(old, size);
    let txn = state::transaction(inode.sb(), inode::UPDATE_CREDITS)?;
    inode.data().grow_disk_size(size);
    inode.data().note_data_change(txn.tid());
    inode::update(&txn, inode)?;
    txn.stop()
}

fn shrink(inode: &Inode, old: u64, size: u64) -> Result {
    // Keeps page faults and reads from bringing back what goes.
    let _cache = inode.lock_page_cache();
    if size < old {
        write::zero_partial_block(inode, size)?;
        inode.set_size(size);
        if size == 0 {
            inode.data().io.set_replaced();
        }
    }
    // Waits for writeback, and with it for conversions, of what lies behind the new end: none of them can
    // move the size on disk back up after it has been moved down.
    inode.truncate_page_cache(size);
    // Also when the size stays: blocks may lie behind it that were preallocated.
    truncate::truncate(inode, size)
}
