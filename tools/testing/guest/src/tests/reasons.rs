// SPDX-License-Identifier: GPL-2.0

//! Who has data written: the reasons of writeback, the throttling of writers, the memory cgroup that pays.

use crate::bench::text;
use crate::bench::Bench;
use crate::disk_trace::device_number;
use crate::mapped::Mapped;
use crate::patience::wait_for;
use crate::setting::DirtyBytes;
use crate::setting::Quiet;
use crate::setting::Setting;
use crate::tests::writeback::task;
use crate::tests::writeback::Trace;
use anyhow::Context;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

const MIB: u64 = 1 << 20;

const EVENTS: [&str; 3] = [
    "writeback/writeback_start",
    "writeback/writeback_single_inode",
    "writeback/balance_dirty_pages",
];

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = line.split_once(&format!(" {name}="))?.1;
    rest.split(' ').next()
}

/// Why flushers wrote inode `ino` of device `bdi` at first: what the work was for in which pages of it were written. What
/// such a work leaves over, the next one takes, whatever that one is for.
fn first_reason(lines: &[String], bdi: &str, ino: u64) -> Option<String> {
    let mut work: HashMap<u32, &str> = HashMap::new();
    let ours = format!("bdi {bdi}: ");
    let ino = ino.to_string();
    for line in lines.iter().filter(|line| line.contains(&ours)) {
        let task = task(line)?;
        if line.contains(" writeback_start: ") {
            work.insert(task, field(line, "reason").unwrap_or("?"));
        } else if line.contains(" writeback_single_inode: ")
            && field(line, "ino") == Some(&ino)
            && field(line, "wrote").is_some_and(|wrote| wrote != "0")
        {
            if let Some(reason) = work.get(&task) {
                return Some(reason.to_string());
            }
        }
    }
    None
}

/// Waits for flushers to write inode `ino`, and fails if it was not for this reason.
fn expect_reason(trace: &Trace, bdi: &str, ino: u64, reason: &str) -> anyhow::Result<()> {
    wait_for(&format!("writeback for the reason {reason}"), || {
        let first = first_reason(&trace.read()?, bdi, ino);
        anyhow::ensure!(
            first.as_deref().is_none_or(|first| first == reason),
            "{reason} was to be the reason, and it was {first:?}"
        );
        Ok(first.is_some())
    })
}

/// What the kernel did to make this task wait because of the dirty pages of device `bdi`.
#[derive(Debug, Default)]
struct Pauses {
    /// How often it was made to sleep.
    count: usize,
    /// How often because there must not be one dirty page more, so that it sleeps until there are less.
    at_limit: usize,
}

impl Pauses {
    fn read(trace: &Trace, bdi: &str) -> anyhow::Result<Pauses> {
        let ours = format!(" balance_dirty_pages: bdi {bdi}: ");
        let mut pauses = Pauses::default();
        for line in trace.read()? {
            // Tests run in the first task of their process, which has the number of the process.
            let slept = field(&line, "pause")
                .and_then(|pause| pause.parse::<i64>().ok())
                .is_some_and(|pause| pause > 0);
            if slept && line.contains(&ours) && task(&line) == Some(std::process::id()) {
                pauses.count += 1;
                pauses.at_limit += usize::from(field(&line, "task_ratelimit") == Some("0"));
            }
        }
        Ok(pauses)
    }
}

/// Each of the four ways to the disk is taken when it should be, and the tracepoints tell which it was. All ways but one
/// are closed while a file is dirtied and waits to be written, so that it does not matter when flushers look around.
pub fn four_ways(bench: &Bench) -> anyhow::Result<()> {
    let quiet = Quiet::set()?;
    bench.format(&["-b", "4096", "1G"])?;
    bench.mount()?;
    rustix::fs::sync();
    let bdi = device_number(bench)?;
    let written = |name: &str, mebibytes: u64| -> anyhow::Result<u64> {
        let path = bench.path(name);
        fs::write(&path, vec![1; (mebibytes * MIB) as usize])?;
        Ok(path.metadata()?.ino())
    };
    let trace = Trace::start(&EVENTS)?;

    let ino = written("sync", 8)?;
    rustix::fs::sync();
    expect_reason(&trace, &bdi, ino, "sync").context("sync")?;

    trace.clear()?;
    {
        let _limits = DirtyBytes::set(4 * MIB, 512 * MIB)?;
        let ino = written("background", 24)?;
        expect_reason(&trace, &bdi, ino, "background").context("many dirty pages")?;
        let pauses = Pauses::read(&trace, &bdi)?;
        anyhow::ensure!(
            pauses.count == 0,
            "a writer far below the limit was made to sleep: {pauses:?}"
        );
    }
    rustix::fs::sync();

    trace.clear()?;
    {
        let _age = Setting::vm("dirty_expire_centisecs", "100")?;
        let ino = written("periodic", 8)?;
        expect_reason(&trace, &bdi, ino, "periodic").context("old dirty pages")?;
    }
    rustix::fs::sync();

    let group = Group::new()?;
    reclaim(bench, &trace, &bdi, &group)?;

    // A group with less memory than it writes gets along, under the limits of dirty memory that the kernel has by itself:
    // those of a group are the same parts of its memory.
    drop(quiet);
    fs::write(group.path("memory.max"), (64 * MIB).to_string())?;
    group.write(&bench.path("more"), 96)
}

/// Who needs memory of which all is dirty wakes the flushers, and gets it when they have done their work.
fn reclaim(bench: &Bench, trace: &Trace, bdi: &str, group: &Group) -> anyhow::Result<()> {
    trace.clear()?;
    let path = bench.path("reclaim");
    group.write(&path, 24)?;
    let ino = path.metadata()?.ino();
    wait_for("reclaim of dirty memory", || group.reclaim(16 * MIB))?;
    expect_reason(trace, bdi, ino, "vmscan").context("reclaim")
}

/// What a writer of [`throttling`] writes.
const WRITTEN: u64 = 48 * MIB;

/// Writers sleep when there is too much dirty memory, of all or of one device.
pub fn throttling(outer: &Bench) -> anyhow::Result<()> {
    let _quiet = Quiet::set()?;
    outer.format(&["-b", "4096", "512M"])?;
    let disk = Mapped::new(&outer.disk, 512 * MIB)?;
    let bench = &disk.bench(outer);
    // A commit would wait for a disk that is stopped, and writers for the commit.
    bench.mount_with("commit=300")?;
    let bdi = device_number(bench)?;
    // The file is in memory and its blocks have their places: neither who writes it anew nor a flusher needs anything
    // from the disk but to take what is written.
    let file = File::create_new(bench.path("file"))?;
    file.write_all_at(&vec![1; WRITTEN as usize], 0)?;
    let throttled =
        |what: &str| is_throttled(&disk, &file, &bdi, what).with_context(|| what.to_string());

    anyhow::ensure!(
        !throttled("no limits")?,
        "a writer far below all limits was made to sleep"
    );
    {
        let _limits = DirtyBytes::set(4 * MIB, 8 * MIB)?;
        anyhow::ensure!(
            throttled("a limit of all")?,
            "a writer above the limit was not made to sleep"
        );
    }
    // The limits of one device, which bite before the limit of all only when they are strict: 1 % of that limit, which
    // is 20 MiB, and 8 MiB.
    let knobs = PathBuf::from(format!("/sys/class/bdi/{bdi}"));
    for (knob, value) in [("max_ratio", "1"), ("max_bytes", "8388608")] {
        // Both are the same number to the kernel.
        let _ratio = Setting::set(knobs.join("max_ratio"), "100")?;
        fs::write(knobs.join(knob), value).with_context(|| format!("setting {knob}"))?;
        anyhow::ensure!(!throttled(knob)?, "{knob} bites without strict_limit");
        let _strict = Setting::set(knobs.join("strict_limit"), "1")?;
        anyhow::ensure!(throttled(knob)?, "{knob} with strict_limit does not bite");
    }
    anyhow::ensure!(
        !throttled("no limits any more")?,
        "a writer was made to sleep by limits that are gone"
    );
    drop(file);
    bench.finish()
}

/// Whether somebody who writes `file` anew while the disk does nothing has to wait for it. Who has to, and the kernel's
/// tracepoint says that, cannot end before the disk goes on.
fn is_throttled(disk: &Mapped, file: &File, bdi: &str, what: &str) -> anyhow::Result<bool> {
    rustix::fs::sync();
    let trace = Trace::start(&["writeback/balance_dirty_pages"])?;
    let ended = AtomicBool::new(false);
    disk.stop()?;
    let (watched, written) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let stopped_writer = wait_for("a writer's end or sleep", || {
                Ok(ended.load(SeqCst) || Pauses::read(&trace, bdi)?.at_limit > 0)
            });
            let throttled = !ended.load(SeqCst);
            disk.go_on()?;
            stopped_writer.map(|()| throttled)
        });
        let written = (0..WRITTEN / MIB).try_for_each(|at| {
            let piece = vec![2; MIB as usize];
            file.write_all_at(&piece, at * MIB)
        });
        ended.store(true, SeqCst);
        (watcher.join(), written)
    });
    let throttled = watched.map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
    written?;
    let pauses = Pauses::read(&trace, bdi)?;
    eprintln!("{what}: throttled: {throttled}, {pauses:?}");
    anyhow::ensure!(
        throttled == (pauses.count > 0),
        "the writer had to wait for the disk: {throttled}, and the kernel had it sleep: {pauses:?}"
    );
    Ok(throttled)
}

/// A cgroup (version 2) with the memory and I/O controllers, removed when this is dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> anyhow::Result<Group> {
        let root = Path::new("/sys/fs/cgroup");
        fs::write(root.join("cgroup.subtree_control"), "+memory +io")
            .context("switching the controllers on")?;
        let group = Group(root.join("ferrofs-test"));
        fs::create_dir_all(&group.0).context("making a cgroup")?;
        Ok(group)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Has a task of the group write a file from its beginning.
    fn write(&self, path: &Path, mebibytes: u64) -> anyhow::Result<()> {
        let script =
            "echo $$ >\"$1\" && exec dd if=/dev/zero of=\"$2\" bs=1M count=\"$3\" conv=notrunc status=none";
        let status = Command::new("bash")
            .args([
                "-c",
                script,
                "bash",
                text(&self.path("cgroup.procs")),
                text(path),
            ])
            .arg(mebibytes.to_string())
            .status()
            .context("writing in a cgroup")?;
        anyhow::ensure!(status.success(), "dd: {status}");
        Ok(())
    }

    /// Has the kernel take `bytes` of memory from the group. Whether it found so much.
    fn reclaim(&self, bytes: u64) -> anyhow::Result<bool> {
        match fs::write(self.path("memory.reclaim"), bytes.to_string()) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => Ok(false),
            Err(error) => Err(error).context("reclaiming the memory of a cgroup"),
        }
    }

    /// A value of memory.stat, in bytes.
    fn memory(&self, name: &str) -> anyhow::Result<u64> {
        fs::read_to_string(self.path("memory.stat"))?
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
            .with_context(|| format!("memory.stat has no {name}"))
    }

    /// The bytes that the group has written to device `number`, by io.stat.
    fn written(&self, number: &str) -> anyhow::Result<u64> {
        let text = fs::read_to_string(self.path("io.stat"))?;
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(number));
        Ok(line
            .and_then(|line| field(line, "wbytes")?.parse().ok())
            .unwrap_or(0))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// What a group dirties is counted as its own, and so are the writes to the disk that the flushers make for it.
pub fn cgroups(outer: &Bench) -> anyhow::Result<()> {
    const SIZE: u64 = 48;
    let _quiet = Quiet::set()?;
    outer.format(&["-b", "4096", "512M"])?;
    let disk = Mapped::new(&outer.disk, 512 * MIB)?;
    let bench = &disk.bench(outer);
    bench.mount()?;
    rustix::fs::sync();
    let group = Group::new()?;
    let number = device_number(bench)?;
    // The blocks have their places, so that writeback needs nothing from the disk but to be written. The pages and the
    // inode must be the group's, and so come into memory again.
    let path = bench.path("file");
    fs::write(&path, vec![1; (SIZE * MIB) as usize])?;
    bench.cycle()?;
    group.write(&path, SIZE)?;
    let dirty = group.memory("file_dirty")?;
    anyhow::ensure!(
        dirty > SIZE * MIB / 2,
        "a group has written {SIZE} MiB, and {dirty} bytes are dirty on its account"
    );
    let before = group.written(&number)?;
    // The disk takes its time, so that the state in between can be seen.
    disk.stop()?;
    let syncing = std::thread::spawn(rustix::fs::sync);
    let seen = wait_for("writeback on the group's account", || {
        Ok(group.memory("file_writeback")? > MIB)
    });
    disk.go_on()?;
    syncing
        .join()
        .map_err(|_| anyhow::anyhow!("sync panicked"))?;
    seen?;
    wait_for("the end of writeback on the group's account", || {
        Ok(group.memory("file_writeback")? == 0 && group.memory("file_dirty")? < MIB)
    })?;
    let written = group.written(&number)? - before;
    anyhow::ensure!(
        (SIZE * MIB..SIZE * MIB * 5 / 4).contains(&written),
        "the flushers have written {SIZE} MiB of a group, and io.stat says {written} bytes"
    );
    bench.finish()
}
