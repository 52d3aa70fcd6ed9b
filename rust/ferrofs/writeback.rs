// SPDX-License-Identifier: GPL-2.0

//! Writeback: the way of dirty folios to the disk.
//!
//! One [`Pass`] serves one call of the kernel. For each dirty folio it finds the dirty blocks; for the
//! first of them that has no place on the disk yet it has the whole run of reserved blocks around it
//! allocated in one transaction, as blocks that were never written. The place is remembered for the
//! folios that follow, and bios grow over folios and runs for as long as the disk goes on where they
//! end.
//!
//! What happens when a bio has ended is in [`crate::completion`]: only then do blocks count as written
//! and does the size on the disk move. So no transaction ever names data that is not on the disk, and
//! none has to wait for it.

use core::ops::Range;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use ext4::PhysicalBlock;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use vfs::bio::with_plug;
use vfs::bio::WriteBio;
use vfs::folio::LockedFolio;
use vfs::folio::WritingFolio;
use vfs::writeback::in_memory_reclaim;
use vfs::writeback::WritebackControl;

use crate::completion::Written;
use crate::error;
use crate::extent_status::Run;
use crate::extent_status::Status;
use crate::map;
use crate::read;
use crate::write;
use crate::Ferrofs;
use crate::Inode;

/// What writeback keeps of an inode.
pub(crate) struct InodeState {
    /// The file was truncated to nothing and is being written anew: closing it brings what was written to
    /// the disk, so that a program which replaces a file that way does not leave an empty one behind.
    replaced: AtomicBool,
}

impl InodeState {
    /// The state of an inode that was just read or made.
    pub(crate) const fn new() -> Self {
        InodeState {
            replaced: AtomicBool::new(false),
        }
    }

    /// Notes that the file was truncated to nothing.
    pub(crate) fn set_replaced(&self) {
        self.replaced.store(true, Relaxed);
    }

    /// Whether it was since the last call.
    pub(crate) fn take_replaced(&self) -> bool {
        self.replaced.load(Relaxed) && self.replaced.swap(false, Relaxed)
    }
}

/// Brings contents that take the place of others to the disk, so that a crash leaves one or the other:
/// those of a file that is about to be renamed over another one, before the transaction that does it, and
/// those of a file that was truncated and written anew, when it is closed.
///
/// It waits for the end of the I/O, since only then does a transaction say that the file has bytes: it is
/// the one that has truncated the file or one of the next, and if nobody has asked for a commit in between,
/// the same. Sleeps.
pub(crate) fn flush_for_replace(inode: &Inode) -> Result {
    if inode.is_regular() && inode.has_pages() {
        inode.write_and_wait()?;
    }
    Ok(())
}

/// Writes dirty folios, as many and which as `control` says.
pub(crate) fn writepages(inode: &Inode, control: &mut WritebackControl) -> Result {
    // Allocating blocks takes more stack and locks than may be had there. The kernel has flushers.
    if in_memory_reclaim() {
        return Ok(());
    }
    with_plug(|| {
        let mut pass = Pass {
            inode,
            place: None,
            bio: None,
        };
        let result =
            control.for_each_dirty(inode, |control, folio| pass.write_folio(control, folio));
        pass.submit();
        result
    })
}

/// A run of blocks on the disk, and the state of the map that it was found in.
struct Place {
    run: Run,
    sequence: u64,
}

/// One walk over the dirty folios of a file.
struct Pass<'a> {
    inode: &'a Inode,
    /// Where the last block was found to lie, and its neighbours.
    place: Option<Place>,
    /// The bio that is being built.
    bio: Option<WriteBio<'a, Written>>,
}

impl Pass<'_> {
    /// Writes the dirty blocks of a folio.
    fn write_folio(&mut self, control: &WritebackControl, folio: LockedFolio<Ferrofs>) -> Result {
        let size = self.inode.size();
        if folio.pos() >= size {
            // A truncation is on its way, and will drop the folio.
            return Ok(());
        }
        let end = folio.end().min(size);
        if end < folio.end() {
            // A mapping may write behind the end of the file. That must not get to the disk.
            folio.zero((end - folio.pos()) as usize..folio.size());
        }
        let used = (end - folio.pos()) as usize;
        let used = used.next_multiple_of(self.inode.block_size());

        let mut folio = folio.start_writeback()?;
        let mut written = 0;
        let mut at = 0;
        let mut result = Ok(());
        while let Some(dirty) = folio.next_dirty(at..used) {
            at = dirty.end;
            match self.write_range(control, &mut folio, dirty.clone(), end) {
                Ok(()) => written += dirty.len(),
                Err(error) if error == ENOMEM => {
                    // Nothing is lost: the kernel tries again.
                    folio.keep_dirty_from(dirty.start);
                    result = Err(error);
                    break;
                }
                Err(error) => {
                    // The data is lost to the disk: whoever syncs the file is told. The folio must not
                    // stay dirty for ever, and its reservation must not either.
                    self.inode.set_writeback_error(error);
                    let pos = folio.pos();
                    let bytes = pos + dirty.start as u64..pos + dirty.end as u64;
                    error::data_lost(self.inode, bytes, error);
                    self.give_up(&folio, dirty);
                    result = Err(error);
                }
            }
        }
        if written != 0 {
            control.account(&folio, written);
        }
        result
    }

    /// Writes the dirty blocks `bytes` of a folio. Bytes of the file end at `end`.
    fn write_range(
        &mut self,
        control: &WritebackControl,
        folio: &mut WritingFolio<Ferrofs>,
        bytes: Range<usize>,
        end: u64,
    ) -> Result {
        let bits = self.inode.block_bits();
        let mut at = bytes.start;
        while at < bytes.end {
            let pos = folio.pos() + at as u64;
            let blocks = write::blocks(self.inode, pos..folio.pos() + bytes.end as u64)?;
            let run = self.place_of(blocks)?;
            let (start, unwritten) = match run.status {
                Status::Written(start) => (start, false),
                Status::Unwritten(start) => (start, true),
                // `place_of()` returns what is on the disk only.
                Status::Hole | Status::Delayed => return Err(EIO),
            };
            let start = start
                .checked_add(u64::from(blocks.0 - run.start))
                .ok_or(EOVERFLOW)?;
            let run_end = (u64::from(run.end) << bits) - folio.pos();
            let piece = at..bytes.end.min(run_end as usize);
            at = piece.end;
            self.add(control, folio, piece, start, unwritten, end)?;
        }
        Ok(())
    }

    /// The run of blocks on the disk that holds the first of `blocks` (first and number), allocated if
    /// there is none. The lock of the folio keeps the answer true for its blocks.
    fn place_of(&mut self, (first, count): (u32, u32)) -> Result<Run> {
        if let Some(place) = &self.place {
            let same = place.sequence == map::sequence(self.inode);
            if same && (place.run.start..place.run.end).contains(&first) {
                return Ok(place.run);
            }
        }
        let status = map::lookup(self.inode, first, count)?.status;
        if matches!(status, Status::Hole) {
            // Somebody dirtied the folio behind the back of the file system, through a long-term pin
            // of a page. There is no reservation, but there may be space.
            map::reserve(self.inode, first, count)?;
        }
        if matches!(status, Status::Hole | Status::Delayed) {
            map::allocate(self.inode, first, count)?;
        }
        // Asked for first, so that a change in between shows as one.
        let sequence = map::sequence(self.inode);
        let run = map::lookup(self.inode, first, u32::MAX)?;
        self.place = Some(Place { run, sequence });
        Ok(run)
    }

    /// Has `bytes` of `folio` written from `start` on.
    fn add(
        &mut self,
        control: &WritebackControl,
        folio: &mut WritingFolio<Ferrofs>,
        bytes: Range<usize>,
        start: PhysicalBlock,
        unwritten: bool,
        end: u64,
    ) -> Result {
        let sector = read::sector(self.inode, start);
        let pos = folio.pos() + bytes.start as u64;
        let pos_end = folio.pos() + bytes.end as u64;
        loop {
            let goes_on = |bio: &mut WriteBio<'_, Written>| {
                bio.end_sector() == sector && bio.context().goes_on(pos, unwritten)
            };
            let bio = match self.bio.take_if(goes_on) {
                Some(bio) => self.bio.insert(bio),
                None => {
                    self.submit();
                    let pages = control.nr_to_write().max(0) as u64;
                    let room = pages.saturating_mul(PAGE_SIZE as u64);
                    let mut bio = self.inode.sb().data().conversions.bios().write(
                        self.inode.sb(),
                        sector,
                        room.max(folio.size() as u64),
                        control.write_flags(),
                        Written::new(pos, unwritten),
                    )?;
                    control.init_bio(&mut bio);
                    bio.set_write_hint(self.inode);
                    self.bio.insert(bio)
                }
            };
            if folio.add_to(bio, bytes.clone()) {
                bio.context().extend(pos_end, end);
                return Ok(());
            }
            // It is full.
            self.submit();
        }
    }

    /// Sends off what was built so far.
    fn submit(&mut self) {
        if let Some(bio) = self.bio.take() {
            bio.submit();
        }
    }

    /// Forgets about dirty blocks that cannot be written.
    fn give_up(&self, folio: &WritingFolio<Ferrofs>, bytes: Range<usize>) {
        let pos = folio.pos() + bytes.start as u64;
        let blocks = write::blocks(self.inode, pos..folio.pos() + bytes.end as u64);
        let result = blocks.and_then(|(first, count)| map::release(self.inode, first, count));
        if let Err(error) = result {
            pr_err!(
                "({}): inode #{}: reservation of lost data is lost, too: {:?}\n",
                self.inode.sb().id().to_str().unwrap_or("?"),
                self.inode.ino(),
                error
            );
        }
    }
}
