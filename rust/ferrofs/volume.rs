// SPDX-License-Identifier: GPL-2.0

//! The data of one mount.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use ext4::superblock::JournalLocation;
use ext4::superblock::Superblock;
use ext4::superblock::ValidSuperblock;
use ext4::superblock::LENGTH;
use ext4::Corrupt;
use ext4::PhysicalBlock;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::SpinLock;
use vfs::buffer::Buffer;
use vfs::buffer::Kind;
use vfs::journal::Journal;
use vfs::ratelimit::RateLimit;
use vfs::transaction::Transaction;

use crate::alloc::Allocator;
use crate::completion::Conversions;
use crate::flush::Flushes;
use crate::group::Descriptors;
use crate::history::History;
use crate::options::Flags;
use crate::options::Resolved;
use crate::options::Settings;
use crate::orphan::Orphans;
use crate::state::State;

/// Kinds of metadata blocks, by which a buffer remembers what it was verified as.
pub(crate) mod kind {
    use super::Kind;

    /// Group descriptors.
    pub(crate) const DESCRIPTORS: Kind = Kind::new(1);
    /// A bitmap of blocks.
    pub(crate) const BLOCK_BITMAP: Kind = Kind::new(2);
    /// A bitmap of inodes.
    pub(crate) const INODE_BITMAP: Kind = Kind::new(3);
    /// A block of an inode table. Each inode in it has a checksum of its own.
    pub(crate) const INODE_TABLE: Kind = Kind::new(4);
    /// A node of an extent tree.
    pub(crate) const EXTENT_NODE: Kind = Kind::new(5);
    /// A block of directory entries.
    pub(crate) const DIRECTORY: Kind = Kind::new(6);
    /// Extended attributes.
    pub(crate) const XATTR: Kind = Kind::new(7);
    /// A block of the orphan file.
    pub(crate) const ORPHAN_FILE: Kind = Kind::new(8);
    /// The target of a symbolic link.
    pub(crate) const SYMLINK: Kind = Kind::new(9);
    /// The root of a directory's index.
    pub(crate) const DIRECTORY_ROOT: Kind = Kind::new(10);
    /// Another node of a directory's index.
    pub(crate) const DIRECTORY_NODE: Kind = Kind::new(11);
}

/// The data of one mount.
#[pin_data]
pub(crate) struct Volume {
    /// What the super block said at mount, checked.
    pub(crate) layout: ValidSuperblock,
    /// Every change of metadata goes through it.
    pub(crate) journal: Journal,
    /// The block that holds the super block.
    pub(crate) super_buffer: Buffer,
    /// Where in that block it begins, in bytes.
    pub(crate) super_offset: usize,
    /// Where the parts of each group are.
    pub(crate) descriptors: Descriptors,
    /// Groups, and what is free in them.
    pub(crate) alloc: Allocator,
    /// Inodes whose storage must be freed even after a crash.
    #[pin]
    pub(crate) orphans: Orphans,
    /// Ends of I/O that wait for their extents to be converted.
    #[pin]
    pub(crate) conversions: Conversions,
    /// The options that are in force when the user gives none.
    pub(crate) defaults: Settings,
    #[pin]
    settings: SpinLock<Settings>,
    /// Data on its way from the device's cache to stable media.
    pub(crate) flushes: Flushes,
    /// What the super block is to tell of this mount.
    pub(crate) history: History,
    /// How many reports of damage may be made.
    #[pin]
    pub(crate) reports: RateLimit,
    /// How many were not made since the last one that was.
    pub(crate) unreported: AtomicU32,
    /// How many messages about lost data may be printed.
    #[pin]
    pub(crate) losses: RateLimit,
    /// Whether the disk may still be changed.
    pub(crate) state: State,
    writing: AtomicBool,
    /// Whether the log tells of this mount.
    pub(crate) announced: AtomicBool,
    /// Whether the disk was marked clean when it was mounted; only then may an unmount mark it so.
    was_clean: bool,
}

impl Volume {
    /// Makes the data of a mount whose journal is still closed.
    pub(crate) fn new(
        layout: ValidSuperblock,
        journal: Journal,
        alloc: Allocator,
        super_buffer: Buffer,
        super_offset: usize,
        options: Resolved,
        was_clean: bool,
    ) -> Result<Pin<KBox<Self>>> {
        let history = History::new(journal.device());
        KBox::try_pin_init(
            try_pin_init!(Self {
                layout,
                journal,
                super_buffer,
                super_offset,
                descriptors: Descriptors::new(),
                alloc,
                orphans <- Orphans::new(),
                conversions <- Conversions::new(),
                defaults: options.defaults,
                settings <- new_spinlock!(options.settings),
                flushes: Flushes::new(),
                history,
                state: State::new(),
                reports <- RateLimit::new(),
                unreported: AtomicU32::new(0),
                losses <- RateLimit::new(),
                writing: AtomicBool::new(false),
                announced: AtomicBool::new(false),
                was_clean,
            }),
            GFP_KERNEL,
        )
    }

    /// The options in force.
    pub(crate) fn settings(&self) -> Settings {
        *self.settings.lock()
    }

    /// Puts other options in force.
    pub(crate) fn set_settings(&self, settings: Settings) {
        *self.settings.lock() = settings;
    }

    /// Whether the super block on disk says that the disk is in use.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.load(Relaxed)
    }

    /// Notes what the super block on disk says of that.
    pub(crate) fn set_writing(&self, writing: bool) {
        self.writing.store(writing, Relaxed);
    }

    /// Whether the disk was marked clean when it was mounted.
    pub(crate) fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Blocks that hold metadata and the journal, and will never hold a file's data.
    pub(crate) fn overhead(&self) -> u64 {
        if let Some(clusters) = self.layout.overhead_clusters {
            return u64::from(clusters) << self.layout.geometry.cluster_bits();
        }
        let geometry = &self.layout.geometry;
        let per_group = u64::from(geometry.inode_table_blocks()) + 2;
        let groups: u64 = geometry
            .groups()
            .map(|group| u64::from(geometry.base_meta_blocks(group)) + per_group)
            .sum();
        let journal = match self.layout.journal {
            JournalLocation::Internal(_) => u64::from(self.journal.log_blocks()),
            _ => 0,
        };
        u64::from(geometry.first_data_block().get() as u32) + groups + journal
    }

    /// Whether the super block that was read is the one that every mount begins with, and not a copy of it.
    pub(crate) fn has_primary(&self) -> bool {
        self.super_buffer.block() == self.layout.geometry.super_block().get()
    }

    /// Reads the super block as it stands in memory. `read` must not sleep for long: writers wait.
    pub(crate) fn with_superblock<R>(&self, read: impl FnOnce(&Superblock) -> R) -> Result<R> {
        let block = self.super_buffer.data();
        let superblock = block
            .get(self.super_offset..self.super_offset + LENGTH)
            .and_then(Superblock::from_bytes);
        Ok(read(superblock.ok_or(EINVAL)?))
    }

    /// Brings the counts in `superblock` up to date: errors that were met without a report, and what was written.
    pub(crate) fn update_counts(&self, superblock: &mut Superblock) {
        superblock.count_errors(self.unreported.swap(0, Relaxed));
        self.history
            .count_written(self.journal.device(), superblock);
    }

    /// Changes the super block outside of any transaction and waits until it is on stable media.
    ///
    /// For the moments at which no journal is there to do it: mount, unmount, errors. `change` leaves
    /// the checksum right. Sleeps.
    pub(crate) fn update_superblock(&self, change: impl FnOnce(&mut Superblock)) -> Result {
        let durable = self.settings().has(Flags::BARRIER);
        let offset = self.super_offset;
        let device = self.journal.device();
        self.super_buffer.update_now(device, durable, |block| {
            if let Some(superblock) = block
                .get_mut(offset..offset + LENGTH)
                .and_then(Superblock::from_bytes_mut)
            {
                change(superblock);
            }
        })
    }

    /// Changes the super block as part of `txn`. Takes one credit. `change` leaves the checksum right.
    pub(crate) fn write_superblock(
        &self,
        txn: &Transaction<'_>,
        change: impl FnOnce(&mut Superblock),
    ) -> Result {
        let mut block = txn.write(&self.super_buffer, vfs::transaction::Unsealed)?;
        let superblock = block
            .get_mut(self.super_offset..)
            .and_then(|bytes| bytes.get_mut(..LENGTH))
            .and_then(Superblock::from_bytes_mut)
            .ok_or(EINVAL)?;
        change(superblock);
        Ok(())
    }

    /// As what a block of this kind is remembered once it was verified. As long as the log was not
    /// replayed, that is nothing: the replay writes over blocks that were read before.
    pub(crate) fn remembered(&self, kind: Kind) -> Kind {
        if self.journal.is_open() {
            kind
        } else {
            Kind::UNKNOWN
        }
    }

    /// Reads the metadata block `block` and checks it with `verify`, unless that was done before.
    ///
    /// What `verify` objects to is reported, with `block` and `inode`, by the caller: this returns it.
    pub(crate) fn read_block(
        &self,
        block: PhysicalBlock,
        kind: Kind,
        verify: impl FnOnce(&[u8]) -> Result<(), Corrupt>,
    ) -> Result<Buffer, BlockError> {
        let kind = self.remembered(kind);
        Buffer::read_verified(self.journal.device(), block.get(), kind, |bytes| {
            verify(bytes).map_err(BlockError::Corrupt)
        })
    }
}

/// Why a metadata block cannot be used.
#[derive(Debug)]
pub(crate) enum BlockError {
    /// It cannot be read.
    Io(Error),
    /// Its contents are wrong.
    Corrupt(Corrupt),
}

impl From<Error> for BlockError {
    fn from(error: Error) -> Self {
        Self::Io(error)
    }
}

impl BlockError {
    /// Reports it and returns the error for the operation that met it.
    #[track_caller]
    pub(crate) fn report(self, sb: &crate::SuperBlock, place: crate::error::Place) -> Error {
        match self {
            Self::Io(EIO) => crate::error::io_failed(sb, place, "cannot be read"),
            Self::Io(error) => error,
            Self::Corrupt(what) => crate::error::corrupt(sb, place, what),
        }
    }
}
