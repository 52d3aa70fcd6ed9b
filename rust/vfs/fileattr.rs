// SPDX-License-Identifier: GPL-2.0

//! Flags and project of an inode, as `chattr`, `lsattr` and the project tools see them.
//!
//! The kernel translates between two interfaces: the flags of `FS_IOC_GETFLAGS`, whose bits are those
//! of ext2's inodes, and `struct fsxattr` of `FS_IOC_FSGETXATTR`. It checks capabilities and the
//! immutable and append-only flags itself.
//!
//! C header: `include/linux/fileattr.h`.

use ferrofs_bindings as bindings;

/// What `fileattr_get` fills and `fileattr_set` applies: `struct file_kattr`.
#[repr(transparent)]
pub struct FileAttributes(bindings::file_kattr);

impl FileAttributes {
    /// # Safety
    ///
    /// `attributes` must be valid and the caller's alone for `'a`.
    pub(crate) unsafe fn from_ptr<'a>(attributes: *mut bindings::file_kattr) -> &'a mut Self {
        // SAFETY: By this function's contract; `FileAttributes` is transparent.
        unsafe { &mut *attributes.cast() }
    }

    /// The flags (`FS_*_FL`), which are valid also when the caller came with an `fsxattr`.
    pub fn flags(&self) -> u32 {
        self.0.flags
    }

    /// Answers with flags (`FS_*_FL`); those that an `fsxattr` knows too go there as well.
    pub fn fill_flags(&mut self, flags: u32) {
        // SAFETY: The structure is valid and ours.
        unsafe { bindings::fileattr_fill_flags(&mut self.0, flags) };
    }

    /// Whether the caller came with flags (`FS_IOC_SETFLAGS`).
    pub fn has_flags(&self) -> bool {
        self.0.flags_valid()
    }

    /// The project that the caller wants, when it came with an `fsxattr`.
    pub fn project(&self) -> Option<u32> {
        self.0.fsx_valid().then_some(self.0.fsx_projid)
    }

    /// Answers with the project.
    pub fn set_project(&mut self, project: u32) {
        self.0.fsx_projid = project;
    }

    /// Whether the caller wants something of an `fsxattr` that is neither a flag nor the project:
    /// extent size hints.
    pub fn has_extent_size(&self) -> bool {
        self.0.fsx_valid() && (self.0.fsx_extsize != 0 || self.0.fsx_cowextsize != 0)
    }
}
