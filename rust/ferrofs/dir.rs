// SPDX-License-Identifier: GPL-2.0

//! Open directories: listing names, positions, ioctls.

use core::ops::ControlFlow;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering;

use ext4::dir::Cursor;
use ext4::dir::FileType;
use ext4::dir::HashedEntry;
use ext4::dir::PositionForm;
use ext4::dir::Scratch;
use ext4::LogicalBlock;
use kernel::alloc::KVVec;
use kernel::fs::File;
use kernel::fs::LocalFile;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;
use vfs::dir;
use vfs::dir::Context;
use vfs::dir::PositionWidth;
use vfs::file::Opening;
use vfs::ioctl::Command;

use crate::dir_blocks;
use crate::fsync;
use crate::ioctl;
use crate::Ferrofs;
use crate::Inode;

/// What is kept of a directory in memory beside its blocks.
#[pin_data]
pub(crate) struct InodeState {
    /// Before this block, a directory without an index has no room: where the search for room begins.
    first_room: AtomicU32,
    /// How often the directory has been about to change.
    changes: AtomicU32,
}

impl InodeState {
    /// The state of a directory of which nothing is known.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            first_room: AtomicU32::new(0),
            changes: AtomicU32::new(0),
        })
    }

    /// Where an insertion begins to look for room.
    pub(crate) fn first_room(&self) -> LogicalBlock {
        LogicalBlock::new(self.first_room.load(Ordering::Relaxed))
    }

    /// An insertion has found room here, and none before.
    pub(crate) fn inserted(&self, block: LogicalBlock) {
        self.first_room.store(block.get(), Ordering::Relaxed);
    }

    /// The blocks are about to be changed. The caller holds the directory's lock exclusively.
    pub(crate) fn will_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// A number that is another one after every change. The caller holds the directory's lock.
    fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A name was removed from this block. The caller holds the directory's lock exclusively.
    pub(crate) fn removed(&self, block: LogicalBlock) {
        self.first_room.fetch_min(block.get(), Ordering::Relaxed);
    }
}

/// The type of a file as `readdir(3)` tells it.
fn file_type(file_type: FileType) -> dir::FileType {
    match file_type {
        FileType::Unknown => dir::FileType::Unknown,
        FileType::Regular => dir::FileType::Regular,
        FileType::Directory => dir::FileType::Directory,
        FileType::CharacterDevice => dir::FileType::CharDevice,
        FileType::BlockDevice => dir::FileType::BlockDevice,
        FileType::Fifo => dir::FileType::Fifo,
        FileType::Socket => dir::FileType::Socket,
        FileType::Symlink => dir::FileType::Symlink,
    }
}

fn position_form(file: &Opening<'_>) -> PositionForm {
    match PositionWidth::of(file) {
        PositionWidth::Narrow => PositionForm::Narrow,
        PositionWidth::Wide => PositionForm::Wide,
    }
}

/// How far an open directory has been read.
struct Progress {
    cursor: Cursor,
    /// Where the entries of a leaf are sorted. `None` until the directory is first read.
    scratch: Option<Sorting>,
    /// The directory's count of changes when they were sorted.
    changes: u32,
}

type Sorting = Scratch<KVVec<HashedEntry>>;

/// Makes sure that there is room for `size` entries, and that nothing is known of what is there.
fn make_room(scratch: &mut Option<Sorting>, size: usize) -> Result<&mut Sorting> {
    match scratch {
        Some(enough) if enough.size() >= size => enough.forget(),
        _ => {
            let mut entries = KVVec::new();
            entries.resize(size, HashedEntry::default(), GFP_KERNEL)?;
            *scratch = Some(Scratch::new(entries));
        }
    }
    scratch.as_mut().ok_or(ENOMEM)
}

/// An open directory.
#[pin_data]
pub(crate) struct OpenDirectory {
    form: PositionForm,
    #[pin]
    progress: Mutex<Progress>,
}

/// The operations of open directories.
pub(crate) struct Operations;

#[vtable]
impl dir::Operations for Operations {
    type FileSystem = Ferrofs;
    type OpenData = OpenDirectory;

    fn open(_dir: &Inode, file: &Opening<'_>) -> Result<impl PinInit<OpenDirectory, Error>> {
        let form = position_form(file);
        let progress = Progress {
            cursor: Cursor::start(form),
            scratch: None,
            changes: 0,
        };
        Ok(try_pin_init!(OpenDirectory {
            form,
            progress <- new_mutex!(progress),
        }))
    }

    fn iterate(
        dir: &Inode,
        _file: &LocalFile,
        open: &OpenDirectory,
        context: &mut Context,
    ) -> Result {
        let directory = dir_blocks::open(dir);
        let mut progress = open.progress.lock();
        let Progress {
            cursor,
            scratch,
            changes,
        } = &mut *progress;
        let latest = dir.data().dir.changes();
        let scratch = match scratch {
            Some(scratch) if *changes == latest => scratch,
            _ => {
                *changes = latest;
                let size = directory
                    .scratch_size()
                    .map_err(|error| error.report(dir))?;
                make_room(scratch, size)?
            }
        };
        // A position that is not where the last reading ended was set by the program.
        let position = u64::try_from(context.position()).map_err(|_| EINVAL)?;
        if position != cursor.position() {
            *cursor = directory.cursor_at(position, open.form);
            scratch.forget();
        }
        let result = directory.iterate(cursor, scratch, |entry, position| {
            // Positions have 63 bits at most.
            context.set_position(position as i64);
            let Some(inode) = entry.inode else {
                return ControlFlow::Continue(());
            };
            if context.emit(entry.name, inode.get().into(), file_type(entry.file_type)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        context.set_position(cursor.position() as i64);
        result.map_err(|error| error.report(dir))
    }

    fn seek(
        dir: &Inode,
        file: &LocalFile,
        open: &OpenDirectory,
        offset: i64,
        whence: i32,
    ) -> Result<i64> {
        // With an order of hashes the end is the largest position, else that of the last entry.
        let (max, end) = if dir_blocks::open(dir).has_hash_order() {
            let end = open.form.end() as i64;
            (end, end)
        } else {
            (dir.sb().max_bytes() as i64, dir.size() as i64)
        };
        dir::seek(file, offset, whence, max, end)
    }

    fn fsync(dir: &Inode, _file: &LocalFile, data_only: bool) -> Result {
        fsync::sync(dir, data_only)
    }

    fn ioctl(dir: &Inode, file: &File, command: Command) -> Result<isize> {
        ioctl::ioctl(dir, file, command)
    }
}
