// SPDX-License-Identifier: GPL-2.0

//! The main job, shown from end to end: a real tree of files on an NVMe and a SATA disk, seen by the kernel's own eyes,
//! checked by e2fsck and by the kernel's ext4, and again after a power cut. What was shown is told in a table.

use crate::bench::format_device;
use crate::bench::fsck_device;
use crate::bench::mount_device;
use crate::bench::REFERENCE;
use crate::busy;
use crate::command::must;
use crate::kernel_log::KernelLog;
use crate::manifest::Manifest;
use crate::power_cut;
use crate::power_cut::disks;
use crate::power_cut::Guest;
use crate::tests::writeback::meminfo;
use crate::tests::writeback::Trace;
use crate::tests::writeback::EVENTS;
use anyhow::Context;
use clap::Args;
use clap::ValueEnum;
use rustix::mount::unmount;
use rustix::mount::UnmountFlags;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the guest of the second part says when it works.
const BUSY: &str = "the second run is at work";
/// What a guest says when its part is done.
const DONE: &str = "this part is done";
/// How the lines of the table start.
const SHOWN: &str = "SHOWN ";

/// The arguments of `demo`.
#[derive(Args, Debug)]
pub struct HostOptions {
    /// The driver to show
    #[arg(long, env = "FSTYPE", default_value = "ferrofs")]
    fstype: String,

    /// Further arguments for the program that runs guests
    #[arg(last = true)]
    vm: Vec<String>,
}

/// The arguments of `demo-guest`.
#[derive(Args, Debug)]
pub struct GuestOptions {
    #[arg(long)]
    fstype: String,

    /// The folder that all parts share
    #[arg(long)]
    notes: PathBuf,

    #[arg(value_enum)]
    part: Part,
}

/// The parts, each in a guest of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From mkfs to the comparison with ext4.
    First,
    /// The run that the power cut ends.
    Second,
    /// What it left.
    Third,
}

/// On the host: the three parts, and the table.
pub fn host(options: &HostOptions) -> anyhow::Result<bool> {
    let scratch =
        PathBuf::from(std::env::var_os("FERROFS_SCRATCH").context("FERROFS_SCRATCH is not set")?)
            .join(format!("demo.{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    for disk in ["nvme.img", "sata.img"] {
        File::create(scratch.join(disk))?.set_len(2 << 30)?;
    }
    let mut table = Vec::new();
    let complete = parts(options, &scratch, &mut table);
    println!("\n{}", "=".repeat(100));
    for line in &table {
        println!("{line}");
    }
    println!("{}", "=".repeat(100));
    let failed = table
        .iter()
        .filter(|line| line.starts_with("FAILED"))
        .count();
    fs::remove_dir_all(&scratch).context("removing the disks")?;
    let complete = complete?;
    if !complete {
        println!("A guest ended before its part was done: see above.");
    }
    println!("{} shown, {failed} failed", table.len() - failed);
    Ok(complete && failed == 0)
}

fn parts(options: &HostOptions, scratch: &Path, table: &mut Vec<String>) -> anyhow::Result<bool> {
    for (part, name) in [("first", DONE), ("second", BUSY), ("third", DONE)] {
        println!("--- the {part} guest boots");
        let arguments =
            ["demo-guest", part, "--fstype", &options.fstype, "--notes"].map(String::from);
        let mut arguments = arguments.to_vec();
        arguments.push(scratch.display().to_string());
        let mut guest = Guest::run(scratch, &options.vm, &arguments)?;
        let come = guest.wait_for_with(name, &mut |line| match line.strip_prefix(SHOWN) {
            Some(shown) => {
                println!("  {shown}");
                table.push(shown.to_string());
            }
            None => println!("  {line}"),
        })?;
        if !come {
            return Ok(false);
        }
        if name == BUSY {
            std::thread::sleep(Duration::from_secs(4));
            guest.cut()?;
            println!("--- the power is cut");
        } else {
            guest.end()?;
        }
    }
    Ok(true)
}

/// Tells how one thing went, and goes on.
fn show(what: &str, result: anyhow::Result<String>) -> bool {
    match result {
        Ok(detail) => {
            println!(
                "{SHOWN}ok      {what}{}{detail}",
                if detail.is_empty() { "" } else { ": " }
            );
            true
        }
        Err(error) => {
            println!(
                "{SHOWN}FAILED  {what}: {}",
                format!("{error:#}").lines().next().unwrap_or("")
            );
            println!("{error:#}");
            false
        }
    }
}

/// In a guest: one part.
pub fn guest(options: &GuestOptions) -> anyhow::Result<bool> {
    let mut log = KernelLog::from_now()?;
    let fstype = &options.fstype;
    if options.part == Part::First {
        let loaded = power_cut::load(fstype).map(|()| String::new());
        if !show(&format!("insmod {fstype}.ko into the stock kernel"), loaded) {
            return Ok(false);
        }
    } else {
        power_cut::load(fstype)?;
    }
    for (name, device, dir) in disks()? {
        let disk = DiskDemo {
            name,
            device,
            dir,
            fstype: fstype.clone(),
            notes: options.notes.clone(),
        };
        let done = match options.part {
            Part::First => disk.first(),
            Part::Second => disk.second(),
            Part::Third => disk.third(),
        };
        if let Err(error) = done {
            show(
                &format!("{}: to the end of this part", disk.name),
                Err(error),
            );
        }
    }
    if options.part == Part::Second {
        return work_for_ever(options);
    }
    let complaints: Vec<String> = log
        .drain()?
        .into_iter()
        .filter(|line| line.is_complaint(fstype) && !line.text.contains("taint"))
        .map(|line| line.text)
        .collect();
    let quiet = if complaints.is_empty() {
        Ok(String::new())
    } else {
        Err(anyhow::anyhow!("{}", complaints.join("\n")))
    };
    show("no warning in the kernel's log", quiet);
    println!("{DONE}");
    Ok(true)
}

struct DiskDemo {
    name: String,
    device: PathBuf,
    dir: PathBuf,
    fstype: String,
    notes: PathBuf,
}

impl DiskDemo {
    fn mount(&self, fstype: &str, options: &str) -> anyhow::Result<()> {
        mount_device(&self.device, &self.dir, fstype, options)
            .with_context(|| format!("mounting {} as {fstype}", self.device.display()))
    }

    fn umount(&self) -> anyhow::Result<()> {
        unmount(&self.dir, UnmountFlags::empty())
            .with_context(|| format!("unmounting {}", self.dir.display()))
    }

    fn show(&self, what: &str, result: anyhow::Result<String>) -> bool {
        show(&format!("{}: {what}", self.name), result)
    }

    fn first(&self) -> anyhow::Result<()> {
        let tar = std::env::var("FERROFS_SAMPLE_TAR").context("FERROFS_SAMPLE_TAR is not set")?;
        let reference = Path::new("/dev/shm/reference");
        if !reference.exists() {
            unpack(&tar, reference)?;
        } else {
            fs::remove_dir_all(reference)?;
            unpack(&tar, reference)?;
        }
        format_device(&self.device, &[])?;
        let made = self
            .mount(&self.fstype, "")
            .map(|()| self.device.display().to_string());
        if !self.show(&format!("mkfs.ext4, mount -t {}", self.fstype), made) {
            return Ok(());
        }
        rustix::fs::sync();
        let trace = Trace::start(&EVENTS)?;
        let tree = self.dir.join("tree");
        let (peaks, unpacked) = watch_memory(|| unpack(&tar, &tree));
        unpacked?;
        let expected = Manifest::read(reference)?;
        let found = Manifest::read(&tree)?;
        self.show(
            "a part of the kernel's source unpacked, every checksum right",
            expected
                .expect(&found)
                .map(|()| format!("{} files and folders", found.len())),
        );
        change(reference)?;
        self.show(
            "parts renamed, deleted, rewritten, fsync",
            change(&tree).map(|()| String::new()),
        );
        // Only what goes through the page cache has been seen so far.
        let inode = tree.join("Makefile.demo").metadata()?.ino();
        rustix::fs::sync();
        let end = meminfo("Dirty")?;
        self.show("Dirty: and Writeback: rise and fall", peaks.judge(end));
        self.show(
            "the writeback tracepoints name our inodes and reasons",
            traced(&trace, inode),
        );
        drop(trace);
        let expected = Manifest::read(reference)?;
        self.show(
            "the changed tree, from the page cache",
            expected
                .expect(&Manifest::read(&tree)?)
                .map(|()| format!("{} files and folders", expected.len())),
        );
        self.umount()?;
        self.show(
            "e2fsck -fn has nothing to say",
            fsck_device(&self.device, false).map(|()| String::new()),
        );
        for fstype in [self.fstype.as_str(), REFERENCE] {
            self.mount(fstype, "ro")?;
            let same = Manifest::read(&tree).and_then(|found| expected.expect(&found));
            self.umount()?;
            self.show(
                &format!("every checksum and attribute, read from the disk by {fstype}"),
                same.map(|()| String::new()),
            );
        }
        expected.save(&self.notes.join(format!("manifest-{}", self.name)))
    }

    fn second(&self) -> anyhow::Result<()> {
        self.mount(&self.fstype, "")
    }

    fn third(&self) -> anyhow::Result<()> {
        let replayed = self.mount(&self.fstype, "").map(|()| String::new());
        if !self.show("the journal is replayed after a power cut", replayed) {
            return Ok(());
        }
        let found = busy::check_against_files(
            &self.dir.join("busy"),
            &self.notes.join(format!("busy-{}", self.name)),
            self.fstype == REFERENCE,
        );
        self.show(
            "everything that was acknowledged is there",
            found.map(|found| {
                format!(
                    "{} acknowledgements, {} files",
                    found.acknowledged, found.files
                )
            }),
        );
        let expected = Manifest::load(&self.notes.join(format!("manifest-{}", self.name)))?;
        let compare = || expected.expect(&Manifest::read(&self.dir.join("tree"))?);
        self.show(
            "the tree of the first run is as it was",
            compare().map(|()| String::new()),
        );
        self.umount()?;
        self.show(
            "e2fsck -fn after the power cut",
            fsck_device(&self.device, false).map(|()| String::new()),
        );
        self.mount(REFERENCE, "ro")?;
        let same = compare();
        self.umount()?;
        self.show(
            "ext4 agrees after the power cut",
            same.map(|()| String::new()),
        );
        Ok(())
    }
}

/// The second run: works on both disks until the power goes.
fn work_for_ever(options: &GuestOptions) -> anyhow::Result<bool> {
    let disks = disks()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = disks
            .iter()
            .map(|(name, _, dir)| {
                let journals = options.notes.join(format!("busy-{name}"));
                scope.spawn(move || busy::work_for_ever(&dir.join("busy"), &journals, 1))
            })
            .collect();
        println!("{BUSY}");
        std::io::stdout().flush()?;
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(true)
    })
}

fn unpack(tar: &str, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    must("tar", &["-C", crate::bench::text(dir), "-xf", tar]).map(drop)
}

/// The same changes to every tree that was unpacked.
fn change(tree: &Path) -> anyhow::Result<()> {
    fs::rename(tree.join("fs/ext4"), tree.join("include/renamed")).context("renaming a folder")?;
    fs::remove_dir_all(tree.join("Documentation")).context("removing a folder")?;
    fs::remove_dir_all(tree.join("fs/xfs")).context("removing a folder")?;
    let mut number = 0;
    let mut headers: Vec<PathBuf> = fs::read_dir(tree.join("include/linux"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    headers.sort();
    for path in headers.iter().filter(|path| path.is_file()) {
        number += 1;
        match number % 5 {
            0 => fs::remove_file(path)?,
            1 => fs::rename(path, path.with_extension("renamed"))?,
            2 => fs::hard_link(path, path.with_extension("linked"))?,
            _ => {}
        }
    }
    let path = tree.join("Makefile.demo");
    let mut file = File::create(&path)?;
    file.write_all(&crate::rng::Rng::new(5).bytes(3 << 20))?;
    rustix::fs::setxattr(&path, "user.shown", b"yes", rustix::fs::XattrFlags::empty())?;
    let time = rustix::fs::Timespec {
        tv_sec: 3_000_000_000,
        tv_nsec: 42,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::futimens(&file, &times)?;
    file.sync_all().context("fsync")?;
    File::open(tree)?.sync_all().context("fsync of a folder")
}

/// The greatest values of /proc/meminfo during some work, in KiB.
struct Peaks {
    start: u64,
    dirty: u64,
    writeback: u64,
}

impl Peaks {
    fn judge(&self, end: u64) -> anyhow::Result<String> {
        anyhow::ensure!(
            self.dirty > self.start + 4096,
            "Dirty went from {} to {} KiB only",
            self.start,
            self.dirty
        );
        anyhow::ensure!(
            end < self.dirty / 2,
            "{end} KiB are dirty after sync, of {}",
            self.dirty
        );
        anyhow::ensure!(self.writeback > 0, "Writeback never rose");
        Ok(format!(
            "Dirty {} -> {} -> {end} KiB, Writeback up to {} KiB",
            self.start, self.dirty, self.writeback
        ))
    }
}

/// Does some work and a sync, and looks at /proc/meminfo meanwhile.
fn watch_memory(work: impl FnOnce() -> anyhow::Result<()>) -> (Peaks, anyhow::Result<()>) {
    let stop = AtomicBool::new(false);
    let (dirty, writeback) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = meminfo("Dirty").unwrap_or(0);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (name, peak) in [("Dirty", &dirty), ("Writeback", &writeback)] {
                    peak.fetch_max(meminfo(name).unwrap_or(0), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let result = work();
        rustix::fs::sync();
        stop.store(true, Ordering::Relaxed);
        result
    });
    let peaks = Peaks {
        start,
        dirty: dirty.into_inner(),
        writeback: writeback.into_inner(),
    };
    (peaks, result)
}

/// Shows what the kernel traced of writeback.
fn traced(trace: &Trace, inode: u64) -> anyhow::Result<String> {
    let lines = trace.read()?;
    let mut reasons: Vec<&str> = lines
        .iter()
        .filter(|line| line.contains("writeback_start:"))
        .filter_map(|line| line.split("reason=").nth(1)?.split_whitespace().next())
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    anyhow::ensure!(!reasons.is_empty(), "no start of writeback was traced");
    let wanted = format!("ino={inode} ");
    let single = lines
        .iter()
        .filter(|line| line.contains("writeback_single_inode:"))
        .count();
    let ours = lines
        .iter()
        .find(|line| line.contains("writeback") && line.contains(&wanted))
        .with_context(|| format!("inode {inode} is in none of {} lines", lines.len()))?;
    println!("{}", ours.trim());
    if let Some(line) = lines.iter().find(|line| line.contains("writeback_start:")) {
        println!("{}", line.trim());
    }
    Ok(format!(
        "{single} inodes written; reasons: {}",
        reasons.join(", ")
    ))
}
