// SPDX-License-Identifier: GPL-2.0

use std::collections::HashMap;
use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::inode::RawInode;
use crate::testing::Image;

fn at(number: u32) -> InodeNumber {
    InodeNumber::new(number).unwrap()
}

/// Where the blocks of an image's orphan file lie, by `debugfs`.
fn blocks(image: &mut Image) -> Vec<PhysicalBlock> {
    let inode = image.validate().orphan_file.unwrap();
    let text = image.debugfs(&[&format!("blocks <{inode}>")]);
    text.split_whitespace()
        .filter_map(|word| Some(PhysicalBlock::new(word.parse().ok()?)))
        .collect()
}

fn seed(image: &Image) -> Option<Checksummer> {
    let valid = image.validate();
    let inode = valid.orphan_file.unwrap();
    let raw = RawInode::from_bytes(image.inode(&valid.geometry, inode)).unwrap();
    raw.validate(&valid, inode, false).unwrap().checksum
}

#[test]
fn the_orphan_file_of_mke2fs() {
    for options in [
        ["-O", "orphan_file", "-b", "1024"],
        ["-O", "orphan_file,^metadata_csum", "-b", "4096"],
        ["-O", "orphan_file", "-b", "8192"],
    ] {
        let mut all = ["-t", "ext4"].to_vec();
        all.extend(options);
        let mut image = Image::make(&all, 32768);
        let seed = seed(&image);
        let valid = image.validate();
        let inode = valid.orphan_file.unwrap();
        let blocks = blocks(&mut image);
        let raw = RawInode::from_bytes(image.inode(&valid.geometry, inode)).unwrap();
        assert_eq!(
            block_count(raw.size(true), valid.geometry.block_size()),
            Ok(blocks.len() as u64)
        );
        for place in &blocks {
            let block = OrphanBlock::from_bytes(image.block(*place)).unwrap();
            assert_eq!(block.validate(seed, *place, &valid.geometry), Ok(()));
            assert_eq!(block.free_count(), block.slot_count());
            assert_eq!(block.orphans().count(), 0);
        }
        // We make the same of any bytes.
        let mut bytes = image.block(blocks[0]).to_vec();
        bytes.fill(0x77);
        let block = OrphanBlock::from_bytes_mut(&mut bytes).unwrap();
        block.init();
        block.update_checksum(seed, blocks[0]);
        assert_eq!(bytes, image.block(blocks[0]));
    }
}

/// `e2fsck` deletes what we put in the orphan file.
#[test]
fn e2fsck_processes_our_orphans() {
    let mut image = Image::make(&["-t", "ext4", "-b", "1024", "-O", "orphan_file"], 32768);
    image.debugfs(&[
        concat!("write ", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml file"),
        "unlink file",
    ]);
    let valid = image.validate();
    let seed = seed(&image);
    let geometry = valid.geometry;
    let number = (12..30)
        .map(at)
        .find(|number| {
            let raw = RawInode::from_bytes(image.inode(&geometry, *number)).unwrap();
            raw.mode() == 0o100664 || raw.mode() == 0o100644
        })
        .unwrap();
    let raw = RawInode::from_bytes_mut(image.inode_mut(&geometry, number)).unwrap();
    raw.set_links(0);
    raw.set_dtime(0);
    raw.update_checksum(valid.checksum, number);

    let place = blocks(&mut image)[1];
    let block = OrphanBlock::from_bytes_mut(image.block_mut(place)).unwrap();
    assert_eq!(block.add(number, 17), Some(17));
    block.update_checksum(seed, place);
    image.superblock_mut().set_orphan_present(true);
    let crc32c = crate::checksum::software_crc32c;
    image.superblock_mut().update_checksum(crc32c);

    let free = image.superblock().free_inodes_count.get();
    image.repair();
    image.assert_clean();
    assert_eq!(image.superblock().free_inodes_count.get(), free + 1);
    let block = OrphanBlock::from_bytes(image.block(place)).unwrap();
    assert_eq!(block.free_count(), block.slot_count());
}

#[test]
fn what_is_refused() {
    let mut image = Image::make(&["-t", "ext4", "-b", "1024", "-O", "orphan_file"], 32768);
    let seed = seed(&image);
    let geometry = image.validate().geometry;
    let place = blocks(&mut image)[0];
    let mut bytes = image.block(place).to_vec();
    assert!(OrphanBlock::from_bytes(&bytes[..1000]).is_none());

    let block = OrphanBlock::from_bytes(&bytes).unwrap();
    let elsewhere = place.checked_add(1).unwrap();
    assert!(matches!(
        block.validate(seed, elsewhere, &geometry),
        Err(OrphanError::Checksum(_))
    ));
    let beyond = geometry.inodes_count() + 1;
    for (slot, number) in [(0, 2), (253, beyond)] {
        let block = OrphanBlock::from_bytes_mut(&mut bytes).unwrap();
        assert_eq!(block.add(at(number), slot), Some(slot));
        block.update_checksum(seed, place);
        let error = block.validate(seed, place, &geometry).unwrap_err();
        let found = number;
        assert_eq!(error, OrphanError::Inode { slot, found });
        assert!(!error.to_string().is_empty());
        assert!(block.remove(at(12), slot).is_err());
        block.remove(at(number), slot).unwrap();
    }
    let block = OrphanBlock::from_bytes_mut(&mut bytes).unwrap();
    // The tail is not a slot.
    assert!(block.remove(at(MAGIC), 254).is_err());
    bytes[0x3f8] = 0;
    let block = OrphanBlock::from_bytes(&bytes).unwrap();
    assert_eq!(
        block.validate(seed, place, &geometry),
        Err(OrphanError::Magic {
            found: MAGIC & !0xff
        })
    );
    let size = BlockSize::MIN;
    for bytes in [0, 1000, 1025, 513 * 1024, u64::MAX] {
        let error = OrphanError::FileSize { found: bytes };
        assert_eq!(block_count(bytes, size), Err(error));
    }
}

proptest! {
    #[test]
    fn slots_agree_with_the_model(
        operations in prop::collection::vec((any::<bool>(), 1..60u32, 0..300u32), 1..700),
    ) {
        let mut bytes = [0; 1024];
        let block = OrphanBlock::from_bytes_mut(&mut bytes).unwrap();
        block.init();
        let mut model = HashMap::new();
        for (add, number, slot) in operations {
            if add {
                match block.add(at(number), slot) {
                    Some(slot) => {
                        prop_assert!(slot < 254);
                        prop_assert_eq!(model.insert(slot, at(number)), None);
                    }
                    None => prop_assert_eq!(model.len(), 254),
                }
            } else {
                let there = model.get(&slot) == Some(&at(number));
                prop_assert_eq!(block.remove(at(number), slot).is_ok(), there);
                if there {
                    model.remove(&slot);
                }
            }
            prop_assert_eq!(block.free_count() as usize, 254 - model.len());
        }
        let orphans: HashMap<_, _> = block.orphans().collect();
        prop_assert_eq!(orphans, model);
    }
}
