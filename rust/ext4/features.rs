// SPDX-License-Identifier: GPL-2.0

//! Feature flags of the superblock.
//!
//! The format grows by features in three sets, which tell a driver that does not know one of them
//! what it may still do:
//!
//! ```text
//! s_feature_compat     ignore it
//! s_feature_ro_compat  mount read-only
//! s_feature_incompat   do not mount
//! ```
//!
//! This module knows all features by name, whether anybody supports them or not, so that a refusal can
//! name what is in the way. Which ones are supported is for the user of the crate to say:
//! [`Supported`].
//!
//! The bits are those of the format document, `Documentation/filesystems/ext4/super.rst`; the names
//! are those that `mke2fs` and `dumpe2fs` use.

use core::fmt;

macro_rules! feature_set {
    ($(#[$doc:meta])* $set:ident { $($(#[$flag_doc:meta])* $flag:ident = $bit:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
        pub struct $set(u32);

        impl $set {
            /// No feature at all.
            pub const NONE: Self = Self(0);
            $($(#[$flag_doc])* pub const $flag: Self = Self($bit);)*

            const NAMES: &'static [(u32, &'static str)] = &[$(($bit, $text)),*];

            /// Takes the set as it is on disk.
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            /// The set as it is on disk.
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Whether no feature is in the set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Whether all of `other` are in the set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The features that are in either set.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The features of this set that are not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        /// The names of the features, separated by a space. A bit that the format gives no name
        /// shows as a number.
        impl fmt::Display for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut names = Names { f, any: false };
                let mut left = self.0;
                for (bit, text) in Self::NAMES {
                    if left & bit != 0 {
                        names.push(format_args!("{text}"))?;
                        left &= !bit;
                    }
                }
                while left != 0 {
                    let bit = left & left.wrapping_neg();
                    names.push(format_args!("{bit:#x}"))?;
                    left &= !bit;
                }
                Ok(())
            }
        }
    };
}

/// Writes names with a space between them.
struct Names<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    any: bool,
}

impl Names<'_, '_> {
    fn push(&mut self, name: fmt::Arguments<'_>) -> fmt::Result {
        if self.any {
            self.f.write_str(" ")?;
        }
        self.any = true;
        self.f.write_fmt(name)
    }
}

feature_set! {
    /// Features that a driver may ignore when it does not know them.
    Compat {
        /// Directories get blocks ahead of need.
        DIR_PREALLOC = 0x1, "dir_prealloc";
        /// AFS server inodes.
        IMAGIC_INODES = 0x2, "imagic_inodes";
        /// There is a journal.
        HAS_JOURNAL = 0x4, "has_journal";
        /// Inodes have extended attributes.
        EXT_ATTR = 0x8, "ext_attr";
        /// Group descriptor blocks are reserved for growth, inode 7 owns them.
        RESIZE_INODE = 0x10, "resize_inode";
        /// Directories may have a hash tree.
        DIR_INDEX = 0x20, "dir_index";
        /// Uninitialised block groups, never merged.
        LAZY_BG = 0x40, "lazy_bg";
        /// The exclude inode of snapshots, never merged.
        EXCLUDE_INODE = 0x80, "snapshot_bitmap";
        /// The exclude bitmap of snapshots, never merged.
        EXCLUDE_BITMAP = 0x100, "exclude_bitmap";
        /// At most two backup superblocks, in named groups.
        SPARSE_SUPER2 = 0x200, "sparse_super2";
        /// The journal may have fast commits.
        FAST_COMMIT = 0x400, "fast_commit";
        /// Inode numbers and the uuid never change (resizing cannot move inodes).
        STABLE_INODES = 0x800, "stable_inodes";
        /// Orphans are recorded in a file.
        ORPHAN_FILE = 0x1000, "orphan_file";
    }
}

feature_set! {
    /// Features that forbid writing when they are not known.
    RoCompat {
        /// Backup superblocks only in groups 0, 1 and powers of 3, 5 and 7.
        SPARSE_SUPER = 0x1, "sparse_super";
        /// Some file is larger than 2 GiB.
        LARGE_FILE = 0x2, "large_file";
        /// B-tree directories, never used.
        BTREE_DIR = 0x4, "btree_dir";
        /// `i_blocks` has 48 bits and may count filesystem blocks.
        HUGE_FILE = 0x8, "huge_file";
        /// Group descriptors have a crc16 and groups may be uninitialised.
        GDT_CSUM = 0x10, "uninit_bg";
        /// Directories may have more than 65,000 subdirectories.
        DIR_NLINK = 0x20, "dir_nlink";
        /// Inodes have fields beyond the first 128 bytes.
        EXTRA_ISIZE = 0x40, "extra_isize";
        /// There are snapshots, never merged.
        HAS_SNAPSHOT = 0x80, "snapshot";
        /// Quota is kept in hidden inodes.
        QUOTA = 0x100, "quota";
        /// Space is allocated in clusters of several blocks.
        BIGALLOC = 0x200, "bigalloc";
        /// All metadata have a crc32c.
        METADATA_CSUM = 0x400, "metadata_csum";
        /// Replicas, never merged.
        REPLICA = 0x800, "replica";
        /// The filesystem must not be mounted for writing.
        READONLY = 0x1000, "read-only";
        /// Project quota.
        PROJECT = 0x2000, "project";
        /// Blocks may be shared by files; only Android's image tools write such disks.
        SHARED_BLOCKS = 0x4000, "shared_blocks";
        /// Some files are under fs-verity.
        VERITY = 0x8000, "verity";
        /// The orphan file may hold orphans.
        ORPHAN_PRESENT = 0x10000, "orphan_present";
    }
}

feature_set! {
    /// Features that forbid mounting when they are not known.
    Incompat {
        /// Files may be compressed, never implemented.
        COMPRESSION = 0x1, "compression";
        /// Directory entries carry the file type.
        FILETYPE = 0x2, "filetype";
        /// The journal holds something to be replayed.
        RECOVER = 0x4, "needs_recovery";
        /// This is not a filesystem but an external journal.
        JOURNAL_DEV = 0x8, "journal_dev";
        /// Group descriptors lie in the groups that they describe.
        META_BG = 0x10, "meta_bg";
        /// Files are mapped by extents.
        EXTENTS = 0x40, "extent";
        /// Block numbers have 48 bits, group descriptors 64 bytes.
        SIXTY_FOUR_BIT = 0x80, "64bit";
        /// A block protects against two hosts that mount at the same time.
        MMP = 0x100, "mmp";
        /// Bitmaps and inode tables may lie in another group.
        FLEX_BG = 0x200, "flex_bg";
        /// Large extended attributes have an inode each.
        EA_INODE = 0x400, "ea_inode";
        /// Directory entries may carry data, Lustre only.
        DIRDATA = 0x1000, "dirdata";
        /// The checksum seed is stored, so that the uuid can change.
        CSUM_SEED = 0x2000, "metadata_csum_seed";
        /// Directories larger than 2 GiB or with three index levels.
        LARGE_DIR = 0x4000, "large_dir";
        /// Small files and directories live in the inode.
        INLINE_DATA = 0x8000, "inline_data";
        /// Some files are encrypted.
        ENCRYPT = 0x10000, "encrypt";
        /// Directories may be case-insensitive.
        CASEFOLD = 0x20000, "casefold";
    }
}

/// The three feature sets of one filesystem.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Features {
    /// Features that may be ignored.
    pub compat: Compat,
    /// Features that must be known for mounting at all.
    pub incompat: Incompat,
    /// Features that must be known for writing.
    pub ro_compat: RoCompat,
}

impl Features {
    /// Whether all of `features` are there.
    pub const fn compat(&self, features: Compat) -> bool {
        self.compat.contains(features)
    }

    /// Whether all of `features` are there.
    pub const fn incompat(&self, features: Incompat) -> bool {
        self.incompat.contains(features)
    }

    /// Whether all of `features` are there.
    pub const fn ro_compat(&self, features: RoCompat) -> bool {
        self.ro_compat.contains(features)
    }
}

/// The features that a driver can deal with.
///
/// The compatible ones are not among them: they never keep a driver from mounting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Supported {
    /// Incompatible features that it knows.
    pub incompat: Incompat,
    /// Read-only compatible features that it can keep right when it writes.
    pub ro_compat: RoCompat,
}

impl Supported {
    /// Checks that a filesystem with these features can be mounted, for writing or not.
    pub fn check(&self, features: &Features, read_only: bool) -> Result<(), UnsupportedFeatures> {
        let incompat = features.incompat.without(self.incompat);
        if !incompat.is_empty() {
            return Err(UnsupportedFeatures::Mount(incompat));
        }
        let mut ro_compat = features.ro_compat.without(self.ro_compat);
        if features.ro_compat(RoCompat::READONLY) {
            // Whatever is supported, this one exists to keep everybody from writing.
            ro_compat = ro_compat.with(RoCompat::READONLY);
        }
        if !read_only && !ro_compat.is_empty() {
            return Err(UnsupportedFeatures::Write(ro_compat));
        }
        Ok(())
    }
}

/// The features that are in the way of a mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnsupportedFeatures {
    /// These forbid any mount.
    Mount(Incompat),
    /// These forbid a mount for writing.
    Write(RoCompat),
}

impl fmt::Display for UnsupportedFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(features) => write!(f, "unsupported features: {features}"),
            Self::Write(features) => write!(
                f,
                "unsupported features, can only be mounted read-only: {features}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    const SUPPORTED: Supported = Supported {
        incompat: Incompat::FILETYPE.with(Incompat::EXTENTS),
        ro_compat: RoCompat::SPARSE_SUPER.with(RoCompat::READONLY),
    };

    #[test]
    fn names_and_unknown_bits() {
        assert_eq!(format!("{}", Incompat::NONE), "");
        let set = Incompat::EXTENTS.with(Incompat::from_bits(0x8000_0020));
        assert_eq!(format!("{set}"), "extent 0x20 0x80000000");
    }

    #[test]
    fn what_is_unsupported_is_named() {
        let mut features = Features {
            compat: Compat::from_bits(!0),
            incompat: Incompat::FILETYPE,
            ro_compat: RoCompat::SPARSE_SUPER,
        };
        assert_eq!(SUPPORTED.check(&features, false), Ok(()));

        features.ro_compat = features.ro_compat.with(RoCompat::BIGALLOC);
        assert_eq!(SUPPORTED.check(&features, true), Ok(()));
        let refused = SUPPORTED.check(&features, false).unwrap_err();
        assert_eq!(refused, UnsupportedFeatures::Write(RoCompat::BIGALLOC));

        features.incompat = features.incompat.with(Incompat::CASEFOLD);
        let refused = SUPPORTED.check(&features, true).unwrap_err();
        assert_eq!(format!("{refused}"), "unsupported features: casefold");
    }

    #[test]
    fn the_read_only_feature_is_never_written() {
        let features = Features {
            ro_compat: RoCompat::READONLY,
            ..Features::default()
        };
        assert_eq!(SUPPORTED.check(&features, true), Ok(()));
        assert_eq!(
            SUPPORTED.check(&features, false),
            Err(UnsupportedFeatures::Write(RoCompat::READONLY))
        );
    }
}
