// SPDX-License-Identifier: GPL-2.0

//! What the user sees of the tests: a line for each that ended, the words of those that failed, and the sums.

use crate::plan::Case;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

/// How many lines of what a failed test said are shown; the file has the rest.
const SHOWN_LINES: usize = 80;

/// Collects results from all workers and prints them.
pub struct Report {
    logs: PathBuf,
    start: Instant,
    total: usize,
    sums: Mutex<Sums>,
}

#[derive(Default)]
struct Sums {
    passed: usize,
    failed: Vec<String>,
}

impl Report {
    /// A report on `total` cases, which keeps what they say in the folder `logs`.
    pub fn new(logs: &Path, total: usize) -> Report {
        Report {
            logs: logs.into(),
            start: Instant::now(),
            total,
            sums: Mutex::new(Sums::default()),
        }
    }

    /// The file for what a test with this name says.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{}.log", name.replace('/', "-")))
    }

    /// `case` has passed.
    pub fn passed(&self, case: &Case, took: Duration) {
        let mut sums = self.sums.lock().expect("no worker panics");
        sums.passed += 1;
        self.line(
            &sums,
            "ok  ",
            &format!("{case} ({:.0} s)", took.as_secs_f64()),
        );
    }

    /// `case` has failed; why, and where its words are.
    pub fn failed(&self, case: &Case, why: &str, log: Option<&Path>) {
        let mut sums = self.sums.lock().expect("no worker panics");
        sums.failed.push(case.to_string());
        self.line(&sums, "FAIL", &format!("{case}: {why}"));
        if let Some(log) = log {
            show(log);
        }
    }

    fn line(&self, sums: &Sums, word: &str, text: &str) {
        println!(
            "[{:>4} s, {}/{}] {word} {text}",
            self.start.elapsed().as_secs(),
            sums.passed + sums.failed.len(),
            self.total
        );
    }

    /// Prints the sums; whether all passed.
    pub fn finish(&self) -> bool {
        let sums = self.sums.lock().expect("no worker panics");
        if !sums.failed.is_empty() {
            println!("failed: {}", sums.failed.join(" "));
        }
        println!("{} passed, {} failed", sums.passed, sums.failed.len());
        sums.failed.is_empty() && sums.passed > 0
    }
}

fn show(log: &Path) {
    let text = match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            println!("      {}: {error}", log.display());
            return;
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(SHOWN_LINES);
    if skipped > 0 {
        println!(
            "      ... {skipped} lines before these are in {}",
            log.display()
        );
    }
    for line in &lines[skipped..] {
        println!("      {}", line.trim_end());
    }
}

/// A log that several threads write lines to.
pub struct Log {
    path: PathBuf,
    file: Mutex<File>,
}

impl Log {
    /// Makes the file anew.
    pub fn create(path: PathBuf) -> std::io::Result<Log> {
        let file = Mutex::new(File::create(&path)?);
        Ok(Log { path, file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line.
    pub fn line(&self, line: &str) -> std::io::Result<()> {
        writeln!(self.file.lock().expect("no worker panics"), "{line}")
    }
}
