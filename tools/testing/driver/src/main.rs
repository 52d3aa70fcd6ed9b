// SPDX-License-Identifier: GPL-2.0

//! Runs the tests of ferrofs and says how they went. `tools/testing/run` starts this program inside the sandbox, with all
//! that is needed built.
//!
//! There are two kinds of tests:
//!
//! - checks: the executables in `tools/testing/checks`, which run in the sandbox and fail by their exit status;
//! - guest tests: those that `ferrofs-test list` names, each run on both disks under both kernels. `ferrofs-test run`
//!   runs some of them in one guest and prints `ok DISK/NAME` or `not ok DISK/NAME` for each.

mod check;
mod guest;
mod plan;
mod report;

use anyhow::Context;
use clap::Parser;
use plan::Case;
use plan::Unit;
use report::Report;
use std::collections::VecDeque;
use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

/// Runs the tests of ferrofs.
///
/// Without a NAME all of them, but for those that run only when they are named. A NAME is a check (`rustfmt`), a guest test (`smoke`), or a guest test under one kernel and
/// on one disk (`smoke/debug`, `smoke/stock/nvme`); an asterisk at its end stands for anything. What each test said is
/// kept in a file, which is named when the test failed.
#[derive(Debug, Parser)]
#[command(
    name = "tools/testing/run",
    override_usage = "tools/testing/run [options] [NAME...]"
)]
struct Options {
    /// Lists the tests that would run
    #[arg(long)]
    list: bool,

    /// How many tests, or guests with tests, may run at once
    #[arg(long, default_value_t = 2)]
    jobs: usize,

    /// The folder that holds what the tests said
    #[arg(long, env = "FERROFS_TEST_LOGS")]
    logs: PathBuf,

    /// The clone
    #[arg(long, env = "FERROFS_CLONE")]
    clone: PathBuf,

    /// Which tests to run
    names: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<bool> {
    let mut cases = check::discover(&options.clone)?;
    cases.extend(guest::discover(!options.names.is_empty())?);
    let chosen = plan::choose(&cases, &options.names)?;
    if options.list {
        let mut out = io::stdout().lock();
        return match chosen.iter().try_for_each(|case| writeln!(out, "{case}")) {
            // Who reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
            result => result.map(|()| true).context("writing the list"),
        };
    }
    std::fs::create_dir_all(&options.logs)
        .with_context(|| format!("making {}", options.logs.display()))?;

    let report = Report::new(&options.logs, chosen.len());
    let queue: Mutex<VecDeque<Unit>> = Mutex::new(plan::units(&chosen).into());
    thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| work(&queue, &report, options));
        }
    });
    Ok(report.finish())
}

/// Takes units from the queue until it is empty. What a unit leaves undone is queued again.
fn work(queue: &Mutex<VecDeque<Unit>>, report: &Report, options: &Options) {
    loop {
        let Some(unit) = queue.lock().expect("no worker panics").pop_front() else {
            return;
        };
        match unit {
            Unit::Check(name) => {
                let result = check::run(&name, &options.clone, report);
                if let Err(error) = result {
                    report.failed(&Case::Check(name), &format!("{error:#}"), None);
                }
            }
            Unit::Guest(batch) => match guest::run(&batch, report) {
                Ok(None) => {}
                Ok(Some(rest)) => queue
                    .lock()
                    .expect("no worker panics")
                    .push_front(Unit::Guest(rest)),
                Err(error) => {
                    for case in batch.cases() {
                        report.failed(&case, &format!("{error:#}"), None);
                    }
                }
            },
        }
    }
}
