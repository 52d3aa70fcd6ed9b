// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there: sources of writes that end in the middle, and mappings that cannot be stored to.

use super::script;
use crate::bench::Bench;
use crate::command::must;
use crate::tests::requests::is_stock;
use std::path::Path;

/// Where a task says which of its allocations is to fail, on a kernel that can do that.
const FAIL_NTH: &str = "/proc/thread-self/fail-nth";

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

/// Operations of which each allocation fails in turn: they are done, or not done, and the disk stays right.
pub fn no_memory(bench: &Bench) -> anyhow::Result<()> {
    let script = include_str!("../../scripts/no_memory.py");
    for block_size in [1024, 4096] {
        bench.format(&["-b", &block_size.to_string(), "96M"])?;
        if !Path::new(FAIL_NTH).exists() {
            anyhow::ensure!(is_stock()?, "the debug kernel has no fault injection");
            return Ok(());
        }
        if !Path::new("/sys/kernel/debug/failslab").exists() {
            must("mount", &["-t", "debugfs", "debugfs", "/sys/kernel/debug"])?;
        }
        bench.mount()?;
        script::run(bench, script, block_size)?;
        bench.umount()?;
        bench.fsck()?;
    }
    Ok(())
}
