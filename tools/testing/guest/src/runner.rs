// SPDX-License-Identifier: GPL-2.0

//! Runs tests, each in a process of its own so that one that hangs or dies is one that failed.

use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::kernel_log::KernelLog;
use crate::module;
use crate::tests;
use crate::tests::Test;
use anyhow::Context;
use clap::Args;
use clap::ValueEnum;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// How often a running test is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a disk may take for an answer, in milliseconds, before the kernel resets it and says so: longer than any test
/// may. A disk of a guest is a file of its host, where others may keep it waiting for longer than the usual 30 s.
const DISK_PATIENCE: &str = "86400000";

/// What all tests of a run have in common.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The driver under test; ext4 tests the tests
    #[arg(long, env = "FSTYPE", default_value = "ferrofs")]
    fstype: String,

    /// Where random choices start
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How long random tests run, in percent of the usual
    #[arg(long, default_value_t = 100)]
    effort: u64,
}

/// The arguments of `run`.
#[derive(Args, Debug)]
pub struct RunOptions {
    #[command(flatten)]
    common: Common,

    /// On which disk
    #[arg(long, value_enum, default_value = "both")]
    disk: DiskChoice,

    /// Goes on after a failure
    #[arg(long)]
    keep_going: bool,

    /// Tests by name; all quick ones when none is named
    tests: Vec<String>,
}

/// The arguments of `one`.
#[derive(Args, Debug)]
pub struct OneOptions {
    #[command(flatten)]
    common: Common,

    /// On which disk
    #[arg(long, value_enum)]
    disk: DiskChoice,

    /// The test
    test: String,
}

/// The disks of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DiskChoice {
    Nvme,
    Sata,
    Both,
}

impl DiskChoice {
    fn name(self) -> &'static str {
        match self {
            DiskChoice::Nvme => "nvme",
            DiskChoice::Sata => "sata",
            DiskChoice::Both => "both",
        }
    }

    fn each(self) -> Vec<DiskChoice> {
        match self {
            DiskChoice::Both => vec![DiskChoice::Nvme, DiskChoice::Sata],
            one => vec![one],
        }
    }
}

/// A disk's device, from the environment that `tools/vm` gives to commands.
fn device(variable: &str) -> anyhow::Result<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: run this in a guest, by tools/vm"))
}

/// Has the kernel wait for the answers of `disk`, however long they take.
fn wait_for_ever(disk: &Path) -> anyhow::Result<()> {
    let name = disk.file_name().context("a disk without a name")?;
    let path = Path::new("/sys/block").join(name).join("queue/io_timeout");
    // The disks of the debug kernel know no such limit.
    if !path.exists() {
        return Ok(());
    }
    std::fs::write(&path, DISK_PATIENCE).with_context(|| format!("writing {}", path.display()))
}

/// Runs the chosen tests; whether all of them passed.
pub fn run(options: &RunOptions) -> anyhow::Result<bool> {
    let chosen = tests::choose(&options.tests)?;
    let mut failures = 0;
    let mut passes = 0;
    for disk in [device("NVME_DISK")?, device("SATA_DISK")?] {
        wait_for_ever(&disk)?;
    }
    if options.common.fstype != REFERENCE {
        let path = std::env::var("FERROFS_KO")
            .context("FERROFS_KO is not set: run this in a guest, by tools/vm")?;
        let ktap = module::load_tested(&path)?;
        for case in &ktap.failed {
            println!("not ok kunit: {case}");
            failures += 1;
        }
        if ktap.passed > 0 {
            println!(
                "ok kunit: {} cases passed, {} skipped",
                ktap.passed, ktap.skipped
            );
            passes += 1;
        }
    }
    'tests: for test in &chosen {
        for disk in options.disk.each() {
            let start = Instant::now();
            match run_child(test, &options.common, disk)? {
                Ended::Passed => {
                    println!(
                        "ok {}/{} ({:.1} s)",
                        disk.name(),
                        test.name,
                        start.elapsed().as_secs_f64()
                    );
                    passes += 1;
                }
                Ended::Failed => {
                    println!(
                        "not ok {}/{} ({:.1} s)",
                        disk.name(),
                        test.name,
                        start.elapsed().as_secs_f64()
                    );
                    failures += 1;
                    if !options.keep_going {
                        break 'tests;
                    }
                }
                Ended::Fatal(why) => {
                    println!(
                        "not ok {}/{}: {why}; this guest is of no more use",
                        disk.name(),
                        test.name
                    );
                    return Ok(false);
                }
            }
        }
    }
    if failures == 0 && options.common.fstype != REFERENCE {
        module::unload(&options.common.fstype)?;
        println!("ok rmmod");
    }
    println!("{passes} passed, {failures} failed");
    Ok(failures == 0)
}

enum Ended {
    Passed,
    Failed,
    /// Nothing that follows can be trusted.
    Fatal(String),
}

fn run_child(test: &Test, common: &Common, disk: DiskChoice) -> anyhow::Result<Ended> {
    let mut log = KernelLog::from_now()?;
    let myself = std::env::current_exe().context("finding this program")?;
    let mut child = Command::new(myself)
        .args(["one", "--disk", disk.name(), "--fstype", &common.fstype])
        .args(["--seed", &common.seed.to_string()])
        .args(["--effort", &common.effort.to_string()])
        .arg(test.name)
        .spawn()
        .context("starting a test")?;
    let limit = test.limit * common.effort.max(100) as u32 / 100;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("waiting for a test")? {
            let messages = log.drain()?;
            let fatal = messages.iter().find(|line| line.is_fatal());
            return Ok(match fatal {
                Some(line) if !status.success() => Ended::Fatal(line.text.clone()),
                _ if status.success() => Ended::Passed,
                _ => Ended::Failed,
            });
        }
        if Instant::now() > deadline {
            show_where_it_hangs(&mut child, &mut log)?;
            return Ok(Ended::Fatal(format!(
                "it did not end within {} s",
                limit.as_secs()
            )));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Has the kernel tell what every blocked and every running task does, and passes that on.
fn show_where_it_hangs(child: &mut Child, log: &mut KernelLog) -> anyhow::Result<()> {
    for key in ["w", "l"] {
        std::fs::write("/proc/sysrq-trigger", key).context("asking the kernel for its tasks")?;
    }
    std::thread::sleep(Duration::from_secs(1));
    for line in log.drain()? {
        eprintln!("  {}", line.text);
    }
    let stack = std::fs::read_to_string(format!("/proc/{}/stack", child.id()));
    eprintln!("  the test's own stack:\n{}", stack.unwrap_or_default());
    // It may not be killable: nobody waits for it.
    child.kill().context("killing a test that hangs")
}

/// Runs one test in this process.
pub fn one(options: &OneOptions) -> anyhow::Result<bool> {
    let test = tests::find(&options.test)?;
    let (nvme, sata) = (device("NVME_DISK")?, device("SATA_DISK")?);
    let (disk, spare) = match options.disk {
        DiskChoice::Nvme => (nvme, sata),
        DiskChoice::Sata => (sata, nvme),
        DiskChoice::Both => anyhow::bail!("one test runs on one disk"),
    };
    let common = &options.common;
    let name = options.disk.name();
    let bench = Bench::new(&common.fstype, &disk, &spare, common.seed, common.effort)?;
    let result = (test.run)(&bench).and_then(|()| bench.finish());
    if let Err(error) = &result {
        eprintln!("{name}/{}: {error:#}", test.name);
        for line in bench.messages()? {
            eprintln!("  kernel: <{}> {}", line.level, line.text);
        }
    }
    Ok(result.is_ok())
}
