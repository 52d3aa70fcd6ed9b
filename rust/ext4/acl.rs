// SPDX-License-Identifier: GPL-2.0

//! POSIX access control lists, as they are stored in attributes.
//!
//! The value of `system.posix_acl_access` and `system.posix_acl_default` is a version number, 1, and entries of
//! a tag, permissions and, only for named users and groups, an id:
//!
//! ```text
//! 01 00 00 00 | 01 00 06 00 | 02 00 07 00 e8 03 00 00 | 04 00 04 00 | 10 00 07 00 | 20 00 00 00
//! version 1     owner rw-     user 1000 rwx             group r--     mask rwx      others ---
//! ```
//!
//! This is smaller than what user space exchanges with the kernel, which has version 2 and an id everywhere.
//! Whether a list makes sense (order of the tags, the mask) is for the caller to decide.

/// The version on disk.
const VERSION: u32 = 1;

/// The size of the version.
const HEADER_SIZE: usize = 4;

/// For whom an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclTag {
    /// The owner of the file.
    UserObj,
    /// A named user.
    User(u32),
    /// The group of the file.
    GroupObj,
    /// A named group.
    Group(u32),
    /// The most that named users, the group and named groups get.
    Mask,
    /// Everybody else.
    Other,
}

impl AclTag {
    const fn raw(self) -> u16 {
        match self {
            Self::UserObj => 0x01,
            Self::User(_) => 0x02,
            Self::GroupObj => 0x04,
            Self::Group(_) => 0x08,
            Self::Mask => 0x10,
            Self::Other => 0x20,
        }
    }

    const fn id(self) -> Option<u32> {
        match self {
            Self::User(id) | Self::Group(id) => Some(id),
            _ => None,
        }
    }
}

/// An entry of an access control list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclEntry {
    /// For whom it is.
    pub tag: AclTag,
    /// What is allowed: read 4, write 2, execute 1.
    pub permissions: u16,
}

impl AclEntry {
    /// The size on disk.
    const fn size(self) -> usize {
        match self.tag.id() {
            Some(_) => 8,
            None => 4,
        }
    }
}

/// The value of the attribute is no access control list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclError {
    /// It has no version, or an unknown one.
    Version,
    /// It ends within an entry.
    Truncated,
    /// There is an entry with an unknown tag.
    Tag(u16),
    /// There is an entry with unknown permissions.
    Permissions(u16),
}

/// The entries of a stored list. Ends after the first error.
#[derive(Clone, Debug)]
pub struct AclEntries<'a> {
    rest: &'a [u8],
}

/// Takes the value of an attribute for an access control list.
pub fn decode(value: &[u8]) -> Result<AclEntries<'_>, AclError> {
    match value.split_first_chunk::<HEADER_SIZE>() {
        Some((version, rest)) if *version == VERSION.to_le_bytes() => Ok(AclEntries { rest }),
        _ => Err(AclError::Version),
    }
}

impl AclEntries<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], AclError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(AclError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn entry(&mut self) -> Result<AclEntry, AclError> {
        let raw_tag = u16::from_le_bytes(self.take()?);
        let permissions = u16::from_le_bytes(self.take()?);
        let tag = match raw_tag {
            0x01 => AclTag::UserObj,
            0x02 => AclTag::User(u32::from_le_bytes(self.take()?)),
            0x04 => AclTag::GroupObj,
            0x08 => AclTag::Group(u32::from_le_bytes(self.take()?)),
            0x10 => AclTag::Mask,
            0x20 => AclTag::Other,
            other => return Err(AclError::Tag(other)),
        };
        if permissions > 7 {
            return Err(AclError::Permissions(permissions));
        }
        Ok(AclEntry { tag, permissions })
    }
}

impl Iterator for AclEntries<'_> {
    type Item = Result<AclEntry, AclError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.rest = &[];
        }
        Some(entry)
    }
}

/// How many bytes the list takes in an attribute.
pub fn encoded_size(entries: impl IntoIterator<Item = AclEntry>) -> usize {
    entries
        .into_iter()
        .fold(HEADER_SIZE, |size, entry| size + entry.size())
}

/// Stores a list as the value of an attribute and returns its length; `None` when `value` is too small.
pub fn encode(entries: impl IntoIterator<Item = AclEntry>, value: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        let end = at + bytes.len();
        value.get_mut(at..end)?.copy_from_slice(bytes);
        at = end;
        Some(())
    };
    put(&VERSION.to_le_bytes())?;
    for entry in entries {
        put(&entry.tag.raw().to_le_bytes())?;
        put(&entry.permissions.to_le_bytes())?;
        if let Some(id) = entry.tag.id() {
            put(&id.to_le_bytes())?;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: [u8; 28] = [
        1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 7, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0x10, 0, 7, 0, 0x20, 0, 0, 0,
    ];

    #[test]
    fn the_example() {
        let entries: Vec<_> = decode(&EXAMPLE).unwrap().map(Result::unwrap).collect();
        let of = |tag, permissions| AclEntry { tag, permissions };
        assert_eq!(
            entries,
            [
                of(AclTag::UserObj, 6),
                of(AclTag::User(1000), 7),
                of(AclTag::GroupObj, 4),
                of(AclTag::Mask, 7),
                of(AclTag::Other, 0),
            ]
        );
        let mut value = [0; 28];
        assert_eq!(encoded_size(entries.iter().copied()), 28);
        assert_eq!(encode(entries.iter().copied(), &mut value), Some(28));
        assert_eq!(value, EXAMPLE);
        assert_eq!(encode(entries.iter().copied(), &mut value[..27]), None);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(decode(&[2, 0, 0, 0]).unwrap_err(), AclError::Version);
        assert_eq!(decode(&[]).unwrap_err(), AclError::Version);
        let first = |bytes: &[u8]| {
            let value = [&[1, 0, 0, 0], bytes].concat();
            decode(&value).unwrap().next()
        };
        assert_eq!(first(&[]), None);
        assert_eq!(first(&[1, 0, 7]), Some(Err(AclError::Truncated)));
        assert_eq!(first(&[2, 0, 7, 0, 1]), Some(Err(AclError::Truncated)));
        assert_eq!(first(&[3, 0, 7, 0]), Some(Err(AclError::Tag(3))));
        assert_eq!(first(&[1, 0, 8, 0]), Some(Err(AclError::Permissions(8))));
    }

    fn entry() -> impl Strategy<Value = AclEntry> {
        let tag = prop_oneof![
            Just(AclTag::UserObj),
            any::<u32>().prop_map(AclTag::User),
            Just(AclTag::GroupObj),
            any::<u32>().prop_map(AclTag::Group),
            Just(AclTag::Mask),
            Just(AclTag::Other),
        ];
        (tag, 0..8_u16).prop_map(|(tag, permissions)| AclEntry { tag, permissions })
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read(entries in prop::collection::vec(entry(), 0..40)) {
            let mut value = vec![0; encoded_size(entries.iter().copied())];
            prop_assert_eq!(encode(entries.iter().copied(), &mut value), Some(value.len()));
            let read: Result<Vec<_>, _> = decode(&value).unwrap().collect();
            prop_assert_eq!(read, Ok(entries));
        }

        #[test]
        fn anything_can_be_read(value: Vec<u8>) {
            if let Ok(entries) = decode(&value) {
                prop_assert!(entries.count() <= value.len());
            }
        }
    }
}
