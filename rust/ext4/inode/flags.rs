// SPDX-License-Identifier: GPL-2.0

//! Inode flags.

/// A set of inode flags: `i_flags`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct InodeFlags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl InodeFlags {
            $($(#[$doc])* pub const $name: Self = Self($bit);)*
        }
    };
}

flags! {
    /// No flag.
    NONE = 0x0;
    /// Overwrite when deleted. Kept, never acted on.
    SECURE_DELETION = 0x1;
    /// Keep for undelete. Kept, never acted on.
    UNDELETE = 0x2;
    /// Compress. Kept, never acted on.
    COMPRESS = 0x4;
    /// Write synchronously.
    SYNC = 0x8;
    /// No change at all.
    IMMUTABLE = 0x10;
    /// Only appending writes.
    APPEND = 0x20;
    /// Leave out of dumps.
    NO_DUMP = 0x40;
    /// Do not update the access time.
    NO_ATIME = 0x80;
    /// Reserved for compression.
    DIRTY = 0x100;
    /// Has compressed clusters.
    COMPRESSED_BLOCKS = 0x200;
    /// Do not compress.
    NO_COMPRESS = 0x400;
    /// Encrypted.
    ENCRYPT = 0x800;
    /// A directory with a hash tree.
    INDEX = 0x1000;
    /// An AFS directory.
    IMAGIC = 0x2000;
    /// Data goes through the journal.
    JOURNAL_DATA = 0x4000;
    /// Do not merge the file's tail.
    NO_TAIL = 0x8000;
    /// Change the directory synchronously.
    DIR_SYNC = 0x10000;
    /// A directory whose subdirectories have nothing to do with each other.
    TOP_DIR = 0x20000;
    /// `i_blocks` counts filesystem blocks.
    HUGE_FILE = 0x40000;
    /// `i_block` is the root of an extent tree.
    EXTENTS = 0x80000;
    /// Under fs-verity.
    VERITY = 0x100000;
    /// Holds the value of a large extended attribute.
    EA_INODE = 0x200000;
    /// Has blocks past its end. No longer used, but may be found.
    EOF_BLOCKS = 0x400000;
    /// Direct access to persistent memory.
    DAX = 0x2000000;
    /// Data is in the inode.
    INLINE_DATA = 0x10000000;
    /// New files in this directory get its project.
    PROJECT_INHERIT = 0x20000000;
    /// Names in this directory are case-insensitive.
    CASEFOLD = 0x40000000;
    /// Reserved for the ext4 library.
    RESERVED = 0x80000000;
}

impl InodeFlags {
    /// The flags that a user may change, if the filesystem has what it takes.
    pub const USER_MODIFIABLE: Self = Self::SECURE_DELETION
        .with(Self::UNDELETE)
        .with(Self::COMPRESS)
        .with(Self::SYNC)
        .with(Self::IMMUTABLE)
        .with(Self::APPEND)
        .with(Self::NO_DUMP)
        .with(Self::NO_ATIME)
        .with(Self::JOURNAL_DATA)
        .with(Self::NO_TAIL)
        .with(Self::DIR_SYNC)
        .with(Self::TOP_DIR)
        .with(Self::EXTENTS)
        .with(Self::EOF_BLOCKS)
        .with(Self::DAX)
        .with(Self::PROJECT_INHERIT)
        .with(Self::CASEFOLD);

    /// The flags that a user may see.
    pub const USER_VISIBLE: Self = Self::USER_MODIFIABLE
        .with(Self::DIRTY)
        .with(Self::COMPRESSED_BLOCKS)
        .with(Self::NO_COMPRESS)
        .with(Self::ENCRYPT)
        .with(Self::INDEX)
        .with(Self::VERITY)
        .with(Self::INLINE_DATA);

    /// The flags that a new inode takes over from its directory.
    pub const INHERITED: Self = Self::SECURE_DELETION
        .with(Self::UNDELETE)
        .with(Self::COMPRESS)
        .with(Self::SYNC)
        .with(Self::NO_DUMP)
        .with(Self::NO_ATIME)
        .with(Self::NO_COMPRESS)
        .with(Self::JOURNAL_DATA)
        .with(Self::NO_TAIL)
        .with(Self::DIR_SYNC)
        .with(Self::PROJECT_INHERIT)
        .with(Self::CASEFOLD)
        .with(Self::DAX);

    /// Takes flags as they are on disk.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The flags as they are on disk.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of either set.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flags of this set that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The flags that are in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The flags of this set that make sense for a type of file: those of directories only in
    /// directories, and in what has no data only a few.
    #[must_use]
    pub const fn for_type(self, file_type: super::FileType) -> Self {
        match file_type {
            super::FileType::Directory => self,
            super::FileType::Regular => self.without(
                Self::DIR_SYNC
                    .with(Self::TOP_DIR)
                    .with(Self::CASEFOLD)
                    .with(Self::PROJECT_INHERIT),
            ),
            _ => self.and(Self::NO_DUMP.with(Self::NO_ATIME)),
        }
    }
}

impl core::fmt::Display for InodeFlags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
