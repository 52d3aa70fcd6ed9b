// SPDX-License-Identifier: GPL-2.0

//! Process 1 of a guest. It makes the guest usable (an overlay over the sandbox's root, the pseudo filesystems, shared
//! folders, disks), runs one command, reports how that ended and powers the guest off.
//!
//! usage: guest-agent JOB-FILE

mod channels;
mod command;
mod filesystems;

use anyhow::Context;
use nix::sys::reboot::reboot;
use nix::sys::reboot::RebootMode;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;
use vm_job::Channel;
use vm_job::Job;
use vm_job::Report;

/// How long a disk may take to appear after its driver was loaded.
const DISK_TIMEOUT: Duration = Duration::from_secs(60);

fn main() {
    let failure = match run() {
        Ok(()) => None,
        Err(error) => Some(format!("{error:#}")),
    };
    if let Some(text) = failure {
        // The kernel log is the one place that is sure to be heard when the channels could not be set up.
        if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
            // A failure of this last resort has nowhere left to be told.
            let _ = writeln!(log, "<3>guest-agent: {text}");
        }
        eprintln!("guest-agent: {text}");
    }
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        Err(error) => eprintln!("guest-agent: powering off: {error}"),
    }
}

/// The agent's whole work but for powering off.
fn run() -> anyhow::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .context("the kernel's command line names no job file")?;
    filesystems::mount_proc()?;
    let job = Job::load(Path::new(&path))?;
    filesystems::enter_overlay(&job)?;
    filesystems::mount_pseudo_filesystems()?;

    let mut status = channels::open(job.guest, Channel::Status)?;
    let report =
        work(&job, &mut status).unwrap_or_else(|error| Report::Failed(format!("{error:#}")));
    nix::unistd::sync();
    status.write_all(report.to_line()?.as_bytes())?;
    channels::drain(&status)
}

/// Sets up the rest, runs the command, and tells how it ended.
fn work(job: &Job, status: &mut File) -> anyhow::Result<Report> {
    nix::unistd::sethostname("ferrofs").context("setting the host name")?;
    load_modules(&job.modules)?;
    wait_for_disks(job)?;
    status.write_all(Report::Started.to_line()?.as_bytes())?;
    command::run(job)
}

fn load_modules(modules: &[String]) -> anyhow::Result<()> {
    if modules.is_empty() {
        return Ok(());
    }
    let status = Command::new("/sbin/modprobe")
        .arg("-a")
        .args(modules)
        .status()
        .context("running modprobe")?;
    anyhow::ensure!(status.success(), "modprobe -a {modules:?}: {status}");
    Ok(())
}

/// Drivers find their disks in their own time.
fn wait_for_disks(job: &Job) -> anyhow::Result<()> {
    let start = Instant::now();
    for disk in &job.disks {
        while !disk.exists() {
            anyhow::ensure!(
                start.elapsed() < DISK_TIMEOUT,
                "the disk {} did not appear within {DISK_TIMEOUT:?}",
                disk.display()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}
