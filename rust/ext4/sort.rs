// SPDX-License-Identifier: GPL-2.0

//! Sorting in place, with little stack.

/// Sorts `slice` by a key, smallest first. Elements of equal keys come in any order.
///
/// This is a heap sort. Unlike the sorts of the core library it needs no room on the stack, which is small in
/// the kernel, and never ends in a function of which objtool does not know that it does not return (theirs
/// do, should an order contradict itself). What is to find its place sinks to the bottom of the heap first, at
/// one comparison for each level, and rises from there: it came from the bottom, and mostly belongs there.
pub(crate) fn sort_by_key<T: Copy, K: Ord>(slice: &mut [T], key: impl Fn(&T) -> K) {
    for root in (0..slice.len() / 2).rev() {
        let element = slice[root];
        sink(slice, root, element, &key);
    }
    for last in (1..slice.len()).rev() {
        let element = slice[last];
        slice[last] = slice[0];
        sink(&mut slice[..last], 0, element, &key);
    }
}

/// Makes a heap, largest first, of `heap[root..]`, of which only `heap[root]`, for which `element` is
/// to come, may be out of place.
fn sink<T: Copy, K: Ord>(heap: &mut [T], root: usize, element: T, key: &impl Fn(&T) -> K) {
    let mut hole = root;
    while let Some(left) = heap.get(2 * hole + 1) {
        let right_is_larger = heap
            .get(2 * hole + 2)
            .is_some_and(|right| key(right) > key(left));
        let child = 2 * hole + 1 + usize::from(right_is_larger);
        heap[hole] = heap[child];
        hole = child;
    }
    let element_key = key(&element);
    while hole > root {
        let parent = (hole - 1) / 2;
        if key(&heap[parent]) >= element_key {
            break;
        }
        heap[hole] = heap[parent];
        hole = parent;
    }
    heap[hole] = element;
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
