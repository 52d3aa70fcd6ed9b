// SPDX-License-Identifier: GPL-2.0

//! How the operations on a directory reach its blocks.

use core::ops::Deref;
use core::ops::DerefMut;

use super::format::BlockKind;
use super::format::DirFormat;
use crate::error::Corrupt;
use crate::types::LogicalBlock;

/// The blocks of a directory, to read.
pub trait DirReader {
    /// What can go wrong: a read that fails, or a directory that is corrupt.
    type Error: From<Corrupt>;
    /// A block that is held in memory.
    type Block: Deref<Target = [u8]>;

    /// The size of the directory in blocks.
    fn blocks(&self) -> u32;

    /// Reads a block.
    ///
    /// The first time that a block comes from disk the store checks it with
    /// [`DirFormat::verify_block`], for which it is told what the block should hold. A block that is not
    /// mapped (a hole) is an error: directories have none.
    ///
    /// `block` lies below [`Self::blocks`].
    fn read(&self, block: LogicalBlock, kind: BlockKind) -> Result<Self::Block, Self::Error>;
}

/// The blocks of a directory, to give their entries to a stranger, who may do anything meanwhile but change the
/// directory.
pub trait DirLister: DirReader {
    /// The first bytes of a block. Nothing is held for it.
    type Copy: Deref<Target = [u8]>;

    /// Copies the first `length` bytes of a block and lets go of it.
    fn copy(&self, block: Self::Block, length: usize) -> Result<Self::Copy, Self::Error>;
}

/// The blocks of a directory, to change, all in one transaction.
pub trait DirStore: DirReader {
    /// A block that is changed in place. When it is dropped, what it holds is part of the transaction.
    ///
    /// Its checksum is up to date by then.
    type BlockMut: DerefMut<Target = [u8]>;

    /// A copy of a block that is changed. When it is dropped, the block becomes what the copy is, as part of
    /// the transaction. Its checksum is up to date by then.
    type Draft: DerefMut<Target = [u8]>;

    /// Asks for write access to a block that was read, to change it in place.
    ///
    /// For a change of this one block: no other block is held then, and nothing is asked of the store until
    /// it is dropped. So the store may lock blocks, even if the same one is damaged into two places.
    fn modify(&mut self, block: Self::Block) -> Result<Self::BlockMut, Self::Error>;

    /// Asks for write access to a block that was read, to change it together with others.
    ///
    /// No other [`DirReader::Block`] is held then; drafts may be. When this fails nothing has changed.
    fn stage(&mut self, block: Self::Block) -> Result<Self::Draft, Self::Error>;

    /// Allocates a block at the end of the directory, to be filled in place. The directory is then one block
    /// larger.
    ///
    /// Nothing but drafts is held then. Until the block is dropped, nothing is asked of the store and no
    /// draft is dropped. What the block holds does not matter. When this fails the directory is as it was.
    fn append(&mut self) -> Result<(LogicalBlock, Self::BlockMut), Self::Error>;

    /// Sets the flag `INDEX` of the directory's inode, as the directory now has an index.
    ///
    /// Called when everything that can fail has succeeded.
    fn set_indexed(&mut self);
}

impl<R: DirReader> DirReader for &R {
    type Error = R::Error;
    type Block = R::Block;

    fn blocks(&self) -> u32 {
        (**self).blocks()
    }

    fn read(&self, block: LogicalBlock, kind: BlockKind) -> Result<Self::Block, Self::Error> {
        (**self).read(block, kind)
    }
}

/// A block that is being changed and gets its checksum when that is over.
pub(crate) struct Changing<B: DerefMut<Target = [u8]>> {
    format: DirFormat,
    kind: BlockKind,
    block: B,
}

impl<B: DerefMut<Target = [u8]>> Changing<B> {
    /// `block` will hold what `kind` says.
    pub(crate) fn new(format: &DirFormat, kind: BlockKind, block: B) -> Self {
        Self {
            format: *format,
            kind,
            block,
        }
    }

    /// The bytes of the block.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.block
    }

    /// From now on the block holds something else.
    pub(crate) fn becomes(&mut self, kind: BlockKind) {
        self.kind = kind;
    }
}

impl<B: DerefMut<Target = [u8]>> Drop for Changing<B> {
    fn drop(&mut self) {
        self.format.seal(self.kind, &mut self.block);
    }
}
