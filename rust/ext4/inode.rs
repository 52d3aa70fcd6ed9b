// SPDX-License-Identifier: GPL-2.0

//! Inodes.
//!
//! An inode is 128 bytes, or with the usual inode size of 256 bytes those 128, some *extra* fields and
//! room for extended attributes:
//!
//! ```text
//! 0x00 mode  uid  size    atime ctime mtime  dtime  gid  links  blocks flags version
//! 0x28 i_block: 60 bytes. An extent tree's root, block pointers, a short symbolic link, a device
//!      number or inline data, as type and flags say
//! 0x64 generation  xattr block  size (high)  ...
//! 0x74 blocks (high)  xattr block (high)  uid (high)  gid (high)  checksum (low)
//! ---- 0x80 ----
//! 0x80 extra_isize      how many bytes from 0x80 on are fields that exist in this inode
//! 0x82 checksum (high)
//! 0x84 ctime  mtime  atime: nanoseconds and epoch   crtime  crtime's  version (high)  project
//! 0x80 + extra_isize    extended attributes up to the end of the inode
//! ```
//!
//! A field beyond `extra_isize` does not exist, whatever the bytes there are. Getters then give `None`
//! or the part that exists, setters leave the bytes alone.
//!
//! [`RawInode`] is the inode as it stands on disk. [`RawInode::validate`] makes a [`ValidInode`] of it.
//!
//! Source: `Documentation/filesystems/ext4/inodes.rst`.

mod checksum;
mod flags;
mod time;
mod validate;

#[cfg(test)]
mod tests;

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use crate::BlockSize;
use crate::InodeNumber;
use crate::PhysicalBlock;

pub use flags::InodeFlags;
pub use time::Timestamp;
pub use validate::max_file_size;
pub use validate::InodeError;
pub use validate::ValidInode;

/// The part of an inode that every inode has, in bytes.
pub const BASE_SIZE: usize = 128;
/// The length of `i_block` in bytes.
pub const BLOCK_LENGTH: usize = 60;
/// How many hard links a file can have, and how many subdirectories a directory counts.
///
/// With the feature `dir_nlink` a directory with more has a link count of 1, which says nothing.
pub const LINK_MAX: u16 = 65_000;

/// What kind of file an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileType {
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Socket,
}

impl FileType {
    /// The bits of a mode that hold the type.
    pub const MODE_MASK: u16 = 0o170000;

    /// The type in a mode; `None` when there is no such type.
    pub const fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode & Self::MODE_MASK {
            0o010000 => Self::Fifo,
            0o020000 => Self::CharDevice,
            0o040000 => Self::Directory,
            0o060000 => Self::BlockDevice,
            0o100000 => Self::Regular,
            0o120000 => Self::Symlink,
            0o140000 => Self::Socket,
            _ => return None,
        })
    }

    /// The bits that say this in a mode.
    pub const fn mode_bits(self) -> u16 {
        match self {
            Self::Fifo => 0o010000,
            Self::CharDevice => 0o020000,
            Self::Directory => 0o040000,
            Self::BlockDevice => 0o060000,
            Self::Regular => 0o100000,
            Self::Symlink => 0o120000,
            Self::Socket => 0o140000,
        }
    }
}

/// The number of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceNumber {
    /// The major number: which driver. 12 bits.
    pub major: u32,
    /// The minor number: which of its devices. 20 bits.
    pub minor: u32,
}

/// An inode as it stands on disk. `rest` is what lies beyond the first 128 bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawInode {
    mode: U16,
    uid_lo: U16,
    size_lo: U32,
    atime: U32,
    ctime: U32,
    // 0x10
    mtime: U32,
    dtime: U32,
    gid_lo: U16,
    links: U16,
    blocks_lo: U32,
    // 0x20
    flags: U32,
    version_lo: U32,
    block: [u8; BLOCK_LENGTH],
    // 0x64
    generation: U32,
    file_acl_lo: U32,
    size_hi: U32,
    obsolete_fragment: U32,
    // 0x74
    blocks_hi: U16,
    file_acl_hi: U16,
    uid_hi: U16,
    gid_hi: U16,
    checksum_lo: U16,
    reserved: U16,
    rest: [u8],
}

/// The fields from 0x80 on. Which of them exist is told by the first one.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Extra {
    extra_isize: U16,
    checksum_hi: U16,
    ctime: U32,
    mtime: U32,
    atime: U32,
    crtime: U32,
    crtime_extra: U32,
    version_hi: U32,
    project: U32,
}

/// Where in [`Extra`] a field ends.
macro_rules! end_of {
    ($field:ident: $type:ty) => {
        core::mem::offset_of!(Extra, $field) + core::mem::size_of::<$type>()
    };
}

const fn join16(lo: U16, hi: U16) -> u32 {
    lo.get() as u32 | (hi.get() as u32) << 16
}

impl RawInode {
    /// The inode in `bytes`, which are all of it: the slice's length is the inode size.
    ///
    /// `None` when that is less than 128, or when the bytes beyond are too few for all extra fields.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Option<&Self> {
        let inode = Self::ref_from_bytes(bytes).ok()?;
        inode.has_possible_size().then_some(inode)
    }

    /// Like [`Self::from_bytes`], to be changed.
    #[inline]
    pub fn from_bytes_mut(bytes: &mut [u8]) -> Option<&mut Self> {
        let inode = Self::mut_from_bytes(bytes).ok()?;
        inode.has_possible_size().then_some(inode)
    }

    fn has_possible_size(&self) -> bool {
        self.rest.is_empty() || self.rest.len() >= core::mem::size_of::<Extra>()
    }

    /// Makes a new inode of this: all zeroes, with `extra_isize` bytes of extra fields.
    ///
    /// `extra_isize` is [`crate::superblock::ValidSuperblock::want_extra_isize`].
    pub fn init(&mut self, extra_isize: u16) {
        self.as_mut_bytes().fill(0);
        self.set_extra_isize(extra_isize);
    }

    /// The extra fields, if the inode is long enough to have any.
    fn extra(&self) -> Option<&Extra> {
        Some(Extra::ref_from_prefix(&self.rest).ok()?.0)
    }

    fn extra_mut(&mut self) -> Option<&mut Extra> {
        Some(Extra::mut_from_prefix(&mut self.rest).ok()?.0)
    }

    /// The extra fields, if the one that ends at `end` exists.
    fn extra_with(&self, end: usize) -> Option<&Extra> {
        self.extra()
            .filter(|extra| usize::from(extra.extra_isize.get()) >= end)
    }

    fn extra_with_mut(&mut self, end: usize) -> Option<&mut Extra> {
        self.extra_mut()
            .filter(|extra| usize::from(extra.extra_isize.get()) >= end)
    }

    /// How many bytes of extra fields there are; 0 in an inode of 128 bytes.
    pub fn extra_isize(&self) -> u16 {
        self.extra().map_or(0, |extra| extra.extra_isize.get())
    }

    /// Sets how many bytes of extra fields there are. Fields that come into being are zeroed first.
    ///
    /// The caller has moved what was there, extended attributes, out of the way, and keeps to
    /// multiples of 4. A size that the inode has no room for is cut to what there is.
    pub fn set_extra_isize(&mut self, size: u16) {
        let old = usize::from(self.extra_isize()).clamp(2, self.rest.len().max(2));
        let new = usize::from(size).min(self.rest.len());
        if let Some(grown) = self.rest.get_mut(old..new) {
            grown.fill(0);
        }
        if let Some(extra) = self.extra_mut() {
            extra.extra_isize = (new as u16).into();
        }
    }

    /// The bytes behind the extra fields, where extended attributes may be.
    ///
    /// `None` when there are none: in an inode of 128 bytes, in one without extra fields, or when
    /// `extra_isize` leaves no room.
    pub fn xattr_area(&self) -> Option<&[u8]> {
        let start = usize::from(self.extra_isize());
        let area = self.rest.get(start..)?;
        (start != 0 && !area.is_empty()).then_some(area)
    }

    /// Like [`Self::xattr_area`], to be changed.
    pub fn xattr_area_mut(&mut self) -> Option<&mut [u8]> {
        let start = usize::from(self.extra_isize());
        let area = self.rest.get_mut(start..)?;
        (start != 0 && !area.is_empty()).then_some(area)
    }

    /// Type and permissions.
    pub fn mode(&self) -> u16 {
        self.mode.get()
    }

    /// Sets type and permissions.
    pub fn set_mode(&mut self, mode: u16) {
        self.mode = mode.into();
    }

    /// The owner.
    pub fn uid(&self) -> u32 {
        join16(self.uid_lo, self.uid_hi)
    }

    /// Sets the owner.
    pub fn set_uid(&mut self, uid: u32) {
        self.uid_lo = (uid as u16).into();
        self.uid_hi = ((uid >> 16) as u16).into();
    }

    /// The group.
    pub fn gid(&self) -> u32 {
        join16(self.gid_lo, self.gid_hi)
    }

    /// Sets the group.
    pub fn set_gid(&mut self, gid: u32) {
        self.gid_lo = (gid as u16).into();
        self.gid_hi = ((gid >> 16) as u16).into();
    }

    /// The size in bytes.
    ///
    /// The upper half counts in regular files, and with the feature `large_dir` in all; in other
    /// inodes of old filesystems the same bytes were something else.
    pub fn size(&self, large_dir: bool) -> u64 {
        let lo = u64::from(self.size_lo.get());
        if large_dir || FileType::from_mode(self.mode()) == Some(FileType::Regular) {
            lo | u64::from(self.size_hi.get()) << 32
        } else {
            lo
        }
    }

    /// Sets the size in bytes.
    pub fn set_size(&mut self, size: u64) {
        self.size_lo = (size as u32).into();
        self.size_hi = ((size >> 32) as u32).into();
    }

    /// The number of hard links. A directory with a count of 1 has too many subdirectories to count.
    pub fn links(&self) -> u16 {
        self.links.get()
    }

    /// Sets the number of hard links.
    pub fn set_links(&mut self, links: u16) {
        self.links = links.into();
    }

    /// The flags.
    pub fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits(self.flags.get())
    }

    /// Sets all flags.
    pub fn set_flags(&mut self, flags: InodeFlags) {
        self.flags = flags.bits().into();
    }

    /// The generation: a number that tells this file from others that had the same inode.
    pub fn generation(&self) -> u32 {
        self.generation.get()
    }

    /// Sets the generation. All checksums of the file's metadata depend on it.
    pub fn set_generation(&mut self, generation: u32) {
        self.generation = generation.into();
    }

    /// The space that the file takes, in sectors of 512 bytes.
    ///
    /// `huge_file` is whether the filesystem has that feature. Without it there are 32 bits; with it
    /// 48, which count filesystem blocks in a file with [`InodeFlags::HUGE_FILE`].
    pub fn sectors(&self, block_size: BlockSize, huge_file: bool) -> u64 {
        let lo = u64::from(self.blocks_lo.get());
        if !huge_file {
            return lo;
        }
        let count = lo | u64::from(self.blocks_hi.get()) << 32;
        if self.flags().contains(InodeFlags::HUGE_FILE) {
            count << (block_size.bits() - 9)
        } else {
            count
        }
    }

    /// Sets the space that the file takes, in sectors of 512 bytes, and [`InodeFlags::HUGE_FILE`] as
    /// needed. `false`, and nothing is changed, when there is no room for the number.
    #[must_use]
    pub fn set_sectors(&mut self, sectors: u64, block_size: BlockSize, huge_file: bool) -> bool {
        let in_blocks = sectors > (1 << 48) - 1;
        let count = if in_blocks {
            sectors >> (block_size.bits() - 9)
        } else {
            sectors
        };
        let limit = if huge_file { 1 << 48 } else { 1 << 32 };
        if count >= limit {
            return false;
        }
        self.blocks_lo = (count as u32).into();
        self.blocks_hi = ((count >> 32) as u16).into();
        let flags = self.flags().without(InodeFlags::HUGE_FILE);
        self.set_flags(if in_blocks {
            flags.with(InodeFlags::HUGE_FILE)
        } else {
            flags
        });
        true
    }

    /// The block of extended attributes; `None` when there is none.
    ///
    /// `is_64bit` is whether the filesystem has that feature.
    pub fn xattr_block(&self, is_64bit: bool) -> Option<PhysicalBlock> {
        let lo = u64::from(self.file_acl_lo.get());
        let hi = if is_64bit {
            u64::from(self.file_acl_hi.get()) << 32
        } else {
            0
        };
        Some(PhysicalBlock::new(lo | hi)).filter(|block| *block != PhysicalBlock::ZERO)
    }

    /// Sets the block of extended attributes. It lies below 2^48, as all blocks do.
    #[inline]
    pub fn set_xattr_block(&mut self, block: Option<PhysicalBlock>) {
        let raw = block.map_or(0, PhysicalBlock::get);
        self.file_acl_lo = (raw as u32).into();
        self.file_acl_hi = ((raw >> 32) as u16).into();
    }

    /// The version: a number that goes up with every change. 64 bits if the inode has room.
    pub fn version(&self) -> u64 {
        let extra = self.extra_with(end_of!(version_hi: U32));
        let hi = extra.map_or(0, |extra| extra.version_hi.get());
        u64::from(self.version_lo.get()) | u64::from(hi) << 32
    }

    /// Sets the version.
    #[inline]
    pub fn set_version(&mut self, version: u64) {
        self.version_lo = (version as u32).into();
        if let Some(extra) = self.extra_with_mut(end_of!(version_hi: U32)) {
            extra.version_hi = ((version >> 32) as u32).into();
        }
    }

    /// The project, if the inode has room for one.
    pub fn project(&self) -> Option<u32> {
        let extra = self.extra_with(end_of!(project: U32))?;
        Some(extra.project.get())
    }

    /// Sets the project; `false` when the inode has no room for one.
    #[must_use]
    pub fn set_project(&mut self, project: u32) -> bool {
        match self.extra_with_mut(end_of!(project: U32)) {
            Some(extra) => {
                extra.project = project.into();
                true
            }
            None => false,
        }
    }

    /// `i_block`: the root of the file's map, or something small itself.
    pub fn block(&self) -> &[u8; BLOCK_LENGTH] {
        &self.block
    }

    /// Like [`Self::block`], to be changed.
    pub fn block_mut(&mut self) -> &mut [u8; BLOCK_LENGTH] {
        &mut self.block
    }

    fn block_word(&self, index: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.block[index * 4..][..4]);
        u32::from_le_bytes(word)
    }

    /// The device number of an inode that is a device.
    ///
    /// The first word of `i_block` has 8 bits of major and minor number each. If it is 0 the second
    /// word has all 12 and 20 bits.
    pub fn device(&self) -> DeviceNumber {
        match self.block_word(0) {
            0 => {
                let word = self.block_word(1);
                DeviceNumber {
                    major: word >> 8 & 0xfff,
                    minor: word & 0xff | word >> 12 & 0xfff00,
                }
            }
            word => DeviceNumber {
                major: word >> 8 & 0xff,
                minor: word & 0xff,
            },
        }
    }

    /// Makes `i_block` hold a device number.
    pub fn set_device(&mut self, device: DeviceNumber) {
        let DeviceNumber { major, minor } = device;
        let (old, new) = if major < 0x100 && minor < 0x100 {
            (major << 8 | minor, 0)
        } else {
            (
                0,
                minor & 0xff | (major & 0xfff) << 8 | (minor & 0xfff00) << 12,
            )
        };
        self.block.fill(0);
        self.block[..4].copy_from_slice(&old.to_le_bytes());
        self.block[4..8].copy_from_slice(&new.to_le_bytes());
    }

    /// When the inode was deleted, in seconds since 1970.
    pub fn dtime(&self) -> u32 {
        self.dtime.get()
    }

    /// Sets when the inode was deleted.
    pub fn set_dtime(&mut self, seconds: u32) {
        self.dtime = seconds.into();
    }

    /// The next inode in the list of orphans, for which the deletion time's place is used; `None` at
    /// the end of the list.
    pub fn next_orphan(&self) -> Option<InodeNumber> {
        InodeNumber::new(self.dtime.get())
    }

    /// Sets the next inode in the list of orphans.
    pub fn set_next_orphan(&mut self, next: Option<InodeNumber>) {
        self.dtime = next.map_or(0, InodeNumber::get).into();
    }
}

macro_rules! time {
    ($($get:ident, $set:ident: $what:literal;)*) => {
        impl RawInode {
            $(
                #[doc = concat!("The time of ", $what, ".")]
                pub fn $get(&self) -> Timestamp {
                    let extra = self.extra_with(end_of!($get: U32));
                    Timestamp::decode(self.$get.get(), extra.map(|extra| extra.$get.get()))
                }

                #[doc = concat!("Sets the time of ", $what, ", as exactly as the inode has room for.")]
                pub fn $set(&mut self, time: Timestamp) {
                    match self.extra_with_mut(end_of!($get: U32)) {
                        Some(extra) => {
                            let (base, more) = time.encode();
                            extra.$get = more.into();
                            self.$get = base.into();
                        }
                        None => self.$get = time.encode_short().into(),
                    }
                }
            )*
        }
    };
}

time! {
    atime, set_atime: "the last access";
    ctime, set_ctime: "the last change of the inode";
    mtime, set_mtime: "the last change of the data";
}

impl RawInode {
    /// When the file was made, if the inode has room for it.
    pub fn crtime(&self) -> Option<Timestamp> {
        let extra = self.extra_with(end_of!(crtime: U32))?;
        let more = self
            .extra_with(end_of!(crtime_extra: U32))
            .map(|extra| extra.crtime_extra.get());
        Some(Timestamp::decode(extra.crtime.get(), more))
    }

    /// Sets when the file was made, if the inode has room for it.
    pub fn set_crtime(&mut self, time: Timestamp) {
        let (base, more) = time.encode();
        if let Some(extra) = self.extra_with_mut(end_of!(crtime_extra: U32)) {
            extra.crtime = base.into();
            extra.crtime_extra = more.into();
        } else if let Some(extra) = self.extra_with_mut(end_of!(crtime: U32)) {
            extra.crtime = time.encode_short().into();
        }
    }
}
