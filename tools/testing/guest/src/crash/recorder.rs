// SPDX-License-Identifier: GPL-2.0

//! Records a run: all writes to a disk by `dm-log-writes`, and with them what the run promised at which moment.

use super::log::Action;
use super::log::Log;
use crate::bench::format_device;
use crate::bench::mount_device;
use crate::bench::text;
use crate::bench::Bench;
use crate::busy::Notes;
use crate::command;
use crate::command::must;
use anyhow::Context;
use rustix::mount::unmount;
use rustix::mount::UnmountFlags;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::Mutex;

/// The name of the mapped device.
const DEVICE: &str = "ferrofs-crash";
/// The mark behind the making of the file system.
const MADE: &str = "made";

/// What a run has noted, in the order of the notes: which thread, and what.
type Lines = Arc<Mutex<Vec<(u64, String)>>>;

/// The notes of one thread.
pub struct ThreadNotes {
    thread: u64,
    lines: Lines,
}

impl Notes for ThreadNotes {
    fn note(&mut self, line: &str) -> anyhow::Result<()> {
        self.lines
            .lock()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?
            .push((self.thread, line.into()));
        Ok(())
    }
}

/// The notes of a thread that puts a mark into the log right behind each acknowledgement.
pub struct MarkedNotes<'a> {
    run: &'a Run,
    notes: ThreadNotes,
}

impl Notes for MarkedNotes<'_> {
    fn note(&mut self, line: &str) -> anyhow::Result<()> {
        self.notes.note(line)?;
        if line.starts_with('A') {
            self.run.mark()?;
        }
        Ok(())
    }
}

/// A mark in the log: how many notes there were before it was sent, and after it was in the log.
#[derive(Clone, Copy, Debug)]
struct Mark {
    before: usize,
    after: usize,
}

/// A run while it is recorded.
pub struct Run {
    lines: Lines,
    marks: Mutex<Vec<Mark>>,
    /// Where the disk is mounted.
    pub dir: PathBuf,
}

impl Run {
    /// The notes of the thread with this number.
    pub fn notes(&self, thread: u64) -> ThreadNotes {
        ThreadNotes {
            thread,
            lines: self.lines.clone(),
        }
    }

    /// The same, with a mark for each acknowledgement.
    pub fn marked_notes(&self, thread: u64) -> MarkedNotes<'_> {
        MarkedNotes {
            run: self,
            notes: self.notes(thread),
        }
    }

    fn count(&self) -> usize {
        self.lines.lock().map_or(0, |lines| lines.len())
    }

    /// Puts a mark into the log: what was noted so far was promised before it, and what was done before it was noted.
    pub fn mark(&self) -> anyhow::Result<()> {
        let mut marks = self
            .marks
            .lock()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        let before = self.count();
        must(
            "dmsetup",
            &["message", DEVICE, "0", "mark", &marks.len().to_string()],
        )?;
        marks.push(Mark {
            before,
            after: self.count(),
        });
        Ok(())
    }
}

/// A recorded run.
pub struct Recording {
    /// All writes.
    pub log: Log,
    /// The index of the first entry behind the making of the file system.
    pub start: usize,
    lines: Vec<(u64, String)>,
    marks: Vec<Mark>,
}

/// What was known when an entry was logged.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// So many of the notes were taken before, at least.
    certain: usize,
    /// So many at most.
    possible: usize,
    /// Whether a mark of the run stands before it.
    marked: bool,
}

impl Recording {
    /// What was known when the entry `index` had not been logged yet, and all before it had.
    pub fn moment(&self, index: usize) -> Moment {
        let number = |entry: &super::log::Entry| match &entry.action {
            Action::Mark(text) => text.parse::<usize>().ok(),
            _ => None,
        };
        let entries = &self.log.entries;
        let mark_of = |number: usize| self.marks.get(number);
        let last = entries[..index].iter().rev().find_map(number);
        let next = entries[index..].iter().find_map(number);
        Moment {
            marked: last.is_some(),
            certain: last.and_then(mark_of).map_or(0, |mark| mark.before),
            possible: next
                .and_then(mark_of)
                .map_or(self.lines.len(), |mark| mark.after),
        }
    }

    /// Whether the entry `index` came after the first mark of the run.
    pub fn is_after_first_mark(&self, index: usize) -> bool {
        self.moment(index).marked
    }

    /// The journals of `threads` threads as they stood at this moment: with all that may have been begun, and what was
    /// certainly acknowledged.
    pub fn journals(&self, moment: Moment, threads: u64) -> Vec<Vec<String>> {
        (0..threads)
            .map(|thread| {
                self.lines[..moment.possible]
                    .iter()
                    .enumerate()
                    .filter(|(index, (of, line))| {
                        *of == thread && (*index < moment.certain || !line.starts_with('A'))
                    })
                    .map(|(_, (_, line))| line.clone())
                    .collect()
            })
            .collect()
    }
}

/// How a run is set up.
pub struct Setup<'a> {
    /// For `mkfs.ext4`; the last one is the size.
    pub format: &'a [&'a str],
    /// The size of the device in MiB, not less than that of the file system.
    pub mebibytes: u64,
    /// For the mount.
    pub options: &'a str,
    /// Whether marks are put into the log all the time, or by `work` itself.
    pub marks: bool,
}

/// Records what `work` does to a fresh file system on the test's disk; the log goes to the spare one.
pub fn record(
    bench: &Bench,
    setup: &Setup<'_>,
    work: &dyn Fn(&Run) -> anyhow::Result<()>,
) -> anyhow::Result<Recording> {
    // The debug kernel has it built in, and no folder of modules: the table's failure tells what is missing.
    let _ = command::run("modprobe", &["dm-log-writes"])?;
    // Two tables of one name would be in each other's way after a failed test.
    let _ = command::run("dmsetup", &["remove", DEVICE])?;
    let sectors = setup.mebibytes * 2048;
    let table = format!(
        "0 {sectors} log-writes {} {}",
        bench.device(),
        text(&bench.spare)
    );
    must(
        "dmsetup",
        &["create", DEVICE, "--noudevsync", "--table", &table],
    )
    .context("making a device that logs its writes")?;
    let run = Run {
        lines: Arc::default(),
        marks: Mutex::default(),
        dir: bench.dir.clone(),
    };
    // Nobody makes links for names in a guest; the kernel makes the nodes themselves.
    let node = must(
        "dmsetup",
        &["info", "-c", "--noheadings", "-o", "blkdevname", DEVICE],
    )?;
    let device = PathBuf::from("/dev").join(node.trim());
    let result = run_on(bench, setup, &device, &run, work);
    let status = must("dmsetup", &["status", DEVICE])?;
    // The last entries are logged when the device goes.
    must("dmsetup", &["remove", "--noudevsync", DEVICE])?;
    result?;
    anyhow::ensure!(
        !status.contains("disabled"),
        "the log is not complete: {}",
        status.trim()
    );
    let log = Log::open(&bench.spare)?;
    let start = log
        .entries
        .iter()
        .position(|entry| entry.action == Action::Mark(MADE.into()))
        .context("the log has no mark behind the making of the file system")?;
    let lines = std::mem::take(
        &mut *run
            .lines
            .lock()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?,
    );
    let marks = run
        .marks
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    Ok(Recording {
        log,
        start: start + 1,
        lines,
        marks,
    })
}

fn run_on(
    bench: &Bench,
    setup: &Setup<'_>,
    device: &Path,
    run: &Run,
    work: &dyn Fn(&Run) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    format_device(device, setup.format)?;
    must("dmsetup", &["message", DEVICE, "0", "mark", MADE])?;
    mount_device(device, &bench.dir, &bench.fstype, setup.options)
        .with_context(|| format!("mounting {}", device.display()))?;
    let done = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        let marker = scope.spawn(|| -> anyhow::Result<()> {
            while setup.marks && !done.load(Ordering::Relaxed) {
                run.mark()?;
            }
            Ok(())
        });
        let result = work(run);
        done.store(true, Ordering::Relaxed);
        let marked = marker
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        result.and(marked)
    });
    // What is written after this was not promised to anybody, but must not break promises either.
    let result = result.and_then(|()| run.mark());
    unmount(&bench.dir, UnmountFlags::empty()).context("unmounting")?;
    result
}
