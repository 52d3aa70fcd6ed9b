// SPDX-License-Identifier: GPL-2.0

//! Allocation of inodes.

use ext4::InodeNumber;
use kernel::prelude::*;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use crate::Inode;
use crate::SuperBlock;

pub(crate) const ALLOCATE_CREDITS: Credits = Credits::blocks(2);

/// Finds a free inode.
pub(crate) fn allocate(
    _txn: &Transaction<'_>,
    _sb: &SuperBlock,
    _dir: &Inode,
    _mode: u16,
    _name: &[u8],
) -> Result<InodeNumber> {
    Err(EOPNOTSUPP)
}
