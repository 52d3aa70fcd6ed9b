// SPDX-License-Identifier: GPL-2.0

//! The log of the kernel's `dm-log-writes` target: every write to a device, in the order in which it became durable.
//!
//! The kernel's `Documentation/admin-guide/device-mapper/log-writes.rst` tells what is logged when; the structures stand
//! at the top of `drivers/md/dm-log-writes.c`. All numbers are little-endian. The first sector of the log holds
//!
//! | bytes  | what                                                                 |
//! |--------|----------------------------------------------------------------------|
//! | 0..8   | magic number, [`MAGIC`]                                              |
//! | 8..16  | version, 1                                                           |
//! | 16..24 | number of entries                                                    |
//! | 24..28 | size of a sector in bytes, which is that of the device that is logged |
//!
//! and after it come the entries. Each begins with a sector of
//!
//! | bytes  | what                                                                 |
//! |--------|----------------------------------------------------------------------|
//! | 0..8   | sector of the device                                                 |
//! | 8..16  | number of sectors                                                    |
//! | 16..24 | flags: [`FLUSH`], [`FUA`], [`DISCARD`], [`MARK`], 16 for metadata      |
//! | 24..32 | length of the text of a mark, which follows in the same sector       |
//!
//! and, unless it is a discard, the sectors that were written follow it.
//!
//! A write is logged when a flush has brought it to the disk, right before that flush: first all writes that had
//! completed when the flush was sent, then the flush itself. A write that goes around the cache (FUA) is logged when it
//! completes. A mark is logged at once.

use anyhow::Context;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The magic number of a log.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// The cache was flushed before this was done.
const FLUSH: u64 = 1 << 0;
/// This went around the cache.
const FUA: u64 = 1 << 1;
/// The device was told that nobody needs these sectors.
const DISCARD: u64 = 1 << 2;
/// A mark of the program that made the log.
const MARK: u64 = 1 << 3;
/// No device that a test logs writes more at once.
const MAX_LENGTH: u64 = 1 << 30;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was done.
    pub action: Action,
    /// Whether a flush came with it: all that stands before it in the log is on the disk.
    pub flush: bool,
    /// Whether it went around the cache.
    pub fua: bool,
}

/// What an entry tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bytes were written.
    Write {
        /// Where on the device, in bytes.
        offset: u64,
        /// How many.
        length: u64,
        /// Where in the log they are.
        data: u64,
    },
    /// Bytes were discarded.
    Discard,
    /// Only the flush.
    Nothing,
    /// A mark.
    Mark(String),
}

impl Entry {
    /// Whether a crash right after this finds a disk that was not there before: the device has answered that something
    /// is durable.
    pub fn is_boundary(&self) -> bool {
        self.flush || self.fua
    }
}

/// A log.
pub struct Log {
    file: File,
    /// All entries, in order.
    pub entries: Vec<Entry>,
}

impl Log {
    /// Reads the log on the device (or in the file) at `path`.
    pub fn open(path: &Path) -> anyhow::Result<Log> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let mut log = Log {
            file,
            entries: Vec::new(),
        };
        log.read_entries()
            .with_context(|| format!("reading the log on {}", path.display()))?;
        Ok(log)
    }

    fn read_entries(&mut self) -> anyhow::Result<()> {
        let mut head = [0; 512];
        self.file.read_exact_at(&mut head, 0)?;
        let number = |bytes: &[u8], at: usize| -> u64 {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        anyhow::ensure!(
            number(&head, 0) == MAGIC && number(&head, 8) == VERSION,
            "it does not begin as a log of version {VERSION}"
        );
        let count = number(&head, 16);
        let sector = number(&head, 24) & 0xffff_ffff;
        anyhow::ensure!(
            sector.is_power_of_two() && (512..=65536).contains(&sector),
            "its sectors have {sector} bytes"
        );
        let mut at = sector;
        for index in 0..count {
            self.file.read_exact_at(&mut head, at)?;
            at += sector;
            let flags = number(&head, 16);
            let (start, sectors, text) = (number(&head, 0), number(&head, 8), number(&head, 24));
            let lengths = sectors.checked_mul(sector).zip(start.checked_mul(sector));
            let Some((length, offset)) = lengths.filter(|(length, _)| *length <= MAX_LENGTH) else {
                anyhow::bail!("entry {index} of {count} is nonsense");
            };
            let action = if flags & MARK != 0 {
                let text = head
                    .get(32..32 + text.min(480) as usize)
                    .unwrap_or_default();
                Action::Mark(String::from_utf8_lossy(text).into_owned())
            } else if flags & DISCARD != 0 {
                Action::Discard
            } else if length == 0 {
                Action::Nothing
            } else {
                let data = at;
                at += length;
                Action::Write {
                    offset,
                    length,
                    data,
                }
            };
            self.entries.push(Entry {
                action,
                flush: flags & FLUSH != 0,
                fua: flags & FUA != 0,
            });
        }
        Ok(())
    }

    /// The bytes that an entry has written: where, and what.
    pub fn written(&self, entry: &Entry) -> anyhow::Result<Option<(u64, Vec<u8>)>> {
        let Action::Write {
            offset,
            length,
            data,
        } = entry.action
        else {
            return Ok(None);
        };
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact_at(&mut bytes, data)
            .context("reading what was written from the log")?;
        Ok(Some((offset, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Sectors of a log, as the kernel writes them.
    fn entry(sector: u64, sectors: u64, flags: u64, text: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [sector, sectors, flags, text.len() as u64]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(512, 0);
        bytes.extend_from_slice(data);
        bytes
    }

    fn log_of(entries: &[Vec<u8>], name: &str) -> anyhow::Result<Log> {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let mut bytes: Vec<u8> = [MAGIC, VERSION, entries.len() as u64, 512]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        bytes.resize(512, 0);
        bytes.extend(entries.iter().flatten());
        File::create(&path).unwrap().write_all(&bytes).unwrap();
        let log = Log::open(&path);
        std::fs::remove_file(&path).unwrap();
        log
    }

    #[test]
    fn every_kind_of_entry_is_read() {
        let log = log_of(
            &[
                entry(8, 2, 0, "", &[7; 1024]),
                entry(0, 0, FLUSH, "", &[]),
                entry(100, 4, DISCARD, "", &[]),
                entry(0, 0, MARK, "here", &[]),
                entry(16, 1, FUA, "", &[9; 512]),
            ],
            "log-kinds",
        )
        .unwrap();
        assert_eq!(
            log.written(&log.entries[0]).unwrap(),
            Some((4096, vec![7; 1024]))
        );
        assert!(log.entries[1].is_boundary() && log.entries[1].action == Action::Nothing);
        assert_eq!(log.entries[2].action, Action::Discard);
        assert_eq!(log.entries[3].action, Action::Mark("here".into()));
        assert_eq!(
            log.written(&log.entries[4]).unwrap(),
            Some((8192, vec![9; 512]))
        );
        assert!(log.entries[4].fua && !log.entries[0].is_boundary());
    }

    #[test]
    fn what_is_no_log_is_refused() {
        assert!(log_of(&[entry(1, u64::MAX, 0, "", &[])], "log-huge").is_err());
        let path = std::env::temp_dir().join(format!("no-log-{}", std::process::id()));
        std::fs::write(&path, [0; 4096]).unwrap();
        assert!(Log::open(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
