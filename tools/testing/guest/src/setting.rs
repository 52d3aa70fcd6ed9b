// SPDX-License-Identifier: GPL-2.0

//! Settings of the kernel that are put back when a test is over.

use anyhow::Context;
use std::fs;
use std::path::PathBuf;

/// A setting of the kernel that is put back when this is dropped.
pub struct Setting {
    path: PathBuf,
    old: String,
}

impl Setting {
    /// Writes `value` to a file of sysfs or procfs.
    pub fn set(path: impl Into<PathBuf>, value: &str) -> anyhow::Result<Setting> {
        let path = path.into();
        let old =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        fs::write(&path, value)
            .with_context(|| format!("writing {value} to {}", path.display()))?;
        Ok(Setting { path, old })
    }

    /// A file of `/proc/sys/vm`.
    pub fn vm(name: &str, value: &str) -> anyhow::Result<Setting> {
        Setting::set(format!("/proc/sys/vm/{name}"), value)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // A ratio that reads 0 is one that its twin in bytes stands in for: writing that 0 puts the ratio to 0.
        if self.old.trim() != "0" {
            let _ = fs::write(&self.path, self.old.trim());
        }
    }
}

/// Limits of dirty memory in bytes, put back to the kernel's ratios when this is dropped.
pub struct DirtyBytes;

impl DirtyBytes {
    /// From `background` bytes on flushers write, above `limit` bytes writers wait.
    pub fn set(background: u64, limit: u64) -> anyhow::Result<DirtyBytes> {
        fs::write(
            "/proc/sys/vm/dirty_background_bytes",
            background.to_string(),
        )?;
        fs::write("/proc/sys/vm/dirty_bytes", limit.to_string())?;
        Ok(DirtyBytes)
    }
}

impl Drop for DirtyBytes {
    fn drop(&mut self) {
        let _ = fs::write("/proc/sys/vm/dirty_background_ratio", "10");
        let _ = fs::write("/proc/sys/vm/dirty_ratio", "20");
    }
}
