// SPDX-License-Identifier: GPL-2.0

//! The border between the superblock as it was read and everything that relies on it.

use core::num::NonZeroU32;
use core::num::NonZeroU64;

use super::flags;
use super::Superblock;
use super::SuperblockError;
use super::LENGTH;
use crate::checksum::Crc32c;
use crate::features::Compat;
use crate::features::Features;
use crate::features::Incompat;
use crate::features::RoCompat;
use crate::features::Supported;
use crate::geometry::Backups;
use crate::geometry::Geometry;
use crate::group_desc::DescChecksum;
use crate::BlockCount;
use crate::BlockSize;
use crate::Checksummer;
use crate::Group;
use crate::InodeNumber;
use crate::PhysicalBlock;

/// The only checksum algorithm that the format knows: crc32c.
const CHECKSUM_CRC32C: u8 = 1;
/// `s_creator_os` of the Hurd, which uses some inode fields in its own way.
const OS_HURD: u32 = 1;
/// The size of the fields of [`crate::inode::RawInode`] beyond the first 128 bytes.
const KNOWN_EXTRA_ISIZE: u16 = 32;

/// Where the journal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalLocation {
    /// There is none.
    None,
    /// In an inode of this filesystem.
    Internal(InodeNumber),
    /// On a device of its own.
    External {
        /// The uuid that the journal's superblock must carry.
        uuid: [u8; 16],
        /// The device number as it was when the journal was made, in the kernel's `new_encode_dev`
        /// form. Device numbers change: the uuid decides.
        device: u32,
    },
}

/// How names are hashed in directories that do not say otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectoryHash {
    /// The hash version for new indices: 0 legacy, 1 half MD4, 2 TEA, and 3 to 5 the same with
    /// unsigned characters.
    pub default_version: u8,
    /// Whether versions 0 to 2, where they stand in an index, mean their unsigned siblings.
    pub unsigned: bool,
    /// The seed; all zeroes means the hash function's own.
    pub seed: [u32; 4],
}

/// What a superblock says, checked.
///
/// It is made when a filesystem is mounted and when its size changes. The values that change all the
/// time, counts and times, are not in it: they are read from and written to [`Superblock`].
#[derive(Clone, Copy, Debug)]
pub struct ValidSuperblock {
    /// The layout.
    pub geometry: Geometry,
    /// The features. Two of them change while mounted, see [`Superblock::set_needs_recovery`] and
    /// [`Superblock::set_orphan_present`].
    pub features: Features,
    /// The seed of all metadata checksums; `None` without the feature `metadata_csum`.
    pub checksum: Option<Checksummer>,
    /// The seed of checksums that are there even without `metadata_csum`, as in EA inodes.
    pub seed: Checksummer,
    /// How group descriptors are protected.
    pub desc_checksum: DescChecksum,
    /// The uuid.
    pub uuid: [u8; 16],
    /// Where the journal is.
    pub journal: JournalLocation,
    /// The orphan file, with the feature `orphan_file`.
    pub orphan_file: Option<InodeNumber>,
    /// The head of the list of orphans, if there are any in it.
    pub last_orphan: Option<InodeNumber>,
    /// The hidden quota files for users, groups and projects, with the feature `quota`.
    pub quota_files: [Option<InodeNumber>; 3],
    /// How directories hash names.
    pub hash: DirectoryHash,
    /// How many bytes of extra fields a new inode gets; 0 with inodes of 128 bytes.
    pub want_extra_isize: u16,
    /// The block of multi-mount protection, with the feature `mmp`.
    pub mmp_block: Option<PhysicalBlock>,
    /// The metadata of the whole filesystem in clusters, if somebody computed it.
    pub overhead_clusters: Option<u32>,
    /// The revision is higher than any known: mount read-only.
    pub read_only_revision: bool,
}

impl Superblock {
    /// Computes the superblock's own checksum, which does not depend on the uuid.
    pub(super) fn compute_checksum(&self, crc32c: Crc32c) -> Checksummer {
        use zerocopy::IntoBytes as _;

        Checksummer::new(crc32c).with_bytes(&self.as_bytes()[..LENGTH - 4])
    }

    /// The seed of the other checksums.
    fn seed(&self, crc32c: Crc32c) -> Checksummer {
        if self.features().incompat(Incompat::CSUM_SEED) {
            Checksummer::with_seed(crc32c, self.checksum_seed.get())
        } else {
            Checksummer::new(crc32c).with_bytes(&self.uuid)
        }
    }

    /// Checks everything.
    ///
    /// `device_blocks` tells the size of the device in blocks of a given size, rounded down.
    /// `supported` are the features that the caller knows and `read_only` whether it will not write.
    ///
    /// Order matters to what the user is told: first whether this is an ext4 filesystem, then whether
    /// it is one that we know, then whether the superblock is intact, then each value.
    pub fn validate(
        &self,
        crc32c: Crc32c,
        device_blocks: impl FnOnce(BlockSize) -> u64,
        supported: &Supported,
        read_only: bool,
    ) -> Result<ValidSuperblock, SuperblockError> {
        use SuperblockError as E;

        if !self.has_magic() {
            return Err(E::Magic {
                found: self.magic.get(),
            });
        }
        let features = self.features();
        if features.incompat(Incompat::JOURNAL_DEV) {
            return Err(E::JournalDevice);
        }
        if features.ro_compat(RoCompat::METADATA_CSUM) {
            if self.checksum_type != CHECKSUM_CRC32C {
                return Err(E::ChecksumType {
                    found: self.checksum_type,
                });
            }
            self.compute_checksum(crc32c)
                .verify(self.checksum.get())
                .map_err(E::Checksum)?;
        }
        supported.check(&features, read_only).map_err(E::Features)?;
        if self.creator_os.get() == OS_HURD
            && (features.incompat(Incompat::SIXTY_FOUR_BIT)
                || features.incompat(Incompat::EA_INODE))
        {
            return Err(E::HurdFeatures);
        }
        if features.incompat(Incompat::ENCRYPT) && self.encryption_level != 0 {
            return Err(E::EncryptionLevel {
                found: self.encryption_level,
            });
        }

        let geometry = self.geometry(&features, device_blocks)?;
        self.check_counts(&geometry)?;

        let seed = self.seed(crc32c);
        let metadata_csum = features.ro_compat(RoCompat::METADATA_CSUM);
        let inode = |raw: u32, error: E| match InodeNumber::new(raw) {
            Some(inode) if geometry.locate_inode(inode).is_some() => Ok(inode),
            _ => Err(error),
        };
        let optional = |raw: u32, error: E| match raw {
            0 => Ok(None),
            raw => inode(raw, error).map(Some),
        };
        let quota = features.ro_compat(RoCompat::QUOTA);
        let quota_file = |used: bool, raw: u32| match used {
            true => optional(raw, E::QuotaInode { found: raw }),
            false => Ok(None),
        };
        let project = quota && features.ro_compat(RoCompat::PROJECT);
        let orphan_file = self.orphan_file_inode.get();
        let last_orphan = self.last_orphan.get();

        Ok(ValidSuperblock {
            geometry,
            features,
            checksum: metadata_csum.then_some(seed),
            seed,
            desc_checksum: if metadata_csum {
                DescChecksum::Crc32c(seed)
            } else if features.ro_compat(RoCompat::GDT_CSUM) {
                DescChecksum::crc16(&self.uuid)
            } else {
                DescChecksum::None
            },
            uuid: self.uuid,
            journal: self.journal(&features, &geometry)?,
            orphan_file: if features.compat(Compat::ORPHAN_FILE) {
                let error = E::OrphanFileInode { found: orphan_file };
                Some(inode(orphan_file, error)?)
            } else {
                None
            },
            last_orphan: optional(last_orphan, E::LastOrphan { found: last_orphan })?,
            quota_files: [
                quota_file(quota, self.user_quota_inode.get())?,
                quota_file(quota, self.group_quota_inode.get())?,
                quota_file(project, self.project_quota_inode.get())?,
            ],
            hash: self.directory_hash()?,
            want_extra_isize: self.extra_isize(&features, &geometry)?,
            mmp_block: self.mmp(&features, &geometry)?,
            overhead_clusters: Some(self.overhead_clusters.get()).filter(|count| *count != 0),
            read_only_revision: self.revision.get() > 1,
        })
    }

    fn geometry(
        &self,
        features: &Features,
        device_blocks: impl FnOnce(BlockSize) -> u64,
    ) -> Result<Geometry, SuperblockError> {
        use SuperblockError as E;

        let block_size = self.block_size().ok_or(E::LogBlockSize {
            found: self.log_block_size.get(),
        })?;
        let block_bits = block_size.bits();
        let bitmap_bits = block_size.bytes() as u32 * 8;

        let log_cluster_size = self.log_cluster_size.get();
        if log_cluster_size > 20 {
            return Err(E::LogClusterSize {
                found: log_cluster_size,
            });
        }
        let bigalloc = features.ro_compat(RoCompat::BIGALLOC);
        let cluster_bits = match (log_cluster_size + 10).checked_sub(block_bits) {
            Some(bits) if bits == 0 || bigalloc => bits,
            _ => {
                return Err(E::ClusterSize {
                    cluster_bits: log_cluster_size + 10,
                    block_bits,
                })
            }
        };
        let clusters_per_group = self.clusters_per_group.get();
        if clusters_per_group == 0
            || clusters_per_group > bitmap_bits
            || clusters_per_group % 8 != 0
        {
            return Err(E::ClustersPerGroup {
                found: clusters_per_group,
            });
        }
        let found = self.blocks_per_group.get();
        let blocks_per_group = NonZeroU32::new(found)
            .filter(|count| u64::from(count.get()) == u64::from(clusters_per_group) << cluster_bits)
            .ok_or(E::BlocksPerGroup {
                found,
                clusters: clusters_per_group,
            })?;

        let (inode_size, first_inode) = match self.revision.get() {
            0 => (128, InodeNumber::FIRST_UNRESERVED.get()),
            _ => (self.inode_size.get(), self.first_inode.get()),
        };
        if inode_size < 128
            || !inode_size.is_power_of_two()
            || usize::from(inode_size) > block_size.bytes()
        {
            return Err(E::InodeSize { found: inode_size });
        }
        let inode_bits = inode_size.trailing_zeros();
        let inodes_per_block = 1 << (block_bits - inode_bits);
        let found = self.inodes_per_group.get();
        let inodes_per_group = NonZeroU32::new(found)
            .filter(|_| found <= bitmap_bits)
            .filter(|_| found % 8 == 0 && found & (inodes_per_block - 1) == 0)
            .ok_or(E::InodesPerGroup { found })?;

        let desc_size = if features.incompat(Incompat::SIXTY_FOUR_BIT) {
            self.desc_size.get()
        } else {
            32
        };
        let smallest = if features.incompat(Incompat::SIXTY_FOUR_BIT) {
            64
        } else {
            32
        };
        if desc_size < smallest || desc_size > 1024 || !desc_size.is_power_of_two() {
            return Err(E::DescSize { found: desc_size });
        }
        let desc_bits = desc_size.trailing_zeros();
        let descs_per_block_bits = block_bits - desc_bits;
        let descs_per_block = 1 << descs_per_block_bits;

        let reserved_gdt_blocks = self.reserved_gdt_blocks.get();
        if usize::from(reserved_gdt_blocks) > block_size.bytes() / 4 {
            return Err(E::ReservedGdtBlocks {
                found: reserved_gdt_blocks,
            });
        }

        let first_data_block = self.first_data_block.get();
        let expected = u32::from(block_bits == 10 && cluster_bits == 0);
        if first_data_block != expected {
            return Err(E::FirstDataBlock {
                found: first_data_block,
                expected,
            });
        }
        let blocks = self.blocks_count();
        if blocks > 1 << 48 || blocks > i64::MAX as u64 >> block_bits {
            return Err(E::TooLarge { blocks });
        }
        if blocks <= u64::from(first_data_block) {
            return Err(E::NoBlocks { blocks });
        }
        let device = device_blocks(block_size);
        if blocks > device {
            return Err(E::BeyondDevice { blocks, device });
        }

        let grouped = blocks - u64::from(first_data_block);
        let groups = (grouped - 1) / NonZeroU64::from(blocks_per_group) + 1;
        let group_count = u32::try_from(groups)
            .ok()
            .filter(|count| *count <= u32::MAX - descs_per_block)
            .ok_or(E::GroupCount { groups })?;
        let inodes = groups * u64::from(inodes_per_group.get());
        if inodes != u64::from(self.inodes_count.get()) {
            return Err(E::InodesCount {
                found: self.inodes_count.get(),
                expected: inodes,
            });
        }
        let first_inode = InodeNumber::new(first_inode)
            .filter(|first| *first >= InodeNumber::FIRST_UNRESERVED)
            .filter(|first| u64::from(first.get()) <= inodes)
            .ok_or(E::FirstInode { found: first_inode })?;

        let desc_blocks = ((group_count - 1) >> descs_per_block_bits) + 1;
        let first_meta_bg = if features.incompat(Incompat::META_BG) {
            self.first_meta_bg.get()
        } else {
            u32::MAX
        };
        if features.incompat(Incompat::META_BG) && first_meta_bg > desc_blocks {
            return Err(E::FirstMetaBg {
                found: first_meta_bg,
                blocks: desc_blocks,
            });
        }

        let geometry = Geometry {
            block_size,
            cluster_bits: cluster_bits as u8,
            flex_bits: match self.log_groups_per_flex {
                bits @ 1..=31 if features.incompat(Incompat::FLEX_BG) => bits,
                _ => 0,
            },
            flex_bg: features.incompat(Incompat::FLEX_BG),
            inode_bits: inode_bits as u8,
            desc_bits: desc_bits as u8,
            reserved_gdt_blocks,
            first_data_block,
            blocks_per_group,
            clusters_per_group,
            inodes_per_group,
            group_count,
            first_inode,
            first_meta_bg,
            backups: if features.compat(Compat::SPARSE_SUPER2) {
                let [first, second] = self.backup_groups;
                Backups::Named([first.get(), second.get()])
            } else if features.ro_compat(RoCompat::SPARSE_SUPER) {
                Backups::Sparse
            } else {
                Backups::All
            },
            blocks_count: blocks,
        };
        let needed = u64::from(geometry.base_meta_blocks(Group::ZERO));
        let there = geometry.blocks_in_group(Group::ZERO);
        if needed > there.into() {
            return Err(E::Group0Full {
                needed,
                blocks: there,
            });
        }
        Ok(geometry)
    }

    /// Checks the counts, which are estimates while mounted, but never impossible.
    fn check_counts(&self, geometry: &Geometry) -> Result<(), SuperblockError> {
        use SuperblockError as E;

        let blocks = geometry.blocks_count().get();
        let found = self.free_blocks_count();
        // Free clusters are counted here with all their blocks, also the last one of the filesystem.
        if found > geometry.clusters_for(blocks) << geometry.cluster_bits() {
            return Err(E::FreeBlocks { found, blocks });
        }
        let found = self.reserved_blocks_count();
        if found > blocks {
            return Err(E::ReservedBlocks { found, blocks });
        }
        let found = self.free_inodes_count.get();
        let inodes = geometry.inodes_count();
        if found > inodes {
            return Err(E::FreeInodes { found, inodes });
        }
        Ok(())
    }

    fn journal(
        &self,
        features: &Features,
        geometry: &Geometry,
    ) -> Result<JournalLocation, SuperblockError> {
        if !features.compat(Compat::HAS_JOURNAL) {
            return Ok(JournalLocation::None);
        }
        let raw = self.journal_inode.get();
        if raw == 0 && self.journal_device.get() != 0 {
            return Ok(JournalLocation::External {
                uuid: self.journal_uuid,
                device: self.journal_device.get(),
            });
        }
        InodeNumber::new(raw)
            .filter(|inode| geometry.locate_inode(*inode).is_some())
            .filter(|inode| *inode != InodeNumber::ROOT)
            .map(JournalLocation::Internal)
            .ok_or(SuperblockError::JournalInode { found: raw })
    }

    fn directory_hash(&self) -> Result<DirectoryHash, SuperblockError> {
        // Version 6, SipHash, is for encrypted directories and needs their key: never a default.
        if self.default_hash_version > 5 {
            return Err(SuperblockError::HashVersion {
                found: self.default_hash_version,
            });
        }
        Ok(DirectoryHash {
            default_version: self.default_hash_version,
            // With neither flag the hashes are those of the machine on which the filesystem is
            // first written, and signed characters are what x86 has.
            unsigned: self.flags.get() & flags::UNSIGNED_HASH != 0,
            seed: self.hash_seed.map(|word| word.get()),
        })
    }

    fn extra_isize(
        &self,
        features: &Features,
        geometry: &Geometry,
    ) -> Result<u16, SuperblockError> {
        let room = (geometry.inode_size() - 128) as u16;
        if room == 0 {
            return Ok(0);
        }
        let mut size = KNOWN_EXTRA_ISIZE;
        if features.ro_compat(RoCompat::EXTRA_ISIZE) {
            for wish in [self.want_extra_isize.get(), self.min_extra_isize.get()] {
                if wish > room {
                    return Err(SuperblockError::ExtraIsize { found: wish });
                }
                size = size.max(wish);
            }
        }
        // An inode whose extra size is no multiple of 4 would not be valid.
        Ok(size.next_multiple_of(4))
    }

    fn mmp(
        &self,
        features: &Features,
        geometry: &Geometry,
    ) -> Result<Option<PhysicalBlock>, SuperblockError> {
        if !features.incompat(Incompat::MMP) {
            return Ok(None);
        }
        let block = PhysicalBlock::new(self.mmp_block.get());
        if !geometry.contains(block, BlockCount::new(1))
            || geometry.primary_meta().contains(&block.get())
        {
            return Err(SuperblockError::MmpBlock { found: block.get() });
        }
        Ok(Some(block))
    }
}
