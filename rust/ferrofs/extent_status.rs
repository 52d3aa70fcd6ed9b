// SPDX-License-Identifier: GPL-2.0

//! What is known in memory of where a file's blocks are: the extent status cache.
//!
//! It is a cache of the extent tree, and more: it is the only place that knows of *delayed* blocks,
//! which were written in memory and have space reserved but no place on the disk yet. Runs of blocks
//! are kept in a red-black tree by their end, so that the first run that ends behind a block is the one
//! that contains it or the next one.
//!
//! What is cached of the disk may be dropped at any time; delayed runs stay until they are allocated or
//! given up.

use core::ops::Range;

use ext4::PhysicalBlock;
use kernel::alloc::flags::GFP_NOWAIT;
use kernel::alloc::AllocError;
use kernel::alloc::Flags;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNode;
use kernel::rbtree::RBTreeNodeReservation;
use vfs::memory::until_available;

/// How many runs are cached for a file, besides delayed ones.
const MAX_CACHED: u32 = 2048;

/// Where a run of blocks is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// Nowhere: it reads as zeroes.
    Hole,
    /// In memory only, with space reserved.
    Delayed,
    /// On the disk from this block on, and never written.
    Unwritten(PhysicalBlock),
    /// On the disk from this block on.
    Written(PhysicalBlock),
}

impl Status {
    /// The status of what comes `blocks` blocks later in the same run; `None` past the last block.
    fn skip(self, blocks: u32) -> Option<Self> {
        let blocks = u64::from(blocks);
        Some(match self {
            Self::Hole | Self::Delayed => self,
            Self::Unwritten(start) => Self::Unwritten(start.checked_add(blocks)?),
            Self::Written(start) => Self::Written(start.checked_add(blocks)?),
        })
    }
}

/// A run of blocks of a file with one status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// The first block.
    pub(crate) start: u32,
    /// The block behind the last one. More than `start`.
    pub(crate) end: u32,
    /// Where the first block is; the others follow.
    pub(crate) status: Status,
}

impl Run {
    /// The part of it in `range`; `None` when there is none.
    pub(crate) fn part(&self, range: Range<u32>) -> Option<Self> {
        let start = self.start.max(range.start);
        let end = self.end.min(range.end);
        if start >= end {
            return None;
        }
        Some(Self {
            start,
            end,
            status: self.status.skip(start - self.start)?,
        })
    }

    /// Where the first block is on the disk, if the run holds data there.
    pub(crate) fn written(&self) -> Option<PhysicalBlock> {
        match self.status {
            Status::Written(start) => Some(start),
            _ => None,
        }
    }

    /// Whether `next` goes on where this ends, with nothing between in the file or on the disk.
    fn continues_in(&self, next: &Self) -> bool {
        self.end == next.start && self.status.skip(self.end - self.start) == Some(next.status)
    }

    /// The number of blocks.
    pub(crate) fn len(&self) -> u32 {
        self.end - self.start
    }
}

/// What the tree keeps of a run under the run's end.
struct Value {
    start: u32,
    status: Status,
}

/// Memory for the runs that a change adds to those that it takes out. Made before the change, which then
/// cannot fail.
pub(crate) struct Spare<'a> {
    nodes: [Option<RBTreeNodeReservation<u32, Value>>; 3],
    /// What messages call the mount.
    id: &'a CStr,
}

impl<'a> Spare<'a> {
    /// None.
    pub(crate) const fn none(id: &'a CStr) -> Self {
        Self {
            nodes: [None, None, None],
            id,
        }
    }

    /// For [`Cache::set`] with a run in which `range` is. Sleeps.
    pub(crate) fn to_set(id: &'a CStr, cache: &Cache, range: Range<u32>) -> Result<Self> {
        Ok(Self::new(id, 1 + cache.splits(range), GFP_KERNEL)?)
    }

    /// As [`Self::to_set`], if the memory can be allocated without a sleep.
    pub(crate) fn to_set_nowait(id: &'a CStr, cache: &Cache, range: Range<u32>) -> Result<Self> {
        Ok(Self::new(id, 1 + cache.splits(range), GFP_NOWAIT)?)
    }

    /// For [`Cache::forget`] with a range in which `range` is. Sleeps until there is memory: what is given up
    /// must not be known as reserved for ever.
    pub(crate) fn to_forget(id: &'a CStr, cache: &Cache, range: Range<u32>) -> Self {
        let count = cache.splits(range);
        until_available(|| Self::new(id, count, GFP_KERNEL))
    }

    fn new(id: &'a CStr, count: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut spare = Self::none(id);
        for slot in spare.nodes.iter_mut().take(count) {
            // It fails in no other way.
            let node = RBTreeNodeReservation::new(flags).map_err(|_| AllocError)?;
            *slot = Some(node);
        }
        Ok(spare)
    }

    /// Keeps the memory of a run that was taken out.
    fn put(&mut self, node: RBTreeNode<u32, Value>) {
        if let Some(free) = self.nodes.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(node.into_reservation());
        }
    }

    fn take(&mut self) -> Option<RBTreeNodeReservation<u32, Value>> {
        self.nodes.iter_mut().find_map(Option::take)
    }
}

/// The runs that are known of one file. They do not overlap; what is between them is not known.
pub(crate) struct Cache {
    runs: RBTree<u32, Value>,
    /// How many runs are not delayed.
    cached: u32,
    /// How many blocks are delayed.
    delayed: u32,
}

impl Cache {
    /// Nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            runs: RBTree::new(),
            cached: 0,
            delayed: 0,
        }
    }

    /// The number of delayed blocks.
    pub(crate) fn delayed(&self) -> u32 {
        self.delayed
    }

    /// The run that `block` is in, if it is known.
    pub(crate) fn find(&self, block: u32) -> Option<Run> {
        self.at_or_after(block).filter(|run| run.start <= block)
    }

    /// The first known run that ends behind `block`.
    pub(crate) fn at_or_after(&self, block: u32) -> Option<Run> {
        let cursor = self.runs.cursor_lower_bound(&block.checked_add(1)?)?;
        let (&end, value) = cursor.current();
        Some(Run {
            start: value.start,
            end,
            status: value.status,
        })
    }

    /// How many runs more there are when `range` is taken out: one if a run begins before it and ends behind
    /// it, else none.
    fn splits(&self, range: Range<u32>) -> usize {
        self.find(range.start)
            .is_some_and(|run| run.start < range.start && run.end > range.end)
            .into()
    }

    /// The first delayed run in `range`, cut to it.
    pub(crate) fn next_delayed(&self, range: Range<u32>) -> Option<Run> {
        let mut at = range.start;
        while at < range.end && self.delayed != 0 {
            let run = self.at_or_after(at)?;
            if run.status == Status::Delayed {
                return run.part(range);
            }
            at = run.end;
        }
        None
    }

    /// Records a run, in place of whatever was known of its blocks.
    pub(crate) fn set(&mut self, mut run: Run, spare: &mut Spare<'_>) {
        let (head, tail) = self.cut(run.start..run.end, spare);
        let head = self.join_before(&mut run, head, spare);
        let tail = self.join_after(&mut run, tail, spare);
        for piece in [head, Some(run), tail].into_iter().flatten() {
            self.insert(piece, spare);
        }
    }

    /// Forgets whatever is known of the blocks in `range`.
    pub(crate) fn forget(&mut self, range: Range<u32>, spare: &mut Spare<'_>) {
        let (head, tail) = self.cut(range, spare);
        for piece in [head, tail].into_iter().flatten() {
            self.insert(piece, spare);
        }
    }

    /// Forgets everything but the delayed runs when that has become much.
    pub(crate) fn trim(&mut self) {
        if self.cached > MAX_CACHED {
            self.forget_cached();
        }
    }

    /// Forgets everything but the delayed runs.
    pub(crate) fn forget_cached(&mut self) {
        let mut next = self.runs.cursor_front_mut();
        while let Some(cursor) = next {
            if cursor.current().1.status == Status::Delayed {
                next = cursor.move_next();
            } else {
                next = cursor.remove_current().0;
            }
        }
        self.cached = 0;
    }

    /// Takes out all runs with blocks in `range`. Returns what is left of the first one before the range
    /// and of the last one behind it.
    fn cut(&mut self, range: Range<u32>, spare: &mut Spare<'_>) -> (Option<Run>, Option<Run>) {
        let (mut head, mut tail) = (None, None);
        while let Some(run) = self.at_or_after(range.start) {
            if run.start >= range.end {
                break;
            }
            self.remove(&run, spare);
            head = head.or_else(|| run.part(0..range.start));
            tail = run.part(range.end..u32::MAX);
        }
        (head, tail)
    }

    /// Joins `run` with the run before it where it continues that; else gives `head` back.
    fn join_before(
        &mut self,
        run: &mut Run,
        head: Option<Run>,
        spare: &mut Spare<'_>,
    ) -> Option<Run> {
        let known = |value: &Value| Run {
            start: value.start,
            end: run.start,
            status: value.status,
        };
        let before = head.or_else(|| self.runs.get(&run.start).map(known))?;
        if !before.continues_in(run) {
            return head;
        }
        if head.is_none() {
            self.remove(&before, spare);
        }
        run.start = before.start;
        run.status = before.status;
        None
    }

    /// Joins `run` with the run behind it where that continues it; else gives `tail` back.
    fn join_after(
        &mut self,
        run: &mut Run,
        tail: Option<Run>,
        spare: &mut Spare<'_>,
    ) -> Option<Run> {
        let after = tail.or_else(|| self.at_or_after(run.end))?;
        if !run.continues_in(&after) {
            return tail;
        }
        if tail.is_none() {
            self.remove(&after, spare);
        }
        run.end = after.end;
        None
    }

    fn remove(&mut self, run: &Run, spare: &mut Spare<'_>) {
        if let Some(node) = self.runs.remove_node(&run.end) {
            spare.put(node);
            match run.status {
                Status::Delayed => self.delayed -= run.len(),
                _ => self.cached -= 1,
            }
        }
    }

    /// Adds a run, whose blocks are not known. There is memory for it: that of runs that were taken out, and
    /// what was set aside.
    fn insert(&mut self, run: Run, spare: &mut Spare<'_>) {
        let Some(memory) = spare.take() else {
            // Would lose track of reserved space if it were delayed, hence the message.
            pr_err!(
                "({}): extent status: no memory was set aside for {run:?}\n",
                spare.id.to_str().unwrap_or("?")
            );
            return;
        };
        let value = Value {
            start: run.start,
            status: run.status,
        };
        self.runs.insert(memory.into_node(run.end, value));
        match run.status {
            Status::Delayed => self.delayed += run.len(),
            _ => self.cached += 1,
        }
    }
}

#[kunit_tests(ferrofs_extent_status)]
mod tests {
    use super::*;

    fn written(start: u32, end: u32, physical: u64) -> Run {
        Run {
            start,
            end,
            status: Status::Written(PhysicalBlock::new(physical)),
        }
    }

    fn delayed(start: u32, end: u32) -> Run {
        Run {
            start,
            end,
            status: Status::Delayed,
        }
    }

    fn set(cache: &mut Cache, run: Run) -> Result {
        let mut spare = Spare::to_set(c"test", cache, run.start..run.end)?;
        cache.set(run, &mut spare);
        Ok(())
    }

    #[test]
    fn nothing_is_known_at_first() {
        let cache = Cache::new();
        assert_eq!(cache.find(0), None);
        assert_eq!(cache.at_or_after(u32::MAX), None);
        assert_eq!(cache.next_delayed(0..u32::MAX), None);
    }

    #[test]
    fn continuing_runs_are_joined() -> Result {
        let mut cache = Cache::new();
        set(&mut cache, written(0, 4, 100))?;
        set(&mut cache, written(8, 12, 108))?;
        set(&mut cache, written(4, 8, 104))?;
        assert_eq!(cache.find(11), Some(written(0, 12, 100)));
        assert_eq!(cache.cached, 1);
        // The next block in the file, but not on the disk.
        set(&mut cache, written(12, 13, 500))?;
        assert_eq!(cache.find(12), Some(written(12, 13, 500)));
        assert_eq!(cache.cached, 2);
        Ok(())
    }

    #[test]
    fn a_run_is_split_around_a_new_one() -> Result {
        let mut cache = Cache::new();
        set(&mut cache, written(0, 10, 100))?;
        set(&mut cache, delayed(4, 6))?;
        assert_eq!(cache.find(3), Some(written(0, 4, 100)));
        assert_eq!(cache.find(4), Some(delayed(4, 6)));
        assert_eq!(cache.find(6), Some(written(6, 10, 106)));
        assert_eq!(cache.delayed(), 2);
        // And whole again.
        set(&mut cache, written(4, 6, 104))?;
        assert_eq!(cache.find(5), Some(written(0, 10, 100)));
        assert_eq!(cache.delayed(), 0);
        Ok(())
    }

    #[test]
    fn delayed_blocks_are_counted_and_kept() -> Result {
        let mut cache = Cache::new();
        set(&mut cache, delayed(10, 20))?;
        set(&mut cache, written(20, 30, 1000))?;
        set(&mut cache, delayed(30, 40))?;
        assert_eq!(cache.delayed(), 20);
        assert_eq!(cache.next_delayed(15..35), Some(delayed(15, 20)));
        assert_eq!(cache.next_delayed(22..35), Some(delayed(30, 35)));
        cache.forget_cached();
        assert_eq!(cache.find(25), None);
        assert_eq!(cache.delayed(), 20);
        let mut spare = Spare::to_forget(c"test", &cache, 0..35);
        cache.forget(0..35, &mut spare);
        assert_eq!(cache.at_or_after(0), Some(delayed(35, 40)));
        assert_eq!(cache.delayed(), 5);
        Ok(())
    }

    /// Whatever comes in whatever order, the memory that is set aside is enough: a run that was lost for want of
    /// it would show as a difference.
    #[test]
    fn it_agrees_with_a_list_of_blocks() -> Result {
        const BLOCKS: u32 = 16;

        let mut model = [None; BLOCKS as usize];
        let mut cache = Cache::new();
        let mut state: u32 = 1;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for _ in 0..3000 {
            let start = random(BLOCKS);
            let end = start + 1 + random(BLOCKS - start);
            // Runs of one kind that touch each other always continue each other.
            let physical = PhysicalBlock::new(u64::from(100 + start));
            let status = match random(5) {
                0 => Some(Status::Hole),
                1 => Some(Status::Delayed),
                2 => Some(Status::Written(physical)),
                3 => Some(Status::Unwritten(physical)),
                _ => None,
            };
            match status {
                Some(status) => set(&mut cache, Run { start, end, status })?,
                None => {
                    let mut spare = Spare::to_forget(c"test", &cache, start..end);
                    cache.forget(start..end, &mut spare);
                }
            }
            for block in start..end {
                model[block as usize] = status.and_then(|status| status.skip(block - start));
            }
            for block in 0..BLOCKS {
                let found = cache
                    .find(block)
                    .and_then(|run| run.status.skip(block - run.start));
                assert_eq!(found, model[block as usize]);
            }
            let delayed = model
                .iter()
                .filter(|status| **status == Some(Status::Delayed));
            assert_eq!(cache.delayed() as usize, delayed.count());
        }
        Ok(())
    }

    #[test]
    fn the_last_blocks_of_a_file_are_no_exception() -> Result {
        let mut cache = Cache::new();
        let last = u32::MAX - 1;
        set(&mut cache, delayed(last, u32::MAX))?;
        assert_eq!(cache.find(last), Some(delayed(last, u32::MAX)));
        assert_eq!(cache.find(u32::MAX), None);
        // Nothing is behind it: that takes no memory.
        cache.forget(0..u32::MAX, &mut Spare::none(c"test"));
        assert_eq!(cache.delayed(), 0);
        Ok(())
    }
}
