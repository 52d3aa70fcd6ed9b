// SPDX-License-Identifier: GPL-2.0

//! Where the operations on directories get their blocks from.
//!
//! The algorithms are those of [`ext4::dir`]. They see a directory as blocks that can be read, changed and
//! appended; here these come from the buffers of the device, through the directory's map.
//!
//! All read the buffers in place, and what changes one block ([`DirStore::modify`]) does so in place. What
//! changes several blocks together ([`DirStore::stage`]) works on copies, which go back within the
//! transaction. So nobody has exclusive access to the contents of a buffer while it waits for anything else,
//! be it the allocator or another block. On a damaged disk the same block may be part of the directory
//! twice, or of the directory and of its map; with the contents held, that would be a wait for oneself.
//!
//! The inode's lock is held all the while, shared for [`Blocks`] and exclusive for [`BlocksMut`].

use core::ops::Deref;
use core::ops::DerefMut;

use ext4::dir::BlockKind;
use ext4::dir::DirFormat;
use ext4::dir::DirLister;
use ext4::dir::DirReader;
use ext4::dir::DirStore;
use ext4::dir::Directory;
use ext4::dir::DirectoryError;
use ext4::inode::InodeFlags;
use ext4::Corrupt;
use ext4::LogicalBlock;
use ext4::PhysicalBlock;
use kernel::alloc::KVVec;
use kernel::prelude::*;
use vfs::buffer::Buffer;
use vfs::buffer::Kind;
use vfs::buffer::OwnedBufferData;
use vfs::transaction::BufferMut;
use vfs::transaction::Transaction;
use vfs::transaction::Unsealed;

use crate::error;
use crate::error::Place;
use crate::extent_status::Status;
use crate::inode;
use crate::map;
use crate::volume::kind;
use crate::Inode;

/// Why an operation on a directory failed.
#[derive(Debug)]
pub(crate) enum DirError {
    /// Something else than the directory.
    Errno(Error),
    /// A block cannot be read: what the directory holds is not known.
    Unreadable(PhysicalBlock),
    /// What is on the disk is wrong; the block, if it is known which.
    Corrupt(Corrupt, Option<PhysicalBlock>),
}

impl From<Corrupt> for DirError {
    fn from(what: Corrupt) -> Self {
        Self::Corrupt(what, None)
    }
}

impl From<Error> for DirError {
    fn from(error: Error) -> Self {
        Self::Errno(error)
    }
}

impl DirError {
    /// Reports damage of the directory `dir`, and blocks of it that cannot be read; gives the error for the operation that met it.
    #[track_caller]
    pub(crate) fn report(self, dir: &Inode) -> Error {
        match self {
            Self::Errno(error) => error,
            Self::Unreadable(block) => {
                let place = Place::both(inode::number(dir), block);
                error::io_failed(dir.sb(), place, "a block of the directory cannot be read")
            }
            Self::Corrupt(what, block) => {
                let place = Place {
                    inode: Some(inode::number(dir)),
                    block,
                };
                error::corrupt(dir.sb(), place, what)
            }
        }
    }
}

/// What the format of the directory `dir` depends on.
pub(crate) fn format(dir: &Inode) -> DirFormat {
    DirFormat::with_checksum(&dir.sb().data().layout, dir.data().checksum())
}

/// The block of `dir` in which an entry was found. Sleeps.
///
/// As long as it is held, it stays in memory: see [`inode::hold`].
///
/// # Errors
///
/// Those of reading it, which are reported.
pub(crate) fn hold(dir: &Inode, block: LogicalBlock) -> Result<Buffer> {
    let kind = if block == LogicalBlock::ZERO && open(dir).is_indexed() {
        BlockKind::Root
    } else {
        BlockKind::Leaf
    };
    let read = Reader::new(dir).read(block, kind);
    read.map_err(|error| error.report(dir))
}

/// The directory `dir`, to look at.
pub(crate) fn open(dir: &Inode) -> Directory<Blocks<'_>> {
    Directory::new(Blocks(Reader::new(dir)), format(dir), is_indexed(dir))
}

/// The directory `dir`, to change it within the transaction `txn`.
pub(crate) fn open_mut<'t>(txn: &'t Transaction<'t>, dir: &'t Inode) -> Directory<BlocksMut<'t>> {
    dir.data().dir.will_change();
    let store = BlocksMut {
        reader: Reader::new(dir),
        txn,
    };
    Directory::new(store, format(dir), is_indexed(dir))
}

/// The size of the directory `dir` in blocks.
pub(crate) fn block_count(dir: &Inode) -> u32 {
    let blocks = dir.size() >> dir.sb().block_bits();
    u32::try_from(blocks).unwrap_or(u32::MAX)
}

fn is_indexed(dir: &Inode) -> bool {
    dir.data().flags().contains(InodeFlags::INDEX)
}

/// As what a buffer is remembered that was verified as this kind of block.
fn kind_of(kind: BlockKind) -> Kind {
    match kind {
        BlockKind::Leaf => kind::DIRECTORY,
        BlockKind::Root => kind::DIRECTORY_ROOT,
        BlockKind::Node => kind::DIRECTORY_NODE,
    }
}

/// What all stores have in common.
struct Reader<'a> {
    dir: &'a Inode,
}

impl<'a> Reader<'a> {
    fn new(dir: &'a Inode) -> Self {
        Self { dir }
    }

    fn blocks(&self) -> u32 {
        block_count(self.dir)
    }

    /// The buffer of a block, whose contents were verified.
    fn read(&self, block: LogicalBlock, kind: BlockKind) -> Result<Buffer, DirError> {
        let run = map::lookup(self.dir, block, 1)?;
        let Status::Written(physical) = run.status else {
            return Err(Corrupt::from(DirectoryError::Hole { block: block.get() }).into());
        };
        let volume = self.dir.sb().data();
        let verify = |bytes: &[u8]| {
            format(self.dir)
                .verify_block(kind, bytes, self.blocks())
                .map_err(|what| DirError::Corrupt(what, Some(physical)))
        };
        Buffer::read_verified(
            volume.journal.device(),
            physical.get(),
            volume.remembered(kind_of(kind)),
            verify,
        )
        .map_err(|error| match error {
            DirError::Errno(EIO) => DirError::Unreadable(physical),
            error => error,
        })
    }
}

/// The blocks of a directory, read in place.
pub(crate) struct Blocks<'a>(Reader<'a>);

impl DirReader for Blocks<'_> {
    type Error = DirError;
    type Block = OwnedBufferData;

    fn blocks(&self) -> u32 {
        self.0.blocks()
    }

    fn read(&self, block: LogicalBlock, kind: BlockKind) -> Result<OwnedBufferData, DirError> {
        Ok(self.0.read(block, kind)?.into_data())
    }
}

/// For who gives names to a program, whose memory may have to be read from a file of this very file system first.
impl DirLister for Blocks<'_> {
    type Copy = KVVec<u8>;

    fn copy(&self, block: OwnedBufferData, length: usize) -> Result<KVVec<u8>, DirError> {
        // What is let go of here does not change: the directory is locked.
        Ok(copy_of(&block.into_buffer(), length)?)
    }
}

/// A copy of the first `length` bytes of a block. No memory is allocated while the contents are held.
fn copy_of(buffer: &Buffer, length: usize) -> Result<KVVec<u8>> {
    let mut bytes = KVVec::with_capacity(length, GFP_KERNEL)?;
    let data = buffer.data();
    bytes.extend_from_slice(data.get(..length).ok_or(EINVAL)?, GFP_KERNEL)?;
    Ok(bytes)
}

/// A copy of a block.
pub(crate) struct BlockCopy {
    buffer: Buffer,
    bytes: KVVec<u8>,
}

impl BlockCopy {
    fn new(buffer: Buffer) -> Result<Self> {
        let bytes = copy_of(&buffer, buffer.len())?;
        Ok(Self { buffer, bytes })
    }
}

impl Deref for BlockCopy {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The blocks of a directory, to change them in one transaction.
pub(crate) struct BlocksMut<'t> {
    reader: Reader<'t>,
    txn: &'t Transaction<'t>,
}

impl DirReader for BlocksMut<'_> {
    type Error = DirError;
    type Block = OwnedBufferData;

    fn blocks(&self) -> u32 {
        self.reader.blocks()
    }

    fn read(&self, block: LogicalBlock, kind: BlockKind) -> Result<OwnedBufferData, DirError> {
        Ok(self.reader.read(block, kind)?.into_data())
    }
}

/// A copy of a block that goes back into its buffer when it is dropped.
pub(crate) struct BlockChange<'t> {
    copy: BlockCopy,
    txn: &'t Transaction<'t>,
}

impl Deref for BlockChange<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.copy.bytes
    }
}

impl DerefMut for BlockChange<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.copy.bytes
    }
}

impl Drop for BlockChange<'_> {
    fn drop(&mut self) {
        // The transaction has the buffer already, so this fails only when the journal was aborted: then
        // nothing of the transaction reaches the disk, and its end says so.
        if let Ok(mut block) = self.txn.write(&self.copy.buffer, Unsealed) {
            block.copy_from_slice(&self.copy.bytes);
        }
    }
}

impl<'t> DirStore for BlocksMut<'t> {
    type BlockMut = BufferMut<'t>;
    type Draft = BlockChange<'t>;

    fn modify(&mut self, block: OwnedBufferData) -> Result<BufferMut<'t>, DirError> {
        let buffer = block.into_buffer();
        Ok(self.txn.write(&buffer, Unsealed)?)
    }

    fn stage(&mut self, block: OwnedBufferData) -> Result<BlockChange<'t>, DirError> {
        let copy = BlockCopy::new(block.into_buffer())?;
        // Whatever can fail does so before anything changes.
        drop(self.txn.write(&copy.buffer, Unsealed)?);
        Ok(BlockChange {
            copy,
            txn: self.txn,
        })
    }

    fn append(&mut self) -> Result<(LogicalBlock, BufferMut<'t>), DirError> {
        let dir = self.reader.dir;
        let number = self.blocks();
        let block_size = u64::from(dir.sb().block_size());
        let size = (u64::from(number) + 1) * block_size;
        let limit = u64::from(dir.sb().data().settings().max_dir_size_kb) * 1024;
        if limit != 0 && size > limit {
            return Err(ENOSPC.into());
        }
        let number = LogicalBlock::new(number);
        let run = map::create(self.txn, dir, number, 1)?;
        let Status::Written(physical) = run.status else {
            return Err(EIO.into());
        };
        let buffer = {
            let block = self.txn.create(physical.get(), Kind::UNKNOWN, Unsealed)?;
            block.buffer().clone()
        };
        dir.set_size(size);
        dir.data().set_disk_size(size);
        inode::update(self.txn, dir)?;
        Ok((number, self.txn.write(&buffer, Unsealed)?))
    }

    fn set_indexed(&mut self) {
        let data = self.reader.dir.data();
        data.set_flags(data.flags().with(InodeFlags::INDEX));
    }
}
