// SPDX-License-Identifier: GPL-2.0

//! Boots a guest, runs one command in it, streams its output and exits with its status. `tools/vm` starts this program
//! inside the sandbox, with these variables set:
//!
//! - `FERROFS_RELEASE`: the release of the stock kernel;
//! - `FERROFS_DEBUG_KERNEL`: the debug kernel's program, if it was built;
//! - `FERROFS_KO_STOCK`, `FERROFS_KO_DEBUG`: the module for the two kernels, each if it was built; a `memfs.ko` beside it
//!   is given to the guest, too;
//! - `FERROFS_SCRATCH`: a folder for disks and other passing files;
//! - `FERROFS_SAMPLE_TAR`: an archive of a real tree of files, which is passed on to the guest;
//! - `FERROFS_STAMPS`: where the answer of the probe for KVM is remembered.

mod guest;
mod kvm;
mod log;
mod nbd;
mod options;
mod qemu;
mod terminal;
mod uml;
mod write_cache;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::Parser;
use guest::Outcome;
use options::Disk;
use options::Kernel;
use options::Options;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use vm_job::Guest;
use vm_job::Job;

/// The status that says that the guest, not the command, failed.
const GUEST_FAILED: u8 = 125;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // What cannot be printed has no other place to go.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(GUEST_FAILED),
            };
        }
    };
    match run(&options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("vm: {error:#}");
            ExitCode::from(GUEST_FAILED)
        }
    }
}

/// The files of a guest that go with it.
pub struct Files {
    /// What the guest is to do.
    pub job: PathBuf,
    /// What the kernel says.
    pub log: PathBuf,
    /// The two disks.
    pub nvme: PathBuf,
    /// See [`Files::nvme`].
    pub sata: PathBuf,
}

fn run(options: &Options) -> anyhow::Result<u8> {
    let scratch_parent = PathBuf::from(variable("FERROFS_SCRATCH")?);
    let scratch = tempfile::Builder::new()
        .prefix("vm.")
        .tempdir_in(&scratch_parent)
        .with_context(|| format!("making a folder in {}", scratch_parent.display()))?;
    let scratch = scratch.path();
    let files = Files {
        job: scratch.join("job.json"),
        log: match &options.log {
            Some(path) => std::path::absolute(path).context("finding the log's folder")?,
            None => scratch.join("kernel.log"),
        },
        nvme: provide_disk(&options.nvme, scratch.join("nvme.img"))?,
        sata: provide_disk(&options.sata, scratch.join("sata.img"))?,
    };
    anyhow::ensure!(
        files.nvme != files.sata,
        "the NVMe and the SATA disk cannot be one file"
    );

    let job = make_job(options, scratch)?;
    job.save(&files.job)?;
    let outcome = match options.kernel {
        Kernel::Stock => qemu::run(options, &job, &files, kvm::wanted(options.kvm, scratch)?),
        Kernel::Debug => uml::run(options, &job, &files),
    }?;
    Ok(match outcome {
        Outcome::Exited(status) => status as u8,
        Outcome::Killed(signal) => 128 + signal as u8,
        failed @ (Outcome::Failed(_) | Outcome::Stuck) => {
            match failed {
                Outcome::Failed(why) => eprintln!("vm: {why}"),
                _ => eprintln!("vm: the guest does not boot"),
            }
            match &options.log {
                Some(path) => eprintln!("vm: the kernel's log is {}", path.display()),
                None => log::show_end(&files.log)?,
            }
            GUEST_FAILED
        }
    })
}

/// The value of a variable that `tools/vm` sets.
pub fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: start this as tools/vm"))
}

fn provide_disk(disk: &Disk, fresh: PathBuf) -> anyhow::Result<PathBuf> {
    match disk {
        Disk::File(path) => Ok(path.clone()),
        Disk::Fresh(size) => {
            let file =
                File::create(&fresh).with_context(|| format!("making {}", fresh.display()))?;
            file.set_len(size.0)
                .with_context(|| format!("making a disk of {} bytes", size.0))?;
            Ok(fresh)
        }
    }
}

fn make_job(options: &Options, scratch: &Path) -> anyhow::Result<Job> {
    let (guest, nvme, sata, module) = match options.kernel {
        Kernel::Stock => (Guest::Qemu, "/dev/nvme0n1", "/dev/sda", "FERROFS_KO_STOCK"),
        Kernel::Debug => (Guest::Uml, "/dev/ubda", "/dev/ubdb", "FERROFS_KO_DEBUG"),
    };
    let mut environment: Vec<(String, String)> = [
        ("PATH", variable("PATH")?.as_str()),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("NVME_DISK", nvme),
        ("SATA_DISK", sata),
        (
            "FERROFS_SAMPLE_TAR",
            variable("FERROFS_SAMPLE_TAR")?.as_str(),
        ),
        (
            "FERROFS_KERNEL",
            if guest == Guest::Uml {
                "debug"
            } else {
                "stock"
            },
        ),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    let built = match &options.module {
        Some(path) => Some(path.clone()),
        None => std::env::var_os(module).map(PathBuf::from),
    };
    if let Some(built) = built {
        // A copy, as a build of another process may replace the module while the guest runs.
        let copy = scratch.join("ferrofs.ko");
        std::fs::copy(&built, &copy).with_context(|| format!("copying {}", built.display()))?;
        environment.push(("FERROFS_KO".into(), path_text(&copy)?));
        // The sample is built along with it.
        let sample = built.with_file_name("memfs.ko");
        if sample.exists() {
            let copy = scratch.join("memfs.ko");
            std::fs::copy(&sample, &copy)
                .with_context(|| format!("copying {}", sample.display()))?;
            environment.push(("MEMFS_KO".into(), path_text(&copy)?));
        }
    }
    let terminal = if options.terminal {
        environment.push((
            "TERM".into(),
            std::env::var("TERM").unwrap_or_else(|_| "dumb".into()),
        ));
        Some(terminal::size())
    } else {
        None
    };
    environment.extend(options.env.iter().cloned());
    let mut shares = Vec::new();
    for share in &options.share {
        let path = share
            .canonicalize()
            .with_context(|| format!("finding the folder {} to share", share.display()))?;
        anyhow::ensure!(path.is_dir(), "{} is not a folder", path.display());
        shares.push(path);
    }
    Ok(Job {
        guest,
        command: options.command.clone(),
        environment,
        directory: std::env::current_dir().context("finding the working directory")?,
        shares,
        modules: match guest {
            Guest::Qemu => ["nvme", "ahci", "sd_mod"].map(String::from).into(),
            Guest::Uml => Vec::new(),
        },
        disks: vec![nvme.into(), sata.into()],
        terminal,
    })
}

/// A path as text, for command lines.
pub fn path_text(path: &Path) -> anyhow::Result<String> {
    path.to_str()
        .map(String::from)
        .with_context(|| format!("the path {} is not UTF-8", path.display()))
}
