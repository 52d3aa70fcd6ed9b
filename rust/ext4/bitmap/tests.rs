// SPDX-License-Identifier: GPL-2.0

use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::group_desc::flags;
use crate::testing::Image;
use crate::Group;

/// A bitmap as a list of booleans: what everything is compared with.
fn model(bytes: &[u8]) -> Vec<bool> {
    bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1))
        .collect()
}

/// Bytes in which runs of zeroes and ones are as likely as noise.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0), Just(0xff), any::<u8>()];
    prop::collection::vec(byte, 1..40)
}

#[test]
fn the_example_of_the_documentation() {
    let bytes = [0xff, 0x0d, 0x0f | 0xf0, 0xff];
    let bitmap = Bitmap::new(&bytes, 20).unwrap();
    let runs: Vec<_> = bitmap.free_runs(0..20).collect();
    let run = |start, count| Run { start, count };
    assert_eq!(runs, [run(9, 1), run(12, 4)]);
    assert_eq!(bitmap.check_padding(), Ok(()));
    assert!(bitmap.is_set(20));
}

#[test]
fn contradictions_change_nothing() {
    let mut bytes = [0b0000_1111, 0];
    let mut bitmap = Bitmap::new(&mut bytes, 12).unwrap();
    assert_eq!(
        bitmap.allocate(3, 4),
        Err(BitmapError::AlreadyUsed { bit: 3 })
    );
    assert_eq!(
        bitmap.release(2, 4),
        Err(BitmapError::AlreadyFree { bit: 4 })
    );
    for (start, count) in [(8, 5), (12, 1), (u32::MAX, 2)] {
        let error = BitmapError::OutOfRange {
            start,
            count,
            bits: 12,
        };
        assert_eq!(bitmap.allocate(start, count), Err(error));
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(
        bitmap.check_padding(),
        Err(BitmapError::Padding { bit: 12 })
    );
    bitmap.set_padding();
    assert_eq!(bitmap.check_padding(), Ok(()));
    assert_eq!(bytes, [0b0000_1111, 0b1111_0000]);
    assert!(Bitmap::new(&bytes, 17).is_none());
}

#[test]
fn every_bitmap_of_every_kind_is_right() {
    for options in [
        ["-O", "metadata_csum"],
        ["-O", "metadata_csum,^64bit"],
        ["-O", "^metadata_csum,uninit_bg"],
        ["-O", "^metadata_csum,^uninit_bg"],
        ["-O", "^flex_bg"],
        ["-O", "bigalloc"],
        ["-O", "meta_bg,^resize_inode"],
    ] {
        let mut all = ["-t", "ext4", "-b", "1024", "-g", "2048"].to_vec();
        all.extend(options);
        let image = Image::make(&all, 20123);
        let valid = image.validate();
        let geometry = &valid.geometry;
        let mut never_written = 0;
        for group in geometry.groups() {
            let desc = image.desc(geometry, group);
            let flags = desc.flags(&valid.desc_checksum);
            if flags & flags::BLOCK_UNINIT == 0 {
                let block = image.block(desc.block_bitmap());
                let result = check_block_bitmap(block, valid.checksum, geometry, desc, group);
                assert_eq!(result, Ok(()), "{options:?} {group}");
            } else {
                // What we make of it has as many free clusters as the descriptor says.
                never_written += 1;
                let mut block = [0x55; 1024];
                init_block_bitmap(&mut block, geometry, desc, group).unwrap();
                let result = check_block_bitmap(&block, None, geometry, desc, group);
                assert_eq!(result, Ok(()), "{options:?} {group}");
            }
            let mut block = image.block(desc.inode_bitmap()).to_vec();
            if flags & flags::INODE_UNINIT == 0 {
                let result = check_inode_bitmap(
                    &block,
                    valid.checksum,
                    geometry,
                    &valid.desc_checksum,
                    desc,
                    group,
                );
                assert_eq!(result, Ok(()), "{options:?} {group}");
            } else {
                block.fill(0x55);
                init_inode_bitmap(&mut block, geometry).unwrap();
                let bitmap = Bitmap::new(&block, geometry.inodes_per_group()).unwrap();
                assert_eq!(bitmap.check_padding(), Ok(()));
                assert_eq!(bitmap.count_free(0..bitmap.bits()), desc.free_inodes());
            }
        }
        if valid.desc_checksum.is_some() && !options[1].contains("bigalloc") {
            assert!(never_written > 0, "{options:?}");
        }
    }
}

/// `e2fsck` takes the bitmap that we make for one that `mke2fs` left unwritten.
#[test]
fn an_initialised_bitmap_is_clean() {
    let mut image = Image::make(&["-t", "ext4", "-b", "1024", "-g", "2048"], 20123);
    let valid = image.validate();
    let geometry = valid.geometry;
    for group in geometry.groups() {
        let desc = image.desc(&geometry, group);
        if desc.flags(&valid.desc_checksum) & flags::BLOCK_UNINIT == 0 {
            continue;
        }
        let place = desc.block_bitmap();
        let mut block = [0; 1024];
        init_block_bitmap(&mut block, &geometry, desc, group).unwrap();
        image.block_mut(place).copy_from_slice(&block);
        let descs = image.block_mut(geometry.desc_block(geometry.desc_offset(group).0));
        let desc = crate::group_desc::GroupDesc::in_block_mut(descs, &geometry, group).unwrap();
        desc.change_flags(0, flags::BLOCK_UNINIT);
        desc.update_block_bitmap(valid.checksum, &geometry, &block);
        desc.update_checksum(&valid.desc_checksum, group);
    }
    image.assert_clean();
}

#[test]
fn what_is_refused() {
    let image = Image::make(&["-t", "ext4", "-b", "1024", "-O", "^metadata_csum"], 20123);
    let valid = image.validate();
    let geometry = &valid.geometry;
    let last = Group::new(geometry.group_count() - 1);
    let check = |group, change: &dyn Fn(&mut Bitmap<&mut [u8]>)| {
        let desc = image.desc(geometry, group);
        let mut block = image.block(desc.block_bitmap()).to_vec();
        change(&mut Bitmap::new(&mut block[..], 8192).unwrap());
        check_block_bitmap(&block, None, geometry, desc, group).unwrap_err()
    };
    let bits = geometry.clusters_in_group(last);
    assert!(bits < 8192);
    assert_eq!(
        check(last, &|bitmap| bitmap.release(bits, 1).unwrap()),
        BitmapError::Padding { bit: bits }
    );
    assert_eq!(
        check(Group::ZERO, &|bitmap| bitmap.release(0, 1).unwrap()),
        BitmapError::MetadataFree { block: 1 }
    );
    let free = image.desc(geometry, Group::ZERO).free_clusters();
    assert_eq!(
        check(Group::ZERO, &|bitmap| {
            let bit = bitmap.next_clear(0..8192).unwrap();
            bitmap.allocate(bit, 1).unwrap();
        }),
        BitmapError::FreeCount {
            found: free - 1,
            expected: free
        }
    );

    let desc = image.desc(geometry, Group::ZERO);
    let mut block = image.block(desc.inode_bitmap()).to_vec();
    block[0] &= !2;
    let result = check_inode_bitmap(
        &block,
        None,
        geometry,
        &valid.desc_checksum,
        desc,
        Group::ZERO,
    );
    assert_eq!(result, Err(BitmapError::AlreadyFree { bit: 1 }));
}

proptest! {
    #[test]
    fn searches_agree_with_the_model(
        bytes in bytes(),
        cut in 0..8u32,
        start in 0..330u32,
        end in 0..330u32,
    ) {
        let bits = bytes.len() as u32 * 8 - cut;
        let model = &model(&bytes)[..bits as usize];
        let bitmap = Bitmap::new(&bytes, bits).unwrap();
        let range = start as usize..(end.min(bits).max(start)) as usize;
        let in_range = |value| {
            range.clone().find(|bit| model[*bit] == value).map(|bit| bit as u32)
        };
        prop_assert_eq!(bitmap.next_set(start..end), in_range(true));
        prop_assert_eq!(bitmap.next_clear(start..end), in_range(false));
        let last = range.clone().rev().find(|bit| model[*bit]).map(|bit| bit as u32);
        prop_assert_eq!(bitmap.find_last(start..end, true), last);
        let free = range.clone().filter(|bit| !model[*bit]).count();
        prop_assert_eq!(bitmap.count_free(start..end), free as u32);

        // The runs are all the free bits, and between two runs there is a used one.
        let mut seen = Vec::new();
        let mut before = None;
        for run in bitmap.free_runs(start..end) {
            prop_assert!(run.count > 0);
            prop_assert!(before.is_none_or(|end| run.start > end));
            before = Some(run.end());
            seen.extend(run.start..run.end());
        }
        let expected: Vec<u32> =
            range.filter(|bit| !model[*bit]).map(|bit| bit as u32).collect();
        prop_assert_eq!(seen, expected);

        for bit in 0..bits {
            prop_assert_eq!(bitmap.is_set(bit), model[bit as usize]);
            let around = bitmap.free_runs(0..bits).find(|run| (run.start..run.end()).contains(&bit));
            prop_assert_eq!(bitmap.free_run_around(bit), around);
        }
    }

    #[test]
    fn changes_agree_with_the_model(
        bytes in bytes(),
        operations in prop::collection::vec((any::<bool>(), 0..320u32, 0..100u32), 1..30),
    ) {
        let mut bytes = bytes;
        let bits = bytes.len() as u32 * 8;
        let mut model = model(&bytes);
        for (set, start, count) in operations {
            let mut bitmap = Bitmap::new(&mut bytes, bits).unwrap();
            let result = if set {
                bitmap.allocate(start, count)
            } else {
                bitmap.release(start, count)
            };
            let possible = start + count <= bits
                && model[start as usize..][..count as usize].iter().all(|bit| *bit != set);
            prop_assert_eq!(result.is_ok(), possible);
            if possible {
                model[start as usize..][..count as usize].fill(set);
            }
            prop_assert_eq!(&self::model(&bytes), &model);
        }
    }
}
