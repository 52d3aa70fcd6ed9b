// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there: sources of writes that end in the middle, and mappings that cannot be stored to.

use super::script;
use crate::bench::Bench;

/// Writes whose source cannot be read to its end: what was copied counts, and nothing else is shown.
pub fn faults(bench: &Bench) -> anyhow::Result<()> {
    let script = include_str!("../../scripts/faults.py");
    script::run_and_compare(bench, script, 96, || Ok(()))
}

/// Stores and loads that end a process by `SIGBUS`: on a full disk, behind the end, after a truncation.
pub fn sigbus(bench: &Bench) -> anyhow::Result<()> {
    let script = include_str!("../../scripts/sigbus.py");
    script::run_and_compare(bench, script, 96, || Ok(()))
}
