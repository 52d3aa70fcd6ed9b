// SPDX-License-Identifier: GPL-2.0

//! What a tree of files is: a line for each file, which tells its contents and attributes.

use crate::model::xattrs;
use crate::rng::hash;
use anyhow::Context;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Names, each with all that is known of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest(BTreeMap<String, String>);

impl Manifest {
    /// Reads a tree, all contents included.
    pub fn read(root: &Path) -> anyhow::Result<Manifest> {
        let mut manifest = Manifest::default();
        manifest.add(root, "")?;
        Ok(manifest)
    }

    fn add(&mut self, root: &Path, below: &str) -> anyhow::Result<()> {
        let dir = root.join(below);
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let entry = entry?;
            let base = entry.file_name().to_string_lossy().into_owned();
            let name = if below.is_empty() {
                base
            } else {
                format!("{below}/{base}")
            };
            let path = entry.path();
            let meta = entry.metadata().with_context(|| format!("stat {name}"))?;
            let mut line = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
            if meta.is_symlink() {
                line += &format!(" -> {}", fs::read_link(&path)?.display());
            } else if meta.is_file() {
                let contents = fs::read(&path).with_context(|| format!("reading {name}"))?;
                line += &format!(
                    " {} bytes {:016x}, {} links, modified {}.{:09}",
                    meta.len(),
                    hash(&contents),
                    meta.nlink(),
                    meta.mtime(),
                    meta.mtime_nsec()
                );
            }
            if !meta.is_symlink() {
                for (key, value) in xattrs(&path)? {
                    line += &format!(" {key}={:016x}", hash(&value));
                }
            }
            self.0.insert(name.clone(), line);
            if meta.is_dir() {
                self.add(root, &name)?;
            }
        }
        Ok(())
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps the manifest in a file.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|(name, line)| format!("{name}\t{line}\n"))
            .collect();
        let text = lines.concat();
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads what [`Manifest::save`] kept.
    pub fn load(path: &Path) -> anyhow::Result<Manifest> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(Manifest(
            lines
                .map(|(name, line)| (name.into(), line.into()))
                .collect(),
        ))
    }

    /// Fails, with the first differences, unless the other tree is the same.
    pub fn expect(&self, found: &Manifest) -> anyhow::Result<()> {
        let mut differences = Vec::new();
        for (name, line) in &self.0 {
            match found.0.get(name) {
                None => differences.push(format!("{name} is missing")),
                Some(other) if other != line => {
                    differences.push(format!("{name} is\n    {other}\n  instead of\n    {line}"))
                }
                Some(_) => {}
            }
        }
        for name in found.0.keys().filter(|name| !self.0.contains_key(*name)) {
            differences.push(format!("{name} should not be there"));
        }
        anyhow::ensure!(
            differences.is_empty(),
            "{} of {} files differ:\n  {}",
            differences.len(),
            self.0.len(),
            differences[..differences.len().min(5)].join("\n  ")
        );
        Ok(())
    }
}
