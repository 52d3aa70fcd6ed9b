// SPDX-License-Identifier: GPL-2.0

//! Direct I/O, and I/O that goes on without its caller.

use super::script;
use super::writeback::Trace;
use crate::bench::text;
use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::command;
use crate::disk_trace::traced_number;
use crate::manifest::Manifest;
use crate::setting::Quiet;
use anyhow::Context;
use std::fs;

/// Direct reads and writes: what is refused, what is found afterwards and by whom, and what reaches stable media.
pub fn direct(bench: &Bench) -> anyhow::Result<()> {
    let script = include_str!("../../scripts/direct.py");
    script::run_and_compare(bench, script, 96, || dsync(bench))
}

/// A direct overwrite with `O_DSYNC` is on stable media when it returns: its request has the flag for that, or the disk's
/// cache is flushed. Without `O_DSYNC` neither happens.
fn dsync(bench: &Bench) -> anyhow::Result<()> {
    let disk = traced_number(bench)?;
    let overwrite = |flags: &str| -> anyhow::Result<usize> {
        let program = format!(
            "import mmap, os, sys\n\
             fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DIRECT)\n\
             m = mmap.mmap(-1, 65536)\n\
             os.pwritev(fd, [m], 0)\n\
             os.fsync(fd)\n\
             fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT | {flags})\n\
             open('/sys/kernel/tracing/trace', 'w').close()\n\
             os.pwritev(fd, [m], 0)\n\
             lines = [line.split() for line in open('/sys/kernel/tracing/trace') if 'block_rq_issue' in line]\n\
             print(sum(1 for line in lines if line[5] == sys.argv[2] and 'F' in line[6]))"
        );
        let path = bench.path("dsync");
        let said = command::must("python3", &["-c", &program, text(&path), &disk])?;
        said.trim().parse().context("the number of flushes")
    };
    if bench.device_name().starts_with("ubd") {
        // The debug kernel's disk has no cache and asks for none to be flushed.
        return Ok(());
    }
    // No commit but those that are asked for.
    bench.remount("commit=300").context("remounting")?;
    let _trace = Trace::start(&["block/block_rq_issue"])?;
    let durable = overwrite("os.O_DSYNC")?;
    anyhow::ensure!(durable > 0, "O_DSYNC flushed nothing");
    let plain = overwrite("0")?;
    anyhow::ensure!(plain == 0, "a plain direct write flushed {plain} times");
    Ok(())
}

/// What fio does: all engines, buffered and direct, at the same time on one file system. Each job reads back what it has
/// written and compares checksums.
const JOBS: &str = "
[global]
size=2m
rw=randwrite
verify=crc32c
verify_fatal=1
verify_backlog=64
do_verify=1
iodepth=8
randseed=1
bssplit=4k/50:16k/30:64k/20
fallocate=none
[libaio-direct]
ioengine=libaio
direct=1
[libaio-direct-sectors]
ioengine=libaio
direct=1
bssplit=512/40:1536/40:4k/20
size=1m
[libaio-buffered]
ioengine=libaio
bssplit=768/30:4608/30:33k/40
[uring-direct]
ioengine=io_uring
direct=1
fixedbufs=1
[uring-buffered]
ioengine=io_uring
bssplit=1008/30:4032/30:32256/40
[uring-dsync]
ioengine=io_uring
direct=1
sync=dsync
size=1m
[mmap]
ioengine=mmap
[sync-buffered]
ioengine=psync
fsync=50
bssplit=200/10:600/30:4000/30:100000/30
[sync-direct]
ioengine=psync
direct=1
[overwrite-async]
ioengine=libaio
direct=1
loops=2
size=1m
";

/// libaio, io_uring, mmap and plain calls, buffered and direct, each with a file of its own, then all with one file.
pub fn asynchronous(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_wide_trees();
    for block_size in ["1024", "4096"] {
        bench.format(&["-b", block_size, "256M"])?;
        bench.mount()?;
        let jobs = "/tmp/fio-jobs";
        fs::write(jobs, JOBS)?;
        let directory = format!("--directory={}", text(&bench.dir));
        let said = command::must("fio", &[&directory, "--output-format=terse", jobs])?;
        let done = said.lines().filter(|line| line.starts_with("3;")).count();
        let wanted = JOBS.matches("ioengine=").count();
        anyhow::ensure!(done == wanted, "{done} of {wanted} jobs reported:\n{said}");
        let failed = said
            .lines()
            .filter(|line| line.starts_with("3;") && line.split(';').nth(4) != Some("0"))
            .count();
        anyhow::ensure!(failed == 0, "{failed} jobs failed:\n{said}");
        one_file(bench)?;
        let left = Manifest::read(&bench.dir)?;
        bench.cycle_checked(REFERENCE, "ro")?;
        left.expect(&Manifest::read(&bench.dir)?)?;
        bench.umount()?;
    }
    Ok(())
}

/// Jobs that share a file, each with a part of it that ends in the middle of a page.
fn one_file(bench: &Bench) -> anyhow::Result<()> {
    // Two jobs share a page. The kernel complains if that gets dirty while a direct write to it is under way. None is,
    // without the lock that keeps the other one out, as long as the file ends there on the disk: as long as no flusher
    // writes what the last job has put behind it.
    let _quiet = Quiet::set()?;
    let path = bench.path("shared");
    let filename = format!("--filename={}", text(&path));
    let mut arguments = vec![
        filename.as_str(),
        "--rw=randwrite",
        "--size=1001k",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--bs=3k",
        "--iodepth=8",
        "--fallocate=none",
        "--output-format=terse",
    ];
    for job in [
        ["--name=a", "--offset=0", "--ioengine=libaio", "--direct=1"],
        [
            "--name=b",
            "--offset=1001k",
            "--ioengine=io_uring",
            "--direct=0",
        ],
        [
            "--name=c",
            "--offset=2002k",
            "--ioengine=io_uring",
            "--direct=1",
        ],
        [
            "--name=d",
            "--offset=3003k",
            "--ioengine=psync",
            "--direct=0",
        ],
    ] {
        arguments.extend(job);
    }
    let said = command::must("fio", &arguments)?;
    let done = said.lines().filter(|line| line.starts_with("3;")).count();
    anyhow::ensure!(done == 4, "{done} of 4 jobs reported:\n{said}");
    Ok(())
}
