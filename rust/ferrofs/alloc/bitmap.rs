// SPDX-License-Identifier: GPL-2.0

//! The bitmaps on disk, with the descriptors that count and protect them.
//!
//! Only the holder of a group's lock touches its bitmaps. A descriptor block is shared with other
//! groups; its contents are taken after those of a bitmap.

use core::ops::Range;

use ext4::bitmap;
use ext4::bitmap::Bitmap;
use ext4::bitmap::BitmapError;
use ext4::group_desc::flags;
use ext4::group_desc::GroupDesc;
use ext4::group_desc::GroupDescError;
use ext4::Corrupt;
use ext4::Group;
use ext4::PhysicalBlock;
use kernel::prelude::*;
use vfs::buffer::Buffer;
use vfs::memory::until_available;
use vfs::transaction::BufferMut;
use vfs::transaction::Seal;
use vfs::transaction::Transaction;
use vfs::transaction::Unsealed;

use super::summary::Summary;
use super::zone::Zone;
use crate::error;
use crate::error::Place;
use crate::group;
use crate::volume::kind;
use crate::SuperBlock;

/// Which of a group's two bitmaps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Blocks,
    Inodes,
}

/// What a descriptor says of one bitmap.
struct Home {
    block: PhysicalBlock,
    /// The bitmap was never written: it is as it would be in an empty group.
    uninit: bool,
}

fn home(sb: &SuperBlock, group: Group, which: Which) -> Result<Home> {
    let layout = &sb.data().layout;
    group::with_descriptor(sb, group, |descriptor| {
        let set = descriptor.flags(&layout.desc_checksum);
        match which {
            Which::Blocks => Home {
                block: descriptor.block_bitmap(),
                uninit: set & flags::BLOCK_UNINIT != 0,
            },
            Which::Inodes => Home {
                block: descriptor.inode_bitmap(),
                uninit: set & flags::INODE_UNINIT != 0,
            },
        }
    })
}

/// Reads a bitmap from the disk and verifies it against its descriptor.
fn read(sb: &SuperBlock, group: Group, which: Which, block: PhysicalBlock) -> Result<Buffer> {
    let volume = sb.data();
    let layout = &volume.layout;
    let descriptors = group::descriptor_block(sb, group)?;
    let kind = match which {
        Which::Blocks => kind::BLOCK_BITMAP,
        Which::Inodes => kind::INODE_BITMAP,
    };
    let verify = |bytes: &[u8]| -> Result<(), Corrupt> {
        let descriptors = descriptors.data();
        let descriptor = GroupDesc::in_block(&descriptors, &layout.geometry, group).ok_or(
            Corrupt::Truncated {
                needed: layout.geometry.block_size().bytes(),
                found: descriptors.len(),
            },
        )?;
        let geometry = &layout.geometry;
        let checked = match which {
            Which::Blocks => {
                bitmap::check_block_bitmap(bytes, layout.checksum, geometry, descriptor, group)
            }
            Which::Inodes => bitmap::check_inode_bitmap(
                bytes,
                layout.checksum,
                geometry,
                &layout.desc_checksum,
                descriptor,
                group,
            ),
        };
        Ok(checked?)
    };
    let read = volume.read_block(block, kind, verify);
    read.map_err(|error| error.report(sb, Place::block(block)))
}

/// Fills in the bitmap of an empty group.
fn initialise(sb: &SuperBlock, group: Group, which: Which, bytes: &mut [u8]) -> Result {
    let geometry = &sb.data().layout.geometry;
    let filled = match which {
        Which::Inodes => bitmap::init_inode_bitmap(bytes, geometry),
        Which::Blocks => group::with_descriptor(sb, group, |descriptor| {
            bitmap::init_block_bitmap(bytes, geometry, descriptor, group)
        })?,
    };
    // A block of this file system has room for the bitmaps of its groups.
    filled.map_err(|_| EINVAL)
}

/// Makes sure that the metadata in a group, its own and what lies there of others, is in use in the group's bitmap,
/// which stands for `blocks`.
fn check_metadata(
    bitmap: &Bitmap<&[u8]>,
    zone: &Zone,
    blocks: Range<u64>,
) -> Result<(), BitmapError> {
    for part in zone.parts(blocks.clone()) {
        // Both are less than the size of a group.
        let (start, count) = (part.start - blocks.start, part.end - part.start);
        bitmap.check_used(start as u32, count as u32)?;
    }
    Ok(())
}

/// Makes the searchable form of a group's block bitmap.
///
/// A bitmap that contradicts its descriptor, or in which metadata is free, is reported as damaged.
pub(super) fn summarise(sb: &SuperBlock, zone: Option<&Zone>, group: Group) -> Result<Summary> {
    let geometry = &sb.data().layout.geometry;
    let home = home(sb, group, Which::Blocks)?;
    let bits = geometry.clusters_in_group(group);
    if home.uninit {
        let mut bytes = KVVec::from_elem(0, geometry.block_size().bytes(), GFP_KERNEL)?;
        initialise(sb, group, Which::Blocks, &mut bytes)?;
        return Summary::new(&bytes, bits);
    }
    let buffer = read(sb, group, Which::Blocks, home.block)?;
    let bytes = buffer.data();
    let bitmap = Bitmap::new(&bytes[..], bits).ok_or(EINVAL)?;
    let first = geometry.first_block(group).get();
    let blocks = first..first + u64::from(geometry.blocks_in_group(group));
    let checked = zone.map_or(Ok(()), |zone| check_metadata(&bitmap, zone, blocks));
    if let Err(what) = checked {
        drop(bytes);
        return Err(error::corrupt(
            sb,
            Place::block(home.block),
            format_args!("metadata is not in use: {what}"),
        ));
    }
    Summary::new(&bytes, bits)
}

/// The first clear bit at `from` or behind it among the inodes of a group.
pub(super) fn find_free_inode(sb: &SuperBlock, group: Group, from: u32) -> Result<Option<u32>> {
    let inodes = sb.data().layout.geometry.inodes_per_group();
    let home = home(sb, group, Which::Inodes)?;
    if home.uninit {
        return Ok((from < inodes).then_some(from));
    }
    let buffer = read(sb, group, Which::Inodes, home.block)?;
    let bytes = buffer.data();
    let bitmap = Bitmap::new(&*bytes, inodes).ok_or(EINVAL)?;
    Ok(bitmap.next_clear(from..inodes))
}

/// Recomputes the checksum of a descriptor when the change of its block ends.
pub(super) struct DescriptorSeal<'a> {
    sb: &'a SuperBlock,
    group: Group,
}

impl Seal for DescriptorSeal<'_> {
    fn seal(&self, block: &mut [u8]) {
        let layout = &self.sb.data().layout;
        if let Some(descriptor) = GroupDesc::in_block_mut(block, &layout.geometry, self.group) {
            descriptor.update_checksum(&layout.desc_checksum, self.group);
        }
    }
}

/// A bitmap and the descriptor of its group, to be changed together.
pub(super) struct Change<'a> {
    sb: &'a SuperBlock,
    group: Group,
    which: Which,
    home: PhysicalBlock,
    bits: BufferMut<'a, Unsealed>,
    descriptor: BufferMut<'a, DescriptorSeal<'a>>,
}

impl<'a> Change<'a> {
    /// Gets write access to both. Takes two credits. The lock of the group is held.
    pub(super) fn begin(
        txn: &'a Transaction<'_>,
        sb: &'a SuperBlock,
        group: Group,
        which: Which,
    ) -> Result<Self> {
        let descriptors = group::descriptor_block(sb, group)?;
        let home = home(sb, group, which)?;
        let bits = if home.uninit {
            let kind = match which {
                Which::Blocks => kind::BLOCK_BITMAP,
                Which::Inodes => kind::INODE_BITMAP,
            };
            // Computed before the block's contents are held: it looks at the descriptor.
            let size = sb.data().layout.geometry.block_size().bytes();
            // Nothing takes back what the transaction has changed so far.
            let mut empty = until_available(|| KVVec::from_elem(0, size, GFP_KERNEL));
            initialise(sb, group, which, &mut empty)?;
            let mut bits = txn.create(home.block.get(), kind, Unsealed)?;
            bits.copy_from_slice(&empty);
            bits
        } else {
            txn.write(&read(sb, group, which, home.block)?, Unsealed)?
        };
        let descriptor = txn.write(&descriptors, DescriptorSeal { sb, group })?;
        Ok(Self {
            sb,
            group,
            which,
            home: home.block,
            bits,
            descriptor,
        })
    }

    /// Marks `range` as used, all of which must be free, or the reverse. When it is not so nothing is
    /// changed, the damage is reported and the error for it returned.
    ///
    /// `adjust` changes the counts of the descriptor, or changes nothing and fails.
    pub(super) fn mark(
        mut self,
        range: Range<u32>,
        used: bool,
        adjust: impl FnOnce(&mut GroupDesc) -> Result<(), GroupDescError>,
    ) -> Result {
        let layout = &self.sb.data().layout;
        let geometry = &layout.geometry;
        let bits = match self.which {
            Which::Blocks => geometry.clusters_in_group(self.group),
            Which::Inodes => geometry.inodes_per_group(),
        };
        let changed = self.change(bits, &range, used, adjust);
        if let Err(what) = changed {
            let (sb, home, group) = (self.sb, self.home, self.group);
            // Reporting takes the contents of other blocks.
            drop(self);
            return Err(error::corrupt(
                sb,
                Place::block(home),
                format_args!("group {group}: {what}"),
            ));
        }
        let descriptor =
            GroupDesc::in_block_mut(&mut self.descriptor, geometry, self.group).ok_or(EINVAL)?;
        match self.which {
            Which::Blocks => {
                descriptor.change_flags(0, flags::BLOCK_UNINIT);
                descriptor.update_block_bitmap(layout.checksum, geometry, &self.bits);
            }
            Which::Inodes => {
                descriptor.change_flags(0, flags::INODE_UNINIT);
                descriptor.update_inode_bitmap(layout.checksum, geometry, &self.bits);
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        bits: u32,
        range: &Range<u32>,
        used: bool,
        adjust: impl FnOnce(&mut GroupDesc) -> Result<(), GroupDescError>,
    ) -> Result<(), Corrupt> {
        let geometry = &self.sb.data().layout.geometry;
        let (start, count) = (range.start, range.end - range.start);
        let out_of_range = BitmapError::OutOfRange { start, count, bits };
        let mut bitmap = Bitmap::new(&mut *self.bits, bits).ok_or(out_of_range)?;
        if used {
            bitmap.check_free(start, count)?;
        } else {
            bitmap.check_used(start, count)?;
        }
        let descriptor = GroupDesc::in_block_mut(&mut self.descriptor, geometry, self.group)
            .ok_or(out_of_range)?;
        adjust(descriptor)?;
        if used {
            bitmap.allocate(start, count)?;
        } else {
            bitmap.release(start, count)?;
        }
        Ok(())
    }
}

#[kunit_tests(ferrofs_bitmap)]
mod tests {
    use super::*;

    /// The blocks of a group behind the first one.
    const BLOCKS: Range<u64> = 128..256;

    fn zone(ranges: &[Range<u64>]) -> Result<Zone> {
        let mut list = KVVec::new();
        for range in ranges {
            list.push(range.clone().into(), GFP_KERNEL)?;
        }
        Ok(Zone::new(list))
    }

    /// What is found wrong when only the blocks in `free` are free.
    fn check(free: Range<u64>, metadata: &[Range<u64>]) -> Result<Result<(), BitmapError>> {
        let mut bytes = [0xff; 16];
        let mut bitmap = Bitmap::new(&mut bytes[..], 128).ok_or(EINVAL)?;
        let (start, count) = (free.start - BLOCKS.start, free.end - free.start);
        bitmap
            .release(start as u32, count as u32)
            .map_err(|_| EINVAL)?;
        let bitmap = Bitmap::new(&bytes[..], 128).ok_or(EINVAL)?;
        Ok(check_metadata(&bitmap, &zone(metadata)?, BLOCKS))
    }

    #[test]
    fn metadata_that_is_free_is_found() -> Result {
        let first_and_last = [128..129, 255..256];
        assert!(check(129..255, &first_and_last)?.is_ok());
        assert!(check(128..129, &first_and_last)?.is_err());
        assert!(check(255..256, &first_and_last)?.is_err());
        // The last block of a word and the first of the next.
        let inner = [191..193];
        assert!(check(128..191, &inner)?.is_ok());
        assert!(check(193..256, &inner)?.is_ok());
        assert!(check(191..192, &inner)?.is_err());
        assert!(check(192..193, &inner)?.is_err());
        Ok(())
    }

    #[test]
    fn metadata_elsewhere_does_not_matter() -> Result {
        assert!(check(128..256, &[])?.is_ok());
        assert!(check(128..256, &[0..128, 256..300])?.is_ok());
        // What lies across the borders matters as far as it is here.
        let across = [100..130, 250..1000];
        assert!(check(130..250, &across)?.is_ok());
        assert!(check(129..130, &across)?.is_err());
        assert!(check(250..251, &across)?.is_err());
        Ok(())
    }

    #[test]
    fn the_parts_of_a_zone_are_cut_and_in_order() -> Result {
        let zone = zone(&[40..50, 10..20, 20..30])?;
        assert!(zone.parts(0..100).eq([10..30, 40..50]));
        assert!(zone.parts(15..45).eq([15..30, 40..45]));
        assert!(zone.parts(30..40).eq([]));
        assert!(zone.parts(49..50).eq([49..50]));
        assert!(zone.parts(50..50).eq([]));
        assert!(zone.overlaps(PhysicalBlock::new(49), 1));
        assert!(!zone.overlaps(PhysicalBlock::new(30), 10));
        assert!(zone.overlaps(PhysicalBlock::new(30), 11));
        Ok(())
    }
}
