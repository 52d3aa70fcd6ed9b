// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with a superblock.

use core::fmt;

use super::MAGIC;
use crate::checksum::BadChecksum;
use crate::features::UnsupportedFeatures;

/// Why a superblock cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The sentences are below, in `Display`.
pub enum SuperblockError {
    Truncated { found: usize },
    Magic { found: u16 },
    Checksum(BadChecksum),
    ChecksumType { found: u8 },
    Features(UnsupportedFeatures),
    JournalDevice,
    HurdFeatures,
    LogBlockSize { found: u32 },
    LogClusterSize { found: u32 },
    ClusterSize { cluster_bits: u32, block_bits: u32 },
    ClustersPerGroup { found: u32 },
    BlocksPerGroup { found: u32, clusters: u32 },
    InodeSize { found: u16 },
    FirstInode { found: u32 },
    InodesPerGroup { found: u32 },
    DescSize { found: u16 },
    ReservedGdtBlocks { found: u16 },
    FirstDataBlock { found: u32, expected: u32 },
    TooLarge { blocks: u64 },
    NoBlocks { blocks: u64 },
    BeyondDevice { blocks: u64, device: u64 },
    GroupCount { groups: u64 },
    InodesCount { found: u32, expected: u64 },
    FirstMetaBg { found: u32, blocks: u32 },
    Group0Full { needed: u64, blocks: u32 },
    ExtraIsize { found: u16 },
    HashVersion { found: u8 },
    JournalInode { found: u32 },
    OrphanFileInode { found: u32 },
    QuotaInode { found: u32 },
    LastOrphan { found: u32 },
    MmpBlock { found: u64 },
    FreeBlocks { found: u64, blocks: u64 },
    ReservedBlocks { found: u64, blocks: u64 },
    FreeInodes { found: u32, inodes: u32 },
    EncryptionLevel { found: u8 },
}

impl SuperblockError {
    /// Whether there is no ext4 filesystem at all, rather than one that is broken or not supported.
    pub const fn is_not_ext4(&self) -> bool {
        matches!(
            self,
            Self::Magic { .. } | Self::Truncated { .. } | Self::JournalDevice
        )
    }
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { found } => {
                write!(f, "superblock is cut off after {found} bytes")
            }
            Self::Magic { found } => {
                write!(
                    f,
                    "not an ext4 filesystem: magic is {found:#x}, not {MAGIC:#x}"
                )
            }
            Self::Checksum(bad) => write!(f, "superblock {bad}"),
            Self::ChecksumType { found } => write!(f, "unknown checksum algorithm {found}"),
            Self::Features(features) => write!(f, "{features}"),
            Self::JournalDevice => f.write_str("this is an external journal, not a filesystem"),
            Self::HurdFeatures => f.write_str("made for the Hurd, with 64bit or ea_inode"),
            Self::LogBlockSize { found } => write!(f, "block size 1 KiB << {found} is too large"),
            Self::LogClusterSize { found } => {
                write!(f, "cluster size 1 KiB << {found} is too large")
            }
            Self::ClusterSize {
                cluster_bits,
                block_bits,
            } => write!(
                f,
                "cluster size 1 << {cluster_bits} does not go with block size 1 << {block_bits}"
            ),
            Self::ClustersPerGroup { found } => {
                write!(
                    f,
                    "{found} clusters in a group do not go with the block size"
                )
            }
            Self::BlocksPerGroup { found, clusters } => {
                write!(f, "{found} blocks in a group of {clusters} clusters")
            }
            Self::InodeSize { found } => write!(f, "inode size {found} is not possible"),
            Self::FirstInode { found } => write!(f, "first inode {found} is not possible"),
            Self::InodesPerGroup { found } => {
                write!(
                    f,
                    "{found} inodes in a group do not go with block and inode size"
                )
            }
            Self::DescSize { found } => write!(f, "group descriptor size {found} is not possible"),
            Self::ReservedGdtBlocks { found } => {
                write!(f, "{found} reserved descriptor blocks are too many")
            }
            Self::FirstDataBlock { found, expected } => {
                write!(f, "first data block is {found}, not {expected}")
            }
            Self::TooLarge { blocks } => write!(f, "{blocks} blocks are too many"),
            Self::NoBlocks { blocks } => write!(f, "{blocks} blocks are too few"),
            Self::BeyondDevice { blocks, device } => {
                write!(f, "{blocks} blocks, but the device has only {device}")
            }
            Self::GroupCount { groups } => write!(f, "{groups} groups are too many"),
            Self::InodesCount { found, expected } => {
                write!(f, "{found} inodes, but the groups hold {expected}")
            }
            Self::FirstMetaBg { found, blocks } => {
                write!(f, "first meta group {found} of {blocks} descriptor blocks")
            }
            Self::Group0Full { needed, blocks } => {
                write!(f, "descriptors need {needed} blocks, group 0 has {blocks}")
            }
            Self::ExtraIsize { found } => {
                write!(f, "{found} extra bytes do not go with the inode size")
            }
            Self::HashVersion { found } => write!(f, "unknown directory hash version {found}"),
            Self::JournalInode { found } => write!(f, "journal inode {found} is not possible"),
            Self::OrphanFileInode { found } => {
                write!(f, "orphan file inode {found} is not possible")
            }
            Self::QuotaInode { found } => write!(f, "quota inode {found} is not possible"),
            Self::LastOrphan { found } => write!(f, "orphan inode {found} is not possible"),
            Self::MmpBlock { found } => {
                write!(f, "multi-mount protection block {found} is not possible")
            }
            Self::FreeBlocks { found, blocks } => {
                write!(f, "{found} of {blocks} blocks are free")
            }
            Self::ReservedBlocks { found, blocks } => {
                write!(f, "{found} of {blocks} blocks are reserved")
            }
            Self::FreeInodes { found, inodes } => write!(f, "{found} of {inodes} inodes are free"),
            Self::EncryptionLevel { found } => write!(f, "unknown encryption level {found}"),
        }
    }
}

impl core::error::Error for SuperblockError {}
