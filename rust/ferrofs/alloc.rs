// SPDX-License-Identifier: GPL-2.0

//! Which blocks and inodes are free, and finding some.
//!
//! The disk is cut into groups, each with a bitmap of its blocks and one of its inodes. Free space is
//! known at three levels:
//!
//! - counters for the whole file system, where space is *reserved* before it is looked for ([`space`]);
//! - for each group, how much is free and how long its longest run is, readable without a lock, so that
//!   a search passes over most groups by looking at a number ([`groups`]);
//! - for a group that is used, a summary of its bitmap in memory, made when it is first needed, in which
//!   runs are found without scanning bits.
//!
//! The bitmaps and descriptors on disk are changed in the caller's transaction, under the lock of their
//! group. Blocks that are freed are free on disk as soon as the transaction commits, and not used again
//! before that ([`freed`]): otherwise a crash could leave a file that has another one's data.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use ext4::PhysicalBlock;
use kernel::error::code::EFBIG;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::Arc;
use kernel::sync::CondVar;
use kernel::sync::Mutex;
use kernel::sync::SetOnce;
use vfs::block_device::OpenDevice;
use vfs::journal::CommitListener;
use vfs::journal::Journal;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

mod bitmap;
pub(crate) mod blocks;
mod freed;
mod groups;
pub(crate) mod inodes;
mod space;
mod summary;
mod zone;

use freed::Waiting;
use groups::Group;
pub(crate) use space::is_privileged;
use space::Space;
pub(crate) use zone::is_journal;
use zone::Zone;

use crate::error::EFSCORRUPTED;
use crate::SuperBlock;

/// The free space of one mount.
pub(crate) struct Allocator(Arc<Core>);

/// What the allocator and the journal's callback share.
#[pin_data]
struct Core {
    device: OpenDevice,
    /// What messages call the mount.
    id: CString,
    /// Of all groups, by number. Empty until the mount has loaded them.
    groups: SetOnce<KVVec<Pin<KBox<Group>>>>,
    zone: SetOnce<Zone>,
    #[pin]
    space: Space,
    /// What was freed by transactions that are not committed. Taken with a group's lock held.
    #[pin]
    waiting: Mutex<Waiting>,
    /// Told when the runs of a committed transaction have become available.
    #[pin]
    released: CondVar,
    discard: AtomicBool,
}

impl Allocator {
    /// An allocator that has no blocks yet.
    ///
    /// `id` is what messages call the mount.
    pub(crate) fn new(device: OpenDevice, id: &CStr) -> Result<Self> {
        let id = CString::try_from(id)?;
        let core = Arc::pin_init(
            try_pin_init!(Core {
                device,
                id,
                groups: SetOnce::new(),
                zone: SetOnce::new(),
                space <- Space::new(),
                waiting <- kernel::new_mutex!(Waiting::new(), "ferrofs_freed"),
                released <- kernel::new_condvar!("ferrofs_released"),
                discard: AtomicBool::new(false),
            }? Error),
            GFP_KERNEL,
        )?;
        Ok(Self(core))
    }

    /// Takes in what the group descriptors say, and keeps space back from ordinary users.
    ///
    /// Called once at mount, after the journal was replayed.
    pub(crate) fn load(&self, sb: &SuperBlock) -> Result {
        let core = &*self.0;
        let geometry = &sb.data().layout.geometry;
        let mut list = KVVec::with_capacity(geometry.group_count() as usize, GFP_KERNEL)?;
        let mut zone = KVVec::new();
        let mut totals = groups::Totals::default();
        for number in geometry.groups() {
            let loaded = groups::load(sb, number, &mut zone)?;
            totals.add(&loaded);
            list.push(Group::new(number, &loaded)?, GFP_KERNEL)?;
        }
        core.space.begin_with(&totals);
        core.space.keep_back(sb)?;
        core.set_discard(sb);
        let zone = zone::with_journal(sb, zone)?;
        if !core.zone.populate(zone) || !core.groups.populate(list) {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// What the journal tells of commits.
    pub(crate) fn commit_listener(&self) -> Arc<dyn CommitListener> {
        self.0.clone()
    }

    /// Follows a change of the mount options.
    pub(crate) fn settings_changed(&self, sb: &SuperBlock) {
        self.0.set_discard(sb);
    }

    /// The number of free blocks on disk, as the super block counts them.
    pub(crate) fn free_blocks(&self) -> u64 {
        self.0.space.free()
    }

    /// The number of blocks that are neither used nor reserved for data in memory, those that only wait
    /// for a commit included.
    pub(crate) fn unreserved_blocks(&self) -> u64 {
        self.0.space.unreserved()
    }

    /// The number of blocks that are kept back for the maps of files.
    pub(crate) fn pool_blocks(&self) -> u64 {
        self.0.space.pool()
    }

    /// The number of free inodes.
    pub(crate) fn free_inodes(&self) -> u32 {
        self.0.space.free_inodes()
    }

    /// Sets `count` blocks aside for data that will be written later. `privileged` ones may use what is
    /// kept back from others. `ENOSPC` when there are not as many.
    ///
    /// Blocks that wait for a commit do not count; see [`Self::release_pending`].
    pub(crate) fn reserve(&self, count: u32, privileged: bool) -> Result {
        self.0.space.reserve(count, privileged)
    }

    /// As [`Self::reserve`], without a sleep: `EAGAIN` when space is so scarce that it has to be counted.
    pub(crate) fn try_reserve(&self, count: u32) -> Result {
        self.0.space.try_reserve(count)
    }

    /// Gives back what [`Self::reserve`] has set aside and nobody has allocated.
    pub(crate) fn release(&self, count: u32) {
        self.0.space.give_back(count);
    }

    /// After `ENOSPC`, outside of any transaction: makes the blocks available that wait for a commit.
    /// Returns whether there were any, so that trying again makes sense. Sleeps.
    pub(crate) fn release_pending(&self, journal: &Journal) -> Result<bool> {
        if self.0.space.pending() <= 0 {
            return Ok(false);
        }
        self.0.release_all(journal)?;
        Ok(true)
    }

    /// Whether one of the blocks from `start` on holds metadata that belongs to no file, or the log.
    pub(crate) fn is_system_zone(&self, start: PhysicalBlock, count: u64) -> bool {
        let zone = self.0.zone.as_ref();
        zone.is_some_and(|zone| zone.overlaps(start, count))
    }
}

impl Core {
    /// The group with this number. The number is one of the geometry's.
    fn group(&self, group: ext4::Group) -> Result<&Group> {
        let groups = self.groups.as_ref().ok_or(EFBIG)?;
        let group = groups.get(group.get() as usize).ok_or(EFBIG)?;
        Ok(group.as_ref().get_ref())
    }

    /// What messages call the mount.
    fn id(&self) -> &str {
        self.id.to_str().unwrap_or("?")
    }

    fn set_discard(&self, sb: &SuperBlock) {
        let wanted = sb.data().settings().has(crate::options::Flags::DISCARD);
        let can = self.device.max_discard() != 0;
        self.discard.store(wanted && can, Relaxed);
    }
}

/// A group has turned out to be damaged, and the search goes on in the next one, which takes `credits` as well. `None`,
/// or `EFSCORRUPTED` when the transaction has no room for that.
fn next_group<T>(txn: &Transaction<'_>, credits: Credits) -> Result<Option<T>> {
    if txn.extend(credits)? {
        Ok(None)
    } else {
        Err(EFSCORRUPTED)
    }
}
