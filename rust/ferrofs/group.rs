// SPDX-License-Identifier: GPL-2.0

//! Group descriptors: where a group's bitmaps and inode table are.

use ext4::group_desc::GroupDesc;
use ext4::Corrupt;
use ext4::Group;
use ext4::InodeNumber;
use ext4::PhysicalBlock;
use kernel::prelude::*;
use kernel::sync::SetOnce;
use vfs::buffer::Buffer;

use crate::error;
use crate::error::Place;
use crate::volume::kind;
use crate::SuperBlock;

/// The blocks of descriptors of a mount, which stay in memory: nearly every change of metadata needs one.
pub(crate) struct Descriptors(SetOnce<KVVec<Buffer>>);

impl Descriptors {
    /// Nothing is in memory yet.
    pub(crate) const fn new() -> Self {
        Self(SetOnce::new())
    }

    /// Keeps all of them. Called once at mount, after the journal was replayed.
    pub(crate) fn load(&self, sb: &SuperBlock) -> Result {
        if self.0.populate(read_descriptors(sb)?) {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    fn get(&self, index: u32) -> Option<Buffer> {
        self.0.as_ref()?.get(index as usize).cloned()
    }
}

/// The block that holds the descriptor of `group`, every descriptor in it verified. Sleeps.
pub(crate) fn descriptor_block(sb: &SuperBlock, group: Group) -> Result<Buffer> {
    let volume = sb.data();
    let (index, _) = volume.layout.geometry.desc_offset(group);
    match volume.descriptors.get(index) {
        Some(buffer) => Ok(buffer),
        None => read_descriptor_block(sb, group),
    }
}

/// Reads and checks every group descriptor.
pub(crate) fn read_descriptors(sb: &SuperBlock) -> Result<KVVec<Buffer>> {
    let geometry = &sb.data().layout.geometry;
    let mut blocks = KVVec::with_capacity(geometry.desc_blocks() as usize, GFP_KERNEL)?;
    for group in geometry
        .groups()
        .step_by(geometry.descs_per_block() as usize)
    {
        blocks.push(read_descriptor_block(sb, group)?, GFP_KERNEL)?;
    }
    Ok(blocks)
}

/// As [`descriptor_block`], before [`Descriptors::load`].
fn read_descriptor_block(sb: &SuperBlock, group: Group) -> Result<Buffer> {
    let volume = sb.data();
    let layout = &volume.layout;
    let geometry = &layout.geometry;
    let (index, _) = geometry.desc_offset(group);
    let block = geometry.desc_block(index);
    volume
        .read_block(block, kind::DESCRIPTORS, |bytes| {
            let first = index * geometry.descs_per_block();
            let end = (first + geometry.descs_per_block()).min(geometry.group_count());
            for group in (first..end).map(Group::new) {
                let descriptor =
                    GroupDesc::in_block(bytes, geometry, group).ok_or(Corrupt::Truncated {
                        needed: geometry.block_size().bytes(),
                        found: bytes.len(),
                    })?;
                descriptor.verify_checksum(&layout.desc_checksum, group)?;
                descriptor.validate(geometry, &layout.desc_checksum, group)?;
            }
            Ok(())
        })
        .map_err(|error| error.report(sb, Place::block(block)))
}

/// Looks at the descriptor of `group`. `look` runs with the block's contents held: it must not sleep
/// on anything that a writer of that block may hold.
pub(crate) fn with_descriptor<R>(
    sb: &SuperBlock,
    group: Group,
    look: impl FnOnce(&GroupDesc) -> R,
) -> Result<R> {
    let buffer = descriptor_block(sb, group)?;
    let bytes = buffer.data();
    // Verified blocks are as long as all others.
    let descriptor = GroupDesc::in_block(&bytes, &sb.data().layout.geometry, group).ok_or(EIO)?;
    Ok(look(descriptor))
}

/// The block of the inode table in which inode `number` lies, and the byte of that block at which it
/// begins.
pub(crate) fn inode_place(sb: &SuperBlock, number: InodeNumber) -> Result<(PhysicalBlock, usize)> {
    let geometry = &sb.data().layout.geometry;
    let Some((group, index)) = geometry.locate_inode(number) else {
        return Err(error::corrupt(
            sb,
            Place::inode(number),
            "there is no such inode",
        ));
    };
    let table = with_descriptor(sb, group, |descriptor| descriptor.inode_table())?;
    let (block, offset) = geometry.inode_offset(index);
    let block = table.checked_add(block.into()).ok_or(EIO)?;
    Ok((block, offset))
}
