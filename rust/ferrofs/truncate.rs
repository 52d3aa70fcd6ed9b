// SPDX-License-Identifier: GPL-2.0

//! Freeing the contents of files.

use kernel::prelude::*;

use crate::Inode;

/// Frees an inode without links and all its storage.
pub(crate) fn delete(_inode: &Inode) -> Result {
    Err(EOPNOTSUPP)
}
