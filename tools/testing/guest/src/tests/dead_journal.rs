// SPDX-License-Identifier: GPL-2.0

//! Metadata that cannot be written or read: the journal gives up, and what was durable before stays so.

use crate::bench::text;
use crate::bench::Bench;
use crate::command;
use crate::command::must;
use crate::mapped::places_of;
use crate::mapped::Mapped;
use crate::model::compare_bytes;
use crate::tests::io_errors::expect_failures;
use crate::tests::io_errors::must_fail;
use crate::tests::io_errors::wait_until_clean;
use crate::tests::io_errors::BLOCK;
use crate::tests::io_errors::SIZE;
use crate::tests::io_errors::SIZE_NAME;
use crate::tests::writeback::meminfo;
use anyhow::Context;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;

/// A journal that cannot be written is given up, and the file system with it, whatever `errors=` says.
pub fn journal_errors(outer: &Bench) -> anyhow::Result<()> {
    for (options, repair, everything) in [
        ("errors=remount-ro", Repair::ByFsck, false),
        ("errors=continue", Repair::ByMount, false),
        ("errors=remount-ro", Repair::ByMount, true),
        ("errors=continue", Repair::ByFsck, true),
    ] {
        let what = format!("{options}, everything fails: {everything}");
        one(outer, options, repair, everything).with_context(|| what)?;
    }
    Ok(())
}

/// What brings the disk back into order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// `e2fsck`.
    ByFsck,
    /// The next mount.
    ByMount,
}

fn one(outer: &Bench, options: &str, repair: Repair, everything: bool) -> anyhow::Result<()> {
    outer.format(&["-b", "4096", SIZE_NAME])?;
    let journal = places_of(&outer.disk, "<8>", BLOCK)?;
    let disk = Mapped::new(&outer.disk, SIZE)?;
    let bench = &disk.bench(outer);
    expect_failures(bench);
    // No commit but those that are asked for: one that comes by itself fails before all is written that is to be lost.
    bench.mount_with(&format!("{options},commit=300"))?;
    let before = bench.messages()?.len();
    let bytes = bench.rng().bytes(100_000);
    let durable = bench.path("durable");
    fs::write(&durable, &bytes)?;
    File::open(&durable)?.sync_all()?;
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(bench.path("doomed"))?;
    rustix::fs::sync();
    let clean = meminfo("Dirty")?;

    if everything {
        disk.fail_all()?;
    } else {
        disk.fail(&journal)?;
    }
    open.write_all_at(&bytes, 0)?;
    fs::write(bench.path("another"), &bytes)?;
    let result = open.sync_all();
    anyhow::ensure!(
        matches!(&result, Err(error) if [Errno::IO, Errno::ROFS]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))),
        "fsync without a journal gave {result:?}"
    );
    // A commit fails, if none has, and whoever changes something next finds that.
    rustix::fs::sync();
    let changes: [(&str, &dyn Fn() -> std::io::Result<()>); 7] = [
        ("a new file", &|| {
            File::create_new(bench.path("x")).map(drop)
        }),
        ("a write", &|| open.write_all_at(b"x", 0)),
        ("truncate", &|| open.set_len(10)),
        ("unlink", &|| fs::remove_file(&durable)),
        ("rename", &|| fs::rename(&durable, bench.path("y"))),
        ("mkdir", &|| fs::create_dir(bench.path("z"))),
        ("chmod", &|| {
            fs::set_permissions(&durable, fs::Permissions::from_mode(0o600))
        }),
    ];
    for (what, change) in changes {
        must_fail(what, change(), Errno::ROFS)?;
    }
    must_fail(
        "syncfs",
        rustix::fs::syncfs(&open).map_err(Into::into),
        Errno::ROFS,
    )?;
    rustix::fs::sync();
    wait_until_clean(clean + 512)?;
    compare_bytes("what is in memory", &fs::read(&durable)?, &bytes)?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some(text(&bench.dir)))
        .context("the mount is not in /proc/mounts")?;
    anyhow::ensure!(mount.contains("emergency_ro"), "/proc/mounts shows {mount}");
    anyhow::ensure!(
        bench.remount("rw").is_ok() || bench.is_ferrofs(),
        "a remount without a change failed"
    );
    drop(open);
    bench.umount().context("after the journal has failed")?;
    let said: Vec<String> = bench.messages()?[before..]
        .iter()
        .map(|line| line.text.to_lowercase())
        .collect();
    let lines = |word: &str| said.iter().filter(|line| line.contains(word)).count();
    anyhow::ensure!(
        lines("remounting") == 1 && lines("journal") >= 1,
        "the kernel said:\n{}",
        said.join("\n")
    );

    disk.heal()?;
    // What the page cache of the device has is what could not be written.
    must("blockdev", &["--flushbufs", bench.device()])?;
    if repair == Repair::ByFsck {
        let output = command::run("e2fsck", &["-fy", bench.device()])?;
        anyhow::ensure!(
            output.status <= 1,
            "e2fsck -fy ended with {}:\n{}",
            output.status,
            output.text
        );
        bench.fsck()?;
    }
    bench.mount()?;
    compare_bytes("what was durable", &fs::read(&durable)?, &bytes)?;
    fs::write(bench.path("later"), &bytes)?;
    bench.umount()?;
    if repair == Repair::ByMount {
        // An error is noted on the disk, which e2fsck clears and a mount does not.
        let output = command::run("e2fsck", &["-fp", bench.device()])?;
        anyhow::ensure!(output.status <= 1, "e2fsck -fp:\n{}", output.text);
    }
    bench.fsck()?;
    bench.mount_reference("ro")?;
    compare_bytes("what was durable, by ext4", &fs::read(&durable)?, &bytes)?;
    bench.finish()
}

/// A directory that cannot be read: an error for those who need it, and what `errors=` says for the rest.
pub fn metadata_errors(outer: &Bench) -> anyhow::Result<()> {
    for (options, goes_on) in [("errors=continue", true), ("errors=remount-ro", false)] {
        outer.format(&["-b", "4096", SIZE_NAME])?;
        outer.mount()?;
        fs::create_dir(outer.path("dir"))?;
        fs::write(outer.path("dir/file"), "contents")?;
        outer.umount()?;
        let bad = places_of(&outer.disk, "/dir", BLOCK)?;
        let disk = Mapped::new(&outer.disk, SIZE)?;
        let bench = &disk.bench(outer);
        expect_failures(bench);
        bench.mount_with(options)?;
        disk.fail(&bad)?;
        let read = |name: &str| fs::read(bench.path(name));
        must_fail("looking a name up", read("dir/file"), Errno::IO)?;
        let listed = fs::read_dir(bench.path("dir"))
            .and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
        must_fail("listing the directory", listed, Errno::IO)?;
        let elsewhere = fs::write(bench.path("elsewhere"), "contents");
        if goes_on {
            elsewhere.context("writing elsewhere, with errors=continue")?;
        } else {
            must_fail("writing elsewhere", elsewhere, Errno::ROFS)?;
        }
        disk.heal()?;
        let contents = read("dir/file").context("after recovery")?;
        compare_bytes("after recovery", &contents, b"contents")?;
        bench.umount()?;
        let output = command::run("e2fsck", &["-fp", bench.device()])?;
        anyhow::ensure!(output.status <= 1, "e2fsck -fp:\n{}", output.text);
        bench.mount_reference("ro")?;
        compare_bytes("by ext4", &read("dir/file")?, b"contents")?;
        bench.finish()?;
    }
    Ok(())
}
