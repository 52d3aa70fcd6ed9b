// SPDX-License-Identifier: GPL-2.0

//! What a journal promises of each name.

use anyhow::Context;
use std::collections::BTreeMap;

/// What may and must be found of one name.
#[derive(Debug, Default)]
pub struct Promise {
    /// The file must be there: it was acknowledged, and nothing was done to its name since.
    pub present: bool,
    /// The file must not be there.
    pub absent: bool,
    /// Ids that the file may have, the oldest first; those before the last acknowledged one are dropped.
    pub ids: Vec<u64>,
    /// The least and the greatest length.
    pub length: (u64, u64),
    /// For each record, the least generation; and the greatest one of the file.
    pub least: BTreeMap<u64, u64>,
    pending: Vec<(u64, u64, u64)>,
    /// See [`Promise::least`].
    pub greatest: u64,
    /// The least and the greatest generation of its attribute.
    pub attribute: (u64, u64),
    /// For a crowded directory: the numbers that may be the first and the end of its names.
    pub crowd: Option<Crowd>,
}

/// A directory that holds the names of consecutive numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crowd {
    /// The first number: what was acknowledged, and what was begun.
    pub first: (u64, u64),
    /// The number behind the last one, likewise.
    pub end: (u64, u64),
}

/// What a thread has promised.
#[derive(Debug, Default)]
pub struct Promises {
    /// By name.
    pub names: BTreeMap<String, Promise>,
    /// Whether the thread's folder must be there.
    pub folder: bool,
    /// How many acknowledgements there are.
    pub acknowledged: usize,
}

impl Promises {
    /// Reads a journal.
    pub fn read(lines: &[String]) -> anyhow::Result<Promises> {
        let mut promises = Promises::default();
        for line in lines {
            promises
                .take(line)
                .with_context(|| format!("the journal says {line:?}"))?;
        }
        Ok(promises)
    }

    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let acknowledged = words.first() == Some(&"A");
        self.acknowledged += usize::from(acknowledged);
        let number = |index: usize| -> anyhow::Result<u64> {
            words
                .get(index)
                .and_then(|word| word.parse().ok())
                .with_context(|| format!("there is no number {index}"))
        };
        let (Some(kind), Some(name)) = (words.get(1), words.get(2)) else {
            anyhow::ensure!(words.get(1) == Some(&"folder"), "it is too short");
            self.folder |= acknowledged;
            return Ok(());
        };
        let promise = self.names.entry((*name).into()).or_default();
        match (*kind, acknowledged) {
            ("grow" | "cut", false) => {
                if promise.ids.last() != Some(&number(3)?) {
                    *promise = Promise::fresh(promise, number(3)?);
                }
                let length = number(4)?;
                promise.length.0 = promise.length.0.min(length);
                promise.length.1 = promise.length.1.max(length);
            }
            ("cut", true) => {
                promise.settle(number(3)?);
                promise.length = (number(4)?, number(4)?);
            }
            ("whole", false) => {
                *promise = Promise::fresh(promise, number(3)?);
                promise.length = (0, number(4)?);
            }
            ("grow" | "whole", true) => {
                promise.settle(number(3)?);
                promise.length.0 = number(4)?;
            }
            ("over", false) => {
                promise.pending.push((number(4)?, number(5)?, number(6)?));
                promise.greatest = number(6)?;
            }
            ("over", true) => {
                for (first, count, generation) in promise.pending.drain(..) {
                    for place in first..first + count {
                        promise.least.insert(place, generation);
                    }
                }
            }
            ("attribute", false) => promise.attribute.1 = number(4)?,
            ("attribute", true) => promise.attribute.0 = number(4)?,
            ("replace", false) => {
                promise.ids.push(number(3)?);
                promise.length = (0, u64::MAX);
            }
            ("replace", true) => promise.settle(number(3)?),
            ("gone", false) => promise.present = false,
            ("gone", true) => {
                *promise = Promise {
                    absent: true,
                    ..Promise::default()
                }
            }
            ("crowd", _) => {
                let crowd = promise.crowd.get_or_insert_default();
                let (first, end) = (number(3)?, number(4)?);
                (crowd.first.1, crowd.end.1) = (first, end);
                if acknowledged {
                    (crowd.first.0, crowd.end.0) = (first, end);
                }
            }
            _ => anyhow::bail!("it is of no known kind"),
        }
        Ok(())
    }
}

impl Promise {
    /// The name is about to belong to the file `id`, and may still belong to an older one.
    fn fresh(old: &Promise, id: u64) -> Promise {
        let mut ids = old.ids.clone();
        ids.push(id);
        Promise {
            ids,
            ..Promise::default()
        }
    }

    /// The name belongs to the file `id` for good.
    fn settle(&mut self, id: u64) {
        self.ids.retain(|other| *other >= id);
        self.present = true;
        self.absent = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promises(text: &str) -> BTreeMap<String, Promise> {
        let lines: Vec<String> = text.lines().map(String::from).collect();
        Promises::read(&lines).unwrap().names
    }

    #[test]
    fn a_promise_ends_with_the_next_change() {
        let all = promises(
            "A folder\nI whole a 1 64\nA whole a 1 64\nI gone a\nI whole b 2 64\nA whole b 2 64",
        );
        assert!(!all["a"].present && all["b"].present);
    }

    #[test]
    fn a_length_that_changes_is_between_the_acknowledged_and_the_coming_ones() {
        let all =
            promises("I cut a 1 640\nA cut a 1 640\nI cut a 1 64\nI cut a 1 320\nI cut a 1 960");
        assert_eq!(all["a"].length, (64, 960));
    }

    #[test]
    fn a_crowd_loses_its_first_names_and_gains_at_its_end() {
        let all = promises("I crowd a 0 40\nA crowd a 0 40\nI crowd a 10 60");
        let crowd = all["a"].crowd.unwrap();
        assert_eq!((crowd.first, crowd.end), ((0, 10), (40, 60)));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["A", "I what a", "I grow a", "A whole a 1 x"] {
            assert!(Promises::read(&[line.into()]).is_err(), "{line:?}");
        }
    }
}
