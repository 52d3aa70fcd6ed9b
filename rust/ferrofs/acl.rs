// SPDX-License-Identifier: GPL-2.0

//! POSIX access control lists, which are stored as extended attributes.

use ext4::acl;
use ext4::acl::AclEntry;
use ext4::acl::AclTag;
use ext4::xattr::NameIndex;
use ext4::xattr::XattrName;
use kernel::error::code::EACCES;
use kernel::error::code::ENODATA;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use vfs::acl::Entry;
use vfs::acl::Kind;
use vfs::acl::PosixAcl;
use vfs::acl::Tag;
use vfs::idmap::IdMap;
use vfs::transaction::Transaction;
use vfs::xattr::SetMode;
use vfs::xattr::ValueBuffer;

use crate::inode;
use crate::namei;
use crate::state;
use crate::xattr;
use crate::Inode;

/// The attribute in which the list of that kind is.
fn name(kind: Kind) -> Result<XattrName<'static>> {
    let index = match kind {
        Kind::Access => NameIndex::ACL_ACCESS,
        Kind::Default => NameIndex::ACL_DEFAULT,
    };
    xattr::checked_name(index, &[])
}

fn from_disk(entry: AclEntry) -> Entry {
    Entry {
        tag: match entry.tag {
            AclTag::UserObj => Tag::UserObj,
            AclTag::User(id) => Tag::User(id),
            AclTag::GroupObj => Tag::GroupObj,
            AclTag::Group(id) => Tag::Group(id),
            AclTag::Mask => Tag::Mask,
            AclTag::Other => Tag::Other,
        },
        permissions: entry.permissions,
    }
}

fn to_disk(entry: Entry) -> AclEntry {
    AclEntry {
        tag: match entry.tag {
            Tag::UserObj => AclTag::UserObj,
            Tag::User(id) => AclTag::User(id),
            Tag::GroupObj => AclTag::GroupObj,
            Tag::Group(id) => AclTag::Group(id),
            Tag::Mask => AclTag::Mask,
            Tag::Other => AclTag::Other,
        },
        permissions: entry.permissions,
    }
}

/// The list of that kind as it is stored; `None` when there is none.
///
/// # Errors
///
/// `EINVAL` when what is stored is no list.
pub(crate) fn get(inode: &Inode, kind: Kind) -> Result<Option<ARef<PosixAcl>>> {
    let name = name(kind)?;
    let value = loop {
        let size = match xattr::get(inode, name, ValueBuffer::size_only()) {
            Err(error) if error == ENODATA => return Ok(None),
            size => size?,
        };
        let mut value = KVVec::new();
        value.resize(size, 0, GFP_KERNEL)?;
        match xattr::get(inode, name, ValueBuffer::new(&mut value)) {
            Err(error) if error == ENODATA => return Ok(None),
            // It has grown in between.
            Err(error) if error == ERANGE => {}
            size => {
                value.truncate(size?);
                break value;
            }
        }
    };
    let mut entries = KVVec::new();
    for entry in acl::decode(&value).map_err(|_| EINVAL)? {
        entries.push(from_disk(entry.map_err(|_| EINVAL)?), GFP_KERNEL)?;
    }
    PosixAcl::new(&entries).map(Some)
}

/// Stores a list, or removes it, as part of `txn`.
fn store(txn: &Transaction<'_>, inode: &Inode, kind: Kind, acl: Option<&PosixAcl>) -> Result {
    let name = name(kind)?;
    let stored = match acl {
        None => xattr::set(txn, inode, name, None, SetMode::Any),
        Some(acl) => {
            let mut value = KVVec::new();
            let entries = || acl.entries().map(to_disk);
            value.resize(acl::encoded_size(entries()), 0, GFP_KERNEL)?;
            acl::encode(entries(), &mut value).ok_or(EINVAL)?;
            xattr::set(txn, inode, name, Some(&value), SetMode::Any)
        }
    };
    match stored {
        Err(error) if acl.is_none() && error == ENODATA => {}
        result => result?,
    }
    vfs::acl::set_cached(inode, kind, acl);
    Ok(())
}

/// Sets or removes the list of that kind, and the mode with it.
///
/// # Errors
///
/// `EACCES` for a default list on what is no directory.
pub(crate) fn set(idmap: &IdMap, inode: &Inode, kind: Kind, acl: Option<&PosixAcl>) -> Result {
    if kind == Kind::Default && !inode.is_dir() {
        return if acl.is_some() { Err(EACCES) } else { Ok(()) };
    }
    let (mode, acl) = match acl {
        Some(acl) if kind == Kind::Access => {
            let (mode, says_it_all) = acl.update_mode(idmap, inode)?;
            (mode, (!says_it_all).then_some(acl))
        }
        acl => (inode.mode(), acl),
    };
    namei::retry_without_space(inode, || {
        let credits = xattr::set_credits(inode) + inode::UPDATE_CREDITS;
        let txn = state::transaction(inode.sb(), credits)?;
        store(&txn, inode, kind, acl)?;
        if mode != inode.mode() {
            inode.set_mode(mode);
            inode.touch_ctime();
            inode::update(&txn, inode)?;
        }
        txn.stop()
    })
}

/// What a new inode inherits from its directory.
pub(crate) struct Inherited(vfs::acl::Inherited);

/// What a new inode of that mode inherits from `dir`. Not to be called within a transaction.
pub(crate) fn inherit(dir: &Inode, mode: u16) -> Result<Inherited> {
    vfs::acl::inherit(dir, mode).map(Inherited)
}

impl Inherited {
    /// The mode of the new inode.
    pub(crate) fn mode(&self) -> u16 {
        self.0.mode
    }

    /// Stores what is inherited with the new inode, as part of `txn`.
    pub(crate) fn store(&self, txn: &Transaction<'_>, new: &Inode) -> Result {
        for (kind, acl) in [
            (Kind::Default, &self.0.default),
            (Kind::Access, &self.0.access),
        ] {
            match acl {
                Some(acl) => store(txn, new, kind, Some(acl))?,
                // Nobody needs to look for it.
                None => vfs::acl::set_cached(new, kind, None),
            }
        }
        Ok(())
    }
}
