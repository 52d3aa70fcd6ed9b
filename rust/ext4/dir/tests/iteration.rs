// SPDX-License-Identifier: GPL-2.0

//! Iteration while entries come and go.

use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::format;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::collisions::legacy;
use super::collisions::ALIKE;
use super::store::Disk;
use super::store::Shape;
use crate::dir::Cursor;
use crate::dir::HashedEntry;
use crate::dir::Insertion;
use crate::dir::PositionForm;
use crate::dir::Scratch;

/// How an iteration goes on after an interruption.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Resume {
    /// With the same cursor, as an open directory does.
    Cursor,
    /// With the position alone, as after `seekdir`.
    Position,
}

/// Names of which many have equal hashes.
fn name(number: usize) -> Vec<u8> {
    match ALIKE.get(number) {
        Some(name) => name.as_bytes().to_vec(),
        None => format!("{number:z>width$}", width = number * 7 % 180).into_bytes(),
    }
}

/// A turn of an iteration: how many entries are visited, and what changes after that.
#[derive(Clone, Debug)]
struct Turn {
    visits: usize,
    changes: Vec<usize>,
}

fn turn() -> impl Strategy<Value = Turn> {
    (0..12_usize, prop::collection::vec(0..400_usize, 0..5))
        .prop_map(|(visits, changes)| Turn { visits, changes })
}

/// Iterates in turns. Names of even number are there all the while, the others come and go.
///
/// Gives how often each of the names was visited that were always there.
fn iterate(
    disk: &Disk,
    form: PositionForm,
    resume: Resume,
    scratch: usize,
    turns: &[Turn],
) -> BTreeMap<Vec<u8>, usize> {
    let mut scratch = Scratch::new(vec![HashedEntry::default(); scratch]);
    let mut cursor = Cursor::start(form);
    let mut seen: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut turns = turns.iter();
    loop {
        let turn = turns.next();
        let mut left = turn.map_or(usize::MAX, |turn| turn.visits);
        let mut stopped = false;
        let mut last = cursor.position();
        disk.open()
            .iterate(&mut cursor, &mut scratch, |entry, position| {
                assert!(position >= last);
                last = position;
                if left == 0 {
                    stopped = true;
                    return ControlFlow::Break(());
                }
                left -= 1;
                *seen.entry(entry.name.to_vec()).or_default() += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        if stopped {
            assert_eq!(cursor.position(), last);
        } else {
            let at_end = cursor;
            disk.open()
                .iterate(&mut cursor, &mut scratch, |_, _| {
                    panic!("an entry behind the end")
                })
                .unwrap();
            assert_eq!(cursor, at_end);
            if disk.open().has_hash_order() {
                assert_eq!(cursor.position(), form.end());
            }
            return seen;
        }
        for number in &turn.unwrap().changes {
            let name = name(number | 1);
            if disk.remove(&name).unwrap().is_none() {
                let Insertion::Done(_) = disk.insert(&name, 30).unwrap() else {
                    panic!("an insertion was refused");
                };
            }
        }
        if !turn.unwrap().changes.is_empty() {
            scratch.forget();
        }
        if resume == Resume::Position {
            cursor = disk.open().cursor_at(cursor.position(), form);
            scratch.forget();
        }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        any::<bool>(),
        prop::bool::weighted(0.8),
        any::<bool>(),
        prop::sample::select(vec![1024_u32, 2048]),
    )
        .prop_map(|(checksums, dir_index, legacy_hash, size)| {
            let shape = if legacy_hash {
                legacy(size)
            } else {
                Shape::new(size)
            };
            Shape {
                checksums,
                dir_index,
                ..shape
            }
        })
}

fn form() -> impl Strategy<Value = PositionForm> {
    prop::sample::select(vec![PositionForm::Narrow, PositionForm::Wide])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_stays_is_visited_once(
        shape in shape(),
        form in form(),
        scratch in prop::sample::select(vec![1_usize, 2, 7, 85, 400]),
        count in 1..200_usize,
        before in prop::collection::vec(0..400_usize, 0..60),
        turns in prop::collection::vec(turn(), 0..60),
    ) {
        let disk = Disk::new(shape.format());
        for number in 0..count {
            let _ = disk.insert(&name(number * 2), 20).unwrap();
        }
        for number in before {
            let _ = disk.insert(&name(number | 1), 20).unwrap();
        }
        let seen = iterate(&disk, form, Resume::Cursor, scratch, &turns);
        for number in 0..count {
            prop_assert_eq!(seen.get(&name(number * 2)), Some(&1));
        }
        prop_assert_eq!(seen.get(&b"."[..]), Some(&1));
        prop_assert_eq!(seen.get(&b".."[..]), Some(&1));
    }

    #[test]
    fn a_position_alone_loses_nothing(
        shape in shape(),
        form in form(),
        count in 1..200_usize,
        turns in prop::collection::vec(turn(), 0..60),
    ) {
        let disk = Disk::new(shape.format());
        for number in 0..count {
            let _ = disk.insert(&name(number * 2), 20).unwrap();
        }
        // Of names of equal hash more must be visited in a turn than there are, or none comes after them.
        let turns: Vec<Turn> = turns
            .into_iter()
            .map(|turn| Turn { visits: turn.visits + ALIKE.len() + 1, ..turn })
            .collect();
        let seen = iterate(&disk, form, Resume::Position, 400, &turns);
        let alike = |number: usize| number < ALIKE.len();
        for number in 0..count {
            let visits = seen.get(&name(number * 2)).copied().unwrap_or(0);
            prop_assert!(visits == 1 || (visits > 1 && alike(number * 2)), "{} {}", number, visits);
        }
    }
}

#[test]
fn a_linear_directory_that_gets_an_index_keeps_its_positions() {
    let disk = Disk::new(Shape::new(1024).format());
    for number in 0..20 {
        let _ = disk
            .insert(format!("early {number}").as_bytes(), 20)
            .unwrap();
    }
    assert!(!disk.indexed.get());
    let before = disk.list(PositionForm::Wide).unwrap();
    for number in 0..200 {
        let _ = disk
            .insert(format!("late {number}").as_bytes(), 20)
            .unwrap();
    }
    assert!(disk.indexed.get());
    let after = disk.list(PositionForm::Wide).unwrap();
    for entry in &before {
        assert!(after.contains(entry));
    }
}

#[test]
fn a_large_directory_is_read_in_small_pieces() {
    let disk = Disk::new(Shape::new(1024).format());
    let count = 5000;
    for number in 0..count {
        let _ = disk
            .insert(format!("name {number:0>60}").as_bytes(), 20)
            .unwrap();
    }
    disk.verify.set(false);
    let turns = vec![
        Turn {
            visits: 3,
            changes: Vec::new()
        };
        count
    ];
    disk.reads.set(0);
    let seen = iterate(&disk, PositionForm::Wide, Resume::Cursor, 85, &turns);
    // Each turn reads the leaf that it is in, or two. All else is read once for each leaf, not for each turn.
    let most = 2 * (count / 3 + 1) + 3 * disk.open().blocks() as usize;
    assert!(disk.reads.get() < most, "{} reads", disk.reads.get());
    assert_eq!(seen.len(), count + 2);
    assert!(seen.values().all(|&visits| visits == 1));
}
