// SPDX-License-Identifier: GPL-2.0

//! The tests that run in guests.

use crate::plan::Batch;
use crate::plan::Case;
use crate::plan::DISKS;
use crate::plan::KERNELS;
use crate::report::Log;
use crate::report::Report;
use anyhow::Context;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

/// The program in the guest.
const PROGRAM: &str = "ferrofs-test";
/// A guest's time limit, in seconds, is only there for what hangs beyond the guest's own limits for each test.
const GUEST_TIMEOUT: &str = "3600";

/// The guest tests, with `all` also those that run only when they are named. Under the stock kernel each runs on both
/// disks; the debug kernel's disks are both of its own one kind, so there one of them is enough.
pub fn discover(all: bool) -> anyhow::Result<Vec<Case>> {
    let output = Command::new(PROGRAM)
        .arg("list")
        .args(all.then_some("--all"))
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {PROGRAM}"))?;
    anyhow::ensure!(output.status.success(), "{PROGRAM} list: {}", output.status);
    let text = String::from_utf8(output.stdout).context("reading the list of tests")?;
    let mut cases = Vec::new();
    for kernel in KERNELS {
        let disks = if kernel == "debug" {
            &DISKS[..1]
        } else {
            &DISKS
        };
        for disk in disks {
            for name in text
                .lines()
                .filter_map(|line| line.split_whitespace().next())
            {
                cases.push(Case::Guest {
                    name: name.into(),
                    kernel,
                    disk,
                });
            }
        }
    }
    Ok(cases)
}

/// A line of the guest's that is a result.
#[derive(Debug, PartialEq, Eq)]
struct Verdict<'a> {
    passed: bool,
    /// `DISK/NAME` for a test; other names (`rmmod`) for what the guest does around them.
    subject: &'a str,
}

fn parse(line: &str) -> Option<Verdict<'_>> {
    let (passed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let subject = rest.split([' ', ':']).next()?;
    Some(Verdict { passed, subject })
}

/// Runs a batch in a guest of its own. Gives back the tests that a guest which failed left undone.
pub fn run(batch: &Batch, report: &Report) -> anyhow::Result<Option<Batch>> {
    let first = batch.names.first().context("a batch has a test")?;
    let name = format!("{}/{}/{first}", batch.kernel, batch.disk);
    let kernel_log = report.log_path(&format!("{name}-kernel"));
    let mut guest = Command::new("vm-runner")
        .args([
            "--kernel",
            batch.kernel,
            "--timeout",
            GUEST_TIMEOUT,
            "--log",
        ])
        .arg(&kernel_log)
        .args(["--", PROGRAM, "run", "--keep-going", "--disk", batch.disk])
        .args(&batch.names)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting vm-runner")?;
    let stdout = guest.stdout.take().context("the guest has an output")?;
    let stderr = guest
        .stderr
        .take()
        .context("the guest has an error output")?;

    let mut current = Log::create(report.log_path(&name))?;
    let mut waiting = batch.names.clone();
    let mut start = Instant::now();
    let mut other_failures = Vec::new();
    // Both outputs go to the log of the test that runs, which is known here only.
    let (sender, lines) = std::sync::mpsc::channel();
    let errors = sender.clone();
    let readers = [
        thread::spawn(move || read_lines(stdout, |line| sender.send((true, line)).is_ok())),
        thread::spawn(move || read_lines(stderr, |line| errors.send((false, line)).is_ok())),
    ];
    for (is_output, line) in lines {
        current.line(&line)?;
        let Some(verdict) = parse(&line).filter(|_| is_output) else {
            continue;
        };
        let test = verdict
            .subject
            .strip_prefix(batch.disk)
            .and_then(|rest| rest.strip_prefix('/'));
        match test.and_then(|test| waiting.iter().position(|name| name == test)) {
            Some(position) => {
                let case = case_of(batch, &waiting.remove(position));
                if verdict.passed {
                    report.passed(&case, start.elapsed());
                } else {
                    report.failed(&case, "the test failed", Some(current.path()));
                }
                start = Instant::now();
                if let Some(next) = waiting.first() {
                    let next = format!("{}/{}/{next}", batch.kernel, batch.disk);
                    current = Log::create(report.log_path(&next))?;
                }
            }
            None if !verdict.passed => other_failures.push(line),
            None => {}
        }
    }
    for reader in readers {
        reader
            .join()
            .map_err(|_| anyhow::anyhow!("a thread that reads output panicked"))??;
    }
    let status = guest.wait().context("waiting for vm-runner")?;
    conclude(
        batch,
        report,
        waiting,
        &other_failures,
        status.code(),
        &current,
    )
}

/// Judges how the guest itself went, and what is left to do.
fn conclude(
    batch: &Batch,
    report: &Report,
    mut waiting: Vec<String>,
    other_failures: &[String],
    status: Option<i32>,
    log: &Log,
) -> anyhow::Result<Option<Batch>> {
    let around = Case::Guest {
        name: "guest".into(),
        kernel: batch.kernel,
        disk: batch.disk,
    };
    for line in other_failures {
        report.failed(&around, line, Some(log.path()));
    }
    if waiting.is_empty() {
        // 1 says that a test failed, which is known already.
        if !matches!(status, Some(0 | 1)) && other_failures.is_empty() {
            let why = format!("all tests ended, and then the guest failed (status {status:?})");
            report.failed(&around, &why, Some(log.path()));
        }
        return Ok(None);
    }
    if waiting.len() == batch.names.len() {
        // Not one test ended: the first one is what the guest did not survive, or it never came so far. Another guest would
        // do no better with it.
        let case = case_of(batch, &waiting.remove(0));
        let why = format!("the guest ended without a result (status {status:?})");
        report.failed(&case, &why, Some(log.path()));
    }
    if waiting.is_empty() {
        return Ok(None);
    }
    Ok(Some(Batch {
        kernel: batch.kernel,
        disk: batch.disk,
        names: waiting,
    }))
}

fn case_of(batch: &Batch, name: &str) -> Case {
    Case::Guest {
        name: name.into(),
        kernel: batch.kernel,
        disk: batch.disk,
    }
}

fn read_lines(
    stream: impl std::io::Read,
    mut take: impl FnMut(String) -> bool,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        if !take(String::from_utf8_lossy(&bytes).trim_end().to_string()) {
            return Ok(());
        }
        bytes.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_other_lines_are_not() {
        let passed = parse("ok nvme/smoke (1.2 s)").unwrap();
        assert_eq!((passed.passed, passed.subject), (true, "nvme/smoke"));
        let failed = parse("not ok sata/rename: it hangs").unwrap();
        assert_eq!((failed.passed, failed.subject), (false, "sata/rename"));
        assert_eq!(parse("ok rmmod").unwrap().subject, "rmmod");
        assert_eq!(parse("okay then"), None);
        assert_eq!(parse("1 passed, 0 failed"), None);
    }
}
