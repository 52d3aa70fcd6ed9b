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
    pub(super) fn forget_blocks(&self, core: &Core, state: &mut State) {
        state.bad_blocks = true;
        state.summary = None;
        core.space.lost(self.free.swap(0, Relaxed));
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
                        self.forget_blocks(core, state);
                    }
                    return Err(error);
                }
            }
        }
        state.summary.as_mut().ok_or(EINVAL)
    }

    fn make_summary(&self, sb: &SuperBlock, core: &Core) -> Result<Summary> {
        let mut summary = bitmap::summarise(sb, core.zone.as_ref(), self.number)?;
        // They are free in the bitmap.
        for run in core.waiting.lock().in_group(self.number) {
            summary.mark_used(run.bits()).map_err(|_| EINVAL)?;
        }
        Ok(summary)
    }

    /// Blocks whose freeing was committed can be allocated again.
    pub(super) fn make_free(&self, core: &Core, state: &mut State, run: &Freed) {
        let bits: Range<u32> = run.bits();
        if state.bad_blocks {
            core.space.lost(run.count);
        } else if let Some(summary) = state.summary.as_mut() {
            if let Err(what) = summary.mark_free(bits) {
                pr_err!(
                    "({}): group {}: {}\n",
                    core.id(),
                    self.number.get(),
                    crate::error::Shown(what)
                );
            }
            self.update_hints(summary);
        } else {
            self.free.fetch_add(run.count, Relaxed);
        }
        core.space.committed(run.count);
    }
}
