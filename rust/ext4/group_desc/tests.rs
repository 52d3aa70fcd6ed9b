// SPDX-License-Identifier: GPL-2.0

use std::string::ToString;

use proptest::prelude::*;

use super::*;
use crate::superblock::ValidSuperblock;
use crate::testing::Image;

/// A filesystem of several groups; the options say of which kind.
fn image(options: &[&str]) -> (Image, ValidSuperblock) {
    let mut all = ["-t", "ext4", "-b", "1024", "-g", "2048"].to_vec();
    all.extend(options);
    let image = Image::make(&all, 20000);
    let valid = image.validate();
    (image, valid)
}

#[test]
fn every_descriptor_of_every_kind_is_valid() {
    for options in [
        ["-O", "metadata_csum"],
        ["-O", "metadata_csum,^64bit"],
        ["-O", "^metadata_csum,uninit_bg"],
        ["-O", "^metadata_csum,uninit_bg,^64bit"],
        ["-O", "^metadata_csum,^uninit_bg"],
        ["-O", "^flex_bg"],
        ["-O", "bigalloc"],
    ] {
        let (image, valid) = image(&options);
        let geometry = &valid.geometry;
        let mut free = 0;
        for group in geometry.groups() {
            let desc = image.desc(geometry, group);
            assert_eq!(desc.validate(geometry, &valid.desc_checksum, group), Ok(()));
            free += u64::from(desc.free_clusters());

            let flags = desc.flags(&valid.desc_checksum);
            let bitmap = image.block(desc.block_bitmap());
            if flags & flags::BLOCK_UNINIT == 0 {
                let verified = desc.verify_block_bitmap(valid.checksum, geometry, bitmap);
                assert_eq!(verified, Ok(()));
            }
            let bitmap = image.block(desc.inode_bitmap());
            if flags & flags::INODE_UNINIT == 0 {
                let verified = desc.verify_inode_bitmap(valid.checksum, geometry, bitmap);
                assert_eq!(verified, Ok(()));
            }
        }
        assert_eq!(
            free << geometry.cluster_bits(),
            image.superblock().free_blocks_count()
        );
    }
}

#[test]
fn a_group_that_is_marked_anew_is_clean() {
    for options in [
        ["-O", "metadata_csum"],
        ["-O", "metadata_csum,^64bit"],
        ["-O", "^metadata_csum,uninit_bg"],
    ] {
        let (mut image, valid) = image(&options);
        let geometry = &valid.geometry;
        let group = Group::new(1);
        let (index, _) = geometry.desc_offset(group);
        let desc = image.desc(geometry, group);
        let bitmap = image.block(desc.block_bitmap()).to_vec();
        let block = image.block_mut(geometry.desc_block(index));
        let desc = GroupDesc::in_block_mut(block, geometry, group).unwrap();

        desc.update_block_bitmap(valid.checksum, geometry, &bitmap);
        desc.change_flags(flags::INODE_ZEROED, 0);
        assert_ne!(desc.verify_checksum(&valid.desc_checksum, group), Ok(()));
        desc.update_checksum(&valid.desc_checksum, group);
        assert_eq!(desc.verify_checksum(&valid.desc_checksum, group), Ok(()));
        // The place is part of the checksum.
        let elsewhere = desc.verify_checksum(&valid.desc_checksum, Group::new(2));
        assert!(elsewhere.is_err());
        image.assert_clean();
    }
}

#[test]
fn what_is_refused() {
    let (image, valid) = image(&["-O", "^metadata_csum,uninit_bg,^flex_bg"]);
    let geometry = &valid.geometry;
    let protection = &valid.desc_checksum;
    let group = Group::new(3);
    let (index, _) = geometry.desc_offset(group);
    let refused = |change: &dyn Fn(&mut GroupDesc)| {
        let mut block = image.block(geometry.desc_block(index)).to_vec();
        let desc = GroupDesc::in_block_mut(&mut block, geometry, group).unwrap();
        change(desc);
        desc.update_checksum(protection, group);
        let error = desc.validate(geometry, protection, group).unwrap_err();
        assert!(!error.to_string().is_empty());
        error
    };
    let at = |block| PhysicalBlock::new(block);
    let first = geometry.first_block(group).get();
    let end = first + u64::from(geometry.blocks_in_group(group));

    assert_eq!(
        refused(&|desc| desc.set_block_bitmap(at(first - 1))),
        GroupDescError::OutOfRange {
            what: GroupMeta::BlockBitmap,
            block: first - 1
        }
    );
    assert_eq!(
        refused(&|desc| desc.set_inode_bitmap(at(u64::MAX))),
        GroupDescError::OutOfRange {
            what: GroupMeta::InodeBitmap,
            block: u64::MAX
        }
    );
    assert_eq!(
        refused(&|desc| desc.set_inode_table(at(end - 1))),
        GroupDescError::OutOfRange {
            what: GroupMeta::InodeTable,
            block: end - 1
        }
    );
    assert_eq!(
        refused(&|desc| desc.set_inode_bitmap(desc.block_bitmap())),
        GroupDescError::Overlap {
            what: GroupMeta::InodeBitmap,
            block: image.desc(geometry, group).block_bitmap().get()
        }
    );
    let clusters = geometry.clusters_in_group(group);
    assert_eq!(
        refused(&|desc| desc.set_free_clusters(clusters + 1)),
        GroupDescError::FreeClusters {
            found: clusters + 1,
            clusters
        }
    );
    let inodes = geometry.inodes_per_group();
    assert_eq!(
        refused(&|desc| desc.set_free_inodes(0x10000)),
        GroupDescError::FreeInodes {
            found: 0x10000,
            inodes
        }
    );
    assert_eq!(
        refused(&|desc| desc.set_used_dirs(1)),
        GroupDescError::UsedDirs {
            found: 1,
            inodes: 0
        }
    );
    assert_eq!(
        refused(&|desc| desc.set_itable_unused(inodes + 1)),
        GroupDescError::ItableUnused {
            found: inodes + 1,
            free: inodes
        }
    );

    // In group 0, and with flex_bg, where more is possible.
    let (image, valid) = self::image(&["-O", "^metadata_csum,uninit_bg"]);
    let geometry = &valid.geometry;
    let block = image.block(geometry.desc_block(0));
    for (change, expected) in [
        (
            (|desc: &mut GroupDesc| desc.change_flags(flags::BLOCK_UNINIT, 0)) as fn(&mut _),
            GroupDescError::Group0Uninit,
        ),
        (
            |desc| desc.set_block_bitmap(PhysicalBlock::new(2)),
            GroupDescError::OnSuper {
                what: GroupMeta::BlockBitmap,
                block: 2,
            },
        ),
    ] {
        let mut block = block.to_vec();
        let desc = GroupDesc::in_block_mut(&mut block, geometry, Group::ZERO).unwrap();
        change(desc);
        desc.update_checksum(&valid.desc_checksum, Group::ZERO);
        let result = desc.validate(geometry, &valid.desc_checksum, Group::ZERO);
        assert_eq!(result, Err(expected));
    }
}

proptest! {
    #[test]
    fn what_is_set_is_read(size in prop::sample::select(std::vec![32usize, 64, 128]), value: u64) {
        let mut bytes = [0x5a; 128];
        let desc = GroupDesc::mut_from_bytes(&mut bytes[..size]).unwrap();
        let (wide, narrow) = if size == 32 {
            (value & 0xffff_ffff, value as u32 & 0xffff)
        } else {
            (value, value as u32)
        };
        let block = PhysicalBlock::new(value);
        desc.set_block_bitmap(block);
        desc.set_inode_bitmap(block);
        desc.set_inode_table(block);
        desc.set_free_clusters(value as u32);
        desc.set_free_inodes(value as u32);
        desc.set_used_dirs(value as u32);
        desc.set_itable_unused(value as u32);
        let wide = PhysicalBlock::new(wide);
        prop_assert_eq!(desc.block_bitmap(), wide);
        prop_assert_eq!(desc.inode_bitmap(), wide);
        prop_assert_eq!(desc.inode_table(), wide);
        prop_assert_eq!(desc.free_clusters(), narrow);
        prop_assert_eq!(desc.free_inodes(), narrow);
        prop_assert_eq!(desc.used_dirs(), narrow);
        prop_assert_eq!(desc.itable_unused(), narrow);
        // Nothing behind the known fields is touched.
        prop_assert!(bytes[64.min(size)..].iter().all(|byte| *byte == 0x5a));
    }
}

/// What a few files and directories change, counted by us and looked at by `e2fsck`.
#[test]
fn counts_follow_the_bitmaps() {
    use crate::bitmap::init_inode_bitmap;
    use crate::bitmap::Bitmap;
    use crate::inode::RawInode;

    let (mut image, valid) = image(&["-O", "metadata_csum"]);
    let geometry = valid.geometry;
    let protection = valid.desc_checksum;
    let group = geometry
        .groups()
        .find(|group| {
            let flags = image.desc(&geometry, *group).flags(&protection);
            flags & flags::INODE_UNINIT != 0
        })
        .unwrap();
    // An empty file, at some distance into the table. It gets a name below.
    let number = geometry.inode_at(group, 5).unwrap();
    let inode = RawInode::from_bytes_mut(image.inode_mut(&geometry, number)).unwrap();
    inode.init(32);
    inode.set_mode(0o100644);
    inode.set_links(1);
    inode.update_checksum(valid.checksum, number);

    let place = image.desc(&geometry, group).inode_bitmap();
    let block = image.block_mut(place);
    init_inode_bitmap(block, &geometry).unwrap();
    let mut bitmap = Bitmap::new(&mut *block, geometry.inodes_per_group()).unwrap();
    bitmap.allocate(5, 1).unwrap();
    let block = block.to_vec();

    let descs = image.block_mut(geometry.desc_block(geometry.desc_offset(group).0));
    let desc = GroupDesc::in_block_mut(descs, &geometry, group).unwrap();
    let inodes = geometry.inodes_per_group();
    assert!(desc
        .inode_allocated(inodes, false, &geometry, &protection)
        .is_err());
    desc.inode_allocated(5, false, &geometry, &protection)
        .unwrap();
    assert_eq!(desc.itable_unused(), inodes - 6);
    assert_eq!(desc.free_inodes(), inodes - 1);
    desc.update_inode_bitmap(valid.checksum, &geometry, &block);
    desc.update_checksum(&protection, group);

    let free = image.superblock().free_inodes_count.get();
    image.superblock_mut().set_free_inodes_count(free - 1);
    image
        .superblock_mut()
        .update_checksum(crate::checksum::software_crc32c);
    image.debugfs(&[&format!("ln <{number}> file")]);
    image.assert_clean();
    assert_eq!(image.superblock().free_inodes_count.get(), free - 1);
}

#[test]
fn counts_do_not_leave_their_range() {
    let (image, valid) = image(&["-O", "metadata_csum"]);
    let geometry = &valid.geometry;
    let group = Group::new(3);
    let mut block = image
        .block(geometry.desc_block(geometry.desc_offset(group).0))
        .to_vec();
    let desc = GroupDesc::in_block_mut(&mut block, geometry, group).unwrap();
    let clusters = geometry.clusters_in_group(group);
    let free = desc.free_clusters();
    assert!(desc.clusters_allocated(free + 1).is_err());
    desc.clusters_allocated(free).unwrap();
    assert_eq!(desc.flags(&valid.desc_checksum) & flags::BLOCK_UNINIT, 0);
    assert!(desc.clusters_freed(clusters + 1, geometry, group).is_err());
    assert!(desc.clusters_freed(u32::MAX, geometry, group).is_err());
    desc.clusters_freed(free, geometry, group).unwrap();
    assert_eq!(desc.free_clusters(), free);

    let inodes = geometry.inodes_per_group();
    assert_eq!(desc.free_inodes(), inodes);
    assert!(desc.inode_freed(false, geometry).is_err());
    for index in 0..inodes {
        desc.inode_allocated(index, index == 7, geometry, &valid.desc_checksum)
            .unwrap();
    }
    assert_eq!(desc.itable_unused(), 0);
    assert_eq!(desc.used_dirs(), 1);
    let none_left = desc.inode_allocated(0, false, geometry, &valid.desc_checksum);
    assert_eq!(
        none_left,
        Err(GroupDescError::FreeInodes { found: 0, inodes })
    );
    desc.inode_freed(true, geometry).unwrap();
    assert!(desc.inode_freed(true, geometry).is_err());
    // What was used once stays part of the table.
    assert_eq!(desc.itable_unused(), 0);
}
