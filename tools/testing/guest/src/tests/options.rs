// SPDX-License-Identifier: GPL-2.0

//! The names of mount options: which are shown, which are said to have no effect, which are refused; and those that the
//! super block stores.

use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::command::must;
use crate::kernel_log::Line;
use anyhow::Context;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs;

/// Options with an effect, and how /proc/mounts shows them; nothing where they ask for the default.
const SHOWN: [(&str, &str); 33] = [
    ("barrier", ""),
    ("barrier=1", ""),
    ("barrier=0", "nobarrier"),
    ("nobarrier", "nobarrier"),
    ("discard", "discard"),
    ("nodiscard", ""),
    ("auto_da_alloc", ""),
    ("auto_da_alloc=0", "noauto_da_alloc"),
    ("noauto_da_alloc", "noauto_da_alloc"),
    ("grpid", "grpid"),
    ("bsdgroups", "grpid"),
    ("nogrpid,sysvgroups", ""),
    ("minixdf", "minixdf"),
    ("minixdf,bsddf", ""),
    ("user_xattr,acl", ""),
    ("nouser_xattr", "nouser_xattr"),
    ("noacl", "noacl"),
    ("debug", "debug"),
    ("journal_checksum", ""),
    ("nojournal_checksum", "nojournal_checksum"),
    ("errors=continue", ""),
    ("errors=remount-ro", "errors=remount-ro"),
    ("errors=panic", "errors=panic"),
    ("commit=17", "commit=17"),
    ("commit=0", ""),
    (
        "min_batch_time=7,max_batch_time=9",
        "min_batch_time=7 max_batch_time=9",
    ),
    ("resuid=5,resgid=6", "resuid=5 resgid=6"),
    ("max_dir_size_kb=64", "max_dir_size_kb=64"),
    ("journal_ioprio=5", "journal_ioprio=5"),
    ("journal_ioprio=3,data=ordered", ""),
    ("ro,norecovery", "norecovery"),
    ("ro,noload", "norecovery"),
    ("sb=1", ""),
];

/// Options that ask for what is so anyway.
const AS_IT_IS: &str = "block_validity,delalloc,dioread_nolock,i_version,noinit_itable,nombcache,no_mbcache,\
    no_prefetch_block_bitmaps,nowarn_on_error,data_err=ignore,dax=never,dax=inode,noquota,usrjquota=,grpjquota=";

/// Options that ask for something else, in vain.
const IN_VAIN: &str = "noblock_validity,nodelalloc,dioread_lock,nodioread_nolock,init_itable,init_itable=5,\
    inlinecrypt,inode_readahead_blks=16,mb_optimize_scan=1,stripe=8,debug_want_extra_isize=32,warn_on_error,\
    data=writeback,abort";

/// Options that ext4 has dropped.
const DROPPED: &str =
    "bh,nobh,orlov,oldalloc,check=none,nocheck,reservation,noreservation,mblk_io_submit,\
    nomblk_io_submit,prefetch_block_bitmaps,journal=7";

/// Options that are refused.
const REFUSED: &str = "data=journal,data_err=abort,dax,dax=always,journal_async_commit,journal_dev=2050,\
    journal_path=/dev/null,nouid32,test_dummy_encryption,test_dummy_encryption=v2,quota,usrquota,grpquota,prjquota,\
    usrjquota=aquota.user,grpjquota=aquota.group,jqfmt=vfsv1,journal_ioprio=8,inode_readahead_blks=3,\
    mb_optimize_scan=2,commit=4294967295";

/// What /proc/mounts shows of a mount, less what is the kernel's.
pub fn shown(bench: &Bench) -> anyhow::Result<BTreeSet<String>> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let line = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == bench.dir.to_str())
        .context("the mount is not in /proc/mounts")?;
    Ok(line
        .split(' ')
        .nth(3)
        .unwrap_or("")
        .split(',')
        .filter(|word| !["rw", "ro", "relatime", "seclabel"].contains(word))
        .map(String::from)
        .collect())
}

/// The name in "name=value".
fn name_of(option: &str) -> &str {
    option.split('=').next().unwrap_or(option)
}

/// What the kernel said since it had said `before` lines, of this disk.
fn said_since(bench: &Bench, before: usize) -> anyhow::Result<Vec<Line>> {
    let mut lines = bench.messages()?.split_off(before);
    lines.retain(|line| line.text.contains(bench.device_name()));
    Ok(lines)
}

/// Every option of ext4 is known, and shown, or named as one without effect, or refused by name.
pub fn names(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&["16M"])?;
    for (option, words) in SHOWN {
        bench.mount_with(option)?;
        let shown = shown(bench)?;
        bench.umount()?;
        // The kernel's ext4 knows no journal_ioprio there, and shows "norecovery" and "errors" in its own way.
        if bench.is_ferrofs() {
            let expected: BTreeSet<String> = words.split_whitespace().map(String::from).collect();
            anyhow::ensure!(
                shown == expected,
                "{option} is shown as {shown:?}, not as {expected:?}"
            );
        }
    }
    if !bench.is_ferrofs() {
        return Ok(());
    }
    bench.expect_message("has no effect");
    bench.expect_message("is ignored");
    for (options, phrase, level) in [
        (AS_IT_IS, "has no effect", 6),
        (IN_VAIN, "has no effect", 4),
        (DROPPED, "is ignored", 4),
    ] {
        let before = bench.messages()?.len();
        bench.mount_with(options)?;
        let shown = shown(bench)?;
        bench.umount()?;
        anyhow::ensure!(shown.is_empty(), "{options} is shown as {shown:?}");
        let said = said_since(bench, before)?;
        for option in options.split(',') {
            let name = name_of(option);
            let words = format!("{name} {phrase}");
            anyhow::ensure!(
                option == "data=writeback"
                    || said
                        .iter()
                        .any(|line| line.level == level && line.text.contains(&words)),
                "nothing was said of {option} in {said:#?}"
            );
        }
    }
    for option in REFUSED.split(',') {
        bench.expect_message(name_of(option));
        let before = bench.messages()?.len();
        let result = bench.try_mount(&bench.fstype, option);
        anyhow::ensure!(result == Err(Errno::INVAL), "{option}: {result:?}");
        let said = said_since(bench, before)?;
        anyhow::ensure!(
            said.iter().any(|line| line.text.contains(name_of(option))),
            "{option} was refused without its name: {said:#?}"
        );
    }
    remounts(bench)
}

/// What a remount changes, and what it does not.
fn remounts(bench: &Bench) -> anyhow::Result<()> {
    bench.mount()?;
    for (option, word) in [
        ("commit=9", "commit=9"),
        ("nobarrier", "nobarrier"),
        ("discard", "discard"),
        ("journal_ioprio=6", "journal_ioprio=6"),
        ("errors=remount-ro", "errors=remount-ro"),
        ("max_dir_size_kb=8", "max_dir_size_kb=8"),
    ] {
        bench.remount(option).with_context(|| option.to_string())?;
        anyhow::ensure!(
            shown(bench)?.contains(word),
            "{option}: {:?}",
            shown(bench)?
        );
    }
    anyhow::ensure!(
        shown(bench)?.len() == 6,
        "an option that was not named did not stay: {:?}",
        shown(bench)?
    );
    for wrong in ["norecovery", "data=journal", "commit=x"] {
        bench.expect_message(name_of(wrong));
        anyhow::ensure!(
            bench.remount(wrong) == Err(Errno::INVAL),
            "a remount took {wrong}"
        );
    }
    for ignored in ["sb=1", "nojournal_checksum"] {
        bench
            .remount(ignored)
            .with_context(|| ignored.to_string())?;
    }
    anyhow::ensure!(
        shown(bench)?.len() == 6,
        "a remount has changed what it cannot: {:?}",
        shown(bench)?
    );
    bench.umount()
}

/// How many blocks the file system says that it has.
pub fn blocks(bench: &Bench) -> anyhow::Result<u64> {
    Ok(rustix::fs::statvfs(&bench.dir)?.f_blocks)
}

/// Options in the super block are in force, under those of the user, as in the kernel's ext4.
pub fn stored(bench: &Bench) -> anyhow::Result<()> {
    for options in [
        "minixdf",
        "commit=17,minixdf,nobarrier",
        "minixdf,nonsense",
        "commit=zero",
    ] {
        bench.format(&["16M"])?;
        // "tune2fs -E mount_opts=" does the same, with one option only.
        let request = format!("set_super_value mount_opts {options}");
        must("debugfs", &["-w", "-R", &request, bench.device()])?;
        let is_wrong = options.contains("nonsense") || options.contains("zero");
        // The kernel's ext4 gives the name of the first one only.
        let named = name_of(options.split(',').next().unwrap_or(options));
        let mut sizes = Vec::new();
        for fstype in [bench.fstype.as_str(), REFERENCE] {
            if is_wrong {
                bench.expect_message("nonsense");
                bench.expect_message("in superblock");
                bench.expect_message("in the super block");
                bench.expect_message("Bad value for 'commit'");
            }
            let before = bench.messages()?.len();
            bench.mount_as(fstype, "")?;
            sizes.push(blocks(bench)?);
            let by_default = shown(bench)?;
            bench.umount()?;
            let said = said_since(bench, before)?;
            anyhow::ensure!(
                said.iter().any(|line| line.text.contains(named)) == is_wrong,
                "{fstype} said this of {options}: {said:#?}"
            );
            anyhow::ensure!(
                fstype == REFERENCE || by_default.is_empty(),
                "the defaults of the disk are shown: {by_default:?}"
            );
            bench.mount_as(fstype, "bsddf,commit=5,barrier")?;
            sizes.push(blocks(bench)?);
            let overridden = shown(bench)?;
            bench.umount()?;
            if options.contains("commit=17") && fstype != REFERENCE {
                anyhow::ensure!(
                    overridden.contains("commit=5") && overridden.contains("barrier"),
                    "the options of the user over those of the disk are shown as {overridden:?}"
                );
            }
        }
        anyhow::ensure!(
            sizes[0] == sizes[2] && sizes[1] == sizes[3] && (sizes[0] > sizes[1]) != is_wrong,
            "with {options} on the disk its size is {sizes:?}, by {} and by {REFERENCE}",
            bench.fstype
        );
    }
    if !bench.is_ferrofs() {
        return Ok(());
    }

    journal_data(bench)
}

/// What `tune2fs -o` has set is refused and named as the option is.
fn journal_data(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_message("data=journal");
    bench.expect_message("has no effect");
    bench.format(&["16M"])?;
    must(
        "tune2fs",
        &["-o", "journal_data,nodelalloc,uid16", bench.device()],
    )?;
    let before = bench.messages()?.len();
    let result = bench.try_mount(&bench.fstype, "");
    anyhow::ensure!(result == Err(Errno::INVAL), "journal_data: {result:?}");
    bench.mount_with("data=ordered")?;
    bench.umount()?;
    let said = said_since(bench, before)?;
    for words in ["data=journal is not", "nodelalloc has no", "uid16 has no"] {
        anyhow::ensure!(
            said.iter().any(|line| line.text.contains(words)),
            "{words}... was not said: {said:#?}"
        );
    }
    Ok(())
}

/// The log tells that a mount begins and ends, and recommends a check when `tune2fs -c` and `-i` want one.
pub fn announced(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_message("e2fsck is recommended");
    for (arguments, wants_check) in [
        (["-c", "0", "-i", "0"], false),
        (["-c", "20", "-i", "30d"], false),
        (["-c", "1", "-i", "0"], true),
        (["-c", "0", "-i", "1d"], true),
    ] {
        bench.format(&["16M"])?;
        must("tune2fs", &[&arguments[..], &[bench.device()]].concat())?;
        // One mount since the last check, which was long ago where that counts.
        let last = if arguments[3] == "1d" {
            "20200101"
        } else {
            "now"
        };
        must("tune2fs", &["-C", "1", "-T", last, bench.device()])?;
        let uuid = must("blkid", &["-o", "value", "-s", "UUID", bench.device()])?;
        for (fstype, options) in [
            (bench.fstype.as_str(), ""),
            (&bench.fstype, "ro"),
            (REFERENCE, ""),
        ] {
            let before = bench.messages()?.len();
            bench.mount_as(fstype, options)?;
            bench.umount()?;
            let said = said_since(bench, before)?;
            let count = |words: &str| said.iter().filter(|line| line.text.contains(words)).count();
            let level = said.iter().map(|line| line.level).min();
            let warns = wants_check && options != "ro";
            // The kernel's ext4 does not tell of each of many mounts.
            let told = fstype == REFERENCE
                || count(" mounted") == 1
                    && count("unmounted") == 1
                    && count(uuid.trim()) == 2
                    && level == Some(if warns { 4 } else { 6 });
            anyhow::ensure!(
                told && count("e2fsck is recommended") == usize::from(warns),
                "{fstype} ({options}) after tune2fs {arguments:?} said {said:#?}"
            );
        }
    }
    Ok(())
}
