// SPDX-License-Identifier: GPL-2.0

//! The shortest way through everything: what fails here fails everywhere.

use crate::bench::Bench;
use anyhow::Context;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

/// The names in a folder.
pub fn names(dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry.with_context(|| format!("reading {}", dir.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        anyhow::ensure!(
            names.insert(name.clone()),
            "{name} comes twice in {}",
            dir.display()
        );
    }
    Ok(names)
}

/// One file each way.
pub fn smoke(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&[])?;
    bench.mount()?;
    let found = names(&bench.dir)?;
    anyhow::ensure!(
        found == BTreeSet::from(["lost+found".to_string()]),
        "a fresh disk holds {found:?}"
    );

    let contents = bench.rng().bytes(300_000);
    let mut file = fs::File::create(bench.path("file")).context("creating a file")?;
    file.write_all(&contents).context("writing a file")?;
    drop(file);
    check(bench, &contents).context("from the page cache")?;
    rustix::fs::sync();
    bench.drop_caches()?;
    check(bench, &contents).context("after sync and dropped caches")?;
    bench.cycle_checked(&bench.fstype, "")?;
    check(bench, &contents).context("after a mount")?;

    bench.cycle_checked("ext4", "ro")?;
    check(bench, &contents).context("read by ext4")
}

fn check(bench: &Bench, contents: &[u8]) -> anyhow::Result<()> {
    let read = fs::read(bench.path("file")).context("reading a file")?;
    anyhow::ensure!(
        read.len() == contents.len(),
        "the file has {} bytes",
        read.len()
    );
    anyhow::ensure!(read == contents, "the file's contents differ");
    let found = names(&bench.dir)?;
    anyhow::ensure!(found.contains("file"), "the file is missing in {found:?}");
    Ok(())
}
