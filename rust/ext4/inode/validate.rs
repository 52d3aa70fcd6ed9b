// SPDX-License-Identifier: GPL-2.0

//! The border between an inode as it was read and everything that relies on it.

use core::fmt;

use super::DeviceNumber;
use super::FileType;
use super::InodeFlags;
use super::RawInode;
use super::Timestamp;
use super::BASE_SIZE;
use super::BLOCK_LENGTH;
use crate::checksum::BadChecksum;
use crate::features::Compat;
use crate::features::Incompat;
use crate::features::RoCompat;
use crate::superblock::ValidSuperblock;
use crate::BlockCount;
use crate::BlockSize;
use crate::Checksummer;
use crate::InodeNumber;
use crate::PhysicalBlock;

/// What an inode says, checked. The map of its blocks, `i_block`, is not part of it.
#[derive(Clone, Copy, Debug)]
pub struct ValidInode {
    /// The type.
    pub file_type: FileType,
    /// Type and permissions.
    pub mode: u16,
    /// The flags.
    pub flags: InodeFlags,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The project; `None` without the feature `project` or without room for one.
    pub project: Option<u32>,
    /// The number of links; 0 only for an orphan.
    pub links: u16,
    /// The size in bytes: not more than [`max_file_size`] of its kind.
    pub size: u64,
    /// The space that the file takes, in sectors of 512 bytes.
    pub sectors: u64,
    /// The last access.
    pub atime: Timestamp,
    /// The last change of the inode.
    pub ctime: Timestamp,
    /// The last change of the data.
    pub mtime: Timestamp,
    /// The birth, if the inode has room for it.
    pub crtime: Option<Timestamp>,
    /// The generation.
    pub generation: u32,
    /// The version.
    pub version: u64,
    /// The block of extended attributes, which lies in the filesystem.
    pub xattr_block: Option<PhysicalBlock>,
    /// How many bytes of extra fields there are.
    pub extra_isize: u16,
    /// The device, in an inode that is one.
    pub device: Option<DeviceNumber>,
    /// The symbolic link is in `i_block`, `size` bytes of it.
    pub fast_symlink: bool,
    /// The seed of the checksums of the file's metadata.
    pub checksum: Option<Checksummer>,
}

/// What is wrong with an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The sentences are below, in `Display`.
pub enum InodeError {
    Length { found: usize, expected: usize },
    ExtraIsize { found: u16, inode_size: usize },
    Checksum(BadChecksum),
    Unused,
    Deleted,
    Mode { found: u16 },
    FlagsConflict { flags: InodeFlags },
    FlagsWithoutFeature { flags: InodeFlags },
    FlagsOfOtherType { flags: InodeFlags },
    Size { found: u64, max: u64 },
    DirectorySize { found: u64 },
    SymlinkLength { found: u64 },
    XattrBlock { found: u64 },
}

impl InodeError {
    /// Whether the inode is intact, but not in use. What a directory names is; what a file handle of
    /// an NFS client names may be gone.
    pub const fn is_unused(&self) -> bool {
        matches!(self, Self::Unused | Self::Deleted)
    }
}

impl fmt::Display for InodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length { found, expected } => {
                write!(f, "inode has {found} bytes, should have {expected}")
            }
            Self::ExtraIsize { found, inode_size } => {
                write!(f, "{found} extra bytes in an inode of {inode_size}")
            }
            Self::Checksum(bad) => write!(f, "inode {bad}"),
            Self::Unused => f.write_str("inode is not in use"),
            Self::Deleted => f.write_str("inode is deleted"),
            Self::Mode { found } => write!(f, "mode {found:#o} is of no type"),
            Self::FlagsConflict { flags } => write!(f, "flags {flags} exclude each other"),
            Self::FlagsWithoutFeature { flags } => {
                write!(f, "flags {flags} need a feature that the filesystem lacks")
            }
            Self::FlagsOfOtherType { flags } => {
                write!(f, "flags {flags} do not go with the type of the file")
            }
            Self::Size { found, max } => write!(f, "size {found} is more than {max}"),
            Self::DirectorySize { found } => {
                write!(f, "size {found} of a directory is not in blocks")
            }
            Self::SymlinkLength { found } => {
                write!(f, "length {found} of a symbolic link is wrong")
            }
            Self::XattrBlock { found } => {
                write!(f, "block {found} of extended attributes is not possible")
            }
        }
    }
}

impl core::error::Error for InodeError {}

/// How large a file can get, in bytes.
///
/// `extents` tells how it is mapped, `huge_file` whether the filesystem has that feature.
///
/// With extents the number of a block has 32 bits, and the last block must be within a length that
/// has 32 bits too. Without, the limit is what three levels of pointers reach. And without `huge_file`
/// the sectors of a file, its pointers included, must fit in 32 bits.
pub fn max_file_size(block_size: BlockSize, extents: bool, huge_file: bool) -> u64 {
    let bits = block_size.bits();
    let space = if huge_file {
        (1 << 48) - 1
    } else {
        u64::from(u32::MAX) >> (bits - 9)
    };
    let blocks = if extents {
        space.min(u32::MAX.into())
    } else {
        let pointers = 1 << (bits - 2);
        // The largest number of blocks that fits the space together with its pointer blocks. Their
        // number grows with it, so that it can be searched for.
        let reach = 12 + pointers + pointers * pointers + pointers * pointers * pointers;
        let mut low: u64 = 0;
        let mut high = reach.min(u32::MAX.into());
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if middle + pointer_blocks(middle, bits - 2) <= space {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    };
    blocks << bits
}

/// How many blocks of `1 << bits` pointers a file of `blocks` blocks without holes needs.
fn pointer_blocks(blocks: u64, bits: u32) -> u64 {
    let mut left = blocks.saturating_sub(12);
    let mut needed = 0;
    for level in 1..=3 {
        if left == 0 {
            break;
        }
        let here = left.min(1 << (bits * level));
        for below in 1..=level {
            // Rounded up: the pointer blocks of one height.
            needed += ((here - 1) >> (bits * below)) + 1;
        }
        left -= here;
    }
    needed
}

impl RawInode {
    /// Checks everything but the map of blocks.
    ///
    /// `number` is the inode's. `orphan` lets an inode pass that has no links any more: the deletion
    /// of an orphan is to be finished.
    ///
    /// # Errors
    ///
    /// For an inode that is free the error [`is_unused`](InodeError::is_unused), for one without a
    /// type only if it has links.
    pub fn validate(
        &self,
        filesystem: &ValidSuperblock,
        number: InodeNumber,
        orphan: bool,
    ) -> Result<ValidInode, InodeError> {
        let geometry = &filesystem.geometry;
        let features = &filesystem.features;
        let inode_size = geometry.inode_size();
        let length = BASE_SIZE + self.rest.len();
        if length != inode_size {
            return Err(InodeError::Length {
                found: length,
                expected: inode_size,
            });
        }
        let mode = self.mode();
        let links = self.links();
        if mode == 0 && links == 0 {
            // Perhaps never written: not even a checksum is there then.
            return Err(InodeError::Unused);
        }
        let extra_isize = self.extra_isize();
        if extra_isize % 4 != 0 || usize::from(extra_isize) > self.rest.len() {
            return Err(InodeError::ExtraIsize {
                found: extra_isize,
                inode_size,
            });
        }
        self.verify_checksum(filesystem.checksum, number)
            .map_err(InodeError::Checksum)?;

        if links == 0 && !orphan {
            return Err(InodeError::Deleted);
        }
        let file_type = FileType::from_mode(mode).ok_or(InodeError::Mode { found: mode })?;
        let flags = self.flags();
        self.check_flags(filesystem, file_type)?;

        let block_size = geometry.block_size();
        let huge_file = features.ro_compat(RoCompat::HUGE_FILE);
        let size = self.size(features.incompat(Incompat::LARGE_DIR));
        let extents = flags.contains(InodeFlags::EXTENTS);
        let max = max_file_size(block_size, extents, huge_file);
        if size > max {
            return Err(InodeError::Size { found: size, max });
        }
        let sectors = self.sectors(block_size, huge_file);
        let xattr_block = self.xattr_block(features.incompat(Incompat::SIXTY_FOUR_BIT));
        if let Some(block) = xattr_block {
            if !geometry.contains(block, BlockCount::new(1))
                || geometry.primary_meta().contains(&block.get())
            {
                return Err(InodeError::XattrBlock { found: block.get() });
            }
        }

        let inline = flags.contains(InodeFlags::INLINE_DATA);
        if file_type == FileType::Directory && !inline {
            let in_blocks = size & (block_size.bytes() as u64 - 1) == 0;
            // A directory that is removed loses its size before its blocks.
            if !in_blocks || (size == 0 && links != 0) {
                return Err(InodeError::DirectorySize { found: size });
            }
        }
        let fast_symlink = file_type == FileType::Symlink
            && !inline
            && if features.incompat(Incompat::EA_INODE) {
                // The space may be that of attributes.
                size < BLOCK_LENGTH as u64
            } else {
                let cluster = u64::from(geometry.cluster_ratio()) << (block_size.bits() - 9);
                sectors == if xattr_block.is_some() { cluster } else { 0 }
            };
        if file_type == FileType::Symlink && links != 0 {
            self.check_symlink(size, fast_symlink, block_size)?;
        }

        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        Ok(ValidInode {
            file_type,
            mode,
            flags,
            uid: self.uid(),
            gid: self.gid(),
            project: if features.ro_compat(RoCompat::PROJECT) {
                self.project()
            } else {
                None
            },
            links,
            size,
            sectors,
            atime: self.atime(),
            ctime: self.ctime(),
            mtime: self.mtime(),
            crtime: self.crtime(),
            generation: self.generation(),
            version: self.version(),
            xattr_block,
            extra_isize,
            device: is_device.then(|| self.device()),
            fast_symlink,
            checksum: self.checksum_seed(filesystem.checksum, number),
        })
    }

    fn check_flags(
        &self,
        filesystem: &ValidSuperblock,
        file_type: FileType,
    ) -> Result<(), InodeError> {
        let flags = self.flags();
        let features = &filesystem.features;

        let maps = InodeFlags::INLINE_DATA.with(InodeFlags::EXTENTS);
        if flags.contains(maps) {
            return Err(InodeError::FlagsConflict { flags: maps });
        }

        let needs = [
            (InodeFlags::EXTENTS, features.incompat(Incompat::EXTENTS)),
            (
                InodeFlags::INLINE_DATA,
                features.incompat(Incompat::INLINE_DATA),
            ),
            (InodeFlags::ENCRYPT, features.incompat(Incompat::ENCRYPT)),
            (InodeFlags::CASEFOLD, features.incompat(Incompat::CASEFOLD)),
            (InodeFlags::EA_INODE, features.incompat(Incompat::EA_INODE)),
            (InodeFlags::VERITY, features.ro_compat(RoCompat::VERITY)),
            (
                InodeFlags::HUGE_FILE,
                features.ro_compat(RoCompat::HUGE_FILE),
            ),
            // Without metadata checksums a driver that does not know indices can take one for empty
            // space, and so can we.
            (
                InodeFlags::INDEX,
                features.compat(Compat::DIR_INDEX) || filesystem.checksum.is_none(),
            ),
        ];
        let lacking = needs
            .into_iter()
            .filter(|(_, there)| !there)
            .fold(InodeFlags::NONE, |all, (flag, _)| all.with(flag))
            .and(flags);
        if !lacking.is_empty() {
            return Err(InodeError::FlagsWithoutFeature { flags: lacking });
        }

        let foreign = match file_type {
            FileType::Directory => InodeFlags::NONE,
            FileType::Symlink => InodeFlags::INDEX
                .with(InodeFlags::APPEND)
                .with(InodeFlags::IMMUTABLE),
            _ => InodeFlags::INDEX,
        }
        .and(flags);
        if !foreign.is_empty() {
            return Err(InodeError::FlagsOfOtherType { flags: foreign });
        }
        Ok(())
    }

    fn check_symlink(
        &self,
        size: u64,
        fast: bool,
        block_size: BlockSize,
    ) -> Result<(), InodeError> {
        let wrong = InodeError::SymlinkLength { found: size };
        let room = if fast {
            BLOCK_LENGTH
        } else {
            block_size.bytes()
        };
        // There is a NUL behind the target.
        if size == 0 || size >= room as u64 {
            return Err(wrong);
        }
        // The bytes of an encrypted link are not characters.
        if fast && !self.flags().contains(InodeFlags::ENCRYPT) {
            let end = self.block.iter().position(|byte| *byte == 0);
            if end != Some(size as usize) {
                return Err(wrong);
            }
        }
        Ok(())
    }
}
