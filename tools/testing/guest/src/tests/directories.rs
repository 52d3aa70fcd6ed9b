// SPDX-License-Identifier: GPL-2.0

//! Directories: very large ones, and reading them while they change.

use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::tests::smoke::names;
use anyhow::Context;
use rustix::fs::Dir;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::path::Path;

/// The length makes an index of two levels necessary at a block size of 4 KiB.
fn name(number: u64) -> String {
    format!("a-name-that-fills-blocks-{number:07}")
}

fn expect_names(dir: &Path, expected: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let expected: BTreeSet<String> = expected.collect();
    let found = names(dir)?;
    anyhow::ensure!(
        found == expected,
        "{} names instead of {}; missing: {:?}; surplus: {:?}",
        found.len(),
        expected.len(),
        expected.difference(&found).take(3).collect::<Vec<_>>(),
        found.difference(&expected).take(3).collect::<Vec<_>>()
    );
    Ok(())
}

/// 100,000 names in one directory: made, found, listed, renamed, removed.
pub fn large(bench: &Bench) -> anyhow::Result<()> {
    let count = bench.scaled(100_000);
    bench.format(&["-N", "200000"])?;
    bench.mount()?;
    let dir = bench.path("large");
    fs::create_dir(&dir)?;
    let original = bench.path("original");
    File::create(&original)?;
    for number in 0..count {
        let path = dir.join(name(number));
        // Inodes are not what this is about: most names are links, in as many inodes as links allow.
        if number % 100 == 0 {
            File::create(&path).with_context(|| format!("creating name {number}"))?;
        } else {
            let first = dir.join(name(number - number % 100));
            fs::hard_link(first, &path).with_context(|| format!("linking name {number}"))?;
        }
    }
    expect_names(&dir, (0..count).map(name)).context("after creating")?;
    bench.cycle()?;
    expect_names(&dir, (0..count).map(name)).context("after a mount")?;
    let mut rng = bench.rng();
    for _ in 0..2000 {
        let number = rng.below(count);
        dir.join(name(number))
            .symlink_metadata()
            .with_context(|| format!("looking name {number} up"))?;
        let absent = dir.join(name(number) + "-not");
        anyhow::ensure!(absent.symlink_metadata().is_err(), "{absent:?} is there");
    }
    for number in (0..count).step_by(3) {
        let new = dir.join(format!("renamed-{number}"));
        fs::rename(dir.join(name(number)), new)
            .with_context(|| format!("renaming name {number}"))?;
    }
    let left = |number: u64| match number % 3 {
        0 => format!("renamed-{number}"),
        _ => name(number),
    };
    expect_names(&dir, (0..count).map(left)).context("after renaming")?;
    bench.cycle_checked(REFERENCE, "ro")?;
    expect_names(&dir, (0..count).map(left)).context("read by ext4")?;
    bench.umount()?;
    bench.mount()?;
    for number in 0..count {
        fs::remove_file(dir.join(left(number)))
            .with_context(|| format!("removing name {number}"))?;
    }
    expect_names(&dir, std::iter::empty()).context("after removing")?;
    fs::remove_dir(&dir).context("removing the empty directory")
}

/// A directory is read while names come and go: each name that stays is seen exactly once.
pub fn readdir(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["256M"])?;
    bench.mount()?;
    for count in [10, 300, 4000] {
        let dir = bench.path(format!("dir{count}"));
        fs::create_dir(&dir)?;
        for number in 0..count {
            File::create(dir.join(format!("stay{number}")))?;
            File::create(dir.join(format!("go{number}")))?;
        }
        let handle = rustix::fs::open(&dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let mut seen = BTreeSet::new();
        let mut next = 0;
        for entry in Dir::read_from(&handle)? {
            let found = entry?.file_name().to_string_lossy().into_owned();
            if found == "." || found == ".." {
                continue;
            }
            anyhow::ensure!(
                seen.insert(found.clone()),
                "{found} was listed twice, of {count}"
            );
            // One name goes and another comes for every name that is read, so that blocks split under the reader.
            if next < count {
                fs::remove_file(dir.join(format!("go{next}")))?;
                File::create(dir.join(format!("come{next}-{}", "x".repeat(100))))?;
                next += 1;
            }
        }
        for number in 0..count {
            let stay = format!("stay{number}");
            anyhow::ensure!(seen.contains(&stay), "{stay} of {count} was not listed");
        }
    }
    positions(bench)
}

/// A position that was told once leads to the same place after everything before it was removed.
fn positions(bench: &Bench) -> anyhow::Result<()> {
    let dir = bench.path("positions");
    fs::create_dir(&dir)?;
    for number in 0..2000 {
        File::create(dir.join(format!("file{number}")))?;
    }
    let handle = rustix::fs::open(&dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&handle)? {
        let entry = entry?;
        entries.push((
            entry.file_name().to_string_lossy().into_owned(),
            entry.offset(),
        ));
    }
    let middle = entries.len() / 2;
    for (found, _) in &entries[..middle] {
        if found.starts_with("file") {
            fs::remove_file(dir.join(found))?;
        }
    }
    let position = entries[middle].1;
    rustix::fs::seek(&handle, rustix::fs::SeekFrom::Start(position as u64))
        .with_context(|| format!("seeking to the position {position:#x}"))?;
    let mut rest = Vec::new();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut raw = rustix::fs::RawDir::new(&handle, &mut buffer);
    while let Some(entry) = raw.next() {
        rest.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let expected: Vec<String> = entries[middle + 1..]
        .iter()
        .map(|(found, _)| found.clone())
        .collect();
    anyhow::ensure!(
        rest == expected,
        "from position {position:#x} on, {} names came instead of {}",
        rest.len(),
        expected.len()
    );
    Ok(())
}

/// Directories in a directory: link counts, "..", removal, and a very deep path.
pub fn nested(bench: &Bench) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;

    bench.format(&["256M"])?;
    bench.mount()?;
    let top = bench.path("top");
    fs::create_dir(&top)?;
    for number in 0..500 {
        fs::create_dir(top.join(number.to_string()))?;
    }
    anyhow::ensure!(
        top.metadata()?.nlink() == 502,
        "{} links",
        top.metadata()?.nlink()
    );
    let other = bench.path("other");
    fs::create_dir(&other)?;
    for number in 0..250 {
        fs::rename(top.join(number.to_string()), other.join(number.to_string()))?;
    }
    bench.cycle_checked(&bench.fstype, "")?;
    for (dir, links) in [(&top, 252), (&other, 252)] {
        let found = dir.metadata()?.nlink();
        anyhow::ensure!(found == links, "{} has {found} links", dir.display());
    }
    let parent = other.join("7/..").metadata()?.ino();
    anyhow::ensure!(
        parent == other.metadata()?.ino(),
        "a moved directory has its old parent"
    );
    let mut deep = bench.path("deep");
    for _ in 0..100 {
        fs::create_dir(&deep)?;
        deep.push("level");
    }
    File::create(&deep)?;
    bench.cycle()?;
    anyhow::ensure!(
        deep.symlink_metadata()?.is_file(),
        "the deepest file is missing"
    );
    let error = fs::rename(bench.path("deep"), bench.path("deep/level/level/below"))
        .err()
        .context("a directory was moved below itself")?;
    anyhow::ensure!(error.kind() == std::io::ErrorKind::InvalidInput, "{error}");
    fs::remove_dir_all(bench.path("deep"))?;
    fs::remove_dir_all(&top)?;
    fs::remove_dir_all(&other)?;
    Ok(())
}
