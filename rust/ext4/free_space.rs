// SPDX-License-Identifier: GPL-2.0

//! What is free in a group, in few numbers, and where to allocate.
//!
//! To look for space in every group's bitmap would be slow. So each group whose bitmap was read has a
//! [`FreeSummary`] in memory: how many clusters are free, and how many runs of free clusters there are
//! of each *order*, an order `n` being the lengths from `2^n` to `2^(n+1) - 1`:
//!
//! ```text
//! free runs of a group:  3, 1, 70, 2, 5   ->   free 81, runs of order 0: 1, 1: 2, 2: 1, 6: 1
//! ```
//!
//! It answers whether a run of a wanted length is there for certain, perhaps, or certainly not, and is
//! brought up to date by what changes, without another look at the whole bitmap. The bitmap is the
//! caller's, who guards both by one lock: not necessarily the one on disk, as clusters that are freed
//! in a transaction must not be used again before it commits.
//!
//! [`GroupSearch`] is the order in which groups are tried.

#[cfg(test)]
mod tests;

use crate::bitmap::Bitmap;
use crate::bitmap::BitmapError;
use crate::bitmap::Run;
use crate::Group;

/// How many orders there are: a bitmap has at most 2^19 bits, a block of 64 KiB.
pub const ORDERS: usize = 20;

/// The order of a length: the logarithm to base two, rounded down. A length of 0 has order 0.
const fn order(length: u32) -> u32 {
    match length.checked_ilog2() {
        Some(order) => order,
        None => 0,
    }
}

/// Whether a group has a free run of some length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// It has.
    Certain,
    /// Only its bitmap tells.
    Possible,
    /// It has not.
    Impossible,
}

/// What is free in a group.
///
/// # Invariants
///
/// As long as every change of the bitmap goes through [`allocate`](Self::allocate) and
/// [`release`](Self::release), it says of it what [`from_bitmap`](Self::from_bitmap) would.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreeSummary {
    free: u32,
    runs: [u32; ORDERS],
}

/// What is looked for in a bitmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The bit where the clusters would best begin.
    pub goal: u32,
    /// The clusters at `goal` would continue what is before them. Then even few are worth having
    /// there: they do not cost an extent.
    pub continues: bool,
    /// How many clusters are wanted.
    pub wanted: u32,
    /// How many are better than none: at least 1.
    pub least: u32,
}

impl FreeSummary {
    /// A summary of a group in which nothing is free.
    pub const fn full() -> Self {
        Self {
            free: 0,
            runs: [0; ORDERS],
        }
    }

    /// Counts what is free in a bitmap.
    pub fn from_bitmap<B: AsRef<[u8]>>(bitmap: &Bitmap<B>) -> Self {
        let mut summary = Self::full();
        for run in bitmap.free_runs(0..bitmap.bits()) {
            summary.add_run(run.count);
        }
        summary
    }

    fn slot(&mut self, length: u32) -> &mut u32 {
        // No bitmap has a run of a larger order.
        let order = (order(length) as usize).min(ORDERS - 1);
        &mut self.runs[order]
    }

    fn add_run(&mut self, length: u32) {
        if length > 0 {
            *self.slot(length) += 1;
            self.free += length;
        }
    }

    fn remove_run(&mut self, length: u32) {
        if length > 0 {
            let slot = self.slot(length);
            *slot = slot.saturating_sub(1);
            self.free = self.free.saturating_sub(length);
        }
    }

    /// How many clusters are free.
    pub const fn free(&self) -> u32 {
        self.free
    }

    /// How many runs of free clusters there are.
    pub fn run_count(&self) -> u32 {
        self.runs.iter().sum()
    }

    /// How many runs of free clusters there are of each order.
    pub const fn runs(&self) -> &[u32; ORDERS] {
        &self.runs
    }

    /// The order of the longest free run; `None` when nothing is free.
    pub fn largest_order(&self) -> Option<u32> {
        let order = self.runs.iter().rposition(|count| *count != 0)?;
        Some(order as u32)
    }

    /// Whether there is a free run of at least this length.
    pub fn fit(&self, length: u32) -> Fit {
        match self.largest_order() {
            None => Fit::Impossible,
            Some(largest) => fit(largest, length),
        }
    }

    /// Marks clusters as used in the bitmap and in the summary.
    ///
    /// # Errors
    ///
    /// As [`Bitmap::allocate`]; nothing is changed then.
    pub fn allocate<B: AsRef<[u8]> + AsMut<[u8]>>(
        &mut self,
        bitmap: &mut Bitmap<B>,
        start: u32,
        count: u32,
    ) -> Result<(), BitmapError> {
        bitmap.check_free(start, count)?;
        let run = bitmap.free_run_around(start);
        bitmap.allocate(start, count)?;
        if let (Some(run), 1..) = (run, count) {
            self.remove_run(run.count);
            self.add_run(start - run.start);
            // All of it was free, so the run reaches at least as far.
            self.add_run(run.end() - (start + count));
        }
        Ok(())
    }

    /// Marks clusters as free in the bitmap and in the summary.
    ///
    /// # Errors
    ///
    /// As [`Bitmap::release`]; nothing is changed then.
    pub fn release<B: AsRef<[u8]> + AsMut<[u8]>>(
        &mut self,
        bitmap: &mut Bitmap<B>,
        start: u32,
        count: u32,
    ) -> Result<(), BitmapError> {
        bitmap.release(start, count)?;
        if count == 0 {
            return Ok(());
        }
        if let Some(run) = bitmap.free_run_around(start) {
            self.remove_run(start - run.start);
            self.remove_run(run.end() - (start + count));
            self.add_run(run.count);
        }
        Ok(())
    }

    /// Finds the best place for a request in this group's bitmap. Gives at most `wanted` clusters and
    /// at least `least`; `None` when there is no such run.
    ///
    /// That is, in this order: at the goal, if all fits there or something is continued; the first run
    /// from the goal on that all fits in, then the first one before it; the longest run of all.
    pub fn find<B: AsRef<[u8]>>(&self, bitmap: &Bitmap<B>, request: &Request) -> Option<Run> {
        let wanted = request.wanted.max(1);
        let least = request.least.clamp(1, wanted);
        if self.fit(least) == Fit::Impossible {
            return None;
        }
        let mut from = request.goal.min(bitmap.bits());
        // The usual case needs no look at where the run around the goal ends.
        let end = from.saturating_add(wanted);
        if end <= bitmap.bits() && bitmap.next_set(from..end).is_none() {
            return Some(Run {
                start: from,
                count: wanted,
            });
        }
        if let Some(run) = bitmap.free_run_around(from) {
            let here = run.end() - from;
            if request.continues && here >= least {
                return Some(Run {
                    start: from,
                    count: here,
                });
            }
            // Perhaps all fits if it begins before the goal.
            from = run.start;
        }

        // With nothing as long as wanted, one of the longest is good enough: no need to see them all.
        let enough = match self.fit(wanted) {
            Fit::Impossible => least.max(1 << self.largest_order()?),
            _ => wanted,
        };
        let mut best = Run { start: 0, count: 0 };
        let after = bitmap.free_runs(from..bitmap.bits());
        let before = bitmap.free_runs(0..from);
        for run in after.chain(before) {
            if run.count > best.count {
                best = run;
                if run.count >= enough {
                    break;
                }
            }
        }
        (best.count >= least).then_some(Run {
            start: best.start,
            count: best.count.min(wanted),
        })
    }
}

fn fit(largest: u32, length: u32) -> Fit {
    let wanted = order(length);
    if largest > wanted || (largest == wanted && length.max(1).is_power_of_two()) {
        Fit::Certain
    } else if largest == wanted {
        Fit::Possible
    } else {
        Fit::Impossible
    }
}

/// What is known of a group without a look at its bitmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupSpace {
    /// How many clusters are free.
    pub free: u32,
    /// The order of the longest run, if the bitmap was read: [`FreeSummary::largest_order`].
    pub largest_order: Option<u32>,
}

impl GroupSpace {
    fn fit(&self, length: u32) -> Fit {
        match self.largest_order {
            Some(largest) if self.free > 0 => fit(largest, length),
            // The bitmap will have to be read. A free group is likely to be in one piece.
            None if self.free >= length => Fit::Possible,
            _ => Fit::Impossible,
        }
    }
}

/// Why a group is tried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Criterion {
    /// The goal is in it.
    Goal,
    /// All that is wanted is in it, in one piece, or may be if its bitmap was not read yet.
    Whole,
    /// A quarter of what is wanted is in it in one piece.
    Part,
    /// Something is free in it.
    Any,
}

/// The order in which groups are tried for an allocation: the goal's, then those behind it and around
/// the end, first those that have it all in one piece, then those that have less and less.
///
/// A group may come more than once, each time for a lesser reason: the caller only comes back for
/// another one when the last one did not do. It ends after going around four times.
///
/// # Examples
///
/// ```
/// use ext4::free_space::{Criterion, GroupSearch, GroupSpace};
/// use ext4::Group;
///
/// let free = [0, 5, 100];
/// let space = |group: Group| {
///     let free = free[group.get() as usize];
///     GroupSpace { free, largest_order: u32::checked_ilog2(free) }
/// };
/// let mut search = GroupSearch::new(Group::new(1), 3, 50);
/// assert_eq!(search.next(space), Some((Group::new(1), Criterion::Goal)));
/// assert_eq!(search.next(space), Some((Group::new(2), Criterion::Whole)));
/// ```
#[derive(Clone, Debug)]
pub struct GroupSearch {
    goal: u32,
    groups: u32,
    wanted: u32,
    criterion: Criterion,
    /// How many groups were looked at for this criterion.
    step: u32,
}

impl GroupSearch {
    /// Begins a search for `wanted` clusters in `groups` groups, which are numbered from 0.
    pub fn new(goal: Group, groups: u32, wanted: u32) -> Self {
        Self {
            // A goal from a disk that shrank is as good as any.
            goal: if goal.get() < groups { goal.get() } else { 0 },
            groups,
            wanted: wanted.max(1),
            criterion: Criterion::Goal,
            step: 0,
        }
    }

    /// The next group to try, and why; `None` when there is none left. `space` tells what is known of
    /// a group.
    pub fn next(
        &mut self,
        mut space: impl FnMut(Group) -> GroupSpace,
    ) -> Option<(Group, Criterion)> {
        loop {
            let last = match self.criterion {
                Criterion::Goal => 1.min(self.groups),
                _ => self.groups,
            };
            while self.step < last {
                // Both are below the number of groups, so one subtraction brings it back.
                let sum = u64::from(self.goal) + u64::from(self.step);
                let count = u64::from(self.groups);
                let group = Group::new((if sum < count { sum } else { sum - count }) as u32);
                self.step += 1;
                if self.is_good(&space(group)) {
                    return Some((group, self.criterion));
                }
            }
            self.step = 0;
            self.criterion = match self.criterion {
                Criterion::Goal => {
                    // The goal's own group was just tried.
                    self.step = 1;
                    Criterion::Whole
                }
                Criterion::Whole => Criterion::Part,
                Criterion::Part => Criterion::Any,
                Criterion::Any => {
                    // Ended, for good.
                    self.step = u32::MAX;
                    return None;
                }
            };
        }
    }

    fn is_good(&self, space: &GroupSpace) -> bool {
        match self.criterion {
            Criterion::Whole => {
                let fit = space.fit(self.wanted);
                fit == Fit::Certain || (fit == Fit::Possible && space.largest_order.is_none())
            }
            Criterion::Part => space.fit(self.wanted.div_ceil(4)) != Fit::Impossible,
            Criterion::Goal | Criterion::Any => space.free > 0,
        }
    }
}
