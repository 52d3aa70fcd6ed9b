// SPDX-License-Identifier: GPL-2.0

//! A busy program whose every promise is written down, for tests that cut the power.
//!
//! Several threads work, each in a folder of its own, and each keeps a journal outside of the guest: a line before every
//! change (what may be found from now on) and a line after every fsync that came back (what must be found from now on).
//! Files consist of records that tell of which file, place and generation they are, so that bytes which were never
//! written to a file give themselves away.

use crate::rng::mix;
use crate::rng::Rng;
use anyhow::Context;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// The size of a record, in bytes.
const RECORD: usize = 64;
/// How many threads work on a disk.
pub const THREADS: u64 = 3;
/// How many names of each kind a thread uses.
const SLOTS: u64 = 12;

/// The record of a file's generation at a place. `total` is the file's final length where that is known.
fn record(id: u64, place: u64, generation: u64, total: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let mut seal =
        mix(id) ^ mix(place.wrapping_add(0x5eed)) ^ mix(generation.wrapping_mul(3)) ^ total;
    for (slot, word) in bytes
        .chunks_exact_mut(8)
        .zip([id, place, generation, total])
    {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    for slot in bytes[32..].chunks_exact_mut(8) {
        seal = mix(seal);
        slot.copy_from_slice(&seal.to_le_bytes());
    }
    bytes
}

/// The generation and total length that a record tells, if it is one of this file and place.
fn parse_record(bytes: &[u8], id: u64, place: u64) -> Option<(u64, u64)> {
    let word = |index: usize| -> Option<u64> {
        Some(u64::from_le_bytes(
            bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?,
        ))
    };
    let (generation, total) = (word(2)?, word(3)?);
    // The last record of a file may be cut.
    let whole = record(id, place, generation, total);
    (bytes == &whole[..bytes.len()]).then_some((generation, total))
}

/// `length` bytes of a file from `place` on, both multiples of a record's size.
fn contents(id: u64, place: u64, length: u64, generation: u64, total: u64) -> Vec<u8> {
    (0..length / RECORD as u64)
        .flat_map(|number| record(id, place + number * RECORD as u64, generation, total))
        .collect()
}

/// What a thread writes down.
struct Journal {
    file: File,
}

impl Journal {
    fn open(path: &Path) -> anyhow::Result<Journal> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("opening {}", path.display()))?;
        Ok(Journal { file })
    }

    /// The line is with the host when this returns.
    fn note(&mut self, line: &str) -> anyhow::Result<()> {
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .context("noting a promise")
    }
}

/// Where the thread `number` works, below `dir`.
fn thread_dir(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("thread{number}"))
}

/// Where the thread `number` keeps its journal.
fn journal_path(journals: &Path, number: u64) -> PathBuf {
    journals.join(format!("thread{number}"))
}

/// Works in `dir`, which is made, until `stop` or for ever.
pub fn work(dir: &Path, journals: &Path, seed: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    fs::create_dir_all(journals)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut worker = Worker::new(dir, journals, seed, number)?;
                    while !stop.load(Ordering::Relaxed) {
                        worker.step()?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })
}

struct Worker {
    dir: PathBuf,
    journal: Journal,
    rng: Rng,
    next_id: u64,
    /// Lengths of the files that grow, and generations and lengths of those that are overwritten.
    growing: BTreeMap<u64, (u64, u64)>,
    overwritten: BTreeMap<u64, (u64, u64, u64)>,
    /// Names that are there for good, so that a rename over them replaces something.
    settled: BTreeSet<String>,
}

impl Worker {
    fn new(dir: &Path, journals: &Path, seed: u64, number: u64) -> anyhow::Result<Worker> {
        let own = thread_dir(dir, number);
        fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
        File::open(dir)?.sync_all()?;
        if let Some(parent) = dir.parent() {
            File::open(parent)?.sync_all()?;
        }
        let mut journal = Journal::open(&journal_path(journals, number))?;
        journal.note("A folder")?;
        Ok(Worker {
            dir: own,
            journal,
            rng: Rng::new(mix(seed ^ (number << 32))),
            next_id: (mix(seed) << 24) | (number << 16),
            growing: BTreeMap::new(),
            overwritten: BTreeMap::new(),
            settled: BTreeSet::new(),
        })
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn sync_dir(&self) -> anyhow::Result<()> {
        File::open(&self.dir)?
            .sync_all()
            .context("fsync of a folder")
    }

    fn step(&mut self) -> anyhow::Result<()> {
        let slot = self.rng.below(SLOTS);
        match self.rng.below(10) {
            0..=3 => self.grow(slot),
            4..=6 => self.overwrite(slot),
            7 => self.replace(slot, true),
            8 => self.replace(slot, false),
            _ => self.come_and_go(slot),
        }
    }

    /// A file that only grows; its bytes follow from its id.
    fn grow(&mut self, slot: u64) -> anyhow::Result<()> {
        let path = self.dir.join(format!("grow{slot}"));
        let (id, length) = match self.growing.get(&slot) {
            Some(&(id, length)) if length < 2 << 20 => (id, length),
            Some(_) => {
                self.journal.note(&format!("I gone grow{slot}"))?;
                fs::remove_file(&path)?;
                self.growing.remove(&slot);
                return Ok(());
            }
            None => (self.id(), 0),
        };
        let limit = if self.rng.one_in(5) { 8000 } else { 300 };
        let more = (1 + self.rng.below(limit)) * RECORD as u64;
        self.journal
            .note(&format!("I grow grow{slot} {id} {}", length + more))?;
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        (&file)
            .write_all(&contents(id, length, more, 0, 0))
            .context("appending")?;
        self.growing.insert(slot, (id, length + more));
        if self.rng.one_in(2) {
            if self.rng.one_in(2) {
                file.sync_all().context("fsync")?;
            } else {
                file.sync_data().context("fdatasync")?;
            }
            self.journal
                .note(&format!("A grow grow{slot} {id} {}", length + more))?;
        }
        Ok(())
    }

    /// A file of fixed length, of which ranges are overwritten.
    fn overwrite(&mut self, slot: u64) -> anyhow::Result<()> {
        let path = self.dir.join(format!("over{slot}"));
        let Some(&(id, length, generation)) = self.overwritten.get(&slot) else {
            let id = self.id();
            let length = (1 + self.rng.below(3000)) * RECORD as u64;
            self.journal
                .note(&format!("I whole over{slot} {id} {length}"))?;
            let mut file = File::create(&path)?;
            file.write_all(&contents(id, 0, length, 0, length))?;
            file.sync_all()?;
            self.journal
                .note(&format!("A whole over{slot} {id} {length}"))?;
            self.overwritten.insert(slot, (id, length, 0));
            return Ok(());
        };
        let records = length / RECORD as u64;
        let first = self.rng.below(records);
        let count = 1 + self.rng.below((records - first).min(500));
        let generation = generation + 1;
        self.overwritten.insert(slot, (id, length, generation));
        let range = format!("over{slot} {id} {first} {count} {generation}");
        self.journal.note(&format!("I over {range}"))?;
        let file = OpenOptions::new().write(true).open(&path)?;
        let place = first * RECORD as u64;
        file.write_all_at(
            &contents(id, place, count * RECORD as u64, generation, length),
            place,
        )?;
        if self.rng.one_in(2) {
            file.sync_data().context("fdatasync")?;
            // With it came all that was written to the file before.
            self.journal.note(&format!("A over {range}"))?;
        }
        Ok(())
    }

    /// A file that is replaced by a new one, as editors do; and as careless programs do, without fsync.
    fn replace(&mut self, slot: u64, careful: bool) -> anyhow::Result<()> {
        let kind = if careful { "careful" } else { "careless" };
        let name = format!("{kind}{slot}");
        // A new name may lead to an empty file; a name that led to a file before may not.
        let careful = careful || !self.settled.contains(&name);
        let id = self.id();
        let length = (1 + self.rng.below(1500)) * RECORD as u64;
        self.journal.note(&format!("I replace {name} {id}"))?;
        let temporary = self.dir.join(format!("temporary-{name}"));
        let mut file = File::create(&temporary)?;
        file.write_all(&contents(id, 0, length, 0, length))?;
        if careful {
            file.sync_all()?;
        }
        fs::rename(&temporary, self.dir.join(&name))?;
        if careful {
            self.sync_dir()?;
            self.journal.note(&format!("A replace {name} {id}"))?;
            self.settled.insert(name);
        }
        Ok(())
    }

    /// A file that comes for a moment and goes.
    fn come_and_go(&mut self, slot: u64) -> anyhow::Result<()> {
        let name = format!("brief{slot}");
        let path = self.dir.join(&name);
        let id = self.id();
        let length = (1 + self.rng.below(2000)) * RECORD as u64;
        self.journal
            .note(&format!("I whole {name} {id} {length}"))?;
        let mut file = File::create(&path)?;
        file.write_all(&contents(id, 0, length, 0, length))?;
        if self.rng.one_in(2) {
            file.sync_all()?;
            self.journal
                .note(&format!("A whole {name} {id} {length}"))?;
        }
        self.journal.note(&format!("I gone {name}"))?;
        fs::remove_file(&path)?;
        if self.rng.one_in(2) {
            self.sync_dir()?;
            self.journal.note(&format!("A gone {name}"))?;
        }
        Ok(())
    }
}

/// What may and must be found of one name.
#[derive(Debug, Default)]
struct Promise {
    /// The file must be there: it was acknowledged, and nothing was done to its name since.
    present: bool,
    /// The file must not be there.
    absent: bool,
    /// Ids that the file may have, the oldest first; those before the last acknowledged one are dropped.
    ids: Vec<u64>,
    /// The least and the greatest length.
    length: (u64, u64),
    /// For each record, the least generation; and the greatest one of the file.
    least: BTreeMap<u64, u64>,
    pending: Vec<(u64, u64, u64)>,
    greatest: u64,
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Findings {
    /// Acknowledgements that the journals hold.
    pub acknowledged: usize,
    /// Files that were read.
    pub files: usize,
}

/// Compares what is in `dir` with the journals. With `tails`, a file that was growing may end in zeros, beyond what was
/// acknowledged: the kernel's own ext4 moves a file's size within its last block before the data is written.
pub fn check(dir: &Path, journals: &Path, tails: bool) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    for number in 0..THREADS {
        let path = journal_path(journals, number);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // The power went before the thread began.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let promises = read_journal(&text, &mut findings)?;
        let own = thread_dir(dir, number);
        anyhow::ensure!(
            own.is_dir() || text.is_empty(),
            "the folder {} is gone",
            own.display()
        );
        for (name, promise) in &promises {
            check_file(&own, name, promise, tails, &mut findings).with_context(|| {
                format!("{}/{name}, of which was noted: {promise:?}", own.display())
            })?;
        }
        for entry in fs::read_dir(&own).with_context(|| format!("reading {}", own.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let known = name.strip_prefix("temporary-").unwrap_or(&name);
            anyhow::ensure!(
                promises.contains_key(known),
                "nobody made {}/{name}",
                own.display()
            );
        }
    }
    Ok(findings)
}

/// A line that the power cut in two is not there.
fn read_journal(text: &str, findings: &mut Findings) -> anyhow::Result<BTreeMap<String, Promise>> {
    let mut promises: BTreeMap<String, Promise> = BTreeMap::new();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let acknowledged = words[0] == "A";
        findings.acknowledged += usize::from(acknowledged);
        let number = |index: usize| -> anyhow::Result<u64> {
            words
                .get(index)
                .and_then(|word| word.parse().ok())
                .with_context(|| format!("the journal says {line:?}"))
        };
        let Some(name) = words.get(2) else { continue };
        let promise = promises.entry((*name).into()).or_default();
        match (words[1], acknowledged) {
            ("grow", false) => {
                if promise.ids.last() != Some(&number(3)?) {
                    *promise = Promise::fresh(promise, number(3)?);
                }
                promise.length.1 = number(4)?;
            }
            ("grow", true) => {
                promise.settle(number(3)?);
                promise.length.0 = number(4)?;
            }
            ("whole", false) => {
                *promise = Promise::fresh(promise, number(3)?);
                promise.length = (0, number(4)?);
            }
            ("whole", true) => {
                promise.settle(number(3)?);
                promise.length.0 = number(4)?;
            }
            ("over", false) => {
                promise.pending.push((number(4)?, number(5)?, number(6)?));
                promise.greatest = number(6)?;
            }
            ("over", true) => {
                for (first, count, generation) in promise.pending.drain(..) {
                    for place in first..first + count {
                        promise.least.insert(place, generation);
                    }
                }
            }
            ("replace", false) => {
                promise.ids.push(number(3)?);
                promise.length = (0, u64::MAX);
            }
            ("replace", true) => promise.settle(number(3)?),
            ("gone", false) => promise.present = false,
            ("gone", true) => {
                *promise = Promise {
                    absent: true,
                    ..Promise::default()
                }
            }
            _ => anyhow::bail!("the journal says {line:?}"),
        }
    }
    Ok(promises)
}

impl Promise {
    /// The name is about to belong to the file `id`, and may still belong to an older one.
    fn fresh(old: &Promise, id: u64) -> Promise {
        let mut ids = old.ids.clone();
        ids.push(id);
        Promise {
            ids,
            ..Promise::default()
        }
    }

    /// The name belongs to the file `id` for good.
    fn settle(&mut self, id: u64) {
        self.ids.retain(|other| *other >= id);
        self.present = true;
        self.absent = false;
    }
}

fn check_file(
    dir: &Path,
    name: &str,
    promise: &Promise,
    tails: bool,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let bytes = match fs::read(dir.join(name)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            anyhow::ensure!(!promise.present, "it is gone");
            return Ok(());
        }
        Err(error) => return Err(error).context("reading it"),
    };
    findings.files += 1;
    anyhow::ensure!(!promise.absent, "it is there");
    let replaced = name.starts_with("care");
    if bytes.is_empty() {
        anyhow::ensure!(
            !promise.present || promise.length.0 == 0 && !replaced,
            "it is empty"
        );
        return Ok(());
    }
    let id = bytes
        .get(..8)
        .and_then(|word| word.try_into().ok())
        .map(u64::from_le_bytes)
        .context("it is shorter than a word")?;
    anyhow::ensure!(
        promise.ids.contains(&id),
        "it is of a file {id}: foreign or outdated bytes"
    );
    let is_newest = promise.ids.last() == Some(&id);
    if is_newest && !replaced {
        let length = bytes.len() as u64;
        anyhow::ensure!(
            (promise.length.0..=promise.length.1).contains(&length),
            "it has {length} bytes"
        );
    }
    for (number, piece) in bytes.chunks(RECORD).enumerate() {
        let place = (number * RECORD) as u64;
        let is_tail = name.starts_with("grow") && place >= promise.length.0;
        if tails && is_tail && piece.iter().all(|byte| *byte == 0) {
            continue;
        }
        let (generation, total) = parse_record(piece, id, place).with_context(|| {
            let zeros = piece.iter().all(|byte| *byte == 0);
            format!(
                "at byte {place} of {} it holds {}",
                bytes.len(),
                if zeros { "zeros" } else { "foreign bytes" }
            )
        })?;
        if replaced {
            anyhow::ensure!(
                total == bytes.len() as u64,
                "a rename left {} of {total} bytes",
                bytes.len()
            );
        }
        if is_newest {
            let least = promise.least.get(&(number as u64)).copied().unwrap_or(0);
            anyhow::ensure!(
                (least..=promise.greatest).contains(&generation),
                "at byte {place} it is of generation {generation}: at least {least} was acknowledged, {} written",
                promise.greatest
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promises(text: &str) -> BTreeMap<String, Promise> {
        read_journal(text, &mut Findings::default()).unwrap()
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let dir = std::env::temp_dir().join(format!("ferrofs-busy-{}", std::process::id()));
        let journals = dir.join("journals");
        let files = dir.join("files");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let run = scope.spawn(|| work(&files, &journals, 7, &stop));
            std::thread::sleep(std::time::Duration::from_millis(600));
            stop.store(true, Ordering::Relaxed);
            run.join().unwrap().unwrap();
        });
        let found = check(&files, &journals, false).unwrap();
        assert!(found.acknowledged > 10 && found.files > 3, "{found:?}");
        // One wrong byte, or one lost file, is seen.
        let victim = fs::read_dir(files.join("thread0"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| {
                path.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with("over")
            })
            .unwrap();
        let file = OpenOptions::new().write(true).open(&victim).unwrap();
        file.write_all_at(&[0; 5], 3).unwrap();
        assert!(check(&files, &journals, false).is_err());
        fs::remove_file(victim).unwrap();
        assert!(check(&files, &journals, false).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_promise_ends_with_the_next_change() {
        let all = promises("A folder\nI whole a 1 64\nA whole a 1 64\nI gone a\nI whole b 2 64\nA whole b 2 64\nA gon");
        assert!(!all["a"].present && all["b"].present);
    }
}
