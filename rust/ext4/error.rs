// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with what was read from a disk.
//!
//! Each structure has its own enumeration, in its own file, with a variant for each thing that can be
//! wrong and the offending values in it. [`Corrupt`] gathers them: it is what the filesystem turns into
//! a message and an `EUCLEAN`. The block and the inode concerned are known to the caller, which adds
//! them to the message.

use core::fmt;

macro_rules! corrupt {
    ($($(#[$doc:meta])* $variant:ident($error:ty);)*) => {
        /// What is wrong with a metadata structure.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Corrupt {
            $($(#[$doc])* $variant($error),)*
            /// The structure is cut off: it would need more bytes than there are.
            Truncated {
                /// How many bytes the structure needs.
                needed: usize,
                /// How many there are.
                found: usize,
            },
        }

        $(
            impl From<$error> for Corrupt {
                fn from(error: $error) -> Self {
                    Self::$variant(error)
                }
            }
        )*

        impl fmt::Display for Corrupt {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(error) => fmt::Display::fmt(error, f),)*
                    Self::Truncated { needed, found } => {
                        write!(f, "{found} bytes are too few, {needed} are needed")
                    }
                }
            }
        }
    };
}

corrupt! {
    /// The checksum does not match.
    Checksum(crate::checksum::BadChecksum);
    /// The superblock.
    Superblock(crate::superblock::SuperblockError);
    /// A group descriptor.
    GroupDesc(crate::group_desc::GroupDescError);
    /// A bitmap.
    Bitmap(crate::bitmap::BitmapError);
    /// An inode.
    Inode(crate::inode::InodeError);
    /// A block of the orphan file.
    OrphanFile(crate::orphan_file::OrphanError);
    /// An extent tree.
    Extent(crate::extent::ExtentError);
    /// A directory.
    Directory(crate::dir::DirectoryError);
    /// Extended attributes.
    Xattr(crate::xattr::XattrError);
}

impl core::error::Error for Corrupt {}
