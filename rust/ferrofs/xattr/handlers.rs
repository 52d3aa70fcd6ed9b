// SPDX-License-Identifier: GPL-2.0

//! Which attributes a user can get and set by name.
//!
//! POSIX ACLs are not among them: see [`crate::acl`].

use ext4::xattr::NameIndex;
use kernel::error::code::EOPNOTSUPP;
use kernel::prelude::*;
use vfs::dentry::Dentry;
use vfs::idmap::IdMap;
use vfs::ioctl::capable;
use vfs::xattr::Handler;
use vfs::xattr::HandlerRef;
use vfs::xattr::Handlers;
use vfs::xattr::SetMode;
use vfs::xattr::ValueBuffer;

use super::checked_name;
use super::CAP_SYS_ADMIN;
use crate::options::Flags;
use crate::Ferrofs;
use crate::Inode;

static TABLE: [HandlerRef<Ferrofs>; 4] = [
    HandlerRef::new::<User>(),
    HandlerRef::new::<Trusted>(),
    HandlerRef::new::<Security>(),
    HandlerRef::END,
];

/// The handlers of all attributes that have a name.
pub(crate) const HANDLERS: Handlers<Ferrofs> = Handlers::new(&TABLE);

/// `user.`: whatever the users of a file want to keep with it.
struct User;

fn check_user(sb: &crate::SuperBlock) -> Result {
    if sb.data().settings().has(Flags::USER_XATTR) {
        Ok(())
    } else {
        Err(EOPNOTSUPP)
    }
}

#[vtable]
impl Handler for User {
    type FileSystem = Ferrofs;

    const PREFIX: &'static CStr = c"user.";

    fn can_list(dentry: &Dentry<Ferrofs>) -> bool {
        check_user(dentry.sb()).is_ok()
    }

    fn get(inode: &Inode, name: &[u8], value: ValueBuffer<'_>) -> Result<usize> {
        check_user(inode.sb())?;
        super::get(inode, checked_name(NameIndex::USER, name)?, value)
    }

    fn set(
        _idmap: &IdMap,
        inode: &Inode,
        name: &[u8],
        value: Option<&[u8]>,
        mode: SetMode,
    ) -> Result {
        check_user(inode.sb())?;
        super::set_now(inode, checked_name(NameIndex::USER, name)?, value, mode)
    }
}

/// `trusted.`: for system administration.
struct Trusted;

#[vtable]
impl Handler for Trusted {
    type FileSystem = Ferrofs;

    const PREFIX: &'static CStr = c"trusted.";

    fn can_list(_dentry: &Dentry<Ferrofs>) -> bool {
        capable(CAP_SYS_ADMIN)
    }

    fn get(inode: &Inode, name: &[u8], value: ValueBuffer<'_>) -> Result<usize> {
        super::get(inode, checked_name(NameIndex::TRUSTED, name)?, value)
    }

    fn set(
        _idmap: &IdMap,
        inode: &Inode,
        name: &[u8],
        value: Option<&[u8]>,
        mode: SetMode,
    ) -> Result {
        super::set_now(inode, checked_name(NameIndex::TRUSTED, name)?, value, mode)
    }
}

/// `security.`: labels and capabilities.
struct Security;

#[vtable]
impl Handler for Security {
    type FileSystem = Ferrofs;

    const PREFIX: &'static CStr = c"security.";

    fn get(inode: &Inode, name: &[u8], value: ValueBuffer<'_>) -> Result<usize> {
        super::get(inode, checked_name(NameIndex::SECURITY, name)?, value)
    }

    fn set(
        _idmap: &IdMap,
        inode: &Inode,
        name: &[u8],
        value: Option<&[u8]>,
        mode: SetMode,
    ) -> Result {
        super::set_now(inode, checked_name(NameIndex::SECURITY, name)?, value, mode)
    }
}
