// SPDX-License-Identifier: GPL-2.0

//! Names: finding, making and removing them.
//!
//! The kernel holds the lock of the directory, exclusively where it changes, and that of the inode that is
//! removed or linked (see [`vfs::inode_ops`]). Each operation is one transaction.
//!
//! Nothing takes back what a transaction has changed when it fails later. So what can be known before it
//! starts is found out before, and the blocks that will be changed are read and held in memory
//! ([`inode::hold`], [`dir_blocks::hold`]). What may still fail then, for want of space, comes before a name is
//! entered or removed; what comes after that fails only together with the whole journal.
//!
//! An inode that was made and then could not be given a name is left without links on the list of
//! orphans, like one that was unlinked while it was open: dropping the last reference frees it.

use ext4::dir::FileType;
use ext4::dir::Found;
use ext4::dir::Insertion;
use ext4::dir::Name;
use ext4::features::RoCompat;
use ext4::inode::DeviceNumber;
use ext4::inode::InodeFlags;
use ext4::InodeNumber;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use vfs::dentry::Instantiated;
use vfs::dentry::Negative;
use vfs::dentry::Positive;
use vfs::dentry::Spliced;
use vfs::dentry::Tmpfile;
use vfs::dentry::Unhashed;
use vfs::idmap::IdMap;
use vfs::inode::NewInode;
use vfs::inode::S_IFBLK;
use vfs::inode::S_IFCHR;
use vfs::inode::S_IFDIR;
use vfs::inode::S_IFMT;
use vfs::inode::S_IFREG;
use vfs::inode_ops::Device;
use vfs::transaction::Credits;
use vfs::transaction::Transaction;

use crate::acl;
use crate::credits;
use crate::dir_blocks;
use crate::error;
use crate::error::Place;
use crate::inode;
use crate::map;
use crate::ops;
use crate::orphan;
use crate::state;
use crate::xattr;
use crate::Ferrofs;
use crate::Inode;
use crate::InodeRef;

/// The most links that an inode can have.
pub(crate) const MAX_LINKS: u32 = 65000;

/// A name of the kernel as the format has it.
///
/// # Errors
///
/// `ENAMETOOLONG` beyond 255 bytes.
pub(crate) fn checked_name(name: &[u8]) -> Result<Name<'_>> {
    Name::new(name).ok_or(if name.is_empty() {
        ENOENT
    } else {
        ENAMETOOLONG
    })
}

/// The type of file that entries say of `inode`.
pub(crate) fn file_type(inode: &Inode) -> FileType {
    FileType::from_mode(inode.mode())
}

/// Finds out what `name` stands for in `dir`.
pub(crate) fn find(dir: &Inode, name: Name<'_>) -> Result<Option<Found>> {
    dir_blocks::open(dir)
        .lookup(name)
        .map_err(|error| error.report(dir))
}

/// Makes sure that `name` stands for `inode` in `dir`, as the dentry cache says.
///
/// # Errors
///
/// `ENOENT` when it does not.
pub(crate) fn find_expected(dir: &Inode, name: Name<'_>, inode: &Inode) -> Result<Found> {
    find(dir, name)?
        .filter(|found| found.inode == inode::number(inode))
        .ok_or(ENOENT)
}

/// The inode that an entry of `dir` stands for.
fn get_named(dir: &Inode, number: InodeNumber) -> Result<InodeRef> {
    let place = Place::inode(inode::number(dir));
    if number == inode::number(dir) {
        return Err(error::corrupt(
            dir.sb(),
            place,
            "a name stands for the directory itself",
        ));
    }
    // An inode that is not in use is reported by this.
    inode::get(dir.sb(), number)
}

pub(crate) fn lookup<'d>(
    dir: &Inode,
    dentry: Unhashed<'d, Ferrofs>,
) -> Result<Spliced<'d, Ferrofs>> {
    let name = checked_name(dentry.name())?;
    let inode = match find(dir, name)? {
        None => None,
        Some(found) => Some(get_named(dir, found.inode)?),
    };
    dentry.splice_alias(inode)
}

/// Starts a transaction that changes `dir`.
pub(crate) fn start<'a>(dir: &'a Inode, credits: Credits) -> Result<Transaction<'a>> {
    let txn = state::transaction(dir.sb(), credits)?;
    if dir.is_dirsync() {
        txn.set_sync();
    }
    Ok(txn)
}

/// The contents of `dir` have changed.
pub(crate) fn touch(txn: &Transaction<'_>, dir: &Inode) -> Result {
    dir.touch_mtime_ctime();
    dir.inc_version();
    inode::update(txn, dir)
}

/// Gives `inode` the name `name` in `dir`.
///
/// # Errors
///
/// `EEXIST` when the name is there already, behind the back of the dentry cache. `ENOSPC` when the
/// directory cannot grow.
pub(crate) fn enter(txn: &Transaction<'_>, dir: &Inode, name: Name<'_>, inode: &Inode) -> Result {
    let state = &dir.data().dir;
    let inserted = dir_blocks::open_mut(txn, dir)
        .insert(
            name,
            inode::number(inode),
            file_type(inode),
            state.first_room(),
        )
        .map_err(|error| error.report(dir))?;
    match inserted {
        Insertion::Done(block) => state.inserted(block),
        Insertion::Exists => return Err(EEXIST),
        Insertion::Full => return Err(ENOSPC),
    }
    touch(txn, dir)
}

/// Removes `name`, which was found as `found` before, from `dir`.
pub(crate) fn remove(txn: &Transaction<'_>, dir: &Inode, name: Name<'_>, found: Found) -> Result {
    let removed = dir_blocks::open_mut(txn, dir)
        .remove_found(name, found)
        .map_err(|error| error.report(dir))?;
    dir.data().dir.removed(removed.ok_or(ENOENT)?.block);
    touch(txn, dir)
}

/// Whether `dir` can have so many subdirectories that they are not counted any more.
fn may_stop_counting(dir: &Inode) -> bool {
    dir.data().flags().contains(InodeFlags::INDEX)
}

/// Makes sure that `dir` takes another subdirectory.
///
/// # Errors
///
/// `EMLINK` when it does not.
pub(crate) fn check_room_for_subdirectory(dir: &Inode) -> Result {
    let features = &dir.sb().data().layout.features;
    let unlimited = features.ro_compat(RoCompat::DIR_NLINK) && may_stop_counting(dir);
    if dir.nlink() >= MAX_LINKS && !unlimited {
        return Err(EMLINK);
    }
    Ok(())
}

/// One more subdirectory. A directory with too many to count has the link count 1, and keeps it.
pub(crate) fn count_subdirectory(dir: &Inode) {
    dir.inc_nlink();
    if may_stop_counting(dir) && (dir.nlink() > MAX_LINKS || dir.nlink() == 2) {
        dir.set_nlink(1);
    }
}

/// One subdirectory less.
pub(crate) fn discount_subdirectory(dir: &Inode) {
    if dir.nlink() > 2 {
        dir.drop_nlink();
    }
}

/// Takes a name from `inode` with `remove`; [`drop_link`] or [`drop_directory`] is to follow.
///
/// What loses its last name goes when the last reference does. It becomes an orphan first, as that may fail: without a
/// name, and not an orphan, nobody would ever free it.
pub(crate) fn take_name(
    txn: &Transaction<'_>,
    inode: &Inode,
    remove: impl FnOnce() -> Result,
) -> Result {
    let is_last = inode.is_dir() || inode.nlink() <= 1;
    if is_last {
        orphan::add(txn, inode)?;
    }
    let removed = remove();
    if removed.is_err() && is_last {
        orphan::remove(txn, inode)?;
    }
    removed
}

/// Gives `inode` a name with `enter`. Its count of links is to follow.
///
/// One that was made without a name is an orphan no more. That comes first, as it may fail: with a name, and an
/// orphan, it would be freed in the end.
fn give_name(txn: &Transaction<'_>, inode: &Inode, enter: impl FnOnce() -> Result) -> Result {
    let is_first = inode.nlink() == 0;
    if is_first {
        orphan::remove(txn, inode)?;
    }
    let entered = enter();
    if entered.is_err() && is_first {
        orphan::add(txn, inode)?;
    }
    entered
}

/// `inode` has no name and never had one: it goes when the last reference does.
fn let_go(txn: &Transaction<'_>, inode: &Inode) -> Result {
    orphan::add(txn, inode)?;
    inode::update(txn, inode)
}

/// An inode in the making, which is not yet to be found by name.
///
/// Declare it before the transaction that it is made in: when it comes to nothing, the inode is removed
/// from the disk as the draft is dropped, which must not happen within that transaction.
pub(crate) struct Draft(Option<NewInode<Ferrofs>>);

impl Draft {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Makes an inode, with what it inherits from `dir` and one link, and lets `fill` complete it.
    ///
    /// After a failure, [`Self::abandon`] must be called within the same transaction.
    pub(crate) fn make(
        &mut self,
        txn: &Transaction<'_>,
        idmap: &IdMap,
        dir: &Inode,
        name: &[u8],
        inherited: &acl::Inherited,
        fill: impl FnOnce(&mut NewInode<Ferrofs>) -> Result,
    ) -> Result<&NewInode<Ferrofs>> {
        let new = self
            .0
            .insert(inode::create(txn, idmap, dir, inherited.mode(), name)?);
        inherited.store(txn, new)?;
        xattr::init_security(txn, new, dir, name)?;
        fill(new)?;
        ops::set(new)?;
        Ok(new)
    }

    /// Leaves the inode, if there is one, without links to the list of orphans.
    pub(crate) fn abandon(&mut self, txn: &Transaction<'_>) -> Result {
        if let Some(new) = &self.0 {
            new.clear_nlink();
            let_go(txn, new)?;
        }
        Ok(())
    }

    /// The inode is complete.
    pub(crate) fn finish(self) -> Result<NewInode<Ferrofs>> {
        self.finish_if_made().ok_or(EIO)
    }

    /// The inode is complete, if there is one.
    pub(crate) fn finish_if_made(mut self) -> Option<NewInode<Ferrofs>> {
        self.0.take()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(new) = self.0.take() {
            new.discard();
        }
    }
}

/// Makes an inode and gives it the name of `dentry`.
///
/// `more` is for what `fill` changes beyond the inode itself.
pub(crate) fn make<'d>(
    idmap: &IdMap,
    dir: &Inode,
    dentry: Negative<'d, Ferrofs>,
    mode: u16,
    more: Credits,
    fill: impl Fn(&Transaction<'_>, &mut NewInode<Ferrofs>) -> Result,
) -> Result<Instantiated<'d>> {
    let bytes = dentry.name();
    let name = checked_name(bytes)?;
    let inherited = acl::inherit(dir, mode)?;
    let credits = credits::make_inode(dir) + credits::enter(dir) + more;
    let _held = inode::hold(dir)?;
    let new = retry_without_space(dir, || {
        let mut draft = Draft::new();
        let txn = start(dir, credits)?;
        let result = draft
            .make(&txn, idmap, dir, bytes, &inherited, |new| fill(&txn, new))
            .and_then(|new| {
                enter(&txn, dir, name, new)?;
                if new.is_dir() {
                    count_subdirectory(dir);
                    inode::update(&txn, dir)?;
                }
                inode::update(&txn, new)
            });
        if let Err(error) = result {
            draft.abandon(&txn)?;
            return Err(error);
        }
        txn.stop()?;
        draft.finish()
    })?;
    dentry.instantiate_new(new)
}

/// Runs an operation again that found no space, if a commit may set freed blocks free.
pub(crate) fn retry_without_space<T>(
    inode: &Inode,
    mut operation: impl FnMut() -> Result<T>,
) -> Result<T> {
    const ATTEMPTS: usize = 3;

    for _ in 1..ATTEMPTS {
        match operation() {
            Err(error) if error == ENOSPC && map::wait_for_space(inode.sb())? => {}
            result => return result,
        }
    }
    operation()
}

pub(crate) fn create<'d>(
    idmap: &IdMap,
    dir: &Inode,
    dentry: Negative<'d, Ferrofs>,
    mode: u16,
) -> Result<Instantiated<'d>> {
    let mode = S_IFREG | mode & !S_IFMT;
    make(idmap, dir, dentry, mode, Credits::default(), |_, _| Ok(()))
}

pub(crate) fn mknod<'d>(
    idmap: &IdMap,
    dir: &Inode,
    dentry: Negative<'d, Ferrofs>,
    mode: u16,
    device: Device,
) -> Result<Instantiated<'d>> {
    make(idmap, dir, dentry, mode, Credits::default(), |txn, new| {
        // Not with `mode`, from which the umask or a default ACL may have taken something.
        new.init_special(new.mode(), device.as_raw());
        store_device(txn, new, device)
    })
}

/// Stores the number of a new device in its inode on disk, where others have the root of their map.
fn store_device(txn: &Transaction<'_>, new: &Inode, device: Device) -> Result {
    if !matches!(new.mode() & S_IFMT, S_IFCHR | S_IFBLK) {
        return Ok(());
    }
    inode::modify_raw(txn, new, |raw| {
        raw.set_device(DeviceNumber {
            major: device.major(),
            minor: device.minor(),
        });
    })
}

pub(crate) fn mkdir<'d>(
    idmap: &IdMap,
    dir: &Inode,
    dentry: Negative<'d, Ferrofs>,
    mode: u16,
) -> Result<Instantiated<'d>> {
    check_room_for_subdirectory(dir)?;
    let mode = S_IFDIR | mode & !S_IFMT;
    let first_block = credits::append(dir, 1);
    make(idmap, dir, dentry, mode, first_block, |txn, new| {
        dir_blocks::open_mut(txn, new)
            .init(inode::number(new), inode::number(dir))
            .map_err(|error| error.report(new))?;
        new.set_nlink(2);
        Ok(())
    })
}

pub(crate) fn tmpfile<'d>(
    idmap: &IdMap,
    dir: &Inode,
    file: Tmpfile<'d, Ferrofs>,
    mode: u16,
) -> Result<Instantiated<'d>> {
    let mode = S_IFREG | mode & !S_IFMT;
    let inherited = acl::inherit(dir, mode)?;
    let credits = credits::make_inode(dir) + credits::orphan();
    let new = retry_without_space(dir, || {
        let mut draft = Draft::new();
        let txn = state::transaction(dir.sb(), credits)?;
        let made = draft.make(&txn, idmap, dir, &[], &inherited, |_| Ok(()));
        let failure = made.err();
        draft.abandon(&txn)?;
        match failure {
            Some(error) => Err(error),
            None => {
                txn.stop()?;
                draft.finish()
            }
        }
    })?;
    file.instantiate_new(new)
}

pub(crate) fn link<'d>(
    inode: &Inode,
    dir: &Inode,
    dentry: Negative<'d, Ferrofs>,
) -> Result<Instantiated<'d>> {
    let name = checked_name(dentry.name())?;
    if inode.nlink() >= MAX_LINKS {
        return Err(EMLINK);
    }
    let inherits_project = dir.data().flags().contains(InodeFlags::PROJECT_INHERIT);
    if inherits_project && dir.data().project_id() != inode.data().project_id() {
        return Err(EXDEV);
    }
    // One that was made without a name leaves the orphans, and joins them again if it gets none.
    let credits =
        credits::enter(dir) + credits::change_inode() + credits::orphan() + credits::orphan();
    let _held = (inode::hold(dir)?, inode::hold(inode)?);
    retry_without_space(dir, || {
        let txn = start(dir, credits)?;
        give_name(&txn, inode, || enter(&txn, dir, name, inode))?;
        inode.inc_nlink();
        inode.touch_ctime();
        inode::update(&txn, inode)?;
        txn.stop()
    })?;
    dentry.instantiate(ARef::from(inode))
}

pub(crate) fn unlink(dir: &Inode, dentry: Positive<'_, Ferrofs>) -> Result {
    let name = checked_name(dentry.name())?;
    let inode = dentry.inode();
    let found = find_expected(dir, name, inode)?;
    let _held = (inode::hold(dir)?, inode::hold(inode)?);
    let txn = start(
        dir,
        credits::change_entry(dir) + credits::change_inode() + credits::orphan(),
    )?;
    take_name(&txn, inode, || remove(&txn, dir, name, found))?;
    drop_link(&txn, inode)?;
    txn.stop()
}

/// `inode`, which is no directory, has lost a name by [`take_name`].
pub(crate) fn drop_link(txn: &Transaction<'_>, inode: &Inode) -> Result {
    inode.touch_ctime();
    if inode.nlink() == 0 {
        pr_warn!(
            "({}): inode #{}: had a name and no links\n",
            inode.sb().id().to_str().unwrap_or("?"),
            inode.ino()
        );
    } else {
        inode.drop_nlink();
    }
    inode::update(txn, inode)
}

/// Makes sure that `dir` has no names in it.
///
/// # Errors
///
/// `ENOTEMPTY`.
pub(crate) fn check_empty(dir: &Inode) -> Result {
    let empty = dir_blocks::open(dir)
        .is_empty()
        .map_err(|error| error.report(dir))?;
    if empty {
        Ok(())
    } else {
        Err(ENOTEMPTY)
    }
}

/// The directory `victim` has lost its name by [`take_name`], in a transaction on its parent.
pub(crate) fn drop_directory(txn: &Transaction<'_>, victim: &Inode) -> Result {
    if victim.nlink() > 2 {
        pr_warn!(
            "({}): inode #{}: an empty directory has {} links\n",
            victim.sb().id().to_str().unwrap_or("?"),
            victim.ino(),
            victim.nlink()
        );
    }
    victim.inc_version();
    victim.clear_nlink();
    // What is left of it is not to be read any more, not even through an open file.
    victim.set_size(0);
    victim.touch_ctime();
    inode::update(txn, victim)
}

pub(crate) fn rmdir(dir: &Inode, dentry: Positive<'_, Ferrofs>) -> Result {
    let name = checked_name(dentry.name())?;
    let victim = dentry.inode();
    let found = find_expected(dir, name, victim)?;
    check_empty(victim)?;
    let _held = (inode::hold(dir)?, inode::hold(victim)?);
    let txn = start(
        dir,
        credits::change_entry(dir) + credits::change_inode() + credits::orphan(),
    )?;
    take_name(&txn, victim, || remove(&txn, dir, name, found))?;
    drop_directory(&txn, victim)?;
    discount_subdirectory(dir);
    inode::update(&txn, dir)?;
    txn.stop()
}
