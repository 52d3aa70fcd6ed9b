// SPDX-License-Identifier: GPL-2.0

//! Keeping a descriptor's counts in step with its bitmaps.
//!
//! Each of these goes with a change of a bitmap, in the same transaction and under the same lock. The
//! checksums of bitmap and descriptor come after it.

use super::flags;
use super::DescChecksum;
use super::GroupDesc;
use super::GroupDescError;
use crate::Geometry;
use crate::Group;

impl GroupDesc {
    /// Counts `clusters` that were allocated in the block bitmap, which is on disk from now on.
    ///
    /// # Errors
    ///
    /// When not that many were free; nothing is changed then.
    pub fn clusters_allocated(&mut self, clusters: u32) -> Result<(), GroupDescError> {
        let found = self.free_clusters();
        let left = found
            .checked_sub(clusters)
            .ok_or(GroupDescError::FreeClusters { found, clusters })?;
        self.set_free_clusters(left);
        self.change_flags(0, flags::BLOCK_UNINIT);
        Ok(())
    }

    /// Counts `count` clusters that were released in the block bitmap of `group`.
    ///
    /// # Errors
    ///
    /// When more were free then than there are; nothing is changed then.
    pub fn clusters_freed(
        &mut self,
        count: u32,
        geometry: &Geometry,
        group: Group,
    ) -> Result<(), GroupDescError> {
        let found = self.free_clusters().saturating_add(count);
        let clusters = geometry.clusters_in_group(group);
        if found > clusters {
            return Err(GroupDescError::FreeClusters { found, clusters });
        }
        self.set_free_clusters(found);
        Ok(())
    }

    /// Counts the inode at `index` in the group's table, which was allocated in the inode bitmap. The
    /// bitmap is on disk from now on, and so is the table up to this inode.
    ///
    /// # Errors
    ///
    /// When no inode was free, or the table is not that long; nothing is changed then.
    pub fn inode_allocated(
        &mut self,
        index: u32,
        is_directory: bool,
        geometry: &Geometry,
        protection: &DescChecksum,
    ) -> Result<(), GroupDescError> {
        let inodes = geometry.inodes_per_group();
        let found = self.free_inodes();
        let (Some(left), true) = (found.checked_sub(1), index < inodes) else {
            return Err(GroupDescError::FreeInodes { found, inodes });
        };
        if protection.is_some() {
            // The inodes behind this one may still be unused.
            let behind = inodes - (index + 1);
            let unused = if self.flags(protection) & flags::INODE_UNINIT != 0 {
                behind
            } else {
                self.itable_unused().min(behind)
            };
            self.set_itable_unused(unused);
        }
        self.set_free_inodes(left);
        self.change_flags(0, flags::INODE_UNINIT);
        if is_directory {
            self.set_used_dirs(self.used_dirs().saturating_add(1));
        }
        Ok(())
    }

    /// Counts an inode that was released in the inode bitmap.
    ///
    /// # Errors
    ///
    /// When all were free, or there was no directory; nothing is changed then.
    pub fn inode_freed(
        &mut self,
        is_directory: bool,
        geometry: &Geometry,
    ) -> Result<(), GroupDescError> {
        let inodes = geometry.inodes_per_group();
        let found = self.free_inodes().saturating_add(1);
        if found > inodes {
            return Err(GroupDescError::FreeInodes { found, inodes });
        }
        let directories = self.used_dirs();
        let left =
            directories
                .checked_sub(is_directory.into())
                .ok_or(GroupDescError::UsedDirs {
                    found: directories,
                    inodes: inodes - found,
                })?;
        self.set_used_dirs(left);
        self.set_free_inodes(found);
        Ok(())
    }
}
