// SPDX-License-Identifier: GPL-2.0

//! The kernel module under test: loaded with what it depends on, its KUnit suites counted, removed at the end.

use crate::command;
use crate::command::must;
use crate::kernel_log::KernelLog;
use crate::kernel_log::Line;
use anyhow::Context;

/// KUnit suites that the module has at least, on a kernel that runs them.
const SUITES: &[&str] = &[
    "ferrofs_bitmap",
    "ferrofs_extent_status",
    "ferrofs_freed",
    "ferrofs_groups",
    "ferrofs_space",
    "ferrofs_summary",
    "vfs_bio_list",
    "vfs_block_state",
    "vfs_buffer",
    "vfs_credits",
    "vfs_folio_io",
    "vfs_iomap",
    "vfs_kiocb",
    "vfs_tid",
];

/// Whether this is the debug kernel, which runs KUnit suites when a module is loaded.
fn is_debug_kernel() -> anyhow::Result<bool> {
    let text = std::fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    Ok(text.contains("User Mode Linux"))
}

/// Loads the module at `path`, unless it is loaded already; gives what its KUnit suites said when it was loaded.
///
/// On the debug kernel it is an error when one of [`SUITES`] said nothing.
pub fn load_tested(path: &str) -> anyhow::Result<Ktap> {
    let Some(ktap) = load(path)? else {
        return Ok(Ktap::default());
    };
    if is_debug_kernel()? {
        let missing: Vec<_> = SUITES
            .iter()
            .filter(|name| !ktap.suites.iter().any(|suite| suite == *name))
            .collect();
        anyhow::ensure!(
            missing.is_empty(),
            "these KUnit suites did not run: {missing:?}"
        );
    }
    Ok(ktap)
}

/// Loads the module at `path` and gives what its KUnit suites said; nothing when it is loaded already.
pub fn load(path: &str) -> anyhow::Result<Option<Ktap>> {
    let name = std::path::Path::new(path)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .context("the module's path has no name")?;
    if is_loaded(name)? {
        return Ok(None);
    }
    let depends = must("modinfo", &["-F", "depends", path])?;
    for dependency in depends.trim().split(',').filter(|name| !name.is_empty()) {
        let output = command::run("modprobe", &[dependency])?;
        // The debug kernel has everything built in and no modules' folder: insmod will tell what is missing.
        if output.status != 0 {
            eprintln!("modprobe {dependency}: {}", output.text.trim());
        }
    }
    let mut log = KernelLog::from_now()?;
    must("insmod", &[path])?;
    let lines = log.drain()?;
    let complaints: Vec<&str> = lines
        .iter()
        .filter(|line| line.is_complaint(name) && !is_taint_note(line))
        .map(|line| line.text.as_str())
        .collect();
    anyhow::ensure!(
        complaints.is_empty(),
        "loading the module made the kernel complain:\n{}",
        complaints.join("\n")
    );
    Ktap::parse(&lines).map(Some)
}

/// Removes the module, which must leave no complaint.
pub fn unload(name: &str) -> anyhow::Result<()> {
    let mut log = KernelLog::from_now()?;
    must("rmmod", &[name])?;
    let complaints: Vec<String> = log
        .drain()?
        .into_iter()
        .filter(|line| line.is_complaint(name))
        .map(|line| line.text)
        .collect();
    anyhow::ensure!(
        complaints.is_empty(),
        "removing the module made the kernel complain:\n{}",
        complaints.join("\n")
    );
    Ok(())
}

fn is_loaded(name: &str) -> anyhow::Result<bool> {
    let modules = std::fs::read_to_string("/proc/modules").context("reading /proc/modules")?;
    Ok(modules
        .lines()
        .any(|line| line.split(' ').next() == Some(name)))
}

/// What the kernel says of every module that it was not built with.
fn is_taint_note(line: &Line) -> bool {
    line.text
        .contains("loading out-of-tree module taints kernel")
        || line.text.contains("module verification failed")
}

/// The results of KUnit suites.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ktap {
    /// The names of the suites that ran to their end.
    pub suites: Vec<String>,
    /// Cases that passed.
    pub passed: usize,
    /// Cases that were skipped.
    pub skipped: usize,
    /// The names of the cases that failed.
    pub failed: Vec<String>,
}

impl Ktap {
    /// Reads the kernel's KTAP report: cases are indented, the lines of whole suites are not.
    fn parse(lines: &[Line]) -> anyhow::Result<Ktap> {
        let mut result = Ktap::default();
        let mut planned = 0;
        for line in lines {
            let indented = line.text.starts_with("    ");
            let text = line.text.trim();
            if let Some(count) = text.strip_prefix("1..").filter(|_| indented) {
                planned += count
                    .parse::<usize>()
                    .with_context(|| format!("a KTAP plan reads {text:?}"))?;
            }
            if !indented {
                result.suites.extend(suite_name(text));
                continue;
            }
            if let Some(case) = text.strip_prefix("not ok ") {
                result.failed.push(case.into());
            } else if text.starts_with("ok ") {
                if text.contains("# SKIP") {
                    result.skipped += 1;
                } else {
                    result.passed += 1;
                }
            }
        }
        let reported = result.passed + result.skipped + result.failed.len();
        anyhow::ensure!(
            reported == planned,
            "the KUnit suites planned {planned} cases and reported {reported}"
        );
        Ok(result)
    }
}

/// The name in the result of a suite: "ok 1 NAME", or "not ok".
fn suite_name(text: &str) -> Option<String> {
    let result = text.strip_prefix("not ").unwrap_or(text);
    let (number, name) = result.strip_prefix("ok ")?.split_once(' ')?;
    number.parse::<u32>().ok()?;
    Some(name.split(" #").next()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Vec<Line> {
        text.lines()
            .map(|text| Line {
                level: 6,
                text: text.into(),
            })
            .collect()
    }

    #[test]
    fn cases_are_counted_and_suites_are_not() {
        let text = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: maps\n    1..3\n    ok 1 find\n    \
            not ok 2 insert\n    ok 3 remove # SKIP no memory\nnot ok 1 maps\n";
        let ktap = Ktap::parse(&log(text)).unwrap();
        assert_eq!((ktap.passed, ktap.skipped), (1, 1));
        assert_eq!(ktap.failed, ["2 insert"]);
        assert_eq!(ktap.suites, ["maps"]);
    }

    #[test]
    fn a_suite_that_stops_halfway_is_an_error() {
        assert!(Ktap::parse(&log("    1..2\n    ok 1 find\n")).is_err());
    }
}
