// SPDX-License-Identifier: GPL-2.0

//! Which tests there are, which of them run, and what runs together in one guest.

use std::fmt;

/// The kernels that a guest can have, by the names that `tools/vm` knows.
pub const KERNELS: [&str; 2] = ["stock", "debug"];
/// The disks that a guest has.
pub const DISKS: [&str; 2] = ["nvme", "sata"];
/// How many tests share a guest: enough to make its boot cheap, few enough to keep two guests busy to the end.
const BATCH: usize = 8;

/// One thing that passes or fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Case {
    /// An executable in `tools/testing/checks`.
    Check(String),
    /// A guest test under one kernel and on one disk.
    Guest {
        /// Its name.
        name: String,
        /// One of [`KERNELS`].
        kernel: &'static str,
        /// One of [`DISKS`].
        disk: &'static str,
    },
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Check(name) => write!(f, "{name}"),
            Case::Guest { name, kernel, disk } => write!(f, "{name}/{kernel}/{disk}"),
        }
    }
}

impl Case {
    /// Whether somebody who asks for `pattern` means this one.
    fn matches(&self, pattern: &str) -> bool {
        let name = self.to_string();
        match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => match name.strip_prefix(pattern) {
                Some(rest) => rest.is_empty() || rest.starts_with('/'),
                None => false,
            },
        }
    }
}

/// The cases that `patterns` mean; all when there are none. A pattern that means nothing is an error.
pub fn choose(cases: &[Case], patterns: &[String]) -> anyhow::Result<Vec<Case>> {
    for pattern in patterns {
        anyhow::ensure!(
            cases.iter().any(|case| case.matches(pattern)),
            "there is no test {pattern}: --list tells which there are"
        );
    }
    let wanted =
        |case: &&Case| patterns.is_empty() || patterns.iter().any(|pattern| case.matches(pattern));
    Ok(cases.iter().filter(wanted).cloned().collect())
}

/// What one worker does in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One check.
    Check(String),
    /// Some tests in one guest.
    Guest(Batch),
}

/// Tests that share a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The guest's kernel.
    pub kernel: &'static str,
    /// The disk that the tests use.
    pub disk: &'static str,
    /// The tests' names.
    pub names: Vec<String>,
}

impl Batch {
    /// The batch's tests as cases.
    pub fn cases(&self) -> Vec<Case> {
        let case = |name: &String| Case::Guest {
            name: name.clone(),
            kernel: self.kernel,
            disk: self.disk,
        };
        self.names.iter().map(case).collect()
    }
}

/// Groups cases: the checks first, then guest by guest.
pub fn units(cases: &[Case]) -> Vec<Unit> {
    let mut units = Vec::new();
    for case in cases {
        if let Case::Check(name) = case {
            units.push(Unit::Check(name.clone()));
        }
    }
    for kernel in KERNELS {
        for disk in DISKS {
            let names: Vec<String> = cases
                .iter()
                .filter_map(|case| match case {
                    Case::Guest {
                        name,
                        kernel: its_kernel,
                        disk: its_disk,
                    } if *its_kernel == kernel && *its_disk == disk => Some(name.clone()),
                    _ => None,
                })
                .collect();
            for names in names.chunks(BATCH) {
                units.push(Unit::Guest(Batch {
                    kernel,
                    disk,
                    names: names.into(),
                }));
            }
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(name: &str, kernel: &'static str, disk: &'static str) -> Case {
        Case::Guest {
            name: name.into(),
            kernel,
            disk,
        }
    }

    fn all() -> Vec<Case> {
        vec![
            Case::Check("rustfmt".into()),
            guest("smoke", "stock", "nvme"),
            guest("smoke", "debug", "sata"),
            guest("smoke-read-only", "stock", "nvme"),
        ]
    }

    #[test]
    fn names_choose_whole_parts() {
        let chosen = |pattern: &str| choose(&all(), &[pattern.to_string()]).unwrap();
        assert_eq!(chosen("smoke").len(), 2);
        assert_eq!(chosen("smoke/debug"), [guest("smoke", "debug", "sata")]);
        assert_eq!(chosen("smoke*").len(), 3);
        assert_eq!(choose(&all(), &[]).unwrap().len(), 4);
    }

    #[test]
    fn a_name_that_means_nothing_is_refused() {
        assert!(choose(&all(), &["smok".into()]).is_err());
    }

    #[test]
    fn every_case_is_in_one_unit() {
        let cases: Vec<Case> = (0..20)
            .map(|number| guest(&format!("test{number}"), "stock", "sata"))
            .chain(all())
            .collect();
        let mut covered = Vec::new();
        for unit in units(&cases) {
            match unit {
                Unit::Check(name) => covered.push(Case::Check(name)),
                Unit::Guest(batch) => covered.extend(batch.cases()),
            }
        }
        assert_eq!(covered.len(), cases.len());
        assert!(cases.iter().all(|case| covered.contains(case)));
    }
}
