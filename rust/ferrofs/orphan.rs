// SPDX-License-Identifier: GPL-2.0

//! Orphans: inodes that must be looked after when the mount ends in a crash.
//!
//! An inode that has lost its last name while it is open must be freed at the next mount, and one that is
//! being truncated, which can take several transactions, must be truncated to the end. Both are put into
//! a list on disk in the transaction that makes them so, and taken out in the one that ends it.
//!
//! There are two such lists. One begins in the super block and goes on in a field of each inode; in memory
//! its order is kept, so that an inode can be taken out of the middle. The other one, with the feature
//! `orphan_file`, is a file of slots, which many tasks can change at a time. It is used as long as it has
//! room.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use ext4::InodeNumber;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::sync::Mutex;
use kernel::sync::SetOnce;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use crate::checksum::crc32c;
use crate::error;
use crate::error::Place;
use crate::inode;
use crate::truncate;
use crate::Inode;
use crate::InodeRef;
use crate::SuperBlock;

mod file;

use file::File;
use file::Slot;

/// What [`add`] may change: the super block and the inode.
pub(crate) const ADD_CREDITS: Credits = Credits::blocks(2);

/// What [`remove`] may change: the super block or another inode, and the inode.
pub(crate) const REMOVE_CREDITS: Credits = Credits::blocks(2);

/// The orphans of a mount.
#[pin_data]
pub(crate) struct Orphans {
    /// The list in reverse order: its head is the last one. Locked within a transaction.
    #[pin]
    list: Mutex<KVVec<InodeNumber>>,
    /// The orphan file, if there is one.
    file: SetOnce<File>,
    /// How many orphans are in it.
    in_file: AtomicU32,
    /// What the disk says is known here.
    known: AtomicBool,
}

impl Orphans {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            list <- kernel::new_mutex!(KVVec::new(), "ferrofs_orphans"),
            file: SetOnce::new(),
            in_file: AtomicU32::new(0),
            known: AtomicBool::new(false),
        }? Error)
    }

    /// Whether the orphan file has no orphans.
    pub(crate) fn is_file_empty(&self) -> bool {
        self.in_file.load(Relaxed) == 0
    }
}

/// What an inode in memory knows of its being an orphan. Changed by who adds and removes it, which is one task at
/// a time: it holds the inode's lock, or has the only reference.
pub(crate) struct InodeState {
    /// The block of the orphan file in the upper half and the slot in it in the lower one, plus 1; or 0.
    place: AtomicU64,
}

impl InodeState {
    /// Not in the orphan file, as far as is known.
    pub(crate) const fn new() -> Self {
        Self {
            place: AtomicU64::new(0),
        }
    }

    fn slot(&self) -> Option<Slot> {
        let place = self.place.load(Relaxed).checked_sub(1)?;
        Some(Slot {
            block: (place >> 32) as u32,
            slot: place as u32,
        })
    }

    fn set_slot(&self, slot: Option<Slot>) {
        let place = slot.map_or(0, |Slot { block, slot }| {
            // There are far less blocks than would overflow it.
            (u64::from(block) << 32 | u64::from(slot)).saturating_add(1)
        });
        self.place.store(place, Relaxed);
    }
}

/// Puts an inode into a list, unless it is in one. Takes [`ADD_CREDITS`].
pub(crate) fn add(txn: &Transaction<'_>, inode: &Inode) -> Result {
    let orphans = &inode.sb().data().orphans;
    let state = &inode.data().orphan;
    if state.slot().is_some() {
        return Ok(());
    }
    let number = inode::number(inode);
    let mut list = orphans.list.lock();
    if list.contains(&number) {
        return Ok(());
    }
    if let Some(file) = orphans.file.as_ref() {
        drop(list);
        if let Some(slot) = file.add(txn, inode)? {
            state.set_slot(Some(slot));
            orphans.in_file.fetch_add(1, Relaxed);
            return Ok(());
        }
        list = orphans.list.lock();
    }
    add_to_list(txn, inode, &mut list)
}

fn add_to_list(txn: &Transaction<'_>, inode: &Inode, list: &mut KVVec<InodeNumber>) -> Result {
    let number = inode::number(inode);
    list.reserve(1, GFP_KERNEL)?;
    let head = list.last().copied();
    inode::modify_raw(txn, inode, |raw| raw.set_next_orphan(head))?;
    inode.sb().data().write_superblock(txn, |superblock| {
        superblock.set_last_orphan(Some(number));
        superblock.update_checksum(crc32c);
    })?;
    list.push(number, GFP_KERNEL)?;
    Ok(())
}

/// Takes an inode out of the list that it is in, if any. Takes [`REMOVE_CREDITS`].
pub(crate) fn remove(txn: &Transaction<'_>, inode: &Inode) -> Result {
    let sb = inode.sb();
    let volume = sb.data();
    let number = inode::number(inode);
    let state = &inode.data().orphan;
    if let (Some(slot), Some(file)) = (state.slot(), volume.orphans.file.as_ref()) {
        file.remove(txn, inode, slot)?;
        state.set_slot(None);
        volume.orphans.in_file.fetch_sub(1, Relaxed);
        return Ok(());
    }
    let mut list = volume.orphans.list.lock();
    let Some(index) = list.iter().rposition(|&other| other == number) else {
        return Ok(());
    };
    let next = index.checked_sub(1).map(|index| list[index]);
    match list.get(index + 1) {
        Some(&before) => {
            inode::modify_raw_of(txn, sb, before, |raw| raw.set_next_orphan(next))?;
        }
        None => volume.write_superblock(txn, |superblock| {
            superblock.set_last_orphan(next);
            superblock.update_checksum(crc32c);
        })?,
    }
    inode::modify_raw(txn, inode, |raw| raw.set_next_orphan(None))?;
    if list.remove(index).is_err() {
        return Err(EINVAL);
    }
    Ok(())
}

/// Reads and verifies the orphan file, if there is one. Changes nothing.
///
/// # Errors
///
/// `EFSCORRUPTED` if it is damaged, which is reported.
pub(crate) fn open(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    if let (Some(number), None) = (volume.layout.orphan_file, volume.orphans.file.as_ref()) {
        volume.orphans.file.populate(File::open(sb, number)?);
    }
    Ok(())
}

/// Finishes what the last mount could not: frees the orphans without links and truncates the others to
/// their size.
///
/// Called after [`open`] at mount, before anybody else uses inodes, and when a read-only mount becomes writable. What
/// is damaged is reported and left to e2fsck; the mount goes on.
pub(crate) fn process(sb: &SuperBlock) -> Result {
    let volume = sb.data();
    if volume.orphans.known.swap(true, Relaxed) {
        return Ok(());
    }
    let head =
        volume.with_superblock(|superblock| InodeNumber::new(superblock.last_orphan.get()))?;
    let mut inodes = collect(sb, head)?;
    if let Some(file) = volume.orphans.file.as_ref() {
        let before = inodes.len();
        file.collect(sb, &mut inodes)?;
        let found = inodes.len() - before;
        // Nobody has added or removed one yet.
        volume.orphans.in_file.store(found as u32, Relaxed);
    }
    if inodes.is_empty() {
        return Ok(());
    }
    let (mut freed, mut truncated) = (0, 0);
    for inode in inodes {
        if inode.nlink() == 0 {
            freed += 1;
        } else {
            truncated += 1;
            if let Err(error) = truncate::finish(&inode) {
                pr_err!(
                    "({}): inode #{}: an interrupted truncation cannot be ended: {:?}; run e2fsck\n",
                    sb.id().to_str().unwrap_or("?"),
                    inode.ino(),
                    error
                );
            }
        }
        // Without links, dropping the last reference frees it.
        drop(inode);
    }
    pr_info!(
        "({}): {} orphaned inodes freed, {} truncated\n",
        sb.id().to_str().unwrap_or("?"),
        freed,
        truncated
    );
    Ok(())
}

/// Follows the list from its head and remembers it in memory. Returns the inodes, the head first.
fn collect(sb: &SuperBlock, head: Option<InodeNumber>) -> Result<KVVec<InodeRef>> {
    let mut inodes = KVVec::new();
    let mut seen = RBTree::new();
    let mut next = head;
    while let Some(number) = next {
        if seen.get(&number.get()).is_some() {
            error::corrupt(sb, Place::inode(number), "the list of orphans is a loop");
            break;
        }
        let Ok(inode) = inode::get_orphan(sb, number) else {
            break;
        };
        seen.try_create_and_insert(number.get(), (), GFP_KERNEL)?;
        next = inode::read_raw(&inode, |raw| raw.next_orphan())?;
        inodes.push(inode, GFP_KERNEL)?;
    }
    let mut list = sb.data().orphans.list.lock();
    for inode in inodes.iter().rev() {
        list.push(inode::number(inode), GFP_KERNEL)?;
    }
    Ok(inodes)
}
