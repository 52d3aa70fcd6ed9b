// SPDX-License-Identifier: GPL-2.0

//! How much space there is in all, and who may have it.
//!
//! A block is *available* until somebody reserves it: a write to memory that will need it, or an
//! operation that is about to allocate. So the number of available blocks says whether a write can
//! succeed, and allocating what is reserved cannot fail for want of space. Two parts are kept back: one
//! for privileged users (the super block says how much), and a small pool for the nodes of extent trees,
//! which nobody can know beforehand exactly.

use core::cmp::Ordering;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use ext4::inode_policy::Load;
use kernel::error::code::ENOSPC;
use kernel::prelude::*;
use kernel::sync::Mutex;
use vfs::percpu::PercpuCounter;

use super::groups::Totals;
use crate::SuperBlock;

/// The pool is this part of the disk at most ...
const POOL_PART: u64 = 50;
/// ... and at most as many blocks.
const POOL_MAX: u64 = 4096;

/// Requests of up to so many blocks are granted without a lock while many more are available.
const SMALL: u32 = 256;
/// How many more. It covers what some dozens of tasks take at the same moment.
const PLENTY: i64 = 64 * SMALL as i64;

/// Counts of free blocks and inodes.
#[pin_data]
pub(super) struct Space {
    /// Free on disk, as far as the running transaction.
    #[pin]
    free: PercpuCounter,
    /// Free, not reserved and not waiting for a commit.
    #[pin]
    available: PercpuCounter,
    /// Free and waiting for the commit of the transaction that has freed them.
    #[pin]
    pending: PercpuCounter,
    #[pin]
    free_inodes: PercpuCounter,
    #[pin]
    directories: PercpuCounter,
    /// For the privileged.
    kept_back: AtomicU64,
    pool: AtomicU64,
    /// Held for a decision that needs exact numbers.
    #[pin]
    scarce: Mutex<()>,
}

impl Space {
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            free <- PercpuCounter::new(0),
            available <- PercpuCounter::new(0),
            pending <- PercpuCounter::new(0),
            free_inodes <- PercpuCounter::new(0),
            directories <- PercpuCounter::new(0),
            kept_back: AtomicU64::new(0),
            pool: AtomicU64::new(0),
            scarce <- kernel::new_mutex!((), "ferrofs_scarce"),
        }? Error)
    }

    /// Begins with the sums over all groups.
    pub(super) fn begin_with(&self, totals: &Totals) {
        self.free.set(totals.free_blocks as i64);
        self.available.set(totals.free_blocks as i64);
        self.free_inodes.set(totals.free_inodes as i64);
        self.directories.set(totals.directories as i64);
    }

    /// Keeps back what the super block says, and the pool.
    pub(super) fn keep_back(&self, sb: &SuperBlock) -> Result {
        let volume = sb.data();
        let reserved = volume.with_superblock(|superblock| superblock.reserved_blocks_count())?;
        let blocks = volume.layout.geometry.blocks_count().get();
        self.kept_back.store(reserved.min(blocks), Relaxed);
        self.pool.store((blocks / POOL_PART).min(POOL_MAX), Relaxed);
        Ok(())
    }

    pub(super) fn free(&self) -> u64 {
        self.free.sum().max(0) as u64
    }

    pub(super) fn unreserved(&self) -> u64 {
        (self.available.sum() + self.pending.sum()).max(0) as u64
    }

    pub(super) fn pool(&self) -> u64 {
        self.pool.load(Relaxed)
    }

    pub(super) fn free_inodes(&self) -> u32 {
        u32::try_from(self.free_inodes.sum().max(0)).unwrap_or(u32::MAX)
    }

    /// What weighs in choosing a group, of the whole disk. Approximate.
    pub(super) fn load(&self) -> Load {
        let count = |counter: &PercpuCounter| counter.read().max(0) as u64;
        Load {
            free_inodes: count(&self.free_inodes),
            free_clusters: count(&self.free),
            directories: count(&self.directories),
        }
    }

    pub(super) fn pending(&self) -> i64 {
        self.pending.sum()
    }

    /// Takes `count` blocks out of the available ones; `ENOSPC` when there are not as many for the
    /// caller.
    pub(super) fn reserve(&self, count: u32, privileged: bool) -> Result {
        let mut floor = self.pool.load(Relaxed);
        if !privileged {
            floor += self.kept_back.load(Relaxed);
        }
        self.take(count, floor as i64)
    }

    /// As [`Self::reserve`] for anybody, without a sleep: `EAGAIN` where that takes exact numbers.
    pub(super) fn try_reserve(&self, count: u32) -> Result {
        let floor = self.pool.load(Relaxed) + self.kept_back.load(Relaxed);
        if self.take_plenty(count, floor as i64) {
            Ok(())
        } else {
            Err(EAGAIN)
        }
    }

    /// As [`Self::reserve`], down to the last block: for what must not fail.
    pub(super) fn reserve_from_pool(&self, count: u32) -> Result {
        self.take(count, 0)
    }

    /// Takes `count` blocks if they are few and there are many more. Does not sleep.
    fn take_plenty(&self, count: u32, floor: i64) -> bool {
        let needed = floor.saturating_add(count.into());
        let plenty = count <= SMALL
            && self.available.compare(needed.saturating_add(PLENTY)) == Ordering::Greater;
        if plenty {
            self.available.add(-i64::from(count));
        }
        plenty
    }

    fn take(&self, count: u32, floor: i64) -> Result {
        if self.take_plenty(count, floor) {
            return Ok(());
        }
        let needed = floor.saturating_add(count.into());
        let _scarce = self.scarce.lock();
        if self.available.sum() < needed {
            return Err(ENOSPC);
        }
        self.available.add(-i64::from(count));
        Ok(())
    }

    /// Returns what was taken.
    pub(super) fn give_back(&self, count: u32) {
        self.available.add(count.into());
    }

    /// Blocks that were reserved are used on disk from now on.
    pub(super) fn used(&self, count: u32) {
        self.free.add(-i64::from(count));
    }

    /// Blocks are free on disk from now on, and available after the next commit.
    pub(super) fn freed(&self, count: u32) {
        self.free.add(count.into());
        self.pending.add(count.into());
    }

    /// The commit has come.
    pub(super) fn committed(&self, count: u32) {
        self.pending.add(-i64::from(count));
        self.available.add(count.into());
    }

    /// Blocks of a group that turned out to be damaged are not available, whoever counted them.
    pub(super) fn lost(&self, count: u32) {
        self.available.add(-i64::from(count));
    }

    /// An inode was allocated.
    pub(super) fn inode_used(&self, directory: bool) {
        self.free_inodes.add(-1);
        self.directories.add(directory.into());
    }

    /// An inode was freed.
    pub(super) fn inode_freed(&self, directory: bool) {
        self.free_inodes.add(1);
        self.directories.add(-i64::from(directory));
    }
}

/// Whether the current task may use the blocks that are kept back.
pub(crate) fn is_privileged(sb: &SuperBlock) -> bool {
    let settings = sb.data().settings();
    vfs::credentials::filesystem_uid() == settings.reserved_uid
        || (settings.reserved_gid != 0 && vfs::credentials::is_in_group(settings.reserved_gid))
        || vfs::credentials::can_use_reserved_resources()
}

#[kunit_tests(ferrofs_space)]
mod tests {
    use super::*;

    /// A disk of which `free` blocks are free.
    fn space(free: u64, kept_back: u64, pool: u64) -> Result<Pin<KBox<Space>>> {
        let space = KBox::try_pin_init(Space::new(), GFP_KERNEL)?;
        space.begin_with(&Totals {
            free_blocks: free,
            free_inodes: 10,
            directories: 1,
        });
        space.kept_back.store(kept_back, Relaxed);
        space.pool.store(pool, Relaxed);
        Ok(space)
    }

    #[test]
    fn each_gets_down_to_his_floor() -> Result {
        let space = space(100, 30, 10)?;
        assert_eq!(space.reserve(61, false), Err(ENOSPC));
        space.reserve(60, false)?;
        assert_eq!(space.reserve(1, false), Err(ENOSPC));
        space.reserve(30, true)?;
        assert_eq!(space.reserve(1, true), Err(ENOSPC));
        assert_eq!(space.reserve_from_pool(11), Err(ENOSPC));
        space.reserve_from_pool(10)?;
        assert_eq!(space.reserve_from_pool(1), Err(ENOSPC));
        assert_eq!((space.unreserved(), space.free()), (0, 100));
        // What was refused took nothing.
        space.give_back(1);
        space.reserve_from_pool(1)?;
        assert_eq!(space.reserve_from_pool(1), Err(ENOSPC));
        Ok(())
    }

    #[test]
    fn plenty_is_granted_without_counting() -> Result {
        let plenty = PLENTY as u64;
        let space = space(plenty + u64::from(SMALL) + 41, 30, 10)?;
        // One block more than what must be left is free.
        space.try_reserve(SMALL)?;
        assert_eq!(space.unreserved(), plenty + 41);
        assert_eq!(space.try_reserve(1), Err(EAGAIN));
        space.reserve(1, false)?;
        assert_eq!(space.unreserved(), plenty + 40);
        // Much at once is counted, however much there is.
        space.give_back(u32::MAX);
        assert_eq!(space.try_reserve(SMALL + 1), Err(EAGAIN));
        space.reserve(SMALL + 1, false)?;
        Ok(())
    }

    #[test]
    fn numbers_beyond_the_disk() -> Result {
        let space = space(100, 0, 0)?;
        assert_eq!(space.reserve(u32::MAX, true), Err(ENOSPC));
        // More is lost than there was: a damaged disk.
        space.lost(150);
        assert_eq!((space.unreserved(), space.free()), (0, 100));
        assert_eq!(space.reserve_from_pool(1), Err(ENOSPC));
        space.used(101);
        assert_eq!((space.free(), space.load().free_clusters), (0, 0));
        // A super block that keeps back more than there is.
        let space = self::space(100, u64::MAX >> 2, 10)?;
        assert_eq!(space.reserve(1, false), Err(ENOSPC));
        assert_eq!(space.try_reserve(1), Err(EAGAIN));
        space.reserve(90, true)
    }

    #[test]
    fn a_block_is_free_then_pending_then_available() -> Result {
        let space = space(100, 0, 0)?;
        space.reserve(100, false)?;
        space.used(60);
        assert_eq!((space.free(), space.unreserved()), (40, 0));
        space.freed(50);
        // Free on disk, and told to whoever asks, but not given away.
        assert_eq!((space.free(), space.unreserved()), (90, 50));
        assert_eq!(space.pending(), 50);
        assert_eq!(space.reserve(1, true), Err(ENOSPC));
        space.committed(50);
        assert_eq!((space.pending(), space.unreserved()), (0, 50));
        space.reserve(50, false)?;
        assert_eq!(space.reserve(1, false), Err(ENOSPC));
        Ok(())
    }

    #[test]
    fn inodes_are_counted() -> Result {
        let space = space(0, 0, 0)?;
        space.inode_used(true);
        space.inode_used(false);
        assert_eq!(space.free_inodes(), 8);
        for _ in 0..9 {
            space.inode_used(false);
        }
        assert_eq!(space.free_inodes(), 0);
        space.inode_freed(true);
        for _ in 0..10 {
            space.inode_freed(false);
        }
        assert_eq!((space.free_inodes(), space.directories.sum()), (10, 1));
        Ok(())
    }
}
