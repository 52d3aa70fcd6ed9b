// SPDX-License-Identifier: GPL-2.0

//! The work itself.

use super::record;
use super::record::contents;
use super::record::RECORD;
use super::thread_dir;
use super::Notes;
use super::ATTRIBUTE;
use super::TEMPORARY;
use super::THREADS;
use crate::rng::mix;
use crate::rng::Rng;
use anyhow::Context;
use rustix::fs::XattrFlags;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// How many names of each kind a thread uses.
const SLOTS: u64 = 12;
/// How many files without a name a thread holds open.
const HELD: usize = 4;

/// Works in `dir`, which is made, with the notes that `notes` opens for a thread of this number. A thread ends when `stop`
/// says so, which is told how many steps it has done.
pub fn work(
    dir: &Path,
    notes: &(dyn Fn(u64) -> anyhow::Result<Box<dyn Notes>> + Sync),
    seed: u64,
    stop: &(dyn Fn(u64) -> bool + Sync),
) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut worker = Worker::new(dir, notes(number)?, seed, number)?;
                    let mut steps = 0;
                    while !stop(steps) {
                        worker.step()?;
                        steps += 1;
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

/// Overwrites files in `dir`, `steps` times, as the thread with this number, while nobody else works: that an overwrite is
/// on the disk after fdatasync is then owed to a flush of its own, and not to a commit or to somebody else's flush.
pub fn overwrite_alone(
    dir: &Path,
    number: u64,
    notes: Box<dyn Notes + '_>,
    seed: u64,
    steps: u64,
) -> anyhow::Result<()> {
    let mut worker = Worker::new(dir, notes, seed, number)?;
    for step in 0..steps {
        worker.overwrite(step % 3)?;
    }
    Ok(())
}

struct Worker<'a> {
    dir: PathBuf,
    notes: Box<dyn Notes + 'a>,
    rng: Rng,
    next_id: u64,
    /// Ids and lengths of the files that grow, and of those that get longer and shorter.
    growing: BTreeMap<u64, (u64, u64)>,
    cut: BTreeMap<u64, (u64, u64)>,
    /// Ids, lengths and generations of the files that are overwritten.
    overwritten: BTreeMap<u64, (u64, u64, u64)>,
    /// Ids and generations of the files whose attribute changes.
    attributes: BTreeMap<u64, (u64, u64)>,
    /// Names that are there for good, so that a rename over them replaces something.
    settled: BTreeSet<String>,
    /// The numbers of the names in the crowded directory.
    crowd: (u64, u64),
    /// Files without a name.
    held: VecDeque<File>,
}

impl<'a> Worker<'a> {
    fn new(
        dir: &Path,
        mut notes: Box<dyn Notes + 'a>,
        seed: u64,
        number: u64,
    ) -> anyhow::Result<Worker<'a>> {
        let own = thread_dir(dir, number);
        fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
        File::open(dir)?.sync_all()?;
        if let Some(parent) = dir.parent() {
            File::open(parent)?.sync_all()?;
        }
        notes.note("A folder")?;
        Ok(Worker {
            dir: own,
            notes,
            rng: Rng::new(mix(seed ^ (number << 32))),
            next_id: (mix(seed) << 24) | (number << 16),
            growing: BTreeMap::new(),
            cut: BTreeMap::new(),
            overwritten: BTreeMap::new(),
            attributes: BTreeMap::new(),
            settled: BTreeSet::new(),
            crowd: (0, 0),
            held: VecDeque::new(),
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
        match self.rng.below(20) {
            0..=4 => self.grow(slot),
            5..=8 => self.overwrite(slot),
            9..=10 => self.replace(slot, true),
            11..=12 => self.replace(slot, false),
            13..=14 => self.come_and_go(slot),
            15 => self.rewrite(slot),
            16 => self.cut(slot),
            17 => self.attribute(slot),
            18 => self.crowd(),
            _ => self.hold(slot),
        }
    }

    /// A file that only grows; its bytes follow from its id.
    fn grow(&mut self, slot: u64) -> anyhow::Result<()> {
        let name = format!("grow{slot}");
        let path = self.dir.join(&name);
        let (id, length) = match self.growing.get(&slot) {
            Some(&(id, length)) if length < 2 << 20 => (id, length),
            Some(_) => {
                self.notes.note(&format!("I gone {name}"))?;
                fs::remove_file(&path)?;
                self.growing.remove(&slot);
                return Ok(());
            }
            None => (self.id(), 0),
        };
        let limit = if self.rng.one_in(5) { 8000 } else { 300 };
        let more = (1 + self.rng.below(limit)) * RECORD as u64;
        self.notes
            .note(&format!("I grow {name} {id} {}", length + more))?;
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        (&file)
            .write_all(&contents(id, length, more, 0, 0))
            .context("appending")?;
        self.growing.insert(slot, (id, length + more));
        if self.rng.one_in(2) {
            self.sync_somehow(&file)?;
            self.notes
                .note(&format!("A grow {name} {id} {}", length + more))?;
        }
        Ok(())
    }

    /// Both ways bring a file's bytes and length to the disk.
    fn sync_somehow(&mut self, file: &File) -> anyhow::Result<()> {
        if self.rng.one_in(2) {
            file.sync_all().context("fsync")
        } else {
            file.sync_data().context("fdatasync")
        }
    }

    /// A file that gets longer and shorter; its bytes follow from its id.
    fn cut(&mut self, slot: u64) -> anyhow::Result<()> {
        let name = format!("cut{slot}");
        let (id, mut length) = match self.cut.get(&slot) {
            Some(known) => *known,
            None => (self.id(), 0),
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join(&name))?;
        if length > 0 && self.rng.one_in(2) {
            // To nothing at times: what is written after that must not be taken for an older file.
            length = if self.rng.one_in(4) {
                0
            } else {
                self.rng.below(length / RECORD as u64) * RECORD as u64
            };
            self.notes.note(&format!("I cut {name} {id} {length}"))?;
            file.set_len(length).context("cutting")?;
        }
        if length == 0 || self.rng.one_in(2) {
            let more = (1 + self.rng.below(700)) * RECORD as u64;
            self.notes
                .note(&format!("I cut {name} {id} {}", length + more))?;
            (&file)
                .write_all(&contents(id, length, more, 0, 0))
                .context("appending")?;
            length += more;
        }
        self.cut.insert(slot, (id, length));
        if self.rng.one_in(2) {
            self.sync_somehow(&file)?;
            self.notes.note(&format!("A cut {name} {id} {length}"))?;
        }
        Ok(())
    }

    /// A new file, or a file that is truncated and written anew, with or without fsync.
    fn write_whole(&mut self, name: &str, records: u64, sync: bool) -> anyhow::Result<(u64, File)> {
        let id = self.id();
        let length = records * RECORD as u64;
        self.notes.note(&format!("I whole {name} {id} {length}"))?;
        let mut file = File::create(self.dir.join(name))?;
        file.write_all(&contents(id, 0, length, 0, length))?;
        if sync {
            file.sync_all()?;
            self.notes.note(&format!("A whole {name} {id} {length}"))?;
        }
        Ok((id, file))
    }

    /// A file of fixed length, of which ranges are overwritten.
    fn overwrite(&mut self, slot: u64) -> anyhow::Result<()> {
        let name = format!("over{slot}");
        let Some(&(id, length, generation)) = self.overwritten.get(&slot) else {
            let records = 1 + self.rng.below(3000);
            let (id, _) = self.write_whole(&name, records, true)?;
            self.overwritten
                .insert(slot, (id, records * RECORD as u64, 0));
            return Ok(());
        };
        let records = length / RECORD as u64;
        let first = self.rng.below(records);
        let count = 1 + self.rng.below((records - first).min(500));
        let generation = generation + 1;
        self.overwritten.insert(slot, (id, length, generation));
        let range = format!("over {name} {id} {first} {count} {generation}");
        self.notes.note(&format!("I {range}"))?;
        let file = OpenOptions::new().write(true).open(self.dir.join(&name))?;
        let place = first * RECORD as u64;
        file.write_all_at(
            &contents(id, place, count * RECORD as u64, generation, length),
            place,
        )?;
        if self.rng.one_in(2) {
            file.sync_data().context("fdatasync")?;
            // With it came all that was written to the file before.
            self.notes.note(&format!("A {range}"))?;
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
        self.notes.note(&format!("I replace {name} {id}"))?;
        let temporary = self.dir.join(format!("{TEMPORARY}{name}"));
        let mut file = File::create(&temporary)?;
        file.write_all(&contents(id, 0, length, 0, length))?;
        if careful {
            file.sync_all()?;
        }
        fs::rename(&temporary, self.dir.join(&name))?;
        if careful {
            self.sync_dir()?;
            self.notes.note(&format!("A replace {name} {id}"))?;
            self.settled.insert(name);
        }
        Ok(())
    }

    /// A file that is truncated and written anew.
    fn rewrite(&mut self, slot: u64) -> anyhow::Result<()> {
        let (records, sync) = (1 + self.rng.below(1500), self.rng.one_in(2));
        self.write_whole(&format!("rewritten{slot}"), records, sync)
            .map(drop)
    }

    /// A file that comes for a moment and goes.
    fn come_and_go(&mut self, slot: u64) -> anyhow::Result<()> {
        let name = format!("brief{slot}");
        let (records, sync) = (1 + self.rng.below(2000), self.rng.one_in(2));
        self.write_whole(&name, records, sync)?;
        self.remove(&name)
    }

    fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        self.notes.note(&format!("I gone {name}"))?;
        fs::remove_file(self.dir.join(name))?;
        if self.rng.one_in(2) {
            self.sync_dir()?;
            self.notes.note(&format!("A gone {name}"))?;
        }
        Ok(())
    }

    /// A file that loses its name and goes on to be written: a crash must give its space back.
    fn hold(&mut self, slot: u64) -> anyhow::Result<()> {
        let name = format!("held{slot}");
        let (records, sync) = (1 + self.rng.below(1000), self.rng.one_in(2));
        let (_, file) = self.write_whole(&name, records, sync)?;
        self.remove(&name)?;
        self.held.push_back(file);
        if self.held.len() > HELD {
            self.held.pop_front();
        }
        for file in &mut self.held {
            // Nobody will ever see this.
            file.write_all(&[0x5a; 5000])?;
        }
        Ok(())
    }

    /// An extended attribute that moves between the inode and a block.
    fn attribute(&mut self, slot: u64) -> anyhow::Result<()> {
        let name = format!("attribute{slot}");
        let Some(&(id, generation)) = self.attributes.get(&slot) else {
            let (id, _) = self.write_whole(&name, 20, true)?;
            self.attributes.insert(slot, (id, 0));
            return Ok(());
        };
        let generation = generation + 1;
        self.attributes.insert(slot, (id, generation));
        let change = format!("attribute {name} {id} {generation}");
        self.notes.note(&format!("I {change}"))?;
        let file = File::open(self.dir.join(&name))?;
        let value = record::attribute(id, generation);
        rustix::fs::fsetxattr(&file, ATTRIBUTE, &value, XattrFlags::empty())
            .context("setting an attribute")?;
        if self.rng.one_in(2) {
            file.sync_all()?;
            self.notes.note(&format!("A {change}"))?;
        }
        Ok(())
    }

    /// A directory of many names, whose blocks split and empty.
    fn crowd(&mut self) -> anyhow::Result<()> {
        let path = self.dir.join("crowd");
        let (first, end) = self.crowd;
        let fewer = self.rng.below((end - first) / 2 + 1);
        let more = 20 + self.rng.below(80);
        self.crowd = (first + fewer, end + more);
        let change = format!("crowd crowd {} {}", first + fewer, end + more);
        self.notes.note(&format!("I {change}"))?;
        fs::create_dir_all(&path)?;
        for number in end..end + more {
            let name = path.join(record::crowd_name(number));
            if number % 4 == 0 {
                std::os::unix::fs::symlink("where it leads does not matter", name)?;
            } else {
                File::create_new(name)?;
            }
        }
        for number in first..first + fewer {
            fs::remove_file(path.join(record::crowd_name(number)))?;
        }
        File::open(&path)?
            .sync_all()
            .context("fsync of a directory")?;
        self.notes.note(&format!("A {change}"))
    }
}
