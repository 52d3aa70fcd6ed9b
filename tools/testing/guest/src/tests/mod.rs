// SPDX-License-Identifier: GPL-2.0

//! All tests, in the order in which they run: the cheapest first.

mod attributes;
mod broken;
mod calls;
mod checksums;
mod contents;
mod covered;
mod dead_journal;
mod direct;
mod directories;
mod durability;
mod faults;
mod frozen;
mod half_done;
mod io_errors;
mod late_damage;
mod links;
mod memfs;
mod option_effects;
mod options;
mod programs;
mod reading;
mod readonly;
mod reasons;
mod requests;
mod script;
mod smoke;
mod space;
mod torn;
mod tree;
mod vanish;
mod variants;
pub mod writeback;

use crate::bench::Bench;
use crate::crash;
use std::time::Duration;

/// A test.
pub struct Test {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// How long it may take, under emulation on a busy machine.
    pub limit: Duration,
    /// Whether it runs only when named.
    pub on_demand: bool,
    /// The test itself, which leaves the rest to [`Bench::finish`].
    pub run: fn(&Bench) -> anyhow::Result<()>,
}

const fn test(
    name: &'static str,
    seconds: u64,
    about: &'static str,
    run: fn(&Bench) -> anyhow::Result<()>,
) -> Test {
    Test {
        name,
        about,
        limit: Duration::from_secs(seconds),
        on_demand: false,
        run,
    }
}

/// A test that runs only when it is named.
const fn on_demand(
    name: &'static str,
    seconds: u64,
    about: &'static str,
    run: fn(&Bench) -> anyhow::Result<()>,
) -> Test {
    Test {
        on_demand: true,
        ..test(name, seconds, about, run)
    }
}

/// All tests.
pub fn all() -> &'static [Test] {
    const ALL: &[Test] = &[
        test(
            "smoke",
            300,
            "make, mount, write, sync, unmount, check, read by ext4",
            smoke::smoke,
        ),
        test(
            "readonly",
            180,
            "read-only mounts, remounts and devices",
            readonly::readonly,
        ),
        test(
            "options",
            180,
            "mount options taken, shown and refused",
            readonly::options,
        ),
        test(
            "option-names",
            180,
            "options of ext4: shown, without effect, refused",
            options::names,
        ),
        test(
            "option-stored",
            180,
            "options that the super block stores",
            options::stored,
        ),
        test(
            "announced",
            180,
            "mounts told in the kernel log, and checks that are due",
            options::announced,
        ),
        test(
            "option-effects",
            300,
            "what options do, beside the kernel's ext4",
            option_effects::effects,
        ),
        test(
            "symlinks",
            180,
            "symbolic links of every length",
            links::symlinks,
        ),
        test("special", 180, "devices, pipes and sockets", links::special),
        test("tmpfile", 180, "files without a name", links::tmpfile),
        test(
            "rename",
            180,
            "NOREPLACE, EXCHANGE and WHITEOUT",
            links::rename,
        ),
        test(
            "xattr",
            180,
            "extended attributes in the inode and in blocks",
            attributes::extended,
        ),
        test(
            "acl",
            180,
            "access control lists kept, inherited and obeyed",
            attributes::acl,
        ),
        test(
            "times",
            180,
            "times from 1901 to 2446, the time of birth",
            attributes::times,
        ),
        test("flags", 180, "lsattr and chattr", attributes::flags),
        test(
            "sparse",
            180,
            "holes, SEEK_HOLE and SEEK_DATA",
            contents::sparse,
        ),
        test(
            "truncate",
            300,
            "sizes that change never show what was there before",
            contents::truncate,
        ),
        test(
            "mapping",
            180,
            "mmap against read, write and truncate",
            contents::mapping,
        ),
        test(
            "append",
            180,
            "four threads append to one file",
            contents::append,
        ),
        test(
            "torn",
            180,
            "reads next to writes see all or nothing of what changes in a folio",
            torn::torn,
        ),
        test(
            "covered",
            180,
            "writes read the blocks that they cover in part, and nothing else",
            covered::covered,
        ),
        test(
            "readahead",
            180,
            "16 MiB are read in as few pieces and folios as the kernel's ext4 needs",
            reading::readahead,
        ),
        test(
            "advice",
            180,
            "what posix_fadvise changes, counted in bytes of the disk",
            reading::advice,
        ),
        test(
            "reads-nowait",
            180,
            "reads that must not wait, of a disk that does not answer",
            reading::reads_nowait,
        ),
        test(
            "calls",
            300,
            "vectors, request flags, pipes, loop devices, limits, privileges, times",
            calls::calls,
        ),
        test(
            "direct",
            300,
            "direct I/O: alignment, holes, ends, coherence",
            direct::direct,
        ),
        test(
            "asynchronous",
            300,
            "libaio, io_uring, mmap and plain calls at the same time",
            direct::asynchronous,
        ),
        test(
            "faults",
            300,
            "writes from memory that ends in the middle",
            faults::faults,
        ),
        test(
            "sigbus",
            300,
            "mappings of full disks, past the end, of truncated files",
            faults::sigbus,
        ),
        test(
            "no-memory",
            300,
            "allocations that fail, one after the other, in each operation",
            faults::no_memory,
        ),
        test(
            "durability",
            300,
            "every way to stable media flushes the disk when needed, and only then",
            durability::durability,
        ),
        test(
            "writeback",
            300,
            "Dirty and Writeback, and the kernel's tracepoints",
            writeback::accounting,
        ),
        test(
            "writeback-errors",
            180,
            "data that cannot be written: every open file hears of it once",
            io_errors::writeback_errors,
        ),
        test(
            "conversion-errors",
            300,
            "new blocks that cannot be written show nothing of their past",
            io_errors::conversion_errors,
        ),
        test(
            "read-errors",
            180,
            "a block that cannot be read, between blocks that can",
            io_errors::read_errors,
        ),
        test(
            "journal-errors",
            600,
            "a journal that cannot be written, and what was durable before",
            dead_journal::journal_errors,
        ),
        test(
            "metadata-errors",
            300,
            "a directory that cannot be read",
            dead_journal::metadata_errors,
        ),
        test(
            "name-errors",
            300,
            "operations on names that fail change nothing: inodes that cannot be read",
            half_done::unreadable,
        ),
        test(
            "name-room",
            180,
            "files without a name, and directories that have no room for one",
            half_done::without_room,
        ),
        test(
            "vanish",
            300,
            "a disk that goes away under load",
            vanish::vanish,
        ),
        test(
            "freeze",
            600,
            "snapshots of a frozen disk under load",
            frozen::freeze,
        ),
        test(
            "reasons",
            600,
            "writeback by sync, amount, age and reclaim, told apart",
            reasons::four_ways,
        ),
        test(
            "throttling",
            300,
            "writers sleep above the limits of dirty memory",
            reasons::throttling,
        ),
        test(
            "cgroups",
            180,
            "dirty pages and writeback on the account of a cgroup",
            reasons::cgroups,
        ),
        test(
            "requests",
            300,
            "parts of files, busy writers, flags, priorities and hints",
            requests::requests,
        ),
        test(
            "request-sizes",
            180,
            "16 MiB in as few requests as the kernel's ext4 makes",
            requests::request_sizes,
        ),
        test("statfs", 180, "free space as ext4 tells it", space::statfs),
        test(
            "unlinked",
            180,
            "open files without names, and their space",
            space::unlinked,
        ),
        test(
            "orphans",
            600,
            "open files without names after a power cut",
            space::orphans,
        ),
        test(
            "crash-states",
            900,
            "states that a crash of a busy program may leave, a sample",
            crash::busy_sample,
        ),
        test(
            "careless",
            600,
            "no empty files after a crash, without any fsync",
            crash::careless,
        ),
        test(
            "full",
            600,
            "full disks: the error comes from write",
            space::full,
        ),
        test(
            "nested",
            180,
            "directories in directories",
            directories::nested,
        ),
        test(
            "readdir",
            300,
            "names come and go while a directory is read",
            directories::readdir,
        ),
        test(
            "superblocks",
            600,
            "superblocks that cannot be mounted",
            broken::superblocks,
        ),
        test(
            "features",
            180,
            "features that nobody knows",
            broken::features,
        ),
        test(
            "truncated",
            180,
            "disks of which the end is missing",
            broken::truncated,
        ),
        test(
            "checksums",
            300,
            "a wrong byte in a block of each kind",
            checksums::checksums,
        ),
        test(
            "last-blocks",
            180,
            "names made with the last blocks of a full disk",
            space::last_blocks,
        ),
        test(
            "scattered",
            300,
            "data that finds single free blocks only",
            space::scattered,
        ),
        test(
            "small-groups",
            600,
            "large files on disks of many small groups",
            space::small_groups,
        ),
        test(
            "needed",
            300,
            "damage of what a mount needs: nothing is written",
            late_damage::needed,
        ),
        test(
            "again",
            180,
            "damage that is met thousands of times",
            late_damage::again,
        ),
        test(
            "replayed",
            180,
            "a log that replaces the group descriptors by garbage",
            late_damage::replayed,
        ),
        test(
            "stolen-block",
            180,
            "a file that claims a block of the journal",
            late_damage::stolen_block,
        ),
        test(
            "error-space",
            180,
            "what is left of files after an error has made the disk read-only",
            late_damage::read_only,
        ),
        test(
            "random",
            900,
            "random bytes in the metadata",
            broken::random,
        ),
        test(
            "tree",
            600,
            "random work on a tree of files, compared with a model",
            tree::tree,
        ),
        test(
            "parallel",
            600,
            "four trees change at the same time",
            tree::parallel,
        ),
        test(
            "alternate",
            600,
            "ferrofs and ext4 take turns as writers of one disk",
            tree::alternate,
        ),
        test(
            "variants",
            900,
            "block sizes, no journal, small inodes, features left out",
            variants::variants,
        ),
        test(
            "large-directory",
            900,
            "100,000 names in one directory",
            directories::large,
        ),
        test(
            "fsx",
            900,
            "random operations on files by fsx",
            programs::fsx,
        ),
        test(
            "pjdfstest",
            900,
            "POSIX conformance by pjdfstest",
            programs::pjdfstest,
        ),
        test(
            "memfs",
            300,
            "the sample file system, on no disk",
            memfs::memfs,
        ),
        on_demand(
            "crash-states-all",
            36000,
            "all states that a crash of a busy program may leave",
            crash::busy_all,
        ),
        on_demand(
            "fsx-long",
            3000,
            "fsx with 200,000 operations",
            programs::fsx_long,
        ),
    ];
    ALL
}

/// The test of this name.
pub fn find(name: &str) -> anyhow::Result<&'static Test> {
    all().iter().find(|test| test.name == name).ok_or_else(|| {
        anyhow::anyhow!("there is no test {name}: `ferrofs-test list` tells which there are")
    })
}

/// The tests of these names; those that do not wait to be named when there are none.
pub fn choose(names: &[String]) -> anyhow::Result<Vec<&'static Test>> {
    if names.is_empty() {
        return Ok(all().iter().filter(|test| !test.on_demand).collect());
    }
    names.iter().map(|name| find(name)).collect()
}
