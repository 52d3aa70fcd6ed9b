// SPDX-License-Identifier: GPL-2.0

use std::format;
use std::string::String;
use std::string::ToString;
use std::vec;

use proptest::prelude::*;

use super::*;
use crate::superblock::ValidSuperblock;
use crate::testing::Image;
use crate::BlockSize;

/// An image with one file of each type, as `debugfs` makes them, one after the other; and the number
/// of the first one's inode.
fn image(options: &[&str]) -> (Image, ValidSuperblock, u32) {
    let mut all = vec!["-t", "ext4", "-b", "4096"];
    all.extend(options);
    let mut image = Image::make(&all, 16384);
    image.debugfs(&[
        "mkdir directory",
        concat!("write ", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml file"),
        "symlink short target",
        &format!("symlink long {}", "x".repeat(100)),
        "mknod char c 5 1",
        "mknod block b 259 60000",
        "mknod pipe p",
        "sif char mtime_extra 0x7",
    ]);
    let valid = image.validate();
    let text = image.debugfs(&["stat directory"]);
    let first = stat(&text, "Inode:").parse().unwrap();
    (image, valid, first)
}

/// The places of the files in that order.
const DIRECTORY: u32 = 0;
const FILE: u32 = 1;
const SHORT: u32 = 2;
const LONG: u32 = 3;
const CHAR: u32 = 4;
const BLOCK: u32 = 5;

fn at(number: u32) -> InodeNumber {
    InodeNumber::new(number).unwrap()
}

fn raw<'a>(image: &'a Image, valid: &ValidSuperblock, number: u32) -> &'a RawInode {
    RawInode::from_bytes(image.inode(&valid.geometry, at(number))).unwrap()
}

/// The value behind a name in what `debugfs stat` prints.
fn stat<'a>(text: &'a str, name: &str) -> &'a str {
    text.split(name)
        .nth(1)
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
        .split_whitespace()
        .next()
        .unwrap()
}

#[test]
fn we_read_what_debugfs_reads() {
    for options in [
        &["-I", "256"][..],
        &["-I", "128"],
        &["-I", "1024"],
        &["-O", "^metadata_csum"],
    ] {
        let (mut image, valid, first) = image(options);
        let types = [
            FileType::Directory,
            FileType::Regular,
            FileType::Symlink,
            FileType::Symlink,
            FileType::CharDevice,
            FileType::BlockDevice,
            FileType::Fifo,
        ];
        for (number, file_type) in (first..).zip(types) {
            let text = image.debugfs(&[&format!("stat <{number}>")]);
            let inode = raw(&image, &valid, number)
                .validate(&valid, at(number), false)
                .unwrap();
            assert_eq!(inode.file_type, file_type);
            assert_eq!(inode.links.to_string(), stat(&text, "Links:"));
            assert_eq!(format!("{:#x}", inode.flags.bits()), stat(&text, "Flags:"));
            let permissions = inode.mode & 0o7777;
            assert_eq!(format!("{permissions:04o}"), stat(&text, "Mode:"));
            assert_eq!(inode.uid.to_string(), stat(&text, "User:"));
            assert_eq!(inode.sectors.to_string(), stat(&text, "Blockcount:"));
            if inode.device.is_none() {
                assert_eq!(inode.size.to_string(), stat(&text, "Size:"));
            }
            let time = |time: Timestamp, more: u32| {
                let base = time.seconds as u32;
                if inode.extra_isize == 0 {
                    format!("0x{base:08x}")
                } else {
                    format!("0x{base:08x}:{more:08x}")
                }
            };
            let exact = |t: Timestamp| time(t, t.encode().1);
            assert_eq!(exact(inode.ctime), stat(&text, "ctime:"));
            assert_eq!(exact(inode.mtime), stat(&text, "mtime:"));
            if inode.extra_isize > 0 {
                assert_eq!(exact(inode.crtime.unwrap()), stat(&text, "crtime:"));
                assert_eq!(
                    inode.extra_isize.to_string(),
                    stat(&text, "Size of extra inode fields:")
                );
            } else {
                assert_eq!(inode.crtime, None);
            }
        }

        let short = raw(&image, &valid, first + SHORT).validate(&valid, at(first + SHORT), false);
        assert!(short.unwrap().fast_symlink);
        assert!(raw(&image, &valid, first + SHORT)
            .block()
            .starts_with(b"target\0"));
        let long = raw(&image, &valid, first + LONG).validate(&valid, at(first + LONG), false);
        assert!(!long.unwrap().fast_symlink);
        let number = |major, minor| DeviceNumber { major, minor };
        assert_eq!(raw(&image, &valid, first + CHAR).device(), number(5, 1));
        assert_eq!(
            raw(&image, &valid, first + BLOCK).device(),
            number(259, 60000)
        );

        // The root and the journal, which nobody made by hand.
        let root = raw(&image, &valid, 2).validate(&valid, InodeNumber::ROOT, false);
        assert_eq!(root.unwrap().file_type, FileType::Directory);
        let journal = raw(&image, &valid, 8).validate(&valid, InodeNumber::JOURNAL, false);
        assert_eq!(journal.unwrap().file_type, FileType::Regular);
        // One that was never in use.
        let unused = raw(&image, &valid, first + 18).validate(&valid, at(first + 18), false);
        assert_eq!(unused.unwrap_err(), InodeError::Unused);
    }
}

#[test]
fn what_we_write_is_understood() {
    for options in [&["-I", "256"][..], &["-I", "128"]] {
        let (mut image, valid, first) = image(options);
        let geometry = valid.geometry;
        let file = at(first + FILE);
        let inode = RawInode::from_bytes_mut(image.inode_mut(&geometry, file)).unwrap();
        inode.set_mode(0o104711);
        inode.set_uid(100_000);
        inode.set_gid(200_000);
        inode.set_generation(0xdead_beef);
        inode.set_version(0x1_0000_0002);
        let later = Timestamp {
            seconds: 5_000_000_000,
            nanos: 123_456_789,
        };
        inode.set_atime(later);
        inode.set_mtime(later);
        inode.set_ctime(later);
        inode.set_crtime(later);
        let had_project = inode.set_project(77);
        inode.update_checksum(valid.checksum, file);
        image.assert_clean();

        let text = image.debugfs(&["stat file"]);
        assert_eq!(stat(&text, "Mode:"), "04711");
        assert_eq!(stat(&text, "User:"), "100000");
        assert_eq!(stat(&text, "Group:"), "200000");
        assert_eq!(stat(&text, "Generation:"), "3735928559");
        let read = raw(&image, &valid, first + FILE)
            .validate(&valid, file, false)
            .unwrap();
        if had_project {
            assert_eq!(stat(&text, "Project:"), "77");
            assert!(stat(&text, "Version:").ends_with("00000001:00000002"));
            assert_eq!(read.mtime, later);
            assert_eq!(read.crtime, Some(later));
            // 5,000,000,000 = 0x1_2a05f200, and 123,456,789 << 2 with epoch 1.
            assert_eq!(stat(&text, "mtime:"), "0x2a05f200:1d6f3455");
        } else {
            assert_eq!(read.mtime.seconds, Timestamp::MAX_SECONDS_SHORT);
            assert_eq!(read.version, 2);
        }
    }
}

#[test]
fn times_of_every_epoch() {
    let time = |seconds, nanos| Timestamp { seconds, nanos };
    // The table of the format document.
    for (base, epoch, seconds) in [
        (0x8000_0000, 0, -0x8000_0000),
        (0xffff_ffff, 0, -1),
        (0, 0, 0),
        (0x7fff_ffff, 0, 0x7fff_ffff),
        (0x8000_0000, 1, 0x8000_0000),
        (0xffff_ffff, 1, 0xffff_ffff),
        (0, 1, 0x1_0000_0000),
        (0x7fff_ffff, 1, 0x1_7fff_ffff),
        (0x8000_0000, 2, 0x1_8000_0000),
        (0x7fff_ffff, 2, 0x2_7fff_ffff),
        (0x8000_0000, 3, 0x2_8000_0000),
        (0x7fff_ffff, 3, 0x3_7fff_ffff),
    ] {
        assert_eq!(Timestamp::decode(base, Some(epoch)), time(seconds, 0));
        assert_eq!(time(seconds, 0).encode(), (base, epoch));
    }
    assert_eq!(Timestamp::decode(1, Some(!0)).nanos, 999_999_999);
    assert_eq!(
        time(i64::MAX, 5).encode(),
        time(Timestamp::MAX_SECONDS, 0).encode()
    );
    assert_eq!(
        time(i64::MIN, 5).encode(),
        time(Timestamp::MIN_SECONDS, 0).encode()
    );
    assert_eq!(time(1 << 40, 0).encode_short(), 0x7fff_ffff);
    assert_eq!(Timestamp::decode(0x8000_0000, None), time(-0x8000_0000, 0));
}

#[test]
fn an_inode_grows_extra_fields() {
    let mut bytes = [0xaa; 256];
    let inode = RawInode::from_bytes_mut(&mut bytes).unwrap();
    inode.init(0);
    assert_eq!(inode.xattr_area(), None);
    assert_eq!(inode.crtime(), None);
    assert!(!inode.set_project(1));
    inode.set_extra_isize(28);
    assert_eq!(inode.crtime(), Some(Timestamp::default()));
    assert_eq!(inode.project(), None);
    let area = inode.xattr_area_mut().unwrap();
    assert_eq!(area.len(), 100);
    area.fill(0x55);
    inode.set_extra_isize(32);
    assert_eq!(inode.project(), Some(0));
    assert_eq!(inode.xattr_area().unwrap(), &[0x55; 96]);
    inode.set_extra_isize(1000);
    assert_eq!(inode.extra_isize(), 128);
    assert_eq!(inode.xattr_area(), None);

    let mut bytes = [0; 128];
    let inode = RawInode::from_bytes_mut(&mut bytes).unwrap();
    inode.init(32);
    assert_eq!(inode.extra_isize(), 0);
    assert!(RawInode::from_bytes(&[0; 127]).is_none());
    assert!(RawInode::from_bytes(&[0; 140]).is_none());
}

#[test]
fn what_is_refused() {
    let (image, valid, first) = image(&["-I", "256"]);
    let refused = |place: u32, change: &dyn Fn(&mut RawInode)| {
        let number = first + place;
        let mut bytes = image.inode(&valid.geometry, at(number)).to_vec();
        let inode = RawInode::from_bytes_mut(&mut bytes).unwrap();
        change(inode);
        inode.update_checksum(valid.checksum, at(number));
        let error = inode.validate(&valid, at(number), false).unwrap_err();
        assert!(!error.to_string().is_empty());
        error
    };
    assert_eq!(
        refused(FILE, &|inode| inode.set_extra_isize(30)),
        InodeError::ExtraIsize {
            found: 30,
            inode_size: 256
        }
    );
    assert_eq!(
        refused(FILE, &|inode| inode.set_mode(0o644)),
        InodeError::Mode { found: 0o644 }
    );
    assert_eq!(
        refused(FILE, &|inode| inode.set_links(0)),
        InodeError::Deleted
    );
    let unused = refused(FILE, &|inode| inode.init(32));
    assert_eq!(unused, InodeError::Unused);
    assert!(unused.is_unused());
    let with = |flags: InodeFlags| {
        move |inode: &mut RawInode| {
            inode.set_flags(inode.flags().with(flags));
        }
    };
    assert!(matches!(
        refused(FILE, &with(InodeFlags::INLINE_DATA)),
        InodeError::FlagsConflict { .. }
    ));
    for flag in [
        InodeFlags::ENCRYPT,
        InodeFlags::CASEFOLD,
        InodeFlags::VERITY,
        InodeFlags::EA_INODE,
    ] {
        assert_eq!(
            refused(FILE, &with(flag)),
            InodeError::FlagsWithoutFeature { flags: flag }
        );
    }
    assert_eq!(
        refused(FILE, &with(InodeFlags::INDEX)),
        InodeError::FlagsOfOtherType {
            flags: InodeFlags::INDEX
        }
    );
    assert_eq!(
        refused(SHORT, &with(InodeFlags::IMMUTABLE)),
        InodeError::FlagsOfOtherType {
            flags: InodeFlags::IMMUTABLE
        }
    );
    assert!(matches!(
        refused(FILE, &|inode| inode.set_size(1 << 63)),
        InodeError::Size { .. }
    ));
    for size in [0, 4095, 4097] {
        assert_eq!(
            refused(DIRECTORY, &|inode| inode.set_size(size)),
            InodeError::DirectorySize { found: size }
        );
    }
    for size in [0, 5, 7, 60] {
        assert_eq!(
            refused(SHORT, &|inode| inode.set_size(size)),
            InodeError::SymlinkLength { found: size }
        );
    }
    let max = valid.geometry.blocks_count().get();
    for block in [1, max, u64::MAX >> 16] {
        let to = Some(PhysicalBlock::new(block));
        assert_eq!(
            refused(FILE, &|inode| inode.set_xattr_block(to)),
            InodeError::XattrBlock { found: block }
        );
    }

    // The checksum is of this inode and of no other.
    let inode = raw(&image, &valid, first + FILE);
    assert!(matches!(
        inode.validate(&valid, at(first + FILE + 1), false),
        Err(InodeError::Checksum(_))
    ));
    // An orphan passes where a file does not.
    let mut bytes = image.inode(&valid.geometry, at(first + DIRECTORY)).to_vec();
    let inode = RawInode::from_bytes_mut(&mut bytes).unwrap();
    inode.set_links(0);
    inode.set_size(0);
    inode.set_next_orphan(Some(at(first + FILE)));
    inode.update_checksum(valid.checksum, at(first + DIRECTORY));
    assert!(inode.validate(&valid, at(first + DIRECTORY), true).is_ok());
    assert_eq!(inode.next_orphan(), Some(at(first + FILE)));
}

#[test]
fn the_largest_files() {
    let size = |bytes| BlockSize::from_bytes(bytes).unwrap();
    // The tables of the format document: 16 TiB with extents, 4 TiB and a bit without.
    assert_eq!(
        max_file_size(size(4096), true, true),
        (u64::from(u32::MAX)) << 12
    );
    assert_eq!(
        max_file_size(size(4096), false, true),
        (12 + (1 << 10) + (1 << 20) + (1 << 30)) << 12
    );
    assert_eq!(
        max_file_size(size(1024), false, true),
        (12 + (1 << 8) + (1 << 16) + (1 << 24)) << 10
    );
    // 2^32 sectors are 2 TiB, of which pointers take their part.
    let max = max_file_size(size(4096), false, false);
    assert!(max < 1 << 41 && max > (1 << 41) - (1 << 32));
    assert_eq!(
        max_file_size(size(65536), false, true),
        u64::from(u32::MAX) << 16
    );
}

proptest! {
    #[test]
    fn times_come_back(
        seconds in Timestamp::MIN_SECONDS..=Timestamp::MAX_SECONDS,
        nanos in 0..1_000_000_000u32,
    ) {
        let time = Timestamp { seconds, nanos };
        let (base, extra) = time.encode();
        prop_assert_eq!(Timestamp::decode(base, Some(extra)), time);
    }

    #[test]
    fn devices_come_back(major in 0..0x1000u32, minor in 0..0x100000u32) {
        let mut bytes = [0; 128];
        let inode = RawInode::from_bytes_mut(&mut bytes).unwrap();
        let device = DeviceNumber { major, minor };
        inode.set_device(device);
        prop_assert_eq!(inode.device(), device);
    }

    #[test]
    fn sectors_come_back(sectors: u64, bits in 10..=16u32, huge_file: bool) {
        let block_size = BlockSize::from_bits(bits).unwrap();
        let sectors = sectors >> 9;
        // Beyond 48 bits only whole blocks can be told.
        let sectors = if sectors >> 48 == 0 {
            sectors
        } else {
            sectors & !((1 << (bits - 9)) - 1)
        };
        let mut bytes = [0; 128];
        let inode = RawInode::from_bytes_mut(&mut bytes).unwrap();
        if inode.set_sectors(sectors, block_size, huge_file) {
            prop_assert_eq!(inode.sectors(block_size, huge_file), sectors);
        } else {
            prop_assert!(!huge_file || sectors >> (bits - 9) >= 1 << 48);
            prop_assert_eq!(inode.sectors(block_size, huge_file), 0);
        }
    }

    /// No inode, whatever its bytes, makes validation or a getter panic.
    #[test]
    fn any_inode_is_safe(
        changes in prop::collection::vec((0..256usize, any::<u8>()), 0..20),
        orphan: bool,
    ) {
        static BASE: std::sync::OnceLock<(std::vec::Vec<u8>, ValidSuperblock)> =
            std::sync::OnceLock::new();
        let (base, valid) = BASE.get_or_init(|| {
            let (image, valid, first) = image(&["-O", "^metadata_csum"]);
            let geometry = valid.geometry;
            (image.inode(&geometry, at(first + FILE)).to_vec(), valid)
        });
        let mut bytes = base.clone();
        for (index, byte) in changes {
            bytes[index] = byte;
        }
        let inode = RawInode::from_bytes(&bytes).unwrap();
        inode.xattr_area();
        inode.device();
        match inode.validate(valid, at(13), orphan) {
            Ok(inode) => {
                prop_assert!(inode.size <= i64::MAX as u64);
                prop_assert!(inode.mtime.nanos < 1_000_000_000);
            }
            Err(error) => {
                let sentence: String = error.to_string();
                prop_assert!(!sentence.is_empty());
            }
        }
    }
}
