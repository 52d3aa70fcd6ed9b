// SPDX-License-Identifier: GPL-2.0

use std::format;
use std::string::String;
use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::IntoBytes as _;

use super::*;
use crate::checksum::software_crc32c;
use crate::features::Supported;
use crate::testing::Image;
use crate::testing::ALL;
use crate::Group;
use crate::InodeNumber;
use crate::PhysicalBlock;

/// What `dumpe2fs -h` says about a field.
fn field<'a>(dump: &'a str, name: &str) -> &'a str {
    dump.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no field {name} in\n{dump}"))
        .trim()
}

/// Compares what we read with what `dumpe2fs` reads.
fn compare(options: &[&str], kib: u32) -> (Image, ValidSuperblock) {
    let mut image = Image::make(options, kib);
    let dump = image.run("dumpe2fs", &["-h"]);
    let valid = image.validate();
    let geometry = &valid.geometry;
    let sb = image.superblock();
    let number = |name: &str| field(&dump, name).parse::<u64>().unwrap();

    assert_eq!(geometry.block_size().bytes() as u64, number("Block size"));
    assert_eq!(geometry.blocks_count().get(), number("Block count"));
    assert_eq!(u64::from(geometry.inodes_count()), number("Inode count"));
    assert_eq!(sb.free_blocks_count(), number("Free blocks"));
    assert_eq!(u64::from(sb.free_inodes_count.get()), number("Free inodes"));
    assert_eq!(sb.reserved_blocks_count(), number("Reserved block count"));
    assert_eq!(geometry.first_data_block().get(), number("First block"));
    assert_eq!(
        u64::from(geometry.blocks_per_group()),
        number("Blocks per group")
    );
    assert_eq!(
        u64::from(geometry.inodes_per_group()),
        number("Inodes per group")
    );
    assert_eq!(
        u64::from(geometry.inode_table_blocks()),
        number("Inode blocks per group")
    );
    assert_eq!(
        u64::from(geometry.first_inode().get()),
        number("First inode")
    );
    assert_eq!(geometry.inode_size() as u64, number("Inode size"));

    // The features have the same names, in the order of the three sets.
    let features = valid.features;
    let mut ours: Vec<String> = [
        features.compat.to_string(),
        features.incompat.to_string(),
        features.ro_compat.to_string(),
    ]
    .iter()
    .flat_map(|names| {
        names
            .split_whitespace()
            .map(String::from)
            .collect::<Vec<_>>()
    })
    .collect();
    let mut theirs: Vec<String> = field(&dump, "Filesystem features")
        .split_whitespace()
        .map(String::from)
        .collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);

    let uuid = format!("{:032x}", u128::from_be_bytes(valid.uuid));
    assert_eq!(uuid, field(&dump, "Filesystem UUID").replace('-', ""));
    (image, valid)
}

#[test]
fn default_ext4() {
    let (image, valid) = compare(&["-t", "ext4", "-L", "a name", "-O", "orphan_file"], 65536);
    let sb = image.superblock();
    assert_eq!(sb.volume_name(), b"a name");
    assert_eq!(
        valid.journal,
        JournalLocation::Internal(InodeNumber::JOURNAL)
    );
    assert!(valid.checksum.is_some());
    assert!(valid.orphan_file.is_some());
    assert_eq!(valid.last_orphan, None);
    assert_eq!(valid.want_extra_isize, 32);
    assert_eq!(valid.hash.default_version, 1);
    assert!(!valid.hash.unsigned);
    assert!(sb.is_clean());
    assert_eq!(sb.on_error(), OnError::Continue);
    assert_eq!(sb.mkfs_time(), sb.lastcheck());
    assert!(sb.mkfs_time() > 1_500_000_000);
}

#[test]
fn other_kinds() {
    compare(&["-t", "ext2", "-b", "1024"], 20000);
    compare(&["-t", "ext3", "-b", "2048", "-I", "128"], 30000);
    compare(&["-t", "ext4", "-b", "65536", "-O", "^has_journal"], 65536);
    let options = [
        "-t",
        "ext4",
        "-b",
        "1024",
        "-O",
        "^metadata_csum,uninit_bg,^64bit",
    ];
    compare(&options, 30000);
    let options = [
        "-t",
        "ext4",
        "-b",
        "4096",
        "-O",
        "bigalloc,quota,project",
        "-C",
        "65536",
    ];
    let (_, valid) = compare(&options, 65536);
    assert_eq!(valid.geometry.cluster_ratio(), 16);
    assert!(valid.quota_files.iter().all(Option::is_some));
    let options = ["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "16384"];
    let (_, valid) = compare(&options, 30000);
    assert_eq!(valid.geometry.first_data_block(), PhysicalBlock::ZERO);
    assert_eq!(valid.geometry.super_block(), PhysicalBlock::new(1));
    let (_, valid) = compare(&["-t", "ext4", "-O", "mmp,^flex_bg"], 65536);
    assert!(valid.mmp_block.is_some());
}

/// Every group's place of the superblock and of descriptors, as `dumpe2fs` lists them.
fn compare_groups(options: &[&str], kib: u32) {
    let mut image = Image::make(options, kib);
    let dump = image.run("dumpe2fs", &[]);
    let geometry = image.validate().geometry;
    let mut groups = 0;
    let parts = dump.split("\nGroup ");
    for part in parts.filter(|part| part.starts_with(|c: char| c.is_ascii_digit())) {
        let number: u32 = part.split(':').next().unwrap().parse().unwrap();
        let group = Group::new(number);
        groups += 1;

        let (first, last) = part
            .split("(Blocks ")
            .nth(1)
            .and_then(|rest| rest.split(')').next())
            .and_then(|range| range.split_once('-'))
            .unwrap();
        let first: u64 = first.parse().unwrap();
        let last: u64 = last.parse().unwrap();
        assert_eq!(geometry.first_block(group).get(), first);
        assert_eq!(u64::from(geometry.blocks_in_group(group)), last - first + 1);

        assert_eq!(
            geometry.has_super(group),
            part.contains("superblock at"),
            "{options:?}: {part}"
        );
        // "Group descriptors at 3-4" or, with meta_bg, "Group descriptor at 3".
        let descs = part.split("Group descriptor").nth(1).map_or(0, |rest| {
            let place = rest.split("at ").nth(1).unwrap();
            let place = place
                .split(|c: char| !c.is_ascii_digit() && c != '-')
                .next();
            match place.unwrap().split_once('-') {
                Some((a, b)) => b.parse::<u32>().unwrap() - a.parse::<u32>().unwrap() + 1,
                None => 1,
            }
        });
        assert_eq!(geometry.desc_blocks_in_group(group), descs, "{part}");
        let reserved = part
            .split("Reserved GDT blocks at ")
            .nth(1)
            .map_or(0, |rest| {
                let (a, b) = rest.lines().next().unwrap().split_once('-').unwrap();
                b.trim().parse::<u32>().unwrap() - a.parse::<u32>().unwrap() + 1
            });
        let boot = u32::from(number == 0 && geometry.super_block().get() > first);
        assert_eq!(
            geometry.base_meta_blocks(group),
            u32::from(geometry.has_super(group)) + descs + reserved + boot
        );
    }
    assert_eq!(groups, geometry.group_count());
}

#[test]
fn groups() {
    compare_groups(&["-t", "ext4", "-b", "1024", "-g", "1024"], 100_000);
    compare_groups(
        &[
            "-t",
            "ext2",
            "-b",
            "1024",
            "-O",
            "^sparse_super,^resize_inode",
        ],
        100_000,
    );
    compare_groups(
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-g",
            "512",
            "-O",
            "meta_bg,^resize_inode",
        ],
        100_000,
    );
    compare_groups(
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-g",
            "1024",
            "-O",
            "sparse_super2",
        ],
        100_000,
    );
    compare_groups(
        &[
            "-t", "ext4", "-b", "1024", "-N", "4096", "-O", "bigalloc", "-C", "4096",
        ],
        100_000,
    );
}

#[test]
fn meta_bg_descriptors_are_found() {
    let options = [
        "-t",
        "ext4",
        "-b",
        "1024",
        "-g",
        "512",
        "-O",
        "meta_bg,^resize_inode",
    ];
    let image = Image::make(&options, 100_000);
    let valid = image.validate();
    assert!(valid.geometry.desc_blocks() > 5);
    for group in valid.geometry.groups() {
        let desc = image.desc(&valid.geometry, group);
        assert_eq!(
            desc.validate(&valid.geometry, &valid.desc_checksum, group),
            Ok(())
        );
    }
}

#[test]
fn inodes_are_located() {
    let geometry = Image::make(&["-t", "ext4", "-b", "1024", "-N", "4096"], 65536)
        .validate()
        .geometry;
    for raw in [1, 2, 11, 4095, 4096] {
        let inode = InodeNumber::new(raw).unwrap();
        let (group, index) = geometry.locate_inode(inode).unwrap();
        assert_eq!(geometry.inode_at(group, index), Some(inode));
        let (block, offset) = geometry.inode_offset(index);
        assert!(block < geometry.inode_table_blocks());
        assert_eq!(
            block as usize * 1024 + offset,
            index as usize * geometry.inode_size()
        );
    }
    let beyond = InodeNumber::new(geometry.inodes_count() + 1).unwrap();
    assert_eq!(geometry.locate_inode(beyond), None);
}

/// What `e2fsck` and `dumpe2fs` think of a superblock that was changed in every way.
#[test]
fn changes_are_understood() {
    let mut image = Image::make(&["-t", "ext4"], 65536);
    let sb = image.superblock_mut();
    sb.set_mtime(5_000_000_000);
    sb.set_wtime(5_000_000_001);
    sb.count_mount();
    sb.set_kbytes_written(77);
    sb.set_last_mounted(b"/somewhere");
    assert!(sb.set_volume_name(b"sixteen letters!"));
    assert!(!sb.set_volume_name(b"seventeen letters"));
    sb.record_error(&ErrorRecord {
        time: 1_700_000_000,
        inode: InodeNumber::new(12),
        block: PhysicalBlock::new(1 << 40),
        function: b"lookup",
        line: 42,
        code: ErrorCode::Efscorrupted as u8,
    });
    sb.record_error(&ErrorRecord {
        time: 1_700_000_001,
        inode: None,
        block: PhysicalBlock::ZERO,
        function: b"a_name_that_is_longer_than_thirty_two_bytes",
        line: 43,
        code: ErrorCode::Eio as u8,
    });
    assert!(!sb.is_clean());
    assert_eq!(sb.first_error().unwrap().function, b"lookup");
    assert_eq!(sb.last_error().unwrap().function.len(), 32);

    // Without the new checksum nobody takes it.
    let wrong = image.try_validate().unwrap_err();
    assert!(matches!(wrong, SuperblockError::Checksum(_)));
    image.superblock_mut().update_checksum(software_crc32c);
    image.validate();
    let dump = image.run("dumpe2fs", &["-h"]);
    assert_eq!(field(&dump, "Filesystem volume name"), "sixteen letters!");
    assert_eq!(field(&dump, "Last mounted on"), "/somewhere");
    assert_eq!(field(&dump, "Mount count"), "1");
    assert_eq!(field(&dump, "Filesystem state"), "clean with errors");
    assert_eq!(field(&dump, "FS Error count"), "2");
    assert_eq!(field(&dump, "First error function"), "lookup");
    assert_eq!(field(&dump, "First error line #"), "42");
    assert_eq!(field(&dump, "First error err"), "EFSCORRUPTED");
    assert_eq!(field(&dump, "Last error err"), "EIO");
}

#[test]
fn checks_fall_due() {
    let mut bytes = [0; LENGTH];
    let sb = Superblock::from_bytes_mut(&mut bytes).unwrap();
    assert_eq!(sb.due_check(i64::MAX), None);
    sb.max_mount_count = 3.into();
    sb.mount_count = 2.into();
    assert_eq!(sb.due_check(0), None);
    sb.mount_count = 3.into();
    assert_eq!(sb.due_check(0), Some(DueCheck::MountCount));
    sb.max_mount_count = 0xffff.into();
    sb.mount_count = 0xffff.into();
    assert_eq!(sb.due_check(0), None);
    sb.check_interval = 100.into();
    sb.lastcheck_lo = 1000.into();
    sb.lastcheck_hi = 1;
    assert_eq!(sb.due_check((1 << 32) + 1099), None);
    assert_eq!(sb.due_check((1 << 32) + 1100), Some(DueCheck::Interval));
}

#[test]
fn flags_go_both_ways() {
    let mut image = Image::make(&["-t", "ext4", "-O", "orphan_file"], 65536);
    let before = image.superblock().as_bytes().to_vec();
    let sb = image.superblock_mut();
    sb.set_needs_recovery(true);
    sb.set_orphan_present(true);
    sb.set_valid(false);
    sb.set_processing_orphans(true);
    sb.set_last_orphan(InodeNumber::new(13));
    sb.update_checksum(software_crc32c);
    let valid = image.validate();
    assert!(valid.features.incompat(Incompat::RECOVER));
    assert!(valid.features.ro_compat(RoCompat::ORPHAN_PRESENT));
    assert_eq!(valid.last_orphan, InodeNumber::new(13));
    let sb = image.superblock_mut();
    sb.set_needs_recovery(false);
    sb.set_orphan_present(false);
    sb.set_valid(true);
    sb.set_processing_orphans(false);
    sb.set_last_orphan(None);
    sb.update_checksum(software_crc32c);
    assert_eq!(image.superblock().as_bytes(), before);
}

#[test]
fn the_uuid_is_not_changed_under_checksums() {
    let mut image = Image::make(&["-t", "ext4", "-O", "metadata_csum_seed"], 65536);
    assert!(image.superblock_mut().set_uuid([7; 16]));
    image.superblock_mut().update_checksum(software_crc32c);
    image.assert_clean();
    let mut image = Image::make(&["-t", "ext4", "-O", "^metadata_csum_seed"], 65536);
    assert!(!image.superblock_mut().set_uuid([7; 16]));
}

#[test]
fn what_is_refused() {
    use SuperblockError as E;

    // Without checksums, so that each field is looked at.
    let image = Image::make(&["-t", "ext4", "-b", "4096", "-O", "^metadata_csum"], 65536);
    let blocks = image.superblock().blocks_count();
    let refused = |change: &dyn Fn(&mut Superblock)| {
        let mut image = Image {
            bytes: image.bytes.clone(),
        };
        change(image.superblock_mut());
        let error = image.try_validate().unwrap_err();
        assert!(!error.to_string().is_empty());
        error
    };
    assert!(matches!(
        refused(&|sb| sb.magic = 0.into()),
        E::Magic { found: 0 }
    ));
    assert!(matches!(
        refused(&|sb| sb.log_block_size = 7.into()),
        E::LogBlockSize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.log_block_size = (!0).into()),
        E::LogBlockSize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.log_cluster_size = 29.into()),
        E::LogClusterSize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.log_cluster_size = 3.into()),
        E::ClusterSize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.clusters_per_group = 0.into()),
        E::ClustersPerGroup { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.blocks_per_group = 8.into()),
        E::BlocksPerGroup { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.inode_size = 0.into()),
        E::InodeSize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.inode_size = 8192.into()),
        E::InodeSize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.inode_size = 384.into()),
        E::InodeSize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.inodes_per_group = 8.into()),
        E::InodesPerGroup { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.inodes_count = 8.into()),
        E::InodesCount { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.desc_size = 32.into()),
        E::DescSize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.desc_size = 96.into()),
        E::DescSize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.reserved_gdt_blocks = 1025.into()),
        E::ReservedGdtBlocks { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.first_data_block = 1.into()),
        E::FirstDataBlock { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.blocks_count_lo = 0.into()),
        E::NoBlocks { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.blocks_count_lo = (blocks as u32 + 1).into()),
        E::BeyondDevice { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.blocks_count_hi = 0x10001.into()),
        E::TooLarge { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.first_inode = 10.into()),
        E::FirstInode { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.first_inode = (!0).into()),
        E::FirstInode { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.want_extra_isize = 132.into()),
        E::ExtraIsize { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.default_hash_version = 6),
        E::HashVersion { found: 6 }
    ));
    assert!(matches!(
        refused(&|sb| sb.journal_inode = 0.into()),
        E::JournalInode { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.last_orphan = (!0).into()),
        E::LastOrphan { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.free_blocks_count_hi = 1.into()),
        E::FreeBlocks { .. }
    ));
    assert!(matches!(
        refused(&|sb| sb.free_inodes_count = (!0).into()),
        E::FreeInodes { .. }
    ));
    let journal_dev = |sb: &mut Superblock| {
        sb.feature_incompat = (sb.feature_incompat.get() | Incompat::JOURNAL_DEV.bits()).into();
    };
    assert!(refused(&journal_dev).is_not_ext4());
}

#[test]
fn unsupported_features_are_named() {
    let image = Image::make(&["-t", "ext4", "-O", "bigalloc"], 65536);
    let supported = Supported {
        ro_compat: ALL.ro_compat.without(RoCompat::BIGALLOC),
        ..ALL
    };
    let check = |read_only| {
        image
            .superblock()
            .validate(software_crc32c, |_| u64::MAX, &supported, read_only)
    };
    assert!(check(true).is_ok());
    let message = check(false).unwrap_err().to_string();
    assert!(message.ends_with("read-only: bigalloc"), "{message}");
}

#[test]
fn an_external_journal_is_found() {
    let mut image = Image::make(&["-t", "ext4", "-O", "^metadata_csum"], 65536);
    let sb = image.superblock_mut();
    sb.journal_inode = 0.into();
    sb.journal_device = 0x801.into();
    sb.journal_uuid = [9; 16];
    assert_eq!(
        image.validate().journal,
        JournalLocation::External {
            uuid: [9; 16],
            device: 0x801
        }
    );
}

proptest! {
    /// Random bytes anywhere in a superblock are either refused or lead to a geometry whose
    /// calculations neither overflow nor leave the filesystem.
    #[test]
    fn any_superblock_is_safe(
        changes in proptest::collection::vec((0..LENGTH / 4, any::<u32>(), 0..33u32), 1..8),
        device in any::<u64>(),
    ) {
        static BASE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let base = BASE.get_or_init(|| {
            let image = Image::make(&["-t", "ext4", "-b", "1024", "-O", "^metadata_csum"], 20000);
            image.superblock().as_bytes().to_vec()
        });
        let mut bytes = base.clone();
        for (word, value, shift) in changes {
            // Small values are more likely to get past the checks.
            let value = value.checked_shr(shift).unwrap_or(0);
            bytes[word * 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
        let sb = Superblock::from_bytes(&bytes).unwrap();
        if let Ok(valid) = sb.validate(software_crc32c, |_| device, &ALL, false) {
            let geometry = valid.geometry;
            prop_assert!(geometry.blocks_count().get() <= device);
            let last = Group::new(geometry.group_count() - 1);
            let end = geometry.first_block(last).get() + u64::from(geometry.blocks_in_group(last));
            prop_assert_eq!(end, geometry.blocks_count().get());
            prop_assert!(geometry.blocks_in_group(last) > 0);
            for group in [Group::ZERO, last] {
                let (index, offset) = geometry.desc_offset(group);
                prop_assert!(index < geometry.desc_blocks());
                prop_assert!(offset + geometry.desc_size() <= geometry.block_size().bytes());
                geometry.base_meta_blocks(group);
            }
            let block = geometry.desc_block(geometry.desc_blocks() - 1);
            prop_assert!(block.get() <= geometry.blocks_count().get() + 1);
            let inode = InodeNumber::new(geometry.inodes_count()).unwrap();
            prop_assert_eq!(geometry.locate_inode(inode), Some((last, geometry.inodes_per_group() - 1)));
        }
    }
}
