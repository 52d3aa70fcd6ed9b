// SPDX-License-Identifier: GPL-2.0

//! Which operations an inode has, by its type.

use vfs::inode::NewInode;

use crate::Ferrofs;

/// Gives an inode, whose mode is set, the operations of its type.
pub(crate) fn set(_inode: &mut NewInode<Ferrofs>, _fast_symlink: bool) {}
