// SPDX-License-Identifier: GPL-2.0

//! Data that cannot be written or read: who hears of it, how often, and what is left.

use crate::bench::Bench;
use crate::mapped::free_places;
use crate::mapped::places;
use crate::mapped::Mapped;
use crate::model::compare_bytes;
use crate::tests::writeback::meminfo;
use anyhow::Context;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

/// The size of the file systems of these tests.
pub const SIZE: u64 = 256 << 20;
/// The same for mkfs.
pub const SIZE_NAME: &str = "256M";
/// The size of their blocks.
pub const BLOCK: u64 = 4096;

/// What the kernel says of a disk that fails.
pub fn expect_failures(bench: &Bench) {
    for text in [
        "I/O error",
        "Buffer I/O error",
        "JBD2: ",
        "EXT4-fs",
        "EXT4-fs error",
        "ferrofs: (",
        // Of ten in five seconds; with the next one after that, how many were left out.
        " callbacks suppressed",
        "Aborting journal",
        "lost async page write",
        "lost sync page write",
    ] {
        bench.expect_message(text);
    }
}

/// Fails unless `result` is the error `errno`.
pub fn must_fail<T>(what: &str, result: std::io::Result<T>, errno: Errno) -> anyhow::Result<()> {
    match result {
        Ok(_) => anyhow::bail!("{what} succeeded and should have failed with {errno}"),
        Err(error) => anyhow::ensure!(
            error.raw_os_error() == Some(errno.raw_os_error()),
            "{what} failed with {error} instead of {errno}"
        ),
    }
    Ok(())
}

/// Waits until no more than `limit` KiB are dirty or being written.
pub fn wait_until_clean(limit: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let dirty = meminfo("Dirty")? + meminfo("Writeback")?;
        if dirty <= limit {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "{dirty} KiB stay dirty");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A writeback error is told once to each file that was open, and to none that is opened later.
pub fn writeback_errors(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", SIZE_NAME])?;
    let disk = Mapped::new(&bench.disk, SIZE)?;
    let bench = &disk.bench(bench);
    expect_failures(bench);
    bench.mount()?;
    let path = bench.path("file");
    let old = bench.rng().bytes(1 << 20);
    let file = File::create_new(&path)?;
    file.write_all_at(&old, 0)?;
    fs::write(bench.path("other"), &old)?;
    File::open(bench.path("other"))?.sync_all()?;
    file.sync_all()?;
    drop(file);
    rustix::fs::sync();

    let open = || OpenOptions::new().read(true).write(true).open(&path);
    let (by_fsync, by_fdatasync, by_range) = (open()?, open()?, open()?);
    let (by_dsync, by_syncfs, closed) = (open()?, open()?, open()?);
    let read_only = File::open(&path)?;
    let stranger = File::open(bench.path("other"))?;
    disk.fail(&places(&path)?)?;
    let clean = meminfo("Dirty")?;
    let new: Vec<u8> = old.iter().map(|byte| !byte).collect();
    by_fsync.write_all_at(&new, 0)?;
    // It is the flusher that meets the error: nobody waits for it here.
    rustix::fs::sync();
    wait_until_clean(clean + 512)?;

    must_fail("fsync", by_fsync.sync_all(), Errno::IO)?;
    by_fsync.sync_all().context("the second fsync")?;
    must_fail("fdatasync", by_fdatasync.sync_data(), Errno::IO)?;
    by_fdatasync.sync_data().context("the second fdatasync")?;
    must_fail("fsync of a reader", read_only.sync_all(), Errno::IO)?;
    read_only.sync_all().context("the reader's second fsync")?;
    must_fail(
        "syncfs",
        rustix::fs::syncfs(&by_syncfs).map_err(Into::into),
        Errno::IO,
    )?;
    rustix::fs::syncfs(&by_syncfs).context("the second syncfs")?;
    must_fail("msync", msync(&by_range), Errno::IO)?;
    by_range.sync_all().context("fsync after msync")?;
    stranger.sync_all().context("fsync of another file")?;
    // Neither ext4 nor ferrofs flushes at close, so that there is nothing to tell.
    close(closed)?;
    open()?.sync_all().context("fsync of a file opened later")?;

    // The device still fails: what is written again fails again, and is told again.
    by_dsync.write_all_at(&new[..4096], 0)?;
    must_fail("the next fsync", by_dsync.sync_all(), Errno::IO)?;
    must_fail("fsync of the others", by_fsync.sync_all(), Errno::IO)?;
    let synchronous = OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::DSYNC.bits() as i32)
        .open(&path)?;
    must_fail(
        "write with O_DSYNC",
        synchronous.write_all_at(&new[..4096], 8192),
        Errno::IO,
    )?;

    // The disk has the old bytes or new ones, block by block, and no others.
    disk.heal()?;
    compare_bytes("what is on the disk", &read_directly(&path)?, &old)?;
    by_fsync.write_all_at(&new, 0)?;
    by_fsync.sync_all().or_else(|_| by_fsync.sync_all())?;
    drop((
        by_fsync,
        by_fdatasync,
        by_range,
        by_dsync,
        by_syncfs,
        read_only,
    ));
    drop((stranger, synchronous));
    bench.cycle_checked("ext4", "ro")?;
    compare_bytes("after recovery", &fs::read(&path)?, &new)?;
    bench.finish()
}

/// The contents of a file on the disk, whatever is in memory. Its size is a multiple of the page size.
fn read_directly(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(path)?;
    let size = file.metadata()?.len() as usize;
    let mut buffer = vec![0; size + 4096];
    let offset = buffer.as_ptr().align_offset(4096);
    let aligned = &mut buffer[offset..][..size];
    file.read_exact_at(aligned, 0)?;
    Ok(aligned.to_vec())
}

/// `msync(MS_SYNC)` of a mapping of a file that is open already.
fn msync(file: &File) -> std::io::Result<()> {
    // The other program gets the open file itself, as its standard input, and with it what was reported to it.
    let program = "import mmap, sys\n\
        m = mmap.mmap(0, 4096)\n\
        try:\n    m.flush()\n\
        except OSError as error:\n    sys.exit(error.errno)\n";
    let status = std::process::Command::new("python3")
        .args(["-c", program])
        .stdin(file.try_clone()?)
        .status()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(errno) => Err(std::io::Error::from_raw_os_error(errno)),
        None => Err(std::io::Error::other("python was killed")),
    }
}

/// Closes a file and tells what close(2) says, which the standard library keeps to itself.
fn close(file: File) -> anyhow::Result<()> {
    let program = "import os, sys\ntry:\n    os.close(0)\nexcept OSError as error:\n    sys.exit(error.errno)\n";
    let status = std::process::Command::new("python3")
        .args(["-c", program])
        .stdin(file)
        .status()?;
    anyhow::ensure!(status.success(), "close: {status}");
    Ok(())
}

/// A byte that no test writes.
pub const STALE: u8 = 0xa5;

/// Fills the part of a disk that a file system of these tests takes with [`STALE`] bytes.
pub fn fill_with_stale_bytes(disk: &Path) -> anyhow::Result<()> {
    let device = OpenOptions::new().write(true).open(disk)?;
    let pattern = vec![STALE; 4 << 20];
    for at in (0..SIZE).step_by(pattern.len()) {
        device.write_all_at(&pattern, at)?;
    }
    Ok(device.sync_all()?)
}

/// Fails if a file shows bytes that were on the disk before the file system was made.
fn must_not_be_stale(what: &str, path: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(path).with_context(|| format!("reading {what}"))?;
    let stale = bytes
        .windows(64)
        .position(|window| window.iter().all(|byte| *byte == STALE));
    anyhow::ensure!(
        stale.is_none(),
        "{what}: byte {stale:?} and what follows is of an earlier owner"
    );
    Ok(())
}

/// New blocks whose data could not be written never show what lay there before.
pub fn conversion_errors(bench: &Bench) -> anyhow::Result<()> {
    fill_with_stale_bytes(&bench.disk)?;
    bench.format(&["-b", "4096", "-E", "nodiscard", SIZE_NAME])?;
    let free = free_places(&bench.disk, BLOCK)?;
    let disk = Mapped::new(&bench.disk, SIZE)?;
    let bench = &disk.bench(bench);
    expect_failures(bench);
    bench.mount()?;
    // The root's block and all that mkfs has placed can be written; what is allocated from now on cannot.
    disk.fail(&free)?;
    let bytes = vec![1; 300_000];
    let new = File::create_new(bench.path("new"))?;
    new.write_all_at(&bytes, 0)?;
    must_fail("fsync of a new file", new.sync_all(), Errno::IO)?;
    let sparse = File::create_new(bench.path("sparse"))?;
    sparse.set_len(1 << 20)?;
    sparse.write_all_at(&bytes, 100_000)?;
    must_fail("fsync of a sparse file", sparse.sync_all(), Errno::IO)?;
    let direct = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(bench.path("direct"))?;
    let buffer = vec![1; 128 * 1024];
    let aligned = &buffer[buffer.as_ptr().align_offset(4096)..][..65536];
    must_fail(
        "a direct write behind the end",
        direct.write_at(aligned, 0),
        Errno::IO,
    )?;
    direct.set_len(1 << 20)?;
    must_fail(
        "a direct write into a hole",
        direct.write_at(aligned, 65536),
        Errno::IO,
    )?;
    let names = ["new", "sparse", "direct"];
    for round in ["from memory", "from the disk"] {
        for name in names {
            must_not_be_stale(&format!("{name}, {round}"), &bench.path(name))?;
        }
        bench.drop_caches()?;
    }
    // Sizes that the failed writes have asked for become true by ones that succeed.
    disk.heal()?;
    new.write_all_at(b"end", 500_000)?;
    new.sync_all().or_else(|_| new.sync_all())?;
    sparse.sync_all().or_else(|_| sparse.sync_all())?;
    drop((new, sparse, direct));
    bench.drop_caches()?;
    for name in names {
        must_not_be_stale(&format!("{name}, later"), &bench.path(name))?;
    }
    anyhow::ensure!(fs::read(bench.path("new"))?.ends_with(b"end"));
    bench.cycle_checked("ext4", "ro")?;
    for name in names {
        must_not_be_stale(&format!("{name}, by ext4"), &bench.path(name))?;
    }
    bench.finish()
}

/// One block that cannot be read is an error for those who read it, and for nobody else.
pub fn read_errors(bench: &Bench) -> anyhow::Result<()> {
    const BLOCKS: u64 = 1024;
    const BAD: u64 = 517;
    bench.format(&["-b", "4096", SIZE_NAME])?;
    let disk = Mapped::new(&bench.disk, SIZE)?;
    let bench = &disk.bench(bench);
    expect_failures(bench);
    bench.mount()?;
    let path = bench.path("file");
    let bytes = bench.rng().bytes((BLOCKS * BLOCK) as usize);
    fs::write(&path, &bytes)?;
    File::open(&path)?.sync_all()?;
    let bad = place_of(&path, BAD)?;
    // Not by dropping caches, which leaves what somebody looks at in that moment.
    bench.cycle()?;
    disk.fail(std::slice::from_ref(&bad))?;

    for order in ["forwards", "backwards", "at once"] {
        bench.drop_caches()?;
        let file = File::open(&path)?;
        if order == "at once" {
            // All that lies before the bad block comes, if not in large pieces then in small ones.
            let read = read_until_error(&file)?;
            let end = (BAD * BLOCK) as usize;
            anyhow::ensure!(
                read.len() == end,
                "{} bytes could be read before the bad block at {end}",
                read.len()
            );
            compare_bytes("before the bad block", &read, &bytes[..end])?;
            continue;
        }
        let mut block = vec![0; BLOCK as usize];
        for number in 0..BLOCKS {
            let number = if order == "forwards" {
                number
            } else {
                BLOCKS - 1 - number
            };
            let at = number * BLOCK;
            let result = file.read_exact_at(&mut block, at);
            if number == BAD {
                must_fail("reading the bad block", result, Errno::IO)?;
            } else {
                result.with_context(|| format!("{order}: reading block {number}, {BAD} is bad"))?;
                compare_bytes("a good block", &block, &bytes[at as usize..][..block.len()])?;
            }
        }
        // An error is not remembered as contents.
        must_fail(
            "reading it again",
            file.read_exact_at(&mut block, BAD * BLOCK),
            Errno::IO,
        )?;
    }
    let direct = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(&path)?;
    let mut buffer = vec![0; 16384];
    let offset = buffer.as_ptr().align_offset(4096);
    let aligned = &mut buffer[offset..][..4096];
    must_fail(
        "reading it directly",
        direct.read_at(aligned, BAD * BLOCK),
        Errno::IO,
    )?;
    direct.read_exact_at(aligned, (BAD + 1) * BLOCK)?;

    // A block that is written whole need not be read; one that is written in part must be.
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    bench.drop_caches()?;
    must_fail(
        "writing a part of it",
        file.write_at(b"x", BAD * BLOCK + 1),
        Errno::IO,
    )?;
    disk.heal()?;
    compare_bytes("after recovery", &fs::read(&path)?, &bytes)?;
    disk.fail(&[bad])?;
    bench.drop_caches()?;
    let mut bytes = bytes;
    let part = (BAD * BLOCK) as usize..((BAD + 1) * BLOCK) as usize;
    bytes[part.clone()].fill(9);
    file.write_all_at(&bytes[part.clone()], part.start as u64)
        .context("overwriting a block that cannot be read")?;
    disk.heal()?;
    file.sync_all()?;
    drop((file, direct));
    bench.cycle_checked("ext4", "ro")?;
    compare_bytes("by ext4", &fs::read(&path)?, &bytes)?;
    bench.finish()
}

/// Where block `number` of a file lies.
fn place_of(path: &Path, number: u64) -> anyhow::Result<Range<u64>> {
    let mut skip = number * BLOCK;
    for place in places(path)? {
        let length = place.end - place.start;
        if skip < length {
            return Ok(place.start + skip..place.start + skip + BLOCK);
        }
        skip -= length;
    }
    anyhow::bail!("{} has no block {number}", path.display())
}

/// What `read(2)` gives until it fails with EIO even for a single block.
fn read_until_error(file: &File) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read_at(&mut piece, bytes.len() as u64) {
            Err(error)
                if error.raw_os_error() == Some(Errno::IO.raw_os_error())
                    && piece.len() > BLOCK as usize =>
            {
                piece.truncate(piece.len() / 2);
            }
            Ok(0) => anyhow::bail!("the end was reached without an error"),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                return Ok(bytes)
            }
            Err(error) => {
                return Err(error).with_context(|| format!("after {} bytes", bytes.len()))
            }
        }
    }
}
