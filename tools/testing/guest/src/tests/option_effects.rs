// SPDX-License-Identifier: GPL-2.0

//! What mount options do, beside the kernel's ext4 on the same disk.

use crate::bench::text;
use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::command;
use crate::command::must;
use crate::disk_trace::traced_number;
use crate::patience::wait_for;
use crate::patience::PATIENCE;
use crate::tests::options::blocks;
use crate::tests::options::shown;
use crate::tests::readonly::disk_hash;
use crate::tests::writeback::Trace;
use anyhow::Context;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use std::time::Instant;

/// All of it.
pub fn effects(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "16M"])?;
    let drivers = [bench.fstype.as_str(), REFERENCE];
    for fstype in drivers {
        let on = |what: &str| format!("{what} on {fstype}");
        sizes(bench, fstype).with_context(|| on("minixdf"))?;
        groups(bench, fstype).with_context(|| on("grpid"))?;
        journal_task(bench, fstype).with_context(|| on("journal_ioprio"))?;
        directory_size(bench, fstype).with_context(|| on("max_dir_size_kb"))?;
        commits(bench, fstype).with_context(|| on("commits"))?;
        discards(bench, fstype).with_context(|| on("discard"))?;
        bench.fsck()?;
    }
    if bench.is_ferrofs() {
        attributes(bench)?;
        debug(bench)?;
    }
    no_recovery(bench)?;
    for fstype in drivers {
        reserved(bench, fstype).with_context(|| format!("resuid on {fstype}"))?;
        journal_checksum(bench, fstype).with_context(|| format!("journal_checksum on {fstype}"))?;
    }
    aborted(bench)
}

/// `minixdf` counts the blocks of metadata as part of the size, `bsddf` does not; a remount changes that.
fn sizes(bench: &Bench, fstype: &str) -> anyhow::Result<()> {
    bench.mount_as(fstype, "minixdf")?;
    let whole = blocks(bench)?;
    bench.remount("bsddf")?;
    let part = blocks(bench)?;
    bench.umount()?;
    anyhow::ensure!(
        whole == 4096 && part < 4000,
        "of 4096 blocks there are {whole} with minixdf and {part} without"
    );
    Ok(())
}

/// With `grpid` a new file has the group of its directory.
fn groups(bench: &Bench, fstype: &str) -> anyhow::Result<()> {
    for (options, group) in [("", 0), ("grpid", 77), ("bsdgroups,nogrpid", 0)] {
        bench.mount_as(fstype, options)?;
        let dir = bench.path("dir");
        fs::create_dir(&dir)?;
        chown(&dir, None, Some(77))?;
        fs::write(dir.join("file"), "")?;
        let found = fs::metadata(dir.join("file"))?.gid();
        fs::remove_dir_all(&dir)?;
        bench.umount()?;
        anyhow::ensure!(found == group, "the group with '{options}' is {found}");
    }
    Ok(())
}

/// The task of the journal has the I/O priority that it is given.
fn journal_task(bench: &Bench, fstype: &str) -> anyhow::Result<()> {
    let task = format!("jbd2/{}-", bench.device_name());
    let priority = || -> anyhow::Result<String> {
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let Ok(name) = fs::read_to_string(path.join("comm")) else {
                continue;
            };
            if name.starts_with(&task) {
                let pid = path.file_name().context("no pid")?;
                return Ok(must("ionice", &["-p", text(pid.as_ref())])?
                    .trim()
                    .to_string());
            }
        }
        anyhow::bail!("there is no task {task}")
    };
    bench.mount_as(fstype, "")?;
    anyhow::ensure!(priority()? == "best-effort: prio 3", "{}", priority()?);
    bench.remount("journal_ioprio=0")?;
    anyhow::ensure!(priority()? == "best-effort: prio 0", "{}", priority()?);
    bench.umount()?;
    bench.mount_as(fstype, "journal_ioprio=6")?;
    anyhow::ensure!(priority()? == "best-effort: prio 6", "{}", priority()?);
    bench.umount()
}

/// A directory that is as large as it may be takes no more names.
fn directory_size(bench: &Bench, fstype: &str) -> anyhow::Result<()> {
    bench.mount_as(fstype, "max_dir_size_kb=8")?;
    let dir = bench.path("many");
    fs::create_dir(&dir)?;
    let name = |number: u32| dir.join(format!("{number:0>200}"));
    let full = (0..100).find_map(|number| File::create(name(number)).err());
    let size = fs::metadata(&dir)?.len();
    bench.remount("max_dir_size_kb=0")?;
    File::create(name(1000)).context("without a limit")?;
    fs::remove_dir_all(&dir)?;
    bench.umount()?;
    let error = full.context("100 long names fit into 8 KiB")?;
    anyhow::ensure!(
        error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) && size <= 8192,
        "{error}, the directory has {size} bytes"
    );
    Ok(())
}

/// Whether the journal of the disk begins a commit within `patience` after `work`, on a mount with these options.
fn commits_after(
    bench: &Bench,
    fstype: &str,
    options: &str,
    work: impl Fn() -> anyhow::Result<()>,
    patience: Duration,
) -> anyhow::Result<bool> {
    // mount(8) knows the options that are flags of the kernel, and comes by the newer system calls.
    let dir = text(&bench.dir);
    must("mount", &["-t", fstype, "-o", options, bench.device(), dir])?;
    let seen = (|| {
        fs::write(bench.path("file"), "contents")?;
        rustix::fs::syncfs(File::open(&bench.dir)?)?;
        let trace = Trace::start(&["jbd2/jbd2_start_commit"])?;
        work()?;
        let device = format!("dev {} ", traced_number(bench)?);
        let end = Instant::now() + patience;
        loop {
            if trace.read()?.iter().any(|line| line.contains(&device)) {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })();
    must("umount", &[dir])?;
    seen
}

/// When the journal commits.
fn commits(bench: &Bench, fstype: &str) -> anyhow::Result<()> {
    let at_once = Duration::ZERO;
    // The timer that ends a commit interval of a second is rounded up to one.
    let short = Duration::from_millis(2200);
    let long = PATIENCE;
    let file = bench.path("file");
    let dir = bench.path("dir");
    let change = || {
        File::create(bench.path("new"))?;
        Ok(())
    };
    let read = || {
        fs::read(&file)?;
        Ok(())
    };
    let make = || {
        fs::create_dir(&dir)?;
        Ok(fs::remove_dir(&dir)?)
    };
    let write = || {
        Ok(File::options()
            .append(true)
            .open(&file)?
            .write_all(b"more")?)
    };
    type Work<'a> = &'a dyn Fn() -> anyhow::Result<()>;
    let timed: [(&str, &str, Work<'_>, Duration, bool); 4] = [
        ("a change", "commit=1", &change, long, true),
        ("a change", "commit=300", &change, short, false),
        ("reading", "commit=1,strictatime", &read, long, true),
        (
            "reading",
            "commit=1,strictatime,lazytime",
            &read,
            short,
            false,
        ),
    ];
    let immediate: [(&str, &str, Work<'_>, Duration, bool); 5] = [
        ("a directory", "commit=300", &make, at_once, false),
        ("a directory", "commit=300,dirsync", &make, at_once, true),
        ("a write", "commit=300,dirsync", &write, at_once, false),
        ("a directory", "commit=300,sync", &make, at_once, true),
        ("a write", "commit=300,sync", &write, at_once, true),
    ];
    // Those that take their time, with the driver under test only.
    let timed = timed.iter().filter(|_| fstype == bench.fstype);
    for (what, options, work, patience, expected) in timed.chain(&immediate) {
        let commits = commits_after(bench, fstype, options, work, *patience)?;
        anyhow::ensure!(
            commits == *expected,
            "{what} with {options}: a commit, {commits}"
        );
    }
    Ok(())
}

/// How much the disk was told to discard, in sectors: what is counted when a request has ended, before whoever waits for it
/// hears of that.
fn discarded(bench: &Bench) -> anyhow::Result<u64> {
    bench.disk_count(13)
}

/// With `discard` the device learns of what was freed, when that is durable; it may be switched on and off.
fn discards(bench: &Bench, fstype: &str) -> anyhow::Result<()> {
    let limit = format!("/sys/block/{}/queue/discard_max_bytes", bench.device_name());
    let can = fs::read_to_string(&limit)?.trim() != "0";
    bench.expect_message("does not support discard");
    for (first, then, expected) in [
        ("", None, false),
        ("", Some("discard"), true),
        ("discard", Some("nodiscard"), false),
    ] {
        bench.mount_as(fstype, first)?;
        if let Some(options) = then {
            bench.remount(options)?;
        }
        let path = bench.path("freed");
        fs::write(&path, vec![1; 1 << 20])?;
        let dir = File::open(&bench.dir)?;
        rustix::fs::syncfs(&dir)?;
        let before = discarded(bench)?;
        fs::remove_file(&path)?;
        rustix::fs::syncfs(&dir)?;
        // It is done some time after the commit: by the journal's task, and by one of its own in the kernel's ext4.
        if expected && can {
            wait_for("a discard", || Ok(discarded(bench)? > before))?;
        }
        drop(dir);
        // What is still to be done is done or given up then.
        bench.umount()?;
        let sectors = discarded(bench)? - before;
        anyhow::ensure!(
            (sectors > 0) == (expected && can),
            "'{first}' and then {then:?}: {sectors} sectors discarded, possible: {can}"
        );
    }
    Ok(())
}

/// Without `acl` and `user_xattr` there are none, also after a remount.
fn attributes(bench: &Bench) -> anyhow::Result<()> {
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(bench.path("file"), name, value, XattrFlags::empty())
    };
    // An access control list of version 2: owner, group and others, as the mode says.
    let acl = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0,
        255, 255, 255, 255,
    ];
    let user = || set("user.name", b"value");
    let list = || set("system.posix_acl_access", &acl);
    let none = Err(Errno::OPNOTSUPP);
    bench.mount_with("noacl,nouser_xattr")?;
    fs::write(bench.path("file"), "")?;
    anyhow::ensure!(
        user() == none && list() == none,
        "{:?} {:?}",
        user(),
        list()
    );
    bench.remount("acl,user_xattr")?;
    user().context("user_xattr")?;
    list().context("acl")?;
    bench.remount("noacl,nouser_xattr")?;
    anyhow::ensure!(
        user() == none && list() == none,
        "{:?} {:?}",
        user(),
        list()
    );
    bench.umount()
}

/// `debug` says more.
fn debug(bench: &Bench) -> anyhow::Result<()> {
    for (option, lines) in [("", 0), ("debug", 1)] {
        let before = bench.messages()?.len();
        bench.mount_with(option)?;
        bench.umount()?;
        let said = bench.messages()?.split_off(before);
        let words = "4096 blocks of 4096 bytes";
        let count = said.iter().filter(|line| line.text.contains(words)).count();
        anyhow::ensure!(count == lines, "'{option}': {said:#?}");
    }
    Ok(())
}

/// With `norecovery` the log is not replayed, and the disk is not written; that is for read-only mounts.
fn no_recovery(bench: &Bench) -> anyhow::Result<()> {
    must(
        "debugfs",
        &["-w", "-R", "feature needs_recovery", bench.device()],
    )?;
    let before = disk_hash(&bench.disk, 16)?;
    bench.expect_message("norecovery");
    bench.expect_message("required journal recovery suppressed");
    anyhow::ensure!(
        bench.try_mount(&bench.fstype, "norecovery") == Err(Errno::INVAL),
        "a disk was to be written without a replay"
    );
    bench.mount_with("ro,norecovery")?;
    fs::read_dir(&bench.dir)?.count();
    bench.umount()?;
    anyhow::ensure!(
        disk_hash(&bench.disk, 16)? == before,
        "norecovery has written to the disk"
    );
    bench.mount_with("ro")?;
    bench.umount()?;
    anyhow::ensure!(
        disk_hash(&bench.disk, 16)? != before,
        "without norecovery nothing was replayed"
    );
    bench.fsck()
}

/// What is kept back is for the user and the group that are named.
fn reserved(bench: &Bench, fstype: &str) -> anyhow::Result<()> {
    // A quarter of the disk is kept back.
    bench.format(&["-b", "4096", "-m", "25", "-O", "^has_journal", "16M"])?;
    let mut taken = Vec::new();
    for options in ["", "resuid=1234", "resgid=1234"] {
        bench.mount_as(fstype, options)?;
        must("chmod", &["777", text(&bench.dir)])?;
        let file = bench.path("file");
        let fill = format!("exec dd if=/dev/zero of={} bs=64k status=none", text(&file));
        let output = command::run(
            "setpriv",
            &[
                "--reuid=1234",
                "--regid=1234",
                "--clear-groups",
                "sh",
                "-c",
                &fill,
            ],
        )?;
        anyhow::ensure!(output.text.contains("No space left"), "{}", output.text);
        taken.push(fs::metadata(&file)?.len() >> 12);
        fs::remove_file(&file)?;
        bench.umount()?;
    }
    let kept_back = 4096 / 4;
    for more in &taken[1..] {
        anyhow::ensure!(
            *more > taken[0] + kept_back * 9 / 10,
            "of 4096 blocks these were to be had: {taken:?}"
        );
    }
    Ok(())
}

/// Which checksums the journal has after a mount.
fn journal_checksum(bench: &Bench, fstype: &str) -> anyhow::Result<()> {
    for (features, options, expected) in [
        ("metadata_csum", "", Some("journal_checksum_v3")),
        ("metadata_csum", "nojournal_checksum", None),
        ("^metadata_csum", "", None),
        (
            "^metadata_csum",
            "journal_checksum",
            Some("journal_checksum"),
        ),
    ] {
        bench.format(&["-b", "4096", "-O", features, "16M"])?;
        bench.mount_as(fstype, options)?;
        fs::write(bench.path("file"), "contents")?;
        bench.umount()?;
        let header = must("dumpe2fs", &["-h", bench.device()])?;
        let line = header
            .lines()
            .find_map(|line| line.strip_prefix("Journal features:"))
            .with_context(|| format!("no features of the journal in {header}"))?;
        let found = line
            .split_whitespace()
            .find(|word| word.starts_with("journal_checksum"));
        anyhow::ensure!(
            found == expected,
            "{features} and '{options}': the journal has {line}"
        );
    }
    Ok(())
}

/// A remount with `abort` ends all writing.
fn aborted(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "16M"])?;
    bench.mount()?;
    fs::write(bench.path("file"), "contents")?;
    rustix::fs::syncfs(File::open(&bench.dir)?)?;
    bench.expect_message("journal was aborted");
    bench.expect_message("remounting read-only");
    bench.expect_message("journal cannot be emptied");
    bench.expect_message("Abort forced by user");
    bench.expect_message("Aborting journal");
    bench.expect_message("journal_check_start");
    bench.expect_message("Remounting filesystem read-only");
    bench.remount("abort")?;
    anyhow::ensure!(
        shown(bench)?.contains("emergency_ro"),
        "{:?}",
        shown(bench)?
    );
    let error = fs::write(bench.path("other"), "x").err();
    let error = error.context("a write after abort")?;
    anyhow::ensure!(
        error.raw_os_error() == Some(Errno::ROFS.raw_os_error()),
        "{error}"
    );
    anyhow::ensure!(fs::read_to_string(bench.path("file"))? == "contents");
    bench.umount()?;
    bench.format(&["16M"])
}
