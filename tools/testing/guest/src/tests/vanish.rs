// SPDX-License-Identifier: GPL-2.0

//! Devices that go away under load.

use crate::bench::Bench;
use crate::command;
use crate::command::must;
use crate::mapped::Mapped;
use crate::model::compare_bytes;
use crate::patience::wait_for;
use crate::patience::PATIENCE;
use crate::tests::io_errors::expect_failures;
use crate::tests::io_errors::SIZE;
use crate::tests::io_errors::SIZE_NAME;
use anyhow::Context;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::time::Instant;

/// A device that fails all requests from one moment on, and one that is taken out of the machine.
pub fn vanish(bench: &Bench) -> anyhow::Result<()> {
    errors_only(bench).context("a device that fails everything")?;
    // The debug kernel has no disk that can be taken away.
    if command::run("modprobe", &["scsi_debug", "dev_size_mb=256", "delay=0"])?.status == 0 {
        let result = taken_out(bench).context("a device that is taken out");
        // The module goes only if nobody holds on to the disk that is gone.
        let unloaded = must("rmmod", &["scsi_debug"]);
        result?;
        unloaded?;
    }
    Ok(())
}

fn errors_only(outer: &Bench) -> anyhow::Result<()> {
    outer.format(&["-b", "4096", SIZE_NAME])?;
    let disk = Mapped::new(&outer.disk, SIZE)?;
    let bench = &disk.bench(outer);
    expect_failures(bench);
    bench.mount()?;
    let durable = work_until(bench, || disk.fail_all())?;
    bench.umount()?;
    disk.heal()?;
    must("blockdev", &["--flushbufs", bench.device()])?;
    let output = command::run("e2fsck", &["-fy", bench.device()])?;
    anyhow::ensure!(output.status <= 1, "e2fsck -fy:\n{}", output.text);
    bench.fsck()?;
    bench.mount()?;
    compare_bytes(
        "what was durable",
        &fs::read(bench.path("durable"))?,
        &durable,
    )?;
    bench.finish()
}

fn taken_out(outer: &Bench) -> anyhow::Result<()> {
    let disk = scsi_debug_disk()?;
    let bench = &outer.for_disk(&disk);
    bench.expect_broken_disk();
    expect_failures(bench);
    for text in ["sd ", "scsi ", "device offline error"] {
        bench.expect_message(text);
    }
    bench.format(&["-b", "4096"])?;
    bench.mount()?;
    let delete = format!("/sys/block/{}/device/delete", bench.device_name());
    work_until(bench, || {
        fs::write(&delete, "1").context("taking the disk out")
    })?;
    // What was never read cannot be, and there is no going on.
    let never = fs::read(bench.path("never-read"));
    anyhow::ensure!(never.is_err(), "a file was read from a disk that is gone");
    let made = fs::create_dir(bench.path("dir"));
    anyhow::ensure!(
        made.as_ref().err().is_some_and(is_the_end),
        "mkdir on a disk that is gone: {made:?}"
    );
    bench.finish()
}

/// The disk of scsi_debug.
fn scsi_debug_disk() -> anyhow::Result<PathBuf> {
    let mut disk = None;
    wait_for("a disk of scsi_debug", || {
        for entry in fs::read_dir("/sys/block")? {
            let entry = entry?;
            let model = fs::read_to_string(entry.path().join("device/model")).unwrap_or_default();
            if model.trim() == "scsi_debug" {
                disk = Some(Path::new("/dev").join(entry.file_name()));
            }
        }
        // It is in sysfs before it can be opened.
        Ok(disk.as_ref().is_some_and(|disk| File::open(disk).is_ok()))
    })?;
    disk.context("there is no disk of scsi_debug")
}

/// Whether this is an error that a disk which is gone should give.
fn is_the_end(error: &std::io::Error) -> bool {
    // The last is what the block layer says of a disk that was taken out.
    [Errno::IO, Errno::ROFS, Errno::NODEV]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Has several threads work, calls `end` in the middle, and sees to it that each ends with an error, soon. Gives what
/// the file "durable" holds on stable media.
fn work_until(bench: &Bench, end: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Vec<u8>> {
    let bytes = bench.rng().bytes(200_000);
    for name in ["durable", "never-read"] {
        fs::write(bench.path(name), &bytes)?;
        File::open(bench.path(name))?.sync_all()?;
    }
    bench.drop_caches()?;
    let (rounds, gone) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (dir, rounds) = (bench.path(format!("worker{worker}")), &rounds);
                let gone = &gone;
                scope.spawn(move || work(&dir, worker, rounds, gone))
            })
            .collect();
        while rounds.load(Relaxed) < 30 && !workers.iter().any(|worker| worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = end();
        gone.store(true, Relaxed);
        let start = Instant::now();
        for worker in workers {
            let error = worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker panicked"))?;
            anyhow::ensure!(is_the_end(&error), "a worker ended with {error}");
        }
        eprintln!("all workers had an error after {:?}", start.elapsed());
        ended
    })?;
    Ok(bytes)
}

/// Works in `dir` until there is an error, which must come some time after the device is `gone`.
fn work(dir: &Path, worker: u64, rounds: &AtomicU64, gone: &AtomicBool) -> std::io::Error {
    let mut deadline = None;
    let step = |round: u64| -> std::io::Result<()> {
        let path = dir.join(format!("file{}", round % 20));
        let file = File::create(&path)?;
        file.write_all_at(&vec![7; 100_000], 0)?;
        if (round + worker) % 3 == 0 {
            file.sync_all()?;
        }
        fs::rename(&path, dir.join(format!("renamed{}", round % 10)))
    };
    let first = fs::create_dir(dir);
    let mut round = 0;
    let mut result = first;
    while result.is_ok() {
        if gone.load(Relaxed)
            && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + PATIENCE)
        {
            return std::io::Error::other("no error came");
        }
        result = step(round);
        round += 1;
        rounds.fetch_add(1, Relaxed);
    }
    result
        .err()
        .unwrap_or_else(|| std::io::Error::other("no error"))
}
