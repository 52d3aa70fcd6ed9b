// SPDX-License-Identifier: GPL-2.0

//! Disks that are not what they should be: each is refused, or answers what is broken with an error that says what and
//! where. None makes the kernel stumble, and a refused one is left as it was.

use crate::bench::text;
use crate::bench::Bench;
use crate::command;
use crate::command::must;
use crate::tests::readonly::disk_hash;
use anyhow::Context;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// How large the disks are, in MiB.
pub(super) const SIZE: u64 = 32;
/// Where the superblock lies.
const SUPERBLOCK: u64 = 1024;

/// A fresh disk with some files, unmounted.
pub(super) fn prepare(bench: &Bench, arguments: &[&str]) -> anyhow::Result<()> {
    prepare_sized(bench, arguments, SIZE)
}

/// The same on a disk of `mebibytes`.
pub(super) fn prepare_sized(
    bench: &Bench,
    arguments: &[&str],
    mebibytes: u64,
) -> anyhow::Result<()> {
    let size = format!("{mebibytes}M");
    let mut all = arguments.to_vec();
    all.push(&size);
    bench.format(&all)?;
    bench.mount_reference("")?;
    fs::create_dir(bench.path("dir"))?;
    for number in 0..200 {
        fs::write(
            bench.path(format!("dir/a-rather-long-name-{number}")),
            "contents",
        )?;
    }
    // Many extents, so that there are nodes outside of the inode.
    let file = File::create(bench.path("extents"))?;
    for number in 0..100 {
        file.write_all_at(&[1; 1024], number * 32_768)?;
    }
    rustix::fs::setxattr(
        bench.path("extents"),
        "user.large",
        &[5; 600],
        rustix::fs::XattrFlags::empty(),
    )?;
    std::os::unix::fs::symlink("x".repeat(300), bench.path("symlink"))?;
    drop(file);
    bench.umount()
}

/// Changes bytes of the disk.
pub(super) fn poke(bench: &Bench, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
    let device = OpenOptions::new().write(true).open(&bench.disk)?;
    device.write_all_at(bytes, offset)?;
    device.sync_all().context("writing to the disk")
}

pub(super) fn peek(bench: &Bench, offset: u64, length: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(&bench.disk)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// crc32c as the format uses it: without the final inversion.
pub(super) fn crc32c(mut crc: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    crc
}

/// Changes the superblock and makes its checksum right again: what is wrong is then only what was changed.
fn change_superblock(bench: &Bench, offset: usize, bytes: &[u8]) -> anyhow::Result<()> {
    let mut block = peek(bench, SUPERBLOCK, 1024)?;
    block[offset..offset + bytes.len()].copy_from_slice(bytes);
    let checksum = crc32c(!0, &block[..1020]);
    block[1020..].copy_from_slice(&checksum.to_le_bytes());
    poke(bench, SUPERBLOCK, &block)
}

/// Mounting must fail with one of `errnos`, say something, and leave the disk as it was.
pub(super) fn refused(
    bench: &Bench,
    what: &str,
    options: &str,
    errnos: &[Errno],
) -> anyhow::Result<()> {
    refused_for(bench, what, options, errnos, "")
}

/// The same, and `reason` must be said.
fn refused_for(
    bench: &Bench,
    what: &str,
    options: &str,
    errnos: &[Errno],
    reason: &str,
) -> anyhow::Result<()> {
    let before = disk_hash(&bench.disk, SIZE)?;
    let said = bench.messages()?.len();
    match bench.try_mount(&bench.fstype, options) {
        Ok(()) => {
            bench.umount()?;
            anyhow::bail!("{what}: it was mounted");
        }
        Err(errno) => anyhow::ensure!(
            errnos.contains(&errno),
            "{what}: {errno} is not the error for it"
        ),
    }
    let messages = bench.messages()?;
    let about: Vec<_> = messages[said..]
        .iter()
        .filter(|line| line.text.to_lowercase().contains(&bench.fstype))
        .collect();
    anyhow::ensure!(!about.is_empty(), "{what}: refused without a word");
    eprintln!("{what}: {}", about[0].text);
    if bench.is_ferrofs() {
        for line in &about {
            anyhow::ensure!(
                line.text.contains(bench.device_name()),
                "{what}: this does not say of which disk it is: {}",
                line.text
            );
        }
        anyhow::ensure!(
            about.iter().any(|line| line.text.contains(reason)),
            "{what}: nothing was said of {reason}"
        );
    }
    anyhow::ensure!(
        disk_hash(&bench.disk, SIZE)? == before,
        "{what}: the refused disk was changed"
    );
    Ok(())
}

pub(super) const NOT_THIS: &[Errno] = &[
    Errno::INVAL,
    Errno::UCLEAN,
    Errno::IO,
    Errno::BADMSG,
    Errno::OPNOTSUPP,
    Errno::FBIG,
    Errno::NOSYS,
];

/// Superblocks that cannot be mounted.
pub fn superblocks(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    bench.expect_message("EXT4-fs");
    prepare(bench, &["-b", "1024"])?;
    let good = peek(bench, 0, 4096)?;
    let restore = || poke(bench, 0, &good);

    poke(bench, SUPERBLOCK, &[0; 1024])?;
    refused(bench, "a zeroed superblock", "", NOT_THIS)?;
    for round in 0..20 {
        let mut bytes = crate::rng::Rng::new(round).bytes(1024);
        if round >= 10 {
            // One that gets past the first look.
            bytes[56..58].copy_from_slice(&[0x53, 0xef]);
        }
        poke(bench, SUPERBLOCK, &bytes)?;
        refused(bench, &format!("random superblock {round}"), "", NOT_THIS)?;
    }
    restore()?;
    poke(bench, SUPERBLOCK + 0x78, b"changed")?;
    refused(bench, "a superblock with a wrong checksum", "", NOT_THIS)?;
    restore()?;

    // Offset in the superblock, bytes, what that is.
    let geometry: [(usize, &[u8], &str); 16] = [
        (0x00, &[0; 4], "no inodes"),
        (0x00, &[0xff; 4], "more inodes than groups hold"),
        (0x04, &[0; 4], "no blocks"),
        (0x04, &[0xff; 4], "more blocks than the device"),
        (0x14, &[0xff; 4], "a first block beyond the end"),
        (
            0x14,
            &[0, 0, 0, 0],
            "a first block that the block size rules out",
        ),
        (0x18, &[20, 0, 0, 0], "blocks of a gibibyte"),
        (0x18, &[0xff; 4], "an absurd block size"),
        (0x20, &[0; 4], "no blocks per group"),
        (0x20, &[0xff; 4], "too many blocks per group"),
        (0x28, &[0; 4], "no inodes per group"),
        (0x28, &[0xff; 4], "too many inodes per group"),
        (0x58, &[0, 0], "inodes of no size"),
        (0x58, &[0xff, 0xff], "inodes of an odd size"),
        (0xfe, &[7, 0], "descriptors of 7 bytes"),
        (0x174, &[60], "flex groups beyond all bounds"),
    ];
    for (offset, bytes, what) in geometry {
        change_superblock(bench, offset, bytes)?;
        let result = refused(bench, what, "", NOT_THIS);
        // The number of flex groups is one that a driver may ignore.
        if offset != 0x174 {
            result?;
        }
        restore()?;
    }

    // With the copy in the second group a damaged disk can be read. To write would bring the two apart.
    poke(bench, SUPERBLOCK, &[0; 1024])?;
    refused(bench, "writing by a copy", "sb=8193", NOT_THIS)?;
    bench.mount_with("ro,sb=8193")?;
    anyhow::ensure!(fs::read_dir(bench.path("dir"))?.count() == 200);
    anyhow::ensure!(
        bench.remount("rw").is_err(),
        "a mount by a copy became writable"
    );
    bench.umount()?;
    restore()
}

/// Features that nobody knows, and some that only this driver does not know.
pub fn features(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    bench.expect_message("EXT4-fs");
    prepare(bench, &[])?;
    let good = peek(bench, 0, 4096)?;
    let incompatible = u32::from_le_bytes(good[1024 + 0x60..1024 + 0x64].try_into()?);
    change_superblock(bench, 0x60, &(incompatible | 0x4000_0000).to_le_bytes())?;
    for options in ["", "ro"] {
        let what = "an unknown incompatible feature";
        refused_for(bench, what, options, NOT_THIS, "0x40000000")?;
    }
    poke(bench, 0, &good)?;

    let read_only = u32::from_le_bytes(good[1024 + 0x64..1024 + 0x68].try_into()?);
    change_superblock(bench, 0x64, &(read_only | 0x4000_0000).to_le_bytes())?;
    let what = "an unknown read-only feature";
    refused_for(bench, what, "", NOT_THIS, "0x40000000")?;
    bench
        .mount_with("ro")
        .context("with an unknown read-only feature")?;
    anyhow::ensure!(fs::read_to_string(bench.path("dir/a-rather-long-name-7"))? == "contents");
    anyhow::ensure!(
        bench.remount("rw").is_err(),
        "an unknown read-only feature and read-write"
    );
    bench.umount()?;
    poke(bench, 0, &good)?;
    if !bench.is_ferrofs() {
        return Ok(());
    }

    // What the format knows and this driver does not has a name.
    for (offset, bits, name) in [
        (0x60, incompatible | 0x10000, "encrypt"),
        (0x64, read_only | 0x200, "bigalloc"),
    ] {
        change_superblock(bench, offset, &bits.to_le_bytes())?;
        refused_for(bench, name, "", NOT_THIS, name)?;
        poke(bench, 0, &good)?;
    }
    Ok(())
}

/// A disk of which the end is missing.
pub fn truncated(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    bench.expect_message("EXT4-fs");
    bench.expect_message("loop");
    prepare(bench, &[])?;
    let image = "/dev/shm/ferrofs-truncated";
    if !std::path::Path::new("/dev/loop-control").exists() {
        must("modprobe", &["loop"])?;
    }
    // ext4 says of half a KiB that there is no memory.
    let least = u64::from(!bench.is_ferrofs());
    for mebibytes in [least, 1, 4, 16, 31] {
        let count = format!("count={mebibytes}");
        must(
            "dd",
            &[
                &format!("if={}", bench.device()),
                &format!("of={image}"),
                "bs=1M",
                &count,
                "status=none",
            ],
        )?;
        if mebibytes == 0 {
            fs::write(image, vec![0; 512])?;
        }
        let device = must("losetup", &["--find", "--show", image])?;
        let said = bench.messages()?.len();
        let result =
            crate::bench::mount_device(device.trim().as_ref(), &bench.dir, &bench.fstype, "");
        let fresh = bench.messages()?.len() - said;
        if result.is_ok() {
            rustix::mount::unmount(&bench.dir, rustix::mount::UnmountFlags::empty())?;
        }
        must("losetup", &["-d", device.trim()])?;
        let errno = result
            .err()
            .with_context(|| format!("{mebibytes} MiB of {SIZE} were mounted"))?;
        anyhow::ensure!(NOT_THIS.contains(&errno), "{mebibytes} MiB: {errno}");
        anyhow::ensure!(fresh > 0, "{mebibytes} MiB: refused without a word");
    }
    fs::remove_file(image).context("removing the image")
}

/// Random bytes all over the metadata: whatever happens, the kernel stays well.
pub fn random(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    bench.expect_message("EXT4-fs");
    bench.expect_message("JBD2");
    bench.expect_message("Buffer I/O error");
    let mut rng = bench.rng();
    let rounds = bench.scaled(20);
    let mut mounted = 0;
    for round in 0..rounds {
        // Half of the disks have no checksums, so that wrong contents get as far as possible.
        let features: &[&str] = if round % 2 == 0 {
            &["-O", "^metadata_csum"]
        } else {
            &[]
        };
        prepare(bench, features)?;
        for _ in 0..1 + rng.below(30) {
            // Most metadata lies in the first mebibytes; the superblock has a test of its own.
            let span = if rng.one_in(3) { SIZE << 20 } else { 3 << 20 };
            let place = 4096 + rng.below(span - 8192);
            let length = 1 + rng.index(8);
            let bytes = rng.bytes(length);
            poke(bench, place, &bytes)?;
        }
        if bench.try_mount(&bench.fstype, "errors=continue").is_err() {
            continue;
        }
        mounted += 1;
        // All of these may fail, and none may do worse.
        let script = "cd \"$1\" || exit 0; find . -exec stat {} + ; find . -type f -exec cat {} + ; getfattr -d -m - -R . ; \
            touch new; dd if=/dev/urandom of=fill bs=64k count=20; mv dir dir2; rm -rf dir2 extents symlink; sync; ls -lR";
        let output = command::run(
            "timeout",
            &["60", "sh", "-c", script, "sh", text(&bench.dir)],
        )?;
        // Above that: out of time, not run at all, or killed by a signal.
        anyhow::ensure!(
            output.status < 124,
            "round {round}: the programs ended with status {}:\n{}",
            output.status,
            output.text
        );
        bench.umount().with_context(|| format!("round {round}"))?;
        // A slow machine gets more of them, as they are limited by time. All must be seen before others take their place.
        bench.messages()?;
    }
    eprintln!("{mounted} of {rounds} disks were mounted");
    // A driver that refuses whatever is not perfect would pass otherwise.
    anyhow::ensure!(
        mounted * 4 >= rounds,
        "only {mounted} of {rounds} disks were mounted"
    );
    Ok(())
}
