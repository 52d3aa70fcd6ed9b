// SPDX-License-Identifier: GPL-2.0

//! Disk images for tests, made by the programs of e2fsprogs.
//!
//! A test that needs one of the programs fails when it is missing.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering;
use std::env;
use std::format;
use std::fs;
use std::path::PathBuf;
use std::process;
use std::process::Command;
use std::string::String;
use std::vec::Vec;

use crate::checksum::software_crc32c;
use crate::features::Incompat;
use crate::features::RoCompat;
use crate::features::Supported;
use crate::group_desc::GroupDesc;
use crate::superblock;
use crate::superblock::Superblock;
use crate::superblock::SuperblockError;
use crate::superblock::ValidSuperblock;
use crate::Geometry;
use crate::Group;
use crate::InodeNumber;
use crate::PhysicalBlock;

/// Everything is supported.
pub(crate) const ALL: Supported = Supported {
    incompat: Incompat::from_bits(!0),
    ro_compat: RoCompat::from_bits(!0),
};

/// A file that goes away with this value.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(env::temp_dir().join(format!("ext4-test-{}-{number}", process::id())))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs a program of e2fsprogs. Panics when it cannot be run.
fn output(command: &mut Command) -> process::Output {
    // Where the programs are is not always in the search path of ordinary users.
    let path = env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; is e2fsprogs installed?"))
}

/// Runs a program of e2fsprogs and gives what it printed. Panics when it cannot be run or fails.
fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A disk image in memory.
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
}

impl Image {
    /// Makes a filesystem of `kib` KiB with `mke2fs` and these options.
    pub(crate) fn make(options: &[&str], kib: u32) -> Self {
        let file = TemporaryFile::new();
        run(Command::new("mke2fs")
            .args(["-q", "-F"])
            .args(options)
            .arg(&file.0)
            .arg(format!("{kib}k")));
        Self {
            bytes: fs::read(&file.0).unwrap(),
        }
    }

    /// Runs a program on a file that holds the image: `program(options..., file)`. What the program
    /// changes in it is taken over. Gives what it printed.
    pub(crate) fn run(&mut self, program: &str, options: &[&str]) -> String {
        let file = TemporaryFile::new();
        fs::write(&file.0, &self.bytes).unwrap();
        let output = run(Command::new(program).args(options).arg(&file.0));
        self.bytes = fs::read(&file.0).unwrap();
        output
    }

    /// Runs requests of `debugfs`, one after the other, and gives what they printed.
    pub(crate) fn debugfs(&mut self, requests: &[&str]) -> String {
        let script = TemporaryFile::new();
        fs::write(&script.0, requests.join("\n")).unwrap();
        self.run("debugfs", &["-w", "-f", script.0.to_str().unwrap()])
    }

    /// The number of the inode that `path` names.
    pub(crate) fn inode_number(&mut self, path: &str) -> InodeNumber {
        let text = self.debugfs(&[&format!("stat {path}")]);
        let number = text.split("Inode:").nth(1).and_then(|rest| {
            let word = rest.split_whitespace().next()?;
            InodeNumber::new(word.parse().ok()?)
        });
        number.unwrap_or_else(|| panic!("no inode in {text}"))
    }

    /// Lets `e2fsck` repair, or with `-D` reindex, and asserts that it left nothing to repair.
    pub(crate) fn e2fsck(&mut self, options: &[&str]) {
        let file = TemporaryFile::new();
        fs::write(&file.0, &self.bytes).unwrap();
        let mut command = Command::new("e2fsck");
        let output = output(command.args(options).arg(&file.0));
        // The status 1 means that something was changed.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        self.bytes = fs::read(&file.0).unwrap();
    }

    /// Asserts that `e2fsck` finds nothing wrong.
    pub(crate) fn assert_clean(&mut self) {
        self.run("e2fsck", &["-fn"]);
    }

    /// Lets `e2fsck` repair what it finds, without questions. It must find nothing that needs a person.
    pub(crate) fn repair(&mut self) {
        let file = TemporaryFile::new();
        fs::write(&file.0, &self.bytes).unwrap();
        let path = env::var("PATH").unwrap_or_default();
        let output = Command::new("e2fsck")
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .arg("-fp")
            .arg(&file.0)
            .output()
            .unwrap();
        // 1 says that errors were corrected.
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "{output:?}");
        self.bytes = fs::read(&file.0).unwrap();
    }

    pub(crate) fn superblock(&self) -> &Superblock {
        Superblock::from_bytes(&self.bytes[superblock::OFFSET..]).unwrap()
    }

    pub(crate) fn superblock_mut(&mut self) -> &mut Superblock {
        Superblock::from_bytes_mut(&mut self.bytes[superblock::OFFSET..]).unwrap()
    }

    /// Validates the superblock.
    pub(crate) fn try_validate(&self) -> Result<ValidSuperblock, SuperblockError> {
        let length = self.bytes.len() as u64;
        let device_blocks = |size: crate::BlockSize| length >> size.bits();
        self.superblock()
            .validate(software_crc32c, device_blocks, &ALL, false)
    }

    /// Validates the superblock, which must be right.
    pub(crate) fn validate(&self) -> ValidSuperblock {
        self.try_validate().unwrap()
    }

    /// A block.
    pub(crate) fn block(&self, block: PhysicalBlock) -> &[u8] {
        let size = self.superblock().block_size().unwrap();
        let start = (block.get() << size.bits()) as usize;
        &self.bytes[start..][..size.bytes()]
    }

    /// A block, to be changed.
    pub(crate) fn block_mut(&mut self, block: PhysicalBlock) -> &mut [u8] {
        let size = self.superblock().block_size().unwrap();
        let start = (block.get() << size.bits()) as usize;
        &mut self.bytes[start..][..size.bytes()]
    }

    /// The descriptor of a group.
    pub(crate) fn desc(&self, geometry: &Geometry, group: Group) -> &GroupDesc {
        let block = geometry.desc_block(geometry.desc_offset(group).0);
        GroupDesc::in_block(self.block(block), geometry, group).unwrap()
    }

    /// The bytes of an inode.
    pub(crate) fn inode(&self, geometry: &Geometry, inode: InodeNumber) -> &[u8] {
        let range = self.inode_range(geometry, inode);
        &self.bytes[range]
    }

    /// The bytes of an inode, to be changed.
    pub(crate) fn inode_mut(&mut self, geometry: &Geometry, inode: InodeNumber) -> &mut [u8] {
        let range = self.inode_range(geometry, inode);
        &mut self.bytes[range]
    }

    fn inode_range(&self, geometry: &Geometry, inode: InodeNumber) -> core::ops::Range<usize> {
        let (group, index) = geometry.locate_inode(inode).unwrap();
        let (block, offset) = geometry.inode_offset(index);
        let table = self.desc(geometry, group).inode_table();
        let block = table.checked_add(block.into()).unwrap();
        let start = ((block.get() << geometry.block_size().bits()) as usize) + offset;
        start..start + geometry.inode_size()
    }
}
