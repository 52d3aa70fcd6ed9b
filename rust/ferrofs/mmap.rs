// SPDX-License-Identifier: GPL-2.0

//! Writing to files through memory mappings.

use kernel::prelude::*;
use vfs::file;
use vfs::folio::LockedFolio;
use vfs::memory::NoFs;
use vfs::vm;
use vfs::vm::WriteFault;

use crate::file::check_mutable;
use crate::map;
use crate::state;
use crate::write;
use crate::Ferrofs;

/// The mappings of regular files.
pub(crate) struct Mappings;

#[vtable]
impl vm::Operations for Mappings {
    type FileSystem = Ferrofs;

    /// Reserves space for all blocks of the folio before a mapping may write to any, so that a full disk
    /// shows here, as `SIGBUS`, and not when the data has nowhere to go.
    fn page_mkwrite(fault: &WriteFault<'_, Ferrofs>) -> Result<Option<LockedFolio<Ferrofs>>> {
        let inode = fault.inode();
        check_mutable(inode)?;
        state::check(inode.sb())?;
        let _fault = inode.start_page_fault();
        file::update_time(fault.file())?;
        // Keeps holes from being punched between the reservation and the fault's end.
        let _cache = inode.lock_page_cache_shared();
        let Some((folio, len)) = fault.lock_folio() else {
            // Truncated. The fault is tried again and finds out where it is now.
            return Ok(None);
        };
        let pos = folio.pos();
        let (first, count) = write::blocks(inode, pos..pos + len as u64)?;
        {
            let _nofs = NoFs::enter();
            map::reserve(inode, first, count)?;
        }
        folio.mark_dirty(0..len);
        folio.wait_stable();
        Ok(Some(folio))
    }
}
