// SPDX-License-Identifier: GPL-2.0

//! Random work on a tree of files, compared byte for byte with a model: live, after a mount, and by the other driver.

use crate::bench::Bench;
use crate::bench::REFERENCE;
use crate::model::Model;
use crate::rng::Rng;
use anyhow::Context;

/// One disk, made with default features.
pub fn tree(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&[])?;
    work_and_compare(bench, "", 1500, true)
}

/// Random work on the disk as it was made, and all ways to read it back.
pub fn work_and_compare(
    bench: &Bench,
    options: &str,
    count: u64,
    full_times: bool,
) -> anyhow::Result<()> {
    let mut model = Model::new(bench.rng());
    bench.mount_with(options)?;
    let half = bench.scaled(count) / 2;
    model.work(&bench.dir, half)?;
    model
        .verify(&bench.dir, full_times)
        .context("from the caches")?;
    bench.drop_caches()?;
    model
        .verify(&bench.dir, full_times)
        .context("after dropped caches")?;
    bench.cycle_checked(&bench.fstype, options)?;
    model
        .verify(&bench.dir, full_times)
        .context("after a mount")?;
    model.work(&bench.dir, half)?;
    bench.cycle_checked(REFERENCE, "ro")?;
    model
        .verify(&bench.dir, full_times)
        .context("read by ext4")?;
    bench.umount()
}

/// The two drivers take turns as writers of one disk.
pub fn alternate(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&[])?;
    let mut model = Model::new(bench.rng());
    for round in 0..10 {
        let (writer, reader) = if round % 2 == 0 {
            (bench.fstype.as_str(), REFERENCE)
        } else {
            (REFERENCE, bench.fstype.as_str())
        };
        bench.mount_as(writer, "")?;
        model
            .work(&bench.dir, bench.scaled(300))
            .with_context(|| format!("round {round}, {writer} writes"))?;
        bench.cycle_checked(reader, "")?;
        model
            .verify(&bench.dir, true)
            .with_context(|| format!("round {round}, written by {writer} and read by {reader}"))?;
        bench.umount()?;
        bench.fsck()?;
    }
    eprintln!("10 rounds, {} names at the end", model.len());
    Ok(())
}

/// Several trees change at the same time.
pub fn parallel(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&[])?;
    bench.mount()?;
    let mut rng = bench.rng();
    let seeds: Vec<u64> = (0..4).map(|_| rng.next()).collect();
    let count = bench.scaled(400);
    let models: Vec<(std::path::PathBuf, Model)> = std::thread::scope(|scope| {
        let threads: Vec<_> = seeds
            .iter()
            .enumerate()
            .map(|(number, seed)| {
                let root = bench.path(format!("tree{number}"));
                scope.spawn(move || -> anyhow::Result<_> {
                    std::fs::create_dir(&root)?;
                    let mut model = Model::new(Rng::new(*seed));
                    model.work(&root, count)?;
                    Ok((root, model))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))?
            })
            .collect::<anyhow::Result<_>>()
    })?;
    for fstype in [bench.fstype.as_str(), REFERENCE] {
        bench.cycle_checked(fstype, "ro")?;
        for (root, model) in &models {
            model
                .verify(root, true)
                .with_context(|| format!("{} read by {fstype}", root.display()))?;
        }
    }
    Ok(())
}
