// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.
//!
//! They are in the inode as far as there is room, and else in a block ([`block`]). The tables are those of
//! [`ext4::xattr`]. The lock of an inode's attributes is taken within a transaction, shared to read and
//! exclusively to change.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use ext4::features::Incompat;
use ext4::xattr::Edit;
use ext4::xattr::Entry;
use ext4::xattr::NameIndex;
use ext4::xattr::Set;
use ext4::xattr::Table;
use ext4::xattr::Value;
use ext4::xattr::XattrError;
use ext4::xattr::XattrName;
use ext4::Corrupt;
use ext4::PhysicalBlock;
use kernel::error::code::EEXIST;
use kernel::error::code::ENODATA;
use kernel::error::code::EOPNOTSUPP;
use kernel::error::code::ERANGE;
use kernel::prelude::*;
use vfs::dentry::Dentry;
use vfs::ioctl::capable;
use vfs::new_rwsem;
use vfs::rwsem::RwSemaphore;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;
use vfs::xattr;
use vfs::xattr::NameList;
use vfs::xattr::SetMode;
use vfs::xattr::ValueBuffer;

use crate::alloc;
use crate::error;
use crate::error::Place;
use crate::inode;
use crate::options::Flags;
use crate::state;
use crate::Ferrofs;
use crate::Inode;

mod block;
mod handlers;

pub(crate) use block::release;
pub(crate) use handlers::HANDLERS;

/// The capability to administer the system, which shows `trusted.` attributes.
const CAP_SYS_ADMIN: u32 = 21;

/// Extended attributes of an inode in memory.
#[pin_data]
pub(crate) struct InodeState {
    #[pin]
    lock: RwSemaphore<()>,
    block: AtomicU64,
}

impl InodeState {
    /// The state of an inode without a block of attributes.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            lock <- new_rwsem!((), "ferrofs_xattrs"),
            block: AtomicU64::new(0),
        })
    }

    /// The block that holds attributes.
    pub(crate) fn block(&self) -> Option<PhysicalBlock> {
        match self.block.load(Relaxed) {
            0 => None,
            block => Some(PhysicalBlock::new(block)),
        }
    }

    /// Sets the block that holds attributes; [`inode::update`] stores it.
    pub(crate) fn set_block(&self, block: Option<PhysicalBlock>) {
        self.block
            .store(block.map_or(0, PhysicalBlock::get), Relaxed);
    }
}

/// A name as the format has it.
///
/// # Errors
///
/// `ERANGE` when it is too long.
pub(crate) fn checked_name(index: NameIndex, suffix: &[u8]) -> Result<XattrName<'_>> {
    XattrName::new(index, suffix).ok_or(ERANGE)
}

fn has_ea_inode(inode: &Inode) -> bool {
    let features = &inode.sb().data().layout.features;
    features.incompat(Incompat::EA_INODE)
}

/// Reports damage of the attributes in the inode.
#[track_caller]
fn corrupt(inode: &Inode, what: XattrError) -> Error {
    error::corrupt(
        inode.sb(),
        Place::inode(inode::number(inode)),
        Corrupt::from(what),
    )
}

/// Calls `read` with the table in the inode, if there is one. `read` must not sleep.
fn with_inode_table<R>(inode: &Inode, read: impl FnOnce(&Table<'_>) -> R) -> Result<Option<R>> {
    let ea_inode = has_ea_inode(inode);
    let result = inode::read_raw(inode, |raw| {
        let Some(room) = raw.xattr_area() else {
            return Ok(None);
        };
        let table = Table::in_inode(room, ea_inode)?;
        Ok(table.map(|table| read(&table)))
    })?;
    result.map_err(|what| corrupt(inode, what))
}

/// Copies the value of an attribute.
fn answer(entry: &Entry<'_>, value: ValueBuffer<'_>) -> Result<usize> {
    match entry.value {
        Value::Here(bytes) => value.answer(bytes),
        Value::Inode { .. } => Err(EOPNOTSUPP),
    }
}

/// Gets the value of an attribute; gives its size. Sleeps.
///
/// # Errors
///
/// `ENODATA` when there is none, `ERANGE` when the buffer is too small.
pub(crate) fn get(inode: &Inode, name: XattrName<'_>, value: ValueBuffer<'_>) -> Result<usize> {
    let _lock = inode.data().xattrs.lock.read();
    let mut value = Some(value);
    let found = with_inode_table(inode, |table| {
        let entry = table.find(name)?;
        Some(answer(&entry, value.take()?))
    })?;
    if let Some(result) = found.flatten() {
        return result;
    }
    let found = block::with_table(inode, |table| {
        let entry = table.find(name)?;
        Some(answer(&entry, value.take()?))
    })?;
    found.flatten().unwrap_or(Err(ENODATA))
}

/// Whether the current task may see attributes of that index of `inode`.
fn is_visible(dentry: &Dentry<Ferrofs>, index: NameIndex) -> bool {
    let sb = dentry.sb();
    match index {
        NameIndex::USER => sb.data().settings().has(Flags::USER_XATTR),
        NameIndex::TRUSTED => capable(CAP_SYS_ADMIN),
        NameIndex::SECURITY => true,
        NameIndex::ACL_ACCESS | NameIndex::ACL_DEFAULT => sb.has_posix_acl(),
        _ => false,
    }
}

/// Lists the names of the attributes that the current task may see. Sleeps.
pub(crate) fn list(dentry: &Dentry<Ferrofs>, inode: &Inode, names: &mut NameList<'_>) -> Result {
    // Asked beforehand: what the table's contents are held for must not sleep.
    let visible = [
        NameIndex::USER,
        NameIndex::TRUSTED,
        NameIndex::SECURITY,
        NameIndex::ACL_ACCESS,
        NameIndex::ACL_DEFAULT,
    ]
    .map(|index| is_visible(dentry, index).then_some(index));
    let mut add = |table: &Table<'_>| -> Result {
        for entry in table.entries() {
            if let (Some(prefix), true) =
                (entry.index.prefix(), visible.contains(&Some(entry.index)))
            {
                names.add(prefix.as_bytes(), entry.suffix)?;
            }
        }
        Ok(())
    };
    let _lock = inode.data().xattrs.lock.read();
    with_inode_table(inode, &mut add)?.unwrap_or(Ok(()))?;
    block::with_table(inode, &mut add)?.unwrap_or(Ok(()))
}

/// What [`release`] may change: the block's count of users, or what freeing it does.
pub(crate) const RELEASE_CREDITS: Credits = Credits::blocks(5).with_revokes(1);

/// What [`set`] may change: the inode, a block, another one instead of it, and the super block.
pub(crate) fn set_credits(inode: &Inode) -> Credits {
    inode::UPDATE_CREDITS
        + Credits::blocks(2)
        + alloc::blocks::ALLOCATE_CREDITS
        + alloc::blocks::free_credits(inode.sb(), 1).with_revokes(1)
        + Credits::blocks(1)
}

/// Sets an attribute, or removes it when there is no value, as part of `txn`. Sleeps.
///
/// # Errors
///
/// `EEXIST` and `ENODATA` as `mode` wants it; `ENODATA` for the removal of what is not there; `ENOSPC` when
/// the value does not fit anywhere. In all these cases nothing has changed.
pub(crate) fn set(
    txn: &Transaction<'_>,
    inode: &Inode,
    name: XattrName<'_>,
    value: Option<&[u8]>,
    mode: SetMode,
) -> Result {
    let state = &inode.data().xattrs;
    let _lock = state.lock.write();
    let in_inode = with_inode_table(inode, |table| table.find(name).is_some())? == Some(true);
    let in_block = block::with_table(inode, |table| table.find(name).is_some())? == Some(true);
    let exists = in_inode || in_block;
    if exists && mode == SetMode::Create {
        return Err(EEXIST);
    }
    if !exists && (mode == SetMode::Replace || value.is_none()) {
        return Err(ENODATA);
    }

    // What can fail for want of space comes first: that is always the block.
    match value {
        None => {
            if in_block {
                block::change(txn, inode, name, None)?;
            }
            if in_inode {
                remove_from_inode(txn, inode, name)?;
            }
        }
        Some(bytes) if fits_inode(inode, name, bytes.len())? => {
            if in_block {
                block::change(txn, inode, name, None)?;
            }
            if !set_in_inode(txn, inode, name, bytes)? {
                return Err(EIO);
            }
        }
        Some(bytes) => {
            block::change(txn, inode, name, Some(bytes))?;
            if in_inode {
                remove_from_inode(txn, inode, name)?;
            }
        }
    }
    block::note_feature(txn, inode)?;
    inode.touch_ctime();
    inode.inc_version();
    inode::update(txn, inode)
}

/// Whether an attribute with a value of that size can be in the inode.
fn fits_inode(inode: &Inode, name: XattrName<'_>, size: usize) -> Result<bool> {
    let ea_inode = has_ea_inode(inode);
    inode::read_raw(inode, |raw| {
        let Some(room) = raw.xattr_area() else {
            return Ok(false);
        };
        match Table::in_inode(room, ea_inode)? {
            Some(table) => Ok(table.fits(name, size)),
            None => Ok(Table::fits_new(room.len(), name, size)),
        }
    })?
    .map_err(|what| corrupt(inode, what))
}

/// Whether there was room.
fn set_in_inode(
    txn: &Transaction<'_>,
    inode: &Inode,
    name: XattrName<'_>,
    value: &[u8],
) -> Result<bool> {
    let ea_inode = has_ea_inode(inode);
    let result = inode::modify_raw(txn, inode, |raw| {
        let room = raw.xattr_area_mut()?;
        Some(Edit::in_inode(room, ea_inode)?.set(name, value))
    })?;
    match result {
        None | Some(Ok(Set::NoSpace)) => Ok(false),
        Some(Ok(Set::Done { .. })) => Ok(true),
        Some(Err(what)) => Err(corrupt(inode, what)),
    }
}

fn remove_from_inode(txn: &Transaction<'_>, inode: &Inode, name: XattrName<'_>) -> Result {
    let ea_inode = has_ea_inode(inode);
    let result = inode::modify_raw(txn, inode, |raw| {
        let room = raw.xattr_area_mut()?;
        Some(Edit::in_inode(room, ea_inode)?.remove(name))
    })?;
    match result {
        Some(Err(what)) => Err(corrupt(inode, what)),
        _ => Ok(()),
    }
}

/// Sets an attribute in a transaction of its own.
pub(crate) fn set_now(
    inode: &Inode,
    name: XattrName<'_>,
    value: Option<&[u8]>,
    mode: SetMode,
) -> Result {
    crate::namei::retry_without_space(inode, || {
        let txn = state::transaction(inode.sb(), set_credits(inode))?;
        if inode.is_sync() {
            txn.set_sync();
        }
        set(&txn, inode, name, value, mode)?;
        txn.stop()
    })
}

/// What making an inode in `dir` may change for its attributes.
pub(crate) fn create_credits(dir: &Inode) -> Credits {
    set_credits(dir)
}

/// Lets the security modules label the new inode `new`.
pub(crate) fn init_security(
    txn: &Transaction<'_>,
    new: &Inode,
    dir: &Inode,
    name: &[u8],
) -> Result {
    xattr::init_security(new, dir, name, |suffix, value| {
        let name = checked_name(NameIndex::SECURITY, suffix)?;
        set(txn, new, name, Some(value), SetMode::Create)
    })
}
