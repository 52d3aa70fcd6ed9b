// SPDX-License-Identifier: GPL-2.0

//! All tests, in the order in which they run: the cheapest first.

mod smoke;

use crate::bench::Bench;
use std::time::Duration;

/// A test.
pub struct Test {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// How long it may take, under emulation on a busy machine.
    pub limit: Duration,
    /// Whether it runs only when named.
    pub on_demand: bool,
    /// The test itself, which leaves the rest to [`Bench::finish`].
    pub run: fn(&Bench) -> anyhow::Result<()>,
}

const fn test(
    name: &'static str,
    seconds: u64,
    about: &'static str,
    run: fn(&Bench) -> anyhow::Result<()>,
) -> Test {
    Test {
        name,
        about,
        limit: Duration::from_secs(seconds),
        on_demand: false,
        run,
    }
}

/// All tests.
pub fn all() -> &'static [Test] {
    const ALL: &[Test] = &[test(
        "smoke",
        120,
        "make, mount, write, sync, unmount, check, read by ext4",
        smoke::smoke,
    )];
    ALL
}

/// The test of this name.
pub fn find(name: &str) -> anyhow::Result<&'static Test> {
    all().iter().find(|test| test.name == name).ok_or_else(|| {
        anyhow::anyhow!("there is no test {name}: `ferrofs-test list` tells which there are")
    })
}

/// The tests of these names; those that do not wait to be named when there are none.
pub fn choose(names: &[String]) -> anyhow::Result<Vec<&'static Test>> {
    if names.is_empty() {
        return Ok(all().iter().filter(|test| !test.on_demand).collect());
    }
    names.iter().map(|name| find(name)).collect()
}
