// SPDX-License-Identifier: GPL-2.0

//! The system calls that move file data, but for direct I/O and mappings.

use super::script;
use crate::bench::Bench;

/// Vectors, request flags, pipes, loop devices, limits, privileges, times.
pub fn calls(bench: &Bench) -> anyhow::Result<()> {
    let script = include_str!("../../scripts/calls.py");
    script::run_and_compare(bench, script, 96, || Ok(()))
}
