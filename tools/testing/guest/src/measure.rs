// SPDX-License-Identifier: GPL-2.0

//! What operations cost the processor, as a ratio to the kernel's ext4 on the same disk in the same boot.
//!
//! The two take turns, each on a new file system, and the median of the rounds counts. What is measured is the processor
//! time of the process that asks, kernel and user side; work that threads of the kernel do for it is not in it. In a guest
//! with the instruction clock a nanosecond is an instruction, and two runs agree within a per cent.
//!
//! Or it is the time that passes, with what the disk and other threads take: a ratio that tells what a user waits for, as
//! far as an emulated machine on a busy host can.

use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::module;
use anyhow::Context;
use clap::Args;
use rustix::time::clock_gettime;
use rustix::time::ClockId;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The size of the large file.
const LARGE_MIB: usize = 64;
/// Steps through the blocks of the large file in an order without runs: no power of two shares a factor with it.
const STRIDE: usize = 7919;

/// The arguments of `measure`.
#[derive(Args, Debug)]
pub struct MeasureOptions {
    /// How often each file system takes its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How many files and directories are made
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    files: u32,

    /// Measure the time that passes, not that of the processor
    #[arg(long)]
    elapsed: bool,

    /// The disk; else NVME_DISK
    #[arg(long, env = "NVME_DISK")]
    disk: PathBuf,

    /// The module; else FERROFS_KO
    #[arg(long, env = "FERROFS_KO")]
    module: String,
}

/// What one operation cost on average, in nanoseconds.
struct Cost {
    operation: &'static str,
    nanoseconds: u64,
}

/// Measures in this guest and prints a table. Always true: a cost is not a failure.
pub fn measure(options: &MeasureOptions) -> anyhow::Result<bool> {
    module::load(&options.module)?;
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        for (fstype, costs) in [(REFERENCE, &mut reference), ("ferrofs", &mut ours)] {
            eprintln!("round {} of {}: {fstype}", round + 1, options.rounds);
            costs.push(turn(options, fstype)?);
        }
    }
    println!(
        "{:<28} {:>12} {:>12} {:>7}",
        "ns per operation", "ext4", "ferrofs", "ratio"
    );
    for (index, cost) in reference[0].iter().enumerate() {
        let (theirs, ours) = (median(&reference, index), median(&ours, index));
        println!(
            "{:<28} {theirs:>12} {ours:>12} {:>7.2}",
            cost.operation,
            ours as f64 / theirs.max(1) as f64
        );
    }
    Ok(true)
}

fn median(rounds: &[Vec<Cost>], index: usize) -> u64 {
    let mut costs: Vec<u64> = rounds
        .iter()
        .map(|round| round[index].nanoseconds)
        .collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

/// One file system's turn: all operations on a new disk, which is checked at the end.
fn turn(options: &MeasureOptions, fstype: &str) -> anyhow::Result<Vec<Cost>> {
    let bench = Bench::new(fstype, &options.disk, &options.disk, 1, 100)?;
    // Nothing is left for a thread to do later.
    bench.format(&["-E", "lazy_itable_init=0,lazy_journal_init=0"])?;
    bench.mount()?;
    // The random overwrites of the large file leave trees as they do.
    bench.expect_wide_trees();
    let mut turn = Turn {
        clock: if options.elapsed {
            ClockId::Monotonic
        } else {
            ClockId::ProcessCPUTime
        },
        costs: Vec::new(),
    };
    turn.names(&bench.path("names"), options.files)?;
    turn.contents(&bench)?;
    turn.log(&bench.path("log"))?;
    bench.finish()?;
    Ok(turn.costs)
}

struct Turn {
    clock: ClockId,
    costs: Vec<Cost>,
}

impl Turn {
    /// What the clock shows, in nanoseconds.
    fn now(&self) -> u64 {
        let time = clock_gettime(self.clock);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    /// Does `operation` for the numbers from 0 to `count`, and notes what one took.
    fn each<T>(
        &mut self,
        name: &'static str,
        count: u32,
        mut operation: impl FnMut(u32) -> io::Result<T>,
    ) -> anyhow::Result<()> {
        let start = self.now();
        for number in 0..count {
            operation(number).with_context(|| format!("{name}, number {number}"))?;
        }
        self.costs.push(Cost {
            operation: name,
            nanoseconds: (self.now() - start) / u64::from(count),
        });
        Ok(())
    }

    fn names(&mut self, dir: &Path, count: u32) -> anyhow::Result<()> {
        fs::create_dir(dir)?;
        let paths = |kind: &str| -> Vec<PathBuf> {
            let name = |number| dir.join(format!("{kind}-{number:06}"));
            (0..count).map(name).collect()
        };
        let (files, renamed, dirs) = (paths("file"), paths("name"), paths("dir"));
        let data = vec![7; 4 * KIB];
        let at = |list: &[PathBuf], number: u32| list[number as usize].clone();
        self.each("create a file", count, |number| {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o644);
            options.open(at(&files, number))
        })?;
        self.each("open it and write 4 KiB", count, |number| {
            let file = OpenOptions::new().write(true).open(at(&files, number))?;
            file.write_all_at(&data, 0)
        })?;
        self.each("stat", count, |number| fs::metadata(at(&files, number)))?;
        self.each("rename", count, |number| {
            fs::rename(at(&files, number), at(&renamed, number))
        })?;
        // The cost of a name, not of the call.
        let start = self.now();
        let seen = fs::read_dir(dir)?.count() as u64;
        anyhow::ensure!(seen == u64::from(count), "{seen} names of {count}");
        self.costs.push(Cost {
            operation: "readdir, a name",
            nanoseconds: (self.now() - start) / seen,
        });
        self.each("chmod", count, |number| {
            fs::set_permissions(at(&renamed, number), fs::Permissions::from_mode(0o600))
        })?;
        self.each("unlink", count, |number| {
            fs::remove_file(at(&renamed, number))
        })?;
        self.each("mkdir", count, |number| fs::create_dir(at(&dirs, number)))?;
        self.each("list an empty directory", count, |number| {
            let seen = fs::read_dir(at(&dirs, number))?.count();
            if seen == 0 {
                Ok(())
            } else {
                Err(io::Error::other("it has names"))
            }
        })?;
        self.each("rmdir", count, |number| fs::remove_dir(at(&dirs, number)))
    }

    fn contents(&mut self, bench: &Bench) -> anyhow::Result<()> {
        let path = &bench.path("large");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        let mut data = vec![7; MIB];
        let offset = |number: u32| u64::from(number) * MIB as u64;
        let blocks = LARGE_MIB * MIB / (4 * KIB);
        let scattered = |number: u32| (number as usize * STRIDE % blocks * 4 * KIB) as u64;
        let count = LARGE_MIB as u32;
        self.each("write 1 MiB", count, |number| {
            file.write_all_at(&data, offset(number))
        })?;
        self.each("fsync 64 MiB", 1, |_| file.sync_all())?;
        self.each("overwrite 1 MiB", count, |number| {
            file.write_all_at(&data, offset(number))
        })?;
        file.sync_all()?;
        self.each("overwrite 4 KiB at random", 4096, |number| {
            file.write_all_at(&data[..4 * KIB], scattered(number))
        })?;
        self.each("fsync 4096 scattered blocks", 1, |_| file.sync_all())?;
        bench.drop_caches()?;
        self.each("read 1 MiB from the disk", count, |number| {
            file.read_exact_at(&mut data, offset(number))
        })?;
        self.each("read 1 MiB, cached", count, |number| {
            file.read_exact_at(&mut data, offset(number))
        })?;
        self.each("read 4 KiB at random, cached", 4096, |number| {
            file.read_exact_at(&mut data[..4 * KIB], scattered(number))
        })?;
        drop(file);
        self.each("unlink the large file", 1, |_| fs::remove_file(path))
    }

    fn log(&mut self, path: &Path) -> anyhow::Result<()> {
        let file = File::create(path)?;
        let data = [7; 100];
        let mut end = 0;
        self.each("append 100 bytes", 8192, |_| {
            file.write_all_at(&data, end)?;
            end += data.len() as u64;
            Ok(())
        })?;
        self.each("append 100 bytes, fsync", 200, |_| {
            file.write_all_at(&data, end)?;
            end += data.len() as u64;
            file.sync_all()
        })
    }
}
