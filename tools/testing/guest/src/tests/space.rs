// SPDX-License-Identifier: GPL-2.0

//! Space: full disks, what statfs says, files that are unlinked while open.

use crate::bench::text;
use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::command::must;
use crate::model::compare_bytes;
use crate::patience::wait_for;
use anyhow::Context;
use std::fs;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// A disk is filled: the error comes from write, what was taken is kept, and fsync never says that there is no space.
pub fn full(bench: &Bench) -> anyhow::Result<()> {
    for (block_size, size) in [("4096", "64M"), ("1024", "32M")] {
        bench.format(&["-b", block_size, size])?;
        bench.mount()?;
        let mut rng = bench.rng();
        let mut kept: Vec<(std::path::PathBuf, Vec<u8>)> = Vec::new();
        for round in 0..3 {
            fill(bench, &mut rng, &mut kept).with_context(|| format!("round {round}"))?;
            for (path, contents) in &kept {
                compare_bytes(&path.display().to_string(), &fs::read(path)?, contents)?;
            }
            bench.drop_caches()?;
            for (path, contents) in &kept {
                compare_bytes(&path.display().to_string(), &fs::read(path)?, contents)?;
            }
            // Every second file goes, and the space is there again.
            let mut number = 0;
            kept.retain(|(path, _)| {
                number += 1;
                number % 2 == 0 || fs::remove_file(path).is_err()
            });
            bench.cycle_checked(&bench.fstype, "")?;
        }
        bench.cycle_checked(REFERENCE, "ro")?;
        for (path, contents) in &kept {
            compare_bytes(&path.display().to_string(), &fs::read(path)?, contents)?;
        }
        bench.umount()?;
    }
    Ok(())
}

fn fill(
    bench: &Bench,
    rng: &mut crate::rng::Rng,
    kept: &mut Vec<(std::path::PathBuf, Vec<u8>)>,
) -> anyhow::Result<()> {
    let mut written = 0;
    loop {
        let number = rng.next();
        let path = bench.path(format!("file{number:016x}"));
        let mut file = match File::create_new(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::StorageFull => break,
            Err(error) => return Err(error).context("creating a file"),
        };
        let size = 1 + rng.below(3 << 20) as usize;
        let contents = rng.bytes(size);
        let mut taken = 0;
        let mut full = false;
        while taken < contents.len() {
            let piece = (contents.len() - taken).min(200_000);
            match file.write(&contents[taken..taken + piece]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    full = true;
                    break;
                }
                Err(error) => return Err(error).context("writing"),
            }
        }
        // What write took has its place: neither fsync nor writeback may find that there is none.
        file.sync_all()
            .with_context(|| format!("fsync after {taken} bytes, full: {full}"))?;
        written += taken;
        kept.push((path, contents[..taken].to_vec()));
        if full {
            break;
        }
    }
    let free = rustix::fs::statvfs(&bench.dir)?;
    eprintln!(
        "{written} bytes taken, {} blocks free at the end",
        free.f_bavail
    );
    anyhow::ensure!(written > 8 << 20, "only {written} bytes fit");
    let left = free.f_bavail * free.f_bsize;
    anyhow::ensure!(
        left < 4 << 20,
        "{left} bytes were free when write said that the disk was full"
    );
    Ok(())
}

/// statfs says the same as the kernel's ext4.
pub fn statfs(bench: &Bench) -> anyhow::Result<()> {
    for arguments in [&["256M"][..], &["-b", "1024", "64M"], &["-m", "10", "128M"]] {
        bench.format(arguments)?;
        let mut seen = Vec::new();
        for fstype in [bench.fstype.as_str(), REFERENCE] {
            bench.mount_as(fstype, "")?;
            let stat = rustix::fs::statvfs(&bench.dir)?;
            seen.push([
                stat.f_bsize,
                stat.f_blocks,
                stat.f_bfree,
                stat.f_bavail,
                stat.f_files,
                stat.f_ffree,
                stat.f_fsid,
                stat.f_namemax,
            ]);
            bench.umount()?;
        }
        anyhow::ensure!(
            seen[0] == seen[1],
            "{arguments:?}: {:?} and ext4 says {:?}",
            seen[0],
            seen[1]
        );
        // Space that was taken is counted at once, before it is allocated.
        bench.mount()?;
        let before = rustix::fs::statvfs(&bench.dir)?;
        fs::write(bench.path("file"), vec![1; 5 << 20])?;
        let after = rustix::fs::statvfs(&bench.dir)?;
        let taken = (before.f_bfree - after.f_bfree) * before.f_bsize;
        anyhow::ensure!(
            (5 << 20..6 << 20).contains(&taken),
            "5 MiB took {taken} bytes"
        );
        anyhow::ensure!(
            before.f_ffree - after.f_ffree == 1,
            "one file took other than one inode"
        );
        fs::remove_file(bench.path("file"))?;
        wait_for_blocks(bench, before.f_bfree)?;
        bench.umount()?;
        bench.fsck()?;
    }
    bench.mount()
}

/// Waits until so many blocks are free, in all.
///
/// Blocks that were freed are counted as such when the commit has ended, by the journal's task, which lets go those who wait
/// for the commit a moment before.
fn wait_for_blocks(bench: &Bench, count: u64) -> anyhow::Result<()> {
    rustix::fs::sync();
    let free = || rustix::fs::statvfs(&bench.dir).map(|stat| stat.f_bfree);
    wait_for("the return of all blocks", || Ok(free()? == count))
        .with_context(|| format!("{:?} of {count} blocks came back", free()))
}

/// Names are made in directories of one full block each while the disk has no block left, one, two, and so on: some fail,
/// and none leaves a directory half way to an index.
pub fn last_blocks(bench: &Bench) -> anyhow::Result<()> {
    const DIRECTORIES: u32 = 6;
    const BLOCK: u64 = 1024;

    bench.format(&["-b", "1024", "-m", "0", "32M"])?;
    bench.mount()?;
    for number in 0..DIRECTORIES {
        let dir = bench.path(format!("dir{number}"));
        fs::create_dir(&dir)?;
        // Three names of 255 bytes fill a block.
        for letter in ["a", "b", "c"] {
            fs::write(dir.join(letter.repeat(255)), "")?;
        }
    }
    // One large file takes most of the space, and files of one block, which need no space for a map, the rest.
    let small: Vec<File> = (0..40)
        .map(|number| File::create(bench.path(format!("small{number}"))))
        .collect::<Result<_, _>>()?;
    let filler = File::create(bench.path("filler"))?;
    let mut size = 0;
    // What is reserved for the map and turns out not to be needed is there for the next round.
    for _ in 0..4 {
        while let Ok(count) = filler.write_at(&[1; BLOCK as usize], size) {
            size += count as u64;
        }
        filler.sync_all()?;
    }
    filler.set_len(size - small.len() as u64 / 2 * BLOCK)?;
    for free in 0..DIRECTORIES {
        let mut full = 0;
        for file in &small {
            if file.write_all_at(&[2; BLOCK as usize], 0).is_err() {
                break;
            }
            full += 1;
        }
        rustix::fs::sync();
        anyhow::ensure!(full < small.len(), "the disk cannot be filled");
        for file in &small[full - free as usize..full] {
            file.set_len(0)?;
        }
        rustix::fs::sync();
        let path = bench.path(format!("dir{free}")).join("d".repeat(255));
        let result = fs::write(&path, "");
        match &result {
            Err(error) if error.kind() != ErrorKind::StorageFull => {
                result.context("making a name")?;
            }
            _ => eprintln!(
                "{free} blocks free: {result:?}, {} blocks",
                fs::metadata(bench.path(format!("dir{free}")))?.len() / BLOCK
            ),
        }
    }
    drop((small, filler));
    bench.cycle_checked(&bench.fstype, "")?;
    let mut names = 0;
    for number in 0..DIRECTORIES {
        names += fs::read_dir(bench.path(format!("dir{number}")))?.count();
    }
    anyhow::ensure!(
        (3 * DIRECTORIES as usize + 1..4 * DIRECTORIES as usize).contains(&names),
        "{names} names: the disk was not full, or always so"
    );
    Ok(())
}

/// Files of which each extent lies in many small groups are removed, truncated and replaced.
pub fn small_groups(bench: &Bench) -> anyhow::Result<()> {
    for arguments in [
        &[
            "-b", "4096", "-g", "256", "-G", "512", "-N", "4096", "-J", "size=4", "256M",
        ][..],
        &[
            "-b", "1024", "-G", "64", "-N", "1024", "-J", "size=4", "256M",
        ],
    ] {
        bench.format(arguments)?;
        bench.mount()?;
        let free = rustix::fs::statvfs(&bench.dir)?.f_bfree;
        for round in 0..2 {
            let path = bench.path("large");
            let file = File::create(&path)?;
            for number in 0..150 {
                file.write_all_at(&vec![number as u8; 1 << 20], number << 20)?;
            }
            file.sync_all()?;
            if round == 0 {
                file.set_len(3 << 20)?;
            }
            fs::remove_file(&path)?;
        }
        wait_for_blocks(bench, free)?;
        bench.umount()?;
        bench.fsck()?;
    }
    bench.format(&["64M"])
}

/// An open file lives on without a name, and its space comes back when it is closed.
pub fn unlinked(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["256M"])?;
    bench.mount()?;
    let free = rustix::fs::statvfs(&bench.dir)?;
    let mut files = Vec::new();
    for number in 0..50u8 {
        let path = bench.path(format!("file{number}"));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.write_all_at(&vec![number + 1; 100_000], 0)?;
        fs::remove_file(&path)?;
        files.push(file);
    }
    rustix::fs::sync();
    bench.drop_caches()?;
    for (number, file) in files.iter().enumerate() {
        file.write_all_at(&[0xff; 1000], 50_000)?;
        let mut read = vec![0; 100_000];
        file.read_exact_at(&mut read, 0)?;
        let mut expected = vec![number as u8 + 1; 100_000];
        expected[50_000..51_000].fill(0xff);
        compare_bytes("an unlinked file", &read, &expected)?;
    }
    // In an order that takes members out of the middle of the list of orphans.
    while !files.is_empty() {
        files.swap_remove(files.len() / 2);
    }
    bench.cycle_checked(&bench.fstype, "")?;
    let end = rustix::fs::statvfs(&bench.dir)?;
    anyhow::ensure!(
        (end.f_bfree, end.f_ffree) == (free.f_bfree, free.f_ffree),
        "{} blocks and {} inodes are free instead of {} and {}",
        end.f_bfree,
        end.f_ffree,
        free.f_bfree,
        free.f_ffree
    );
    Ok(())
}

/// Files that were unlinked and open, and one that was being truncated, when the power went: the copy of the disk at
/// that moment is mounted, and their space is back.
pub fn orphans(bench: &Bench) -> anyhow::Result<()> {
    for features in ["orphan_file", "^orphan_file"] {
        for (opener, thawed) in [
            (bench.fstype.as_str(), false),
            (&bench.fstype, true),
            (REFERENCE, false),
        ] {
            one_kind_of_orphans(bench, features, opener, thawed).with_context(|| {
                format!("with {features}, opened by {opener}, frozen before: {thawed}")
            })?;
        }
    }
    bench.format(&["64M"])
}

fn one_kind_of_orphans(
    bench: &Bench,
    features: &str,
    opener: &str,
    thawed: bool,
) -> anyhow::Result<()> {
    // The kernel's ext4 would fill the inode tables meanwhile, and the disk not stand still while it is copied.
    bench.format(&["-O", features, "-E", "lazy_itable_init=0", "64M"])?;
    bench.mount_as(opener, "")?;
    if thawed {
        // A snapshot of the disk would be clean. Afterwards it is in use again, with all that belongs to that.
        must("fsfreeze", &["-f", text(&bench.dir)])?;
        must("fsfreeze", &["-u", text(&bench.dir)])?;
    }
    let free = rustix::fs::statvfs(&bench.dir)?;
    let mut files = Vec::new();
    for number in 0..30u8 {
        let path = bench.path(format!("file{number}"));
        let mut file = File::create_new(&path)?;
        file.write_all(&vec![number + 1; 200_000])?;
        files.push(file);
    }
    rustix::fs::sync();
    for number in 0..30 {
        fs::remove_file(bench.path(format!("file{number}")))?;
    }
    fs::write(bench.path("stays"), "stays")?;
    rustix::fs::sync();
    // The disk as it is now, as a power cut would leave it: nothing is written until the next change.
    copy_disk(bench, 64)?;
    let spare = text(&bench.spare);
    let output = crate::command::run("e2fsck", &["-fy", spare])?;
    anyhow::ensure!(
        output.status <= 1 && crate::crash::is_only_recovery(&output.text),
        "e2fsck repaired it:\n{}",
        output.text
    );
    copy_disk(bench, 64)?;
    drop(files);
    bench.umount()?;
    bench.fsck()?;

    read_only_with_orphans(bench).context("mounting the copy read-only")?;
    crate::bench::mount_device(&bench.spare, &bench.dir, &bench.fstype, "")
        .context("mounting the disk of the moment of the power cut")?;
    let end = rustix::fs::statvfs(&bench.dir)?;
    let stays = fs::read_to_string(bench.path("stays"));
    rustix::mount::unmount(&bench.dir, rustix::mount::UnmountFlags::empty())?;
    crate::bench::fsck_device(&bench.spare, opener == REFERENCE)?;
    anyhow::ensure!(stays? == "stays", "the other file was lost");
    anyhow::ensure!(
        end.f_ffree + 1 == free.f_ffree && free.f_bfree - end.f_bfree <= 2,
        "{} blocks and {} inodes are free; before the files there were {} and {}",
        end.f_bfree,
        end.f_ffree,
        free.f_bfree,
        free.f_ffree
    );
    Ok(())
}

/// A read-only mount replays the log of the spare disk, so that nobody has to do it again, and leaves the orphans to those
/// who may write.
fn read_only_with_orphans(bench: &Bench) -> anyhow::Result<()> {
    let state = || must("dumpe2fs", &["-h", text(&bench.spare)]);
    anyhow::ensure!(
        state()?.contains("needs_recovery"),
        "there was nothing to replay"
    );
    for round in 0..2 {
        crate::bench::mount_device(&bench.spare, &bench.dir, &bench.fstype, "ro")?;
        let stays = fs::read_to_string(bench.path("stays"));
        rustix::mount::unmount(&bench.dir, rustix::mount::UnmountFlags::empty())?;
        anyhow::ensure!(stays? == "stays", "round {round}: the other file was lost");
        let state = state()?;
        anyhow::ensure!(
            !state.contains("needs_recovery"),
            "round {round}: the log is to be replayed again:\n{state}"
        );
    }
    Ok(())
}

/// Copies what is on the media of the test's disk, not what the kernel keeps in memory of it, to the spare one.
fn copy_disk(bench: &Bench, mebibytes: u32) -> anyhow::Result<()> {
    let from = format!("if={}", bench.device());
    let to = format!("of={}", crate::bench::text(&bench.spare));
    let count = format!("count={mebibytes}");
    crate::command::must(
        "dd",
        &[
            &from,
            &to,
            "bs=1M",
            &count,
            "iflag=direct",
            "oflag=direct",
            "status=none",
        ],
    )
    .map(drop)
}

/// Where only single blocks are free, the end of a file is synced whose beginning has no place yet: all of it gets one,
/// which takes more than one transaction has room for.
pub fn scattered(bench: &Bench) -> anyhow::Result<()> {
    const BLOCK: usize = 1024;
    const BLOCKS: usize = 100;

    bench.format(&["-b", "1024", "-N", "16000", "16M"])?;
    bench.mount()?;
    let single = |number: usize| bench.path(format!("single{number}"));
    let mut count = 0;
    while fs::write(single(count), [1; BLOCK]).is_ok() {
        count += 1;
    }
    rustix::fs::sync();
    for number in (0..count).step_by(2) {
        fs::remove_file(single(number))?;
    }
    rustix::fs::sync();
    // What nobody may reserve is free in one piece. A first file takes it.
    fs::write(bench.path("first"), vec![2; BLOCK * 1000])?;
    rustix::fs::sync();

    let path = bench.path("second");
    let data: Vec<u8> = (0..BLOCK * BLOCKS).map(|at| (at / BLOCK) as u8).collect();
    fs::write(&path, &data)?;
    let last = format!("sync_range -abw {} {BLOCK}", BLOCK * (BLOCKS - 1));
    must("xfs_io", &["-c", &last, text(&path)])?;
    // Tells of an error that writeback had met.
    File::open(&path)?.sync_all()?;
    let extents = must("filefrag", &[text(&path)])?;
    let extents: usize = extents
        .rsplit(": ")
        .next()
        .and_then(|words| words.split(' ').next()?.parse().ok())
        .with_context(|| format!("filefrag said {extents}"))?;
    anyhow::ensure!(
        extents > BLOCKS / 2,
        "the free space was not scattered: a file of {BLOCKS} blocks has {extents} extents"
    );
    bench.drop_caches()?;
    anyhow::ensure!(fs::read(&path)? == data, "{} changed", path.display());
    Ok(())
}
