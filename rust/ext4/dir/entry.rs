// SPDX-License-Identifier: GPL-2.0

//! One directory entry, and the walk over those of a block.

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

use super::error::DirectoryError;
use super::format::DirFormat;
use crate::types::InodeNumber;

/// The size of the fixed part of an entry.
pub(crate) const HEADER_SIZE: usize = 8;

/// The smallest entry: the fixed part and a name of up to four bytes.
pub(crate) const MIN_ENTRY: usize = 12;

/// What an entry says about the file that it names.
///
/// Filesystems without the feature `filetype` say [`FileType::Unknown`] of every file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileType {
    /// Not known: ask the inode.
    Unknown,
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A symbolic link.
    Symlink,
}

impl FileType {
    /// From the byte on disk. Numbers without a meaning give [`FileType::Unknown`].
    #[inline]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::CharacterDevice,
            4 => Self::BlockDevice,
            5 => Self::Fifo,
            6 => Self::Socket,
            7 => Self::Symlink,
            _ => Self::Unknown,
        }
    }

    /// The byte on disk.
    #[inline]
    pub const fn raw(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharacterDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }

    /// The type of a file with the mode `mode` (`S_IFMT` and below).
    pub const fn from_mode(mode: u16) -> Self {
        match mode >> 12 {
            0o01 => Self::Fifo,
            0o02 => Self::CharacterDevice,
            0o04 => Self::Directory,
            0o06 => Self::BlockDevice,
            0o10 => Self::Regular,
            0o12 => Self::Symlink,
            0o14 => Self::Socket,
            _ => Self::Unknown,
        }
    }
}

/// A name that a directory entry can have.
///
/// # Invariants
///
/// 1 to [`Name::MAX`] bytes, none of them 0 or `/`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// The longest name, in bytes.
    pub const MAX: usize = 255;
    /// The directory itself.
    pub const DOT: Name<'static> = Name(b".");
    /// The directory above.
    pub const DOT_DOT: Name<'static> = Name(b"..");

    /// `None` when `bytes` are too many, too few, or contain a 0 or a `/`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let length_fits = (1..=Self::MAX).contains(&bytes.len());
        // INVARIANT: Both conditions are checked here.
        (length_fits && !bytes.iter().any(|&byte| byte == 0 || byte == b'/')).then_some(Self(bytes))
    }

    /// The bytes of the name.
    #[inline]
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether it is `.` or `..`.
    #[inline]
    pub fn is_dots(self) -> bool {
        self == Self::DOT || self == Self::DOT_DOT
    }

    /// How many bytes an entry with this name needs.
    #[inline]
    pub(crate) const fn entry_size(self) -> usize {
        entry_size(self.0.len())
    }
}

/// How many bytes an entry needs whose name has `name_length` bytes.
#[inline]
pub(crate) const fn entry_size(name_length: usize) -> usize {
    (HEADER_SIZE + name_length + 3) & !3
}

/// The fixed part of an entry on disk.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) inode: U32,
    pub(crate) length: U16,
    pub(crate) name_length: u8,
    pub(crate) file_type: u8,
}

impl Header {
    /// The fixed part at `offset`, or `None` when it does not lie in `block` as a whole.
    #[inline]
    pub(crate) fn read(block: &[u8], offset: usize) -> Option<Self> {
        let (header, _) = Self::read_from_prefix(block.get(offset..)?).ok()?;
        Some(header)
    }

    /// Stores the fixed part at `offset`; `None` when it does not lie in `block` as a whole.
    #[inline]
    pub(crate) fn write(&self, block: &mut [u8], offset: usize) -> Option<()> {
        self.write_to_prefix(block.get_mut(offset..)?).ok()
    }
}

/// The length field of an entry, decoded.
///
/// 16 bits do not hold the length of an entry that fills a block of 64 KiB; 0xffff and 0, which are no
/// multiples of four or no lengths at all, stand for it.
#[inline]
pub(crate) const fn decode_length(raw: u16, block_size: usize) -> usize {
    match raw {
        0 | 0xffff if block_size == 0x1_0000 => block_size,
        _ => raw as usize,
    }
}

/// The reverse of [`decode_length`].
pub(crate) const fn encode_length(length: usize) -> u16 {
    if length >= 0x1_0000 {
        0xffff
    } else {
        length as u16
    }
}

/// A directory entry that lies in its block as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Where it stands in its block, in bytes.
    pub offset: usize,
    /// How much of the block belongs to it, in bytes.
    pub length: usize,
    /// The inode; `None` for an entry that is not in use.
    pub inode: Option<InodeNumber>,
    /// What it says of the type of the file.
    pub file_type: FileType,
    /// The name.
    pub name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads the entry at `offset` and checks all that can be checked of it.
    ///
    /// `end` is where the entries of the block end.
    pub(crate) fn parse(
        format: &DirFormat,
        block: &'a [u8],
        offset: usize,
        end: usize,
    ) -> Result<Self, DirectoryError> {
        Self::parse_inline(format, block, offset, end)
    }

    /// As [`Self::parse`], for the walk over a block: as part of the loop, what the loop does not look at
    /// costs nothing.
    #[inline(always)]
    fn parse_inline(
        format: &DirFormat,
        block: &'a [u8],
        offset: usize,
        end: usize,
    ) -> Result<Self, DirectoryError> {
        // Offsets and lengths in a block fit 32 bits.
        let overrun = |length: usize| DirectoryError::EntryOverrun {
            offset: offset as u32,
            length: length as u32,
        };
        let header = Header::read(block, offset).ok_or_else(|| overrun(HEADER_SIZE))?;
        let length = decode_length(header.length.get(), format.block_size.bytes());
        let name_length = usize::from(header.name_length);
        if length % 4 != 0 || length < MIN_ENTRY || length < entry_size(name_length) {
            return Err(DirectoryError::EntryLength {
                offset: offset as u32,
                length: length as u32,
            });
        }
        let next = offset + length;
        if next > end || (next != end && end - next < MIN_ENTRY) {
            return Err(overrun(length));
        }
        let start = offset + HEADER_SIZE;
        let name = block
            .get(start..start + name_length)
            .ok_or_else(|| overrun(length))?;
        let inode = InodeNumber::new(header.inode.get());
        if let Some(inode) = inode {
            if inode.get() > format.inode_count {
                return Err(DirectoryError::EntryInode {
                    offset: offset as u32,
                    inode: inode.get(),
                });
            }
            if name.is_empty() {
                return Err(DirectoryError::EntryWithoutName {
                    offset: offset as u32,
                });
            }
        }
        let file_type = if format.features.filetype {
            FileType::from_raw(header.file_type)
        } else {
            FileType::Unknown
        };
        Ok(Self {
            offset,
            length,
            inode,
            file_type,
            name,
        })
    }

    /// The same with a name that lives as long as it must.
    pub(crate) fn with_name(self, name: &[u8]) -> Entry<'_> {
        Entry {
            offset: self.offset,
            length: self.length,
            inode: self.inode,
            file_type: self.file_type,
            name,
        }
    }

    /// How many bytes the entry needs: nothing when it is not in use.
    #[inline]
    pub(crate) fn used(&self) -> usize {
        match self.inode {
            Some(_) => entry_size(self.name.len()),
            None => 0,
        }
    }
}

/// Walks over the entries of a block, used and unused, in the order in which they stand.
///
/// It ends after the first error. The checksum entry at the end of the block is not among them.
#[derive(Clone)]
pub struct Entries<'a> {
    format: DirFormat,
    block: &'a [u8],
    next: usize,
    end: usize,
}

impl<'a> Entries<'a> {
    /// From the first entry of `block`, which must have the length of a block.
    pub(crate) fn new(format: &DirFormat, block: &'a [u8]) -> Self {
        Self {
            format: *format,
            block,
            next: 0,
            end: format.entries_end(),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, DirectoryError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let entry = Entry::parse_inline(&self.format, self.block, self.next, self.end);
        self.next = match &entry {
            Ok(entry) => entry.offset + entry.length,
            Err(_) => self.end,
        };
        Some(entry)
    }
}
