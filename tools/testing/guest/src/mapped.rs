// SPDX-License-Identifier: GPL-2.0

//! Disks that fail on demand: a device-mapper device over a disk, of which ranges of bytes can be made to fail.

use crate::bench::text;
use crate::bench::Bench;
use crate::command;
use crate::command::must;
use crate::command::run_fed;
use anyhow::Context;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The unit of device-mapper's tables.
const SECTOR: u64 = 512;

/// A device over a disk.
pub struct Mapped {
    name: String,
    path: PathBuf,
    disk: PathBuf,
    bytes: u64,
}

impl Mapped {
    /// A device without faults over the first `bytes` of `disk`.
    pub fn new(disk: &Path, bytes: u64) -> anyhow::Result<Mapped> {
        // The debug kernel has them built in, and no modules' folder: what is missing shows below.
        let output = command::run("modprobe", &["dm-mod"])?;
        if output.status != 0 {
            eprintln!("modprobe dm-mod: {}", output.text.trim());
        }
        let targets = must("dmsetup", &["targets"])?;
        for target in ["linear", "error"] {
            anyhow::ensure!(
                targets.lines().any(|line| line.starts_with(target)),
                "device-mapper has no target {target}:\n{targets}"
            );
        }
        let name = "ferrofs-test".to_string();
        let mut mapped = Mapped {
            path: PathBuf::new(),
            name,
            disk: disk.into(),
            bytes,
        };
        mapped.dmsetup(&["create"], &mapped.table(&[])?)?;
        // Nobody makes the link in /dev/mapper in a guest without udev.
        let columns = ["info", "-c", "--noheadings", "-o", "minor", &mapped.name];
        let minor = must("dmsetup", &columns)?;
        mapped.path = PathBuf::from(format!("/dev/dm-{}", minor.trim()));
        Ok(mapped)
    }

    /// A workbench for it.
    pub fn bench(&self, of: &Bench) -> Bench {
        of.for_disk(&self.path)
    }

    /// Makes requests for these ranges of bytes fail from now on, and for no others. Those under way end first. Flushes
    /// go on to work: a target that fails writes only, as dm-flakey has it, would fail them as well.
    pub fn fail(&self, faults: &[Range<u64>]) -> anyhow::Result<()> {
        self.dmsetup(&["reload"], &self.table(faults)?)?;
        self.stop()?;
        self.go_on()
    }

    /// All requests fail from now on.
    pub fn fail_all(&self) -> anyhow::Result<()> {
        self.fail(std::slice::from_ref(&(0..self.bytes)))
    }

    /// Requests wait from now on, until [`Self::go_on`].
    pub fn stop(&self) -> anyhow::Result<()> {
        must(
            "dmsetup",
            &["suspend", "--noflush", "--nolockfs", &self.name],
        )
        .map(drop)
    }

    /// Ends [`Self::stop`].
    pub fn go_on(&self) -> anyhow::Result<()> {
        must("dmsetup", &["resume", "--noudevsync", &self.name]).map(drop)
    }

    /// No request fails any more.
    pub fn heal(&self) -> anyhow::Result<()> {
        self.fail(&[])
    }

    fn dmsetup(&self, action: &[&str], table: &str) -> anyhow::Result<()> {
        let mut command = Command::new("dmsetup");
        command.args(action).arg(&self.name);
        if action == ["create"] {
            command.args(["--noudevsync", "--noudevrules"]);
        }
        run_fed(&mut command, table)?.success()?;
        Ok(())
    }

    /// The table with these faults, which may come in any order and touch each other but not overlap.
    fn table(&self, faults: &[Range<u64>]) -> anyhow::Result<String> {
        table(text(&self.disk), self.bytes, faults)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // A failed test may have left it mounted; then it stays, and whoever needs the disk next says so.
        let _ = must(
            "dmsetup",
            &["remove", "--noudevsync", "--retry", &self.name],
        );
    }
}

fn table(disk: &str, bytes: u64, faults: &[Range<u64>]) -> anyhow::Result<String> {
    let mut faults: Vec<_> = faults.to_vec();
    faults.sort_by_key(|range| range.start);
    let mut table = String::new();
    let mut at = 0;
    let mut line = |from: u64, to: u64, fails: bool| {
        if from == to {
            return;
        }
        let (start, count) = (from / SECTOR, (to - from) / SECTOR);
        let target = if fails {
            "error".into()
        } else {
            format!("linear {disk} {start}")
        };
        table.push_str(&format!("{start} {count} {target}\n"));
    };
    for range in faults {
        anyhow::ensure!(
            at <= range.start && range.start < range.end && range.end <= bytes,
            "a fault at {range:?} of {bytes} bytes, after {at}"
        );
        anyhow::ensure!(
            (range.start | range.end) % SECTOR == 0,
            "a fault at {range:?} is not in whole sectors"
        );
        line(at, range.start, false);
        line(range.start, range.end, true);
        at = range.end;
    }
    line(at, bytes, false);
    Ok(table)
}

/// Where the bytes of a file lie on its disk, as the file system tells (FIEMAP): ranges of bytes of the disk.
pub fn places(path: &Path) -> anyhow::Result<Vec<Range<u64>>> {
    let text = must("xfs_io", &["-r", "-c", "fiemap", text(path)])?;
    // "	0: [0..7]: 67584..67591", in sectors.
    let mut places = Vec::new();
    for line in text.lines().skip(1).filter(|line| !line.contains("hole")) {
        let place = line.rsplit(": ").next().unwrap_or("");
        let (first, last) = place
            .split_once("..")
            .with_context(|| format!("xfs_io says {line:?}"))?;
        let (first, last): (u64, u64) = (first.trim().parse()?, last.trim().parse()?);
        places.push(first * SECTOR..(last + 1) * SECTOR);
    }
    anyhow::ensure!(!places.is_empty(), "{} is nowhere: {text}", path.display());
    Ok(places)
}

/// Where the blocks of `file`, a path or an inode in debugfs' way ("<8>"), lie on `device`: ranges of bytes.
pub fn places_of(device: &Path, file: &str, block_size: u64) -> anyhow::Result<Vec<Range<u64>>> {
    let request = format!("blocks {file}");
    let text = must("debugfs", &["-R", &request, text(device)])?;
    let mut places: Vec<Range<u64>> = Vec::new();
    // There is a line with the program's version as well.
    let numbers = text.lines().filter(|line| !line.starts_with("debugfs"));
    for word in numbers.flat_map(str::split_whitespace) {
        let block: u64 = word
            .parse()
            .with_context(|| format!("debugfs says {word:?}"))?;
        let start = block * block_size;
        match places.last_mut() {
            Some(last) if last.end == start => last.end += block_size,
            _ => places.push(start..start + block_size),
        }
    }
    anyhow::ensure!(!places.is_empty(), "{file} has no blocks");
    Ok(places)
}

/// What is free on `device`, which is not mounted: ranges of bytes.
pub fn free_places(device: &Path, block_size: u64) -> anyhow::Result<Vec<Range<u64>>> {
    let text = must("dumpe2fs", &[text(device)])?;
    let mut places = Vec::new();
    let lists = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Free blocks: "));
    // The line of the whole file system reads "Free blocks:" and many spaces.
    for word in lists
        .filter(|list| list.contains('-'))
        .flat_map(|list| list.split(", "))
    {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last): (u64, u64) = (first.trim().parse()?, last.trim().parse()?);
        places.push(first * block_size..(last + 1) * block_size);
    }
    anyhow::ensure!(!places.is_empty(), "nothing is free");
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_cover_the_device() {
        let all = table("/dev/sda", 4096, &[]).unwrap();
        assert_eq!(all, "0 8 linear /dev/sda 0\n");
        let some = table("/dev/sda", 8192, &[4096..4608, 0..1024]).unwrap();
        assert_eq!(
            some,
            "0 2 error\n2 6 linear /dev/sda 2\n8 1 error\n9 7 linear /dev/sda 9\n"
        );
        for wrong in [0..100, 0..8192] {
            assert!(table("/dev/sda", 4096, std::slice::from_ref(&wrong)).is_err());
        }
    }
}
