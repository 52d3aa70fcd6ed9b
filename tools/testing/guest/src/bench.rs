// SPDX-License-Identifier: GPL-2.0

//! The workbench of one test: a disk, a mount point, two drivers for the same format, and the checks that end every
//! test: unmount, a silent `e2fsck -fn`, a kernel log without complaints.

use crate::command;
use crate::command::must;
use crate::kernel_log::KernelLog;
use crate::kernel_log::Line;
use crate::rng::Rng;
use anyhow::Context;
use rustix::mount::mount;
use rustix::mount::mount_remount;
use rustix::mount::unmount;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;
use std::cell::Cell;
use std::cell::RefCell;
use std::ffi::CString;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

/// The filesystem that is the reference.
pub const REFERENCE: &str = "ext4";

/// What a test works with.
pub struct Bench {
    /// The driver under test: ferrofs, or the reference to test the tests.
    pub fstype: String,
    /// The disk.
    pub disk: PathBuf,
    /// The other disk, which the test may overwrite.
    pub spare: PathBuf,
    /// Where the test mounts the disk.
    pub dir: PathBuf,
    /// Where random choices start.
    pub seed: u64,
    /// How much longer than the short form a test should run, in percent.
    pub effort: u64,
    log: Rc<RefCell<KernelLog>>,
    seen: Rc<RefCell<Vec<Line>>>,
    expected: Rc<RefCell<Vec<String>>>,
    mounted: Cell<bool>,
    check_disk: Cell<bool>,
    reference_wrote: Cell<bool>,
    wide_trees: Cell<bool>,
}

impl Bench {
    /// A workbench with nothing mounted. What the kernel says from now on is the test's.
    pub fn new(
        fstype: &str,
        disk: &Path,
        spare: &Path,
        seed: u64,
        effort: u64,
    ) -> anyhow::Result<Bench> {
        let dir = PathBuf::from("/tmp/ferrofs-test");
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Bench {
            fstype: fstype.into(),
            disk: disk.into(),
            spare: spare.into(),
            dir,
            seed,
            effort,
            log: Rc::new(RefCell::new(KernelLog::from_now()?)),
            seen: Rc::default(),
            expected: Rc::default(),
            mounted: Cell::new(false),
            check_disk: Cell::new(true),
            reference_wrote: Cell::new(false),
            wide_trees: Cell::new(false),
        })
    }

    /// A workbench for another disk in this test: the messages of the kernel are looked at once, for both.
    pub fn for_disk(&self, disk: &Path) -> Bench {
        Bench {
            fstype: self.fstype.clone(),
            disk: disk.into(),
            spare: self.spare.clone(),
            dir: self.dir.clone(),
            seed: self.seed,
            effort: self.effort,
            log: self.log.clone(),
            seen: self.seen.clone(),
            expected: self.expected.clone(),
            mounted: Cell::new(false),
            check_disk: Cell::new(true),
            reference_wrote: Cell::new(false),
            wide_trees: Cell::new(self.wide_trees.get()),
        }
    }

    /// Random numbers of this test run.
    pub fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }

    /// `count` operations in the short form of a test, more or fewer as the effort says.
    pub fn scaled(&self, count: u64) -> u64 {
        (count * self.effort / 100).max(1)
    }

    /// Whether the driver under test is ferrofs and not the reference.
    pub fn is_ferrofs(&self) -> bool {
        self.fstype != REFERENCE
    }

    /// A path in the mounted filesystem.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// The disk's path as text.
    pub fn device(&self) -> &str {
        text(&self.disk)
    }

    /// The name of the disk in sysfs and in tracepoints.
    pub fn device_name(&self) -> &str {
        self.device().trim_start_matches("/dev/")
    }

    /// The count that stands in this column of the disk's statistics in sysfs, which `Documentation/block/stat.rst` of
    /// the kernel describes; the first column is 0.
    pub fn disk_count(&self, column: usize) -> anyhow::Result<u64> {
        let path = format!("/sys/block/{}/stat", self.device_name());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        text.split_whitespace()
            .nth(column)
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("{path} has no count in column {column}: {text}"))
    }

    /// Messages that contain `text` are what this test wants to hear, not complaints.
    pub fn expect_message(&self, text: &str) {
        self.expected.borrow_mut().push(text.into());
    }

    /// This test leaves a disk behind that e2fsck is right to complain about.
    pub fn expect_broken_disk(&self) {
        self.check_disk.set(false);
    }

    /// This test writes files in small pieces and random order, which fills the nodes of an extent tree by two thirds as
    /// it does those of any B-tree: e2fsck may remark that a tree of some nodes could do with one less.
    pub fn expect_wide_trees(&self) {
        self.wide_trees.set(true);
    }

    /// Makes a filesystem on the disk, with plain `mkfs.ext4` and these further arguments.
    pub fn format(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.reference_wrote.set(false);
        format_device(&self.disk, arguments)
    }

    /// Mounts with the driver under test.
    pub fn mount(&self) -> anyhow::Result<()> {
        self.mount_with("")
    }

    /// Mounts with the driver under test and these options; "ro" may be one of them.
    pub fn mount_with(&self, options: &str) -> anyhow::Result<()> {
        self.mount_as(&self.fstype, options)
    }

    /// Mounts with the kernel's own ext4.
    pub fn mount_reference(&self, options: &str) -> anyhow::Result<()> {
        self.mount_as(REFERENCE, options)
    }

    /// Mounts with the driver `fstype`.
    pub fn mount_as(&self, fstype: &str, options: &str) -> anyhow::Result<()> {
        self.try_mount(fstype, options)
            .with_context(|| format!("mounting {} as {fstype} ({options})", self.device()))
    }

    /// Mounts and keeps the errno, for those who expect one.
    pub fn try_mount(&self, fstype: &str, options: &str) -> Result<(), rustix::io::Errno> {
        mount_device(&self.disk, &self.dir, fstype, options)?;
        self.mounted.set(true);
        if fstype == REFERENCE && !options.split(',').any(|option| option == "ro") {
            self.reference_wrote.set(true);
        }
        Ok(())
    }

    /// Remounts with these options; "ro" may be one of them.
    pub fn remount(&self, options: &str) -> Result<(), rustix::io::Errno> {
        let (flags, data) = split_options(options);
        mount_remount(&self.dir, flags, data.as_c_str())
    }

    /// Unmounts.
    pub fn umount(&self) -> anyhow::Result<()> {
        unmount(&self.dir, UnmountFlags::empty())
            .with_context(|| format!("unmounting {}", self.dir.display()))?;
        self.mounted.set(false);
        Ok(())
    }

    /// Unmounts and mounts again with the driver under test: what is read afterwards comes from the disk.
    pub fn cycle(&self) -> anyhow::Result<()> {
        self.umount()?;
        self.mount()
    }

    /// Unmounts, checks the disk, and mounts again with `fstype`.
    pub fn cycle_checked(&self, fstype: &str, options: &str) -> anyhow::Result<()> {
        self.umount()?;
        self.fsck()?;
        self.mount_as(fstype, options)
    }

    /// `e2fsck -fn` must find nothing to say.
    pub fn fsck(&self) -> anyhow::Result<()> {
        let advice = match (self.reference_wrote.get(), self.wide_trees.get()) {
            (true, _) => Advice::Any,
            (false, true) => Advice::Narrower,
            (false, false) => Advice::None,
        };
        fsck_with_advice(&self.disk, advice)
    }

    /// The same for a disk that is mounted read-only: it is as an unmounted one would be, but for its state.
    pub fn fsck_mounted(&self) -> anyhow::Result<()> {
        let output = command::run("e2fsck", &["-fn", self.device()])?;
        let complaints: Vec<String> = fsck_complaints(&output.text, self.device())
            .into_iter()
            .filter(|line| !line.starts_with("Warning!") && !line.contains(" is mounted."))
            .collect();
        anyhow::ensure!(
            output.status == 0 && complaints.is_empty(),
            "{}",
            output.text
        );
        Ok(())
    }

    /// Forgets clean pages, dentries and inodes, so that they are read again.
    pub fn drop_caches(&self) -> anyhow::Result<()> {
        rustix::fs::sync();
        std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")
    }

    /// All that the kernel said since the test began.
    pub fn messages(&self) -> anyhow::Result<Vec<Line>> {
        let fresh = self.log.borrow_mut().drain()?;
        let mut seen = self.seen.borrow_mut();
        seen.extend(fresh);
        Ok(seen.clone())
    }

    /// What ends every test: unmount, e2fsck, the kernel's log.
    pub fn finish(&self) -> anyhow::Result<()> {
        if self.mounted.get() {
            self.umount()?;
        }
        if self.check_disk.get() {
            self.fsck()?;
        }
        self.check_log()
    }

    /// Fails if the kernel complained of something that the test did not announce.
    pub fn check_log(&self) -> anyhow::Result<()> {
        let expected = self.expected.borrow();
        let is_expected = |line: &Line| {
            !line.is_alarm()
                && expected
                    .iter()
                    .any(|text| line.text.contains(text.as_str()))
        };
        let complaints: Vec<String> = self
            .messages()?
            .into_iter()
            .filter(|line| line.is_complaint(&self.fstype) && !is_expected(line))
            .map(|line| line.text)
            .collect();
        anyhow::ensure!(
            complaints.is_empty(),
            "the kernel complained:\n{}",
            complaints.join("\n")
        );
        Ok(())
    }
}

impl Drop for Bench {
    /// Puts a bench that a failed test left mounted back into order, as far as that goes.
    fn drop(&mut self) {
        if self.mounted.get() {
            // The failure itself is reported already; this is for the tests that follow.
            let _ = unmount(&self.dir, UnmountFlags::DETACH);
        }
    }
}

/// A path as text; all paths of the tests are.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap_or("(a path that is not UTF-8)")
}

/// Makes a filesystem on `device`, with plain `mkfs.ext4` and these further arguments; the last one may be a size such
/// as "256M".
pub fn format_device(device: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let (options, size) = match arguments.split_last() {
        Some((last, rest)) if is_size(last) => (rest, Some(*last)),
        _ => (arguments, None),
    };
    let mut line = vec!["-q", "-F"];
    line.extend(options);
    line.push(text(device));
    line.extend(size);
    must("mkfs.ext4", &line).map(drop)
}

/// Whether this is a number with a unit, which no option's value of these tests is.
fn is_size(argument: &str) -> bool {
    let digits = argument.trim_end_matches(['K', 'M', 'G']);
    digits.len() + 1 == argument.len() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Mounts `device` on `dir` with `fstype`.
pub fn mount_device(
    device: &Path,
    dir: &Path,
    fstype: &str,
    options: &str,
) -> Result<(), rustix::io::Errno> {
    let (flags, data) = split_options(options);
    mount(device, dir, fstype, flags, Some(data.as_c_str()))
}

fn split_options(options: &str) -> (MountFlags, CString) {
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" => {}
            "noatime" => flags |= MountFlags::NOATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            other => rest.push(other),
        }
    }
    // Options are words of the tests' own, without zero bytes.
    (flags, CString::new(rest.join(",")).unwrap_or_default())
}

/// `e2fsck -fn` must find nothing to say about `device`. The kernel's own ext4 leaves extent trees behind that e2fsck
/// offers to optimise: `reference_wrote` lets that pass.
pub fn fsck_device(device: &Path, reference_wrote: bool) -> anyhow::Result<()> {
    let advice = if reference_wrote {
        Advice::Any
    } else {
        Advice::None
    };
    fsck_with_advice(device, advice)
}

/// Which remarks of e2fsck on extent trees that are right may pass.
#[derive(Clone, Copy)]
enum Advice {
    None,
    /// That a level could have fewer nodes.
    Narrower,
    /// That one or that a tree could have fewer levels.
    Any,
}

impl Advice {
    fn covers(self, line: &str) -> bool {
        match self {
            Advice::None => false,
            Advice::Narrower => is_advice(line) && line.contains(" could be narrower."),
            Advice::Any => is_advice(line),
        }
    }
}

fn fsck_with_advice(device: &Path, advice: Advice) -> anyhow::Result<()> {
    let output = command::run("e2fsck", &["-fn", text(device)])?;
    let mut complaints = fsck_complaints(&output.text, text(device));
    complaints.retain(|line| !advice.covers(line));
    anyhow::ensure!(
        output.status == 0 && complaints.is_empty(),
        "e2fsck -fn {} complained (status {}):\n{}",
        device.display(),
        output.status,
        output.text
    );
    Ok(())
}

/// A remark on an extent tree that is right and could be smaller.
fn is_advice(line: &str) -> bool {
    line.contains(" extent tree (at level ") && line.ends_with(" Optimize? no")
}

/// What e2fsck says beyond its name, its passes and the summary.
fn fsck_complaints(text: &str, device: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| {
            !(line.is_empty()
                || line.starts_with("e2fsck 1.")
                || (line.starts_with("Pass ") && line.contains(": Checking "))
                || (line.starts_with(&format!("{device}: "))
                    && line.contains(" files (")
                    && line.ends_with(" blocks")))
        })
        .map(String::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fsck_must_be_silent() {
        let clean = "e2fsck 1.47.2 (1-Jan-2025)\nPass 1: Checking inodes, blocks, and sizes\n\
            /dev/sda: 11/65536 files (0.0% non-contiguous), 12955/262144 blocks\n";
        assert!(fsck_complaints(clean, "/dev/sda").is_empty());
        let dirty = "Pass 5: Checking group summary information\nFree blocks count wrong (1, counted=2).\nFix? no\n";
        assert_eq!(fsck_complaints(dirty, "/dev/sda").len(), 2);
    }

    #[test]
    fn options_are_split_into_flags_and_data() {
        let (flags, data) = split_options("ro,errors=remount-ro,noatime");
        assert!(flags.contains(MountFlags::RDONLY | MountFlags::NOATIME));
        assert_eq!(data.to_str(), Ok("errors=remount-ro"));
    }
}
