// SPDX-License-Identifier: GPL-2.0

//! Where a file lies, for those who ask: `SEEK_HOLE` and `SEEK_DATA`, `FS_IOC_FIEMAP`, `FIBMAP` and swap
//! files.

use kernel::prelude::*;
use vfs::inode_ops::Fiemap;
use vfs::iomap;
use vfs::iomap::Extent;
use vfs::iomap::Kind;
use vfs::iomap::Request;

use crate::extent_status::Run;
use crate::extent_status::Status;
use crate::map;
use crate::write;
use crate::Ferrofs;
use crate::Inode;

/// Lists the extents of a file that lie in `len` bytes from `start` on. Sleeps.
pub(crate) fn fiemap(inode: &Inode, map: Fiemap<'_>, start: u64, len: u64) -> Result {
    let _lock = inode.lock_shared();
    iomap::fiemap::<Reported>(inode, map, start, len)
}

/// `run` as iomap wants it, from block `first` on.
pub(crate) fn extent(inode: &Inode, run: Run, first: u32) -> Result<Extent> {
    let bits = inode.block_bits();
    let run = run.part(first..u32::MAX).ok_or(EIO)?;
    let kind = match run.status {
        Status::Hole => Kind::Hole,
        Status::Delayed => Kind::Delayed,
        Status::Written(start) => Kind::Mapped {
            address: start.get() << bits,
        },
        Status::Unwritten(start) => Kind::Unwritten {
            address: start.get() << bits,
        },
    };
    Ok(Extent {
        offset: u64::from(run.start) << bits,
        len: u64::from(run.len()) << bits,
        kind,
        new: false,
        dirty: false,
    })
}

/// The map of a file as it is.
pub(crate) struct Reported;

#[vtable]
impl iomap::Operations for Reported {
    type FileSystem = Ferrofs;

    fn begin(inode: &Inode, pos: u64, len: u64, _request: Request) -> Result<Extent> {
        let bits = inode.block_bits();
        if pos >> bits >= u64::from(u32::MAX) {
            // Behind the largest file there is nothing for ever.
            return Ok(Extent {
                offset: pos,
                len,
                kind: Kind::Hole,
                new: false,
                dirty: false,
            });
        }
        let last = u64::from(u32::MAX) << bits;
        let (first, count) = write::blocks(inode, pos..pos.saturating_add(len).min(last))?;
        extent(inode, map::lookup(inode, first, count)?, first)
    }
}
