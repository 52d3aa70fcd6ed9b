// SPDX-License-Identifier: GPL-2.0

//! The states that a crash may have left a disk in, made from the log of its writes.
//!
//! There are three kinds. After every answer of the device that something is durable, all that the log holds up to there
//! is on the disk, and nothing else. The same is so after a mark, when something that was acknowledged in between must be
//! there as well. And right before the device has answered a flush, any part of the writes that the flush is to make
//! durable may be there, in any order: each block of each of them by chance.

use super::log::Action;
use super::log::Entry;
use super::log::Log;
use crate::command::must;
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// What a disk writes in one piece, in bytes.
const BLOCK: u64 = 4096;

/// One state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// All entries before this index are on the disk.
    pub index: usize,
    /// Of the writes from there up to this index, each block is on the disk or not, by chance.
    pub partial_end: usize,
    /// Where the chance begins.
    pub seed: u64,
    /// It is one behind a mark.
    pub is_marked: bool,
}

/// All states behind the entry `start`, with `chances` different ones for each flush that something waits for.
pub fn all_states(log: &Log, start: usize, chances: u64, rng: &mut Rng) -> Vec<State> {
    let is_plain = |entry: &Entry| !entry.is_boundary() && is_write(entry);
    let mut states = Vec::new();
    // The first of the writes that have been logged for the next flush.
    let mut first = None;
    for (index, entry) in log.entries.iter().enumerate().skip(start) {
        // Behind the last one of some marks.
        if !is_mark(entry) && index > start && is_mark(&log.entries[index - 1]) {
            states.push(State {
                index,
                partial_end: index,
                seed: 0,
                is_marked: true,
            });
        }
        if is_plain(entry) {
            first.get_or_insert(index);
            continue;
        }
        if let Some(first) = first.take().filter(|_| entry.flush) {
            for _ in 0..chances {
                states.push(State {
                    index: first,
                    partial_end: index,
                    seed: rng.next(),
                    is_marked: false,
                });
            }
        }
        if entry.is_boundary() {
            states.push(State {
                index: index + 1,
                partial_end: index + 1,
                seed: 0,
                is_marked: false,
            });
        }
    }
    states
}

fn is_write(entry: &Entry) -> bool {
    matches!(entry.action, Action::Write { .. })
}

fn is_mark(entry: &Entry) -> bool {
    matches!(entry.action, Action::Mark(_))
}

/// At most `count` of the states, chosen by chance, in their order.
pub fn sample(states: Vec<State>, count: usize, rng: &mut Rng) -> Vec<State> {
    let mut left = states.len();
    let mut wanted = count.min(left);
    states
        .into_iter()
        .filter(|_| {
            let take = rng.below(left as u64) < wanted as u64;
            left -= 1;
            wanted -= usize::from(take);
            take
        })
        .collect()
}

/// A disk in memory that goes through the states, forward only.
pub struct Replay<'a> {
    log: &'a Log,
    /// How many entries it has taken.
    taken: usize,
    blocks: Blocks,
}

type Blocks = BTreeMap<u64, Vec<u8>>;

/// Puts bytes into blocks; `choose` says which blocks take theirs.
fn put(blocks: &mut Blocks, offset: u64, bytes: &[u8], mut choose: impl FnMut() -> bool) {
    let mut at = 0;
    while at < bytes.len() {
        let place = offset + at as u64;
        let within = (place % BLOCK) as usize;
        let length = (BLOCK as usize - within).min(bytes.len() - at);
        if choose() {
            let block = blocks
                .entry(place / BLOCK)
                .or_insert_with(|| vec![0; BLOCK as usize]);
            block[within..within + length].copy_from_slice(&bytes[at..at + length]);
        }
        at += length;
    }
}

impl<'a> Replay<'a> {
    /// The empty disk.
    pub fn new(log: &'a Log) -> Replay<'a> {
        Replay {
            log,
            taken: 0,
            blocks: Blocks::new(),
        }
    }

    /// The blocks of the disk in `state`, which is not before the last one.
    pub fn go_to(&mut self, state: &State) -> anyhow::Result<Blocks> {
        while self.taken < state.index {
            if let Some((offset, bytes)) = self.log.written(&self.log.entries[self.taken])? {
                put(&mut self.blocks, offset, &bytes, || true);
            }
            self.taken += 1;
        }
        let mut blocks = self.blocks.clone();
        let mut rng = Rng::new(state.seed);
        // Sometimes little is there, sometimes nearly all.
        let (most, parts) = (rng.below(8) + 1, 9);
        for entry in &self.log.entries[state.index..state.partial_end] {
            if let Some((offset, bytes)) = self.log.written(entry)? {
                put(&mut blocks, offset, &bytes, || rng.below(parts) < most);
            }
        }
        Ok(blocks)
    }
}

/// A loop device over a file in memory, to mount the states.
pub struct Disk {
    file: File,
    size: u64,
    path: PathBuf,
    /// The device.
    pub device: PathBuf,
}

impl Disk {
    /// A disk of `size` bytes.
    pub fn new(size: u64) -> anyhow::Result<Disk> {
        // The debug kernel has it built in: losetup tells when there is none.
        let _ = crate::command::run("modprobe", &["loop"])?;
        let path = PathBuf::from("/tmp/ferrofs-crash.img");
        let file = File::create(&path)?;
        file.set_len(size)?;
        let device = must("losetup", &["-f", "--show", crate::bench::text(&path)])?;
        Ok(Disk {
            file,
            size,
            path,
            device: Path::new(device.trim()).into(),
        })
    }

    /// Makes the disk hold these blocks and nothing else. Nobody has it open.
    pub fn set(&self, blocks: &Blocks) -> anyhow::Result<()> {
        self.file.set_len(0)?;
        self.file.set_len(self.size)?;
        for (number, block) in blocks {
            let offset = number * BLOCK;
            anyhow::ensure!(
                offset + BLOCK <= self.size,
                "block {number} is not on the disk"
            );
            self.file.write_all_at(block, offset)?;
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The guest goes soon, and its memory with it: this makes room for the next test, as far as that can be done.
        let _ = must("losetup", &["-d", crate::bench::text(&self.device)]);
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_as_many_as_asked_for_in_order() {
        let states: Vec<State> = (0..100)
            .map(|index| State {
                index,
                partial_end: index,
                seed: 0,
                is_marked: false,
            })
            .collect();
        let some = sample(states.clone(), 10, &mut Rng::new(3));
        assert_eq!(some.len(), 10);
        assert!(some.windows(2).all(|pair| pair[0].index < pair[1].index));
        assert_eq!(sample(states, 1000, &mut Rng::new(3)).len(), 100);
    }

    #[test]
    fn bytes_are_put_where_they_belong() {
        let mut blocks = Blocks::new();
        put(&mut blocks, 4000, &[7; 5000], || true);
        assert_eq!(blocks.len(), 3);
        assert_eq!((blocks[&0][3999], blocks[&0][4000]), (0, 7));
        assert_eq!((blocks[&2][807], blocks[&2][808]), (7, 0));
    }
}
