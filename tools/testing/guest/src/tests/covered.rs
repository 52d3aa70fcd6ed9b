// SPDX-License-Identifier: GPL-2.0

//! What a buffered write reads: the blocks that it covers in part, and nothing else.

use crate::bench::text;
use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::disk_trace::reads;
use crate::disk_trace::BIO;
use crate::manifest::Manifest;
use crate::mapped::places;
use crate::setting::Quiet;
use crate::tests::writeback::Trace;
use anyhow::Context;
use std::fs;
use std::fs::OpenOptions;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A place in a file: so many blocks, and so many bytes.
type Place = (u64, u64);

/// One write to a file whose pages are not in memory.
struct Case {
    what: &'static str,
    /// How much data the file begins with, and where it ends.
    data: Place,
    end: Place,
    /// From where to where it is written.
    from: Place,
    to: Place,
    /// The blocks that this reads.
    reads: &'static [u64],
}

const fn case(
    what: &'static str,
    data: Place,
    end: Place,
    (from, to): (Place, Place),
    reads: &'static [u64],
) -> Case {
    Case {
        what,
        data,
        end,
        from,
        to,
        reads,
    }
}

const FULL: Place = (40, 0);

const CASES: &[Case] = &[
    case("a block", FULL, FULL, ((5, 0), (6, 0)), &[]),
    case("many blocks", FULL, FULL, ((3, 0), (39, 0)), &[]),
    case("the whole file", FULL, FULL, ((0, 0), (40, 0)), &[]),
    case("within a block", FULL, FULL, ((5, 10), (5, 110)), &[5]),
    case("a byte", FULL, FULL, ((39, 500), (39, 501)), &[39]),
    case("a block's begin", FULL, FULL, ((5, 0), (5, 100)), &[5]),
    case("a block's end", FULL, FULL, ((5, 100), (6, 0)), &[5]),
    case(
        "an end and whole blocks",
        FULL,
        FULL,
        ((5, 9), (9, 0)),
        &[5],
    ),
    case(
        "whole blocks and a begin",
        FULL,
        FULL,
        ((5, 0), (8, 9)),
        &[8],
    ),
    case(
        "whole blocks between",
        FULL,
        FULL,
        ((5, 10), (33, 20)),
        &[5, 33],
    ),
    case("neighbours", FULL, FULL, ((15, 10), (16, 20)), &[15, 16]),
    case("in a hole", (0, 0), FULL, ((5, 10), (8, 20)), &[]),
    case(
        "from data to a hole",
        (6, 0),
        FULL,
        ((5, 10), (7, 20)),
        &[5],
    ),
    case("a hole after data", (6, 0), FULL, ((6, 10), (6, 20)), &[]),
    case("behind the end", (5, 0), (5, 0), ((5, 10), (6, 20)), &[]),
    case(
        "far behind the end",
        (5, 0),
        (5, 0),
        ((20, 10), (21, 20)),
        &[],
    ),
    case(
        "at an end in a block",
        (5, 99),
        (5, 99),
        ((5, 99), (7, 0)),
        &[5],
    ),
    case(
        "over an end in a block",
        (5, 99),
        (5, 99),
        ((5, 0), (6, 0)),
        &[],
    ),
    // What follows the end in its block must be zeroes on the disk before the size says otherwise.
    case(
        "behind an end in a block",
        (5, 99),
        (5, 99),
        ((9, 0), (9, 9)),
        &[5],
    ),
    case("a new file", (0, 0), (0, 0), ((0, 0), (3, 33)), &[]),
];

/// Counts the blocks that writes of each kind read, with blocks of a page and smaller ones.
pub fn covered(bench: &Bench) -> anyhow::Result<()> {
    // A flusher that writes what the cases before have left reads bitmaps to find room for it.
    let _quiet = Quiet::set()?;
    for block_size in [1024, 4096] {
        let size = block_size.to_string();
        bench.format(&["-b", &size, "64M"])?;
        bench.mount()?;
        all_cases(bench, block_size).with_context(|| format!("blocks of {block_size} bytes"))?;
        let left = Manifest::read(&bench.dir)?;
        bench.cycle_checked(REFERENCE, "ro")?;
        left.expect(&Manifest::read(&bench.dir)?)
            .with_context(|| format!("blocks of {block_size} bytes, from the disk"))?;
        bench.umount()?;
    }
    Ok(())
}

fn all_cases(bench: &Bench, block_size: u64) -> anyhow::Result<()> {
    let byte = |(blocks, bytes): Place| blocks * block_size + bytes;
    let mut files = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let path = bench.path(format!("file{number}"));
        let mut model: Vec<u8> = (0..byte(case.data)).map(|at| pattern(at, 1)).collect();
        fs::write(&path, &model)?;
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(byte(case.end))?;
        model.resize(byte(case.end) as usize, 0);
        files.push((path, model));
    }
    // No page of the files is left in memory by this, and nothing else of them either.
    bench.cycle()?;
    let trace = Trace::start(&["block/block_bio_queue"])?;
    for (case, (path, model)) in CASES.iter().zip(&mut files) {
        let places = if case.data == (0, 0) {
            Vec::new()
        } else {
            places(path)?
        };
        let bytes = byte(case.from)..byte(case.to);
        let read =
            blocks_read(bench, &trace, path, bytes.clone(), &places).with_context(|| case.what)?;
        anyhow::ensure!(
            read == case.reads,
            "{}: a write of bytes {bytes:?} has read the blocks {read:?}, not {:?}",
            case.what,
            case.reads
        );
        // The same again finds all of it in memory.
        let again =
            blocks_read(bench, &trace, path, bytes.clone(), &places).with_context(|| case.what)?;
        anyhow::ensure!(
            again.is_empty(),
            "{}: the second write of bytes {bytes:?} has read the blocks {again:?}",
            case.what
        );
        model.resize(model.len().max(bytes.end as usize), 0);
        for at in bytes {
            model[at as usize] = pattern(at, 2);
        }
    }
    for (case, (path, model)) in CASES.iter().zip(&files) {
        let found = fs::read(path)?;
        anyhow::ensure!(
            found == *model,
            "{}: byte {:?} of {} is wrong, of {} that there should be",
            case.what,
            found.iter().zip(model).position(|(a, b)| a != b),
            found.len(),
            model.len()
        );
    }
    Ok(())
}

/// What stands at a place of a file that was written to for the time `time`. Never zero.
fn pattern(at: u64, time: u64) -> u8 {
    ((at / 7 + at % 7 * 31 + time * 97) % 255) as u8 + 1
}

/// Writes to a file, and returns the blocks of it that are read for that. `places` is where the file is on the disk, from
/// its beginning on. Reads of anything else are an error.
fn blocks_read(
    bench: &Bench,
    trace: &Trace,
    path: &Path,
    bytes: Range<u64>,
    places: &[Range<u64>],
) -> anyhow::Result<Vec<u64>> {
    let file = OpenOptions::new().write(true).open(path)?;
    let block_size = file.metadata()?.blksize();
    let data: Vec<u8> = bytes.clone().map(|at| pattern(at, 2)).collect();
    trace.clear()?;
    file.write_all_at(&data, bytes.start)?;
    let reads = reads(bench, trace, BIO)?;
    let mut blocks = Vec::new();
    for read in &reads {
        for at in read.range().step_by(block_size as usize) {
            let block = block_at(places, at, block_size);
            blocks.push(block.with_context(|| {
                format!("{} is read, which is not {}'s", read.line, text(path))
            })?);
        }
    }
    blocks.sort_unstable();
    Ok(blocks)
}

/// The block of a file in these places of which this byte of the disk is the first.
fn block_at(places: &[Range<u64>], byte: u64, block_size: u64) -> Option<u64> {
    let mut before = 0;
    for place in places {
        if place.contains(&byte) {
            return Some((before + byte - place.start) / block_size);
        }
        before += place.end - place.start;
    }
    None
}
