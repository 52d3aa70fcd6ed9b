// SPDX-License-Identifier: GPL-2.0

//! Iteration over the entries of a directory that can be interrupted and resumed while entries come and go.

use core::ops::ControlFlow;
use core::ops::DerefMut;

use super::directory::corrupt;
use super::directory::Directory;
use super::entry::Entries;
use super::entry::Entry;
use super::entry::Name;
use super::error::DirectoryError;
use super::format::BlockKind;
use super::format::FIRST_BLOCK;
use super::position::Ahead;
use super::position::Cursor;
use super::position::HashedEntry;
use super::position::Key;
use super::position::PositionForm;
use super::position::Scratch;
use super::position::State;
use super::store::DirLister;
use super::store::DirReader;
use crate::hash::NameHasher;
use crate::htree::node;
use crate::htree::Path;
use crate::sort::sort_by_key;
use crate::types::LogicalBlock;

/// The entries with the smallest keys of those that were offered, as many as there is room for.
struct Smallest<'a> {
    buffer: &'a mut [HashedEntry],
    held: usize,
    /// Whether what is held is sorted, and there may have been more than that.
    overflowed: bool,
}

impl Smallest<'_> {
    fn offer(&mut self, entry: HashedEntry) {
        if let Some(slot) = self.buffer.get_mut(self.held) {
            *slot = entry;
            self.held += 1;
            return;
        }
        // Rare: a chain of leaves that continue each other, or a small buffer.
        if !self.overflowed {
            self.sort();
            self.overflowed = true;
        }
        let at = self.buffer.partition_point(|held| held.key < entry.key);
        if at < self.buffer.len() {
            self.buffer.copy_within(at..self.buffer.len() - 1, at + 1);
            self.buffer[at] = entry;
        }
    }

    fn sort(&mut self) {
        sort_by_key(&mut self.buffer[..self.held], |entry| entry.key);
    }
}

/// Leaves that continue each other, or one leaf.
struct Chain {
    /// The path to the first leaf, or `None` for the only block of a directory without an index.
    path: Option<Path>,
    hasher: NameHasher,
    /// `.` and `..` as the root has them, for the first chain of an index.
    dots: [Option<Entry<'static>>; 2],
}

impl<S: DirReader> Directory<S> {
    /// Whether entries are iterated in the order of hashes.
    ///
    /// So is a directory of one block on a filesystem with `dir_index` even without an index, as it may
    /// get one while somebody iterates.
    pub fn has_hash_order(&self) -> bool {
        self.is_indexed() || (self.format().features.dir_index && self.blocks() == 1)
    }

    /// How many entries there should be room for in a [`Scratch`], so that [`Self::iterate`] sorts each leaf in one
    /// go: little for a directory that has little.
    pub fn scratch_size(&self) -> Result<usize, S::Error> {
        if self.is_indexed() {
            return Ok(self.format().max_entries());
        }
        let mut count = 1;
        if self.has_hash_order() {
            let block = self.read(FIRST_BLOCK, BlockKind::Leaf)?;
            for entry in Entries::new(self.format(), &block) {
                count += usize::from(entry.map_err(corrupt)?.inode.is_some());
            }
        }
        Ok(count)
    }

    /// The cursor for a position.
    pub fn cursor_at(&self, position: u64, form: PositionForm) -> Cursor {
        Cursor::new(position, form, self.has_hash_order())
    }
}

impl<S: DirLister> Directory<S> {
    /// Visits the entries from `cursor` on, `.` and `..` among them, each with its position.
    ///
    /// Ends when `visit` breaks or there are no more entries. An entry at which `visit` broke counts as not
    /// visited: it comes first when the iteration goes on. Entries that are there all the while, from the
    /// first call to the last, are visited exactly once.
    ///
    /// `scratch` holds what earlier calls have sorted, which is used as long as it was not
    /// [forgotten](Scratch::forget).
    pub fn iterate<B, V>(
        &self,
        cursor: &mut Cursor,
        scratch: &mut Scratch<B>,
        mut visit: V,
    ) -> Result<(), S::Error>
    where
        B: DerefMut<Target = [HashedEntry]>,
        V: FnMut(&Entry<'_>, u64) -> ControlFlow<()>,
    {
        let hashed = self.has_hash_order();
        *cursor = cursor.in_order(hashed);
        if hashed {
            self.iterate_hashed(cursor, &mut scratch.buffer, &mut scratch.ahead, &mut visit)
        } else {
            self.iterate_linear(cursor, &mut visit)
        }
    }

    fn iterate_linear(
        &self,
        cursor: &mut Cursor,
        visit: &mut dyn FnMut(&Entry<'_>, u64) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let bits = self.format().block_size.bits();
        let start = cursor.position();
        let first = u32::try_from(start >> bits).unwrap_or(u32::MAX);
        for number in first..self.blocks() {
            let base = u64::from(number) << bits;
            let block = self.copy(LogicalBlock::new(number), self.format().block_size.bytes())?;
            for entry in Entries::new(self.format(), &block) {
                let entry = entry.map_err(corrupt)?;
                // The entry at which the cursor stood may be gone: so each block is walked from its start.
                let position = base + entry.offset as u64;
                if position < start {
                    continue;
                }
                cursor.state = State::Linear(position);
                if entry.inode.is_some() && visit(&entry, position).is_break() {
                    return Ok(());
                }
            }
            cursor.state = State::Linear(base + (1 << bits));
        }
        Ok(())
    }

    fn iterate_hashed(
        &self,
        cursor: &mut Cursor,
        buffer: &mut [HashedEntry],
        ahead: &mut Ahead,
        visit: &mut dyn FnMut(&Entry<'_>, u64) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let State::Hashed(mut from) = cursor.state else {
            return Ok(());
        };
        // No more leaves can be passed than there are blocks, or the index repeats itself.
        let mut leaves = self.blocks();
        loop {
            if ahead.next >= ahead.held {
                // Not to be used unless it is complete.
                *ahead = Ahead::default();
                *ahead = self.gather(from, buffer)?;
            }
            if self.visit_sorted(cursor, buffer, ahead, visit)?.is_break() {
                return Ok(());
            }
            let last = buffer[..ahead.held].last();
            from = match (last.filter(|_| ahead.overflowed), ahead.start) {
                // There is more in this chain.
                (Some(last), _) => last.key.successor(),
                (None, Some(start)) => {
                    leaves = match leaves.checked_sub(ahead.leaves) {
                        None | Some(0) => return Err(corrupt(DirectoryError::IndexLoop)),
                        Some(left) => left,
                    };
                    Key::first(start)
                }
                (None, None) => {
                    cursor.state = State::End;
                    return Ok(());
                }
            };
            cursor.state = State::Hashed(from);
        }
    }

    /// A copy of the first `length` bytes of a leaf.
    fn copy(&self, leaf: LogicalBlock, length: usize) -> Result<S::Copy, S::Error> {
        let block = self.read(leaf, BlockKind::Leaf)?;
        self.store().copy(block, length)
    }

    /// The chain in which the names with the hash of `from` are.
    fn chain_at(&self, from: Key) -> Result<Chain, S::Error> {
        let mut chain = Chain {
            path: None,
            hasher: self.format().hasher,
            dots: [None; 2],
        };
        if self.is_indexed() {
            let root = self.root()?;
            chain.path = Some(self.probe(&root, from.hash.major)?);
            chain.hasher = root.hasher;
            if from <= Key::DOT_DOT {
                let (dot, dot_dot) =
                    node::root_dots(self.format(), &root.block).map_err(corrupt)?;
                chain.dots = [Some(dot.with_name(b".")), Some(dot_dot.with_name(b".."))];
            }
        }
        Ok(chain)
    }

    /// Sorts the entries with the key `from` or a larger one of the chain in which those of the hash of `from`
    /// are: as many of them as there is room for.
    fn gather(&self, from: Key, buffer: &mut [HashedEntry]) -> Result<Ahead, S::Error> {
        let chain = self.chain_at(from)?;
        let mut smallest = Smallest {
            buffer,
            held: 0,
            overflowed: false,
        };
        let mut ahead = Ahead {
            dots: chain.dots,
            ..Ahead::default()
        };
        self.offer_chain(&chain, &mut ahead, |key| {
            let counts = key >= from;
            if counts {
                smallest.offer(HashedEntry { key });
            }
            counts
        })?;
        if !smallest.overflowed {
            smallest.sort();
        }
        ahead.held = smallest.held;
        ahead.overflowed = smallest.overflowed;
        Ok(ahead)
    }

    /// Calls `offer` with the key of every entry of a chain; it says whether the entry counts. Notes the rest of
    /// what there is to know of the chain in `ahead`.
    fn offer_chain(
        &self,
        chain: &Chain,
        ahead: &mut Ahead,
        mut offer: impl FnMut(Key) -> bool,
    ) -> Result<(), S::Error> {
        let Some(mut path) = chain.path else {
            ahead.leaves = 1;
            let block = self.read(FIRST_BLOCK, BlockKind::Leaf)?;
            for (number, entry) in Entries::new(self.format(), &block).enumerate() {
                let entry = entry.map_err(corrupt)?;
                if entry.inode.is_none() {
                    continue;
                }
                let (key, name) = match number {
                    0 => (Key::DOT, Name::DOT),
                    1 => (Key::DOT_DOT, Name::DOT_DOT),
                    _ => {
                        let hashed = chain.hasher.hash_with_tie(entry.name);
                        if offer(Key::of(hashed, 0, entry.offset)) {
                            ahead.used = ahead.used.max(entry.offset + entry.used());
                        }
                        continue;
                    }
                };
                if offer(key) {
                    if entry.name != name.bytes() {
                        return Err(corrupt(DirectoryError::NoDots));
                    }
                    ahead.dots[number] = Some(entry.with_name(name.bytes()));
                }
            }
            return Ok(());
        };
        loop {
            ahead.leaves += 1;
            if ahead.leaves > self.blocks() {
                return Err(corrupt(DirectoryError::IndexLoop));
            }
            let number = path.leaf().get();
            let block = self.read(path.leaf(), BlockKind::Leaf)?;
            for entry in Entries::new(self.format(), &block) {
                let entry = entry.map_err(corrupt)?;
                if entry.inode.is_none() {
                    continue;
                }
                let hashed = chain.hasher.hash_with_tie(entry.name);
                let hash = hashed.0;
                // An odd hash in the index says that names of the even one before may be on both sides.
                let in_range = hash.major >= path.start() & !1
                    && path.next().is_none_or(|next| hash.major < next);
                if !in_range {
                    return Err(corrupt(DirectoryError::HashOutOfRange {
                        hash: hash.major,
                        leaf: number,
                    }));
                }
                if offer(Key::of(hashed, number, entry.offset)) {
                    ahead.used = ahead.used.max(entry.offset + entry.used());
                }
            }
            drop(block);
            if !path.is_continued() || !self.advance(&mut path)? {
                break;
            }
        }
        ahead.start = path.next();
        // `.` and `..` stand in the root and come in their turn.
        for key in [Key::DOT, Key::DOT_DOT] {
            if path.next().is_none_or(|next| key.hash.major < next) {
                offer(key);
            }
        }
        Ok(())
    }

    /// Visits the entries that [`Self::gather`] found and that were not visited yet.
    fn visit_sorted(
        &self,
        cursor: &mut Cursor,
        buffer: &[HashedEntry],
        ahead: &mut Ahead,
        visit: &mut dyn FnMut(&Entry<'_>, u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, S::Error> {
        let mut held: Option<(LogicalBlock, S::Copy)> = None;
        // The entry visited last, as far as it matters: when its key says where it stands.
        let mut visited = match cursor.state {
            State::Hashed(key) if key != key.anywhere() => Some(key),
            _ => None,
        };
        for HashedEntry { key } in &buffer[ahead.next..ahead.held] {
            // Where an entry stands may change before the iteration goes on. So that is remembered only
            // when nothing else tells this entry from one that has been visited.
            let is_alike = visited.is_some_and(|other| other.anywhere() == key.anywhere());
            cursor.state = State::Hashed(if is_alike { *key } else { key.anywhere() });
            visited = Some(*key);
            let position = cursor.position();
            let flow = if key.tie == 0 {
                let entry = ahead.dots[usize::from(*key != Key::DOT)];
                visit(
                    &entry.ok_or_else(|| corrupt(DirectoryError::NoDots))?,
                    position,
                )
            } else {
                let number = LogicalBlock::new(key.block);
                let block = match held.take() {
                    Some((held, block)) if held == number => block,
                    _ => self.copy(number, ahead.used)?,
                };
                let end = self.format().entries_end();
                let entry = Entry::parse(self.format(), &block, key.offset as usize, end)
                    .map_err(corrupt)?;
                let flow = visit(&entry, position);
                held = Some((number, block));
                flow
            };
            if flow.is_break() {
                return Ok(flow);
            }
            ahead.next += 1;
        }
        Ok(ControlFlow::Continue(()))
    }
}
