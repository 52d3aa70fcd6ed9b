// SPDX-License-Identifier: GPL-2.0

//! The contents of a file: pages by their place in the file.
//!
//! A page that is not there is a hole and reads as zeroes. What lies behind the end of the file in its
//! last page is zero, so that the file can grow without another look at it.

use core::ops::Range;

use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::rbtree::RBTree;

/// The pages of a file.
pub(crate) struct Pages {
    /// Each value has `PAGE_SIZE` bytes.
    pages: RBTree<u64, KVec<u8>>,
    count: u64,
}

impl Pages {
    /// No pages.
    pub(crate) fn new() -> Self {
        Self {
            pages: RBTree::new(),
            count: 0,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many are missing in a range of places.
    pub(crate) fn missing(&self, range: Range<u64>) -> u64 {
        range.filter(|index| self.get(*index).is_none()).count() as u64
    }

    /// The page of that place.
    pub(crate) fn get(&self, index: u64) -> Option<&[u8]> {
        self.pages.get(&index).map(|page| &page[..])
    }

    /// The page of that place, to be written.
    pub(crate) fn get_mut(&mut self, index: u64) -> Option<&mut [u8]> {
        self.pages.get_mut(&index).map(|page| &mut page[..])
    }

    /// Adds a page of zeroes where there is none.
    pub(crate) fn add(&mut self, index: u64) -> Result {
        let page = KVec::zeroed(PAGE_SIZE, GFP_KERNEL)?;
        self.pages.try_create_and_insert(index, page, GFP_KERNEL)?;
        self.count += 1;
        Ok(())
    }

    /// Cuts off what lies behind byte `size`. Returns how many pages are gone.
    pub(crate) fn truncate(&mut self, size: u64) -> u64 {
        let first = size.div_ceil(PAGE_SIZE as u64);
        let before = self.count;
        let mut cursor = self.pages.cursor_lower_bound_mut(&first);
        while let Some(at) = cursor {
            // After the last page the cursor steps back to what stays.
            if *at.current().0 < first {
                break;
            }
            let (next, _page) = at.remove_current();
            self.count -= 1;
            cursor = next;
        }
        let rest = (size % PAGE_SIZE as u64) as usize;
        if rest != 0 {
            if let Some(page) = self.get_mut(size / PAGE_SIZE as u64) {
                page[rest..].fill(0);
            }
        }
        before - self.count
    }
}
