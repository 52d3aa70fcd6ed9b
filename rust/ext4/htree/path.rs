// SPDX-License-Identifier: GPL-2.0

//! The way from the root of an index to a leaf, and on to the next leaf.

use super::node::Index;
use super::node::RootInfo;
use crate::dir::BlockKind;
use crate::dir::DirReader;
use crate::dir::Directory;
use crate::dir::DirectoryError;
use crate::error::Corrupt;
use crate::hash::NameHasher;
use crate::types::LogicalBlock;

/// How many levels any index can have.
const MAX_LEVELS: usize = 3;

/// The root of an index, held in memory.
pub(crate) struct Root<B> {
    pub(crate) block: B,
    pub(crate) hasher: NameHasher,
    levels: usize,
}

/// One level of a path.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    /// The block of the root or node.
    pub(crate) block: LogicalBlock,
    /// The entry in it that the path takes.
    pub(crate) at: usize,
    /// The smallest hash that lies behind that entry.
    start: u32,
    /// The smallest hash that lies behind what follows; `None` when nothing follows.
    next: Option<u32>,
}

/// A path from the root to a leaf.
///
/// # Invariants
///
/// `levels` is 1 to [`MAX_LEVELS`].
#[derive(Clone, Copy)]
pub(crate) struct Path {
    frames: [Frame; MAX_LEVELS],
    levels: usize,
    leaf: LogicalBlock,
}

impl Path {
    /// The levels from the root on. Never empty.
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames[..self.levels]
    }

    /// The node that the leaf hangs on.
    pub(crate) fn lowest(&self) -> &Frame {
        &self.frames[self.levels - 1]
    }

    /// The leaf.
    #[inline]
    pub(crate) fn leaf(&self) -> LogicalBlock {
        self.leaf
    }

    /// The hash that the index gives the leaf: odd when the leaf continues the one before.
    #[inline]
    pub(crate) fn start(&self) -> u32 {
        self.lowest().start
    }

    /// The hash that the index gives the next leaf, or `None` when this is the last one.
    #[inline]
    pub(crate) fn next(&self) -> Option<u32> {
        self.lowest().next
    }

    /// Whether the next leaf continues this one.
    #[inline]
    pub(crate) fn is_continued(&self) -> bool {
        self.next().is_some_and(|hash| hash & 1 == 1)
    }

    /// What the block of the frame at `level` holds.
    pub(crate) fn kind(level: usize) -> BlockKind {
        match level {
            0 => BlockKind::Root,
            _ => BlockKind::Node,
        }
    }

    /// Takes entry `at` of `index`, which is the node on `level`.
    fn step(
        &mut self,
        level: usize,
        index: &Index<'_>,
        at: usize,
        blocks: u32,
    ) -> Result<(), DirectoryError> {
        let (start, next) = match level.checked_sub(1) {
            Some(above) => (self.frames[above].start, self.frames[above].next),
            None => (0, None),
        };
        let frame = &mut self.frames[level];
        frame.at = at;
        frame.start = index.hash(at).unwrap_or(start);
        frame.next = index.hash(at + 1).or(next);

        let child = index.block(at).ok_or(DirectoryError::IndexLoop)?;
        if child.get() >= blocks {
            return Err(DirectoryError::IndexBlock { block: child.get() });
        }
        if self.frames[..=level]
            .iter()
            .any(|frame| frame.block == child)
        {
            return Err(DirectoryError::IndexLoop);
        }
        if level + 1 == self.levels {
            self.leaf = child;
        } else {
            self.frames[level + 1].block = child;
        }
        Ok(())
    }
}

impl<S: DirReader> Directory<S> {
    /// Reads the root of the index.
    pub(crate) fn root(&self) -> Result<Root<S::Block>, S::Error> {
        let block = self.read(LogicalBlock::ZERO, BlockKind::Root)?;
        let info = RootInfo::parse(self.format(), &block).map_err(Corrupt::from)?;
        Ok(Root {
            block,
            hasher: self.format().hasher.with_version(info.version),
            levels: info.levels,
        })
    }

    /// Finds the leaf for `hash`: the first one of a chain.
    pub(crate) fn probe(&self, root: &Root<S::Block>, hash: u32) -> Result<Path, S::Error> {
        let frame = Frame {
            block: LogicalBlock::ZERO,
            at: 0,
            start: 0,
            next: None,
        };
        // INVARIANT: `RootInfo::parse` lets no other number of levels pass.
        let mut path = Path {
            frames: [frame; MAX_LEVELS],
            levels: root.levels,
            leaf: LogicalBlock::ZERO,
        };
        let blocks = self.blocks();
        let index = self.parse(BlockKind::Root, &root.block)?;
        path.step(0, &index, index.position(hash), blocks)
            .map_err(Corrupt::from)?;
        for level in 1..root.levels {
            let block = self.read(path.frames[level].block, BlockKind::Node)?;
            let index = self.parse(BlockKind::Node, &block)?;
            path.step(level, &index, index.position(hash), blocks)
                .map_err(Corrupt::from)?;
        }
        Ok(path)
    }

    /// Goes on to the next leaf; `false` when there is none, and the path is as it was.
    pub(crate) fn advance(&self, path: &mut Path) -> Result<bool, S::Error> {
        if path.next().is_none() {
            return Ok(false);
        }
        let blocks = self.blocks();
        for turn in (0..path.levels).rev() {
            let frame = path.frames[turn];
            let block = self.read(frame.block, Path::kind(turn))?;
            let index = self.parse(Path::kind(turn), &block)?;
            if frame.at + 1 >= index.count() {
                continue;
            }
            path.step(turn, &index, frame.at + 1, blocks)
                .map_err(Corrupt::from)?;
            for level in turn + 1..path.levels {
                let block = self.read(path.frames[level].block, BlockKind::Node)?;
                let index = self.parse(BlockKind::Node, &block)?;
                path.step(level, &index, 0, blocks).map_err(Corrupt::from)?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// The entries of a root or node.
    pub(crate) fn parse<'a>(
        &self,
        kind: BlockKind,
        block: &'a S::Block,
    ) -> Result<Index<'a>, S::Error> {
        let index = Index::parse(self.format(), kind, block).map_err(Corrupt::from)?;
        Ok(index)
    }
}
