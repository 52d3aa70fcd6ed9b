// SPDX-License-Identifier: GPL-2.0

//! Inodes: what this file system keeps beside each of the kernel's, and the way between memory and
//! the inode table.
//!
//! The kernel's inode is the truth while it is in memory. Whoever changes it does so within a
//! transaction and ends with [`update`], which writes the current state into the inode's place in
//! the table. Since `update` reads the state with the table block held exclusively, the last of several
//! concurrent updates leaves the latest state.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use ext4::inode::InodeFlags;
use ext4::Checksummer;
use ext4::InodeNumber;
use ext4::PhysicalBlock;
use kernel::prelude::*;
use kernel::sync::SetOnce;
use vfs::inode::flags;
use vfs::inode::DirtyFlags;
use vfs::journal::Tid;
use vfs::time::Timestamp;

use crate::copying;
use crate::dir;
use crate::flush;
use crate::group;
use crate::map;
use crate::map::MapState;
use crate::orphan;
use crate::state;
use crate::truncate;
use crate::writeback;
use crate::xattr;
use crate::Inode;

mod create;
mod load;
mod store;

pub(crate) use create::create;
pub(crate) use create::CREATE_CREDITS;
pub(crate) use load::get;
pub(crate) use load::get_journal;
pub(crate) use load::get_orphan;
pub(crate) use store::hold;
pub(crate) use store::modify_raw;
pub(crate) use store::modify_raw_of;
pub(crate) use store::read_raw;
pub(crate) use store::update;
pub(crate) use store::update_with;
pub(crate) use store::UPDATE_CREDITS;

/// What this file system keeps of an inode in memory.
#[pin_data]
pub(crate) struct InodeData {
    /// Which blocks hold the contents.
    #[pin]
    pub(crate) map: MapState,
    /// What writeback keeps.
    pub(crate) io: writeback::InodeState,
    /// Extended attributes.
    #[pin]
    pub(crate) xattrs: xattr::InodeState,
    /// Directories: where to look for room.
    #[pin]
    pub(crate) dir: dir::InodeState,
    /// Whether a write is being copied into the page cache.
    pub(crate) copying: copying::InodeState,
    /// Whether it is an orphan.
    pub(crate) orphan: orphan::InodeState,
    /// Which of its data may be in the device's cache.
    pub(crate) flush: flush::InodeState,
    flags: AtomicU32,
    project: AtomicU32,
    /// The size that the inode table has: what a crash leaves. It follows the kernel's size once the
    /// data is on disk.
    disk_size: AtomicU64,
    /// The transaction that last changed the inode in any way.
    sync_tid: AtomicU32,
    /// The transaction that last changed what is needed to read the data back.
    datasync_tid: AtomicU32,
    crtime: SetOnce<Timestamp>,
    checksum: SetOnce<Checksummer>,
    /// Where the inode is in the table.
    place: SetOnce<(PhysicalBlock, usize)>,
}

impl InodeData {
    /// The data of an inode of which nothing is known yet.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            map <- MapState::new(),
            io: writeback::InodeState::new(),
            xattrs <- xattr::InodeState::new(),
            dir <- dir::InodeState::new(),
            copying: copying::InodeState::new(),
            orphan: orphan::InodeState::new(),
            flush: flush::InodeState::new(),
            flags: AtomicU32::new(0),
            project: AtomicU32::new(0),
            disk_size: AtomicU64::new(0),
            sync_tid: AtomicU32::new(0),
            datasync_tid: AtomicU32::new(0),
            crtime: SetOnce::new(),
            checksum: SetOnce::new(),
            place: SetOnce::new(),
        })
    }

    /// The inode flags, as `lsattr` shows them and more.
    pub(crate) fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits(self.flags.load(Relaxed))
    }

    /// Sets the inode flags in memory; [`update`] stores them, [`apply_flags`] tells the kernel.
    pub(crate) fn set_flags(&self, flags: InodeFlags) {
        self.flags.store(flags.bits(), Relaxed);
    }

    /// The size in bytes that the inode table has.
    pub(crate) fn disk_size(&self) -> u64 {
        self.disk_size.load(Relaxed)
    }

    /// Sets the size in bytes for the inode table; [`update`] stores it.
    pub(crate) fn set_disk_size(&self, size: u64) {
        self.disk_size.store(size, Relaxed);
    }

    /// Moves the size for the inode table to `size` if it is less: the data up to there is on the disk.
    pub(crate) fn grow_disk_size(&self, size: u64) {
        self.disk_size.fetch_max(size, Relaxed);
    }

    /// The project; 0 where there are none.
    pub(crate) fn project_id(&self) -> u32 {
        self.project.load(Relaxed)
    }

    /// Sets the project.
    pub(crate) fn set_project_id(&self, project: u32) {
        self.project.store(project, Relaxed);
    }

    /// The birth time, if the inode has room for one.
    pub(crate) fn crtime(&self) -> Option<Timestamp> {
        self.crtime.copy()
    }

    /// The seed of the checksums of this inode's metadata, if the file system has checksums.
    pub(crate) fn checksum(&self) -> Option<Checksummer> {
        self.checksum.copy()
    }

    /// The block of the inode table in which the inode lies, and the byte of that block at which it begins.
    fn place(&self, inode: &Inode) -> Result<(PhysicalBlock, usize)> {
        if let Some(place) = self.place.copy() {
            return Ok(place);
        }
        let place = group::inode_place(inode.sb(), number(inode))?;
        // Somebody else may have been faster, with the same.
        self.place.populate(place);
        Ok(place)
    }

    /// The transaction that `fsync` must wait for.
    pub(crate) fn sync_tid(&self) -> Tid {
        Tid::new(self.sync_tid.load(Relaxed))
    }

    /// The transaction that `fdatasync` must wait for.
    pub(crate) fn datasync_tid(&self) -> Tid {
        Tid::new(self.datasync_tid.load(Relaxed))
    }

    /// Notes that transaction `tid` changes the inode.
    pub(crate) fn note_change(&self, tid: Tid) {
        self.sync_tid.store(tid.get(), Relaxed);
    }

    /// Notes that transaction `tid` changes what is needed to read the data back: the map, the size.
    pub(crate) fn note_data_change(&self, tid: Tid) {
        self.sync_tid.store(tid.get(), Relaxed);
        self.datasync_tid.store(tid.get(), Relaxed);
    }
}

/// The number of an inode, as the format has it.
///
/// # Panics
///
/// Never: only numbers from the format are given to inodes, and a fresh inode that has none yet is
/// not shown to anybody.
pub(crate) fn number(inode: &Inode) -> InodeNumber {
    u32::try_from(inode.ino())
        .ok()
        .and_then(InodeNumber::new)
        .unwrap_or(InodeNumber::ROOT)
}

/// Gives the kernel its view of the inode's flags.
pub(crate) fn apply_flags(inode: &Inode) {
    let on_disk = inode.data().flags();
    let mut kernel = 0;
    for (ours, theirs) in [
        (InodeFlags::SYNC, flags::SYNC),
        (InodeFlags::APPEND, flags::APPEND),
        (InodeFlags::IMMUTABLE, flags::IMMUTABLE),
        (InodeFlags::NO_ATIME, flags::NOATIME),
        (InodeFlags::DIR_SYNC, flags::DIRSYNC),
    ] {
        if on_disk.contains(ours) {
            kernel |= theirs;
        }
    }
    inode.set_flags(
        kernel,
        flags::SYNC | flags::APPEND | flags::IMMUTABLE | flags::NOATIME | flags::DIRSYNC,
    );
}

/// The first and last second that an inode of `inode_size` bytes can hold.
pub(crate) fn time_range(inode_size: usize) -> (i64, i64) {
    use ext4::inode::Timestamp as OnDisk;

    let last = if inode_size > ext4::inode::BASE_SIZE {
        OnDisk::MAX_SECONDS
    } else {
        OnDisk::MAX_SECONDS_SHORT
    };
    (OnDisk::MIN_SECONDS, last)
}

fn from_disk(time: ext4::inode::Timestamp) -> Timestamp {
    Timestamp {
        seconds: time.seconds,
        nanoseconds: time.nanos,
    }
}

fn to_disk(time: Timestamp) -> ext4::inode::Timestamp {
    ext4::inode::Timestamp {
        seconds: time.seconds,
        nanos: time.nanoseconds,
    }
}

/// The kernel changed the inode by itself: times, mostly.
pub(crate) fn dirty(inode: &Inode, flags: DirtyFlags) {
    if flags.is_lazy_time_only() {
        return;
    }
    let volume = inode.sb().data();
    let result = state::transaction(inode.sb(), UPDATE_CREDITS)
        .and_then(|txn| update(&txn, inode).and(txn.stop()));
    if let Err(error) = result {
        // The kernel does not take an error here. What has stopped the file system was reported.
        if volume.state.check().is_ok() {
            pr_err!(
                "({}): inode #{}: times cannot be stored: {:?}\n",
                inode.sb().id().to_str().unwrap_or("?"),
                inode.ino(),
                error
            );
        }
    }
}

/// Brings the inode to the disk. It is in the running transaction already: waiting for that is all
/// there is to do.
pub(crate) fn write(inode: &Inode, wait: bool) -> Result {
    if !wait {
        return Ok(());
    }
    let volume = inode.sb().data();
    if volume.journal.has_log() {
        return volume.journal.complete(inode.data().sync_tid());
    }
    store::write_table_block(inode)
}

/// The inode leaves memory. Without links, it leaves the disk as well.
pub(crate) fn evict(inode: &Inode) {
    let sb = inode.sb();
    // After an error nothing is freed on the disk: the inode stays in the orphan list.
    if inode.nlink() == 0 && !sb.is_read_only() && sb.data().state.check().is_ok() {
        delete(inode);
    }
    // There is something left after an error only.
    map::abandon(inode);
}

fn delete(inode: &Inode) {
    if let Err(error) = truncate::delete(inode) {
        // It stays in the orphan list: the next mount, or e2fsck, frees it.
        pr_err!(
            "({}): inode #{}: cannot be freed: {:?}\n",
            inode.sb().id().to_str().unwrap_or("?"),
            inode.ino(),
            error
        );
    }
}
