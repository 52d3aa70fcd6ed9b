// SPDX-License-Identifier: GPL-2.0

//! What writeback asks of the disk: which parts of a file, in how many requests, with which flags.

use crate::bench::text;
use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::command::must;
use crate::command::run;
use crate::disk_trace::data_writes;
use crate::disk_trace::total;
use crate::disk_trace::BIO;
use crate::disk_trace::ISSUED;
use crate::setting::Quiet;
use crate::tests::writeback::meminfo;
use crate::tests::writeback::task;
use crate::tests::writeback::Trace;
use crate::tests::writeback::TRACING;
use anyhow::Context;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// No folio is larger on the machines of the tests.
const LARGEST_FOLIO: u64 = 2 * MIB;

/// A part of a file is written when a part is asked for, in the way that was asked for, also while others write.
pub fn requests(bench: &Bench) -> anyhow::Result<()> {
    let _quiet = Quiet::set()?;
    bench.format(&["-b", "4096", "512M"])?;
    bench.mount()?;
    part_of_a_file(bench)?;
    busy_writer(bench)?;
    flags_of_requests(bench)?;
    hints(bench)
}

/// `sync_file_range()` writes its range and leaves the rest dirty.
fn part_of_a_file(bench: &Bench) -> anyhow::Result<()> {
    let path = bench.path("parts");
    fs::write(&path, vec![1; 32 * MIB as usize])?;
    let before = meminfo("Dirty")?;
    let trace = Trace::start(&["block/block_bio_queue"])?;
    // -a, -b and -w: wait before, write, wait after.
    must("xfs_io", &["-c", "sync_range -abw 8m 8m", text(&path)])?;
    let writes = data_writes(bench, &trace, BIO)?;
    let bytes = total(&writes);
    anyhow::ensure!(
        (8 * MIB..=8 * MIB + 2 * LARGEST_FOLIO).contains(&bytes),
        "{bytes} bytes were written when 8 MiB were asked for, and {before} KiB were dirty:\n{}",
        trace.read()?.join("\n")
    );
    let after = meminfo("Dirty")?;
    anyhow::ensure!(
        after + 1024 > before.saturating_sub((8 * MIB + 2 * LARGEST_FOLIO) / 1024),
        "Dirty went from {before} to {after} KiB when 8 MiB were written"
    );
    // The same again has nothing to do.
    trace.clear()?;
    must("xfs_io", &["-c", "sync_range -abw 8m 8m", text(&path)])?;
    let again = total(&data_writes(bench, &trace, BIO)?);
    anyhow::ensure!(again == 0, "{again} bytes were written again");
    File::open(&path)?.sync_all()?;
    let rest = total(&data_writes(bench, &trace, BIO)?);
    anyhow::ensure!(
        bytes + rest == 32 * MIB,
        "{bytes} and {rest} bytes were written of 32 MiB"
    );
    Ok(())
}

/// An `fsync` ends although somebody goes on writing to the file, and writes no byte of it twice.
fn busy_writer(bench: &Bench) -> anyhow::Result<()> {
    const SIZE: u64 = 8 * MIB;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(bench.path("busy"))?;
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let piece = vec![1; 65536];
    let last = SIZE - piece.len() as u64;
    file.write_all_at(&piece, last)?;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        // It has no end of its own: an fsync that waits for one is what the limit of the test is for.
        let writer = scope.spawn(|| -> std::io::Result<()> {
            while !stop.load(Relaxed) {
                let at = rounds.fetch_add(1, Relaxed) * piece.len() as u64 % SIZE;
                file.write_all_at(&piece, at)?;
            }
            Ok(())
        });
        let result = (|| -> anyhow::Result<()> {
            for _ in 0..3 {
                let before = rounds.load(Relaxed);
                while rounds.load(Relaxed) < before + 100 && !writer.is_finished() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let trace = Trace::start(&["block/block_bio_queue"])?;
                file.sync_all()?;
                let written = total(&data_writes(bench, &trace, BIO)?);
                eprintln!(
                    "an fsync of {SIZE} bytes that are written to has written {written} of them, within {} writes",
                    rounds.load(Relaxed) - before
                );
                anyhow::ensure!(
                    (1..=SIZE).contains(&written),
                    "fsync has written {written} bytes of a file of {SIZE} that somebody writes to"
                );
            }
            Ok(())
        })();
        stop.store(true, Relaxed);
        writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?
            .context("writing")?;
        result
    })?;
    Ok(())
}

/// What somebody waits for is marked as such, with the priority of who asked; what nobody waits for is not.
fn flags_of_requests(bench: &Bench) -> anyhow::Result<()> {
    // Nothing else is dirty.
    rustix::fs::sync();
    let path = bench.path("flags");
    fs::write(&path, vec![2; MIB as usize])?;
    let trace = Trace::start(&["block/block_bio_queue", "block/block_rq_issue"])?;
    must("xfs_io", &["-c", "sync_range -w 0 1m", text(&path)])?;
    let lazy = data_writes(bench, &trace, BIO)?;
    anyhow::ensure!(
        !lazy.is_empty() && lazy.iter().all(|write| !write.flags.contains('S')),
        "nobody waits, but the requests are synchronous: {lazy:?}"
    );
    File::open(&path)?.sync_all()?;
    trace.clear()?;
    // Not anew: that is written when the file is closed, by this task.
    let file = OpenOptions::new().write(true).open(&path)?;
    file.write_all_at(&vec![3; MIB as usize], 0)?;
    must(
        "ionice",
        &["-c", "2", "-n", "1", "xfs_io", "-c", "fsync", text(&path)],
    )?;
    let queued = data_writes(bench, &trace, BIO)?;
    anyhow::ensure!(
        !queued.is_empty() && queued.iter().all(|write| write.flags.contains('S')),
        "fsync waits for requests that are not synchronous: {queued:?}"
    );
    let issued = data_writes(bench, &trace, ISSUED)?;
    anyhow::ensure!(
        !issued.is_empty() && issued.iter().all(|write| write.line.contains(" be,0,1 ")),
        "the requests have not the priority of their task: {issued:?}"
    );
    Ok(())
}

/// Writes a file with a write hint (RWH_WRITE_LIFE_EXTREME is 5), once through the page cache and once past it, and
/// prints the number of the task that does.
const HINT: &str = "import fcntl, mmap, os, struct, sys\n\
    print(os.getpid())\n\
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC)\n\
    fcntl.fcntl(fd, 1036, struct.pack('Q', 5))\n\
    os.write(fd, bytes(65536))\nos.fsync(fd)\n\
    direct = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)\n\
    os.writev(direct, [mmap.mmap(-1, 65536)])\n";

/// The write hint of an inode is on its way to the disk.
fn hints(bench: &Bench) -> anyhow::Result<()> {
    // No tracepoint shows hints: this asks for one.
    let events = format!("{TRACING}/dynamic_events");
    let probe = "f:ferrofs_test/hint submit_bio_noacct hint=bio->bi_write_hint opf=bio->bi_opf";
    if let Err(error) = append(&events, probe) {
        // The debug kernel has no function probes.
        anyhow::ensure!(!is_stock()?, "probing submit_bio_noacct(): {error}");
        return Ok(());
    }
    let seen = (|| {
        let trace = Trace::start(&["ferrofs_test/hint"])?;
        let writer = must("python3", &["-c", HINT, text(&bench.path("hints"))])?;
        let writer: u32 = writer.trim().parse().context("the number of a task")?;
        anyhow::Ok((writer, trace.read()?))
    })();
    append(&events, "-:ferrofs_test/hint")?;
    let (writer, lines) = seen?;
    let count = lines
        .iter()
        .filter(|line| task(line) == Some(writer) && line.contains("hint=5"))
        .count();
    anyhow::ensure!(count >= 2, "{count} bios had the hint of their inode");
    Ok(())
}

fn append(path: &str, text: &str) -> std::io::Result<()> {
    use std::io::Write;

    OpenOptions::new()
        .append(true)
        .open(path)?
        .write_all(text.as_bytes())
}

/// Whether this is Debian's kernel and not the debug kernel.
pub fn is_stock() -> anyhow::Result<bool> {
    Ok(!run("uname", &["-r"])?.text.contains("debug"))
}

/// A file that was written in order goes out in no more requests than the kernel's ext4 makes.
pub fn request_sizes(bench: &Bench) -> anyhow::Result<()> {
    const SIZE: u64 = 16 * MIB;
    let _quiet = Quiet::set()?;
    let mut counts = Vec::new();
    for fstype in [bench.fstype.as_str(), REFERENCE] {
        // The kernel's ext4 would fill the inode tables meanwhile, which its tracepoints show as writes of data.
        bench.format(&["-b", "4096", "-E", "lazy_itable_init=0", "512M"])?;
        bench.mount_as(fstype, "")?;
        let path = bench.path("file");
        let file = File::create_new(&path)?;
        let piece = vec![1; 65536];
        for at in (0..SIZE).step_by(piece.len()) {
            file.write_all_at(&piece, at)?;
        }
        let trace = Trace::start(&["block/block_bio_queue", "block/block_rq_issue"])?;
        file.sync_all()?;
        let bios = data_writes(bench, &trace, BIO)?;
        let issued = data_writes(bench, &trace, ISSUED)?;
        drop((trace, file));
        eprintln!(
            "{fstype}: 16 MiB in {} bios and {} requests",
            bios.len(),
            issued.len()
        );
        anyhow::ensure!(
            total(&bios) == SIZE && total(&issued) == SIZE,
            "{fstype} wrote {} and {} bytes",
            total(&bios),
            total(&issued)
        );
        counts.push((bios.len(), issued.len()));
        bench.umount()?;
    }
    let ((bios, issued), (their_bios, their_issued)) = (counts[0], counts[1]);
    anyhow::ensure!(
        bios <= their_bios + 2 && issued <= their_issued + 2,
        "{bios} bios and {issued} requests, and {their_bios} and {their_issued} of ext4"
    );
    Ok(())
}
