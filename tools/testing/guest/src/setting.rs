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
        let _ = fs::write(&self.path, self.old.trim());
    }
}

/// Limits of dirty memory in bytes, put back to what they were when this is dropped.
pub struct DirtyBytes {
    old: [(&'static str, String); 2],
}

impl DirtyBytes {
    /// From `background` bytes on flushers write, above `limit` bytes writers wait.
    pub fn set(background: u64, limit: u64) -> anyhow::Result<DirtyBytes> {
        let old = [
            in_force("dirty_background_bytes", "dirty_background_ratio")?,
            in_force("dirty_bytes", "dirty_ratio")?,
        ];
        let limits = DirtyBytes { old };
        write_vm("dirty_background_bytes", &background.to_string())?;
        write_vm("dirty_bytes", &limit.to_string())?;
        Ok(limits)
    }
}

impl Drop for DirtyBytes {
    fn drop(&mut self) {
        for (name, value) in &self.old {
            let _ = write_vm(name, value);
        }
    }
}

/// Which of two settings that stand in for each other is in force, and its value: the other one reads 0.
fn in_force(bytes: &'static str, ratio: &'static str) -> anyhow::Result<(&'static str, String)> {
    let value = read_vm(bytes)?;
    if value != "0" {
        return Ok((bytes, value));
    }
    Ok((ratio, read_vm(ratio)?))
}

fn read_vm(name: &str) -> anyhow::Result<String> {
    let value = fs::read_to_string(format!("/proc/sys/vm/{name}"))
        .with_context(|| format!("reading vm.{name}"))?;
    Ok(value.trim().into())
}

fn write_vm(name: &str, value: &str) -> anyhow::Result<()> {
    fs::write(format!("/proc/sys/vm/{name}"), value)
        .with_context(|| format!("writing {value} to vm.{name}"))
}

/// Nobody but who is told to writes what is dirty, however long that takes, and no writer waits, for as long as this
/// lives. As the kernel has it, flushers look around five seconds after a disk came to have something dirty, and then
/// write what is old, and what exceeds the disk's share of the background limit: an eighth for a disk that was idle.
pub struct Quiet {
    _age: Setting,
    _limits: DirtyBytes,
}

impl Quiet {
    /// Nothing is old before an hour is over, and nothing is much: the limits are the memory of the guest and half of it.
    ///
    /// How often flushers look around is left alone: a change of that has all of them write.
    pub fn set() -> anyhow::Result<Quiet> {
        const MIB: u64 = 1 << 20;
        Ok(Quiet {
            _age: Setting::vm("dirty_expire_centisecs", "360000")?,
            _limits: DirtyBytes::set(1024 * MIB, 2048 * MIB)?,
        })
    }
}
