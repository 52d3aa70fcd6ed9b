// SPDX-License-Identifier: GPL-2.0

//! Reading files into the page cache.
//!
//! A [`Reader`] goes through folios in file order. It asks the map once for each run of blocks and
//! builds bios that grow over folios and runs for as long as the next block lies behind the last one
//! on the disk. What has no blocks, or blocks that were never written, or lies behind the end of the
//! file, is zeroed.

use core::ops::Range;

use ext4::PhysicalBlock;
use kernel::iov::IovIterDest;
use kernel::prelude::*;
use vfs::address_space::FolioRead;
use vfs::bio::Flags;
use vfs::bio::ReadBio;
use vfs::block_device::SECTOR_SIZE;
use vfs::folio::Folio;
use vfs::folio::LockedFolio;
use vfs::folio::ReadingFolio;
use vfs::readahead::Readahead;

use crate::direct;
use crate::extent_status::Run;
use crate::extent_status::Status;
use crate::map;
use crate::write;
use crate::Ferrofs;
use crate::Inode;
use crate::Kiocb;

/// Reads from an open file. Returns the count.
pub(crate) fn read(kiocb: &mut Kiocb<'_>, to: &mut IovIterDest<'_>) -> Result<usize> {
    if to.is_empty() {
        return Ok(0);
    }
    if kiocb.is_direct() {
        direct::read(kiocb, to)
    } else {
        buffered(kiocb, to)
    }
}

/// Reads through the page cache: of what a write changes in one folio, all or nothing. Returns the count.
fn buffered(kiocb: &mut Kiocb<'_>, to: &mut IovIterDest<'_>) -> Result<usize> {
    let inode = kiocb.inode();
    let nowait = kiocb.is_nowait();
    let copying = &inode.data().copying;
    if let Some(moment) = copying.quiet() {
        let read = kiocb.read_from_page_cache_if(to, || copying.quiet_since(moment));
        if let Some(result) = read {
            return result;
        }
    }
    // A write came between. Without writers it cannot happen again.
    let _lock = direct::lock_shared(inode, nowait)?;
    kiocb.read_from_page_cache(to)
}

/// The device sector at which `block` begins.
pub(crate) fn sector(inode: &Inode, block: PhysicalBlock) -> u64 {
    block.get() << (inode.block_bits() - SECTOR_SIZE.trailing_zeros())
}

/// Reads one folio.
pub(crate) fn read_folio(folio: LockedFolio<Ferrofs>) -> Result<FolioRead> {
    let block_size = folio.inode().ok_or(EINVAL)?.block_size();
    let missing = missing_blocks(&folio, block_size);
    let again = folio.share();
    {
        let folio = folio.start_read()?;
        Reader::new(Flags::NONE, folio.size() as u64).fill(folio)?;
        // The bio is sent off when the reader is dropped.
    }
    if missing <= 1 {
        return Ok(FolioRead::Started);
    }
    // A bio that fails does so as a whole. One bad block must not take its neighbours along: they are read
    // one by one then.
    let folio = Folio::lock(again);
    if folio.is_uptodate() {
        return Ok(FolioRead::Started);
    }
    read_blocks(&folio, block_size)?;
    if missing_blocks(&folio, block_size) < missing {
        Ok(FolioRead::Partly)
    } else {
        Ok(FolioRead::Started)
    }
}

/// The number of blocks of `folio` that are not up to date.
fn missing_blocks(folio: &LockedFolio<Ferrofs>, block_size: usize) -> usize {
    let mut count = 0;
    let mut at = 0;
    while let Some(missing) = folio.next_not_uptodate(at..folio.size()) {
        count += missing.len().div_ceil(block_size.max(1));
        at = missing.end;
    }
    count
}

/// Reads the blocks of `folio` that can be, each for itself, and waits for them.
fn read_blocks(folio: &LockedFolio<Ferrofs>, block_size: usize) -> Result {
    // None if the folio was truncated meanwhile.
    let Some(inode) = folio.inode() else {
        return Ok(());
    };
    folio.track_blocks(false)?;
    let mut at = 0;
    while let Some(missing) = folio.next_not_uptodate(at..folio.size()) {
        at = missing.start + block_size;
        // A block that fails stays as it is, and so fails for those who need it.
        let _ = write::fill_block(inode, folio, missing.start, false);
    }
    Ok(())
}

/// Reads ahead. An error is not reported: whoever needs the folio meets it again.
pub(crate) fn readahead(mut folios: Readahead<'_, Ferrofs>) {
    let mut reader = Reader::new(Flags::RAHEAD, folios.len() as u64);
    while let Some(folio) = folios.next() {
        if folio
            .start_read()
            .and_then(|folio| reader.fill(folio))
            .is_err()
        {
            return;
        }
        reader.left = folios.len() as u64;
    }
}

struct Reader {
    flags: Flags,
    /// What the map said last.
    run: Option<Run>,
    /// The bio that is being built.
    bio: Option<ReadBio>,
    /// How many bytes are to be read at most from now on.
    left: u64,
}

impl Reader {
    fn new(flags: Flags, bytes: u64) -> Self {
        Reader {
            flags,
            run: None,
            bio: None,
            left: bytes,
        }
    }

    /// Where `block` of the file is. The lock of its folio keeps that from changing.
    fn run_at(&mut self, inode: &Inode, block: u32) -> Result<Run> {
        if let Some(run) = self.run.filter(|run| (run.start..run.end).contains(&block)) {
            return Ok(run);
        }
        let more = (self.left >> inode.block_bits()).min(u64::from(u32::MAX - block));
        let run = map::lookup(inode, block, (more as u32).max(1))?;
        self.run = Some(run);
        Ok(run)
    }

    /// Has all of `folio` read or zeroed that is not up to date.
    fn fill(&mut self, mut folio: ReadingFolio<Ferrofs>) -> Result {
        let bits = folio.inode().block_bits();
        let mut at = 0;
        while let Some(needed) = folio.next_needed(at) {
            let pos = folio.pos() + needed.start as u64;
            let size = folio.inode().size();
            if pos >= size {
                folio.zero(needed.start..folio.size());
                break;
            }
            let (block, _) = write::blocks(folio.inode(), pos..pos + 1)?;
            let run = self.run_at(folio.inode(), block)?;
            // Blocks behind the one that holds the end of the file are not read: whoever preallocated
            // them or wrote them before a truncation left in them what it liked.
            let end = size
                .next_multiple_of(1 << bits)
                .min(u64::from(run.end) << bits);
            let end = needed.end.min(needed.start + (end - pos) as usize);
            let bytes = needed.start..end;
            at = end;
            match run.status {
                Status::Written(start) => {
                    let start = start
                        .checked_add(u64::from(block - run.start))
                        .ok_or(EOVERFLOW)?;
                    match self.add(folio, bytes, start)? {
                        Some(rest) => folio = rest,
                        None => return Ok(()),
                    }
                }
                Status::Hole | Status::Delayed | Status::Unwritten(_) => folio.zero(bytes),
            }
        }
        Ok(())
    }

    /// Has `bytes` of `folio` read from `start` on. Gives the folio back unless that was all of it.
    fn add(
        &mut self,
        mut folio: ReadingFolio<Ferrofs>,
        bytes: Range<usize>,
        start: PhysicalBlock,
    ) -> Result<Option<ReadingFolio<Ferrofs>>> {
        let sector = sector(folio.inode(), start);
        let whole = bytes == (0..folio.size());
        loop {
            let bio = match self.bio.take_if(|bio| bio.end_sector() == sector) {
                Some(bio) => self.bio.insert(bio),
                None => {
                    // Whatever was built so far goes first.
                    self.bio = None;
                    let size = self.left.max(bytes.len() as u64);
                    let bio = ReadBio::new(folio.inode().sb(), sector, size, self.flags)?;
                    self.bio.insert(bio)
                }
            };
            if whole {
                match folio.add_whole(bio) {
                    Ok(()) => return Ok(None),
                    Err(same) => folio = same,
                }
            }
            if folio.add_to(bio, bytes.clone()) {
                return Ok(Some(folio));
            }
            // It is full.
            self.bio = None;
        }
    }
}
