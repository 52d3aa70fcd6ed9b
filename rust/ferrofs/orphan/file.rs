// SPDX-License-Identifier: GPL-2.0

//! The orphan file.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use ext4::orphan_file;
use ext4::orphan_file::OrphanBlock;
use ext4::Checksummer;
use ext4::Corrupt;
use ext4::InodeNumber;
use ext4::PhysicalBlock;
use kernel::prelude::*;
use vfs::buffer::Buffer;
use vfs::transaction::Seal;
use vfs::transaction::Transaction;

use crate::error;
use crate::error::Place;
use crate::inode;
use crate::map;
use crate::volume::kind;
use crate::Inode;
use crate::InodeRef;
use crate::SuperBlock;

/// Where in the file an orphan is.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) block: u32,
    pub(super) slot: u32,
}

/// One block of the file.
struct Block {
    buffer: Buffer,
    /// How many slots are free and not promised to somebody who is about to take one.
    free: AtomicU32,
}

impl Block {
    /// Takes one from the count of free slots. `false` when there is none.
    fn promise_slot(&self) -> bool {
        self.free
            .fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1))
            .is_ok()
    }
}

/// The orphan file of a mount, all of it in memory.
pub(super) struct File {
    blocks: KVVec<Block>,
    /// The checksum of the file's inode.
    seed: Option<Checksummer>,
}

/// Makes the checksum of a block right.
struct OrphanSeal {
    seed: Option<Checksummer>,
    block: PhysicalBlock,
}

impl Seal for OrphanSeal {
    fn seal(&self, bytes: &mut [u8]) {
        if let Some(block) = OrphanBlock::from_bytes_mut(bytes) {
            block.update_checksum(self.seed, self.block);
        }
    }
}

impl File {
    /// Reads and verifies all blocks of the file. Damage is reported.
    pub(super) fn open(sb: &SuperBlock, number: InodeNumber) -> Result<Self> {
        let inode = inode::get(sb, number)?;
        let place = Place::inode(number);
        let geometry = &sb.data().layout.geometry;
        let count = orphan_file::block_count(inode.size(), geometry.block_size())
            .map_err(|what| error::corrupt(sb, place, what))?;
        let mut file = Self {
            blocks: KVVec::with_capacity(count as usize, GFP_KERNEL)?,
            seed: inode.data().checksum(),
        };
        for index in 0..count as u32 {
            let block = map::lookup(&inode, index, 1)?
                .written()
                .ok_or_else(|| error::corrupt(sb, place, "a hole in the orphan file"))?;
            file.blocks.push(file.read(sb, block)?, GFP_KERNEL)?;
        }
        Ok(file)
    }

    fn read(&self, sb: &SuperBlock, at: PhysicalBlock) -> Result<Block> {
        let volume = sb.data();
        let geometry = &volume.layout.geometry;
        let buffer = volume
            .read_block(at, kind::ORPHAN_FILE, |bytes| {
                let block = OrphanBlock::from_bytes(bytes).ok_or(Corrupt::Truncated {
                    needed: geometry.block_size().bytes(),
                    found: bytes.len(),
                })?;
                Ok(block.validate(self.seed, at, geometry)?)
            })
            .map_err(|what| what.report(sb, Place::block(at)))?;
        let free = OrphanBlock::from_bytes(&buffer.data()).map_or(0, OrphanBlock::free_count);
        Ok(Block {
            buffer,
            free: AtomicU32::new(free),
        })
    }

    fn seal(&self, block: &Block) -> OrphanSeal {
        OrphanSeal {
            seed: self.seed,
            block: PhysicalBlock::new(block.buffer.block()),
        }
    }

    /// Puts an orphan into a free slot; `None` when there is none.
    pub(super) fn add(&self, txn: &Transaction<'_>, inode: &Inode) -> Result<Option<Slot>> {
        let number = inode::number(inode);
        let count = self.blocks.len();
        for step in 0..count {
            // Neighbours begin in different blocks, for the sake of those who run at the same time.
            let index = (number.get() as usize + step) % count;
            let block = &self.blocks[index];
            if !block.promise_slot() {
                continue;
            }
            let slot = match self.fill(txn, block, number) {
                Ok(slot) => slot,
                Err(error) => {
                    block.free.fetch_add(1, Relaxed);
                    return Err(error);
                }
            };
            return Ok(Some(Slot {
                block: index as u32,
                slot,
            }));
        }
        Ok(None)
    }

    /// Puts an orphan into a slot of `block`, which has one for it. Takes a credit.
    fn fill(&self, txn: &Transaction<'_>, block: &Block, number: InodeNumber) -> Result<u32> {
        let mut bytes = txn.write(&block.buffer, self.seal(block))?;
        OrphanBlock::from_bytes_mut(&mut bytes)
            .and_then(|block| block.add(number, 0))
            .ok_or(EIO)
    }

    /// Frees the slot of an orphan.
    pub(super) fn remove(&self, txn: &Transaction<'_>, inode: &Inode, place: Slot) -> Result {
        let number = inode::number(inode);
        let block = self.blocks.get(place.block as usize).ok_or(EINVAL)?;
        let removed = {
            let mut bytes = txn.write(&block.buffer, self.seal(block))?;
            OrphanBlock::from_bytes_mut(&mut bytes)
                .ok_or(EINVAL)?
                .remove(number, place.slot)
        };
        removed.map_err(|what| {
            let at = PhysicalBlock::new(block.buffer.block());
            error::corrupt(inode.sb(), Place::both(number, at), what)
        })?;
        block.free.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Gathers the orphans that the last mount has left, and notes their slots.
    pub(super) fn collect(&self, sb: &SuperBlock, inodes: &mut KVVec<InodeRef>) -> Result {
        for (index, block) in (0..).zip(self.blocks.iter()) {
            let mut found = KVVec::new();
            if let Some(block) = OrphanBlock::from_bytes(&block.buffer.data()) {
                for orphan in block.orphans() {
                    found.push(orphan, GFP_KERNEL)?;
                }
            }
            for (slot, number) in found {
                // One that is not in use after all is reported and left to e2fsck.
                let Ok(inode) = inode::get_orphan(sb, number) else {
                    continue;
                };
                inode
                    .data()
                    .orphan
                    .set_slot(Some(Slot { block: index, slot }));
                inodes.push(inode, GFP_KERNEL)?;
            }
        }
        Ok(())
    }
}
