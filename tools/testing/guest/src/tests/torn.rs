// SPDX-License-Identifier: GPL-2.0

//! A read next to a write: of what the write changes in one folio, the read sees all or nothing.

use crate::bench::Bench;
use crate::disk_trace::folios;
use crate::disk_trace::has_large_folios;
use crate::disk_trace::FOLIO;
use crate::disk_trace::PAGE;
use crate::tests::writeback::Trace;
use anyhow::Context;
use rustix::io::preadv2;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// How many reads each reader makes at least, and how many times it must see that a write came between.
const READS: u64 = 100;
const CHANGES: u64 = 10;
/// How often a writer finds memory that it never touched.
const COLD: usize = 200;
/// Readers that see no change for so long are a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writers give some bytes of a file one value each time, and readers must find one value in them.
pub fn torn(bench: &Bench) -> anyhow::Result<()> {
    for block_size in ["1024", "4096"] {
        bench.format(&["-b", block_size, "64M"])?;
        bench.mount()?;
        all_ways(bench).with_context(|| format!("blocks of {block_size} bytes"))?;
        bench.umount()?;
        bench.fsck()?;
    }
    Ok(())
}

fn all_ways(bench: &Bench) -> anyhow::Result<()> {
    let (file, folio) = large_folio(bench)?;
    let ranges = [
        ("a page", 0..PAGE),
        ("a part of a page", PAGE + 700..PAGE + 3600),
        ("parts of pages of one folio", 3000..3000 + 2 * PAGE),
        ("a folio", folio),
    ];
    let ways: [(&str, Write); 3] = [
        ("written plainly", Source::write_plainly),
        ("written from a vector", Source::write_vector),
        (
            "written from memory that is not there yet",
            Source::write_cold,
        ),
    ];
    for (what, bytes) in ranges {
        if bytes.end > 2 * PAGE && !has_large_folios() {
            continue;
        }
        for (how, write) in ways {
            let torn = race(&file, &bytes, write).with_context(|| format!("{what}, {how}"))?;
            eprintln!("{what}, {how}: {torn} reads saw a write in part");
            // The kernel's ext4 has no such rule.
            anyhow::ensure!(
                torn == 0 || !bench.is_ferrofs(),
                "{what}, {how}: {torn} reads saw a write in part"
            );
        }
    }
    Ok(())
}

/// A file in the page cache, and the bytes of the folio at its beginning, which has several pages where it can.
fn large_folio(bench: &Bench) -> anyhow::Result<(File, Range<u64>)> {
    // Memory may be in small pieces just now.
    for attempt in 0..20 {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(bench.path(format!("file{attempt}")))?;
        let trace = Trace::start(&[FOLIO])?;
        file.write_all_at(&[1; 16 * PAGE as usize], 0)?;
        let large =
            |folio: &Range<u64>| folio.start == 0 && (folio.end >= 4 * PAGE || !has_large_folios());
        if let Some(folio) = folios(&trace, &file.metadata()?)?.into_iter().find(large) {
            return Ok((file, folio));
        }
    }
    anyhow::bail!("no file gets a folio of four pages")
}

/// Where the bytes of a writer come from.
struct Source {
    value: u8,
    memory: Vec<u8>,
    /// Memory that was used once, kept so that none of it is given out again.
    used: Vec<Vec<u8>>,
}

/// Gives bytes at this offset of a file one value.
type Write = fn(&mut Source, &File, u64) -> std::io::Result<()>;

impl Source {
    fn new(value: u8, length: usize) -> Source {
        Source {
            value,
            memory: vec![0; length],
            used: Vec::new(),
        }
    }

    fn fill(&mut self) {
        self.value = self.value.wrapping_add(1);
        self.memory.fill(self.value);
    }

    fn write_plainly(&mut self, file: &File, offset: u64) -> std::io::Result<()> {
        self.fill();
        whole(file.write_at(&self.memory, offset)?, self.memory.len())
    }

    fn write_vector(&mut self, file: &File, offset: u64) -> std::io::Result<()> {
        self.fill();
        let (first, rest) = self.memory.split_at(self.memory.len() / 3);
        let (second, third) = rest.split_at(rest.len() / 2);
        let pieces = [first, second, third].map(IoSlice::new);
        whole(
            rustix::io::pwritev(file, &pieces, offset)?,
            self.memory.len(),
        )
    }

    /// In turns with plain writes, writes zeroes of which only the first ones are mapped: the kernel copies those, and
    /// what follows when it has been brought in.
    fn write_cold(&mut self, file: &File, offset: u64) -> std::io::Result<()> {
        if self.used.len() == COLD || self.value % 2 == 0 {
            return self.write_plainly(file, offset);
        }
        self.value = self.value.wrapping_add(1);
        let (length, page) = (self.memory.len(), PAGE as usize);
        // Larger than what is given out from memory that was in use.
        let fresh = vec![0; length + 40 * page];
        let first = fresh.as_ptr().align_offset(page);
        let start = first + page - (length / 2).min(page / 2);
        let bytes = &fresh[start..start + length];
        std::hint::black_box(bytes[0]);
        let result = file.write_at(bytes, offset);
        self.used.push(fresh);
        whole(result?, length)
    }
}

fn whole(count: usize, length: usize) -> std::io::Result<()> {
    if count == length {
        Ok(())
    } else {
        let what = format!("{count} of {length} bytes were written");
        Err(std::io::Error::other(what))
    }
}

/// Two writers and two readers of the same bytes. Returns how many reads saw more than one value.
fn race(file: &File, bytes: &Range<u64>, write: Write) -> anyhow::Result<u64> {
    let length = (bytes.end - bytes.start) as usize;
    Source::new(0, length).write_plainly(file, bytes.start)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = [0, 100].map(|value| {
            let stop = &stop;
            scope.spawn(move || -> std::io::Result<()> {
                let mut source = Source::new(value, length);
                while !stop.load(Relaxed) {
                    write(&mut source, file, bytes.start)?;
                }
                Ok(())
            })
        });
        let readers = [read_plainly as Read, read_vector]
            .map(|read| scope.spawn(move || read_many(file, bytes, read)));
        let torn: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        stop.store(true, Relaxed);
        for writer in writers {
            let result = writer.join();
            result
                .map_err(|_| anyhow::anyhow!("a writer panicked"))?
                .context("writing")?;
        }
        let mut total = 0;
        for count in torn {
            total += count.map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        }
        Ok(total)
    })
}

/// Fills memory from this offset of a file. `false` if that would have had to wait, and nothing was read.
type Read = fn(&File, u64, &mut [u8], number: u64) -> std::io::Result<bool>;

fn read_plainly(
    file: &File,
    offset: u64,
    memory: &mut [u8],
    _number: u64,
) -> std::io::Result<bool> {
    file.read_exact_at(memory, offset)?;
    Ok(true)
}

/// Every other time without waiting.
fn read_vector(file: &File, offset: u64, memory: &mut [u8], number: u64) -> std::io::Result<bool> {
    let length = memory.len();
    let (first, rest) = memory.split_at_mut(length / 3);
    let (second, third) = rest.split_at_mut(rest.len() / 2);
    let mut pieces = [first, second, third].map(IoSliceMut::new);
    let flags = if number % 2 == 0 {
        ReadWriteFlags::NOWAIT
    } else {
        ReadWriteFlags::empty()
    };
    match preadv2(file, &mut pieces, offset, flags) {
        Ok(count) if count == length => Ok(true),
        Ok(count) => Err(std::io::Error::other(format!(
            "{count} of {length} bytes were read"
        ))),
        Err(Errno::AGAIN) if number % 2 == 0 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads until enough was seen. Returns how many reads found more than one value.
fn read_many(file: &File, bytes: &Range<u64>, read: Read) -> anyhow::Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let mut memory = vec![0; (bytes.end - bytes.start) as usize];
    let (mut torn, mut reads, mut changes, mut attempts, mut last) = (0, 0, 0, 0, 0);
    while reads < READS || changes < CHANGES {
        anyhow::ensure!(
            Instant::now() < deadline,
            "{changes} changes were seen in {reads} reads of {attempts}"
        );
        attempts += 1;
        if !read(file, bytes.start, &mut memory, attempts).context("reading")? {
            continue;
        }
        reads += 1;
        changes += u64::from(memory[0] != last);
        last = memory[0];
        torn += u64::from(memory.iter().any(|byte| *byte != last));
    }
    Ok(torn)
}
