// SPDX-License-Identifier: GPL-2.0

//! Tests that are Python scripts, in `scripts/`: for what has no safe interface in Rust, mappings above all.

use crate::bench::text;
use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::command;
use crate::manifest::Manifest;
use anyhow::Context;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// What all scripts begin with.
const COMMON: &str = include_str!("../../scripts/common.py");

/// Formats the first `mebibytes` of the disk with this block size, after they were filled with a pattern: a block that
/// is shown before it was written gives itself away.
pub fn format_over_pattern(
    bench: &Bench,
    block_size: usize,
    mebibytes: usize,
) -> anyhow::Result<()> {
    let device = File::options().write(true).open(&bench.disk)?;
    let pattern = vec![0xaa; 1 << 20];
    for mebibyte in 0..mebibytes as u64 {
        device.write_all_at(&pattern, mebibyte << 20)?;
    }
    device.sync_all()?;
    let (block_size, size) = (block_size.to_string(), format!("{mebibytes}M"));
    bench.format(&["-b", &block_size, "-E", "nodiscard", &size])
}

/// Runs `script` in the mounted directory.
pub fn run(bench: &Bench, script: &str, block_size: usize) -> anyhow::Result<()> {
    // As a file, so that Python can tell which line failed.
    let program = "/tmp/ferrofs-test.py";
    fs::write(program, format!("{COMMON}\n{script}"))?;
    let block_size = block_size.to_string();
    let arguments = [program, text(&bench.dir), &block_size, &bench.fstype];
    let said = command::must("python3", &arguments)?;
    if !said.trim().is_empty() {
        eprintln!("{}", said.trim());
    }
    Ok(())
}

/// Runs `script` on a fresh file system of each block size; what it leaves must be the same after a remount, and to the
/// reference.
pub fn run_and_compare(
    bench: &Bench,
    script: &str,
    mebibytes: usize,
    after: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for block_size in [1024, 4096] {
        format_over_pattern(bench, block_size, mebibytes)?;
        bench.mount()?;
        run(bench, script, block_size).with_context(|| format!("blocks of {block_size} bytes"))?;
        after().with_context(|| format!("blocks of {block_size} bytes"))?;
        let left = Manifest::read(&bench.dir)?;
        anyhow::ensure!(left.len() > 1, "the script left no file");
        for fstype in [bench.fstype.as_str(), REFERENCE] {
            bench.cycle_checked(fstype, "ro")?;
            left.expect(&Manifest::read(&bench.dir)?)
                .with_context(|| format!("blocks of {block_size} bytes, read by {fstype}"))?;
        }
        bench.umount()?;
    }
    Ok(())
}
