// SPDX-License-Identifier: GPL-2.0

//! The kernel's log, as far as people want to see it.

use anyhow::Context;
use std::path::Path;

/// How many lines of the end are worth showing.
const LINES: usize = 60;

/// Shows the end of the log on standard error.
pub fn show_end(path: &Path) -> anyhow::Result<()> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        eprintln!("vm: the kernel said nothing");
        return Ok(());
    }
    eprintln!("vm: the end of the kernel's log:");
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        eprintln!("  {}", line.trim_end());
    }
    Ok(())
}
