// SPDX-License-Identifier: GPL-2.0

//! The names of extended attributes.

use core::cmp::Ordering;

/// What the name of an attribute begins with, by its number on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NameIndex(u8);

impl NameIndex {
    /// `user.`
    pub const USER: Self = Self(1);
    /// `system.posix_acl_access`, all of it.
    pub const ACL_ACCESS: Self = Self(2);
    /// `system.posix_acl_default`, all of it.
    pub const ACL_DEFAULT: Self = Self(3);
    /// `trusted.`
    pub const TRUSTED: Self = Self(4);
    /// `lustre.`, never used by the kernel's own filesystems.
    pub const LUSTRE: Self = Self(5);
    /// `security.`
    pub const SECURITY: Self = Self(6);
    /// `system.`, of which there is only `system.data`: the end of inline data.
    pub const SYSTEM: Self = Self(7);
    /// `system.richacl`, all of it.
    pub const RICHACL: Self = Self(8);
    /// The encryption context, which has no name to the outside.
    pub const ENCRYPTION: Self = Self(9);
    /// `gnu.`, of the Hurd.
    pub const HURD: Self = Self(10);

    /// The indexes that have a name, with it.
    const PREFIXES: [(Self, &'static str); 8] = [
        (Self::USER, "user."),
        (Self::ACL_ACCESS, "system.posix_acl_access"),
        (Self::ACL_DEFAULT, "system.posix_acl_default"),
        (Self::TRUSTED, "trusted."),
        (Self::SECURITY, "security."),
        (Self::RICHACL, "system.richacl"),
        // Behind those that are longer.
        (Self::SYSTEM, "system."),
        (Self::HURD, "gnu."),
    ];

    /// From the number on disk, which may have no meaning.
    pub const fn from_raw(raw: u8) -> Self {
        Self(raw)
    }

    /// The number on disk.
    pub const fn raw(self) -> u8 {
        self.0
    }

    /// What the name begins with; `None` when the index has no name to the outside.
    pub fn prefix(self) -> Option<&'static str> {
        let (_, prefix) = Self::PREFIXES.iter().find(|(index, _)| *index == self)?;
        Some(prefix)
    }

    /// Whether the index is all there is to the name.
    fn is_whole_name(self) -> bool {
        matches!(self, Self::ACL_ACCESS | Self::ACL_DEFAULT | Self::RICHACL)
    }
}

/// The name of an attribute.
///
/// # Invariants
///
/// The suffix has up to 255 bytes, none of them 0. It is empty just when the index is all of the name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct XattrName<'a> {
    index: NameIndex,
    suffix: &'a [u8],
}

impl<'a> XattrName<'a> {
    /// From the index and what stands behind its prefix; `None` when there is no such name.
    pub fn new(index: NameIndex, suffix: &'a [u8]) -> Option<Self> {
        let fits = suffix.len() <= 255 && !suffix.contains(&0);
        // INVARIANT: Checked here and above.
        (fits && suffix.is_empty() == index.is_whole_name()).then_some(Self { index, suffix })
    }

    /// From a name as users know it, as `user.comment`; `None` when it cannot be stored.
    pub fn from_full(name: &'a [u8]) -> Option<Self> {
        NameIndex::PREFIXES.iter().find_map(|(index, prefix)| {
            let suffix = name.strip_prefix(prefix.as_bytes())?;
            Self::new(*index, suffix)
        })
    }

    /// What the name begins with.
    pub const fn index(self) -> NameIndex {
        self.index
    }

    /// The rest of the name.
    pub const fn suffix(self) -> &'a [u8] {
        self.suffix
    }

    /// The order of the entries in a block: by index, length, and bytes.
    pub(super) fn compare(self, index: NameIndex, suffix: &[u8]) -> Ordering {
        let ours = (self.index, self.suffix.len(), self.suffix);
        ours.cmp(&(index, suffix.len(), suffix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_are_taken_apart() {
        let name = |full: &'static str| {
            XattrName::from_full(full.as_bytes()).map(|name| (name.index(), name.suffix()))
        };
        assert_eq!(name("user.x"), Some((NameIndex::USER, &b"x"[..])));
        assert_eq!(
            name("security.selinux"),
            Some((NameIndex::SECURITY, &b"selinux"[..]))
        );
        assert_eq!(
            name("system.posix_acl_access"),
            Some((NameIndex::ACL_ACCESS, &b""[..]))
        );
        assert_eq!(name("system.data"), Some((NameIndex::SYSTEM, &b"data"[..])));
        assert_eq!(name("user."), None);
        assert_eq!(name("other.x"), None);
    }
}
