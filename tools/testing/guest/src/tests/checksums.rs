// SPDX-License-Identifier: GPL-2.0

//! One wrong byte in a block of each kind that has a checksum.

use crate::bench::text;
use crate::bench::Bench;
use crate::command::must;
use crate::tests::broken::crc32c;
use crate::tests::broken::peek;
use crate::tests::broken::poke;
use crate::tests::broken::prepare;
use crate::tests::broken::prepare_sized;
use crate::tests::broken::refused;
use crate::tests::broken::NOT_THIS;
use crate::tests::broken::SIZE;
use anyhow::Context;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The size of the blocks of these disks, the smallest there is: trees grow with little in them.
const BLOCK: u64 = 1024;
/// How the disks are made.
const LAYOUT: [&str; 4] = ["-b", "1024", "-O", "^flex_bg"];
/// How large a disk of one group is, in MiB.
const ONE_GROUP: u64 = 8;
/// How many names the large directory has. Four fill a block, and the root of an index knows 123 blocks.
const NAMES: u32 = 600;

/// The number that debugfs prints after `label`.
pub(super) fn debugfs_number(bench: &Bench, request: &str, label: &str) -> anyhow::Result<u64> {
    let output = must("debugfs", &["-R", request, bench.device()])?;
    output
        .split_once(label)
        .and_then(|(_, rest)| {
            let digits: String = rest
                .trim_start()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            digits.parse().ok()
        })
        .with_context(|| format!("debugfs {request} told no {label}:\n{output}"))
}

/// Where things lie on the disks of these tests, which is another place on each disk that is made: in bytes.
pub(super) fn place_of(bench: &Bench, what: &str) -> anyhow::Result<u64> {
    let number = |request: &str, label: &str| debugfs_number(bench, request, label);
    Ok(match what {
        "group descriptor" => 2 * BLOCK + 4,
        "block bitmap" => number("stats", "block bitmap at")? * BLOCK + 100,
        "inode bitmap" => number("stats", "inode bitmap at")? * BLOCK + 10,
        "inode" => inode_place(bench, number("stat /extents", "Inode:")?, BLOCK)? + 0x30,
        "extent node" => number("stat /extents", "(ETB0):")? * BLOCK + 30,
        "directory block" => number("bmap /dir 1", "")? * BLOCK + 60,
        "root directory" => number("bmap / 0", "")? * BLOCK + 40,
        // Behind the entries of an index come bytes that no checksum covers.
        "htree root" => number("bmap /large 0", "")? * BLOCK + 0x25,
        "htree node" => {
            let node = number("htree_dump /large", "Entry #0: Hash 0x00000000, block")?;
            number(&format!("bmap /large {node}"), "")? * BLOCK + 60
        }
        "attribute block" => number("stat /extents", "File ACL:")? * BLOCK + 200,
        "orphan file" => {
            let inode = number("stats", "Orphan file inode:")?;
            number(&format!("bmap <{inode}> 0"), "")? * BLOCK + 20
        }
        "journal" => number("bmap <8> 0", "")? * BLOCK,
        _ => anyhow::bail!("nobody knows where the {what} lies"),
    })
}

/// A disk as it is before something on it is broken.
struct Good(Vec<u8>);

impl Good {
    /// Keeps the first `mebibytes` of the disk, which are all of it.
    fn keep(bench: &Bench, mebibytes: u64) -> anyhow::Result<Good> {
        Ok(Good(peek(bench, 0, (mebibytes << 20) as usize)?))
    }

    /// Puts it back.
    fn restore(&self, bench: &Bench) -> anyhow::Result<()> {
        poke(bench, 0, &self.0)
    }
}

/// What happens to whoever needs what is broken.
enum Needs<'a> {
    /// This fails, with an error that speaks of the disk.
    Fails(Box<dyn Fn() -> io::Result<()> + 'a>),
    /// Nothing: there is another way, which this takes.
    Copes(Box<dyn Fn() -> io::Result<()> + 'a>),
}

/// Writes 100 KB and brings them to the disk.
fn write_durably(path: PathBuf) -> io::Result<()> {
    let file = File::create(path)?;
    file.write_all_at(&[1; 100_000], 0)?;
    file.sync_all()
}

/// One byte is wrong in a block of each kind: whoever needs it gets an error, the rest works, the log names the block
/// or inode.
pub fn checksums(bench: &Bench) -> anyhow::Result<()> {
    bench.expect_broken_disk();
    bench.expect_message(&bench.fstype.clone());
    bench.expect_message("EXT4-fs");
    bench.expect_message("JBD2");

    // Without a bitmap there is nothing to be had, as there is no other group.
    prepare_sized(bench, &LAYOUT, ONE_GROUP)?;
    let good = Good::keep(bench, ONE_GROUP)?;
    let new = || write_durably(bench.path("new"));
    trial(bench, &good, "block bitmap", &Needs::Fails(Box::new(new)))?;
    trial(bench, &good, "inode bitmap", &Needs::Fails(Box::new(new)))?;

    prepare(bench, &LAYOUT)?;
    bench.mount_reference("")?;
    let large = bench.path("large");
    fs::create_dir(&large)?;
    let name = |number: u32| large.join(format!("{number:0>240}"));
    for number in 0..NAMES {
        File::create(name(number))?;
    }
    bench.umount()?;
    let good = Good::keep(bench, SIZE)?;
    let list = |name: &str| {
        fs::read_dir(bench.path(name))?
            .collect::<io::Result<Vec<_>>>()
            .map(drop)
    };
    let look_up_all = || (0..NAMES).try_for_each(|number| fs::metadata(name(number)).map(drop));
    let stat = || fs::metadata(bench.path("extents")).map(drop);
    let read = || fs::read(bench.path("extents")).map(drop);
    let attribute = || {
        let mut value = [0; 1000];
        rustix::fs::getxattr(bench.path("extents"), "user.large", &mut value)?;
        Ok(())
    };
    // The kernel's ext4 searches a directory from its begin to its end when the index is damaged.
    let indexed = |needs| {
        if bench.is_ferrofs() {
            Needs::Fails(needs)
        } else {
            Needs::Copes(needs)
        }
    };
    trial(bench, &good, "inode", &Needs::Fails(Box::new(stat)))?;
    trial(bench, &good, "extent node", &Needs::Fails(Box::new(read)))?;
    trial(
        bench,
        &good,
        "directory block",
        &Needs::Fails(Box::new(|| list("dir"))),
    )?;
    trial(
        bench,
        &good,
        "root directory",
        &Needs::Fails(Box::new(|| list(""))),
    )?;
    for what in ["htree root", "htree node"] {
        trial(bench, &good, what, &indexed(Box::new(look_up_all)))?;
    }
    trial(
        bench,
        &good,
        "attribute block",
        &Needs::Fails(Box::new(attribute)),
    )?;

    // Whatever is wrong with these is found when mounting.
    flip(bench, place_of(bench, "group descriptor")?, 1)?;
    refused(bench, "a broken group descriptor", "", NOT_THIS)?;
    good.restore(bench)?;
    orphan_file(bench, &good)?;
    journals(bench, &good)
}

/// Changes bits of one byte.
fn flip(bench: &Bench, place: u64, bits: u8) -> anyhow::Result<()> {
    let good = peek(bench, place, 1)?;
    poke(bench, place, &[good[0] ^ bits])
}

/// Breaks `what`, sees what comes of that, and puts the disk back.
fn trial(bench: &Bench, good: &Good, what: &str, needs: &Needs<'_>) -> anyhow::Result<()> {
    let place = place_of(bench, what)?;
    eprintln!("a broken {what} at byte {place}");
    flip(bench, place, 0x10)?;
    let said = bench.messages()?.len();
    match bench.try_mount(&bench.fstype, "errors=continue") {
        Ok(()) => {
            match needs {
                Needs::Fails(needs) => {
                    let error = needs()
                        .err()
                        .with_context(|| format!("a broken {what} was taken for a good one"))?;
                    let errno = Errno::from_io_error(&error);
                    anyhow::ensure!(
                        errno.is_some_and(|errno| errno == Errno::NOSPC || NOT_THIS.contains(&errno)),
                        "a broken {what}: {error}"
                    );
                }
                Needs::Copes(needs) => needs().with_context(|| format!("a broken {what}"))?,
            }
            // The rest of the disk is of use, but for what hangs below a broken root.
            if what != "root directory" {
                let other = fs::read_link(bench.path("symlink"))
                    .with_context(|| format!("with a broken {what}"))?;
                anyhow::ensure!(text(&other).len() == 300);
            }
            bench.umount()?;
        }
        // Of all that is tried here only the root is needed to mount.
        Err(errno) => anyhow::ensure!(
            what == "root directory" && NOT_THIS.contains(&errno),
            "mounting with a broken {what}: {errno}"
        ),
    }
    let message = complaint(bench, said, what)?;
    eprintln!("{what}: {message}");
    good.restore(bench)
}

/// The first complaint of the driver after the first `said` messages, which must tell where something is wrong.
fn complaint(bench: &Bench, said: usize, what: &str) -> anyhow::Result<String> {
    let fresh = bench.messages()?.split_off(said);
    let line = fresh
        .iter()
        .find(|line| line.level <= 4 && line.text.to_lowercase().contains(&bench.fstype))
        .with_context(|| format!("nothing was said of a broken {what}"))?;
    anyhow::ensure!(
        // The kernel's ext4 speaks of groups when a bitmap is wrong.
        ["inode", "block", "bg "]
            .iter()
            .any(|word| line.text.contains(word)),
        "this says of a broken {what} neither block nor inode: {}",
        line.text
    );
    Ok(line.text.clone())
}

/// A broken orphan file is in the way of whoever wants to write, and of nobody else.
fn orphan_file(bench: &Bench, good: &Good) -> anyhow::Result<()> {
    flip(bench, place_of(bench, "orphan file")?, 1)?;
    let said = bench.messages()?.len();
    refused(bench, "a broken orphan file", "", NOT_THIS)?;
    complaint(bench, said, "orphan file")?;
    if bench.is_ferrofs() {
        bench
            .mount_with("ro")
            .context("with a broken orphan file")?;
        for attempt in ["first", "second"] {
            anyhow::ensure!(
                bench.remount("rw").is_err(),
                "a broken orphan file and read-write, at the {attempt} attempt"
            );
        }
        bench.umount()?;
    }
    good.restore(bench)
}

/// Journals that cannot be loaded: the disk is refused with the reason and the inode of the journal.
fn journals(bench: &Bench, good: &Good) -> anyhow::Result<()> {
    let said = bench.messages()?.len();
    let place = place_of(bench, "journal")?;
    flip(bench, place + 0x40, 1)?;
    refused(bench, "a journal with a wrong checksum", "", NOT_THIS)?;
    complaint(bench, said, "checksum of the journal")?;
    good.restore(bench)?;

    let said = bench.messages()?.len();
    let mut block = peek(bench, place, 1024)?;
    // An incompatible feature that nobody has.
    block[0x28] |= 0x40;
    block[0xfc..0x100].fill(0);
    let checksum = crc32c(!0, &block);
    block[0xfc..0x100].copy_from_slice(&checksum.to_be_bytes());
    poke(bench, place, &block)?;
    refused(bench, "a journal with an unknown feature", "", NOT_THIS)?;
    complaint(bench, said, "feature of the journal")?;
    good.restore(bench)?;

    // A block in the log that is not the one that was to be written. Behind the superblock of the journal comes the
    // descriptor of the transaction, and then the block.
    let said = bench.messages()?.len();
    let contents = "/tmp/logged";
    let script = "/tmp/logged.debugfs";
    fs::write(contents, vec![7; BLOCK as usize])?;
    fs::write(script, format!("jo -c -v 3\njw -b 5000 {contents}\njc\n"))?;
    must("debugfs", &["-w", "-f", script, bench.device()])?;
    let logged = debugfs_number(bench, "bmap <8> 2", "")? * BLOCK;
    anyhow::ensure!(
        peek(bench, logged, BLOCK as usize)? == vec![7; BLOCK as usize],
        "the log does not hold the block where it was looked for"
    );
    flip(bench, logged + 100, 1)?;
    refused(bench, "a log with a wrong block", "", NOT_THIS)?;
    complaint(bench, said, "block of the log")?;
    good.restore(bench)
}

/// Where an inode lies, in bytes, on a disk with blocks of `block_size` bytes.
pub(super) fn inode_place(bench: &Bench, inode: u64, block_size: u64) -> anyhow::Result<u64> {
    let output = must(
        "debugfs",
        &["-R", &format!("imap <{inode}>"), bench.device()],
    )?;
    let number = |label: &str| -> anyhow::Result<u64> {
        let (_, rest) = output
            .split_once(label)
            .with_context(|| format!("debugfs imap told no {label}: {output}"))?;
        let digits: String = rest
            .trim_start()
            .chars()
            .take_while(|letter| letter.is_ascii_hexdigit() || *letter == 'x')
            .collect();
        Ok(match digits.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16)?,
            None => digits.parse()?,
        })
    };
    let block = number("located at block")?;
    let offset = number("offset")?;
    Ok(block * block_size + offset)
}
