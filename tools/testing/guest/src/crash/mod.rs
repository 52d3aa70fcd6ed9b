// SPDX-License-Identifier: GPL-2.0

//! Crash states: all writes of a run are recorded, and the states that a power cut at any moment of it may have left are
//! mounted and looked at. A guest that is killed loses nothing that it has given to its disks; this loses all that a real
//! disk may lose.

mod log;
mod recorder;
mod replay;

use crate::bench::fsck_device;
use crate::bench::mount_device;
use crate::bench::text;
use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::busy;
use crate::busy::THREADS;
use crate::command;
use anyhow::Context;
use recorder::Moment;
use recorder::Recording;
use recorder::Run;
use recorder::Setup;
use replay::Disk;
use replay::Replay;
use replay::State;
use rustix::mount::unmount;
use rustix::mount::UnmountFlags;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// How many states the short form of the busy test looks at, and how many that of the careless one.
const SAMPLE: u64 = 24;
const CARELESS_SAMPLE: u64 = 14;
/// How many steps each of the busy threads does.
const STEPS: u64 = 60;
/// The size of the busy disk in MiB.
const MEBIBYTES: u64 = 192;
/// How often the careless program rewrites and replaces its files.
const ROUNDS: u64 = 12;
/// How many files it has of each kind.
const FILES: u64 = 4;

/// A busy program is interrupted: a sample of the states.
pub fn busy_sample(bench: &Bench) -> anyhow::Result<()> {
    let count = bench.scaled(SAMPLE);
    busy_states(bench, 1, &|states, bench| {
        // Those behind marks are fewer, and tell of forgotten flushes.
        let (marked, others): (Vec<_>, Vec<_>) =
            states.into_iter().partition(|state| state.is_marked);
        let third = count as usize / 3;
        let mut chosen = replay::sample(marked, third, &mut bench.rng());
        chosen.extend(replay::sample(
            others,
            count as usize - third,
            &mut bench.rng(),
        ));
        chosen.sort_by_key(|state| state.index);
        chosen
    })
}

/// A busy program is interrupted: every state, and four random ones for each flush.
pub fn busy_all(bench: &Bench) -> anyhow::Result<()> {
    busy_states(bench, 4, &|states, _| states)
}

fn busy_states(
    bench: &Bench,
    chances: u64,
    choose: &dyn Fn(Vec<State>, &Bench) -> Vec<State>,
) -> anyhow::Result<()> {
    let size = format!("{MEBIBYTES}M");
    let setup = Setup {
        // A small journal, so that it wraps around and metadata goes to its place during the run.
        format: &["-J", "size=4", "-E", "nodiscard", &size],
        mebibytes: MEBIBYTES,
        options: "",
        marks: true,
    };
    let steps = bench.scaled(STEPS);
    let recording = recorder::record(bench, &setup, &|run: &Run| {
        busy::work(
            &run.dir.join("busy"),
            &|number| Ok(Box::new(run.notes(number))),
            bench.seed,
            &|done| done >= steps,
        )?;
        let notes = Box::new(run.marked_notes(THREADS));
        busy::overwrite_alone(&run.dir.join("busy"), THREADS, notes, bench.seed, steps)
    })?;
    let states = replay::all_states(&recording.log, recording.start, chances, &mut bench.rng());
    let all = states.len();
    let chosen = choose(states, bench);
    eprintln!(
        "{} writes, flushes and marks; {} of {all} states",
        recording.log.entries.len(),
        chosen.len()
    );
    let acknowledged = look_at(
        bench,
        &recording,
        &chosen,
        MEBIBYTES << 20,
        &|dir, moment| {
            let journals = recording.journals(moment, THREADS + 1);
            let found = busy::check(&dir.join("busy"), &journals, !bench.is_ferrofs())?;
            Ok(found.acknowledged)
        },
    )?;
    anyhow::ensure!(
        acknowledged > 0,
        "nothing was acknowledged before any of the states: this shows nothing"
    );
    Ok(())
}

/// Who recovers a state.
#[derive(Clone, Copy, Debug)]
enum Recovery {
    /// The driver under test.
    Driver,
    /// The kernel's own ext4.
    Reference,
    /// `e2fsck -fy`, before the driver under test mounts.
    E2fsck,
}

/// Recovers and mounts each state, calls `check` with what is there, and has `e2fsck` look at it after that. Gives the
/// sum of what `check` has returned.
fn look_at(
    bench: &Bench,
    recording: &Recording,
    states: &[State],
    size: u64,
    check: &dyn Fn(&Path, Moment) -> anyhow::Result<usize>,
) -> anyhow::Result<usize> {
    let disk = Disk::new(size)?;
    let mut replay = Replay::new(&recording.log);
    let mut sum = 0;
    for (number, state) in states.iter().enumerate() {
        let by = match number % 6 {
            2 => Recovery::Reference,
            5 => Recovery::E2fsck,
            _ => Recovery::Driver,
        };
        disk.set(&replay.go_to(state)?)?;
        let moment = recording.moment(state.index);
        sum +=
            look_at_one(bench, &disk.device, by, &|dir| check(dir, moment)).with_context(|| {
                format!(
                    "{state:?} of {} entries, recovered by {by:?}, at {moment:?}",
                    recording.log.entries.len()
                )
            })?;
    }
    Ok(sum)
}

fn look_at_one(
    bench: &Bench,
    device: &Path,
    by: Recovery,
    check: &dyn Fn(&Path) -> anyhow::Result<usize>,
) -> anyhow::Result<usize> {
    let driver = match by {
        Recovery::Reference => REFERENCE,
        Recovery::Driver => &bench.fstype,
        Recovery::E2fsck => {
            let output = command::run("e2fsck", &["-fy", text(device)])?;
            anyhow::ensure!(
                output.status <= 1 && is_only_recovery(&output.text),
                "e2fsck repaired it:\n{}",
                output.text
            );
            &bench.fstype
        }
    };
    mount_device(device, &bench.dir, driver, "").context("mounting")?;
    let found = check(&bench.dir);
    unmount(&bench.dir, UnmountFlags::empty()).context("unmounting")?;
    let found = found?;
    fsck_device(device, driver == REFERENCE || !bench.is_ferrofs())?;
    Ok(found)
}

/// What e2fsck changed was the journal's replay and the totals in the superblock, which no driver keeps up to date while
/// mounted (a mount counts them anew), not a repair.
pub fn is_only_recovery(text: &str) -> bool {
    const USUAL: [&str; 9] = [
        "e2fsck 1.",
        "Pass ",
        "Free blocks count wrong (",
        "Free inodes count wrong (",
        "Fix? yes",
        "Clearing orphaned inode",
        "recovering journal",
        "/dev/",
        "***** FILE SYSTEM WAS MODIFIED",
    ];
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || USUAL.iter().any(|usual| line.starts_with(usual)))
}

/// A careless program, which never calls fsync, rewrites files and replaces them: whatever happens, it finds the old or the
/// new contents, and not an empty file.
pub fn careless(bench: &Bench) -> anyhow::Result<()> {
    let found = empty_files(bench, "commit=300", &|_| false)?;
    anyhow::ensure!(
        found.is_empty(),
        "files were empty after a crash: {}",
        found.join(", ")
    );
    // Without the option this is what happens: so the test can tell.
    let has = |found: &[String], kind: &str| found.iter().any(|name| name.starts_with(kind));
    let kinds = ["replaced", "rewritten"];
    let enough = |found: &[String]| kinds.iter().all(|kind| has(found, kind));
    let found = empty_files(bench, "commit=300,noauto_da_alloc", &enough)?;
    for kind in kinds {
        anyhow::ensure!(
            has(&found, kind),
            "no {kind} file was empty after a crash without auto_da_alloc: this test shows nothing"
        );
    }
    Ok(())
}

/// What the careless program has written to a file in a round.
fn careless_contents(name: &str, round: u64) -> Vec<u8> {
    format!("{name} of round {round}; ")
        .repeat(2000)
        .into_bytes()
}

/// Which files were empty in a state that a crash may leave when the disk is mounted with `options`. It looks no further
/// when those that it found are `enough`.
fn empty_files(
    bench: &Bench,
    options: &str,
    enough: &dyn Fn(&[String]) -> bool,
) -> anyhow::Result<Vec<String>> {
    let setup = Setup {
        format: &["-E", "nodiscard", "64M"],
        mebibytes: 64,
        options,
        marks: false,
    };
    let names: Vec<String> = ["replaced", "rewritten"]
        .iter()
        .flat_map(|kind| (0..FILES).map(move |number| format!("{kind}{number}")))
        .collect();
    let recording = recorder::record(bench, &setup, &|run| {
        for name in &names {
            std::fs::write(run.dir.join(name), careless_contents(name, 0))?;
        }
        rustix::fs::syncfs(File::open(&run.dir)?)?;
        run.mark()?;
        for round in 1..=ROUNDS {
            careless_round(&run.dir, &names, round)?;
            // Somebody else calls fsync, for a file that has nothing to do with these.
            let mut other = File::create(run.dir.join("other"))?;
            other.write_all(b"other")?;
            other.sync_all()?;
        }
        Ok(())
    })?;
    let states: Vec<State> =
        replay::all_states(&recording.log, recording.start, 2, &mut bench.rng())
            .into_iter()
            .filter(|state| recording.is_after_first_mark(state.index))
            .collect();
    let states = replay::sample(
        states,
        bench.scaled(CARELESS_SAMPLE) as usize,
        &mut bench.rng(),
    );
    let empty = std::cell::RefCell::new(Vec::new());
    look_at(bench, &recording, &states, 64 << 20, &|dir, _| {
        if enough(&empty.borrow()) {
            return Ok(0);
        }
        for name in &names {
            let bytes = std::fs::read(dir.join(name)).with_context(|| format!("reading {name}"))?;
            if bytes.is_empty() {
                empty.borrow_mut().push(name.clone());
                continue;
            }
            // The kernel's own ext4 may leave zeros in a file that was not synced.
            let is_known = !bench.is_ferrofs()
                || (0..=ROUNDS).any(|round| {
                    let whole = careless_contents(name, round);
                    // What is rewritten in place comes to the disk piece by piece.
                    bytes == whole || (name.starts_with("rewritten") && whole.starts_with(&bytes))
                });
            anyhow::ensure!(is_known, "{name} has {} bytes of no round", bytes.len());
        }
        Ok(names.len())
    })?;
    Ok(empty.into_inner())
}

fn careless_round(dir: &Path, names: &[String], round: u64) -> anyhow::Result<()> {
    for name in names {
        let contents = careless_contents(name, round);
        if name.starts_with("replaced") {
            let temporary = dir.join("temporary");
            std::fs::write(&temporary, contents)?;
            std::fs::rename(&temporary, dir.join(name))?;
        } else {
            std::fs::write(dir.join(name), contents)?;
        }
    }
    Ok(())
}
