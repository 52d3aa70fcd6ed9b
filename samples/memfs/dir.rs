// SPDX-License-Identifier: GPL-2.0

//! Listing directories.

use kernel::fs::LocalFile;
use kernel::prelude::*;
use vfs::dir;
use vfs::dir::Context;
use vfs::dir::FileType;
use vfs::file::Opening;

use crate::inode::names;
use crate::Inode;
use crate::Memfs;
use crate::NAME_LENGTH;

/// The operations of open directories.
pub(crate) struct Directory;

#[vtable]
impl dir::Operations for Directory {
    type FileSystem = Memfs;
    /// The position, which the kernel keeps, is all that we need to go on.
    type OpenData = ();

    fn open(_dir: &Inode, _file: &Opening<'_>) -> Result<impl PinInit<(), Error>> {
        Ok(Ok::<(), Error>(()))
    }

    /// Gives names until the buffer of the program is full (`emit` says so) or there are no more. The
    /// position is always that of the name which is given next.
    fn iterate(dir: &Inode, _file: &LocalFile, _open: &(), context: &mut Context) -> Result {
        let names = names(dir)?;
        if context.position() == 0 {
            if !context.emit(b".", dir.ino(), FileType::Directory) {
                return Ok(());
            }
            context.set_position(1);
        }
        if context.position() == 1 {
            let parent = names.lock().parent;
            if !context.emit(b"..", parent, FileType::Directory) {
                return Ok(());
            }
            context.set_position(2);
        }
        // `emit` writes to the memory of the program, which may be a mapping of one of our own files: the
        // page fault must find no lock of ours held. So each name is copied out first.
        let mut buffer = [0; NAME_LENGTH];
        loop {
            let (length, number, file_type) = {
                let names = names.lock();
                let Some(entry) = names.from(context.position()) else {
                    return Ok(());
                };
                buffer[..entry.name.len()].copy_from_slice(&entry.name);
                context.set_position(entry.position);
                (entry.name.len(), entry.number, entry.file_type)
            };
            if !context.emit(&buffer[..length], number, file_type) {
                return Ok(());
            }
            context.set_position(context.position() + 1);
        }
    }

    fn seek(dir: &Inode, file: &LocalFile, _open: &(), offset: i64, whence: i32) -> Result<i64> {
        let end = names(dir)?.lock().end();
        dir::seek(file, offset, whence, i64::MAX, end)
    }

    /// Changes of names are on the disk at once.
    fn fsync(_dir: &Inode, _file: &LocalFile, _data_only: bool) -> Result {
        Ok(())
    }
}
