// SPDX-License-Identifier: GPL-2.0

//! What a group's bitmaps hold from the start, and what must be true of them.

use super::Bitmap;
use super::BitmapError;
use crate::group_desc::flags;
use crate::group_desc::DescChecksum;
use crate::group_desc::GroupDesc;
use crate::Checksummer;
use crate::Geometry;
use crate::Group;

/// The bits of a group's block bitmap that stand for blocks of its own metadata, as runs of a first
/// bit and a number. What lies in other groups, which `flex_bg` permits, is left out.
fn own_metadata<'a>(
    geometry: &'a Geometry,
    desc: &GroupDesc,
    group: Group,
) -> impl Iterator<Item = (u32, u32)> + 'a {
    let first = geometry.first_block(group).get();
    let end = first + u64::from(geometry.blocks_in_group(group));
    desc.meta_ranges(geometry, group)
        .into_iter()
        .filter_map(move |range| {
            let start = range.start.max(first);
            let end = range.end.min(end);
            if start >= end {
                return None;
            }
            let bits = geometry.cluster_bits();
            let first_bit = (start - first) >> bits;
            let last_bit = (end - 1 - first) >> bits;
            Some((first_bit as u32, (last_bit - first_bit + 1) as u32))
        })
}

/// Fills the block bitmap of a group that was never written, [`flags::BLOCK_UNINIT`]: only the group's
/// own metadata are in use.
///
/// `block` is the whole block of the bitmap. `desc` was validated.
///
/// # Errors
///
/// [`BitmapError::OutOfRange`] if the block is too short for the group, which a block of this
/// filesystem is not.
pub fn init_block_bitmap(
    block: &mut [u8],
    geometry: &Geometry,
    desc: &GroupDesc,
    group: Group,
) -> Result<(), BitmapError> {
    block.fill(0);
    let bits = geometry.clusters_in_group(group);
    let mut bitmap = view(block, bits)?;
    for (start, count) in own_metadata(geometry, desc, group) {
        bitmap.mark_used(start, count);
    }
    bitmap.set_padding();
    Ok(())
}

/// Fills the inode bitmap of a group that was never written, [`flags::INODE_UNINIT`]: no inode is in
/// use.
///
/// # Errors
///
/// As [`init_block_bitmap`].
pub fn init_inode_bitmap(block: &mut [u8], geometry: &Geometry) -> Result<(), BitmapError> {
    block.fill(0);
    view(block, geometry.inodes_per_group())?.set_padding();
    Ok(())
}

/// Checks a block bitmap that was read: its checksum, its padding, that the group's own metadata are
/// in use in it, and that the descriptor counts its free clusters rightly.
///
/// `desc` was validated, and `group` is not one with [`flags::BLOCK_UNINIT`], whose bitmap is not read.
pub fn check_block_bitmap(
    block: &[u8],
    seed: Option<Checksummer>,
    geometry: &Geometry,
    desc: &GroupDesc,
    group: Group,
) -> Result<(), BitmapError> {
    desc.verify_block_bitmap(seed, geometry, block)
        .map_err(BitmapError::Checksum)?;
    let bitmap = view(block, geometry.clusters_in_group(group))?;
    bitmap.check_padding()?;
    for (start, count) in own_metadata(geometry, desc, group) {
        if let Err(BitmapError::AlreadyFree { bit }) = bitmap.check_used(start, count) {
            return Err(BitmapError::MetadataFree {
                block: geometry.block_of_bit(group, bit).get(),
            });
        }
    }
    check_count(&bitmap, desc.free_clusters())
}

/// Checks an inode bitmap that was read: its checksum and that the descriptor counts its free inodes
/// rightly. In group 0 the reserved inodes must be in use.
///
/// Its padding is not looked at: the checksum does not cover it, and the kernel's ext4 does not mind
/// it either.
///
/// `desc` was validated, and `group` is not one with [`flags::INODE_UNINIT`], whose bitmap is not read.
pub fn check_inode_bitmap(
    block: &[u8],
    seed: Option<Checksummer>,
    geometry: &Geometry,
    protection: &DescChecksum,
    desc: &GroupDesc,
    group: Group,
) -> Result<(), BitmapError> {
    debug_assert!(desc.flags(protection) & flags::INODE_UNINIT == 0);
    desc.verify_inode_bitmap(seed, geometry, block)
        .map_err(BitmapError::Checksum)?;
    let bitmap = view(block, geometry.inodes_per_group())?;
    if group == Group::ZERO {
        let reserved = geometry.first_inode().index().min(bitmap.bits());
        bitmap.check_used(0, reserved)?;
    }
    check_count(&bitmap, desc.free_inodes())?;
    // What the descriptor says was never used must be free.
    let initialised = desc.initialised_inodes(geometry, protection);
    bitmap.check_free(initialised, bitmap.bits() - initialised)
}

fn view<B: AsRef<[u8]>>(block: B, bits: u32) -> Result<Bitmap<B>, BitmapError> {
    Bitmap::new(block, bits).ok_or(BitmapError::OutOfRange {
        start: 0,
        count: bits,
        bits: 0,
    })
}

fn check_count<B: AsRef<[u8]>>(bitmap: &Bitmap<B>, expected: u32) -> Result<(), BitmapError> {
    let found = bitmap.count_free(0..bitmap.bits());
    if found == expected {
        Ok(())
    } else {
        Err(BitmapError::FreeCount { found, expected })
    }
}
