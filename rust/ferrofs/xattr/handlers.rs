// SPDX-License-Identifier: GPL-2.0

//! Which attributes a user can get and set by name.
//!
//! POSIX ACLs are not among them: see [`crate::acl`].

use core::marker::PhantomData;

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
use crate::SuperBlock;

static TABLE: [HandlerRef<Ferrofs>; 4] = [
    HandlerRef::new::<Prefixed<User>>(),
    HandlerRef::new::<Prefixed<Trusted>>(),
    HandlerRef::new::<Prefixed<Security>>(),
    HandlerRef::END,
];

/// The handlers of all attributes that have a name.
pub(crate) const HANDLERS: Handlers<Ferrofs> = Handlers::new(&TABLE);

/// The attributes with names of one prefix.
trait Namespace: Send + Sync + 'static {
    /// The prefix.
    const PREFIX: &'static CStr;
    /// What stands for it on the disk.
    const INDEX: NameIndex;

    /// Whether the mount has them: `EOPNOTSUPP` if not. The kernel has checked permissions.
    fn check(_sb: &SuperBlock) -> Result {
        Ok(())
    }

    /// Whether the current task may see them in a list.
    fn can_list(sb: &SuperBlock) -> bool {
        Self::check(sb).is_ok()
    }
}

/// `user.`: whatever the users of a file want to keep with it.
struct User;

impl Namespace for User {
    const PREFIX: &'static CStr = c"user.";
    const INDEX: NameIndex = NameIndex::USER;

    fn check(sb: &SuperBlock) -> Result {
        if sb.data().settings().has(Flags::USER_XATTR) {
            Ok(())
        } else {
            Err(EOPNOTSUPP)
        }
    }
}

/// `trusted.`: for system administration.
struct Trusted;

impl Namespace for Trusted {
    const PREFIX: &'static CStr = c"trusted.";
    const INDEX: NameIndex = NameIndex::TRUSTED;

    fn can_list(_sb: &SuperBlock) -> bool {
        capable(CAP_SYS_ADMIN)
    }
}

/// `security.`: labels and capabilities.
struct Security;

impl Namespace for Security {
    const PREFIX: &'static CStr = c"security.";
    const INDEX: NameIndex = NameIndex::SECURITY;
}

/// The handler of a [`Namespace`].
struct Prefixed<N>(PhantomData<N>);

#[vtable]
impl<N: Namespace> Handler for Prefixed<N> {
    type FileSystem = Ferrofs;

    const PREFIX: &'static CStr = N::PREFIX;

    fn can_list(dentry: &Dentry<Ferrofs>) -> bool {
        N::can_list(dentry.sb())
    }

    fn get(inode: &Inode, name: &[u8], value: ValueBuffer<'_>) -> Result<usize> {
        N::check(inode.sb())?;
        super::get(inode, checked_name(N::INDEX, name)?, value)
    }

    fn set(
        _idmap: &IdMap,
        inode: &Inode,
        name: &[u8],
        value: Option<&[u8]>,
        mode: SetMode,
    ) -> Result {
        N::check(inode.sb())?;
        super::set_now(inode, checked_name(N::INDEX, name)?, value, mode)
    }
}
