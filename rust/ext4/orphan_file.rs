// SPDX-License-Identifier: GPL-2.0

//! Blocks of the orphan file.
//!
//! An inode that has lost its last name while it is open, or whose truncation takes more than one
//! transaction, is an *orphan*: after a crash somebody must finish its deletion. With the feature
//! `orphan_file` its number stands in a slot of a block of a hidden file:
//!
//! ```text
//! block size of 1 KiB: 254 slots
//! 0x000  slot 0: inode number, or 0 for a free slot
//! 0x004  slot 1
//! ...
//! 0x3f8  magic 04 ca 10 0b
//! 0x3fc  crc32c of the file's seed, the block's number on disk as le64, and the slots
//! ```
//!
//! So that many may be added and removed at the same time, slots are taken anywhere. When all are
//! taken, the list that begins in the superblock is used instead.
//!
//! Source: `Documentation/filesystems/ext4/orphan.rst`.

#[cfg(test)]
mod tests;

use core::fmt;

use zerocopy::little_endian::U32;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use crate::checksum::BadChecksum;
use crate::BlockSize;
use crate::Checksummer;
use crate::Geometry;
use crate::InodeNumber;
use crate::PhysicalBlock;

/// What the tail's magic number is.
pub const MAGIC: u32 = 0x0b10_ca04;
/// How many blocks an orphan file may have. The kernel's ext4 takes no more, either.
pub const MAX_BLOCKS: u64 = 512;

/// What is wrong with a block of the orphan file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The sentences are below, in `Display`.
pub enum OrphanError {
    Magic { found: u32 },
    Checksum(BadChecksum),
    Inode { slot: u32, found: u32 },
    NotThere { slot: u32, expected: u32 },
    FileSize { found: u64 },
}

impl fmt::Display for OrphanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Magic { found } => {
                write!(f, "orphan block's magic is {found:#x}, not {MAGIC:#x}")
            }
            Self::Checksum(bad) => write!(f, "orphan block's {bad}"),
            Self::Inode { slot, found } => {
                write!(
                    f,
                    "slot {slot} holds inode {found}, which cannot be an orphan"
                )
            }
            Self::NotThere { slot, expected } => {
                write!(f, "slot {slot} does not hold inode {expected}")
            }
            Self::FileSize { found } => write!(f, "orphan file has an impossible size of {found}"),
        }
    }
}

impl core::error::Error for OrphanError {}

/// How many blocks an orphan file has whose inode says that it has `size` bytes.
pub fn block_count(size: u64, block_size: BlockSize) -> Result<u64, OrphanError> {
    let blocks = size >> block_size.bits();
    if blocks << block_size.bits() == size && (1..=MAX_BLOCKS).contains(&blocks) {
        Ok(blocks)
    } else {
        Err(OrphanError::FileSize { found: size })
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Tail {
    magic: U32,
    checksum: U32,
}

/// A block of the orphan file.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct OrphanBlock {
    /// The slots, and the tail, which takes the place of two.
    words: [U32],
}

const TAIL_WORDS: usize = 2;

impl OrphanBlock {
    /// A view of a block; `None` when its length is none of a block.
    pub fn from_bytes(block: &[u8]) -> Option<&Self> {
        BlockSize::from_bytes(u32::try_from(block.len()).ok()?)?;
        Self::ref_from_bytes(block).ok()
    }

    /// Like [`Self::from_bytes`], to be changed.
    pub fn from_bytes_mut(block: &mut [u8]) -> Option<&mut Self> {
        BlockSize::from_bytes(u32::try_from(block.len()).ok()?)?;
        Self::mut_from_bytes(block).ok()
    }

    fn slots(&self) -> &[U32] {
        let count = self.words.len().saturating_sub(TAIL_WORDS);
        &self.words[..count]
    }

    fn tail(&self) -> Option<&Tail> {
        Some(Tail::ref_from_suffix(self.words.as_bytes()).ok()?.1)
    }

    fn tail_mut(&mut self) -> Option<&mut Tail> {
        Some(Tail::mut_from_suffix(self.words.as_mut_bytes()).ok()?.1)
    }

    /// How many slots a block has.
    pub fn slot_count(&self) -> u32 {
        self.slots().len() as u32
    }

    /// How many slots are free.
    pub fn free_count(&self) -> u32 {
        self.slots().iter().filter(|slot| slot.get() == 0).count() as u32
    }

    /// The orphans and their slots.
    pub fn orphans(&self) -> impl Iterator<Item = (u32, InodeNumber)> + '_ {
        (0..)
            .zip(self.slots())
            .filter_map(|(slot, inode)| Some((slot, InodeNumber::new(inode.get())?)))
    }

    /// Makes an empty block of the orphan file of this.
    pub fn init(&mut self) {
        self.words.as_mut_bytes().fill(0);
        if let Some(tail) = self.tail_mut() {
            tail.magic = MAGIC.into();
        }
    }

    /// Puts an orphan into the first free slot from `hint` on, or before it; gives the slot, or `None`
    /// when all are taken.
    pub fn add(&mut self, inode: InodeNumber, hint: u32) -> Option<u32> {
        let count = self.slot_count();
        let hint = if hint < count { hint } else { 0 };
        let slot = (hint..count)
            .chain(0..hint)
            .find(|slot| self.words[*slot as usize].get() == 0)?;
        self.words[slot as usize] = inode.get().into();
        Some(slot)
    }

    /// Frees the slot of an orphan.
    ///
    /// # Errors
    ///
    /// When the slot holds something else; nothing is changed then.
    pub fn remove(&mut self, inode: InodeNumber, slot: u32) -> Result<(), OrphanError> {
        let count = self.slot_count();
        match self.words.get_mut(slot as usize) {
            Some(word) if slot < count && word.get() == inode.get() => {
                *word = 0.into();
                Ok(())
            }
            _ => Err(OrphanError::NotThere {
                slot,
                expected: inode.get(),
            }),
        }
    }

    fn compute_checksum(&self, seed: Checksummer, block: PhysicalBlock) -> Checksummer {
        seed.with_u64(block.get())
            .with_bytes(self.slots().as_bytes())
    }

    /// Makes the checksum right, if there is one. `seed` is that of the orphan file's inode,
    /// [`ValidInode::checksum`](crate::inode::ValidInode::checksum); `block` is where this block lies.
    pub fn update_checksum(&mut self, seed: Option<Checksummer>, block: PhysicalBlock) {
        let Some(seed) = seed else { return };
        let sum = self.compute_checksum(seed, block).value();
        if let Some(tail) = self.tail_mut() {
            tail.checksum = sum.into();
        }
    }

    /// Checks a block that was read: its magic number, its checksum, and that all orphans are inodes
    /// that can be deleted. `seed` and `block` are as for [`Self::update_checksum`].
    pub fn validate(
        &self,
        seed: Option<Checksummer>,
        block: PhysicalBlock,
        geometry: &Geometry,
    ) -> Result<(), OrphanError> {
        let (magic, checksum) = self
            .tail()
            .map_or((0, 0), |tail| (tail.magic.get(), tail.checksum.get()));
        if magic != MAGIC {
            return Err(OrphanError::Magic { found: magic });
        }
        if let Some(seed) = seed {
            self.compute_checksum(seed, block)
                .verify(checksum)
                .map_err(OrphanError::Checksum)?;
        }
        for (slot, inode) in self.orphans() {
            if inode < geometry.first_inode() || geometry.locate_inode(inode).is_none() {
                return Err(OrphanError::Inode {
                    slot,
                    found: inode.get(),
                });
            }
        }
        Ok(())
    }
}
