// SPDX-License-Identifier: GPL-2.0

//! The kernel's own view of a write: dirty pages as /proc/meminfo, /proc/vmstat and the disk's BDI count them, and the
//! tracepoints of writeback, block and jbd2.

use crate::bench::Bench;
use crate::disk_trace::device_number;
use crate::patience::wait_for;
use crate::setting::Quiet;
use crate::setting::Setting;
use anyhow::Context;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Where tracefs is.
pub const TRACING: &str = "/sys/kernel/tracing";

/// A value of /proc/meminfo, in KiB.
pub fn meminfo(name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("there is no {name} in /proc/meminfo"))
}

/// What the kernel counts as dirty or as being written, in KiB.
#[derive(Debug)]
struct Unsaved {
    /// Of the whole machine, in /proc/meminfo.
    machine: u64,
    /// The same in /proc/vmstat.
    pages: u64,
    /// Of the disk.
    disk: u64,
}

impl Unsaved {
    fn now(bench: &Bench) -> anyhow::Result<Unsaved> {
        const PAGE: u64 = 4;
        let vmstat = fs::read_to_string("/proc/vmstat").context("reading /proc/vmstat")?;
        let pages = |name| counter(&vmstat, name);
        let path = format!("/sys/kernel/debug/bdi/{}/stats", device_number(bench)?);
        let bdi = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let disk = |name| counter(&bdi, name);
        Ok(Unsaved {
            machine: meminfo("Dirty")? + meminfo("Writeback")?,
            pages: (pages("nr_dirty")? + pages("nr_writeback")?) * PAGE,
            disk: disk("BdiReclaimable:")? + disk("BdiWriteback:")?,
        })
    }

    /// All counts with their names.
    fn each(&self) -> [(&str, u64); 3] {
        [
            ("Dirty and Writeback", self.machine),
            ("nr_dirty and nr_writeback", self.pages),
            ("BdiReclaimable and BdiWriteback", self.disk),
        ]
    }
}

/// The number behind `name` in a text of such lines.
fn counter(text: &str, name: &str) -> anyhow::Result<u64> {
    text.lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .find(|(first, _)| *first == name)
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("there is no {name} in:\n{text}"))
}

/// Tracepoints that are on while this lives.
pub struct Trace {
    events: Vec<PathBuf>,
}

impl Trace {
    /// Switches these events on, each named as GROUP/EVENT, with an empty buffer.
    pub fn start(events: &[&str]) -> anyhow::Result<Trace> {
        fs::write(format!("{TRACING}/trace"), "").context("emptying the trace")?;
        let mut trace = Trace { events: Vec::new() };
        for event in events {
            let path = PathBuf::from(format!("{TRACING}/events/{event}/enable"));
            fs::write(&path, "1").with_context(|| format!("switching {event} on"))?;
            trace.events.push(path);
        }
        Ok(trace)
    }

    /// Forgets what was traced until now.
    pub fn clear(&self) -> anyhow::Result<()> {
        fs::write(format!("{TRACING}/trace"), "").context("emptying the trace")
    }

    /// What was traced until now.
    pub fn read(&self) -> anyhow::Result<Vec<String>> {
        let text = fs::read_to_string(format!("{TRACING}/trace")).context("reading the trace")?;
        Ok(text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(String::from)
            .collect())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        for path in &self.events {
            // A tracepoint that stays on disturbs nobody.
            let _ = fs::write(path, "0");
        }
    }
}

/// The task that a line of the trace is about, "  comm-123   [000] ..... 1.5: event: ...". Its name may be missing there,
/// its number never is.
pub fn task(line: &str) -> Option<u32> {
    let (task, _) = line.split_once(" [")?;
    task.trim().rsplit('-').next()?.parse().ok()
}

/// The events that tell of writeback.
pub const EVENTS: [&str; 7] = [
    "writeback/writeback_dirty_inode",
    "writeback/writeback_single_inode",
    "writeback/writeback_start",
    "writeback/writeback_written",
    "writeback/writeback_queue",
    "jbd2/jbd2_start_commit",
    "block/block_bio_queue",
];

/// The counts of dirty pages rise with a write and fall when the flusher has done its work; the tracepoints name the
/// inode, the device and the reason.
pub fn accounting(bench: &Bench) -> anyhow::Result<()> {
    let quiet = Quiet::set()?;
    bench.format(&[])?;
    bench.mount()?;
    rustix::fs::sync();
    let trace = Trace::start(&EVENTS)?;
    let before = Unsaved::now(bench)?;
    let mut file = File::create(bench.path("file"))?;
    let size = 64 << 20;
    file.write_all(&vec![7; size]).context("writing")?;
    let risen = Unsaved::now(bench)?;
    rustix::fs::sync();
    let fallen = Unsaved::now(bench)?;
    eprintln!("before: {before:?}, written: {risen:?}, after sync: {fallen:?}");
    let counts = before
        .each()
        .into_iter()
        .zip(risen.each())
        .zip(fallen.each());
    for (((name, before), (_, risen)), (_, fallen)) in counts {
        anyhow::ensure!(
            risen > before + 32 * 1024,
            "64 MiB were written, and {name} went from {before} to {risen} KiB"
        );
        anyhow::ensure!(
            fallen < before + 4 * 1024,
            "{name}: {fallen} KiB after sync, {before} before the write"
        );
    }
    let inode = file.metadata()?.ino();
    drop(file);

    // The periodic flusher does without being asked, once the data is old enough.
    drop(quiet);
    {
        let _age = Setting::vm("dirty_expire_centisecs", "100")?;
        let _interval = Setting::vm("dirty_writeback_centisecs", "50")?;
        let path = bench.path("late");
        fs::write(&path, vec![1; 1 << 20])?;
        let late = path.metadata()?.ino();
        wait_for("a write by the periodic flusher", || {
            Ok(path.metadata()?.blocks() != 0 && is_written(&trace, late)?)
        })?;
    }

    let lines = trace.read()?;
    let sector_lines = lines
        .iter()
        .filter(|line| line.contains("block_bio_queue") && line.contains(" W"))
        .count();
    anyhow::ensure!(sector_lines > 0, "no write bio was traced");
    for (event, also) in [
        ("writeback_dirty_inode:", format!("ino={inode} ")),
        ("writeback_single_inode:", format!("ino={inode} ")),
        ("writeback_start:", "reason=sync".to_string()),
        ("writeback_start:", "reason=periodic".to_string()),
    ] {
        anyhow::ensure!(
            lines
                .iter()
                .any(|line| line.contains(event) && line.contains(&also)),
            "no {event} with {also:?} was traced, among {} lines",
            lines.len()
        );
    }
    let commits = lines
        .iter()
        .filter(|line| line.contains("jbd2_start_commit"))
        .count();
    anyhow::ensure!(commits > 0, "no commit of the journal was traced");
    // 64 MiB in large bios: the block layer must not be asked for every page.
    anyhow::ensure!(
        sector_lines < 4000,
        "64 MiB went out in {sector_lines} bios"
    );
    eprintln!("{sector_lines} write bios, {commits} commits");
    Ok(())
}

fn is_written(trace: &Trace, inode: u64) -> anyhow::Result<bool> {
    let wanted = format!("ino={inode} ");
    Ok(trace
        .read()?
        .iter()
        .any(|line| line.contains("writeback_single_inode:") && line.contains(&wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_known_by_their_numbers() {
        let line = "    kworker/u4:2-31      [000] .....   4.711: writeback_start: bdi 259:0: x";
        assert_eq!(task(line), Some(31));
        let nameless =
            "           <...>-1042    [001] ...1.   4.711: writeback_start: bdi 259:0: x";
        assert_eq!(task(nameless), Some(1042));
        assert_eq!(task("# tracer: nop"), None);
    }
}
