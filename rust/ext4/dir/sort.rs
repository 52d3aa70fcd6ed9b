// SPDX-License-Identifier: GPL-2.0

//! Sorting in place, with little stack.

/// Sorts `slice` by a key, smallest first. Elements of equal keys come in any order.
///
/// This is a heap sort: unlike the one of the core library it needs no room on the stack, which is small in
/// the kernel, and as many comparisons for the worst order as for the best.
pub(crate) fn sort_by_key<T, K: Ord>(slice: &mut [T], key: impl Fn(&T) -> K) {
    for root in (0..slice.len() / 2).rev() {
        sift_down(slice, root, &key);
    }
    for last in (1..slice.len()).rev() {
        slice.swap(0, last);
        sift_down(&mut slice[..last], 0, &key);
    }
}

/// Makes a heap, largest first, of `heap[root..]`, of which only `heap[root]` is out of place.
fn sift_down<T, K: Ord>(heap: &mut [T], mut root: usize, key: &impl Fn(&T) -> K) {
    loop {
        let left = 2 * root + 1;
        let Some(left_child) = heap.get(left) else {
            return;
        };
        let right_is_larger = heap
            .get(left + 1)
            .is_some_and(|right_child| key(right_child) > key(left_child));
        let child = left + usize::from(right_is_larger);
        if key(&heap[child]) <= key(&heap[root]) {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_sorts(mut values: Vec<u16>) {
            let mut expected = values.clone();
            expected.sort();
            sort_by_key(&mut values, |value| *value);
            prop_assert_eq!(values, expected);
        }
    }
}
