// SPDX-License-Identifier: GPL-2.0

//! The kernel's log: what it said since a moment, and which of that is a complaint.

use anyhow::Context;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::OpenOptionsExt;

/// Words that no healthy kernel says, whatever their level.
const ALARMS: [&str; 19] = [
    "WARNING:",
    "BUG:",
    "kernel BUG",
    "KASAN",
    "UBSAN",
    "KFENCE",
    "Oops",
    "Call Trace",
    "general protection",
    "possible circular locking",
    "possible recursive locking",
    "inconsistent lock state",
    "suspicious RCU usage",
    "sleeping function called",
    "INFO: task",
    "refcount_t:",
    "DEBUG_LOCKS_WARN_ON",
    "rust_kernel: panicked",
    "blocked for more than",
];

/// What makes everything that follows in this guest worthless.
const FATAL: [&str; 6] = [
    "BUG:",
    "kernel BUG",
    "Oops",
    "general protection",
    "KASAN",
    "panicked",
];

/// How the kernel's ext4 begins to say that it has told of 64 mounts and unmounts in 30 seconds and did not of more. Which
/// test of a guest meets it is a matter of how fast the tests before it were.
const MOUNTS_UNTOLD: [&str; 2] = ["EXT4-fs mount: ", "EXT4-fs unmount: "];

/// One message.
#[derive(Clone, Debug)]
pub struct Line {
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// The message without its prefix.
    pub text: String,
}

impl Line {
    /// Whether a test without a reason to expect it fails for this message. `filesystem` is the driver under test.
    pub fn is_complaint(&self, filesystem: &str) -> bool {
        self.level <= 3
            || self.is_alarm()
            || (self.level <= 4
                && !self.is_limit_on_mounts()
                && [filesystem, "ferrofs", "vfs: ", "EXT4-fs", "JBD2"]
                    .iter()
                    .any(|name| self.text.contains(name)))
    }

    fn is_limit_on_mounts(&self) -> bool {
        let begins = |words: &&str| self.text.starts_with(words);
        MOUNTS_UNTOLD.iter().any(begins) && self.text.ends_with(" callbacks suppressed")
    }

    /// Whether the kernel found something wrong with itself, which no test may expect.
    pub fn is_alarm(&self) -> bool {
        ALARMS.iter().any(|alarm| self.text.contains(alarm))
    }

    /// Whether the kernel's state cannot be trusted after this message.
    pub fn is_fatal(&self) -> bool {
        FATAL.iter().any(|alarm| self.text.contains(alarm))
    }
}

/// A reader of the log.
pub struct KernelLog {
    file: File,
}

impl KernelLog {
    /// Sees what is said from now on.
    pub fn from_now() -> anyhow::Result<KernelLog> {
        let mut log = KernelLog::from_boot()?;
        log.file
            .seek(SeekFrom::End(0))
            .context("skipping the old part of the kernel's log")?;
        Ok(log)
    }

    /// Sees what is still there of what was said since the boot.
    pub fn from_boot() -> anyhow::Result<KernelLog> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
            .open("/dev/kmsg")
            .context("opening the kernel's log")?;
        Ok(KernelLog { file })
    }

    /// All that was said since the last call.
    pub fn drain(&mut self) -> anyhow::Result<Vec<Line>> {
        let mut lines = Vec::new();
        let mut buffer = vec![0; 16384];
        loop {
            match self.file.read(&mut buffer) {
                Ok(length) => lines.push(parse(&String::from_utf8_lossy(&buffer[..length]))),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(lines),
                // Messages were overwritten before they were read: what was lost may have been a complaint.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => lines.push(Line {
                    level: 3,
                    text: "(messages of the kernel were lost: too many came)".into(),
                }),
                Err(error) => return Err(error).context("reading the kernel's log"),
            }
        }
    }
}

/// A record reads "PRIORITY,SEQUENCE,TIME,FLAGS;TEXT", with properties in further lines.
fn parse(record: &str) -> Line {
    let (prefix, text) = record.split_once(';').unwrap_or(("", record));
    let priority: u32 = prefix
        .split(',')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    Line {
        level: (priority & 7) as u8,
        text: text.lines().next().unwrap_or("").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_found_and_news_is_not() {
        let news = parse("6,339,5140900,-;ferrofs (nvme0n1): mounted\n SUBSYSTEM=block\n");
        assert_eq!(
            (news.level, news.text.as_str()),
            (6, "ferrofs (nvme0n1): mounted")
        );
        assert!(!news.is_complaint("ferrofs"));
        assert!(parse("3,340,1,-;nvme0n1: I/O error").is_complaint("ferrofs"));
        assert!(parse("4,341,1,-;ferrofs (sda): inode 12: bad").is_complaint("ferrofs"));
        assert!(parse("4,342,1,-;WARNING: CPU: 0 PID: 1 at fs/inode.c:1").is_complaint("ext4"));
        assert!(!parse("4,343,1,-;warning of something else").is_complaint("ext4"));
        assert!(!parse("4,344,1,-;EXT4-fs mount: 2 callbacks suppressed").is_complaint("ext4"));
        assert!(parse("4,345,1,-;EXT4-fs: 2 callbacks suppressed").is_complaint("ext4"));
    }
}
