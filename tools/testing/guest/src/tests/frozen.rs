// SPDX-License-Identifier: GPL-2.0

//! Freezing: a snapshot of a frozen disk is as clean as that of an unmounted one.

use crate::bench::text;
use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::command::must;
use crate::tests::io_errors::SIZE_NAME;
use anyhow::Context;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How many files each worker makes; the disk must not get full.
const FILES: u64 = 2000;

/// Two threads work; meanwhile the file system is frozen, copied and thawed several times.
pub fn freeze(bench: &Bench) -> anyhow::Result<()> {
    for features in ["has_journal", "^has_journal"] {
        bench.format(&["-b", "4096", "-O", features, SIZE_NAME])?;
        bench.mount()?;
        let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|worker| {
                    let (stop, rounds) = (&stop, &rounds);
                    let dir = bench.path(format!("worker{worker}"));
                    scope.spawn(move || work(&dir, worker, stop, rounds))
                })
                .collect();
            let result = (0..3).try_for_each(|round| {
                snapshot(bench, &rounds).with_context(|| format!("{features}, freeze {round}"))
            });
            stop.store(true, Relaxed);
            for worker in workers {
                worker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a worker panicked"))?
                    .context("working while the file system is frozen and thawed")?;
            }
            result
        })?;
        bench.umount()?;
        bench.fsck()?;
    }
    Ok(())
}

/// Makes and renames files in `dir` until it is told to stop. It removes none: a file that has lost its last name and is
/// not freed yet is what even a frozen disk may have, and what e2fsck is right to see to.
fn work(dir: &Path, worker: u64, stop: &AtomicBool, rounds: &AtomicU64) -> std::io::Result<()> {
    fs::create_dir(dir)?;
    let all = File::create(dir.join("all"))?;
    for round in 0u64.. {
        if stop.load(Relaxed) {
            break;
        }
        let bytes = vec![worker as u8 + 1; 20_000];
        all.write_all_at(&bytes, round % 20 * 20_000)?;
        rounds.fetch_add(1, Relaxed);
        if round >= FILES {
            all.sync_data()?;
            continue;
        }
        let path = dir.join(format!("file{round}"));
        let file = File::create_new(&path)?;
        file.write_all_at(&bytes, 0)?;
        if round % 7 == 0 {
            file.sync_all()?;
        }
        if round % 11 == 0 {
            fs::rename(&path, dir.join(format!("renamed{round}")))?;
        }
    }
    Ok(())
}

fn snapshot(bench: &Bench, rounds: &AtomicU64) -> anyhow::Result<()> {
    let before = rounds.load(Relaxed);
    while rounds.load(Relaxed) < before + 20 {
        std::thread::sleep(Duration::from_millis(10));
    }
    must("fsfreeze", &["-f", text(&bench.dir)])?;
    // From here on an error must not leave the workers where they cannot end.
    let result = (|| -> anyhow::Result<()> {
        let stopped = rounds.load(Relaxed);
        copy(bench)?;
        std::thread::sleep(Duration::from_millis(200));
        let later = rounds.load(Relaxed);
        // Each worker may have been about to count a round.
        anyhow::ensure!(
            later <= stopped + 2,
            "{} rounds of work on a frozen file system",
            later - stopped
        );
        Ok(())
    })();
    must("fsfreeze", &["-u", text(&bench.dir)])?;
    result?;
    let before = rounds.load(Relaxed);
    let copied = bench.for_disk(&bench.spare);
    let dumped = must("dumpe2fs", &["-h", text(&bench.spare)])?;
    anyhow::ensure!(
        !dumped.contains("needs_recovery"),
        "a frozen disk needs its journal to be replayed:\n{dumped}"
    );
    let output = crate::command::run("e2fsck", &["-fn", copied.device()])?;
    anyhow::ensure!(
        output.status == 0,
        "e2fsck -fn of the copy:\n{}",
        output.text
    );
    look_at_copy(&copied)?;
    while rounds.load(Relaxed) == before {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Copies the disk, past the page cache, to the spare one.
fn copy(bench: &Bench) -> anyhow::Result<()> {
    let (from, to) = (
        format!("if={}", bench.device()),
        format!("of={}", text(&bench.spare)),
    );
    let arguments = [
        &from,
        &to,
        "bs=4M",
        "count=64",
        "iflag=direct",
        "oflag=direct",
    ];
    must("dd", &arguments).map(drop)
}

/// The kernel's ext4 mounts the copy and reads each file whole.
fn look_at_copy(copied: &Bench) -> anyhow::Result<()> {
    let dir = std::path::PathBuf::from("/tmp/ferrofs-test-copy");
    fs::create_dir_all(&dir)?;
    crate::bench::mount_device(&copied.disk, &dir, REFERENCE, "ro,norecovery")
        .context("mounting the copy")?;
    let result = (0..2).try_for_each(|worker| {
        let Ok(entries) = fs::read_dir(dir.join(format!("worker{worker}"))) else {
            return Ok(());
        };
        for entry in entries {
            let bytes = fs::read(entry?.path())?;
            anyhow::ensure!(
                bytes.iter().all(|byte| u64::from(*byte) == worker + 1),
                "a file of the copy holds bytes that nobody wrote to it"
            );
        }
        Ok(())
    });
    must("umount", &[text(&dir)])?;
    result
}
