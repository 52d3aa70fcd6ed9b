// SPDX-License-Identifier: GPL-2.0

//! Freeing the contents of files.

use kernel::prelude::*;

use crate::Inode;

/// Frees an inode without links and all its storage.
pub(crate) fn delete(_inode: &Inode) -> Result {
    Err(EOPNOTSUPP)
}

/// Frees what a file has behind byte `size`, which is its size in memory already, and makes that its size
/// on disk. Called with the inode's lock and `invalidate_lock` held, and no folio behind `size`. Sleeps.
pub(crate) fn truncate(_inode: &Inode, _size: u64) -> Result {
    Err(EOPNOTSUPP)
}
