// SPDX-License-Identifier: GPL-2.0

//! The checks: executables that run in the sandbox.

use crate::plan::Case;
use crate::report::Report;
use anyhow::Context;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

fn folder(clone: &Path) -> PathBuf {
    clone.join("tools/testing/checks")
}

/// All checks, by name.
pub fn discover(clone: &Path) -> anyhow::Result<Vec<Case>> {
    let folder = folder(clone);
    let mut names = Vec::new();
    for entry in
        std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
    {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names.into_iter().map(Case::Check).collect())
}

/// Runs one check.
pub fn run(name: &str, clone: &Path, report: &Report) -> anyhow::Result<()> {
    let start = Instant::now();
    let path = report.log_path(name);
    let log = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let status = Command::new(folder(clone).join(name))
        .current_dir(clone)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .with_context(|| format!("running the check {name}"))?;
    let case = Case::Check(name.into());
    if status.success() {
        report.passed(&case, start.elapsed());
    } else {
        report.failed(&case, &status.to_string(), Some(&path));
    }
    Ok(())
}
