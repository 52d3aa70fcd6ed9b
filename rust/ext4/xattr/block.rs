// SPDX-License-Identifier: GPL-2.0

//! The header of a block of attributes, its hashes and its checksum.

use core::mem::offset_of;

use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use super::error::XattrError;
use super::table::Table;
use super::table::MAGIC;
use crate::checksum::Checksummer;
use crate::error::Corrupt;
use crate::types::PhysicalBlock;

/// The header of a block of attributes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
pub struct BlockHeader {
    magic: U32,
    references: U32,
    blocks: U32,
    hash: U32,
    checksum: U32,
    reserved: [U32; 3],
}

impl BlockHeader {
    /// How many inodes can share a block.
    pub const MAX_REFERENCES: u32 = 1024;

    /// The header of a block.
    pub fn parse(block: &[u8]) -> Result<&Self, XattrError> {
        let (header, _) =
            Self::ref_from_prefix(block).map_err(|_| XattrError::Unterminated { entry: 0 })?;
        if header.magic.get() != MAGIC {
            return Err(XattrError::Magic {
                found: header.magic.get(),
            });
        }
        if header.blocks.get() != 1 || header.references.get() == 0 {
            return Err(XattrError::Header {
                blocks: header.blocks.get(),
                references: header.references.get(),
            });
        }
        Ok(header)
    }

    /// The header of a block, to be changed.
    pub(super) fn parse_mut(block: &mut [u8]) -> Result<&mut Self, XattrError> {
        Self::parse(block)?;
        let (header, _) =
            Self::mut_from_prefix(block).map_err(|_| XattrError::Unterminated { entry: 0 })?;
        Ok(header)
    }

    /// Makes a block without attributes, with one user.
    ///
    /// Such a block is not valid on disk: it needs an attribute, and a checksum.
    pub fn init(block: &mut [u8]) -> Result<(), XattrError> {
        block.fill(0);
        let (header, _) =
            Self::mut_from_prefix(block).map_err(|_| XattrError::Unterminated { entry: 0 })?;
        header.magic = U32::new(MAGIC);
        header.references = U32::new(1);
        header.blocks = U32::new(1);
        Ok(())
    }

    /// How many inodes use the block.
    pub fn references(&self) -> u32 {
        self.references.get()
    }

    /// The hash of all attributes, by which equal blocks are found. 0 when the block may not be shared.
    pub fn hash(&self) -> u32 {
        self.hash.get()
    }

    /// Changes how many inodes use the block. The checksum has to be stored afterwards.
    pub fn set_references(block: &mut [u8], references: u32) -> Result<(), XattrError> {
        Self::parse_mut(block)?.references = U32::new(references);
        Ok(())
    }

    fn checksum(block: &[u8], number: PhysicalBlock, checksum: Checksummer) -> Checksummer {
        let hole = offset_of!(Self, checksum);
        checksum
            .with_u64(number.get())
            .with_bytes_but(block, hole..hole + size_of::<U32>())
    }

    /// Checks all of a block that was read from disk: checksum, header and attributes.
    ///
    /// `number` is its block number, which the checksum covers; `checksum` is the filesystem's, `None` without
    /// `metadata_csum`. `ea_inode` is the feature of that name.
    pub fn verify(
        block: &[u8],
        number: PhysicalBlock,
        checksum: Option<Checksummer>,
        ea_inode: bool,
    ) -> Result<(), Corrupt> {
        let header = Self::parse(block)?;
        if let Some(checksum) = checksum {
            Self::checksum(block, number, checksum).verify(header.checksum.get())?;
        }
        Table::in_block(block, ea_inode)?;
        Ok(())
    }

    /// Stores the checksum in a block that was changed. Does nothing without `metadata_csum`.
    pub fn update_checksum(
        block: &mut [u8],
        number: PhysicalBlock,
        checksum: Option<Checksummer>,
    ) -> Result<(), XattrError> {
        if let Some(checksum) = checksum {
            let value = Self::checksum(block, number, checksum).value();
            Self::parse_mut(block)?.checksum = U32::new(value);
        }
        Ok(())
    }

    pub(super) fn set_hash(&mut self, hash: u32) {
        self.hash = U32::new(hash);
    }
}

/// The hash of an attribute in a block: first the bytes of the name, then the value in words of 32 bits,
/// with zeroes at its end when it is no multiple of four bytes long.
pub(super) fn entry_hash(suffix: &[u8], value: &[u8]) -> u32 {
    const NAME_SHIFT: u32 = 5;
    const VALUE_SHIFT: u32 = 16;

    let of_name = suffix.iter().fold(0_u32, |hash, &byte| {
        hash.rotate_left(NAME_SHIFT) ^ u32::from(byte)
    });
    value.chunks(4).fold(of_name, |hash, chunk| {
        let mut word = [0; 4];
        for (to, &from) in word.iter_mut().zip(chunk) {
            *to = from;
        }
        hash.rotate_left(VALUE_SHIFT) ^ u32::from_le_bytes(word)
    })
}

/// The hash of all attributes of a block; 0 when one of them has none.
pub(super) fn block_hash(table: &Table<'_>) -> u32 {
    const SHIFT: u32 = 16;

    let mut hash = 0_u32;
    for entry in table.entries() {
        if entry.hash == 0 {
            return 0;
        }
        hash = hash.rotate_left(SHIFT) ^ entry.hash;
    }
    hash
}
