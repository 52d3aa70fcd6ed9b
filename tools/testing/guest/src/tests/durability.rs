// SPDX-License-Identifier: GPL-2.0

//! The ways to stable media: each flushes the disk's cache when something must be flushed, and only then.

use crate::bench::text;
use crate::bench::Bench;
use crate::clock::next_tick;
use crate::command::must;
use crate::disk_trace::traced_number;
use crate::patience::wait_for;
use crate::tests::writeback::Trace;
use anyhow::Context;
use rustix::fs::OFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// `O_DSYNC`; what rustix gives that name is `O_SYNC`.
const DSYNC: OFlags = OFlags::from_bits_retain(0o10000);

/// How many flushes the disk has been asked for.
fn flushes(bench: &Bench) -> anyhow::Result<u64> {
    bench.disk_count(15)
}

/// What the disk must be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Nothing: all is on stable media, or nobody asked for that.
    Nothing,
    /// A flush for the data.
    Flush,
    /// A commit of the journal, which flushes the data as well.
    Commit,
    /// The same, and it may be that the commit is begun before the data has arrived, which takes one flush more.
    EarlyCommit,
    /// A write through the cache, where the disk can do that; else a flush.
    WriteThrough,
    /// Nothing, for only times are new. Without a journal nobody knows, and they are flushed as all else.
    TimesLeftOut,
    /// A commit, for times that the step before has left out. Without a journal it has not.
    TimesOnly,
}

/// The kind of disk and mount that flushes are counted on.
#[derive(Clone, Copy, Debug)]
struct Setup {
    /// The file system has a journal.
    journal: bool,
    /// Flushes are wanted.
    barrier: bool,
    /// The disk can write through its cache.
    fua: bool,
}

impl Expected {
    /// The number of flushes. The commit block of a journal goes behind one flush, and is followed by another if it
    /// cannot be written through. Without a journal one flush does for data and metadata.
    fn flushes(self, setup: Setup) -> u64 {
        if !setup.barrier {
            return 0;
        }
        let commit = match setup {
            Setup { journal: false, .. } | Setup { fua: true, .. } => 1,
            _ => 2,
        };
        match self {
            Expected::Nothing => 0,
            Expected::Flush => 1,
            Expected::Commit | Expected::EarlyCommit => commit,
            Expected::WriteThrough => u64::from(!setup.fua),
            Expected::TimesLeftOut => u64::from(!setup.journal),
            Expected::TimesOnly if setup.journal => commit,
            Expected::TimesOnly => 0,
        }
    }
}

type Step<'a> = (&'a str, Expected, Box<dyn Fn() -> anyhow::Result<()> + 'a>);

/// A step that runs a python program, with the file as its argument.
fn python<'a>(program: &'a str, path: &'a str) -> Box<dyn Fn() -> anyhow::Result<()> + 'a> {
    Box::new(move || must("python3", &["-c", program, path]).map(drop))
}

const RWF_DSYNC: &str = "import os, sys\n\
    fd = os.open(sys.argv[1], os.O_WRONLY)\n\
    os.pwritev(fd, [b'x' * 4096], 0, os.RWF_DSYNC)\n";

const MSYNC: &str = "import mmap, os, sys\n\
    fd = os.open(sys.argv[1], os.O_RDWR)\n\
    m = mmap.mmap(fd, 8192)\n\
    m[0:4] = b'data'\nm.flush()\n";

/// Counts the flushes of each way to stable media, with barriers and without, with a journal and without.
pub fn durability(bench: &Bench) -> anyhow::Result<()> {
    let path = format!("/sys/block/{}/queue/fua", bench.device_name());
    let fua = fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    // No commit but those that are asked for.
    for (journal, options, barrier) in [
        (true, "commit=300", true),
        (true, "commit=300,nobarrier", false),
        (true, "commit=300,barrier=0", false),
        (false, "", true),
        (false, "nobarrier", false),
    ] {
        let feature = if journal {
            "has_journal"
        } else {
            "^has_journal"
        };
        bench.format(&["-b", "4096", "-O", feature, "256M"])?;
        bench.mount_with(options)?;
        let setup = Setup {
            journal,
            barrier,
            fua,
        };
        count_all(bench, setup).with_context(|| format!("{feature}, {options:?}"))?;
        bench.umount()?;
    }
    intervals(bench)
}

/// Changes reach the disk by themselves after as many seconds as `commit=` says, and not before.
fn intervals(bench: &Bench) -> anyhow::Result<()> {
    if !bench.is_ferrofs() {
        // It fills the inode tables meanwhile, which takes commits as well.
        return Ok(());
    }
    bench.format(&["256M"])?;
    let [short, long] = [("commit=1", true), ("commit=300", false)]
        .map(|(options, soon)| interval(bench, options, soon).context(options));
    let (short, long) = (short?, long?);
    // The kernel rounds up to full seconds: about 2 to 300. With the default, 5 s, in place of either, the ratio is lower.
    anyhow::ensure!(
        short * 100 <= long,
        "the journal's timer was set to {short} ticks with commit=1, and to {long} with commit=300"
    );
    Ok(())
}

/// Mounts, makes a change, and sees it committed, or not, depending on `soon`. Returns what the timer of the journal was
/// set to, in ticks. When it really goes off depends on how busy the machine is.
fn interval(bench: &Bench, options: &str, soon: bool) -> anyhow::Result<i64> {
    bench.mount_with(options)?;
    rustix::fs::syncfs(File::open(&bench.dir)?)?;
    let trace = Trace::start(&["jbd2/jbd2_start_commit"])?;
    let ticks = {
        let timers = Trace::start(&["timer/timer_start"])?;
        fs::create_dir(bench.path(options))?;
        // "... timer_start: timer=0x1234 function=commit_timeout expires=4294901760 [timeout=256] bucket_expiry=..."
        let lines = timers.read()?;
        let set = lines
            .iter()
            .find(|line| line.contains("function=commit_timeout"))
            .context("the journal has not set its timer")?;
        set.split_once("[timeout=")
            .and_then(|(_, rest)| rest.split(']').next()?.parse().ok())
            .with_context(|| format!("no time in {set}"))?
    };
    let begin = format!("jbd2_start_commit: dev {} ", traced_number(bench)?);
    let is_committed = || anyhow::Ok(trace.read()?.iter().any(|line| line.contains(&begin)));
    if soon {
        wait_for("a commit", is_committed)?;
    } else {
        std::thread::sleep(Duration::from_secs(8));
        anyhow::ensure!(!is_committed()?, "there was a commit in 8 s");
    }
    bench.umount()?;
    Ok(ticks)
}

fn count_all(bench: &Bench, setup: Setup) -> anyhow::Result<()> {
    let path = bench.path("file");
    let name = text(&path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    let open = |flags: OFlags| {
        OpenOptions::new()
            .write(true)
            .custom_flags(flags.bits() as i32)
            .open(&path)
    };
    let buffer = vec![8; 8192];
    let aligned = &buffer[buffer.as_ptr().align_offset(4096)..][..4096];
    let overwrite = |byte: u8| {
        // With a new time to store, a commit is what it takes, always.
        next_tick();
        file.write_all_at(&[byte; 10_000], 0)
    };
    let steps: Vec<Step<'_>> = vec![
        (
            "fsync of a new file",
            Expected::Commit,
            Box::new(|| {
                overwrite(1)?;
                Ok(file.sync_all()?)
            }),
        ),
        (
            "fsync with nothing new",
            Expected::Nothing,
            Box::new(|| Ok(file.sync_all()?)),
        ),
        (
            "fdatasync of an overwrite",
            Expected::Flush,
            Box::new(|| {
                overwrite(2)?;
                Ok(file.sync_data()?)
            }),
        ),
        (
            "fsync after that, which has the times to store",
            Expected::TimesOnly,
            Box::new(|| Ok(file.sync_all()?)),
        ),
        (
            "fdatasync of an append",
            Expected::Commit,
            Box::new(|| {
                file.write_all_at(&[3; 10_000], 10_000)?;
                Ok(file.sync_data()?)
            }),
        ),
        (
            "fdatasync of a change of times",
            Expected::TimesLeftOut,
            Box::new(|| {
                let time = Timespec {
                    tv_sec: 1_000_000,
                    tv_nsec: 0,
                };
                let times = Timestamps {
                    last_access: time,
                    last_modification: time,
                };
                rustix::fs::futimens(&file, &times)?;
                Ok(file.sync_data()?)
            }),
        ),
        (
            "fsync of a change of times",
            Expected::TimesOnly,
            Box::new(|| Ok(file.sync_all()?)),
        ),
        (
            "O_DSYNC",
            Expected::Flush,
            Box::new(|| Ok(open(DSYNC)?.write_all_at(&[4; 4096], 0)?)),
        ),
        ("RWF_DSYNC", Expected::Flush, python(RWF_DSYNC, name)),
        (
            "O_SYNC",
            Expected::Commit,
            Box::new(|| Ok(open(OFlags::SYNC)?.write_all_at(&[5; 4096], 0)?)),
        ),
        ("msync", Expected::Flush, python(MSYNC, name)),
        (
            "sync_file_range",
            Expected::Nothing,
            Box::new(|| {
                overwrite(6)?;
                must("xfs_io", &["-c", "sync_range -abw 0 10000", name]).map(drop)
            }),
        ),
        (
            "fdatasync after that",
            Expected::Flush,
            Box::new(|| Ok(file.sync_data()?)),
        ),
        (
            "a direct write",
            Expected::Nothing,
            Box::new(|| Ok(open(OFlags::DIRECT)?.write_all_at(aligned, 0)?)),
        ),
        (
            "fdatasync after that",
            Expected::Flush,
            Box::new(|| Ok(file.sync_data()?)),
        ),
        (
            "a direct write with O_DSYNC",
            Expected::WriteThrough,
            Box::new(|| Ok(open(OFlags::DIRECT | DSYNC)?.write_all_at(aligned, 0)?)),
        ),
        (
            "syncfs",
            Expected::EarlyCommit,
            Box::new(|| {
                overwrite(7)?;
                Ok(rustix::fs::syncfs(&file)?)
            }),
        ),
        (
            "syncfs with nothing new",
            Expected::Nothing,
            Box::new(|| Ok(rustix::fs::syncfs(&file)?)),
        ),
        (
            "sync",
            Expected::EarlyCommit,
            Box::new(|| {
                overwrite(9)?;
                rustix::fs::sync();
                Ok(())
            }),
        ),
        (
            "a new name and fsync of its directory",
            Expected::Commit,
            Box::new(|| {
                fs::hard_link(&path, bench.path("link"))?;
                Ok(File::open(&bench.dir)?.sync_all()?)
            }),
        ),
    ];
    let trace = Trace::start(&["block/block_bio_queue", "jbd2/jbd2_start_commit"])?;
    for (what, expected, work) in &steps {
        trace.clear()?;
        let before = flushes(bench)?;
        work().with_context(|| what.to_string())?;
        let count = flushes(bench)? - before;
        let right = expected.flushes(setup);
        eprintln!("{what}: {count} flushes");
        // The kernel's ext4 flushes when it does not know better.
        let early = *expected == Expected::EarlyCommit && setup.journal && count == right + 1;
        let fine =
            count == right || (setup.barrier && (early || (!bench.is_ferrofs() && count > right)));
        anyhow::ensure!(
            fine,
            "{what} made {count} flushes instead of {right}:\n{}",
            trace.read()?.join("\n")
        );
    }
    drop((steps, trace));
    drop(file);
    forgotten(bench, setup.barrier)
}

/// A file whose data has left memory and not the disk's cache is flushed when somebody opens and syncs it again.
fn forgotten(bench: &Bench, barrier: bool) -> anyhow::Result<()> {
    let path = bench.path("file");
    fs::OpenOptions::new()
        .write(true)
        .open(&path)?
        .write_all_at(&[1; 4096], 0)?;
    must("xfs_io", &["-c", "sync_range -abw 0 4096", text(&path)])?;
    // Not by way of the bench, which syncs all first.
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
    let before = flushes(bench)?;
    File::open(&path)?.sync_data()?;
    let count = flushes(bench)? - before;
    anyhow::ensure!(
        (count >= 1) == barrier,
        "fdatasync of a file that was written and forgotten made {count} flushes"
    );
    Ok(())
}
