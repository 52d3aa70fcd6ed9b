// SPDX-License-Identifier: GPL-2.0

//! The sample: a file system in memory on the same `vfs`. With the reference driver, the kernel's tmpfs stands in for it,
//! which has the options that are used here.

use crate::bench::mount_device;
use crate::bench::text;
use crate::bench::Bench;
use crate::command;
use crate::command::must;
use crate::model::compare_bytes;
use crate::model::Model;
use crate::module;
use crate::tests::contents::MAPPING;
use anyhow::Context;
use rustix::io::Errno;
use rustix::mount::mount_remount;
use rustix::mount::unmount;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// The status of a program that a bus error ended.
const BUS_ERROR: i32 = 128 + 7;

/// A mount of the sample, unmounted at the latest when the test is over.
struct Mounted {
    fstype: &'static str,
    dir: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nothing is mounted any more when the test went well.
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
    }
}

impl Mounted {
    fn new(fstype: &'static str, options: &str) -> anyhow::Result<Mounted> {
        let dir = PathBuf::from("/tmp/memfs-test");
        fs::create_dir_all(&dir).context("making the mount point")?;
        mount_device(Path::new("none"), &dir, fstype, options)
            .with_context(|| format!("mounting {fstype} with {options}"))?;
        Ok(Mounted { fstype, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn umount(self) -> anyhow::Result<()> {
        unmount(&self.dir, UnmountFlags::empty())
            .with_context(|| format!("unmounting {}", self.fstype))
    }

    fn remount(&self, options: &str) -> Result<(), Errno> {
        let data = std::ffi::CString::new(options).unwrap_or_default();
        mount_remount(&self.dir, MountFlags::empty(), data.as_c_str())
    }

    /// The options as `/proc/mounts` shows them.
    fn options(&self) -> anyhow::Result<Vec<String>> {
        let mounts = fs::read_to_string("/proc/mounts").context("reading /proc/mounts")?;
        let line = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields.get(1) == Some(&text(&self.dir)))
            .context("the mount is not in /proc/mounts")?;
        anyhow::ensure!(line[2] == self.fstype, "/proc/mounts shows a {}", line[2]);
        Ok(line[3].split(',').map(String::from).collect())
    }

    fn must_show(&self, wanted: &[&str]) -> anyhow::Result<()> {
        let shown = self.options()?;
        for option in wanted {
            anyhow::ensure!(
                shown.iter().any(|shown| shown == option),
                "{option} is not among the options {shown:?}"
            );
        }
        Ok(())
    }

    /// Free bytes.
    fn free(&self) -> anyhow::Result<u64> {
        let stat = rustix::fs::statvfs(&self.dir).context("statfs")?;
        Ok(stat.f_bavail * stat.f_frsize)
    }
}

/// Everything that the sample does.
pub fn memfs(bench: &Bench) -> anyhow::Result<()> {
    // The disk is not used.
    bench.expect_broken_disk();
    let fstype = if bench.is_ferrofs() {
        let path = std::env::var("MEMFS_KO")
            .context("MEMFS_KO is not set: run this in a guest, by tools/vm")?;
        module::load(&path)?;
        "memfs"
    } else {
        "tmpfs"
    };
    for message in [
        "size= wants a number",
        "mode= wants permissions",
        "Bad value for",
        "Unknown parameter",
        "size= is less than what is in use",
        "Too small a size for current use",
    ] {
        bench.expect_message(&format!("{fstype}: {message}"));
    }
    refused_options(fstype)?;
    work(bench, fstype)?;
    listing(fstype).context("listing a directory that changes")?;
    full(fstype).context("on a full file system")?;
    if bench.is_ferrofs() {
        module::unload("memfs")?;
    }
    Ok(())
}

fn refused_options(fstype: &'static str) -> anyhow::Result<()> {
    for options in ["size=none", "mode=999", "mode=70000", "nonsense=1"] {
        let dir = std::env::temp_dir();
        let result = mount_device(Path::new("none"), &dir, fstype, options);
        if result.is_ok() {
            unmount(&dir, UnmountFlags::DETACH).context("unmounting")?;
        }
        anyhow::ensure!(
            result == Err(Errno::INVAL) || fstype == "tmpfs",
            "a mount with {options} ended with {result:?}"
        );
    }
    Ok(())
}

/// Random work compared with a model, mappings, options, and a second mount that has nothing to do with the first.
fn work(bench: &Bench, fstype: &'static str) -> anyhow::Result<()> {
    let mounted = Mounted::new(fstype, "size=512m,mode=1750")?;
    mounted.must_show(&["rw", "size=524288k", "mode=1750"])?;
    if fstype == "memfs" {
        let output = command::run("rmmod", &["memfs"])?;
        anyhow::ensure!(output.status != 0, "the module was removed while mounted");
    }
    let all = mounted.free()?;
    anyhow::ensure!(all == 512 << 20, "{all} bytes are free");

    let mut model = Model::without_xattrs(bench.rng());
    for round in 0..2 {
        model.work(&mounted.dir, bench.scaled(400))?;
        model
            .verify(&mounted.dir, true)
            .with_context(|| format!("round {round}, from the caches"))?;
        // Inodes, names and pages leave memory, and come back from the disk that is no disk.
        bench.drop_caches()?;
        model
            .verify(&mounted.dir, true)
            .with_context(|| format!("round {round}, after dropped caches"))?;
    }
    mounted
        .remount("size=256m")
        .context("making it smaller than it was")?;
    mounted.must_show(&["size=262144k", "mode=1750"])?;
    mapping(bench, &mounted)?;
    unlinked(&mounted)?;

    // Every mount is a file system of its own, and all of it goes with the mount.
    mounted.umount()?;
    let mounted = Mounted::new(fstype, "size=512m")?;
    let left = fs::read_dir(&mounted.dir).context("listing")?.count();
    anyhow::ensure!(left == 0, "a new mount holds {left} names");
    mounted.umount()
}

fn mapping(bench: &Bench, mounted: &Mounted) -> anyhow::Result<()> {
    let path = mounted.path("mapped");
    must("python3", &["-c", MAPPING, text(&path)])?;
    let mut expected = vec![0; 1 << 20];
    expected[5000..5010].copy_from_slice(b"0123abcdef");
    let end = expected.len();
    expected[end - 4..].copy_from_slice(b"tail");
    compare_bytes("mapped", &fs::read(&path)?, &expected)?;
    bench.drop_caches()?;
    compare_bytes("mapped, after dropped caches", &fs::read(&path)?, &expected)
}

/// A file that is open lives on without a name, and its space returns when it is closed.
fn unlinked(mounted: &Mounted) -> anyhow::Result<()> {
    let before = mounted.free()?;
    let path = mounted.path("unlinked");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .context("creating a file")?;
    let contents = vec![7; 1 << 20];
    file.write_all(&contents).context("writing")?;
    fs::remove_file(&path).context("unlinking")?;
    file.rewind().context("rewinding")?;
    let mut read = Vec::new();
    file.read_to_end(&mut read).context("reading")?;
    compare_bytes("an unlinked file", &read, &contents)?;
    let taken = before - mounted.free()?;
    anyhow::ensure!(taken >= 1 << 20, "an open file takes {taken} bytes");
    drop(file);
    let after = mounted.free()?;
    anyhow::ensure!(before == after, "{before} bytes were free, and now {after}");
    Ok(())
}

/// A listing that goes on while names come and go gives each name that stays exactly once.
fn listing(fstype: &'static str) -> anyhow::Result<()> {
    const NAMES: usize = 3000;
    let mounted = Mounted::new(fstype, "size=64m")?;
    let name = |number: usize| format!("{number:05}{}", "y".repeat(100));
    for number in 0..NAMES {
        File::create(mounted.path(&name(number))).context("creating a file")?;
    }
    let mut seen = BTreeSet::new();
    for (count, entry) in fs::read_dir(&mounted.dir).context("listing")?.enumerate() {
        let found = entry.context("listing")?.file_name();
        let found = found.to_string_lossy().into_owned();
        anyhow::ensure!(seen.insert(found.clone()), "{found} was given twice");
        // Some of those that were given go, and new ones come.
        if count < NAMES && count % 3 == 0 {
            fs::remove_file(mounted.path(&found)).context("removing a file")?;
            File::create(mounted.path(&format!("new{count}"))).context("creating a file")?;
        }
    }
    let missing: Vec<String> = (0..NAMES)
        .map(name)
        .filter(|name| !seen.contains(name))
        .collect();
    anyhow::ensure!(missing.is_empty(), "{} names are missing", missing.len());
    mounted.umount()
}

/// Running out of space: refused by `write`, a bus error in a mapping, and over when something is removed.
fn full(fstype: &'static str) -> anyhow::Result<()> {
    const SIZE: u64 = 4 << 20;
    let mounted = Mounted::new(fstype, "size=4m")?;
    // A hole, which takes no space until somebody writes to it.
    let sparse = mounted.path("sparse");
    let file = File::create(&sparse).context("creating a file")?;
    file.set_len(1 << 20).context("making a hole")?;
    drop(file);

    let path = mounted.path("large");
    let mut file = File::create(&path).context("creating a file")?;
    // The large writes end before the disk is full, the small ones fill it.
    let mut written = fill(&mut file, &[1; 100_000])?;
    written += fill(&mut file, &[2; 1000])?;
    anyhow::ensure!(written == SIZE, "{written} bytes fit into {SIZE}");
    anyhow::ensure!(mounted.free()? == 0, "a full file system has space");
    file.sync_all().context("syncing what was written")?;
    let length = fs::metadata(&path).context("stat")?.len();
    anyhow::ensure!(length == written, "{written} bytes written, {length} there");

    let store =
        "import mmap, sys\nf = open(sys.argv[1], 'r+b')\nm = mmap.mmap(f.fileno(), 0)\nm[0] = 1\n";
    let output = command::run("python3", &["-c", store, text(&sparse)])?;
    anyhow::ensure!(
        output.status == BUS_ERROR,
        "a store to a hole without space ended with {}: {}",
        output.status,
        output.text
    );
    anyhow::ensure!(
        mounted.remount("size=1m") == Err(Errno::INVAL),
        "a remount may make it smaller than what it holds"
    );
    drop(file);
    fs::remove_file(&path).context("removing")?;
    must("python3", &["-c", store, text(&sparse)])?;
    let taken = SIZE - mounted.free()?;
    // The store takes space for the folio that it goes to, of which there may be large ones.
    anyhow::ensure!(
        (4096..=1 << 20).contains(&taken),
        "one store takes {taken} bytes"
    );
    mounted.umount()
}

/// Writes `record` again and again until there is no space; gives the number of bytes that fitted.
fn fill(file: &mut File, record: &[u8]) -> anyhow::Result<u64> {
    let mut written = 0;
    loop {
        match file.write(record) {
            Ok(count) => written += count as u64,
            Err(error) if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => {
                return Ok(written);
            }
            Err(error) => return Err(error).context("writing until there is no space"),
        }
    }
}
