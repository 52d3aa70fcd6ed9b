// SPDX-License-Identifier: GPL-2.0

//! In which group a new inode goes.
//!
//! What is used together should lie together, and what is not should not be in its way. So the files
//! of a directory go where the directory is, and directories are spread: those right under the root
//! far, to the emptiest parts of the disk, the others only when the part where their parent lies has
//! got fuller than the average. The idea is Grigory Orlov's, from FreeBSD.
//!
//! With `flex_bg` several groups keep their bitmaps and inode tables together, and such a *flex group*
//! is what is chosen first:
//!
//! ```text
//! groups        0  1  2  3 | 4  5  6  7 | 8  9 10 11 | ...
//! inode tables  ^^^^^^^^^^   ^^^^^^^^^^   ^^^^^^^^^^    one behind the other at the start of the
//!                                                      flex group; inodes are taken from the front
//! file data     from the second group of the flex group on, behind the tables
//! ```
//!
//! Without it each group is for itself, a flex group of one.
//!
//! All functions here are pure: what is known of a group comes from a closure. The answer is a
//! suggestion: the caller, who holds no lock while it is worked out, may find the group full, and asks
//! again.

#[cfg(test)]
mod tests;

use core::num::NonZeroU32;

use crate::Geometry;
use crate::Group;
use crate::PhysicalBlock;

/// What is known of a group, or of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// How many inodes are free.
    pub free_inodes: u64,
    /// How many clusters are free.
    pub free_clusters: u64,
    /// How many directories there are.
    pub directories: u64,
}

impl Load {
    fn add(&mut self, other: &Self) {
        self.free_inodes += other.free_inodes;
        self.free_clusters += other.free_clusters;
        self.directories += other.directories;
    }

    /// The share of one in `count`.
    fn average(&self, count: NonZeroU32) -> Self {
        let count = core::num::NonZeroU64::from(count);
        Self {
            free_inodes: self.free_inodes / count,
            free_clusters: self.free_clusters / count,
            directories: self.directories / count,
        }
    }
}

/// What a choice is made from.
pub struct Chooser<'a, F> {
    geometry: &'a Geometry,
    /// What is free in the whole filesystem. It may be a little old.
    total: Load,
    load: F,
}

impl<'a, F: Fn(Group) -> Load> Chooser<'a, F> {
    /// Makes one. `total` is about the whole filesystem, `load` tells about each group that exists.
    pub fn new(geometry: &'a Geometry, total: Load, load: F) -> Self {
        Self {
            geometry,
            total,
            load,
        }
    }

    fn flex_count(&self) -> NonZeroU32 {
        let last = Group::new(self.geometry.group_count() - 1);
        let count = self.geometry.flex_group(last).saturating_add(1);
        NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
    }

    /// The groups of a flex group.
    fn groups_of(&self, flex: u32) -> impl Iterator<Item = Group> {
        let size = u64::from(self.geometry.groups_per_flex());
        let count = u64::from(self.geometry.group_count());
        let start = (u64::from(flex) * size).min(count);
        let end = (start + size).min(count);
        (start as u32..end as u32).map(Group::new)
    }

    fn flex_load(&self, flex: u32) -> Load {
        self.groups_of(flex)
            .fold(Load::default(), |mut sum, group| {
                sum.add(&(self.load)(group));
                sum
            })
    }

    /// The first group of a flex group that has a free inode.
    fn first_free_in(&self, flex: u32) -> Option<Group> {
        self.groups_of(flex)
            .find(|group| (self.load)(*group).free_inodes > 0)
    }

    /// The numbers from 0 to `count - 1`, beginning at `start` and going around.
    fn around(start: u32, count: NonZeroU32) -> impl Iterator<Item = u32> {
        let start = start % count;
        (start..count.get()).chain(0..start)
    }

    /// Where a directory goes that has nothing to do with its siblings: one right under the root, or
    /// under a directory with [`InodeFlags::TOP_DIR`](crate::inode::InodeFlags::TOP_DIR).
    ///
    /// `hash` is any number that differs from name to name: where to begin looking. `parent` is where
    /// the parent's inode lies.
    ///
    /// It goes to the flex group with the fewest directories of those that have at least the average
    /// of free inodes and free clusters. `None` when no inode is free.
    pub fn top_directory(&self, parent: Group, hash: u32) -> Option<Group> {
        let count = self.flex_count();
        let average = self.total.average(count);
        let mut best: Option<(u64, u32)> = None;
        for flex in Self::around(hash, count) {
            let load = self.flex_load(flex);
            if load.free_inodes > 0
                && load.free_inodes >= average.free_inodes
                && load.free_clusters >= average.free_clusters
                && best.is_none_or(|(fewest, _)| load.directories < fewest)
            {
                best = Some((load.directories, flex));
                if load.directories == 0 {
                    // There is none better.
                    break;
                }
            }
        }
        best.and_then(|(_, flex)| self.first_free_in(flex))
            .or_else(|| self.anywhere(parent))
    }

    /// Where any other directory goes: to its parent's flex group, or to the first one behind it, as
    /// long as there are not many more directories than on average and not much less is free.
    ///
    /// `parent` is where the parent's inode lies, or where the last directory in it was made if that
    /// is known. `None` when no inode is free.
    pub fn directory(&self, parent: Group) -> Option<Group> {
        let count = self.flex_count();
        let average = self.total.average(count);
        let size = u64::from(
            self.geometry
                .groups_per_flex()
                .min(self.geometry.group_count()),
        );
        let inodes = u64::from(self.geometry.inodes_per_group()) * size;
        let clusters = u64::from(self.geometry.clusters_per_group()) * size;

        let most_directories = average.directories + inodes / 16;
        let fewest_inodes = average.free_inodes.saturating_sub(inodes / 4).max(1);
        let fewest_clusters = average.free_clusters.saturating_sub(clusters / 4);
        Self::around(self.geometry.flex_group(parent), count)
            .find(|flex| {
                let load = self.flex_load(*flex);
                load.directories < most_directories.max(1)
                    && load.free_inodes >= fewest_inodes
                    && load.free_clusters >= fewest_clusters
            })
            .and_then(|flex| self.first_free_in(flex))
            .or_else(|| self.anywhere(parent))
    }

    /// Where anything that is not a directory goes: to the flex group of its directory, to the one
    /// where the directory's last file went, or to wherever a directory would.
    ///
    /// `parent` is where the directory's inode lies, `last` where its last file went if that was
    /// elsewhere and is known. `None` when no inode is free.
    pub fn file(&self, parent: Group, last: Option<Group>) -> Option<Group> {
        [Some(parent), last]
            .into_iter()
            .flatten()
            .find_map(|group| self.first_free_in(self.geometry.flex_group(group)))
            .or_else(|| self.directory(parent))
    }

    /// The first group from `start` on that has at least the average of free inodes, or else any.
    fn anywhere(&self, start: Group) -> Option<Group> {
        let count = NonZeroU32::new(self.geometry.group_count())?;
        let average = self.total.average(count).free_inodes.max(1);
        let groups = || Self::around(start.get(), count).map(Group::new);
        let free = |group: &Group| (self.load)(*group).free_inodes;
        groups()
            .find(|group| free(group) >= average)
            .or_else(|| groups().find(|group| free(group) > 0))
    }
}

/// Where the data of a file begin best, as far as only its inode is known: in the inode's flex group,
/// data of regular files behind the group with the inode tables.
///
/// In a small flex group, or in none, in the inode's own group.
pub fn data_goal(geometry: &Geometry, inode_group: Group, is_regular: bool) -> PhysicalBlock {
    let size = geometry.groups_per_flex();
    let mut group = inode_group.get();
    if size >= 4 {
        group &= !(size - 1);
        if is_regular && group + 1 < geometry.group_count() {
            group += 1;
        }
    }
    geometry.first_block(Group::new(group.min(geometry.group_count() - 1)))
}
