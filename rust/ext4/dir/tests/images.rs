// SPDX-License-Identifier: GPL-2.0

//! Directories made by e2fsprogs are read, and what we write is checked by e2fsck.

use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::check::check;
use super::collisions::ALIKE;
use super::store::Disk;
use crate::dir::Cursor;
use crate::dir::DirFormat;
use crate::dir::FileType;
use crate::dir::HashedEntry;
use crate::dir::Insertion;
use crate::dir::Name;
use crate::dir::PositionForm;
use crate::dir::Scratch;
use crate::hash::HashVersion;
use crate::hash::NameHasher;
use crate::hash::Signedness;
use crate::testing::Image;
use crate::InodeNumber;
use crate::LogicalBlock;
use crate::PhysicalBlock;

/// Runs many requests of `debugfs` and gives the lines that each of them printed.
fn requests(image: &mut Image, requests: &[String]) -> Vec<Vec<String>> {
    let refs: Vec<&str> = requests.iter().map(String::as_str).collect();
    let output = image.debugfs(&refs);
    let mut answers: Vec<Vec<String>> = Vec::new();
    for line in output.lines() {
        if line.starts_with("debugfs: ") {
            answers.push(Vec::new());
        } else if let Some(answer) = answers.last_mut() {
            answer.push(String::from(line));
        }
    }
    assert_eq!(answers.len(), requests.len());
    answers
}

/// The number behind `label` in what `stat` printed.
fn number_after(text: &str, label: &str) -> u64 {
    let rest = text
        .split(label)
        .nth(1)
        .unwrap_or_else(|| panic!("no {label} in {text}"));
    let word = rest.split_whitespace().next().unwrap();
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => word.parse().unwrap(),
    }
}

/// A directory of an image, taken out of it.
struct Taken {
    disk: Disk,
    inode: InodeNumber,
    blocks: Vec<PhysicalBlock>,
}

impl Taken {
    fn new(image: &mut Image, path: &str) -> Self {
        const INDEX_FLAG: u64 = 0x1000;

        let stat = requests(image, &[format!("stat {path}")])[0].join("\n");
        let inode = InodeNumber::new(number_after(&stat, "Inode:") as u32).unwrap();
        let generation = number_after(&stat, "Generation:") as u32;
        let format = DirFormat::new(&image.validate(), inode, generation);
        let count = number_after(&stat, "Size:") >> format.block_size.bits();
        let wanted: Vec<String> = (0..count).map(|n| format!("bmap {path} {n}")).collect();
        let blocks: Vec<PhysicalBlock> = requests(image, &wanted)
            .iter()
            .map(|answer| PhysicalBlock::new(answer[0].trim().parse().unwrap()))
            .collect();
        let bytes: Vec<Vec<u8>> = blocks
            .iter()
            .map(|&block| image.block(block).to_vec())
            .collect();
        let indexed = number_after(&stat, "Flags:") & INDEX_FLAG != 0;
        let disk = Disk::of(format, &bytes, indexed);
        // What there is can be used, but the directory cannot grow.
        disk.capacity.set(count as u32);
        Self {
            disk,
            inode,
            blocks,
        }
    }

    /// Writes the blocks back to where they came from.
    fn put_back(&self, image: &mut Image) {
        for (bytes, &block) in self.disk.all().iter().zip(&self.blocks) {
            image.block_mut(block).copy_from_slice(bytes);
        }
    }
}

#[test]
fn hashes_are_those_of_debugfs() {
    let mut image = Image::make(&["-t", "ext4"], 4096);
    let seeds = [
        "00000000-0000-0000-0000-000000000000",
        "01020304-0506-0708-090a-0b0c0d0e0f10",
        "ffeeddcc-bbaa-9988-7766-554433221100",
    ];
    let mut cases = Vec::new();
    for (number, seed) in (0..250_usize).zip(seeds.iter().cycle()) {
        let letters = ["a", "Z", "7", "\u{fc}", "\u{20ac}", "-", "\u{1f980}"];
        let name: String = (0..1 + number * 37 % 60)
            .map(|at| letters[(at * at + number * 5 + at / 3) % letters.len()])
            .collect();
        for raw in 0..6 {
            cases.push((raw, *seed, format!("n{name}")));
        }
    }
    let wanted: Vec<String> = cases
        .iter()
        .map(|(raw, seed, name)| format!("dx_hash -h {raw} -s {seed} {name}"))
        .collect();
    for ((raw, seed, name), answer) in cases.iter().zip(requests(&mut image, &wanted)) {
        let bytes: Vec<u8> = seed
            .replace('-', "")
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
            *word = u32::from_le_bytes(bytes.try_into().unwrap());
        }
        let signedness = if *raw < 3 {
            Signedness::Signed
        } else {
            Signedness::Unsigned
        };
        let version = HashVersion::from_raw(raw % 3).unwrap();
        let hash = NameHasher::new(version, signedness, words).hash(name.as_bytes());
        let ours = format!(
            "Hash of {name} is {:#x} (minor {:#x})",
            hash.major, hash.minor
        );
        assert_eq!(answer, [ours]);
    }
}

/// A filesystem with a directory of many names of different files. Gives the names with their types.
fn populated(options: &[&str], count: usize) -> (Image, BTreeMap<Vec<u8>, FileType>) {
    let mut image = Image::make(options, 16 * 1024);
    let mut names = BTreeMap::new();
    let mut wanted = vec![String::from("mkdir dir"), String::from("cd dir")];
    for number in 0..count {
        let name = format!("{:x>width$}", number, width = 8 + number % 80);
        let (request, file_type) = match number % 4 {
            0 => (format!("mknod {name} p"), FileType::Fifo),
            1 => (format!("mknod {name} c 1 3"), FileType::CharacterDevice),
            2 => (format!("mknod {name} b 8 1"), FileType::BlockDevice),
            _ => (format!("symlink {name} target"), FileType::Symlink),
        };
        wanted.push(request);
        names.insert(name.into_bytes(), file_type);
    }
    requests(&mut image, &wanted);
    (image, names)
}

fn assert_reads(taken: &Taken, names: &BTreeMap<Vec<u8>, FileType>) {
    let mut model = BTreeMap::new();
    for (name, file_type) in names {
        let found = taken.disk.lookup(name).unwrap().unwrap();
        assert_eq!(found.file_type, *file_type);
        model.insert(name.clone(), found.inode.get());
    }
    assert_eq!(taken.disk.lookup(b"no such name").unwrap(), None);
    assert_eq!(taken.disk.lookup(b".").unwrap().unwrap().inode, taken.inode);
    check(&taken.disk, &model);
}

const FLAVOURS: [&[&str]; 5] = [
    &["-t", "ext4", "-b", "1024", "-N", "4096"],
    &["-t", "ext4", "-b", "4096", "-N", "4096"],
    &[
        "-t",
        "ext4",
        "-b",
        "1024",
        "-N",
        "4096",
        "-O",
        "^metadata_csum",
    ],
    &[
        "-t",
        "ext4",
        "-b",
        "2048",
        "-N",
        "4096",
        "-O",
        "metadata_csum_seed",
    ],
    &["-t", "ext3", "-b", "1024", "-N", "4096"],
];

#[test]
fn linear_directories_are_read() {
    for options in FLAVOURS {
        let (mut image, names) = populated(options, 500);
        let taken = Taken::new(&mut image, "/dir");
        assert!(!taken.disk.indexed.get() && taken.blocks.len() > 1);
        assert_reads(&taken, &names);
    }
}

#[test]
fn rebuilt_indexes_are_read_and_changed() {
    for options in FLAVOURS {
        let (mut image, names) = populated(options, 3000);
        image.e2fsck(&["-fyD"]);
        image.assert_clean();
        let taken = Taken::new(&mut image, "/dir");
        assert!(taken.disk.indexed.get());
        assert_reads(&taken, &names);

        // Every name gets removed, and a different one for the same file comes instead. Only where leaves
        // are too full the old one is put back.
        let mut model = BTreeMap::new();
        let mut refused = 0;
        for (name, file_type) in &names {
            let found = taken.disk.remove(name).unwrap().unwrap();
            let mut other = name.clone();
            let length = other.len() / 2;
            other.truncate(length);
            other.extend(format!("{}", found.inode).bytes());
            let insert = |name: &[u8]| {
                let name = Name::new(name).unwrap();
                let mut directory = taken.disk.open();
                directory.insert(name, found.inode, *file_type, LogicalBlock::ZERO)
            };
            if let Ok(Insertion::Done(_)) = insert(&other) {
                model.insert(other, found.inode.get());
            } else {
                refused += 1;
                assert!(matches!(insert(name), Ok(Insertion::Done(_))));
                model.insert(name.clone(), found.inode.get());
            }
        }
        assert!(refused < names.len() / 2);
        check(&taken.disk, &model);
        taken.put_back(&mut image);
        image.assert_clean();
    }
}

/// A filesystem with a new directory, and files that `names` names can stand for. Gives the first of these.
fn with_empty_directory(options: &[&str], kib: u32, names: u32) -> (Image, InodeNumber) {
    const FILES: u32 = 4;

    let mut image = Image::make(options, kib);
    let mut wanted = vec![String::from("mkdir dir")];
    for file in 0..FILES {
        let links = names / FILES + 1;
        wanted.push(format!("mknod file{file} p"));
        wanted.push(format!("sif file{file} links_count {links}"));
    }
    requests(&mut image, &wanted);
    let first = image.inode_number("file0");
    (image, first)
}

/// Fills a directory with names, some of which go again, and lets e2fsck look at it.
///
/// Names have up to `length` bytes, and `levels` is how deep the index gets. With the legacy hash many of them
/// have equal hashes.
fn fill(options: &[&str], names: u32, length: usize, levels: u8, version: HashVersion) {
    let kib = if levels == 3 { 40 * 1024 } else { 16 * 1024 };
    let (mut image, first) = with_empty_directory(options, kib, names);
    let taken = Taken::new(&mut image, "/dir");
    let mut format = taken.disk.format;
    format.hasher = format.hasher.with_version(version);
    let disk = Disk::new_of(format, taken.inode);
    let mut model = BTreeMap::new();
    let insert = |disk: &Disk, name: &str, inode: u32| {
        let inode = InodeNumber::new(inode).unwrap();
        let name = Name::new(name.as_bytes()).unwrap();
        let mut directory = disk.open();
        let result = directory.insert(name, inode, FileType::Fifo, LogicalBlock::ZERO);
        assert!(matches!(result, Ok(Insertion::Done(_))), "{result:?}");
    };
    for number in 0..names {
        let passing = format!("passing {number}");
        insert(&disk, &passing, first.get());
        let name = match ALIKE.get(number as usize) {
            Some(name) if version == HashVersion::Legacy => String::from(*name),
            _ => {
                let width = length - 20 - number as usize % (length / 2);
                format!("a name \u{20ac} {number:x>width$}")
            }
        };
        insert(&disk, &name, first.get() + number % 4);
        model.insert(name.into_bytes(), first.get() + number % 4);
        assert!(disk.remove(passing.as_bytes()).unwrap().is_some());
    }
    check(&disk, &model);
    assert!(disk.indexed.get() == (levels > 0));
    if levels > 0 {
        assert_eq!(disk.bytes(0)[0x1e] + 1, levels);
    }

    // The directory of the image gets as many blocks, and then what they hold.
    let expansions = vec![String::from("expand_dir dir"); disk.len() as usize - 1];
    requests(&mut image, &expansions);
    let expanded = Taken::new(&mut image, "/dir");
    assert_eq!(expanded.blocks.len(), disk.len() as usize);
    for (bytes, &block) in disk.all().iter().zip(&expanded.blocks) {
        image.block_mut(block).copy_from_slice(bytes);
    }
    if levels > 0 {
        let extents = if options.contains(&"ext3") {
            0
        } else {
            0x80000
        };
        let flags = extents | 0x1000;
        requests(&mut image, &[format!("sif dir flags {flags:#x}")]);
    }
    image.assert_clean();

    // e2fsck is silent about much that is merely odd; it does not change it either.
    let mut again = Taken::new(&mut image, "/dir");
    again.disk.format = format;
    check(&again.disk, &model);
    let mut scratch = Scratch::new(vec![HashedEntry::default(); 10]);
    let mut cursor = Cursor::start(PositionForm::Narrow);
    let mut count = 0;
    again
        .disk
        .open()
        .iterate(&mut cursor, &mut scratch, |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(count, names + 2);
}

#[test]
fn what_we_write_is_clean_for_e2fsck() {
    fill(FLAVOURS[0], 6000, 200, 2, HashVersion::HalfMd4);
    fill(FLAVOURS[1], 4000, 200, 1, HashVersion::HalfMd4);
    fill(FLAVOURS[2], 4000, 200, 2, HashVersion::HalfMd4);
    fill(FLAVOURS[3], 4000, 200, 2, HashVersion::HalfMd4);
    fill(FLAVOURS[4], 4000, 200, 2, HashVersion::HalfMd4);
    fill(
        &["-t", "ext4", "-b", "1024", "-N", "4096", "-O", "^dir_index"],
        1200,
        200,
        0,
        HashVersion::HalfMd4,
    );
    fill(
        &["-t", "ext4", "-b", "1024", "-N", "4096", "-O", "^filetype"],
        1200,
        200,
        2,
        HashVersion::HalfMd4,
    );
    fill(FLAVOURS[0], 4, 100, 0, HashVersion::HalfMd4);
}

#[test]
fn leaves_that_continue_each_other_are_clean_for_e2fsck() {
    fill(FLAVOURS[0], 3000, 200, 2, HashVersion::Legacy);
    fill(FLAVOURS[2], 3000, 200, 2, HashVersion::Legacy);
    fill(FLAVOURS[3], 3000, 200, 2, HashVersion::Tea);
}

#[test]
fn three_levels_are_clean_for_e2fsck() {
    fill(
        &["-t", "ext4", "-b", "1024", "-N", "4096", "-O", "large_dir"],
        40_000,
        255,
        3,
        HashVersion::HalfMd4,
    );
}
