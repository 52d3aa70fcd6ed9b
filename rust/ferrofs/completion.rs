// SPDX-License-Identifier: GPL-2.0

//! The end of a write: data is on the disk, and now the metadata may say so.
//!
//! Where the blocks counted as written before and the size on the disk stays, the end of the bio is the
//! end of it all. Otherwise the bio goes to a worker, which sorts what has come in, converts neighbouring
//! ranges in one transaction each, and moves the size. Only then does the writeback of the folios end: so
//! whoever waits for that, as `fsync` does, finds the change in a transaction that it can wait for.

use core::ops::Range;

use kernel::impl_has_work;
use kernel::new_work;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::workqueue::Work;
use kernel::workqueue::WorkItem;
use vfs::bio::BioSet;
use vfs::bio::CompletedBio;
use vfs::bio::CompletedList;
use vfs::bio::CompletedQueue;
use vfs::bio::Completion;
use vfs::workqueue::OwnedQueue;

use crate::error;
use crate::flush;
use crate::inode;
use crate::map;
use crate::state;
use crate::write;
use crate::Ferrofs;
use crate::Inode;

/// What a bio has written.
pub(crate) struct Written {
    /// The bytes of the file, in whole blocks.
    bytes: Range<u64>,
    /// Where the file ended, if that was in these bytes, or else where they do.
    end: u64,
    /// The blocks did not count as written before.
    unwritten: bool,
}

impl Written {
    /// Nothing yet, from byte `pos` on.
    pub(crate) fn new(pos: u64, unwritten: bool) -> Self {
        Written {
            bytes: pos..pos,
            end: pos,
            unwritten,
        }
    }

    /// Whether what begins at `pos` may follow in the same bio.
    pub(crate) fn goes_on(&self, pos: u64, unwritten: bool) -> bool {
        self.bytes.end == pos && self.unwritten == unwritten
    }

    /// What ends at `pos` was added, of a file that ends at `end` or behind it.
    pub(crate) fn extend(&mut self, pos: u64, end: u64) {
        self.bytes.end = pos;
        self.end = pos.min(end);
    }
}

impl Completion for Written {
    type FileSystem = Ferrofs;
    type Shared = Converter;

    fn complete(bio: CompletedBio<Self>) {
        if let Err(error) = bio.result() {
            // Blocks that were never written stay so, and show zeroes and not what lies on the disk.
            error::data_lost(bio.inode(), bio.bytes.clone(), error);
            return bio.finish(Ok(()));
        }
        flush::note_write(bio.inode());
        if bio.unwritten || bio.end > bio.inode().data().disk_size() {
            bio.with_shared(|bio, converter| converter.push(bio));
        } else {
            bio.finish(Ok(()));
        }
    }
}

/// The writes of a mount, and the worker for the ends of them.
#[pin_data]
pub(crate) struct Conversions {
    #[pin]
    bios: BioSet<Written>,
}

impl Conversions {
    /// Makes the machinery for a mount.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            bios <- BioSet::new(Converter {
                queue: OwnedQueue::new(c"ferrofs-convert", 1)?,
                worker: Worker::new()?,
            }),
        })
    }

    /// Where the bios of writeback come from.
    pub(crate) fn bios(&self) -> &BioSet<Written> {
        &self.bios
    }

    /// Waits until those that have ended so far are done with. Sleeps.
    pub(crate) fn flush(&self) {
        self.bios.shared().queue.flush();
    }
}

/// Who converts what was written.
pub(crate) struct Converter {
    queue: OwnedQueue,
    worker: Arc<Worker>,
}

impl Converter {
    /// Takes the end of a write. Does not sleep.
    fn push(&self, bio: CompletedBio<Written>) {
        if self.worker.ended.push(bio) {
            // If the worker is on its queue already, it will find this one as well: it takes what there
            // is after it has left the queue.
            let _ = self.queue.enqueue(self.worker.clone());
        }
    }
}

#[pin_data]
struct Worker {
    ended: CompletedQueue<Written>,
    #[pin]
    work: Work<Worker>,
}

impl_has_work! {
    impl HasWork<Self> for Worker { self.work }
}

impl Worker {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                ended: CompletedQueue::new(),
                work <- new_work!("ferrofs::Worker::work"),
            }),
            GFP_KERNEL,
        )
    }
}

impl WorkItem for Worker {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut ended = this.ended.take();
        ended.sort_by_key(|bio| (bio.inode().ino(), bio.bytes.start));
        while let Some(bio) = ended.next() {
            convert_run(bio, &mut ended);
        }
    }
}

/// Converts what `first` has written, together with what the next ones in `ended` have if they go on where
/// it ends, and finishes them.
fn convert_run(first: CompletedBio<Written>, ended: &mut CompletedList<Written>) {
    let mut bytes = first.bytes.clone();
    let mut end = first.end;
    let mut unwritten = first.unwritten;
    let mut run = CompletedList::new();
    let ino = first.inode().ino();
    while let Some(next) = ended.next_if(|next| {
        next.inode().ino() == ino && next.bytes.start == bytes.end && next.unwritten == unwritten
    }) {
        bytes.end = next.bytes.end;
        end = end.max(next.end);
        unwritten |= next.unwritten;
        run.push(next);
    }
    let result = convert(first.inode(), bytes.clone(), end, unwritten);
    if let Err(error) = result {
        error::data_lost(first.inode(), bytes, error);
    }
    run.for_each(|bio| bio.finish(result));
    first.finish(result);
}

/// Has the metadata of `inode` say that `bytes` are on the disk and that the file has bytes up to `end`.
pub(crate) fn convert(inode: &Inode, bytes: Range<u64>, end: u64, unwritten: bool) -> Result {
    if unwritten {
        let (first, count) = write::blocks(inode, bytes)?;
        return map::convert(inode, first, count, Some(end));
    }
    if end <= inode.data().disk_size() {
        return Ok(());
    }
    let txn = state::transaction(inode.sb(), inode::UPDATE_CREDITS)?;
    inode.data().grow_disk_size(end);
    inode.data().note_data_change(txn.tid());
    inode::update(&txn, inode)?;
    txn.stop()
}
