// SPDX-License-Identifier: GPL-2.0

//! Tests of extent trees.

mod cases;
mod corrupt;
mod images;
mod random;
mod store;

use super::*;

/// Shorthand for an extent of a test.
fn extent(logical: u32, len: u16, physical: u64, state: State) -> Extent {
    Extent::new(
        LogicalBlock::new(logical),
        len,
        PhysicalBlock::new(physical),
        state,
    )
    .unwrap()
}

/// Shorthand for a range of a test.
fn range(start: u32, end: u32) -> core::ops::Range<LogicalBlock> {
    LogicalBlock::new(start)..LogicalBlock::new(end)
}
