// SPDX-License-Identifier: GPL-2.0

//! Damage that comes to light late: with the replay of the log, or while the disk is in use.

use crate::bench::Bench;
use crate::command::must;
use crate::setting::Quiet;
use crate::tests::broken::peek;
use crate::tests::broken::poke;
use crate::tests::broken::prepare;
use crate::tests::broken::refused;
use crate::tests::broken::NOT_THIS;
use crate::tests::checksums::debugfs_number;
use crate::tests::checksums::inode_place;
use crate::tests::checksums::place_of;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// What a mount needs besides the super block is damaged: it is refused before anything is written.
pub fn needed(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    prepare(bench, &["-b", "1024", "-O", "^flex_bg,orphan_file"])?;
    let orphan_file = debugfs_number(bench, "stats", "Orphan file inode:")?;
    let first_block = debugfs_number(bench, &format!("bmap <{orphan_file}> 0"), "")?;
    let mode = |inode| Ok::<u64, anyhow::Error>(inode_place(bench, inode, 1024)? + 1);
    for (what, place) in [
        ("the root's inode", mode(2)?),
        ("the journal's inode", mode(8)?),
        ("the orphan file's inode", mode(orphan_file)?),
        ("a block of the orphan file", first_block * 1024 + 40),
    ] {
        let good = peek(bench, place, 1)?;
        poke(bench, place, &[good[0] ^ 0x10])?;
        for options in ["errors=continue", "errors=remount-ro"] {
            refused(bench, what, options, &[Errno::UCLEAN])?;
        }
        poke(bench, place, &good)?;
    }
    bench.mount()?;
    bench.umount()?;
    bench.fsck()
}

/// A log of which the replay puts garbage where the group descriptors were, which have been looked at by then to find
/// the log.
pub fn replayed(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    bench.expect_message("EXT4-fs");
    let contents = "/tmp/descriptors";
    let script = "/tmp/replayed.debugfs";
    let garbage = [
        ("zeroes", vec![0; 1024]),
        ("ones", vec![0xff; 1024]),
        ("random bytes", crate::rng::Rng::new(1).bytes(1024)),
    ];
    for (what, bytes) in garbage {
        for features in ["metadata_csum", "^metadata_csum,^uninit_bg"] {
            bench.format(&["-b", "1024", "-O", features, "32M"])?;
            fs::write(contents, &bytes)?;
            fs::write(script, format!("jo\njw -b 2 {contents}\njc\n"))?;
            must("debugfs", &["-w", "-f", script, bench.device()])?;
            match bench.try_mount(&bench.fstype, "") {
                Ok(()) => {
                    bench.umount()?;
                    anyhow::bail!("{what} ({features}): it was mounted");
                }
                Err(errno) => anyhow::ensure!(
                    NOT_THIS.contains(&errno),
                    "{what} ({features}): {errno} is not the error for it"
                ),
            }
            anyhow::ensure!(
                peek(bench, 2048, 1024)? == bytes,
                "{what} ({features}): the log was not replayed, which shows nothing"
            );
        }
    }
    Ok(())
}

/// Somebody who meets the same damage again and again fills neither the log nor the time of the disk; all is counted.
pub fn again(bench: &Bench) -> anyhow::Result<()> {
    const TIMES: u64 = 3000;

    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    bench.expect_message("EXT4-fs");
    prepare(bench, &["-b", "1024", "-O", "^flex_bg"])?;
    let place = place_of(bench, "inode")?;
    let good = peek(bench, place, 1)?;
    poke(bench, place, &[good[0] ^ 0x10])?;
    bench.mount_with("errors=continue")?;
    let said = bench.messages()?.len();
    let begun = std::time::Instant::now();
    for _ in 0..TIMES {
        let found = fs::metadata(bench.path("extents"));
        anyhow::ensure!(found.is_err(), "the damage was not found");
    }
    let periods = begun.elapsed().as_secs() / 5 + 2;
    bench.umount()?;
    let reports = bench.messages()?[said..]
        .iter()
        .filter(|line| line.text.contains("inode checksum"))
        .count() as u64;
    anyhow::ensure!(
        (1..=10 * periods).contains(&reports),
        "{TIMES} errors were reported {reports} times"
    );
    let counted = debugfs_number(bench, "stats", "FS Error count:")?;
    anyhow::ensure!(counted == TIMES, "{TIMES} errors are counted as {counted}");
    Ok(())
}

/// What is left of a file that was written, removed and closed after an error has made the disk read-only: no space is
/// set aside for it.
pub fn read_only(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    bench.expect_message("EXT4-fs");
    bench.expect_message("Aborting journal");
    let layout = ["-b", "1024", "-O", "^flex_bg"];
    // What a flusher has given blocks before the error keeps them.
    let _quiet = Quiet::set()?;
    for journal in ["has_journal", "^has_journal"] {
        prepare(bench, &[&layout[..], &["-O", journal]].concat())?;
        let place = place_of(bench, "directory block")?;
        let good = peek(bench, place, 1)?;
        poke(bench, place, &[good[0] ^ 0x10])?;

        bench.mount_with("errors=remount-ro")?;
        let file = File::create(bench.path("victim"))?;
        let free = || rustix::fs::statvfs(&bench.dir).map(|stat| stat.f_bfree);
        let before = free()?;
        file.write_all_at(&vec![1; 1 << 20], 0)?;
        fs::remove_file(bench.path("victim"))?;
        anyhow::ensure!(
            free()? + 1024 <= before,
            "{journal}: what was written does not count"
        );
        let listed = fs::read_dir(bench.path("dir"))?.collect::<Result<Vec<_>, _>>();
        anyhow::ensure!(listed.is_err(), "{journal}: the damage was not found");
        drop(file);
        let after = free()?;
        anyhow::ensure!(
            after == before,
            "{journal}: {after} blocks are free instead of {before}"
        );
        bench.umount()?;
    }
    Ok(())
}

/// A file that claims to own a block of the journal is damaged, and is not let near it.
pub fn stolen_block(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    bench.expect_message("EXT4-fs");
    bench.expect_message("Aborting journal");
    let layout = ["-b", "1024", "-O", "^flex_bg"];
    prepare(bench, &layout)?;
    bench.mount_reference("")?;
    fs::write(bench.path("thief"), vec![1; 1024])?;
    bench.umount()?;
    let block = debugfs_number(bench, "bmap <8> 100", "")?;
    // In the root of an extent tree the place of the first extent is in the sixth word.
    let request = format!("sif /thief block[5] {block}");
    must("debugfs", &["-w", "-R", &request, bench.device()])?;
    bench.mount_with("errors=continue")?;
    let read = fs::read(bench.path("thief"));
    anyhow::ensure!(
        read.as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(117)),
        "a block of the journal was read as a file's: {read:?}"
    );
    fs::write(bench.path("other"), "the disk is of use")?;
    bench.umount()
}
