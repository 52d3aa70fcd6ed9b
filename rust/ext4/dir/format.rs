// SPDX-License-Identifier: GPL-2.0

//! What the format of a directory depends on, and the checks of whole blocks.

use super::leaf;
use super::leaf::TAIL_SIZE;
use crate::checksum::Checksummer;
use crate::error::Corrupt;
use crate::features::Compat;
use crate::features::Incompat;
use crate::hash::HashVersion;
use crate::hash::NameHasher;
use crate::hash::Signedness;
use crate::htree::node;
use crate::superblock::ValidSuperblock;
use crate::types::BlockSize;
use crate::types::InodeNumber;
use crate::types::LogicalBlock;

/// The features of the filesystem that directories depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirFeatures {
    /// `filetype`: entries tell the type of the file.
    pub filetype: bool,
    /// `dir_index`: large directories have an index.
    pub dir_index: bool,
    /// `large_dir`: an index may have three levels and not just two.
    pub large_dir: bool,
}

/// Which blocks an operation may change at most, to reserve room for them in the journal.
///
/// What allocating a block changes (bitmaps, the inode, its extents) is not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credits {
    /// Blocks of the directory that exist already.
    pub existing: u32,
    /// Blocks that are appended to the directory.
    pub appended: u32,
}

/// What a block of a directory holds, which decides where its checksum stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockKind {
    /// Entries: a block of a linear directory or a leaf of an htree.
    Leaf,
    /// The root of an htree. Always logical block 0.
    Root,
    /// Another node of the index of an htree.
    Node,
}

/// What the format of a directory depends on.
#[derive(Clone, Copy, Debug)]
pub struct DirFormat {
    /// The size of a block.
    pub block_size: BlockSize,
    /// How many inodes the filesystem has, which is also the largest inode number.
    pub inode_count: u32,
    /// With `metadata_csum`: the checksum that has taken in the number and generation of the directory,
    /// see [`Checksummer::for_inode`].
    pub checksum: Option<Checksummer>,
    /// The features of the filesystem.
    pub features: DirFeatures,
    /// How names are hashed. The version is the one of new indexes, `s_def_hash_version`: each index
    /// says for itself which version it is sorted by.
    pub hasher: NameHasher,
}

impl DirFormat {
    /// For the directory `inode` of a filesystem. `generation` is the one in the inode.
    pub fn new(superblock: &ValidSuperblock, inode: InodeNumber, generation: u32) -> Self {
        let checksum = superblock
            .checksum
            .map(|checksum| checksum.for_inode(inode, generation));
        Self::with_checksum(superblock, checksum)
    }

    /// For a directory whose [checksum](Self::checksum) is known.
    pub fn with_checksum(superblock: &ValidSuperblock, checksum: Option<Checksummer>) -> Self {
        let features = superblock.features;
        let hash = superblock.hash;
        // Versions 3 to 5 are 0 to 2 with unsigned bytes. An index never says these numbers: who reads
        // it goes by the flag in the superblock, and so must who makes it.
        let version = hash.default_version;
        let version = HashVersion::from_raw(version.checked_sub(3).unwrap_or(version));
        let signedness = if hash.unsigned {
            Signedness::Unsigned
        } else {
            Signedness::Signed
        };
        Self {
            block_size: superblock.geometry.block_size(),
            inode_count: superblock.geometry.inodes_count(),
            checksum,
            features: DirFeatures {
                filetype: features.incompat(Incompat::FILETYPE),
                dir_index: features.compat(Compat::DIR_INDEX),
                large_dir: features.incompat(Incompat::LARGE_DIR),
            },
            hasher: NameHasher::new(
                version.unwrap_or(HashVersion::HalfMd4),
                signedness,
                hash.seed,
            ),
        }
    }

    /// Where the entries of a block end: at its end, or at the checksum.
    #[inline]
    pub(crate) fn entries_end(&self) -> usize {
        match self.checksum {
            Some(_) => self.block_size.bytes() - TAIL_SIZE,
            None => self.block_size.bytes(),
        }
    }

    /// How many entries a block can hold at most.
    pub const fn max_entries(&self) -> usize {
        self.block_size.bytes() / super::entry::MIN_ENTRY
    }

    /// How many levels an index can have, the root included.
    pub(crate) const fn max_levels(&self) -> usize {
        if self.features.large_dir {
            3
        } else {
            2
        }
    }

    /// The length of a block is what it must be.
    #[inline]
    pub(crate) fn check_length(&self, block: &[u8]) -> Result<(), Corrupt> {
        if block.len() == self.block_size.bytes() {
            Ok(())
        } else {
            Err(Corrupt::Truncated {
                needed: self.block_size.bytes(),
                found: block.len(),
            })
        }
    }

    /// Checks all of a block that was read from disk: the checksum, then each entry.
    ///
    /// To be called once for each block, before it is handed to a [`super::Directory`]. `kind` is what
    /// the directory expects it to be, `blocks` is the size of the directory in blocks.
    pub fn verify_block(&self, kind: BlockKind, block: &[u8], blocks: u32) -> Result<(), Corrupt> {
        self.check_length(block)?;
        match kind {
            BlockKind::Leaf => leaf::verify(self, block),
            BlockKind::Root | BlockKind::Node => node::verify(self, kind, block, blocks),
        }
    }

    /// Stores the checksum in a block that was changed. Does nothing without `metadata_csum`.
    pub(crate) fn seal(&self, kind: BlockKind, block: &mut [u8]) {
        if let Some(checksum) = self.checksum {
            match kind {
                BlockKind::Leaf => leaf::seal(checksum, block),
                BlockKind::Root | BlockKind::Node => node::seal(self, checksum, kind, block),
            }
        }
    }

    /// What [`super::Directory::insert`] may change in a directory of `blocks` blocks.
    pub fn insert_credits(&self, blocks: u32) -> Credits {
        if self.features.dir_index {
            // The way from the root to the leaf, and on each level a new neighbour (the root gets a level
            // below it instead). A directory without an index yet changes less.
            Credits {
                existing: self.max_levels() as u32 + 1,
                appended: self.max_levels() as u32,
            }
        } else {
            Credits {
                existing: u32::from(blocks > 0),
                appended: 1,
            }
        }
    }

    /// What [`super::Directory::remove`], [`super::Directory::set_inode`] and
    /// [`super::Directory::set_parent`] may change.
    pub const fn change_credits(&self) -> Credits {
        Credits {
            existing: 1,
            appended: 0,
        }
    }

    /// What [`super::Directory::init`] changes.
    pub const fn init_credits(&self) -> Credits {
        Credits {
            existing: 0,
            appended: 1,
        }
    }
}

/// Logical block 0, which holds `.` and `..`, and in an htree the root.
pub(crate) const FIRST_BLOCK: LogicalBlock = LogicalBlock::ZERO;
