// SPDX-License-Identifier: GPL-2.0

//! What inodes hold beside contents: extended attributes, access control lists, times, flags.

use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::clock::next_tick;
use crate::command::must;
use crate::command::run;
use crate::model::xattrs;
use anyhow::Context;
use rustix::fs::AtFlags;
use rustix::fs::StatxFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::XattrFlags;
use rustix::fs::CWD;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::path::Path;

fn set(path: &Path, name: &str, value: &[u8], flags: XattrFlags) -> Result<(), Errno> {
    rustix::fs::setxattr(path, name, value, flags)
}

/// Extended attributes in the inode and in blocks of their own, shared or not.
pub fn extended(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "256M"])?;
    bench.mount()?;
    let path = bench.path("file");
    File::create(&path)?;
    let mut expected = BTreeMap::new();
    // In the inode, then in its block as well, from both and back.
    for (number, size) in [10, 60, 200, 700, 1, 0, 1500].into_iter().enumerate() {
        let name = format!("user.attribute{number}");
        let value = bench.rng().bytes(size);
        set(&path, &name, &value, XattrFlags::CREATE).with_context(|| format!("setting {name}"))?;
        expected.insert(name, value);
        anyhow::ensure!(
            xattrs(&path)? == expected,
            "after setting attribute {number}"
        );
    }
    anyhow::ensure!(
        set(&path, "user.attribute0", b"x", XattrFlags::CREATE) == Err(Errno::EXIST),
        "an attribute was made twice"
    );
    anyhow::ensure!(
        set(&path, "user.none", b"x", XattrFlags::REPLACE) == Err(Errno::NODATA),
        "an attribute that is not there was replaced"
    );
    let huge = vec![7; 5000];
    anyhow::ensure!(
        set(&path, "user.huge", &huge, XattrFlags::empty()) == Err(Errno::NOSPC),
        "an attribute that is larger than a block was taken"
    );
    anyhow::ensure!(
        xattrs(&path)? == expected,
        "a refused attribute changed something"
    );
    set(&path, "user.attribute0", &[1; 40], XattrFlags::REPLACE)?;
    expected.insert("user.attribute0".into(), vec![1; 40]);
    set(&path, "trusted.key", b"root's", XattrFlags::empty())?;
    expected.insert("trusted.key".into(), b"root's".to_vec());
    set(&path, "security.key", b"a module's", XattrFlags::empty())?;
    expected.insert("security.key".into(), b"a module's".to_vec());

    // Many files with the same attributes share a block; one of them changes its own.
    let many: Vec<_> = (0..50)
        .map(|number| bench.path(format!("many{number}")))
        .collect();
    for path in &many {
        File::create(path)?;
        set(path, "user.shared", &[9; 900], XattrFlags::empty())?;
    }
    set(&many[7], "user.own", b"mine", XattrFlags::empty())?;
    fs::remove_file(&many[8])?;
    for fstype in [bench.fstype.as_str(), REFERENCE, bench.fstype.as_str()] {
        bench.cycle_checked(fstype, "")?;
        anyhow::ensure!(xattrs(&path)? == expected, "for {fstype}");
        for (number, path) in many.iter().enumerate().filter(|(number, _)| *number != 8) {
            let found = xattrs(path)?;
            anyhow::ensure!(found["user.shared"] == [9; 900], "{path:?} for {fstype}");
            anyhow::ensure!(
                found.contains_key("user.own") == (number == 7),
                "{path:?} for {fstype}"
            );
        }
    }
    let names: Vec<String> = expected.keys().cloned().collect();
    for name in names {
        rustix::fs::removexattr(&path, &name).with_context(|| format!("removing {name}"))?;
        expected.remove(&name);
        anyhow::ensure!(xattrs(&path)? == expected, "after removing {name}");
    }
    anyhow::ensure!(
        rustix::fs::removexattr(&path, "user.none") == Err(Errno::NODATA),
        "an attribute that is not there was removed"
    );
    let link = bench.path("link");
    std::os::unix::fs::symlink("file", &link)?;
    anyhow::ensure!(
        rustix::fs::lsetxattr(&link, "user.key", b"x", XattrFlags::empty()) == Err(Errno::PERM),
        "a symbolic link got a user attribute"
    );
    Ok(())
}

/// Access control lists are kept, inherited and obeyed.
pub fn acl(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "256M"])?;
    bench.mount()?;
    let dir = bench.path("dir");
    let file = bench.path("dir/file");
    fs::create_dir(&dir)?;
    let dir_text = crate::bench::text(&dir);
    let file_text = crate::bench::text(&file);
    must(
        "setfacl",
        &["-m", "u:1234:rwx,d:u:1234:rw,d:g:77:r", dir_text],
    )?;
    fs::write(&file, "inherited")?;
    must("chmod", &["755", crate::bench::text(&bench.dir)])?;
    for fstype in [bench.fstype.as_str(), REFERENCE] {
        bench.cycle_checked(fstype, "")?;
        let text = must("getfacl", &["-n", "-p", file_text])?;
        for line in ["user:1234:rw-", "group:77:r--", "mask::rw-"] {
            anyhow::ensure!(text.contains(line), "no {line} for {fstype} in\n{text}");
        }
        let text = must("getfacl", &["-n", "-p", dir_text])?;
        for line in [
            "user:1234:rwx",
            "default:user:1234:rw-",
            "default:group:77:r--",
        ] {
            anyhow::ensure!(text.contains(line), "no {line} for {fstype} in\n{text}");
        }
    }
    bench.cycle()?;
    let may = |user: &str, command: &str| -> anyhow::Result<bool> {
        let identity = [format!("--reuid={user}"), format!("--regid={user}")];
        let arguments = [
            identity[0].as_str(),
            &identity[1],
            "--clear-groups",
            "sh",
            "-c",
            command,
        ];
        Ok(run("setpriv", &arguments)?.status == 0)
    };
    let write = format!("echo changed >>{file_text}");
    anyhow::ensure!(may("1234", &write)?, "the user of the list may not write");
    anyhow::ensure!(!may("4321", &write)?, "another user may write");
    // A change of the mode moves the mask.
    must("chmod", &["g-w", file_text])?;
    anyhow::ensure!(!may("1234", &write)?, "the mask is not obeyed");
    must("setfacl", &["-b", file_text])?;
    anyhow::ensure!(
        xattrs(&file)?.is_empty(),
        "a list that was removed is there"
    );
    Ok(())
}

/// Times from 1901 to 2446, with nanoseconds, and the time of birth.
pub fn times(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "256M"])?;
    bench.mount()?;
    let moments: [(i64, i64); 9] = [
        (-0x8000_0000, 0),
        (-1, 999_999_999),
        (0, 0),
        (0x7fff_ffff, 1),
        (0x8000_0000, 123_456_789),
        (0xffff_ffff, 5),
        (0x1_0000_0000, 6),
        (0x2_1234_5678, 7),
        (0x3_7fff_ffff, 0),
    ];
    let before = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec;
    for (number, (seconds, nanoseconds)) in moments.into_iter().enumerate() {
        let path = bench.path(format!("file{number}"));
        File::create(&path)?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds,
            },
            last_modification: Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds,
            },
        };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty())?;
    }
    let after = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec + 1;
    for fstype in [bench.fstype.as_str(), bench.fstype.as_str(), REFERENCE] {
        for (number, (seconds, nanoseconds)) in moments.into_iter().enumerate() {
            let path = bench.path(format!("file{number}"));
            let all = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
            let stat = rustix::fs::statx(CWD, &path, AtFlags::empty(), all)?;
            for time in [stat.stx_mtime, stat.stx_atime] {
                anyhow::ensure!(
                    (time.tv_sec, i64::from(time.tv_nsec)) == (seconds, nanoseconds),
                    "file{number} has {time:?} instead of {seconds}.{nanoseconds} ({fstype})"
                );
            }
            anyhow::ensure!(
                stat.stx_mask & StatxFlags::BTIME.bits() != 0,
                "no time of birth"
            );
            let birth = stat.stx_btime.tv_sec;
            anyhow::ensure!(
                (before..=after).contains(&birth),
                "file{number} was born at {birth}"
            );
        }
        bench.cycle_checked(fstype, "")?;
    }
    clocks(bench)
}

/// Which operation moves which time.
fn clocks(bench: &Bench) -> anyhow::Result<()> {
    bench.cycle_checked(&bench.fstype, "")?;
    let path = bench.path("clock");
    let read = |path: &Path| -> anyhow::Result<[(i64, u32); 2]> {
        let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)?;
        Ok([stat.stx_mtime, stat.stx_ctime].map(|time| (time.tv_sec, time.tv_nsec)))
    };
    fs::write(&path, "one")?;
    let created = read(&path)?;
    let root = read(&bench.dir)?;
    next_tick();
    fs::write(&path, "two")?;
    let written = read(&path)?;
    anyhow::ensure!(
        written[0] > created[0] && written[1] > created[1],
        "a write moved no time"
    );
    next_tick();
    must("chmod", &["600", crate::bench::text(&path)])?;
    let changed = read(&path)?;
    anyhow::ensure!(
        changed[0] == written[0] && changed[1] > written[1],
        "chmod: {changed:?}"
    );
    anyhow::ensure!(
        read(&bench.dir)? == root,
        "a write into a file moved its directory's times"
    );
    next_tick();
    fs::rename(&path, bench.path("clock2"))?;
    let renamed = read(&bench.path("clock2"))?;
    anyhow::ensure!(renamed[1] > changed[1], "a rename left the change time");
    anyhow::ensure!(
        read(&bench.dir)?[0] > root[0],
        "a rename left the directory's time"
    );
    bench.cycle()?;
    anyhow::ensure!(
        read(&bench.path("clock2"))? == renamed,
        "a mount changed times"
    );
    Ok(())
}

/// Inode flags: set, shown and obeyed.
pub fn flags(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["-b", "4096", "256M"])?;
    bench.mount()?;
    for name in ["immutable", "append", "nodump"] {
        fs::write(bench.path(name), name)?;
    }
    let chattr =
        |change: &str, name: &str| must("chattr", &[change, crate::bench::text(&bench.path(name))]);
    chattr("+i", "immutable")?;
    chattr("+a", "append")?;
    chattr("+dA", "nodump")?;
    for fstype in [bench.fstype.as_str(), REFERENCE, bench.fstype.as_str()] {
        bench.cycle_checked(fstype, "")?;
        for (name, wanted) in [
            ("immutable", "i"),
            ("append", "a"),
            ("nodump", "d"),
            ("nodump", "A"),
        ] {
            let text = must("lsattr", &[crate::bench::text(&bench.path(name))])?;
            let shown = text.split(' ').next().unwrap_or("");
            anyhow::ensure!(shown.contains(wanted), "{name} has {shown} for {fstype}");
        }
    }
    let refused = |result: std::io::Result<()>| {
        result
            .err()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    anyhow::ensure!(
        refused(fs::write(bench.path("immutable"), "x")),
        "immutable was written"
    );
    anyhow::ensure!(
        refused(fs::remove_file(bench.path("immutable"))),
        "immutable was removed"
    );
    anyhow::ensure!(
        refused(fs::write(bench.path("append"), "x")),
        "append was truncated"
    );
    use std::io::Write;
    fs::OpenOptions::new()
        .append(true)
        .open(bench.path("append"))?
        .write_all(b"+")?;
    anyhow::ensure!(fs::read_to_string(bench.path("append"))? == "append+");
    chattr("-i", "immutable")?;
    chattr("-a", "append")?;
    late(bench)?;
    fs::remove_file(bench.path("immutable")).context("removing what is immutable no more")
}

/// A file becomes immutable when it is open for writing already, and mapped.
fn late(bench: &Bench) -> anyhow::Result<()> {
    const MAPPED: &str = "import mmap, subprocess, sys\n\
        f = open(sys.argv[1], 'r+b')\n\
        m = mmap.mmap(f.fileno(), 0)\n\
        subprocess.check_call(['chattr', '+i', sys.argv[1]])\n\
        m[0] = 1\n";
    const SIGBUS: i32 = 7;

    let path = bench.path("late");
    fs::write(&path, vec![1; 8192])?;
    let file = fs::OpenOptions::new().write(true).open(&path)?;
    let name = crate::bench::text(&path);
    let output = run("python3", &["-c", MAPPED, name])?;
    anyhow::ensure!(
        output.status == 128 + SIGBUS,
        "written through a mapping: {output:?}"
    );
    let is_refused = |result: std::io::Result<()>| {
        result.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    use std::os::unix::fs::FileExt;
    anyhow::ensure!(
        is_refused(file.write_all_at(&[2], 0)),
        "written by who had it open"
    );
    anyhow::ensure!(is_refused(file.set_len(1)), "cut by who had it open");
    anyhow::ensure!(
        run("chattr", &["+d", name])?.status != 0,
        "another flag was set"
    );
    must("chattr", &["-i", name])?;
    anyhow::ensure!(fs::read(&path)? == vec![1; 8192], "it was changed");
    Ok(())
}
