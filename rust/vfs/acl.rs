// SPDX-License-Identifier: GPL-2.0

//! POSIX access control lists.
//!
//! A [`PosixAcl`] is what the kernel checks and caches; how it is stored is the file system's affair.
//! The kernel calls [`get_acl`](crate::inode_ops::Operations::get_acl) once and caches the answer;
//! who stores another ACL tells the cache with [`set_cached`].
//!
//! C header: `include/linux/posix_acl.h`.

use core::ptr;
use core::ptr::NonNull;
use core::slice;

use ferrofs_bindings as bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::aref::AlwaysRefCounted;
use kernel::types::Opaque;

use crate::fs::FileSystem;
use crate::idmap::IdMap;
use crate::inode::Inode;

/// Which ACL of an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The one that decides about access.
    Access,
    /// The one of a directory that new files in it inherit.
    Default,
}

impl Kind {
    pub(crate) fn from_raw(raw: i32) -> Result<Self> {
        match raw as u32 {
            bindings::ACL_TYPE_ACCESS => Ok(Self::Access),
            bindings::ACL_TYPE_DEFAULT => Ok(Self::Default),
            _ => Err(EINVAL),
        }
    }

    fn to_raw(self) -> i32 {
        match self {
            Self::Access => bindings::ACL_TYPE_ACCESS as i32,
            Self::Default => bindings::ACL_TYPE_DEFAULT as i32,
        }
    }
}

/// Whom an entry of an ACL is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// The owner of the file.
    UserObj,
    /// The user with that id.
    User(u32),
    /// The group of the file.
    GroupObj,
    /// The group with that id.
    Group(u32),
    /// The upper bound for all users and groups but the owner and the others.
    Mask,
    /// Everybody else.
    Other,
}

/// An entry of an ACL. The ids are those that are stored: not mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Whom it is about.
    pub tag: Tag,
    /// What they may do: read 4, write 2, execute 1.
    pub permissions: u16,
}

/// An access control list: `struct posix_acl`.
///
/// # Invariants
///
/// The reference count is not zero; the entries are initialised and do not change any more.
#[repr(transparent)]
pub struct PosixAcl(Opaque<bindings::posix_acl>);

// SAFETY: ACLs are reference counted.
unsafe impl AlwaysRefCounted for PosixAcl {
    fn inc_ref(&self) {
        // SAFETY: The existence of a shared reference means that the reference count is not zero.
        unsafe { bindings::posix_acl_dup(self.0.get()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller passes on a reference; `PosixAcl` is transparent.
        unsafe { bindings::posix_acl_release(obj.cast().as_ptr()) };
    }
}

// SAFETY: An ACL is constant and may be released on any thread.
unsafe impl Send for PosixAcl {}
// SAFETY: An ACL is constant.
unsafe impl Sync for PosixAcl {}

impl PosixAcl {
    /// Makes an ACL of these entries.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` when the entries do not make a valid ACL (order, missing ones).
    pub fn new(entries: &[Entry]) -> Result<ARef<Self>> {
        // SAFETY: No requirements.
        let acl = unsafe {
            bindings::posix_acl_alloc(u32::try_from(entries.len())?, bindings::GFP_KERNEL)
        };
        let acl = NonNull::new(acl).ok_or(ENOMEM)?;
        for (index, entry) in entries.iter().enumerate() {
            let (tag, id) = match entry.tag {
                Tag::UserObj => (bindings::ACL_USER_OBJ, bindings::ACL_UNDEFINED_ID as u32),
                Tag::User(id) => (bindings::ACL_USER, id),
                Tag::GroupObj => (bindings::ACL_GROUP_OBJ, bindings::ACL_UNDEFINED_ID as u32),
                Tag::Group(id) => (bindings::ACL_GROUP, id),
                Tag::Mask => (bindings::ACL_MASK, bindings::ACL_UNDEFINED_ID as u32),
                Tag::Other => (bindings::ACL_OTHER, bindings::ACL_UNDEFINED_ID as u32),
            };
            // SAFETY: The ACL was allocated with room for as many entries as there are, and is still
            // ours alone. User and group ids have the same layout: one `u32`.
            unsafe {
                let slot = (*acl.as_ptr()).a_entries.as_mut_ptr().add(index);
                slot.write(bindings::posix_acl_entry {
                    e_tag: tag as i16,
                    e_perm: entry.permissions,
                    ..Default::default()
                });
                (*slot).__bindgen_anon_1.e_uid.as_mut().val = id;
            }
        }
        // INVARIANT: All entries were written. The reference is the one of the allocation.
        // SAFETY: The reference is handed over; `PosixAcl` is transparent.
        let acl: ARef<Self> = unsafe { ARef::from_raw(acl.cast()) };
        // SAFETY: The ACL is valid; the initial user namespace lives for ever.
        to_result(unsafe {
            bindings::posix_acl_valid(&raw mut bindings::init_user_ns, acl.0.get())
        })?;
        Ok(acl)
    }

    /// # Safety
    ///
    /// `acl` must be null or a valid ACL, with a reference held for `'a`.
    pub(crate) unsafe fn from_ptr<'a>(acl: *mut bindings::posix_acl) -> Option<&'a Self> {
        // SAFETY: By this function's contract; `PosixAcl` is transparent.
        unsafe { acl.cast::<Self>().as_ref() }
    }

    /// The entries, in their canonical order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        // SAFETY: By the type invariants the entries are initialised and constant, and there are as
        // many as the header tells.
        let entries = unsafe {
            let count = bindings::posix_acl_count(self.0.get()) as usize;
            slice::from_raw_parts((*self.0.get()).a_entries.as_ptr(), count)
        };
        entries.iter().map(|entry| {
            // SAFETY: User and group ids have the same layout.
            let id = unsafe { entry.__bindgen_anon_1.e_uid.as_ref().val };
            let tag = match entry.e_tag as u32 {
                bindings::ACL_USER_OBJ => Tag::UserObj,
                bindings::ACL_USER => Tag::User(id),
                bindings::ACL_GROUP_OBJ => Tag::GroupObj,
                bindings::ACL_GROUP => Tag::Group(id),
                bindings::ACL_MASK => Tag::Mask,
                // The kernel makes ACLs of valid entries only.
                _ => Tag::Other,
            };
            Entry {
                tag,
                permissions: entry.e_perm,
            }
        })
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        // SAFETY: The ACL is valid.
        unsafe { bindings::posix_acl_count(self.0.get()) as usize }
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The mode that `inode` gets when this becomes its access ACL, and whether the mode says it all,
    /// so that no ACL needs to be stored.
    ///
    /// The set-group-ID bit goes when the caller is not in the group of the inode.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an ACL that is no access ACL.
    pub fn update_mode<F: FileSystem>(
        &self,
        idmap: &IdMap,
        inode: &Inode<F>,
    ) -> Result<(u16, bool)> {
        let mut mode = 0;
        let mut acl = self.0.get();
        // SAFETY: All objects are valid; the ACL is only read, and `acl` only set to null.
        to_result(unsafe {
            bindings::posix_acl_update_mode(idmap.as_ptr(), inode.as_ptr(), &mut mode, &mut acl)
        })?;
        Ok((mode, acl.is_null()))
    }
}

/// What a new inode inherits from its directory.
pub struct Inherited {
    /// The mode, as the directory's default ACL or the task's umask leaves it.
    pub mode: u16,
    /// The access ACL, when the mode does not say it all.
    pub access: Option<ARef<PosixAcl>>,
    /// The default ACL, for a directory.
    pub default: Option<ARef<PosixAcl>>,
}

/// What a new inode of that mode inherits from `dir`.
///
/// Calls [`get_acl`](crate::inode_ops::Operations::get_acl) of `dir` when its default ACL is not
/// cached: must be called outside of a transaction in which that may not be read.
///
/// # Errors
///
/// `ENOMEM`, or those of `get_acl`.
pub fn inherit<F: FileSystem>(dir: &Inode<F>, mut mode: u16) -> Result<Inherited> {
    let mut access = ptr::null_mut();
    let mut default = ptr::null_mut();
    // SAFETY: The directory is valid; the results are references of ours.
    unsafe {
        to_result(bindings::posix_acl_create(
            dir.as_ptr(),
            &mut mode,
            &mut default,
            &mut access,
        ))?;
        Ok(Inherited {
            mode,
            access: NonNull::new(access).map(|acl| ARef::from_raw(acl.cast())),
            default: NonNull::new(default).map(|acl| ARef::from_raw(acl.cast())),
        })
    }
}

/// Tells the cache that the ACL of that kind is now this one.
pub fn set_cached<F: FileSystem>(inode: &Inode<F>, kind: Kind, acl: Option<&PosixAcl>) {
    let acl = acl.map_or(ptr::null_mut(), |acl| acl.0.get());
    // SAFETY: The inode and the ACL are valid; the cache takes a reference of its own.
    unsafe { bindings::set_cached_acl(inode.as_ptr(), kind.to_raw(), acl) };
}
