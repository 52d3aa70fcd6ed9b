// SPDX-License-Identifier: GPL-2.0

//! The map of a file: from its blocks to those of the disk.
//!
//! On disk the map is an extent tree, whose root is in the inode ([`ext4::extent`]). In memory each inode
//! keeps the root, and a cache of what is known of its blocks ([`extent_status`](crate::extent_status)),
//! behind one lock: the *map lock*. It is taken within a transaction, never the other way round, and no
//! page cache work is done under it.
//!
//! Data goes through three states. A write to memory [reserves](reserve) space and marks its blocks as
//! delayed. Writeback [allocates](allocate) them, as unwritten extents that read as zeroes. When the data
//! is on the disk, [`convert`] makes the extents written. Blocks of directories and symbolic links are
//! [created](create) at once.

use core::ops::Range;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;

use ext4::extent;
use ext4::extent::Mapping;
use ext4::extent::State;
use ext4::extent::ROOT_SIZE;
use ext4::LogicalBlock;
use kernel::error::code::EFBIG;
use kernel::error::code::ENOSPC;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::SpinLock;
use vfs::memory::NoFs;
use vfs::rwsem::RwSemaphore;
use vfs::rwsem::WriteGuard;

use crate::alloc;
use crate::alloc::Allocator;
use crate::extent_status::Cache;
pub(crate) use crate::extent_status::Run;
use crate::extent_status::Spare;
pub(crate) use crate::extent_status::Status;
use crate::Inode;
use crate::SuperBlock;

mod change;
mod nodes;
mod remove;

pub(crate) use change::allocate;
pub(crate) use change::convert;
pub(crate) use change::create;
pub(crate) use change::create_credits;
use nodes::Failure;
use nodes::Nodes;
pub(crate) use remove::remove;

/// How often an operation that found no space waits for a commit to free some.
const COMMITS_FOR_SPACE: u32 = 3;

/// The map of an inode in memory.
#[pin_data]
pub(crate) struct MapState {
    #[pin]
    tree: RwSemaphore<Tree>,
    /// A copy of the root, for storing the inode: may be read with the contents of a buffer held.
    #[pin]
    root: SpinLock<[u8; ROOT_SIZE]>,
    /// Grows with every change of a mapping.
    sequence: AtomicU64,
}

/// What the map lock guards.
struct Tree {
    root: [u8; ROOT_SIZE],
    cache: Cache,
    /// Blocks that are reserved for nodes of the tree, besides one for each delayed block.
    reserved_nodes: u32,
}

impl Tree {
    /// Whether the file has no blocks on the disk.
    fn is_unallocated(&self) -> bool {
        // A damaged root is not empty: who uses it reports it.
        extent::is_empty(&self.root).unwrap_or(false)
    }
}

impl MapState {
    /// The map of an inode of which nothing is known yet.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            tree <- vfs::new_rwsem!(
                Tree {
                    root: extent::empty_root(),
                    cache: Cache::new(),
                    reserved_nodes: 0,
                },
                "ferrofs_map"
            ),
            root <- new_spinlock!(extent::empty_root()),
            sequence: AtomicU64::new(0),
        }? Error)
    }

    /// The root of the tree, or whatever else the inode has in its place, as it is to be stored. Takes a
    /// spinlock only.
    pub(crate) fn root(&self) -> [u8; ROOT_SIZE] {
        *self.root.lock()
    }

    /// Takes over what the inode has in place of a root: the text of a short symbolic link.
    pub(crate) fn set_root(&self, root: [u8; ROOT_SIZE]) {
        let mut tree = self.tree.write();
        tree.root = root;
        *self.root.lock() = root;
    }

    /// Takes over the root of an inode that was read, after checking it.
    pub(crate) fn load(&self, inode: &Inode, root: &[u8; ROOT_SIZE]) -> Result {
        extent::verify_root(root, |start, count| nodes::may_own(inode, start, count))
            .map_err(|what| Failure::from(what).report(inode))?;
        self.set_root(*root);
        Ok(())
    }

    /// Makes the map of a new inode: empty.
    pub(crate) fn init_empty(&self) {
        self.set_root(extent::empty_root());
    }

    /// Locks the map for a change. Memory is allocated without entering the file system meanwhile.
    fn lock(&self) -> Locked<'_> {
        let scope = NoFs::enter();
        Locked {
            tree: self.tree.write(),
            state: self,
            _scope: scope,
        }
    }
}

/// Holes that are about to be delayed, each with the memory for recording that. Mostly it is one.
#[derive(Default)]
struct Holes<'a> {
    first: Option<(Run, Spare<'a>)>,
    more: KVVec<(Run, Spare<'a>)>,
}

impl<'a> Holes<'a> {
    fn one(hole: Run, spare: Spare<'a>) -> Self {
        Self {
            first: Some((hole, spare)),
            more: KVVec::new(),
        }
    }

    fn push(&mut self, hole: Run, spare: Spare<'a>) -> Result {
        match &mut self.first {
            None => self.first = Some((hole, spare)),
            Some(_) => self.more.push((hole, spare), GFP_KERNEL)?,
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut (Run, Spare<'a>)> {
        Iterator::chain(self.first.iter_mut(), self.more.iter_mut())
    }
}

/// The map, to be changed.
struct Locked<'a> {
    tree: WriteGuard<'a, Tree>,
    state: &'a MapState,
    _scope: NoFs,
}

impl Locked<'_> {
    /// Ends a change of mappings: shows the new root, and tells those who remember a mapping.
    fn publish(&self) {
        *self.state.root.lock() = self.tree.root;
        self.state.sequence.fetch_add(1, Ordering::Release);
    }

    /// What `block` is mapped to, in the cache or on the disk. The run begins at the block or before it.
    fn find(&mut self, inode: &Inode, block: u32) -> Result<Run> {
        if let Some(run) = self.tree.cache.find(block) {
            return Ok(run);
        }
        let found = extent::find(
            &self.tree.root,
            &Nodes::new(inode),
            LogicalBlock::new(block),
        )
        .map_err(|what| what.report(inode))?;
        let run = match found {
            Mapping::Extent(extent) => run_of(&extent),
            Mapping::Hole { end, .. } => {
                // Blocks in a hole on the disk may be delayed.
                let next = self.tree.cache.at_or_after(block);
                let end = next.map_or(end.get(), |next| next.start.min(end.get()));
                Run {
                    start: block,
                    end: end.max(block.saturating_add(1)),
                    status: Status::Hole,
                }
            }
        };
        // The cache is only that; without memory it stays as it is.
        if let Ok(mut spare) = Spare::to_set(inode.sb().id(), &self.tree.cache, run.start..run.end)
        {
            self.tree.cache.set(run, &mut spare);
            self.tree.cache.trim();
        }
        Ok(run)
    }

    /// The holes in `range`, each with the memory for recording a change of it.
    fn holes<'i>(&mut self, inode: &'i Inode, range: Range<u32>) -> Result<Holes<'i>> {
        let id = inode.sb().id();
        let mut holes = Holes::default();
        let mut at = range.start;
        while at < range.end {
            let run = self.find(inode, at)?;
            if run.status == Status::Hole {
                // The cache may have joined it with what was there before.
                let hole = run.part(at..range.end).ok_or(EINVAL)?;
                holes.push(hole, Spare::none(id))?;
            }
            at = run.end;
        }
        // Only now, as a look at the next hole may change what is known of the one before. Changing the one
        // does not make the others need more.
        for (hole, spare) in holes.iter_mut() {
            *spare = Spare::to_set(id, &self.tree.cache, hole.start..hole.end)?;
        }
        Ok(holes)
    }

    /// Takes the space for `holes` by `reserve` and marks them as delayed; changes nothing on failure.
    fn delay(
        &mut self,
        sb: &SuperBlock,
        holes: &mut Holes<'_>,
        reserve: impl FnOnce(&Allocator, u32) -> Result,
    ) -> Result {
        let count: u32 = holes.iter_mut().map(|(run, _)| run.len()).sum();
        if count == 0 {
            return Ok(());
        }
        let alloc = &sb.data().alloc;
        let nodes = self.nodes_for(sb, self.tree.cache.delayed().saturating_add(count));
        let nodes = nodes.saturating_sub(self.tree.reserved_nodes);
        reserve(alloc, count.checked_add(nodes).ok_or(ENOSPC)?)?;
        self.tree.reserved_nodes += nodes;
        for (run, spare) in holes.iter_mut() {
            let delayed = Run {
                status: Status::Delayed,
                ..*run
            };
            self.tree.cache.set(delayed, spare);
        }
        Ok(())
    }

    /// How many nodes the tree may get when `delayed` blocks are allocated.
    ///
    /// That is for the worst case of a tree that grows at its end: each block an extent of its own. Where
    /// full nodes in the middle are split, the allocator's pool helps out.
    fn nodes_for(&self, sb: &SuperBlock, delayed: u32) -> u32 {
        if delayed == 0 {
            return 0;
        }
        let Ok(root) = extent::Header::read(&self.tree.root) else {
            return 0;
        };
        let room = root.max().saturating_sub(root.entries());
        if root.depth() == 0 && delayed as usize <= room {
            return 0;
        }
        // A node has a header and a checksum.
        let per_node = ((sb.block_size() - 16) / 12).max(1);
        let leaves = delayed.div_ceil(per_node) + 1;
        leaves + leaves.div_ceil(per_node)
    }

    /// Gives back what is reserved for nodes beyond what the delayed blocks may still need.
    fn settle_nodes(&mut self, sb: &SuperBlock) {
        let needed = self.nodes_for(sb, self.tree.cache.delayed());
        let excess = self.tree.reserved_nodes.saturating_sub(needed);
        self.tree.reserved_nodes -= excess;
        sb.data().alloc.release(excess);
    }

    /// Forgets what is known of `range` and gives back what is reserved for its delayed blocks.
    fn forget(&mut self, sb: &SuperBlock, range: Range<u32>, spare: &mut Spare<'_>) {
        let before = self.tree.cache.delayed();
        self.tree.cache.forget(range, spare);
        let given_up = before - self.tree.cache.delayed();
        sb.data().alloc.release(given_up);
        self.settle_nodes(sb);
    }
}

/// An extent of the disk as a run.
fn run_of(extent: &extent::Extent) -> Run {
    Run {
        start: extent.logical().get(),
        end: extent.end().get(),
        status: match extent.state() {
            State::Written => Status::Written(extent.physical()),
            State::Unwritten => Status::Unwritten(extent.physical()),
        },
    }
}

/// The blocks from `start` on, `count` of them, as a range; `EFBIG` past the last block of a file.
fn range(start: u32, count: u32) -> Result<Range<u32>> {
    let end = start.checked_add(count).ok_or(EFBIG)?;
    // The last number stands for "none" in the format.
    Ok(start..end)
}

/// What `block` is mapped to: a run that begins at it and has at most `max` blocks. Sleeps; `EIO` and
/// `EFSCORRUPTED` come from reading the tree.
pub(crate) fn lookup(inode: &Inode, block: impl Into<u32>, max: u32) -> Result<Run> {
    let block = block.into();
    let map = &inode.data().map;
    let end = block.saturating_add(max.max(1));
    if end == block {
        return Err(EFBIG);
    }
    let known = map.tree.read().cache.find(block);
    let run = match known {
        Some(run) => run,
        None => map.lock().find(inode, block)?,
    };
    run.part(block..end).ok_or(EFBIG)
}

/// As [`lookup`], if the answer is known and can be had without sleeping.
pub(crate) fn lookup_cached(inode: &Inode, block: impl Into<u32>) -> Option<Run> {
    let block = block.into();
    let run = inode.data().map.tree.try_read()?.cache.find(block)?;
    run.part(block..u32::MAX)
}

/// How many blocks of the file are delayed. Sleeps.
pub(crate) fn delayed_blocks(inode: &Inode) -> u32 {
    inode.data().map.tree.read().cache.delayed()
}

/// Whether the file has no blocks and no space is reserved for any. Sleeps.
pub(crate) fn is_empty(inode: &Inode) -> bool {
    let tree = inode.data().map.tree.read();
    tree.cache.delayed() == 0 && tree.reserved_nodes == 0 && tree.is_unallocated()
}

/// A number that is another one after every change of a mapping of the file.
///
/// Who remembers a mapping reads this before looking it up, and the mapping holds as long as the number
/// is the same and whatever keeps it so (a folio lock, for blocks under writeback) is held.
pub(crate) fn sequence(inode: &Inode) -> u64 {
    inode.data().map.sequence.load(Ordering::Acquire)
}

/// Makes sure that `count` blocks from `start` on can be written: space is reserved for those in holes,
/// which are then delayed.
///
/// All or nothing: on failure nothing is reserved. `ENOSPC` when there is no space. Sleeps, not within a
/// transaction; a folio may be locked.
pub(crate) fn reserve(inode: &Inode, start: impl Into<u32>, count: u32) -> Result {
    let sb = inode.sb();
    let range = range(start.into(), count)?;
    let privileged = alloc::is_privileged(sb);
    let mut commits = 0;
    loop {
        let result = {
            let mut map = inode.data().map.lock();
            let mut holes = map.holes(inode, range.clone())?;
            let result = map.delay(sb, &mut holes, |alloc, count| {
                alloc.reserve(count, privileged)
            });
            if result.is_ok() && !holes.is_empty() {
                map.publish();
            }
            result
        };
        match result {
            Err(error) if error == ENOSPC && commits < COMMITS_FOR_SPACE => {
                commits += 1;
                if !wait_for_space(sb)? {
                    return Err(error);
                }
            }
            result => return result,
        }
    }
}

/// The inode leaves memory, and with it what was written there and never got to the disk: gives back what is
/// reserved for that. Sleeps.
pub(crate) fn abandon(inode: &Inode) {
    let reserved = |tree: &Tree| tree.cache.delayed().saturating_add(tree.reserved_nodes);
    let map = &inode.data().map;
    if reserved(&map.tree.read()) == 0 {
        return;
    }
    let mut map = map.lock();
    inode.sb().data().alloc.release(reserved(&map.tree));
    map.tree.cache = Cache::new();
    map.tree.reserved_nodes = 0;
}

/// As [`reserve`], without a sleep: `EAGAIN` where one is needed, as when it is not known in memory what
/// the blocks are, or when space is scarce.
pub(crate) fn try_reserve(inode: &Inode, start: impl Into<u32>, count: u32) -> Result {
    let range = range(start.into(), count)?;
    let state = &inode.data().map;
    let mut map = Locked {
        tree: state.tree.try_write().ok_or(EAGAIN)?,
        state,
        _scope: NoFs::enter(),
    };
    let mut at = range.start;
    let mut hole = None;
    while at < range.end {
        let run = map.tree.cache.find(at).ok_or(EAGAIN)?;
        if run.status == Status::Hole {
            // Several holes are for those who have the time.
            let part = run.part(at..range.end).ok_or(EINVAL)?;
            if hole.replace(part).is_some() {
                return Err(EAGAIN);
            }
        }
        at = run.end;
    }
    if let Some(hole) = hole {
        let spare = Spare::to_set_nowait(inode.sb().id(), &map.tree.cache, hole.start..hole.end)
            .map_err(|_| EAGAIN)?;
        map.delay(inode.sb(), &mut Holes::one(hole, spare), |alloc, count| {
            alloc.try_reserve(count)
        })?;
        map.publish();
    }
    Ok(())
}

/// After `ENOSPC`, outside of any transaction: makes blocks available that were freed lately. Returns
/// whether trying again makes sense.
pub(crate) fn wait_for_space(sb: &SuperBlock) -> Result<bool> {
    let volume = sb.data();
    volume.alloc.release_pending(&volume.journal)
}

/// Gives up the delayed blocks among `count` blocks from `start` on: they are holes again. The others
/// stay as they are. Sleeps.
pub(crate) fn release(inode: &Inode, start: impl Into<u32>, count: u32) -> Result {
    let range = range(start.into(), count)?;
    let sb = inode.sb();
    let mut map = inode.data().map.lock();
    let mut at = range.start;
    while let Some(run) = map.tree.cache.next_delayed(at..range.end) {
        let mut spare = Spare::to_forget(sb.id(), &map.tree.cache, run.start..run.end);
        map.forget(sb, run.start..run.end, &mut spare);
        at = run.end;
    }
    map.publish();
    Ok(())
}
