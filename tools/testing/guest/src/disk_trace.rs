// SPDX-License-Identifier: GPL-2.0

//! What tracepoints tell of a disk and of the page cache: requests, and the folios that files get.

use crate::bench::Bench;
use crate::tests::writeback::Trace;
use anyhow::Context;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The unit of the block layer's tracepoints.
pub const SECTOR: u64 = 512;

/// The event of a bio that is given to a disk.
pub const BIO: &str = "block_bio_queue";
/// The event of a request that a disk is given, which may be made of many bios.
pub const ISSUED: &str = "block_rq_issue";

/// A request to a disk, as a tracepoint of the block layer shows it.
#[derive(Debug)]
pub struct Request {
    /// The letters for its flags: R or W, and F, A, S, M for flush or FUA, read-ahead, sync, metadata.
    pub flags: String,
    /// Where on the disk it begins, in bytes.
    pub start: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// The line of the trace.
    pub line: String,
}

impl Request {
    /// "... block_rq_issue: 259,0 WS 524288 () 67584 + 1024 be,0,4 [comm]", and the same without the bytes and what
    /// follows the sectors for `block_bio_queue`.
    fn parse(line: &str, event: &str, device: &str) -> Option<Request> {
        let rest = line.split_once(event)?.1.strip_prefix(": ")?;
        let rest = rest.strip_prefix(device)?.strip_prefix(' ')?;
        let flags = rest.split(' ').next()?;
        let (before, sectors) = rest.split_once(" + ")?;
        let start: u64 = before.rsplit(' ').next()?.parse().ok()?;
        let sectors: u64 = sectors.split([' ', '[']).next()?.parse().ok()?;
        Some(Request {
            flags: flags.into(),
            start: start * SECTOR,
            bytes: sectors * SECTOR,
            line: line.into(),
        })
    }

    /// Whether it reads something.
    fn is_read(&self) -> bool {
        self.bytes != 0 && self.flags.contains('R')
    }

    /// Whether it writes something that is neither metadata nor in the journal.
    fn is_data_write(&self) -> bool {
        self.bytes != 0 && self.flags.contains('W') && !self.flags.contains(['M', 'F'])
    }

    /// The bytes of the disk that it is about.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.bytes
    }
}

/// The requests of one kind to the disk of `bench` that `trace` has seen.
fn requests(bench: &Bench, trace: &Trace, event: &str) -> anyhow::Result<Vec<Request>> {
    let device = traced_number(bench)?;
    Ok(trace
        .read()?
        .iter()
        .filter_map(|line| Request::parse(line, event, &device))
        .collect())
}

/// The writes of data to the disk of `bench` that `trace` has seen.
pub fn data_writes(bench: &Bench, trace: &Trace, event: &str) -> anyhow::Result<Vec<Request>> {
    let mut found = requests(bench, trace, event)?;
    found.retain(Request::is_data_write);
    Ok(found)
}

/// All reads from the disk of `bench` that `trace` has seen, of metadata as well.
pub fn reads(bench: &Bench, trace: &Trace, event: &str) -> anyhow::Result<Vec<Request>> {
    let mut found = requests(bench, trace, event)?;
    found.retain(Request::is_read);
    Ok(found)
}

/// How many bytes these requests are about.
pub fn total(requests: &[Request]) -> u64 {
    requests.iter().map(|request| request.bytes).sum()
}

/// The number of the disk as the tracepoints of the block layer and of the journal print it, "259,0".
pub fn traced_number(bench: &Bench) -> anyhow::Result<String> {
    Ok(device_number(bench)?.replace(':', ","))
}

/// The number of the disk as sysfs and the tracepoints of writeback have it, "259:0".
pub fn device_number(bench: &Bench) -> anyhow::Result<String> {
    let number = fs::metadata(&bench.disk)
        .with_context(|| format!("looking at {}", bench.device()))?
        .rdev();
    Ok(format!(
        "{}:{}",
        rustix::fs::major(number),
        rustix::fs::minor(number)
    ))
}

/// The event of a folio that comes into the page cache.
pub const FOLIO: &str = "filemap/mm_filemap_add_to_page_cache";

/// The folios that a file got while `trace` was on with [`FOLIO`], each as its bytes of the file.
pub fn folios(trace: &Trace, file: &fs::Metadata) -> anyhow::Result<Vec<Range<u64>>> {
    // "... mm_filemap_add_to_page_cache: dev 259:0 ino c pfn=0x1234 ofs=65536 order=2"
    let file = format!(
        " dev {}:{} ino {:x} ",
        rustix::fs::major(file.dev()),
        rustix::fs::minor(file.dev()),
        file.ino()
    );
    let folio = |line: &String| -> Option<Range<u64>> {
        let rest = line.split_once("mm_filemap_add_to_page_cache:")?.1;
        let rest = rest.split_once(&file)?.1;
        let start: u64 = field(rest, "ofs=")?;
        let order: u32 = field(rest, "order=")?;
        Some(start..start + (PAGE << order))
    };
    Ok(trace.read()?.iter().filter_map(folio).collect())
}

/// Whether the kernel has folios of more than a page for files. The debug kernel has none.
pub fn has_large_folios() -> bool {
    Path::new("/sys/kernel/mm/transparent_hugepage").exists()
}

/// The size of a page on the machines of the tests.
pub const PAGE: u64 = 4096;

/// The number that follows `name` in `text`.
fn field<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let word = text.split_once(name)?.1.split(' ').next()?;
    word.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_events_are_understood() {
        let issued =
            "x-1 [0] ..... 1.0: block_rq_issue: 259,0 WS 524288 () 67584 + 1024 be,0,4 [x]";
        let request = Request::parse(issued, ISSUED, "259,0").unwrap();
        assert_eq!(request.range(), 67584 * 512..(67584 + 1024) * 512);
        assert!(request.is_data_write() && !request.is_read());
        let bio = "x-1 [0] ..... 1.0: block_bio_queue: 8,0 RA 80 + 8 [x]";
        let request = Request::parse(bio, BIO, "8,0").unwrap();
        assert_eq!(request.range(), 40960..45056);
        assert!(request.is_read() && !request.is_data_write());
        assert!(Request::parse(bio, BIO, "8,16").is_none());
    }
}
