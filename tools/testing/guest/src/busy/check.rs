// SPDX-License-Identifier: GPL-2.0

//! Compares what is found after a crash with what was promised before it.

use super::promise::Crowd;
use super::promise::Promise;
use super::promise::Promises;
use super::record;
use super::record::RECORD;
use super::thread_dir;
use super::ATTRIBUTE;
use super::TEMPORARY;
use anyhow::Context;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// What a check found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Findings {
    /// Acknowledgements that the journals hold.
    pub acknowledged: usize,
    /// Files that were read.
    pub files: usize,
}

/// Compares what is in `dir` with the journals of the threads. With `zeros`, what was not acknowledged may read as zeros:
/// the kernel's own ext4 moves the size of a file before the data below it is written.
pub fn check(dir: &Path, journals: &[Vec<String>], zeros: bool) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    for (number, lines) in (0..).zip(journals) {
        let promises = Promises::read(lines)?;
        findings.acknowledged += promises.acknowledged;
        let own = thread_dir(dir, number);
        if !own.is_dir() {
            anyhow::ensure!(!promises.folder, "the folder {} is gone", own.display());
            continue;
        }
        for (name, promise) in &promises.names {
            let path = own.join(name);
            let result = match &promise.crowd {
                Some(crowd) => check_crowd(&path, promise, crowd),
                None => check_file(&path, promise, zeros, &mut findings),
            };
            result
                .with_context(|| format!("{}, of which was noted: {promise:?}", path.display()))?;
        }
        for entry in fs::read_dir(&own).with_context(|| format!("reading {}", own.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let known = name.strip_prefix(TEMPORARY).unwrap_or(&name);
            anyhow::ensure!(
                promises.names.contains_key(known),
                "nobody made {}/{name}",
                own.display()
            );
        }
    }
    Ok(findings)
}

fn check_crowd(path: &Path, promise: &Promise, crowd: &Crowd) -> anyhow::Result<()> {
    let mut found = BTreeSet::new();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound && crowd.end.0 == 0 => return Ok(()),
        Err(error) => return Err(error).context("reading it"),
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number =
            record::crowd_number(&name).with_context(|| format!("nobody made the name {name}"))?;
        anyhow::ensure!(found.insert(number), "the name {name} is there twice");
        anyhow::ensure!(
            (crowd.first.0..crowd.end.1).contains(&number),
            "the name {name} is there"
        );
    }
    for number in crowd.first.1..crowd.end.0 {
        let name = record::crowd_name(number);
        anyhow::ensure!(found.contains(&number), "the name {name} is gone");
        // Found by reading the directory, and by looking for it.
        path.join(&name)
            .symlink_metadata()
            .with_context(|| format!("looking for {name}"))?;
    }
    debug_assert!(promise.ids.is_empty());
    Ok(())
}

fn check_file(
    path: &Path,
    promise: &Promise,
    zeros: bool,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            anyhow::ensure!(!promise.present, "it is gone");
            return Ok(());
        }
        Err(error) => return Err(error).context("reading it"),
    };
    findings.files += 1;
    anyhow::ensure!(!promise.absent, "it is there");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let replaced = name.starts_with("care");
    if bytes.is_empty() {
        anyhow::ensure!(
            !promise.present || promise.length.0 == 0 && !replaced,
            "it is empty"
        );
        return Ok(());
    }
    // Nothing is done to the name since it was acknowledged, but that it may get longer or be overwritten.
    let settled = promise.present && promise.ids.len() == 1;
    let may_be_zero = |place: u64| zeros && !(settled && (replaced || place < promise.length.0));
    let is_zero = |piece: &[u8]| piece.iter().all(|byte| *byte == 0);
    let Some(first) = bytes
        .chunks(RECORD)
        .enumerate()
        .find(|(number, piece)| !(may_be_zero((number * RECORD) as u64) && is_zero(piece)))
        .map(|(_, piece)| piece)
    else {
        return Ok(());
    };
    let id = record::claimed_id(first).context("it is shorter than a word")?;
    anyhow::ensure!(
        promise.ids.contains(&id),
        "it is of a file {id}: foreign or outdated bytes"
    );
    let is_newest = promise.ids.last() == Some(&id);
    if is_newest && !replaced {
        let length = bytes.len() as u64;
        anyhow::ensure!(
            (promise.length.0..=promise.length.1).contains(&length),
            "it has {length} bytes"
        );
    }
    for (number, piece) in bytes.chunks(RECORD).enumerate() {
        let place = (number * RECORD) as u64;
        if may_be_zero(place) && is_zero(piece) {
            continue;
        }
        let (generation, total) = record::parse(piece, id, place).with_context(|| {
            format!(
                "at byte {place} of {} it holds {}",
                bytes.len(),
                if is_zero(piece) {
                    "zeros"
                } else {
                    "foreign bytes"
                }
            )
        })?;
        if replaced {
            anyhow::ensure!(
                total == bytes.len() as u64,
                "a rename left {} of {total} bytes",
                bytes.len()
            );
        }
        if is_newest {
            let least = promise.least.get(&(number as u64)).copied().unwrap_or(0);
            anyhow::ensure!(
                (least..=promise.greatest).contains(&generation),
                "at byte {place} it is of generation {generation}: at least {least} was acknowledged, {} written",
                promise.greatest
            );
        }
    }
    if promise.attribute.1 != 0 {
        check_attribute(path, promise, id)?;
    }
    Ok(())
}

fn check_attribute(path: &Path, promise: &Promise, id: u64) -> anyhow::Result<()> {
    let mut value = vec![0; 1 << 16];
    let found = match rustix::fs::getxattr(path, ATTRIBUTE, value.as_mut_slice()) {
        Ok(length) => record::attribute_generation(id, &value[..length])
            .with_context(|| format!("its attribute has {length} foreign bytes"))?,
        Err(rustix::io::Errno::NODATA) => 0,
        Err(error) => return Err(error).context("reading its attribute"),
    };
    let (least, greatest) = promise.attribute;
    anyhow::ensure!(
        (least..=greatest).contains(&found),
        "its attribute is of generation {found}: at least {least} was acknowledged, {greatest} written"
    );
    Ok(())
}
