// SPDX-License-Identifier: GPL-2.0

//! Who has data written: the reasons of writeback, the throttling of writers, the memory cgroup that pays.

use crate::bench::text;
use crate::bench::Bench;
use crate::disk_trace::device_number;
use crate::mapped::Mapped;
use crate::setting::DirtyBytes;
use crate::setting::Setting;
use crate::tests::writeback::Trace;
use anyhow::Context;
use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::time::Instant;

const MIB: u64 = 1 << 20;
/// How long to wait for what the kernel does in its own time.
const PATIENCE: Duration = Duration::from_secs(20);

const EVENTS: [&str; 3] = [
    "writeback/writeback_start",
    "writeback/writeback_single_inode",
    "writeback/balance_dirty_pages",
];

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = line.split_once(&format!(" {name}="))?.1;
    rest.split(' ').next()
}

/// Why the flushers wrote inode `ino` of device `bdi`: the reasons of the work in which pages of it were written.
fn reasons(lines: &[String], bdi: &str, ino: u64) -> Vec<String> {
    let mut work: HashMap<&str, &str> = HashMap::new();
    let mut reasons = Vec::new();
    let ours = format!("bdi {bdi}: ");
    for line in lines.iter().filter(|line| line.contains(&ours)) {
        let task = line.split_whitespace().next().unwrap_or("");
        if line.contains(" writeback_start: ") {
            work.insert(task, field(line, "reason").unwrap_or("?"));
        } else if line.contains(" writeback_single_inode: ")
            && field(line, "ino") == Some(&ino.to_string())
            && field(line, "wrote").is_some_and(|wrote| wrote != "0")
        {
            if let Some(reason) = work.get(task) {
                reasons.push(reason.to_string());
            }
        }
    }
    reasons
}

fn wait_for(what: &str, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        anyhow::ensure!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Each of the four ways to the disk is taken when it should be, and the tracepoints tell which it was.
pub fn four_ways(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "1G"])?;
    bench.mount()?;
    rustix::fs::sync();
    let bdi = device_number(bench)?;
    let written = |name: &str, mebibytes: u64| -> anyhow::Result<u64> {
        let path = bench.path(name);
        fs::write(&path, vec![1; (mebibytes * MIB) as usize])?;
        Ok(path.metadata()?.ino())
    };
    let expect = |trace: &Trace, ino: u64, reason: &str| {
        wait_for(&format!("writeback for the reason {reason}"), || {
            let seen = reasons(&trace.read()?, &bdi, ino);
            let wrong = seen.iter().find(|seen| *seen != reason);
            anyhow::ensure!(
                wrong.is_none(),
                "{reason} was asked for, and {wrong:?} came"
            );
            Ok(!seen.is_empty())
        })
    };
    // Nothing is old and nothing is much, unless a part of the test says so.
    let _expire = Setting::vm("dirty_expire_centisecs", "60000")?;
    let trace = Trace::start(&EVENTS)?;

    let ino = written("sync", 8)?;
    rustix::fs::sync();
    expect(&trace, ino, "sync").context("sync")?;

    trace.clear()?;
    {
        let _limits = DirtyBytes::set(4 * MIB, 512 * MIB)?;
        let ino = written("background", 24)?;
        expect(&trace, ino, "background").context("many dirty pages")?;
        rustix::fs::sync();
    }

    trace.clear()?;
    {
        let _expire = Setting::vm("dirty_expire_centisecs", "100")?;
        let _interval = Setting::vm("dirty_writeback_centisecs", "50")?;
        let ino = written("periodic", 8)?;
        expect(&trace, ino, "periodic").context("old dirty pages")?;
    }
    drop(trace);
    rustix::fs::sync();
    reclaim(bench, &bdi)
}

/// A group that has no memory left but what is dirty has the flushers woken by reclaim.
fn reclaim(bench: &Bench, bdi: &str) -> anyhow::Result<()> {
    let group = Group::new()?;
    fs::write(group.path("memory.max"), (64 * MIB).to_string())?;
    // As many dirty pages as the group has memory for: otherwise its writer is throttled before.
    let _limit = Setting::vm("dirty_ratio", "100")?;
    let _background = Setting::vm("dirty_background_ratio", "99")?;
    let trace = Trace::start(&EVENTS)?;
    let path = bench.path("reclaim");
    group.write(&path, 160)?;
    let ino = path.metadata()?.ino();
    let lines = trace.read()?;
    let seen = reasons(&lines, bdi, ino);
    anyhow::ensure!(
        seen.iter().any(|reason| reason == "vmscan"),
        "a group of 64 MiB has written 160 MiB, and reclaim asked for none of it: {seen:?}"
    );
    drop(trace);
    fs::write(group.path("memory.max"), "max")?;
    Ok(())
}

/// Writers sleep when there is too much dirty memory, of all or of one device.
pub fn throttling(outer: &Bench) -> anyhow::Result<()> {
    outer.format(&["-b", "4096", "512M"])?;
    let disk = Mapped::new(&outer.disk, 512 * MIB)?;
    let bench = &disk.bench(outer);
    // A commit would wait for a disk that is stopped, and writers for the commit.
    bench.mount_with("commit=300")?;
    rustix::fs::sync();
    let bdi = device_number(bench)?;
    let knobs = PathBuf::from(format!("/sys/class/bdi/{bdi}"));
    let set = |knob: &str, value: &str| {
        fs::write(knobs.join(knob), value).with_context(|| format!("setting {knob}"))
    };
    let free = is_throttled(bench, &disk, &bdi, "free")?;
    anyhow::ensure!(!free, "a writer far below all limits was made to sleep");
    {
        let _limits = DirtyBytes::set(4 * MIB, 8 * MIB)?;
        let limited = is_throttled(bench, &disk, &bdi, "limited")?;
        anyhow::ensure!(limited, "a writer above the limit was not made to sleep");
    }
    // The limits of one device, which bite before the limit of all only when they are strict.
    for (knob, value) in [("max_ratio", "1"), ("max_bytes", "8388608")] {
        set(knob, value)?;
        set("strict_limit", "1")?;
        let limited = is_throttled(bench, &disk, &bdi, knob);
        set("strict_limit", "0")?;
        // Both are the same number to the kernel.
        set("max_ratio", "100")?;
        anyhow::ensure!(limited?, "{knob} with strict_limit does not bite");
    }
    let free = is_throttled(bench, &disk, &bdi, "free-again")?;
    anyhow::ensure!(!free, "a writer was made to sleep by limits that are gone");
    bench.finish()
}

/// Whether somebody who writes 48 MiB while the disk does nothing has to wait for it.
fn is_throttled(bench: &Bench, disk: &Mapped, bdi: &str, name: &str) -> anyhow::Result<bool> {
    let file = File::create(bench.path(name))?;
    rustix::fs::sync();
    let trace = Trace::start(&["writeback/balance_dirty_pages"])?;
    disk.stop()?;
    let done = AtomicU64::new(0);
    let (waited, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let piece = vec![1; MIB as usize];
            (0..48).try_for_each(|at| {
                done.store(at, Relaxed);
                file.write_all_at(&piece, at * MIB)
            })
        });
        // A slow machine is one thing, no progress at all another.
        let mut last = (0, Instant::now());
        while !writer.is_finished() && last.1.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(20));
            let now = done.load(Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        let waited = !writer.is_finished();
        let resumed = disk.go_on();
        (
            waited,
            resumed.and_then(|()| {
                let result = writer
                    .join()
                    .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
                Ok(result?)
            }),
        )
    });
    written?;
    let ours = format!("bdi {bdi}: ");
    let pauses = trace
        .read()?
        .iter()
        .filter(|line| line.contains(&ours) && line.contains("ferrofs-test"))
        .filter_map(|line| field(line, "pause")?.parse::<i64>().ok())
        .filter(|pause| *pause > 0)
        .count();
    eprintln!("{name}: waited: {waited}, {pauses} pauses");
    anyhow::ensure!(
        waited == (pauses > 0),
        "{name}: the writer waited: {waited}, and the tracepoint has {pauses} pauses"
    );
    rustix::fs::sync();
    Ok(waited)
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
    outer.format(&["-b", "4096", "512M"])?;
    let disk = Mapped::new(&outer.disk, 512 * MIB)?;
    let bench = &disk.bench(outer);
    bench.mount()?;
    rustix::fs::sync();
    let group = Group::new()?;
    let number = device_number(bench)?;
    // The blocks have their places, so that writeback needs nothing from the disk but to be written. The pages must
    // be the group's, and so come into memory again.
    let path = bench.path("file");
    fs::write(&path, vec![1; (SIZE * MIB) as usize])?;
    bench.drop_caches()?;
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
