// SPDX-License-Identifier: GPL-2.0

//! Operations on names that fail: nothing is done by halves.

use crate::bench::text;
use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::command::must;
use crate::mapped::Mapped;
use crate::tests::checksums::inode_place;
use crate::tests::io_errors::expect_failures;
use crate::tests::io_errors::must_fail;
use crate::tests::io_errors::BLOCK;
use crate::tests::io_errors::SIZE;
use crate::tests::io_errors::SIZE_NAME;
use anyhow::Context;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::CWD;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Directories, and then files, of which each has its inode in a block of its own.
const DIRS: [&str; 5] = ["top", "top/a", "top/b", "top/a/dir", "top/b/empty"];
const FILES: [&str; 2] = ["top/a/file", "top/b/other"];

/// How many inodes a block of the inode table has.
const INODES_PER_BLOCK: u32 = 16;

/// Inodes that cannot be read when an operation has to change them.
pub fn unreadable(outer: &Bench) -> anyhow::Result<()> {
    for journal in ["has_journal", "^has_journal"] {
        with_unreadable(outer, journal).with_context(|| format!("with -O {journal}"))?;
    }
    Ok(())
}

fn with_unreadable(outer: &Bench, journal: &str) -> anyhow::Result<()> {
    outer.format(&["-b", "4096", "-I", "256", "-O", journal, SIZE_NAME])?;
    outer.mount()?;
    make_tree(outer)?;
    let numbers: Vec<(&str, u64)> = DIRS
        .iter()
        .chain(&FILES)
        .map(|name| Ok((*name, fs::metadata(outer.path(name))?.ino())))
        .collect::<std::io::Result<_>>()?;
    outer.umount()?;
    let mut blocks: Vec<(&str, Range<u64>)> = Vec::new();
    for (name, number) in numbers {
        let start = inode_place(outer, number, BLOCK)? / BLOCK * BLOCK;
        anyhow::ensure!(
            blocks.iter().all(|(_, other)| other.start != start),
            "the inode of {name} shares its block with another one"
        );
        blocks.push((name, start..start + BLOCK));
    }

    let disk = Mapped::new(&outer.disk, SIZE)?;
    let bench = &disk.bench(outer);
    expect_failures(bench);
    // What is changed, if only its time, stays in memory until its journal has written it.
    bench.mount_with("errors=continue,noatime")?;
    // As long as somebody has them open, they are in memory, and the blocks that they came from need not be.
    let open = open_all(bench)?;
    let before = tree(bench)?;
    for (what, failing, operation) in operations() {
        let (_, block) = blocks
            .iter()
            .find(|(name, _)| *name == failing)
            .context("an inode that nobody looked for")?;
        must("blockdev", &["--flushbufs", bench.device()])?;
        disk.fail(std::slice::from_ref(block))?;
        let result = operation(bench);
        disk.heal()?;
        let what = format!("{what}, without the inode of {failing}");
        must_fail(&what, result.map_err(Into::into), Errno::IO)?;
        let after = tree(bench)?;
        anyhow::ensure!(
            after == before,
            "{what}: there were\n{}\nand now there are\n{}",
            before.join("\n"),
            after.join("\n")
        );
    }
    // Nothing is left over that would be in the way of those who try again.
    for (what, _, operation) in operations() {
        operation(bench).with_context(|| format!("{what}, in the end"))?;
        undo(bench).with_context(|| format!("undoing: {what}"))?;
    }
    anyhow::ensure!(names(&tree(bench)?) == names(&before), "not undone");
    drop(open);
    bench.umount()?;
    bench.fsck()?;
    bench.mount_reference("ro")?;
    anyhow::ensure!(names(&tree(bench)?) == names(&before), "to ext4");
    bench.finish()
}

/// Makes the directories and files, each with enough others behind it that the next inode is in another block,
/// whichever group that is.
fn make_tree(bench: &Bench) -> anyhow::Result<()> {
    let mut others = 0;
    for name in DIRS.iter().chain(&FILES) {
        let path = bench.path(name);
        let beside = if DIRS.contains(name) {
            fs::create_dir(&path)?;
            path.as_path()
        } else {
            fs::write(&path, name)?;
            path.parent().context("a file in no directory")?
        };
        for _ in 0..INODES_PER_BLOCK {
            others += 1;
            let other = beside.join("filler");
            File::create_new(&other)?;
            fs::rename(&other, bench.path(format!("top/{others}")))?;
        }
    }
    Ok(())
}

/// Opens all of them, and has the kernel remember that they have no access control lists.
fn open_all(bench: &Bench) -> anyhow::Result<Vec<OwnedFd>> {
    let mut open = Vec::new();
    for name in DIRS.iter().chain(&FILES) {
        let path = bench.path(name);
        open.push(rustix::fs::open(&path, OFlags::PATH, Mode::empty())?);
        for attribute in ["system.posix_acl_access", "system.posix_acl_default"] {
            let found = rustix::fs::getxattr(&path, attribute, &mut [0; 64]);
            anyhow::ensure!(found.is_err(), "{name} has {attribute}");
        }
    }
    Ok(open)
}

/// The tree as it is seen: name, inode and links of each, but for the others.
fn tree(bench: &Bench) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for dir in DIRS {
        for entry in fs::read_dir(bench.path(dir))? {
            let entry = entry?;
            let name = entry.file_name();
            if dir == "top" && text(Path::new(&name)).parse::<u32>().is_ok() {
                continue;
            }
            let meta = entry.path().symlink_metadata()?;
            lines.push(format!(
                "{dir}/{}: inode {}, {} links",
                text(Path::new(&name)),
                meta.ino(),
                meta.nlink()
            ));
        }
    }
    lines.sort();
    Ok(lines)
}

/// The names of a tree.
fn names(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| line.split(": ").next())
        .collect()
}

type Operation = fn(&Bench) -> rustix::io::Result<()>;

fn rename(bench: &Bench, from: &str, to: &str, flags: RenameFlags) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, bench.path(from), CWD, bench.path(to), flags)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}

/// What is done, whose inode cannot be read meanwhile, and how it is done. The new name is "top/b/new".
fn operations() -> Vec<(&'static str, &'static str, Operation)> {
    let create: Operation = |bench| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        rustix::fs::open(bench.path("top/b/new"), flags, Mode::RUSR).map(drop)
    };
    let mkdir: Operation = |bench| rustix::fs::mkdir(bench.path("top/b/new"), Mode::RWXU);
    let symbolic: Operation = |bench| {
        let made = symlink("x".repeat(100), bench.path("top/b/new"));
        made.map_err(|error| errno(&error))
    };
    let link: Operation =
        |bench| rustix::fs::link(bench.path("top/a/file"), bench.path("top/b/new"));
    let unlink: Operation = |bench| rustix::fs::unlink(bench.path("top/a/file"));
    let rmdir: Operation = |bench| rustix::fs::rmdir(bench.path("top/b/empty"));
    let move_file: Operation =
        |bench| rename(bench, "top/a/file", "top/b/new", RenameFlags::NOREPLACE);
    let move_dir: Operation = |bench| rename(bench, "top/a/dir", "top/b/new", RenameFlags::empty());
    let replace: Operation =
        |bench| rename(bench, "top/a/file", "top/b/other", RenameFlags::empty());
    let replace_dir: Operation =
        |bench| rename(bench, "top/a/dir", "top/b/empty", RenameFlags::empty());
    let exchange: Operation =
        |bench| rename(bench, "top/a/file", "top/b/empty", RenameFlags::EXCHANGE);
    let whiteout: Operation =
        |bench| rename(bench, "top/a/file", "top/b/new", RenameFlags::WHITEOUT);
    vec![
        ("a new file", "top/b", create),
        ("a new directory", "top/b", mkdir),
        ("a symbolic link", "top/b", symbolic),
        ("a link", "top/a/file", link),
        ("a link", "top/b", link),
        ("unlink", "top/a/file", unlink),
        ("unlink", "top/a", unlink),
        ("rmdir", "top/b/empty", rmdir),
        ("rmdir", "top/b", rmdir),
        ("a file moves", "top/a/file", move_file),
        ("a file moves", "top/a", move_file),
        ("a directory moves", "top/b", move_dir),
        ("a file is replaced", "top/b/other", replace),
        ("a directory is replaced", "top/b/empty", replace_dir),
        ("an exchange", "top/b/empty", exchange),
        ("a whiteout", "top/a", whiteout),
    ]
}

/// Brings the tree back to the names that it had, after one of the operations.
fn undo(bench: &Bench) -> anyhow::Result<()> {
    let new = bench.path("top/b/new");
    for name in ["top/a/file", "top/b/other"] {
        let path = bench.path(name);
        if !path.is_file() {
            // A whiteout, what was exchanged, or nothing.
            match path.symlink_metadata() {
                Ok(meta) if meta.is_dir() => fs::remove_dir(&path)?,
                Ok(_) => fs::remove_file(&path)?,
                Err(_) => {}
            }
            fs::write(&path, name)?;
        }
    }
    match new.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir(&new)?,
        Ok(_) => fs::remove_file(&new)?,
        Err(_) => {}
    }
    for name in ["top/a/dir", "top/b/empty"] {
        let path = bench.path(name);
        if path.is_file() {
            fs::remove_file(&path)?;
        }
        if !path.exists() {
            fs::create_dir(&path)?;
        }
    }
    Ok(())
}

/// A file without a name that is to get one in a directory which has no room for it stays without one, and goes away.
pub fn without_room(bench: &Bench) -> anyhow::Result<()> {
    for orphans in ["orphan_file", "^orphan_file"] {
        nameless(bench, orphans).with_context(|| format!("with -O {orphans}"))?;
    }
    Ok(())
}

fn nameless(bench: &Bench, orphans: &str) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "-O", orphans, "16M"])?;
    bench.mount_with("max_dir_size_kb=4")?;
    let dir = bench.path("full");
    fs::create_dir(&dir)?;
    let name = |number: u32| dir.join(format!("{number:0>200}"));
    let full = (0..100).find_map(|number| File::create(name(number)).err());
    anyhow::ensure!(full.is_some(), "100 long names fit into a block");

    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let open = || rustix::fs::open(&bench.dir, flags, Mode::RUSR | Mode::WUSR);
    let link = |file: &OwnedFd| {
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(CWD, source, CWD, name(1000), AtFlags::SYMLINK_FOLLOW)
    };
    let (lost, named) = (open().context("O_TMPFILE")?, open()?);
    for file in [&lost, &named] {
        let refused = link(file).map_err(Into::into);
        must_fail("a name without room", refused, Errno::NOSPC)?;
    }
    rustix::fs::syncfs(&lost)?;
    // What a crash would leave now: two files that nobody can reach. The log is written behind the back of the
    // device's page cache.
    must("blockdev", &["--flushbufs", bench.device()])?;
    let mut copy = OpenOptions::new().write(true).open(&bench.spare)?;
    std::io::copy(&mut File::open(&bench.disk)?.take(16 << 20), &mut copy)?;
    copy.sync_all()?;
    drop(copy);
    bench.remount("max_dir_size_kb=0").context("remounting")?;
    link(&named).context("with room")?;
    anyhow::ensure!(fs::metadata(name(1000))?.nlink() == 1, "links of the file");
    drop((lost, named));
    bench.cycle_checked(REFERENCE, "ro")?;
    anyhow::ensure!(fs::metadata(name(1000))?.nlink() == 1, "links, by ext4");
    bench.umount()?;

    let crashed = &bench.for_disk(&bench.spare);
    crashed.mount().context("after the crash")?;
    anyhow::ensure!(!name(1000).exists(), "a name that was refused");
    crashed.umount()?;
    crashed.fsck().context("after the crash")?;
    bench.finish()
}
