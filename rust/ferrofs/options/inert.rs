// SPDX-License-Identifier: GPL-2.0

//! Options of ext4 that change nothing here: those that ask for what is always or never so, and those whose feature
//! is not there. Each is named with the reason, so that nobody takes it to be in force.

use kernel::prelude::*;
use vfs::context::Given;
use vfs::context::Log;
use vfs::context::Value;

/// What becomes of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It asks for what is so anyway.
    AsAsked,
    /// It asks for something else.
    None,
}

const ALLOCATOR: &str = "it is about another allocator";
const DELAYED: &str = "allocation is always delayed until writeback";
const UNWRITTEN: &str = "new blocks count as unwritten until their data is there";
const BITMAPS: &str = "bitmaps are read when they are needed";
const INODE_TABLES: &str = "inode tables are initialised inode by inode, when one is used";
const NO_ENCRYPTION: &str = "encryption is not supported yet";
const NO_QUOTA: &str = "quotas are not supported yet";
const NO_SHARING: &str = "new attributes do not share blocks";
const OWNERS: &str = "owners always have 32 bits";
const STACK: &str = "errors are reported without a stack trace";
const VALIDITY: &str = "files are always kept off the blocks of metadata";

/// Name, effect and reason of each.
static REASONS: [(&str, Effect, &str); 24] = [
    ("block_validity", Effect::AsAsked, VALIDITY),
    ("noblock_validity", Effect::None, VALIDITY),
    (
        "data=writeback",
        Effect::None,
        "data is always on disk before metadata names it",
    ),
    (
        "data_err",
        Effect::AsAsked,
        "the journal goes on when data is lost",
    ),
    (
        "dax",
        Effect::AsAsked,
        "all files go through the page cache",
    ),
    (
        "debug_want_extra_isize",
        Effect::None,
        "the super block says how large inodes are",
    ),
    ("delalloc", Effect::AsAsked, DELAYED),
    ("nodelalloc", Effect::None, DELAYED),
    ("dioread_nolock", Effect::AsAsked, UNWRITTEN),
    ("nodioread_nolock", Effect::None, UNWRITTEN),
    ("dioread_lock", Effect::None, UNWRITTEN),
    (
        "i_version",
        Effect::AsAsked,
        "change counters are always kept",
    ),
    ("init_itable", Effect::None, INODE_TABLES),
    ("noinit_itable", Effect::AsAsked, INODE_TABLES),
    ("inlinecrypt", Effect::None, NO_ENCRYPTION),
    (
        "inode_readahead_blks",
        Effect::None,
        "inode tables are not read ahead",
    ),
    ("mb_optimize_scan", Effect::None, ALLOCATOR),
    ("nombcache", Effect::AsAsked, NO_SHARING),
    ("no_mbcache", Effect::AsAsked, NO_SHARING),
    ("no_prefetch_block_bitmaps", Effect::AsAsked, BITMAPS),
    (
        "stripe",
        Effect::None,
        "allocations are not aligned to stripes",
    ),
    ("uid16", Effect::None, OWNERS),
    ("warn_on_error", Effect::None, STACK),
    ("nowarn_on_error", Effect::AsAsked, STACK),
];

/// Name and reason of those that are refused.
static REFUSALS: [(&str, &str); 7] = [
    (
        "data_err",
        "the journal goes on when data is lost, and fsync tells who lost it",
    ),
    ("dax", "all files go through the page cache"),
    (
        "journal_async_commit",
        "a commit block must not overtake the blocks that it vouches for",
    ),
    ("journal_dev", "the journal must lie on the same device"),
    ("journal_path", "the journal must lie on the same device"),
    ("nouid32", OWNERS),
    ("test_dummy_encryption", NO_ENCRYPTION),
];

/// Says that an option has no effect, and why: a warning if it asks for what will not be.
pub(super) fn no_effect(name: &str, log: &Log<'_>) {
    let known = REASONS.iter().find(|(known, _, _)| *known == name);
    match known {
        Some((_, Effect::AsAsked, reason)) => log.info(fmt!("{} has no effect: {}", name, reason)),
        Some((_, Effect::None, reason)) => log.warning(fmt!("{} has no effect: {}", name, reason)),
        None => log.warning(fmt!("{} has no effect", name)),
    }
}

/// Says that an option is refused, and why.
pub(super) fn refuse(name: &str, log: &Log<'_>) -> Error {
    match REFUSALS.iter().find(|(known, _)| *known == name) {
        Some((_, reason)) => log.invalid(fmt!("{} is not supported: {}", name, reason)),
        None => log.invalid(fmt!("{} is not supported", name)),
    }
}

/// Takes an option about quotas: only what turns them off can be had.
pub(super) fn quota(given: &Given<'_>, log: &Log<'_>) -> Result {
    match &given.value {
        Value::Flag(false) => {}
        Value::Text(text) if text.is_empty() => {}
        _ => {
            return Err(log.invalid(fmt!("{} is not supported: {}", given.name(), NO_QUOTA)));
        }
    }
    log.info(fmt!("{} has no effect: {}", given.name(), NO_QUOTA));
    Ok(())
}

/// Takes an option that the kernel's ext4 has dropped, too.
pub(super) fn dropped(name: &str, log: &Log<'_>) {
    log.warning(fmt!(
        "{} is ignored: it has no meaning any more, in ext4 neither",
        name
    ));
}
