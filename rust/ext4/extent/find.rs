// SPDX-License-Identifier: GPL-2.0

//! Looking blocks up.

use core::ops::ControlFlow;
use core::ops::Range;

use super::error::ExtentError;
use super::node::Entry;
use super::node::Expected;
use super::node::Node;
use super::store::bad;
use super::store::NodeReader;
use super::store::NodeRef;
use super::Extent;
use super::MAX_DEPTH;
use super::ROOT_SIZE;
use crate::LogicalBlock;
use crate::PhysicalBlock;

/// What a block of a file is mapped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// It is in this extent.
    Extent(Extent),
    /// It is in a hole.
    Hole {
        /// Where the hole ends: at the next extent, or at [`LogicalBlock::COUNT`].
        ///
        /// In a tree with an empty leaf (other drivers might leave one) it may end earlier.
        end: LogicalBlock,
        /// The extent before the hole, when it is in the same leaf.
        ///
        /// A good place for the blocks of the hole is behind it.
        before: Option<Extent>,
    },
}

impl Mapping {
    /// Where on the device the block `at`, which is the one that was looked up, is or would best be:
    /// where it continues the extent before it.
    pub fn place(&self, at: LogicalBlock) -> Option<PhysicalBlock> {
        let extent = match self {
            Self::Extent(extent) => extent,
            Self::Hole { before, .. } => before.as_ref()?,
        };
        let distance = at.distance_from(extent.logical())?;
        extent.physical().checked_add(distance.into())
    }
}

/// Finds what a block is mapped to.
///
/// It reads one node of each level. `at` must be less than [`LogicalBlock::COUNT`]; the number itself is
/// in no extent, and is answered with a hole that ends there.
pub fn find<R: NodeReader>(
    root: &[u8; ROOT_SIZE],
    reader: &R,
    at: LogicalBlock,
) -> Result<Mapping, R::Error> {
    let (step, leaf) = descend(root, reader, at.get(), |_| ())?;
    step.mapping(&leaf, at.get()).map_err(bad)
}

/// Calls `each` for the extents with blocks in `range`, in order, until it breaks.
///
/// The extents are given whole. A leaf is held while `each` runs on its extents, so that it must not
/// change the tree. Returns what `each` broke with.
pub fn walk<R: NodeReader, T>(
    root: &[u8; ROOT_SIZE],
    reader: &R,
    range: Range<LogicalBlock>,
    mut each: impl FnMut(Extent) -> ControlFlow<T>,
) -> Result<Option<T>, R::Error> {
    let mut at = range.start.get();
    while at < range.end.get() {
        let (step, bytes) = descend(root, reader, at, |_| ())?;
        let leaf = Node::new(&bytes, 0).map_err(bad)?;
        for entry in leaf.extents().iter().skip(step.index.saturating_sub(1)) {
            let extent = entry.extent().map_err(bad)?;
            if extent.logical() >= range.end {
                return Ok(None);
            }
            // Not so for the first one if a hole is behind it.
            if extent.end().get() > at {
                if let ControlFlow::Break(value) = each(extent) {
                    return Ok(Some(value));
                }
            }
        }
        // Descending has checked that this makes progress.
        at = step.end;
    }
    Ok(None)
}

/// Finds the first extent with a block in `range`.
pub fn next_extent<R: NodeReader>(
    root: &[u8; ROOT_SIZE],
    reader: &R,
    range: Range<LogicalBlock>,
) -> Result<Option<Extent>, R::Error> {
    walk(root, reader, range, ControlFlow::Break)
}

/// One node on the way from the root to a leaf.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// The block of the node. It says nothing for the root.
    pub(super) block: PhysicalBlock,
    /// In an index node, the entry of the next node on the way. In the leaf, how many entries begin at
    /// the block that was looked for or before it.
    pub(super) index: usize,
    /// The number of entries in use.
    pub(super) entries: usize,
    /// The number of entries for which there is room.
    pub(super) max: usize,
    /// The key of the node, according to the one above.
    pub(super) first: u32,
    /// Where the part of the file ends that this node is for.
    pub(super) end: u32,
}

impl Step {
    /// What is known of a root before it has been looked at.
    pub(super) const ROOT: Self = Self {
        block: PhysicalBlock::ZERO,
        index: 0,
        entries: 0,
        max: 0,
        first: 0,
        end: LogicalBlock::COUNT,
    };
}

/// The way from the root to the leaf that is responsible for a block.
pub(super) struct Path {
    steps: [Step; MAX_DEPTH as usize + 1],
    depth: usize,
}

/// Goes from the root to the leaf that maps `at` or would map it, and holds that leaf. `each` is called with
/// every step of the way; the last one is also returned.
///
/// What makes the tree sane on this way is checked, even if the nodes have been verified before: it was
/// perhaps for another place in a tree. So they have the right depths, hence are different blocks, and the
/// right first keys, and `at` is less than the `end` of each (unless it is [`LogicalBlock::COUNT`]).
fn descend<'r, R: NodeReader>(
    root: &'r [u8; ROOT_SIZE],
    reader: &R,
    at: u32,
    mut each: impl FnMut(&Step),
) -> Result<(Step, NodeRef<'r, R::Block>), R::Error> {
    let depth = Node::root(root).map_err(bad)?.header.depth();
    let mut step = Step::ROOT;
    let mut bytes = NodeRef::Root(root);
    let mut below = depth;
    loop {
        let node = Node::new(&bytes, below).map_err(bad)?;
        match node.raw().first().map(Entry::key) {
            Some(found) if below < depth && found != step.first => {
                let expected = step.first;
                return Err(bad(ExtentError::FirstKey { found, expected }));
            }
            _ => {}
        }
        step.entries = node.header.entries();
        step.max = node.header.max();
        step.index = node.rank(at);
        if below == 0 {
            each(&step);
            return Ok((step, bytes));
        }
        below -= 1;
        step.index = step.index.saturating_sub(1);
        let next = step.child(&node, step.index).map_err(bad)?;
        if at >= next.end && at != LogicalBlock::COUNT {
            return Err(bad(ExtentError::Order { logical: next.end }));
        }
        let expected = next.expected(below);
        each(&step);
        step = next;
        bytes = NodeRef::Block(reader.read(step.block, &expected)?);
    }
}

impl Path {
    /// The way to the leaf that maps `at` or would map it, and that leaf, held.
    pub(super) fn to<'r, R: NodeReader>(
        root: &'r [u8; ROOT_SIZE],
        reader: &R,
        at: u32,
    ) -> Result<(Self, NodeRef<'r, R::Block>), R::Error> {
        let mut steps = [Step::ROOT; MAX_DEPTH as usize + 1];
        let mut levels = steps.iter_mut();
        // A node that says that it is deeper than a tree can be is refused before its step is taken.
        let (_, leaf) = descend(root, reader, at, |step| {
            if let Some(level) = levels.next() {
                *level = *step;
            }
        })?;
        let depth = MAX_DEPTH as usize - levels.len();
        Ok((Self { steps, depth }, leaf))
    }

    /// How many levels are below the root.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The node of a level, the root being level 0.
    pub(super) fn step(&self, level: usize) -> &Step {
        &self.steps[level]
    }

    /// The last node.
    pub(super) fn leaf(&self) -> &Step {
        &self.steps[self.depth]
    }

    /// Whether a block is that of one of the nodes.
    pub(super) fn has(&self, block: PhysicalBlock) -> bool {
        self.steps[1..=self.depth]
            .iter()
            .any(|step| step.block == block)
    }
}

impl Step {
    /// What `at` is mapped to, this being the last step of the way there.
    fn mapping(&self, leaf: &[u8], at: u32) -> Result<Mapping, ExtentError> {
        let leaf = Node::new(leaf, 0)?;
        let before = match self.index.checked_sub(1) {
            Some(index) => leaf.extent(index)?,
            None => None,
        };
        if let Some(extent) = before {
            if (extent.logical().get()..extent.end().get()).contains(&at) {
                return Ok(Mapping::Extent(extent));
            }
        }
        let end = match leaf.raw().get(self.index).map(Entry::key) {
            Some(next) if next <= at => return Err(ExtentError::Order { logical: next }),
            Some(next) => next.min(self.end),
            None => self.end,
        };
        Ok(Mapping::Hole {
            end: LogicalBlock::new(end),
            before,
        })
    }

    /// The step to the node that entry `index` of this node names.
    pub(super) fn child(&self, node: &Node<'_>, index: usize) -> Result<Self, ExtentError> {
        let children = node.children();
        let entry = children.get(index).ok_or(ExtentError::Entries {
            found: 0,
            max: node.header.max() as u16,
        })?;
        let end = match children.get(index + 1) {
            Some(next) => next.key().min(self.end),
            None => self.end,
        };
        if entry.key() >= end {
            return Err(ExtentError::Order {
                logical: entry.key(),
            });
        }
        Ok(Self {
            block: entry.child(),
            first: entry.key(),
            end,
            ..Self::ROOT
        })
    }

    /// What the node must be, `below` levels above the leaves.
    pub(super) fn expected(&self, below: u16) -> Expected {
        Expected {
            depth: below,
            first: self.first,
            end: self.end,
        }
    }
}
