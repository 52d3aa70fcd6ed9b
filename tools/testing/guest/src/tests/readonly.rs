// SPDX-License-Identifier: GPL-2.0

//! Disks that must not be written: read-only mounts, remounts, and a read-only device.

use crate::bench::text;
use crate::bench::Bench;
use crate::command::must;
use crate::rng::hash;
use anyhow::Context;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;

/// A hash of the first mebibytes of a disk, as they are on the disk.
pub fn disk_hash(disk: &Path, mebibytes: u64) -> anyhow::Result<u64> {
    must("blockdev", &["--flushbufs", text(disk)])?;
    let mut file = File::open(disk)?;
    let mut buffer = vec![0; 1 << 20];
    let mut state = 0;
    for _ in 0..mebibytes {
        file.read_exact(&mut buffer)
            .with_context(|| format!("reading {}", disk.display()))?;
        state = crate::rng::mix(state ^ hash(&buffer));
    }
    Ok(state)
}

/// A clean disk that is mounted read-only is not written; remounts change what may be written, when they may.
pub fn readonly(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["64M"])?;
    bench.mount()?;
    fs::write(bench.path("file"), "contents")?;
    bench.umount()?;
    let before = disk_hash(&bench.disk, 64)?;

    bench.mount_with("ro")?;
    anyhow::ensure!(fs::read_to_string(bench.path("file"))? == "contents");
    let error = fs::write(bench.path("other"), "x")
        .err()
        .context("a write to a read-only mount")?;
    anyhow::ensure!(
        error.raw_os_error() == Some(Errno::ROFS.raw_os_error()),
        "{error}"
    );
    bench.umount()?;
    anyhow::ensure!(
        disk_hash(&bench.disk, 64)? == before,
        "a read-only mount wrote to the disk"
    );

    bench.mount_with("ro")?;
    bench.remount("rw").context("remounting read-write")?;
    fs::write(bench.path("other"), "written")?;
    let writer = OpenOptions::new().write(true).open(bench.path("other"))?;
    anyhow::ensure!(
        bench.remount("ro") == Err(Errno::BUSY),
        "read-only with an open writer"
    );
    drop(writer);
    bench.remount("ro").context("remounting read-only")?;
    bench.fsck_mounted()?;
    anyhow::ensure!(
        fs::write(bench.path("third"), "x").is_err(),
        "a write after a remount"
    );
    anyhow::ensure!(fs::read_to_string(bench.path("other"))? == "written");
    bench.remount("rw").context("remounting read-write again")?;
    fs::write(bench.path("third"), "x")?;
    bench.umount()?;

    // A device that refuses writes mounts read-only, when that is what is asked for.
    must("blockdev", &["--setro", bench.device()])?;
    let result = read_only_device(bench);
    must("blockdev", &["--setrw", bench.device()])?;
    result
}

fn read_only_device(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_message("write-protected");
    bench.expect_message("read-only");
    anyhow::ensure!(
        bench.try_mount(&bench.fstype, "").is_err(),
        "read-write on a read-only device"
    );
    bench.mount_with("ro")?;
    anyhow::ensure!(fs::read_to_string(bench.path("third"))? == "x");
    anyhow::ensure!(
        bench.remount("rw").is_err(),
        "remounted read-write on a read-only device"
    );
    bench.umount()
}

/// Options are taken, shown, and refused when they are wrong; two mounts of a disk are one filesystem.
pub fn options(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["64M"])?;
    let shown = || -> anyhow::Result<String> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == bench.dir.to_str())
            .context("the mount is not in /proc/mounts")?;
        Ok(line.split(' ').nth(3).unwrap_or("").to_string())
    };
    for options in [
        "errors=remount-ro",
        "commit=17",
        "nobarrier",
        "noatime",
        "errors=panic",
    ] {
        bench.mount_with(options)?;
        let line = shown()?;
        anyhow::ensure!(
            line.split(',')
                .any(|word| options.split(',').any(|option| option == word)),
            "{options} is not shown in {line}"
        );
        bench.umount()?;
    }
    for wrong in ["errors=sometimes", "commit=never", "nonsense", "sb=-1"] {
        bench.expect_message(wrong.split('=').next().unwrap_or(wrong));
        let result = bench.try_mount(&bench.fstype, wrong);
        anyhow::ensure!(result == Err(Errno::INVAL), "{wrong}: {result:?}");
    }
    bench.format(&["64M"])?;
    bench.mount()?;
    let second = std::path::PathBuf::from("/tmp/ferrofs-test-2");
    fs::create_dir_all(&second)?;
    crate::bench::mount_device(&bench.disk, &second, &bench.fstype, "")
        .context("a second mount")?;
    fs::write(bench.path("file"), "one filesystem")?;
    let read = fs::read_to_string(second.join("file"));
    rustix::mount::unmount(&second, rustix::mount::UnmountFlags::empty())?;
    anyhow::ensure!(read? == "one filesystem");
    if bench.is_ferrofs() {
        let busy = crate::command::run("rmmod", &[&bench.fstype])?;
        anyhow::ensure!(busy.status != 0, "the module was removed under a mount");
    }
    fs::write(bench.path("many"), vec![1; 9 << 20])?;
    bench.umount()?;
    let state = must("dumpe2fs", &["-h", bench.device()])?;
    let field = |name: &str| {
        let value = state.lines().find_map(|line| line.strip_prefix(name));
        value
            .map(str::trim)
            .with_context(|| format!("no {name} in {state}"))
    };
    let mounted = field("Last mounted on:")?;
    anyhow::ensure!(
        mounted == text(&bench.dir),
        "said to be mounted last on {mounted}"
    );
    // Since `mkfs.ext4`, which does not count what it writes itself.
    let written = field("Lifetime writes:")?;
    let (number, unit) = written.split_once(' ').context("no unit")?;
    anyhow::ensure!(
        unit == "MB" && (9..30).contains(&number.parse::<u32>()?),
        "{written} were written to a disk that got 9 MB"
    );
    anyhow::ensure!(
        state
            .lines()
            .any(|line| line.starts_with("Filesystem state:") && line.ends_with(" clean")),
        "an unmounted disk is not clean:\n{state}"
    );
    anyhow::ensure!(
        !state.contains("needs_recovery"),
        "an unmounted disk needs recovery"
    );
    Ok(())
}
