// SPDX-License-Identifier: GPL-2.0

//! File contents: holes, sizes, mappings, concurrent readers and writers.

use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::command;
use crate::model::compare_bytes;
use anyhow::Context;
use rustix::fs::SeekFrom;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;

/// Holes read as zeros, take no space, and are found by SEEK_HOLE and SEEK_DATA.
pub fn sparse(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["256M"])?;
    bench.mount()?;
    let path = bench.path("sparse");
    let file = File::create_new(&path)?;
    let bytes = bench.rng().bytes(65536);
    let places = [0, 1 << 20, 37 << 20, 5 << 30, (3 << 40) + 12345];
    for place in places {
        file.write_all_at(&bytes, place)
            .with_context(|| format!("writing at {place}"))?;
    }
    let size = places[4] + 65536;
    let check = |who: &str| -> anyhow::Result<()> {
        let file = File::open(&path)?;
        anyhow::ensure!(
            file.metadata()?.len() == size,
            "{who}: size {}",
            file.metadata()?.len()
        );
        let mut read = vec![0; 65536];
        for place in places {
            file.read_exact_at(&mut read, place)?;
            compare_bytes(&format!("{who}: at {place}"), &read, &bytes)?;
        }
        for hole in [70_000, 36 << 20, 4 << 30, 1 << 40] {
            file.read_exact_at(&mut read, hole)?;
            anyhow::ensure!(
                read.iter().all(|byte| *byte == 0),
                "{who}: the hole at {hole} holds bytes"
            );
        }
        for window in places.windows(2) {
            let hole = rustix::fs::seek(&file, SeekFrom::Hole(window[0]))?;
            anyhow::ensure!(
                hole == window[0] + 65536,
                "{who}: a hole at {hole} after {}",
                window[0]
            );
            let data = rustix::fs::seek(&file, SeekFrom::Data(hole))?;
            let block = window[1] & !4095;
            anyhow::ensure!(data == block, "{who}: data at {data} before {}", window[1]);
        }
        let end = rustix::fs::seek(&file, SeekFrom::Hole(places[4]))?;
        anyhow::ensure!(end == size, "{who}: the last hole is at {end}");
        let beyond = rustix::fs::seek(&file, SeekFrom::Data(size));
        anyhow::ensure!(
            beyond == Err(rustix::io::Errno::NXIO),
            "{who}: data beyond the end"
        );
        Ok(())
    };
    check("live")?;
    file.sync_all()?;
    let blocks = file.metadata()?.blocks();
    anyhow::ensure!(
        blocks <= 5 * 136 + 64,
        "five pieces of 64 KiB take {blocks} sectors"
    );
    drop(file);
    bench.drop_caches()?;
    check("read back")?;
    bench.cycle_checked(REFERENCE, "ro")?;
    check("by ext4")?;
    bench.umount()?;
    bench.mount()?;
    let limit = OpenOptions::new()
        .write(true)
        .open(&path)?
        .write_all_at(b"x", (16 << 40) + 1);
    let error = limit
        .err()
        .context("a byte beyond the format's limit was written")?;
    anyhow::ensure!(error.raw_os_error() == Some(libc_efbig()), "{error}");
    Ok(())
}

fn libc_efbig() -> i32 {
    rustix::io::Errno::FBIG.raw_os_error()
}

/// Whatever a file's size was, bytes beyond it are zeros when it grows again.
pub fn truncate(bench: &Bench) -> anyhow::Result<()> {
    // The whole disk is full of a pattern first: a block that is shown before it was written gives itself away.
    let device = OpenOptions::new().write(true).open(&bench.disk)?;
    let pattern = vec![0xaa; 1 << 20];
    for mebibyte in 0..128 {
        device.write_all_at(&pattern, mebibyte << 20)?;
    }
    device.sync_all()?;
    drop(device);
    for block_size in ["1024", "4096"] {
        bench.format(&["-b", block_size, "-E", "nodiscard", "128M"])?;
        bench.mount()?;
        let mut rng = bench.rng();
        let path = bench.path("file");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let mut model: Vec<u8> = Vec::new();
        for round in 0..bench.scaled(300) {
            let what = rng.below(6);
            let place = rng.below(300_000) as usize;
            match what {
                0 | 1 => {
                    file.set_len(place as u64)?;
                    model.resize(place, 0);
                }
                2 => {
                    // Just around a block's border.
                    let size = (model.len() & !4095) + rng.below(3) as usize;
                    file.set_len(size as u64)?;
                    model.resize(size, 0);
                }
                3 => file.sync_all()?,
                _ => {
                    let length = 1 + rng.below(20_000) as usize;
                    let bytes = rng.bytes(length);
                    file.write_all_at(&bytes, place as u64)?;
                    if model.len() < place + length {
                        model.resize(place + length, 0);
                    }
                    model[place..place + length].copy_from_slice(&bytes);
                }
            }
            if round % 10 == 9 {
                if rng.one_in(2) {
                    bench.drop_caches()?;
                }
                compare_bytes(
                    &format!("round {round}, {block_size}"),
                    &fs::read(&path)?,
                    &model,
                )?;
            }
        }
        drop(file);
        bench.cycle_checked(REFERENCE, "ro")?;
        compare_bytes("read by ext4", &fs::read(&path)?, &model)?;
        bench.umount()?;
    }
    Ok(())
}

/// What python does with a mapping of a file: there is no safe way to do it in Rust.
pub const MAPPING: &str = r#"
import mmap, os, sys
path = sys.argv[1]
size = 1 << 20
fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.ftruncate(fd, size)
m = mmap.mmap(fd, size)
# A hole that is read through a mapping, then written through it.
assert m[5000:5010] == bytes(10)
m[5000:5010] = b'0123456789'
assert os.pread(fd, 10, 5000) == b'0123456789', 'a write by mapping is not read'
# A write that the mapping sees.
os.pwrite(fd, b'abcdef', 5004)
assert m[5000:5012] == b'0123abcdef\0\0', 'a mapping does not see a write'
for page in range(0, size, 4096 * 3):
    m[page:page + 8] = page.to_bytes(8, 'little')
m.flush()
# Shrunk and grown, the mapping shows zeros.
os.ftruncate(fd, 6000)
os.ftruncate(fd, size)
assert m[6000:size] == bytes(size - 6000), 'bytes from before a truncation'
assert m[5000:5010] == b'0123abcdef'
m[size - 4:size] = b'tail'
# A private mapping keeps its changes to itself.
p = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE)
p[0:6] = b'secret'
assert os.pread(fd, 6, 0) == m[0:6] != b'secret'
os.fsync(fd)
m.close(); p.close(); os.close(fd)
"#;

/// Shared and private mappings against reads, writes and truncation.
pub fn mapping(bench: &Bench) -> anyhow::Result<()> {
    for block_size in ["1024", "4096"] {
        bench.format(&["-b", block_size, "256M"])?;
        bench.mount()?;
        let path = bench.path("mapped");
        command::must("python3", &["-c", MAPPING, crate::bench::text(&path)])?;
        let mut expected = vec![0; 1 << 20];
        expected[4..6].fill(0);
        expected[5000..5010].copy_from_slice(b"0123abcdef");
        let end = expected.len();
        expected[end - 4..].copy_from_slice(b"tail");
        for fstype in [bench.fstype.as_str(), REFERENCE] {
            bench.cycle_checked(fstype, "ro")?;
            compare_bytes(
                &format!("mapped, by {fstype}"),
                &fs::read(&path)?,
                &expected,
            )?;
        }
        bench.umount()?;
    }
    Ok(())
}

/// Several threads append to one file and read it: every record comes once and whole.
pub fn append(bench: &Bench) -> anyhow::Result<()> {
    const RECORD: usize = 700;
    bench.format(&["256M"])?;
    bench.mount()?;
    let path = bench.path("log");
    File::create(&path)?;
    let each = bench.scaled(300);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u8)
            .map(|writer| {
                let path = &path;
                scope.spawn(move || -> std::io::Result<()> {
                    use std::io::Write;
                    let mut file = OpenOptions::new().append(true).open(path)?;
                    for number in 0..each {
                        let mut record = vec![writer + 1; RECORD];
                        record[..8].copy_from_slice(&number.to_le_bytes());
                        file.write_all(&record)?;
                    }
                    file.sync_all()
                })
            })
            .collect();
        for writer in writers {
            writer
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    bench.cycle()?;
    let contents = fs::read(&path)?;
    anyhow::ensure!(
        contents.len() == 4 * each as usize * RECORD,
        "{} bytes",
        contents.len()
    );
    let mut next = [0; 4];
    for record in contents.chunks(RECORD) {
        let writer = usize::from(record[8]).wrapping_sub(1);
        anyhow::ensure!(writer < 4, "a record of nobody's");
        anyhow::ensure!(
            record[8..].iter().all(|byte| *byte == record[8]),
            "a record in pieces"
        );
        let number = u64::from_le_bytes(record[..8].try_into()?);
        anyhow::ensure!(
            number == next[writer],
            "record {number} came instead of {}",
            next[writer]
        );
        next[writer] += 1;
    }
    Ok(())
}
