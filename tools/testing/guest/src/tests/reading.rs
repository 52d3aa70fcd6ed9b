// SPDX-License-Identifier: GPL-2.0

//! What buffered reads ask of the disk: how much, in how large pieces, and what advice changes; and reads that must not
//! wait.

use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::disk_trace::folios;
use crate::disk_trace::has_large_folios;
use crate::disk_trace::reads;
use crate::disk_trace::total;
use crate::disk_trace::BIO;
use crate::disk_trace::FOLIO;
use crate::disk_trace::ISSUED;
use crate::disk_trace::PAGE;
use crate::mapped::Mapped;
use crate::setting::Setting;
use crate::tests::writeback::Trace;
use anyhow::Context;
use rustix::fs::fadvise;
use rustix::fs::Advice;
use rustix::io::preadv2;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;
use std::fs;
use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// Sets the size of the window for reading ahead.
fn set_window(bench: &Bench, kibibytes: u64) -> anyhow::Result<Setting> {
    let name = bench.device_name();
    let path = format!("/sys/block/{name}/queue/read_ahead_kb");
    Setting::set(path, &kibibytes.to_string())
}

/// What a file looks like, at a byte.
fn pattern(at: u64) -> u8 {
    (at / 4096 * 7 + at % 4096 + 1) as u8
}

/// Reads and compares.
fn read_at(file: &File, at: u64, length: u64) -> anyhow::Result<()> {
    let mut buffer = vec![0; length as usize];
    file.read_exact_at(&mut buffer, at)?;
    let right = (at..at + length)
        .zip(&buffer)
        .all(|(at, byte)| *byte == pattern(at));
    anyhow::ensure!(right, "bytes {at}..{} are wrong", at + length);
    Ok(())
}

/// What it takes to read a file.
#[derive(Debug)]
struct Cost {
    bios: usize,
    requests: usize,
    folios: usize,
}

/// A file that is read in order is read once, in pieces as large as the window, into folios of many pages: with no more of
/// all of these than it takes the kernel's ext4.
pub fn readahead(bench: &Bench) -> anyhow::Result<()> {
    for kibibytes in [128, 1024] {
        let mut costs = Vec::new();
        for fstype in [bench.fstype.as_str(), REFERENCE] {
            let cost = sequential(bench, fstype, kibibytes)
                .with_context(|| format!("{fstype}, with a window of {kibibytes} KiB"))?;
            eprintln!("{fstype}: 16 MiB with a window of {kibibytes} KiB: {cost:?}");
            costs.push(cost);
        }
        let (ours, theirs) = (&costs[0], &costs[1]);
        anyhow::ensure!(
            ours.bios <= theirs.bios + 2
                && ours.requests <= theirs.requests + 2
                && ours.folios <= theirs.folios + 2,
            "{ours:?}, and {theirs:?} of ext4"
        );
    }
    Ok(())
}

fn sequential(bench: &Bench, fstype: &str, kibibytes: u64) -> anyhow::Result<Cost> {
    const SIZE: u64 = 16 * MIB;
    bench.format(&["-b", "4096", "64M"])?;
    bench.mount_as(fstype, "")?;
    let path = bench.path("file");
    fs::write(&path, (0..SIZE).map(pattern).collect::<Vec<u8>>())?;
    bench.cycle_checked(fstype, "")?;
    let window = set_window(bench, kibibytes)?;
    let file = File::open(&path)?;
    let trace = Trace::start(&["block/block_bio_queue", "block/block_rq_issue", FOLIO])?;
    for at in (0..SIZE).step_by(32 * KIB as usize) {
        read_at(&file, at, 32 * KIB)?;
    }
    let bios = data_reads(bench, &trace, BIO)?;
    let issued = data_reads(bench, &trace, ISSUED)?;
    let folios = folios(&trace, &file.metadata()?)?;
    drop((trace, file, window));
    bench.umount()?;
    anyhow::ensure!(
        bios.0 == SIZE && issued.0 == SIZE,
        "{} bytes were read by bios and {} by requests, of {SIZE}",
        bios.0,
        issued.0
    );
    let cached: u64 = folios.iter().map(|folio| folio.end - folio.start).sum();
    anyhow::ensure!(cached == SIZE, "the folios have {cached} bytes");
    let cost = Cost {
        bios: bios.1,
        requests: issued.1,
        folios: folios.len(),
    };
    // The window starts small and grows.
    let windows = (SIZE / KIB / kibibytes) as usize + 8;
    anyhow::ensure!(
        cost.bios <= 2 * windows,
        "{cost:?}, which is more than for {windows} windows"
    );
    anyhow::ensure!(
        cost.folios as u64 <= SIZE / PAGE / 4 || !has_large_folios(),
        "{} folios, which have less than 4 pages each",
        cost.folios
    );
    Ok(cost)
}

/// The bytes that are read from the disk, but for metadata, and the number of pieces.
fn data_reads(bench: &Bench, trace: &Trace, event: &str) -> anyhow::Result<(u64, usize)> {
    let mut found = reads(bench, trace, event)?;
    found.retain(|read| !read.flags.contains('M'));
    Ok((total(&found), found.len()))
}

/// What `posix_fadvise` changes, counted in bytes that are read from the disk.
pub fn advice(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "64M"])?;
    bench.mount()?;
    let path = bench.path("file");
    fs::write(&path, (0..ADVISED).map(pattern).collect::<Vec<u8>>())?;
    let window = set_window(bench, 128)?;
    let trace = Trace::start(&["block/block_bio_queue"])?;
    for part in [random, in_order, wanted] {
        // Nothing of the file is in memory.
        bench.cycle()?;
        part(bench, &trace, &File::open(&path)?)?;
    }
    drop((trace, window));
    Ok(())
}

/// The size of the file that is read with advice.
const ADVISED: u64 = 4 * MIB;

/// How many bytes some work reads from the disk.
fn read_by(
    bench: &Bench,
    trace: &Trace,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    trace.clear()?;
    work()?;
    Ok(data_reads(bench, trace, BIO)?.0)
}

/// With RANDOM, what is asked for is read and no more.
fn random(bench: &Bench, trace: &Trace, file: &File) -> anyhow::Result<()> {
    let first = read_by(bench, trace, || read_at(file, 0, PAGE))?;
    anyhow::ensure!(
        (4 * PAGE..=128 * KIB).contains(&first),
        "the first page of a file is read with {first} bytes, without advice"
    );
    fadvise(file, 0, None, Advice::Random)?;
    for page in [100, 101, 102, 103, 50] {
        let read = read_by(bench, trace, || read_at(file, page * PAGE, PAGE))?;
        anyhow::ensure!(read == PAGE, "page {page} is read with {read} bytes");
    }
    Ok(())
}

/// With SEQUENTIAL, the pieces become twice as large.
fn in_order(bench: &Bench, trace: &Trace, file: &File) -> anyhow::Result<()> {
    for (advice, part, expected) in [
        (Advice::Normal, 0..ADVISED / 2, 128 * KIB),
        (Advice::Sequential, ADVISED / 2..ADVISED, 256 * KIB),
    ] {
        fadvise(file, 0, None, advice)?;
        trace.clear()?;
        for at in part.step_by(16 * PAGE as usize) {
            read_at(file, at, 16 * PAGE)?;
        }
        let bios = reads(bench, trace, BIO)?;
        let largest = bios.iter().map(|bio| bio.bytes).max();
        anyhow::ensure!(
            largest == Some(expected),
            "{advice:?}: the largest piece has {largest:?} bytes, not {expected}"
        );
    }
    Ok(())
}

/// WILLNEED reads without anybody waiting, DONTNEED forgets.
fn wanted(bench: &Bench, trace: &Trace, file: &File) -> anyhow::Result<()> {
    let half = NonZeroU64::new(ADVISED / 2);
    // The kernel takes so much of one such advice.
    let piece = 128 * KIB;
    let read = read_by(bench, trace, || {
        for at in (0..ADVISED).step_by(piece as usize) {
            fadvise(file, at, NonZeroU64::new(piece), Advice::WillNeed)?;
        }
        Ok(())
    })?;
    anyhow::ensure!(
        read == ADVISED,
        "WILLNEED of {ADVISED} bytes has read {read}"
    );
    let read = read_by(bench, trace, || read_at(file, 0, ADVISED))?;
    anyhow::ensure!(read == 0, "{read} bytes are read again after WILLNEED");
    fadvise(file, 0, half, Advice::DontNeed)?;
    // No more is read then than what is asked for.
    fadvise(file, 0, None, Advice::Random)?;
    let read = read_by(bench, trace, || read_at(file, ADVISED / 2, ADVISED / 2))?;
    anyhow::ensure!(
        read == 0,
        "{read} bytes are read again, which were not unwanted"
    );
    let read = read_by(bench, trace, || read_at(file, 0, ADVISED / 2))?;
    anyhow::ensure!(
        read == ADVISED / 2,
        "{read} bytes are read of {} that were unwanted",
        ADVISED / 2
    );
    Ok(())
}

/// Reads that must not wait, from a disk that does not answer: what is cached is served, anything else is `EAGAIN`.
pub fn reads_nowait(outer: &Bench) -> anyhow::Result<()> {
    const SIZE: u64 = 64 * PAGE;
    outer.format(&["-b", "4096", "64M"])?;
    let disk = Mapped::new(&outer.disk, 64 * MIB)?;
    let bench = &disk.bench(outer);
    bench.mount()?;
    let path = bench.path("file");
    fs::write(&path, (0..SIZE).map(pattern).collect::<Vec<u8>>())?;
    bench.cycle()?;
    let file = File::open(&path)?;
    // Eight pages, without those that follow.
    fadvise(&file, 0, None, Advice::Random)?;
    read_at(&file, 8 * PAGE, 8 * PAGE)?;
    disk.stop()?;
    let result = without_disk(&file, SIZE);
    disk.go_on()?;
    result?;
    // What the refused requests may have begun is no harm to anybody.
    read_at(&file, 0, SIZE)?;
    nowait(&file, 0, SIZE)
        .and_then(|count| match count {
            Some(count) if count == SIZE => Ok(()),
            count => anyhow::bail!("{count:?} bytes, of which all are cached"),
        })
        .context("a read without waiting when the disk is back")?;
    drop(file);
    bench.finish()
}

fn without_disk(file: &File, size: u64) -> anyhow::Result<()> {
    for (at, length, expected) in [
        (0, PAGE, None),
        (8 * PAGE, PAGE, Some(PAGE)),
        (8 * PAGE, 8 * PAGE, Some(8 * PAGE)),
        (9 * PAGE + 77, 1000, Some(1000)),
        // As far as it is there.
        (15 * PAGE + 5, 4 * PAGE, Some(PAGE - 5)),
        (16 * PAGE, PAGE, None),
        (40 * PAGE, PAGE, None),
        (7 * PAGE, 2 * PAGE, None),
        (size, PAGE, Some(0)),
    ] {
        let found = nowait(file, at, length)?;
        anyhow::ensure!(
            found == expected,
            "{length} bytes at {at}: {found:?} were read, not {expected:?}"
        );
    }
    Ok(())
}

/// Reads without waiting, and compares. [`None`] if it would have to wait.
fn nowait(file: &File, at: u64, length: u64) -> anyhow::Result<Option<u64>> {
    let mut buffer = vec![0; length as usize];
    let count = match preadv2(
        file,
        &mut [IoSliceMut::new(&mut buffer)],
        at,
        ReadWriteFlags::NOWAIT,
    ) {
        Ok(count) => count as u64,
        Err(Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(error).context("reading without waiting"),
    };
    let right = (at..at + count)
        .zip(&buffer)
        .all(|(at, byte)| *byte == pattern(at));
    anyhow::ensure!(right, "wrong bytes among {count} at {at}");
    Ok(Some(count))
}
