// SPDX-License-Identifier: GPL-2.0

//! The groups in memory.

use core::ops::Range;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use ext4::free_space::GroupSpace;
use ext4::inode_policy::Load;
use ext4::system_zone::BlockRange;
use kernel::prelude::*;
use kernel::sync::Mutex;
use kernel::sync::MutexGuard;

use super::bitmap;
use super::freed::Freed;
use super::space::Space;
use super::summary::Summary;
use super::Core;
use crate::group;
use crate::SuperBlock;

/// What the descriptor of a group says at mount.
pub(super) struct Loaded {
    free_blocks: u32,
    free_inodes: u32,
    directories: u32,
}

/// Sums over all groups.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    pub(super) directories: u64,
}

impl Totals {
    pub(super) fn add(&mut self, group: &Loaded) {
        self.free_blocks += u64::from(group.free_blocks);
        self.free_inodes += u64::from(group.free_inodes);
        self.directories += u64::from(group.directories);
    }
}

/// Reads the descriptor of a group and adds the group's metadata to the system zone.
pub(super) fn load(
    sb: &SuperBlock,
    number: ext4::Group,
    zone: &mut KVVec<BlockRange>,
) -> Result<Loaded> {
    let geometry = &sb.data().layout.geometry;
    let (loaded, ranges) = group::with_descriptor(sb, number, |descriptor| {
        let loaded = Loaded {
            free_blocks: descriptor.free_clusters(),
            free_inodes: descriptor.free_inodes(),
            directories: descriptor.used_dirs(),
        };
        (loaded, descriptor.meta_ranges(geometry, number))
    })?;
    for range in ranges {
        zone.push(range.into(), GFP_KERNEL)?;
    }
    Ok(loaded)
}

/// No summary was made yet.
const UNKNOWN: u32 = u32::MAX;

/// One group.
///
/// The numbers are hints for those who choose a group; they are changed with `state` locked.
#[pin_data]
pub(super) struct Group {
    pub(super) number: ext4::Group,
    /// Blocks that can be allocated.
    free: AtomicU32,
    /// The order of the longest run of them, or [`UNKNOWN`].
    largest_order: AtomicU32,
    pub(super) free_inodes: AtomicU32,
    pub(super) directories: AtomicU32,
    #[pin]
    state: Mutex<State>,
}

/// What the lock of a group guards, besides the bitmaps and the descriptor on disk.
pub(super) struct State {
    /// The bitmap of blocks in a form that can be searched, once it was needed. Blocks that wait for a
    /// commit are used in it.
    pub(super) summary: Option<Summary>,
    /// The bitmap of blocks is damaged: nothing is allocated here.
    pub(super) bad_blocks: bool,
    /// The bitmap of inodes is damaged.
    pub(super) bad_inodes: bool,
}

impl Group {
    pub(super) fn new(number: ext4::Group, loaded: &Loaded) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                number,
                free: AtomicU32::new(loaded.free_blocks),
                largest_order: AtomicU32::new(UNKNOWN),
                free_inodes: AtomicU32::new(loaded.free_inodes),
                directories: AtomicU32::new(loaded.directories),
                state <- kernel::new_mutex!(
                    State {
                        summary: None,
                        bad_blocks: false,
                        bad_inodes: false,
                    },
                    "ferrofs_group"
                ),
            }),
            GFP_KERNEL,
        )
    }

    /// How many blocks can be allocated here, as far as is known.
    pub(super) fn free(&self) -> u32 {
        self.free.load(Relaxed)
    }

    /// What is known of them without a look at the bitmap.
    pub(super) fn space(&self) -> GroupSpace {
        let order = self.largest_order.load(Relaxed);
        GroupSpace {
            free: self.free(),
            largest_order: (order != UNKNOWN).then_some(order),
        }
    }

    /// What weighs in choosing a group for an inode.
    pub(super) fn load(&self) -> Load {
        Load {
            free_inodes: self.free_inodes.load(Relaxed).into(),
            free_clusters: self.free().into(),
            directories: self.directories.load(Relaxed).into(),
        }
    }

    /// Locks the group. Sleeps.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Makes the hints right after a change of the summary.
    pub(super) fn update_hints(&self, summary: &Summary) {
        self.free.store(summary.free_count(), Relaxed);
        // Of a full group the number of free blocks says enough.
        let order = summary.largest_order().unwrap_or(0);
        self.largest_order.store(order, Relaxed);
    }

    /// Nobody looks for blocks here any more.
    pub(super) fn forget_blocks(&self, space: &Space, state: &mut State) {
        state.bad_blocks = true;
        state.summary = None;
        space.lost(self.free.swap(0, Relaxed));
    }

    /// Makes the summary of the group unless there is one.
    ///
    /// When the bitmap is damaged that is reported, the group is given up, and the error returned.
    pub(super) fn summary<'s>(
        &self,
        sb: &SuperBlock,
        core: &Core,
        state: &'s mut State,
    ) -> Result<&'s mut Summary> {
        if state.summary.is_none() {
            match self.make_summary(sb, core) {
                Ok(summary) => {
                    self.update_hints(&summary);
                    state.summary = Some(summary);
                }
                Err(error) => {
                    if error != ENOMEM {
                        self.forget_blocks(&core.space, state);
                    }
                    return Err(error);
                }
            }
        }
        state.summary.as_mut().ok_or(EINVAL)
    }

    fn make_summary(&self, sb: &SuperBlock, core: &Core) -> Result<Summary> {
        let mut summary = bitmap::summarise(sb, core.zone.as_ref(), self.number)?;
        let waiting = core.waiting.lock();
        waiting
            .hide(self.number, &mut summary)
            .map_err(|_| EINVAL)?;
        Ok(summary)
    }

    /// Blocks whose freeing was committed can be allocated again. `id` is what messages call the mount.
    pub(super) fn make_free(&self, space: &Space, id: &str, state: &mut State, run: &Freed) {
        let bits: Range<u32> = run.bits();
        if state.bad_blocks {
            space.lost(run.count);
        } else if let Some(summary) = state.summary.as_mut() {
            if let Err(what) = summary.mark_free(bits) {
                pr_err!(
                    "({}): group {}: {}\n",
                    id,
                    self.number.get(),
                    crate::error::Shown(what)
                );
            }
            self.update_hints(summary);
        } else {
            self.free.fetch_add(run.count, Relaxed);
        }
        space.committed(run.count);
    }
}

#[kunit_tests(ferrofs_groups)]
mod tests {
    use super::super::freed::tests::run;
    use super::super::freed::Waiting;
    use super::*;
    use ext4::free_space::Request;
    use vfs::journal::Tid;

    /// A free group of 64 blocks, and the counts of a disk that has no other.
    fn free_group() -> Result<(Pin<KBox<Group>>, Pin<KBox<Space>>)> {
        let loaded = Loaded {
            free_blocks: 64,
            free_inodes: 8,
            directories: 0,
        };
        let mut totals = Totals::default();
        totals.add(&loaded);
        let space = KBox::try_pin_init(Space::new(), GFP_KERNEL)?;
        space.begin_with(&totals);
        Ok((Group::new(ext4::Group::ZERO, &loaded)?, space))
    }

    /// The summary of the group as its bitmap on disk has it: all free.
    fn all_free() -> Result<Summary> {
        Summary::new(&[0; 8], 64)
    }

    /// Where a run of 8 blocks is found, from the first block on.
    fn find(summary: &Summary) -> Option<Range<u32>> {
        summary.find(&Request {
            goal: 0,
            continues: false,
            wanted: 8,
            least: 8,
        })
    }

    #[test]
    fn what_is_freed_is_used_again_after_its_commit_only() -> Result {
        let (group, space) = free_group()?;
        let mut waiting = Waiting::new();
        let mut summary = all_free()?;
        // 16 blocks are allocated, and the first 8 of them freed by transaction 5.
        space.reserve(16, true)?;
        space.used(16);
        summary.mark_used(0..16).map_err(|_| EINVAL)?;
        group.update_hints(&summary);
        let freed = run(5, 0, 0..8);
        waiting.add(freed)?;
        space.freed(8);
        assert_eq!(find(&summary), Some(16..24));
        assert_eq!((group.free(), space.free(), space.pending()), (48, 56, 8));
        // Nor are they in a summary that is made of the bitmap on disk meanwhile.
        for committed in [4, 5] {
            waiting.commit(Tid::new(committed));
            let mut again = Summary::new(&[0, 0xff, 0, 0, 0, 0, 0, 0], 64)?;
            assert_eq!(find(&again), Some(0..8));
            waiting.hide(group.number, &mut again).map_err(|_| EINVAL)?;
            assert_eq!(find(&again), Some(16..24));
            assert_eq!(again.free_count(), 48);
        }
        // Of another group they are no matter.
        let mut other = all_free()?;
        waiting
            .hide(ext4::Group::new(1), &mut other)
            .map_err(|_| EINVAL)?;
        assert_eq!(find(&other), Some(0..8));

        let mut state = group.lock();
        state.summary = Some(summary);
        group.make_free(&space, "test", &mut state, &freed);
        let summary = state.summary.as_ref().ok_or(EINVAL)?;
        assert_eq!(find(summary), Some(0..8));
        assert_eq!((group.free(), space.pending()), (56, 0));
        assert_eq!((space.free(), space.unreserved()), (56, 56));
        Ok(())
    }

    #[test]
    fn a_contradiction_is_noticed() -> Result {
        // Blocks wait for a commit that are used on disk: the summary cannot be made.
        let mut waiting = Waiting::new();
        waiting.add(run(5, 0, 60..64))?;
        let mut summary = Summary::new(&[0, 0, 0, 0, 0, 0, 0, 0x80], 64)?;
        assert!(waiting.hide(ext4::Group::ZERO, &mut summary).is_err());
        Ok(())
    }

    #[test]
    fn hints_of_a_group_that_was_not_looked_at() -> Result {
        let (group, space) = free_group()?;
        let unknown = |free| GroupSpace {
            free,
            largest_order: None,
        };
        assert_eq!(group.space(), unknown(64));
        space.freed(4);
        group.make_free(&space, "test", &mut group.lock(), &run(1, 0, 0..4));
        assert_eq!(group.space(), unknown(68));
        let mut summary = all_free()?;
        summary.mark_used(0..33).map_err(|_| EINVAL)?;
        group.update_hints(&summary);
        assert_eq!((group.free(), group.space().largest_order), (31, Some(4)));
        summary.mark_used(33..64).map_err(|_| EINVAL)?;
        group.update_hints(&summary);
        assert_eq!(group.free(), 0);
        Ok(())
    }

    #[test]
    fn nothing_is_found_in_a_damaged_group() -> Result {
        let (group, space) = free_group()?;
        // 8 of its blocks are used by then.
        space.reserve(8, true)?;
        space.used(8);
        let mut summary = all_free()?;
        summary.mark_used(0..8).map_err(|_| EINVAL)?;
        group.update_hints(&summary);
        let mut state = group.lock();
        state.summary = Some(summary);
        group.forget_blocks(&space, &mut state);
        assert!(state.bad_blocks && state.summary.is_none());
        assert_eq!((group.free(), space.unreserved()), (0, 0));
        // What was freed in it before does not come back.
        space.freed(8);
        group.make_free(&space, "test", &mut state, &run(1, 0, 0..8));
        assert_eq!((group.free(), space.pending()), (0, 0));
        assert_eq!(space.unreserved(), 0);
        assert_eq!(space.reserve(1, true), Err(ENOSPC));
        Ok(())
    }
}
