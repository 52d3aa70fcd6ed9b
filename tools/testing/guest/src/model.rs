// SPDX-License-Identifier: GPL-2.0

//! A tree of files in memory, changed by the same random operations as one on disk, and compared with it byte for byte.

use crate::rng::Rng;
use anyhow::Context;
use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::fs::CWD;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::symlink;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The largest file that the model makes.
const MAX_FILE: u64 = 1 << 20;
/// The most entries that the tree grows to.
const MAX_NAMES: usize = 1500;

/// What an inode is.
#[derive(Clone, Debug)]
enum Kind {
    File(Vec<u8>),
    Dir,
    Symlink(String),
}

/// What is known of an inode.
#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The modification time, while it is the one that was set explicitly.
    mtime: Option<(i64, u32)>,
}

/// A tree of files: names that lead to inodes.
#[derive(Clone, Debug)]
pub struct Model {
    names: BTreeMap<String, u64>,
    nodes: HashMap<u64, Node>,
    next: u64,
    rng: Rng,
    /// Whether the filesystem has extended attributes.
    has_xattrs: bool,
}

impl Model {
    /// An empty tree.
    pub fn new(rng: Rng) -> Model {
        Model {
            names: BTreeMap::new(),
            nodes: HashMap::new(),
            next: 0,
            rng,
            has_xattrs: true,
        }
    }

    /// An empty tree of a filesystem without extended attributes.
    pub fn without_xattrs(rng: Rng) -> Model {
        Model {
            has_xattrs: false,
            ..Model::new(rng)
        }
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Does `count` random operations on the tree below `root` and on the model.
    pub fn work(&mut self, root: &Path, count: u64) -> anyhow::Result<()> {
        for number in 0..count {
            self.step(root)
                .with_context(|| format!("operation {number} of {count}"))?;
        }
        Ok(())
    }

    fn step(&mut self, root: &Path) -> anyhow::Result<()> {
        let roll = self.rng.below(100);
        if self.names.len() < 20 || (roll < 22 && self.names.len() < MAX_NAMES) {
            return self.create(root);
        }
        match roll {
            0..=49 => self.write(root),
            50..=57 => self.truncate(root),
            58..=67 => self.rename(root),
            68..=73 => self.link(root),
            74..=83 => self.remove(root),
            84..=87 => self.change_attributes(root),
            88..=92 if self.has_xattrs => self.change_xattr(root),
            93..=96 => self.fsync(root),
            _ => self.set_time(root),
        }
    }

    /// A random name of an inode that `wanted` likes.
    fn pick(&mut self, wanted: impl Fn(&Kind) -> bool) -> Option<(String, u64)> {
        let liked: Vec<(&String, u64)> = self
            .names
            .iter()
            .filter(|(_, id)| wanted(&self.nodes[id].kind))
            .map(|(name, id)| (name, *id))
            .collect();
        if liked.is_empty() {
            return None;
        }
        let (name, id) = liked[self.rng.index(liked.len())];
        Some((name.clone(), id))
    }

    /// A name that is not there yet, in a random folder.
    fn fresh_name(&mut self) -> String {
        let folder = match self.pick(|kind| matches!(kind, Kind::Dir)) {
            Some((name, _)) if !self.rng.one_in(4) && name.matches('/').count() < 6 => name + "/",
            _ => String::new(),
        };
        self.next += 1;
        // Long names fill directory blocks, short ones make many entries per block.
        let padding = match self.rng.below(8) {
            0 => 200,
            1..=3 => 30,
            _ => 0,
        };
        format!("{folder}n{}{}", self.next, "x".repeat(padding))
    }

    fn add(&mut self, name: String, kind: Kind, mode: u32) {
        self.next += 1;
        self.touch_parent(&name);
        self.nodes.insert(
            self.next,
            Node {
                kind,
                mode,
                owner: (0, 0),
                xattrs: BTreeMap::new(),
                mtime: None,
            },
        );
        self.names.insert(name, self.next);
    }

    /// The folder of `name` has changed, and so has its modification time.
    fn touch_parent(&mut self, name: &str) {
        if let Some((parent, _)) = name.rsplit_once('/') {
            let id = self.names[parent];
            self.node(id).mtime = None;
        }
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes
            .get_mut(&id)
            .expect("every name leads to an inode")
    }

    fn create(&mut self, root: &Path) -> anyhow::Result<()> {
        let name = self.fresh_name();
        let path = root.join(&name);
        match self.rng.below(10) {
            0 | 1 => {
                fs::create_dir(&path).with_context(|| format!("mkdir {name}"))?;
                self.add(name, Kind::Dir, 0o755);
            }
            2 => {
                let length = if self.rng.one_in(2) { 20 } else { 300 };
                let target: String = "t".repeat(length) + &self.next.to_string();
                symlink(&target, &path).with_context(|| format!("symlink {name}"))?;
                self.add(name, Kind::Symlink(target), 0o777);
            }
            _ => {
                let size = match self.rng.below(10) {
                    0 => 0,
                    1..=6 => self.rng.below(5000),
                    7 | 8 => self.rng.below(60_000),
                    _ => self.rng.below(MAX_FILE),
                };
                let contents = self.rng.bytes(size as usize);
                fs::write(&path, &contents).with_context(|| format!("create {name}"))?;
                self.add(name, Kind::File(contents), 0o644);
            }
        }
        Ok(())
    }

    fn write(&mut self, root: &Path) -> anyhow::Result<()> {
        let Some((name, id)) = self.pick(|kind| matches!(kind, Kind::File(_))) else {
            return Ok(());
        };
        let length = 1 + match self.rng.below(4) {
            0 => self.rng.below(100),
            1 | 2 => self.rng.below(9000),
            _ => self.rng.below(200_000),
        };
        let size = match &self.nodes[&id].kind {
            Kind::File(contents) => contents.len() as u64,
            _ => 0,
        };
        // Inside, at the end, or beyond it, which leaves a hole.
        let offset = match self.rng.below(4) {
            0 => size,
            1 => size + self.rng.below(100_000),
            _ => self.rng.below(size + 1),
        }
        .min(MAX_FILE - length);
        let bytes = self.rng.bytes(length as usize);
        let file = OpenOptions::new()
            .write(true)
            .open(root.join(&name))
            .with_context(|| format!("open {name} for writing"))?;
        file.write_all_at(&bytes, offset)
            .with_context(|| format!("write {length} bytes at {offset} of {name}"))?;
        if self.rng.one_in(30) {
            file.sync_data()
                .with_context(|| format!("fdatasync {name}"))?;
        }
        let node = self.node(id);
        node.mtime = None;
        if let Kind::File(contents) = &mut node.kind {
            let end = (offset + length) as usize;
            if contents.len() < end {
                contents.resize(end, 0);
            }
            contents[offset as usize..end].copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn truncate(&mut self, root: &Path) -> anyhow::Result<()> {
        let Some((name, id)) = self.pick(|kind| matches!(kind, Kind::File(_))) else {
            return Ok(());
        };
        let old = match &self.nodes[&id].kind {
            Kind::File(contents) => contents.len() as u64,
            _ => 0,
        };
        let size = match self.rng.below(4) {
            0 => 0,
            1 => self.rng.below(MAX_FILE),
            _ => self.rng.below(old + 1),
        };
        OpenOptions::new()
            .write(true)
            .open(root.join(&name))
            .and_then(|file| file.set_len(size))
            .with_context(|| format!("truncate {name} from {old} to {size}"))?;
        let node = self.node(id);
        node.mtime = None;
        if let Kind::File(contents) = &mut node.kind {
            contents.resize(size as usize, 0);
        }
        Ok(())
    }

    fn rename(&mut self, root: &Path) -> anyhow::Result<()> {
        let Some((from, id)) = self.pick(|_| true) else {
            return Ok(());
        };
        let is_dir = matches!(self.nodes[&id].kind, Kind::Dir);
        // Over another name, or to a new one.
        let mut to = match self.pick(|kind| !matches!(kind, Kind::Dir)) {
            Some((name, other)) if !is_dir && other != id && self.rng.one_in(3) => name,
            _ => self.fresh_name(),
        };
        let below = format!("{from}/");
        if to.starts_with(&below) {
            self.next += 1;
            to = format!("r{}", self.next);
        }
        fs::rename(root.join(&from), root.join(&to))
            .with_context(|| format!("rename {from} to {to}"))?;
        self.touch_parent(&from);
        self.touch_parent(&to);
        self.forget(&to);
        let moved: Vec<String> = self
            .names
            .range(below.clone()..)
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(&below))
            .cloned()
            .collect();
        for name in moved {
            if let Some(id) = self.names.remove(&name) {
                self.names
                    .insert(format!("{to}/{}", &name[below.len()..]), id);
            }
        }
        self.names.remove(&from);
        self.names.insert(to, id);
        if is_dir {
            // Its ".." may have changed, which some drivers count as a change and some do not.
            self.node(id).mtime = None;
        }
        Ok(())
    }

    fn link(&mut self, root: &Path) -> anyhow::Result<()> {
        let Some((from, id)) = self.pick(|kind| !matches!(kind, Kind::Dir)) else {
            return Ok(());
        };
        let to = self.fresh_name();
        fs::hard_link(root.join(&from), root.join(&to))
            .with_context(|| format!("link {from} to {to}"))?;
        self.touch_parent(&to);
        self.names.insert(to, id);
        Ok(())
    }

    fn remove(&mut self, root: &Path) -> anyhow::Result<()> {
        let Some((name, id)) = self.pick(|_| true) else {
            return Ok(());
        };
        if matches!(self.nodes[&id].kind, Kind::Dir) {
            let below = format!("{name}/");
            let empty = !self.names.keys().any(|other| other.starts_with(&below));
            let result = fs::remove_dir(root.join(&name));
            if !empty {
                let error = result
                    .err()
                    .with_context(|| format!("rmdir {name}, which is not empty, succeeded"))?;
                anyhow::ensure!(
                    error.kind() == std::io::ErrorKind::DirectoryNotEmpty,
                    "rmdir {name}, which is not empty: {error}"
                );
                return Ok(());
            }
            result.with_context(|| format!("rmdir {name}"))?;
        } else {
            fs::remove_file(root.join(&name)).with_context(|| format!("unlink {name}"))?;
        }
        self.touch_parent(&name);
        self.forget(&name);
        Ok(())
    }

    /// Takes a name out of the model, and the inode with its last name.
    fn forget(&mut self, name: &str) {
        if let Some(id) = self.names.remove(name) {
            if !self.names.values().any(|other| *other == id) {
                self.nodes.remove(&id);
            }
        }
    }

    fn change_attributes(&mut self, root: &Path) -> anyhow::Result<()> {
        let Some((name, id)) = self.pick(|kind| !matches!(kind, Kind::Symlink(_))) else {
            return Ok(());
        };
        let path = root.join(&name);
        let mode = 0o400 | self.rng.below(0o400) as u32;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("chmod {name}"))?;
        // Numbers of more than 16 bits, whose upper halves lie elsewhere in the inode.
        let owner = (
            self.rng.below(200_000) as u32,
            self.rng.below(200_000) as u32,
        );
        rustix::fs::chownat(
            CWD,
            &path,
            Some(Uid::from_raw(owner.0)),
            Some(Gid::from_raw(owner.1)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .with_context(|| format!("chown {name}"))?;
        let node = self.node(id);
        node.mode = mode;
        node.owner = owner;
        Ok(())
    }

    fn change_xattr(&mut self, root: &Path) -> anyhow::Result<()> {
        let Some((name, id)) = self.pick(|kind| !matches!(kind, Kind::Symlink(_))) else {
            return Ok(());
        };
        let path = root.join(&name);
        let key = format!("user.key{}", self.rng.below(6));
        if self.nodes[&id].xattrs.contains_key(&key) && self.rng.one_in(2) {
            rustix::fs::removexattr(&path, &key)
                .with_context(|| format!("removexattr {key} of {name}"))?;
            self.node(id).xattrs.remove(&key);
            return Ok(());
        }
        // What fits into the inode, and what needs a block. All of an inode's must fit into one block of 1 KiB.
        let length = if self.rng.one_in(3) {
            100
        } else {
            self.rng.below(30) as usize
        };
        let value = self.rng.bytes(length);
        rustix::fs::setxattr(&path, &key, &value, XattrFlags::empty())
            .with_context(|| format!("setxattr {key} of {name}, {length} bytes"))?;
        self.node(id).xattrs.insert(key, value);
        Ok(())
    }

    fn fsync(&mut self, root: &Path) -> anyhow::Result<()> {
        let Some((name, _)) = self.pick(|kind| !matches!(kind, Kind::Symlink(_))) else {
            return Ok(());
        };
        File::open(root.join(&name))
            .and_then(|file| file.sync_all())
            .with_context(|| format!("fsync {name}"))
    }

    fn set_time(&mut self, root: &Path) -> anyhow::Result<()> {
        let Some((name, id)) = self.pick(|kind| !matches!(kind, Kind::Symlink(_))) else {
            return Ok(());
        };
        // From before 1970 to beyond 2038, up to what 34 bits of seconds hold.
        let seconds = self.rng.below(1 << 33) as i64 - (1 << 30);
        let nanoseconds = self.rng.below(1_000_000_000) as u32;
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, root.join(&name), &times, AtFlags::empty())
            .with_context(|| format!("utimensat {name}"))?;
        self.node(id).mtime = Some((seconds, nanoseconds));
        Ok(())
    }

    /// Compares the tree below `root` with the model: names, contents, attributes. `nanoseconds` tells whether the
    /// inodes have room for the full times.
    pub fn verify(&self, root: &Path, full_times: bool) -> anyhow::Result<()> {
        let mut found = BTreeSet::new();
        walk(root, "", &mut found)?;
        let expected: BTreeSet<&String> = self.names.keys().collect();
        let found: BTreeSet<&String> = found.iter().filter(|name| *name != "lost+found").collect();
        let missing: Vec<_> = expected.difference(&found).take(5).collect();
        let surplus: Vec<_> = found.difference(&expected).take(5).collect();
        anyhow::ensure!(
            missing.is_empty() && surplus.is_empty(),
            "the names differ: missing {missing:?}, surplus {surplus:?}"
        );
        let mut links: HashMap<u64, u64> = HashMap::new();
        for (name, id) in &self.names {
            *links.entry(*id).or_default() += 1;
            if matches!(self.nodes[id].kind, Kind::Dir) {
                *links.entry(*id).or_default() += 1;
            }
            if let Some((parent, _)) = name.rsplit_once('/') {
                if matches!(self.nodes[id].kind, Kind::Dir) {
                    *links.entry(self.names[parent]).or_default() += 1;
                }
            }
        }
        let mut inode_numbers: HashMap<u64, u64> = HashMap::new();
        for (name, id) in &self.names {
            let path = root.join(name);
            let meta = fs::symlink_metadata(&path).with_context(|| format!("stat {name}"))?;
            self.compare(name, &path, &meta, &self.nodes[id], full_times)?;
            anyhow::ensure!(
                meta.nlink() == links[id],
                "{name} has {} links instead of {}",
                meta.nlink(),
                links[id]
            );
            let number = *inode_numbers.entry(*id).or_insert(meta.ino());
            anyhow::ensure!(
                number == meta.ino(),
                "{name} is another inode than its other names"
            );
        }
        Ok(())
    }

    fn compare(
        &self,
        name: &str,
        path: &Path,
        meta: &fs::Metadata,
        node: &Node,
        full_times: bool,
    ) -> anyhow::Result<()> {
        let kind_is_right = match node.kind {
            Kind::File(_) => meta.is_file(),
            Kind::Dir => meta.is_dir(),
            Kind::Symlink(_) => meta.is_symlink(),
        };
        anyhow::ensure!(kind_is_right, "{name} is a {:?}", meta.file_type());
        anyhow::ensure!(
            meta.mode() & 0o7777 == node.mode,
            "{name} has mode {:o} instead of {:o}",
            meta.mode(),
            node.mode
        );
        let owner = (meta.uid(), meta.gid());
        anyhow::ensure!(
            owner == node.owner,
            "{name} belongs to {owner:?} instead of {:?}",
            node.owner
        );
        if let (Some(time), true) = (node.mtime, full_times) {
            let found = (meta.mtime(), meta.mtime_nsec() as u32);
            anyhow::ensure!(
                found == time,
                "{name} was modified at {found:?} instead of {time:?}"
            );
        }
        match &node.kind {
            Kind::File(contents) => {
                let read = fs::read(path).with_context(|| format!("read {name}"))?;
                compare_bytes(name, &read, contents)?;
            }
            Kind::Symlink(target) => {
                let found = fs::read_link(path).with_context(|| format!("readlink {name}"))?;
                anyhow::ensure!(
                    found.to_str() == Some(target.as_str()),
                    "{name} leads to {found:?}"
                );
                anyhow::ensure!(
                    meta.len() == target.len() as u64,
                    "{name} has size {}",
                    meta.len()
                );
            }
            Kind::Dir => {}
        }
        if !matches!(node.kind, Kind::Symlink(_)) {
            let found = xattrs(path)?;
            anyhow::ensure!(
                found == node.xattrs,
                "{name} has the extended attributes {:?} instead of {:?}",
                found.keys().collect::<Vec<_>>(),
                node.xattrs.keys().collect::<Vec<_>>()
            );
        }
        Ok(())
    }
}

/// Fails with the place of the first difference.
pub fn compare_bytes(name: &str, read: &[u8], expected: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(
        read.len() == expected.len(),
        "{name} has {} bytes instead of {}",
        read.len(),
        expected.len()
    );
    if let Some(place) = (0..read.len()).find(|&place| read[place] != expected[place]) {
        let last = (0..read.len()).rfind(|&place| read[place] != expected[place]);
        let zeros = read[place..].iter().take_while(|byte| **byte == 0).count();
        anyhow::bail!(
            "{name} differs from byte {place} to byte {last:?} of {}: {:02x} instead of {:02x}, {zeros} zero bytes there",
            read.len(),
            read[place],
            expected[place]
        );
    }
    Ok(())
}

/// All extended attributes of a file.
pub fn xattrs(path: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::listxattr(path, &mut list)
        .with_context(|| format!("listxattr {}", path.display()))?;
    let mut all = BTreeMap::new();
    for name in list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; 65536];
        let length = rustix::fs::getxattr(path, &name, &mut value)
            .with_context(|| format!("getxattr {name} of {}", path.display()))?;
        value.truncate(length);
        all.insert(name, value);
    }
    Ok(all)
}

fn walk(root: &Path, below: &str, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for entry in
        fs::read_dir(root.join(below)).with_context(|| format!("reading the folder {below:?}"))?
    {
        let entry = entry.with_context(|| format!("reading the folder {below:?}"))?;
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if !below.is_empty() {
            name = format!("{below}/{name}");
        }
        let is_dir = entry.file_type()?.is_dir();
        anyhow::ensure!(found.insert(name.clone()), "{name} was listed twice");
        if is_dir {
            walk(root, &name, found)?;
        }
    }
    Ok(())
}
