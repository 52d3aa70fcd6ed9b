// SPDX-License-Identifier: GPL-2.0

//! The blocks of an extent tree, read and changed through the journal.

use ext4::extent::Expected;
use ext4::extent::Footprint;
use ext4::extent::NodeReader;
use ext4::extent::NodeStore;
use ext4::extent::State;
use ext4::BlockCount;
use ext4::Checksummer;
use ext4::Corrupt;
use ext4::PhysicalBlock;
use kernel::error::code::ENOSPC;
use kernel::prelude::*;
use vfs::buffer::Buffer;
use vfs::buffer::OwnedBufferData;
use vfs::transaction::BufferMut;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;
use vfs::transaction::Unsealed;

use crate::alloc;
use crate::alloc::blocks;
use crate::alloc::blocks::Claim;
use crate::alloc::blocks::Request;
use crate::error;
use crate::error::Place;
use crate::inode;
use crate::volume::kind;
use crate::Inode;
use crate::SuperBlock;

/// Why a tree cannot be used.
pub(super) enum Failure {
    /// An error that was reported, or need not be.
    Errno(Error),
    /// The tree is damaged, in this block if it is known.
    Corrupt(Corrupt, Option<PhysicalBlock>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Errno(error)
    }
}

impl From<Corrupt> for Failure {
    fn from(what: Corrupt) -> Self {
        Self::Corrupt(what, None)
    }
}

impl Failure {
    /// Reports damage, with the inode, and returns the error for the operation. No contents of a buffer
    /// may be held.
    #[track_caller]
    pub(super) fn report(self, inode: &Inode) -> Error {
        match self {
            Self::Errno(error) => error,
            Self::Corrupt(what, block) => {
                let place = Place {
                    inode: Some(inode::number(inode)),
                    block,
                };
                error::corrupt(inode.sb(), place, what)
            }
        }
    }
}

/// Whether a file may own the blocks from `start` on: they are in the file system and not part of its
/// fixed metadata or its journal, unless the file is that.
pub(super) fn may_own(inode: &Inode, start: PhysicalBlock, count: u16) -> bool {
    let volume = inode.sb().data();
    let geometry = &volume.layout.geometry;
    geometry.contains(start, BlockCount::new(count.into()))
        && (!volume.alloc.is_system_zone(start, count.into()) || alloc::is_journal(inode))
}

fn read(inode: &Inode, at: PhysicalBlock, expected: &Expected) -> Result<Buffer, Failure> {
    let sb = inode.sb();
    let volume = sb.data();
    let kind = volume.remembered(kind::EXTENT_NODE);
    Buffer::read_verified(volume.journal.device(), at.get(), kind, |bytes| {
        let valid = |start, count| may_own(inode, start, count);
        expected
            .verify(bytes, inode.data().checksum(), valid)
            .map_err(|what| Failure::Corrupt(what, Some(at)))
    })
}

/// The nodes of a file's tree, to be read.
pub(super) struct Nodes<'a> {
    inode: &'a Inode,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(inode: &'a Inode) -> Self {
        Self { inode }
    }
}

impl NodeReader for Nodes<'_> {
    type Error = Failure;
    type Block = OwnedBufferData;

    fn read(&self, at: PhysicalBlock, expected: &Expected) -> Result<Self::Block, Failure> {
        Ok(read(self.inode, at, expected)?.into_data())
    }
}

/// The nodes of a file's tree, to be changed in a transaction.
pub(super) struct Store<'t> {
    pub(super) txn: &'t Transaction<'t>,
    pub(super) inode: &'t Inode,
    /// How many nodes may still be allocated from what was reserved for them.
    pub(super) reserved: u32,
}

impl NodeReader for Store<'_> {
    type Error = Failure;
    type Block = OwnedBufferData;

    fn read(&self, at: PhysicalBlock, expected: &Expected) -> Result<Self::Block, Failure> {
        Ok(read(self.inode, at, expected)?.into_data())
    }
}

impl<'t> NodeStore for Store<'t> {
    type BlockMut = BufferMut<'t, Unsealed>;

    fn checksum(&self) -> Option<Checksummer> {
        self.inode.data().checksum()
    }

    fn modify(&mut self, at: PhysicalBlock) -> Result<Self::BlockMut, Failure> {
        let device = self.inode.sb().data().journal.device();
        let buffer = Buffer::read(device, at.get())?;
        // The tree seals its nodes itself.
        Ok(self.txn.write(&buffer, Unsealed)?)
    }

    fn allocate(
        &mut self,
        goal: PhysicalBlock,
    ) -> Result<(PhysicalBlock, Self::BlockMut), Failure> {
        let sb = self.inode.sb();
        let request = Request {
            goal,
            adjacent: false,
            count: 1,
            claim: if self.reserved != 0 {
                Claim::Reserved
            } else {
                Claim::Pool
            },
        };
        let block = blocks::allocate(self.txn, sb, &request)?.start;
        self.reserved = self.reserved.saturating_sub(1);
        self.inode.add_bytes(sb.block_size().into());
        let node = self.txn.create(block.get(), kind::EXTENT_NODE, Unsealed)?;
        Ok((block, node))
    }

    fn free(&mut self, at: PhysicalBlock) -> Result<(), Failure> {
        let sb = self.inode.sb();
        // What an insertion has allocated is freed when it fails, for which no revoke was asked for.
        if !self.txn.has(Credits::blocks(0).with_revokes(1))? {
            return Err(ENOSPC.into());
        }
        self.txn.revoke(at.get())?;
        blocks::free(self.txn, sb, at, 1)?;
        self.inode.sub_bytes(sb.block_size().into());
        Ok(())
    }

    fn has_room(&mut self, nodes: Footprint, extents: usize) -> bool {
        let credits = credits(nodes) + free_credits(self.inode.sb(), extents as u32);
        self.txn.has(credits).unwrap_or(false)
    }
}

/// What changing the tree may change, the inode included.
pub(super) fn credits(nodes: Footprint) -> Credits {
    let group = blocks::ALLOCATE_CREDITS.block_count();
    let modified = u32::from(nodes.modified);
    let allocated = u32::from(nodes.allocated) * (1 + group);
    let freed = u32::from(nodes.freed) * group;
    let changed = Credits::blocks(modified + allocated + freed);
    changed.with_revokes(nodes.freed.into()) + inode::UPDATE_CREDITS
}

/// What freeing the blocks of some extents may change.
pub(super) fn free_credits(sb: &SuperBlock, extents: u32) -> Credits {
    let one = blocks::free_credits(sb, State::Written.max_len().into());
    Credits::blocks(one.block_count().saturating_mul(extents))
}
