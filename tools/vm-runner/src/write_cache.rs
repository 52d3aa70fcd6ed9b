// SPDX-License-Identifier: GPL-2.0

//! A disk with a volatile write cache, for tests that cut the power.
//!
//! When QEMU is killed, everything that the guest has written is still in the host's memory, so that a flush that the guest
//! forgot goes unnoticed. This disk behaves as real ones do: a write stays in memory until the guest flushes, the write
//! itself asks for stable media (FUA), or the cache destages it, which it does in an order of its own, block by block.
//! Whoever kills the process cuts the power: what was destaged by chance is on the disk, the rest is gone.
//!
//! A block, of 4 KiB, comes to the disk as a whole or not at all, as with all disks of today: the format relies on it, as
//! it has structures of more than one sector, the super block among them, that are not written through the journal.

use anyhow::Context;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// What a request consists of, in bytes.
pub const SECTOR: u64 = 512;
/// What a disk writes in one piece, in sectors.
const BLOCK_SECTORS: u64 = 8;
/// How many sectors the cache holds: 32 MiB. Beyond that it has to destage.
const CAPACITY: usize = 65536;
/// One block in so many is destaged at once when it is written.
const DESTAGE_ONE_IN: u64 = 3;

/// How the disk knows of a write that asks for stable media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StableWrites {
    /// Such a write is marked.
    Marked,
    /// The marks get lost on their way to the disk, so that every write that may have had one must be taken for marked:
    /// those of one block at most. The only ones that the tests' file systems mark are of that size, the commit blocks of
    /// journals and super blocks. That leaves the larger writes to lose.
    Guessed,
}

/// A file as a disk with a write cache.
pub struct CachedDisk {
    file: File,
    size: u64,
    cache: BTreeMap<u64, Box<[u8; SECTOR as usize]>>,
    random: u64,
    stable_writes: StableWrites,
}

impl CachedDisk {
    /// The disk in `file`, with a cache whose choices follow from `seed`.
    pub fn new(file: File, seed: u64, stable_writes: StableWrites) -> anyhow::Result<CachedDisk> {
        let size = file
            .metadata()
            .context("asking for the size of a disk")?
            .len();
        anyhow::ensure!(
            size > 0 && size % SECTOR == 0,
            "a disk of {size} bytes does not consist of sectors"
        );
        Ok(CachedDisk {
            file,
            size,
            cache: BTreeMap::new(),
            random: seed,
            stable_writes,
        })
    }

    /// The disk's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a request lies on the disk and consists of sectors.
    pub fn is_valid(&self, offset: u64, length: u64) -> bool {
        offset % SECTOR == 0
            && length % SECTOR == 0
            && offset
                .checked_add(length)
                .is_some_and(|end| end <= self.size)
    }

    /// Reads whole sectors into `data`.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(data, offset)?;
        let first = offset / SECTOR;
        let count = data.len() as u64 / SECTOR;
        for (sector, cached) in self.cache.range(first..first + count) {
            let start = ((sector - first) * SECTOR) as usize;
            data[start..start + SECTOR as usize].copy_from_slice(&cached[..]);
        }
        Ok(())
    }

    /// Writes whole sectors: to the cache, or with `stable` to the disk itself.
    pub fn write(&mut self, offset: u64, data: &[u8], stable: bool) -> std::io::Result<()> {
        let first = offset / SECTOR;
        let is_small = data.len() as u64 <= BLOCK_SECTORS * SECTOR;
        let stable = stable || (self.stable_writes == StableWrites::Guessed && is_small);
        for (sector, piece) in (first..).zip(data.chunks_exact(SECTOR as usize)) {
            let mut copy = Box::new([0; SECTOR as usize]);
            copy.copy_from_slice(piece);
            // Also what goes to the disk at once: an older version in the cache must not come out later, and what is
            // destaged is the whole block as it is now.
            self.cache.insert(sector, copy);
            let ends_block = (sector + 1) % BLOCK_SECTORS == 0
                || (sector + 1 - first) * SECTOR == data.len() as u64;
            if ends_block && (stable || self.random() % DESTAGE_ONE_IN == 0) {
                self.destage(sector / BLOCK_SECTORS)?;
            }
        }
        while self.cache.len() > CAPACITY {
            self.destage_one()?;
        }
        Ok(())
    }

    /// Puts everything that was written on the disk itself.
    pub fn flush(&mut self) -> std::io::Result<()> {
        for (sector, data) in std::mem::take(&mut self.cache) {
            self.file.write_all_at(&data[..], sector * SECTOR)?;
        }
        Ok(())
    }

    fn destage_one(&mut self) -> std::io::Result<()> {
        let from = self.random() % (self.size / SECTOR);
        let sector = self.cache.range(from..).chain(&self.cache).next();
        match sector.map(|(sector, _)| *sector) {
            Some(sector) => self.destage(sector / BLOCK_SECTORS),
            None => Ok(()),
        }
    }

    /// Brings what the cache has of a block to the disk.
    fn destage(&mut self, block: u64) -> std::io::Result<()> {
        for sector in block * BLOCK_SECTORS..(block + 1) * BLOCK_SECTORS {
            if let Some(data) = self.cache.remove(&sector) {
                self.file.write_all_at(&data[..], sector * SECTOR)?;
            }
        }
        Ok(())
    }

    /// The SplitMix64 generator.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTORS: u64 = 256;

    fn disk(stable_writes: StableWrites) -> (CachedDisk, File) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SECTORS * SECTOR).unwrap();
        let seen = file.try_clone().unwrap();
        (CachedDisk::new(file, 7, stable_writes).unwrap(), seen)
    }

    /// How many sectors of the file itself are not zero.
    fn on_media(file: &File) -> usize {
        let mut bytes = vec![0; (SECTORS * SECTOR) as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
            .chunks(SECTOR as usize)
            .filter(|sector| sector.iter().any(|byte| *byte != 0))
            .count()
    }

    #[test]
    fn the_guest_reads_what_it_wrote_wherever_that_is() {
        let (mut disk, _) = disk(StableWrites::Marked);
        let data: Vec<u8> = (0..64 * SECTOR).map(|index| (index / 7) as u8).collect();
        disk.write(8 * SECTOR, &data, false).unwrap();
        let mut read = vec![0; data.len()];
        disk.read(8 * SECTOR, &mut read).unwrap();
        assert_eq!(read, data);
    }

    #[test]
    fn without_a_flush_a_part_is_lost_and_with_it_none() {
        let (mut disk, file) = disk(StableWrites::Marked);
        disk.write(0, &vec![1; (SECTORS * SECTOR) as usize], false)
            .unwrap();
        let destaged = on_media(&file);
        assert!(destaged > 0 && destaged < SECTORS as usize, "{destaged}");
        disk.flush().unwrap();
        assert_eq!(on_media(&file), SECTORS as usize);
    }

    #[test]
    fn a_stable_write_is_on_media_and_stays_the_newest() {
        let (mut disk, file) = disk(StableWrites::Marked);
        disk.write(0, &[1; 64 * SECTOR as usize], false).unwrap();
        disk.write(0, &[2; 64 * SECTOR as usize], true).unwrap();
        disk.flush().unwrap();
        let mut bytes = vec![0; 64 * SECTOR as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 2));
    }

    #[test]
    fn a_block_is_lost_as_a_whole() {
        let (mut disk, file) = disk(StableWrites::Marked);
        disk.write(0, &vec![1; (SECTORS * SECTOR) as usize], false)
            .unwrap();
        let mut bytes = vec![0; (SECTORS * SECTOR) as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        for block in bytes.chunks((BLOCK_SECTORS * SECTOR) as usize) {
            assert!(block.iter().all(|byte| *byte == block[0]));
        }
    }

    #[test]
    fn where_marks_get_lost_a_small_write_counts_as_marked() {
        let (mut disk, file) = disk(StableWrites::Guessed);
        for block in 0..SECTORS / BLOCK_SECTORS {
            disk.write(block * 4096, &[1; 4096], false).unwrap();
        }
        assert_eq!(on_media(&file), SECTORS as usize);
        disk.write(0, &vec![0; (SECTORS * SECTOR) as usize], false)
            .unwrap();
        assert!(on_media(&file) > 0);
    }

    #[test]
    fn requests_beyond_the_end_or_within_sectors_are_invalid() {
        let (disk, _) = disk(StableWrites::Marked);
        assert!(disk.is_valid(0, SECTORS * SECTOR));
        assert!(!disk.is_valid(SECTOR, SECTORS * SECTOR));
        assert!(!disk.is_valid(1, SECTOR));
        assert!(!disk.is_valid(u64::MAX - SECTOR + 1, 2 * SECTOR));
    }
}
