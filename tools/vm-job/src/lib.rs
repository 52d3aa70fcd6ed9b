// SPDX-License-Identifier: GPL-2.0

//! The contract between `vm-runner` on the host and `guest-agent`, which is process 1 of the guest.
//!
//! The runner writes a [`Job`] to a file that the guest sees and names it on the kernel's command line. The agent
//! answers on the status channel with one [`Report`] per line; the command's output goes through channels of its own,
//! so that the kernel's messages never mix with it.

use anyhow::Context;
use serde::Deserialize;
use serde::Serialize;
use std::path::Path;
use std::path::PathBuf;

/// How the guest's root and channels reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guest {
    /// A full virtual machine: virtiofs and virtio-serial ports with the names of [`Channel::name`].
    Qemu,
    /// User Mode Linux: hostfs and serial lines in the order of [`Channel`].
    Uml,
}

/// A byte stream between guest and host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Standard output of the command.
    Output = 0,
    /// Standard error of the command.
    Error = 1,
    /// The agent's reports.
    Status = 2,
    /// The terminal of an interactive command, both ways.
    Terminal = 3,
}

impl Channel {
    /// All channels, in the order of their serial lines.
    pub const ALL: [Channel; 4] = [
        Channel::Output,
        Channel::Error,
        Channel::Status,
        Channel::Terminal,
    ];

    /// The name of the channel's virtio-serial port.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Output => "ferrofs.output",
            Channel::Error => "ferrofs.error",
            Channel::Status => "ferrofs.status",
            Channel::Terminal => "ferrofs.terminal",
        }
    }
}

/// The tags under which a QEMU guest mounts the sandbox's root: [`ROOT_TAG`] for what does not change while it runs,
/// cached without limit, and [`SHARE_TAG`] for the shared folders, which the host may change at any time.
pub const ROOT_TAG: &str = "root";
/// See [`ROOT_TAG`].
pub const SHARE_TAG: &str = "share";

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What a guest is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which kind of guest it is.
    pub guest: Guest,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The whole environment of the command.
    pub environment: Vec<(String, String)>,
    /// The command's working directory; the root folder is taken if the guest has no such folder.
    pub directory: PathBuf,
    /// Folders of the host that the guest sees, and writes to, under the same path.
    pub shares: Vec<PathBuf>,
    /// Kernel modules to load before the command.
    pub modules: Vec<String>,
    /// Block devices that must have appeared before the command starts.
    pub disks: Vec<PathBuf>,
    /// The command runs on a terminal of this size, behind [`Channel::Terminal`]; without one its standard input is
    /// empty and its output goes to [`Channel::Output`] and [`Channel::Error`].
    pub terminal: Option<TerminalSize>,
}

impl Job {
    /// Writes the job to `path`.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a job that [`Job::save`] wrote.
    pub fn load(path: &Path) -> anyhow::Result<Job> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parsing {}", path.display()))
    }
}

/// What the agent has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The guest is set up and the command starts.
    Started,
    /// The command exited with this status.
    Exited(i32),
    /// The command was killed by this signal.
    Killed(i32),
    /// The guest could not be set up, or the command could not be started.
    Failed(String),
}

impl Report {
    /// The report as one line, with its end.
    pub fn to_line(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Reads a line that [`Report::to_line`] made.
    pub fn from_line(line: &str) -> anyhow::Result<Report> {
        serde_json::from_str(line.trim()).with_context(|| format!("a report that reads {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_one_line_and_come_back() {
        let failed = Report::Failed("no disk:\n\"nvme0n1\"".into());
        for report in [
            Report::Started,
            Report::Exited(3),
            Report::Killed(9),
            failed,
        ] {
            let line = report.to_line().unwrap();
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(Report::from_line(&line).unwrap(), report);
        }
    }

    #[test]
    fn garbage_on_the_status_channel_is_an_error() {
        assert!(Report::from_line("Started, maybe").is_err());
    }
}
