// SPDX-License-Identifier: GPL-2.0

//! What is mounted in a guest.

use anyhow::Context;
use nix::mount::mount;
use nix::mount::umount2;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use std::fs::create_dir_all;
use std::path::Path;
use std::process::Command;
use vm_job::Guest;
use vm_job::Job;
use vm_job::SHARE_TAG;

/// Where the new root is put together. Exists, empty, in every Debian root.
const STAGE: &str = "/mnt";

fn mount_one(
    source: &str,
    target: &Path,
    kind: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> anyhow::Result<()> {
    mount(Some(source), target, Some(kind), flags, options)
        .with_context(|| format!("mounting {kind} on {}", target.display()))
}

/// Mounts /proc of the root that the kernel mounted, which modprobe wants.
pub fn mount_proc() -> anyhow::Result<()> {
    mount_one("proc", Path::new("/proc"), "proc", MsFlags::empty(), None)
}

/// Changes to a root that shows the sandbox's and keeps all writes in memory, with the shared folders in it.
pub fn enter_overlay(job: &Job) -> anyhow::Result<()> {
    if job.guest == Guest::Qemu {
        let status = Command::new("/sbin/modprobe")
            .arg("overlay")
            .status()
            .context("running modprobe")?;
        anyhow::ensure!(status.success(), "modprobe overlay: {status}");
    }
    let stage = Path::new(STAGE);
    let root = stage.join("root");
    mount_one("overlay", stage, "tmpfs", MsFlags::empty(), None)?;
    for folder in ["upper", "work", "root", "share"] {
        create_dir_all(stage.join(folder)).with_context(|| format!("making {STAGE}/{folder}"))?;
    }
    let options = format!("lowerdir=/,upperdir={STAGE}/upper,workdir={STAGE}/work");
    mount_one(
        "overlay",
        &root,
        "overlay",
        MsFlags::empty(),
        Some(&options),
    )?;
    mount_shares(job, stage, &root)?;

    let put_old = root.join("mnt");
    nix::unistd::pivot_root(&root, &put_old).context("changing the root")?;
    nix::unistd::chdir("/").context("changing to the new root")?;
    umount2(STAGE, MntFlags::MNT_DETACH).context("unmounting the old root")
}

fn mount_shares(job: &Job, stage: &Path, root: &Path) -> anyhow::Result<()> {
    if job.shares.is_empty() {
        return Ok(());
    }
    let all = stage.join("share");
    match job.guest {
        Guest::Qemu => mount_one(SHARE_TAG, &all, "virtiofs", MsFlags::empty(), None)?,
        Guest::Uml => mount_one("none", &all, "hostfs", MsFlags::empty(), Some("/"))?,
    }
    for share in &job.shares {
        let relative = share
            .strip_prefix("/")
            .with_context(|| format!("the shared folder {} is not absolute", share.display()))?;
        let target = root.join(relative);
        create_dir_all(&target).with_context(|| format!("making {}", share.display()))?;
        mount(
            Some(&all.join(relative)),
            &target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .with_context(|| format!("sharing {}", share.display()))?;
    }
    Ok(())
}

/// Mounts what a running system has: /proc, /sys and what hangs below it, /dev, and memory for temporary files.
pub fn mount_pseudo_filesystems() -> anyhow::Result<()> {
    let all: [(&str, &str, Option<&str>); 11] = [
        ("proc", "/proc", None),
        ("sysfs", "/sys", None),
        ("devtmpfs", "/dev", None),
        ("devpts", "/dev/pts", Some("gid=5,mode=620,ptmxmode=666")),
        ("tmpfs", "/dev/shm", Some("mode=1777")),
        ("tmpfs", "/run", Some("mode=755")),
        ("tmpfs", "/tmp", Some("mode=1777")),
        ("debugfs", "/sys/kernel/debug", None),
        ("tracefs", "/sys/kernel/tracing", None),
        ("cgroup2", "/sys/fs/cgroup", None),
        ("configfs", "/sys/kernel/config", None),
    ];
    for (kind, target, options) in all {
        let target = Path::new(target);
        // A kernel without the feature has no such folder in sysfs, and a test that needs it says so itself.
        if target.starts_with("/sys/") && !target.exists() {
            continue;
        }
        if target.starts_with("/dev/") {
            create_dir_all(target).with_context(|| format!("making {}", target.display()))?;
        }
        mount_one(kind, target, kind, MsFlags::empty(), options)?;
    }
    Ok(())
}
