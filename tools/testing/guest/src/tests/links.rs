// SPDX-License-Identifier: GPL-2.0

//! The kinds of inodes and names beyond plain files: symbolic links, devices, files without a name, all kinds of rename.

use crate::bench::Bench;
use crate::bench::REFERENCE;
use anyhow::Context;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::CWD;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Symbolic links in the inode and in a block, of every interesting length.
pub fn symlinks(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "256M"])?;
    bench.mount()?;
    let lengths = [
        1, 2, 58, 59, 60, 61, 100, 1000, 1023, 1024, 4000, 4094, 4095,
    ];
    let check = |who: &str| -> anyhow::Result<()> {
        for length in lengths {
            let path = bench.path(format!("link{length}"));
            let target =
                fs::read_link(&path).with_context(|| format!("reading {path:?}, {who}"))?;
            anyhow::ensure!(
                target == Path::new(&"t".repeat(length)),
                "{path:?} differs, {who}"
            );
            let size = path.symlink_metadata()?.len();
            anyhow::ensure!(size == length as u64, "{path:?} has size {size}, {who}");
        }
        Ok(())
    };
    for length in lengths {
        symlink("t".repeat(length), bench.path(format!("link{length}")))
            .with_context(|| format!("a symbolic link of {length} bytes"))?;
    }
    check("live")?;
    fs::write(bench.path("target"), "followed")?;
    symlink("target", bench.path("follow"))?;
    anyhow::ensure!(fs::read_to_string(bench.path("follow"))? == "followed");
    bench.cycle()?;
    check("after a mount")?;
    bench.cycle_checked(REFERENCE, "")?;
    check("by ext4")?;
    for length in lengths {
        symlink("t".repeat(length), bench.path(format!("by-ext4-{length}")))?;
    }
    bench.cycle_checked(&bench.fstype, "")?;
    for length in lengths {
        let target = fs::read_link(bench.path(format!("by-ext4-{length}")))?;
        anyhow::ensure!(
            target == Path::new(&"t".repeat(length)),
            "ext4's link of {length} bytes"
        );
        fs::remove_file(bench.path(format!("by-ext4-{length}")))?;
        fs::remove_file(bench.path(format!("link{length}")))?;
    }
    Ok(())
}

/// Devices, pipes and sockets keep their kind and number.
pub fn special(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "256M"])?;
    bench.mount()?;
    let kinds = [
        ("pipe", FileType::Fifo, 0, 0),
        ("socket", FileType::Socket, 0, 0),
        ("char", FileType::CharacterDevice, 1, 3),
        ("block", FileType::BlockDevice, 8, 255),
        ("large", FileType::CharacterDevice, 300, 70_000),
    ];
    for (name, kind, major, minor) in kinds {
        rustix::fs::mknodat(
            CWD,
            bench.path(name),
            kind,
            Mode::from_raw_mode(0o640),
            rustix::fs::makedev(major, minor),
        )
        .with_context(|| format!("making the {name}"))?;
    }
    for fstype in [bench.fstype.as_str(), REFERENCE] {
        bench.cycle_checked(fstype, "")?;
        for (name, kind, major, minor) in kinds {
            let meta = bench.path(name).symlink_metadata()?;
            anyhow::ensure!(
                FileType::from_raw_mode(meta.mode()) == kind,
                "{name} is {:?} for {fstype}",
                meta.file_type()
            );
            let number = (
                rustix::fs::major(meta.rdev()),
                rustix::fs::minor(meta.rdev()),
            );
            anyhow::ensure!(
                number == (major, minor),
                "{name} is device {number:?} for {fstype}"
            );
        }
    }
    bench.cycle()?;
    // A character device of the disk's is the kernel's: what is written to null is gone, what is read is nothing.
    let mut null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(bench.path("char"))?;
    null.write_all(b"gone")?;
    anyhow::ensure!(
        fs::read(bench.path("char"))?.is_empty(),
        "/dev/null held something"
    );
    anyhow::ensure!(bench.path("pipe").symlink_metadata()?.file_type().is_fifo());
    Ok(())
}

/// Files without a name: given one, and given up.
pub fn tmpfile(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "256M"])?;
    bench.mount()?;
    let free = rustix::fs::statvfs(&bench.dir)?.f_bfree;
    for number in 0..20 {
        let handle = rustix::fs::open(
            &bench.dir,
            OFlags::TMPFILE | OFlags::RDWR,
            Mode::from_raw_mode(0o600),
        )
        .context("O_TMPFILE")?;
        let mut file = File::from(handle);
        anyhow::ensure!(file.metadata()?.nlink() == 0, "a nameless file has links");
        file.write_all(&vec![number as u8 + 1; 100_000])?;
        if number % 2 == 0 {
            use std::os::fd::AsRawFd;
            let source = format!("/proc/self/fd/{}", file.as_raw_fd());
            let target = bench.path(format!("named{number}"));
            rustix::fs::linkat(CWD, source, CWD, target, AtFlags::SYMLINK_FOLLOW)
                .context("naming a nameless file")?;
            anyhow::ensure!(file.metadata()?.nlink() == 1, "a named file has no link");
        }
        file.sync_all()?;
    }
    let exclusive = rustix::fs::open(
        &bench.dir,
        OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL,
        Mode::from_raw_mode(0o600),
    )?;
    {
        use std::os::fd::AsRawFd;
        let source = format!("/proc/self/fd/{}", exclusive.as_raw_fd());
        let refused = rustix::fs::linkat(
            CWD,
            source,
            CWD,
            bench.path("never"),
            AtFlags::SYMLINK_FOLLOW,
        );
        anyhow::ensure!(
            refused == Err(Errno::NOENT),
            "O_EXCL was ignored: {refused:?}"
        );
    }
    drop(exclusive);
    bench.cycle_checked(&bench.fstype, "")?;
    for number in (0..20).step_by(2) {
        let contents = fs::read(bench.path(format!("named{number}")))?;
        anyhow::ensure!(
            contents == vec![number as u8 + 1; 100_000],
            "named{number} differs"
        );
        fs::remove_file(bench.path(format!("named{number}")))?;
    }
    bench.cycle()?;
    let left = rustix::fs::statvfs(&bench.dir)?.f_bfree;
    anyhow::ensure!(
        left == free,
        "{left} blocks are free, and {free} were before"
    );
    Ok(())
}

fn write_named(bench: &Bench, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        fs::write(bench.path(name), name).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

fn holds(bench: &Bench, name: &str, contents: &str) -> anyhow::Result<()> {
    let found = fs::read_to_string(bench.path(name)).with_context(|| format!("reading {name}"))?;
    anyhow::ensure!(
        found == contents,
        "{name} holds {found:?} instead of {contents:?}"
    );
    Ok(())
}

/// NOREPLACE, EXCHANGE and WHITEOUT, in one directory and between two.
pub fn rename(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "256M"])?;
    bench.mount()?;
    fs::create_dir(bench.path("d"))?;
    fs::create_dir(bench.path("d/sub"))?;
    fs::create_dir(bench.path("e"))?;
    write_named(bench, &["a", "b", "c", "d/x", "w", "e/inner"])?;
    let rename = |from: &str, to: &str, flags| {
        rustix::fs::renameat_with(CWD, bench.path(from), CWD, bench.path(to), flags)
    };
    anyhow::ensure!(
        rename("a", "b", RenameFlags::NOREPLACE) == Err(Errno::EXIST),
        "NOREPLACE"
    );
    rename("a", "a2", RenameFlags::NOREPLACE)?;
    rename("a2", "b", RenameFlags::EXCHANGE).context("exchanging files")?;
    holds(bench, "a2", "b")?;
    holds(bench, "b", "a")?;
    rename("b", "d/x", RenameFlags::EXCHANGE).context("exchanging between directories")?;
    holds(bench, "d/x", "a")?;
    rename("c", "d/sub", RenameFlags::EXCHANGE).context("exchanging a file and a directory")?;
    holds(bench, "d/sub", "c")?;
    rename("e", "c", RenameFlags::EXCHANGE).context("exchanging directories")?;
    holds(bench, "c/inner", "e/inner")?;
    anyhow::ensure!(
        rename("a2", "missing", RenameFlags::EXCHANGE) == Err(Errno::NOENT),
        "an exchange with nothing"
    );
    rename("w", "w2", RenameFlags::WHITEOUT).context("leaving a whiteout")?;
    let whiteout = bench.path("w").symlink_metadata()?;
    anyhow::ensure!(
        whiteout.file_type().is_char_device() && whiteout.rdev() == 0,
        "no whiteout"
    );
    anyhow::ensure!(
        rename("d", "c", RenameFlags::empty()) == Err(Errno::NOTEMPTY),
        "over a full one"
    );
    anyhow::ensure!(
        rename("a2", "c", RenameFlags::empty()) == Err(Errno::ISDIR),
        "file over directory"
    );
    anyhow::ensure!(
        rename("c", "a2", RenameFlags::empty()) == Err(Errno::NOTDIR),
        "directory over file"
    );
    for fstype in [bench.fstype.as_str(), REFERENCE] {
        bench.cycle_checked(fstype, "")?;
        for (name, contents) in [
            ("a2", "b"),
            ("d/x", "a"),
            ("d/sub", "c"),
            ("c/inner", "e/inner"),
            ("w2", "w"),
        ] {
            holds(bench, name, contents).with_context(|| format!("for {fstype}"))?;
        }
        let links = [("d", 2), ("c", 2), (".", 6)];
        for (name, expected) in links {
            let found = bench.path(name).metadata()?.nlink();
            anyhow::ensure!(found == expected, "{name} has {found} links for {fstype}");
        }
    }
    Ok(())
}
