// SPDX-License-Identifier: GPL-2.0

//! Blocks between being freed and being free.
//!
//! Until the transaction that frees them is on disk, a crash brings the old owner back. So they wait
//! here, and only the commit makes them available. Without a journal there is nothing to wait for.

use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

use ext4::bitmap::BitmapError;
use kernel::prelude::*;
use vfs::journal::CommitListener;
use vfs::journal::Journal;
use vfs::journal::Tid;
use vfs::memory::until_available;
use vfs::memory::NoFs;

use super::summary::Summary;
use super::Core;

/// A run of blocks of one group that was freed.
#[derive(Clone, Copy)]
pub(super) struct Freed {
    pub(super) tid: Tid,
    pub(super) group: ext4::Group,
    /// The number of its first bit in the group's bitmap.
    pub(super) first: u32,
    pub(super) count: u32,
    /// The byte of the device where it begins.
    position: u64,
}

impl Freed {
    pub(super) fn new(
        tid: Tid,
        geometry: &ext4::Geometry,
        group: ext4::Group,
        bits: Range<u32>,
    ) -> Self {
        let block = geometry.block_of_bit(group, bits.start);
        Self {
            tid,
            group,
            first: bits.start,
            count: bits.end - bits.start,
            position: block.get() << geometry.block_size().bits(),
        }
    }

    /// Its bits in the group's bitmap.
    pub(super) fn bits(&self) -> Range<u32> {
        self.first..self.first + self.count
    }
}

/// The runs that are not available yet.
pub(super) struct Waiting {
    /// For their commit.
    commit: KVVec<Freed>,
    /// Committed, and being made available one after the other.
    release: KVVec<Freed>,
    /// The last transaction that was seen to the end of that.
    released: Option<Tid>,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self {
            commit: KVVec::new(),
            release: KVVec::new(),
            released: None,
        }
    }

    /// The last transaction of which runs are still waiting.
    fn last_tid(&self) -> Option<Tid> {
        let all = Iterator::chain(self.commit.iter(), self.release.iter());
        all.map(|run| run.tid)
            .reduce(|last, tid| if tid.is_at_least(last) { tid } else { last })
    }

    /// The runs in a group.
    fn in_group(&self, group: ext4::Group) -> impl Iterator<Item = &Freed> {
        let all = Iterator::chain(self.commit.iter(), self.release.iter());
        all.filter(move |run| run.group == group)
    }

    /// Marks the runs in a group as used in its summary, which was made of the bitmap on disk, where they are
    /// free.
    pub(super) fn hide(
        &self,
        group: ext4::Group,
        summary: &mut Summary,
    ) -> Result<(), BitmapError> {
        let mut runs = self.in_group(group);
        runs.try_for_each(|run| summary.mark_used(run.bits()))
    }

    pub(super) fn add(&mut self, run: Freed) -> Result {
        // A run that continues the one before is one with it.
        if let Some(last) = self.commit.last_mut() {
            let follows = last.tid == run.tid
                && last.group == run.group
                && last.first + last.count == run.first;
            if follows {
                last.count += run.count;
                return Ok(());
            }
        }
        self.commit.push(run, GFP_KERNEL)?;
        Ok(())
    }

    /// Moves the runs that `tid` or an earlier transaction has freed on to be released. When there is no
    /// memory for that, the next commit will do it.
    pub(super) fn commit(&mut self, tid: Tid) {
        let is_committed = |run: &Freed| tid.is_at_least(run.tid);
        let count = self.commit.iter().filter(|run| is_committed(run)).count();
        if self.release.reserve(count, GFP_KERNEL).is_err() {
            return;
        }
        let mut kept = 0;
        for index in 0..self.commit.len() {
            let run = self.commit[index];
            if !is_committed(&run) || self.release.push(run, GFP_KERNEL).is_err() {
                self.commit[kept] = run;
                kept += 1;
            }
        }
        self.commit.truncate(kept);
    }
}

impl Core {
    /// Makes room to remember one more run, so that [`Self::remember`] does not fail. Waits until there is
    /// memory for that: the run is not in the map of its file any more.
    pub(super) fn prepare_to_free(&self) {
        // One for each task that may be between here and remember(), and more.
        until_available(|| self.waiting.lock().commit.reserve(64, GFP_KERNEL));
    }

    /// Remembers a run that a transaction frees. The lock of its group is held.
    pub(super) fn remember(&self, run: Freed) {
        if self.waiting.lock().add(run).is_err() {
            // The blocks are free on disk and stay unused until the next mount.
            pr_warn!(
                "({}): no memory to remember {} freed blocks\n",
                self.id(),
                run.count
            );
        }
    }

    /// Has the transactions committed that have freed blocks, and waits until those are available. Sleeps;
    /// not within a transaction.
    pub(super) fn release_all(&self, journal: &Journal) -> Result {
        let Some(last) = self.waiting.lock().last_tid() else {
            return Ok(());
        };
        journal.complete(last)?;
        // Who waits for a commit is let go before the journal tells its listener.
        let mut waiting = self.waiting.lock();
        while !waiting.released.is_some_and(|tid| tid.is_at_least(last)) {
            self.released.wait(&mut waiting);
        }
        Ok(())
    }

    /// Tells the device that a run is not needed any more, if the mount asks for that.
    pub(super) fn discard_run(&self, run: &Freed) {
        if !self.discard.load(Relaxed) {
            return;
        }
        let length = u64::from(run.count) * self.device.buffer_size() as u64;
        if let Err(error) = self.device.discard(run.position..run.position + length) {
            pr_warn!(
                "({}): discarding freed blocks fails and is given up: {error:?}\n",
                self.id()
            );
            self.discard.store(false, Relaxed);
        }
    }

    /// Makes a committed run available. The device learns of it before anybody can use it again.
    fn release_run(&self, run: &Freed) -> Result {
        self.discard_run(run);
        let group = self.group(run.group)?;
        let mut state = group.lock();
        // Off the list and into the summary in one go, for whoever makes a summary.
        {
            let mut waiting = self.waiting.lock();
            let rest = waiting.release.len().saturating_sub(1);
            waiting.release.truncate(rest);
        }
        group.make_free(&self.space, self.id(), &mut state, run);
        Ok(())
    }
}

impl CommitListener for Core {
    fn committed(&self, tid: Tid) {
        // What frees memory may wait for the very commit that is ending here.
        let _scope = NoFs::enter();
        self.waiting.lock().commit(tid);
        loop {
            let next = self.waiting.lock().release.last().copied();
            match next {
                Some(run) if self.release_run(&run).is_ok() => {}
                _ => break,
            }
        }
        self.waiting.lock().released = Some(tid);
        self.released.notify_all();
    }
}

#[kunit_tests(ferrofs_freed)]
pub(super) mod tests {
    use super::*;

    pub(in crate::alloc) fn run(tid: u32, group: u32, bits: Range<u32>) -> Freed {
        Freed {
            tid: Tid::new(tid),
            group: ext4::Group::new(group),
            first: bits.start,
            count: bits.end - bits.start,
            position: 0,
        }
    }

    fn waiting(runs: &[Freed]) -> Result<Waiting> {
        let mut waiting = Waiting::new();
        for run in runs {
            waiting.add(*run)?;
        }
        Ok(waiting)
    }

    #[test]
    fn neighbours_of_one_transaction_are_one_run() -> Result {
        let runs = [run(7, 1, 10..14), run(7, 1, 14..20)];
        let joined = waiting(&runs)?;
        assert_eq!(joined.commit.len(), 1);
        assert!(joined.commit[0].bits() == (10..20));
        for other in [run(8, 1, 14..20), run(7, 2, 14..20), run(7, 1, 15..20)] {
            assert_eq!(waiting(&[runs[0], other])?.commit.len(), 2);
        }
        Ok(())
    }

    #[test]
    fn a_commit_releases_what_was_freed_until_then() -> Result {
        // The numbers of transactions wrap around.
        let runs = [
            run(u32::MAX, 0, 0..1),
            run(1, 0, 5..6),
            run(0, 1, 2..3),
            run(1, 1, 8..9),
        ];
        let mut waiting = waiting(&runs)?;
        assert!(waiting.last_tid() == Some(Tid::new(1)));
        waiting.commit(Tid::new(0));
        assert_eq!((waiting.commit.len(), waiting.release.len()), (2, 2));
        assert!(waiting.commit.iter().all(|run| run.tid == Tid::new(1)));
        // Those that are being released are not available yet.
        assert_eq!(waiting.in_group(ext4::Group::new(0)).count(), 2);
        waiting.commit(Tid::new(1));
        assert_eq!((waiting.commit.len(), waiting.release.len()), (0, 4));
        Ok(())
    }
}
