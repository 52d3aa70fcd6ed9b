// SPDX-License-Identifier: GPL-2.0

//! The disk: nodes by their numbers, each with attributes and contents.
//!
//! Like a real disk it knows nothing of inodes in memory, open files or the page cache. A directory
//! names its files by number; whoever wants the file looks the number up in the table of nodes.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;

use kernel::new_mutex;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use vfs::inode::S_IFDIR;
use vfs::memory::NoFs;
use vfs::time::Timestamp;

use crate::options::Options;

mod names;
mod pages;

pub(crate) use names::Names;
pub(crate) use pages::Pages;

/// The number of the root directory.
pub(crate) const ROOT: u64 = 1;

/// What an inode says of itself, as `stat(2)` shows it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Attributes {
    pub(crate) mode: u16,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) atime: Timestamp,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
}

/// What a node holds.
///
/// The locks are of different types, and so of different classes to lockdep, which matters: a file's
/// lock is taken in page faults, a directory's lock is not.
pub(crate) enum Contents {
    File(Pin<KBox<Mutex<Pages>>>),
    Directory(Pin<KBox<Mutex<Names>>>),
    Symlink(KVec<u8>),
}

impl Contents {
    /// An empty file.
    pub(crate) fn file() -> Result<Self> {
        let pages = KBox::pin_init(new_mutex!(Pages::new(), "memfs::pages"), GFP_KERNEL)?;
        Ok(Self::File(pages))
    }

    /// An empty directory in the directory `parent`.
    pub(crate) fn directory(parent: u64) -> Result<Self> {
        let names = KBox::pin_init(new_mutex!(Names::new(parent), "memfs::names"), GFP_KERNEL)?;
        Ok(Self::Directory(names))
    }

    /// A link to `target`.
    pub(crate) fn symlink(target: &[u8]) -> Result<Self> {
        let mut text = KVec::new();
        text.extend_from_slice(target, GFP_KERNEL)?;
        Ok(Self::Symlink(text))
    }
}

/// A file, directory or symbolic link on the disk.
#[pin_data]
pub(crate) struct Node {
    pub(crate) number: u64,
    pub(crate) born: Timestamp,
    pub(crate) contents: Contents,
    #[pin]
    attributes: Mutex<Attributes>,
}

impl Node {
    /// Makes a node, which is not on the disk before it is [added](Store::add).
    pub(crate) fn new(
        number: u64,
        contents: Contents,
        attributes: Attributes,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                number,
                born: Timestamp::now(),
                contents,
                attributes <- new_mutex!(attributes, "memfs::attributes"),
            }),
            GFP_KERNEL,
        )
    }

    /// A copy of the attributes.
    pub(crate) fn attributes(&self) -> Attributes {
        *self.attributes.lock()
    }

    /// Writes the attributes.
    pub(crate) fn set_attributes(&self, attributes: Attributes) {
        *self.attributes.lock() = attributes;
    }
}

/// The disk of one mount. This is what [`SuperBlock::data`](vfs::super_block::SuperBlock::data) gives.
#[pin_data]
pub(crate) struct Store {
    #[pin]
    nodes: Mutex<RBTree<u64, Arc<Node>>>,
    /// Numbers are never used twice.
    next_number: AtomicU64,
    /// How many pages all files together may have.
    limit: AtomicU64,
    /// How many they have.
    used: AtomicU64,
    mode: u16,
}

impl Store {
    /// An empty disk.
    pub(crate) fn new(options: &Options) -> impl PinInit<Self, Error> {
        let limit = options.size / PAGE_SIZE as u64;
        let mode = options.mode;
        try_pin_init!(Self {
            nodes <- new_mutex!(RBTree::new(), "memfs::nodes"),
            next_number: AtomicU64::new(ROOT + 1),
            limit: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            mode,
        })
    }

    /// Makes the root directory.
    pub(crate) fn format(&self, mode: u16) -> Result {
        let now = Timestamp::now();
        let attributes = Attributes {
            mode: S_IFDIR | mode,
            links: 2,
            atime: now,
            mtime: now,
            ctime: now,
            ..Attributes::default()
        };
        self.add(Node::new(ROOT, Contents::directory(ROOT)?, attributes)?)
    }

    /// The options that are in force.
    pub(crate) fn options(&self) -> Options {
        Options {
            size: self.limit.load(Ordering::Relaxed) * PAGE_SIZE as u64,
            mode: self.mode,
        }
    }

    /// A number for a new node.
    pub(crate) fn new_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// The node of that number.
    pub(crate) fn find(&self, number: u64) -> Option<Arc<Node>> {
        self.nodes.lock().get(&number).cloned()
    }

    /// Adds a node to the table.
    pub(crate) fn add(&self, node: Arc<Node>) -> Result {
        // When memory is short, the kernel evicts inodes, and `remove()` wants this lock. So memory that
        // is allocated while it is held must not be got that way.
        let _nofs = NoFs::enter();
        let mut nodes = self.nodes.lock();
        nodes.try_create_and_insert(node.number, node, GFP_KERNEL)?;
        Ok(())
    }

    /// Removes a node from the table. It lives on while somebody has a reference.
    pub(crate) fn remove(&self, number: u64) {
        let node = self.nodes.lock().remove(&number);
        drop(node);
    }

    /// Takes pages from what is free, all of them or none.
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    pub(crate) fn take_pages(&self, pages: u64) -> Result {
        let limit = self.limit.load(Ordering::Relaxed);
        let take = |used: u64| used.checked_add(pages).filter(|used| *used <= limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map(drop)
            .map_err(|_| ENOSPC)
    }

    /// Gives pages back.
    pub(crate) fn give_back(&self, pages: u64) {
        self.used.fetch_sub(pages, Ordering::Relaxed);
    }

    /// How many pages there may be, and how many there are.
    pub(crate) fn pages(&self) -> (u64, u64) {
        (
            self.limit.load(Ordering::Relaxed),
            self.used.load(Ordering::Relaxed),
        )
    }

    /// Makes the disk larger or smaller.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when more than `size` bytes are in use.
    pub(crate) fn set_limit(&self, size: u64) -> Result {
        let limit = size / PAGE_SIZE as u64;
        if self.used.load(Ordering::Relaxed) > limit {
            return Err(ENOSPC);
        }
        self.limit.store(limit, Ordering::Relaxed);
        Ok(())
    }
}
