// SPDX-License-Identifier: GPL-2.0

//! The names of the options, for the kernel's parser.
//!
//! They are those of the kernel's ext4, and `noacl`, `nouser_xattr`, `nodebug`, which it had once.

use vfs::context::EnumName;
use vfs::context::EnumTable;
use vfs::context::Parameter;
use vfs::context::ParameterTable;

pub(super) const ERRORS_CONTINUE: i32 = 1;
pub(super) const ERRORS_READ_ONLY: i32 = 2;
pub(super) const ERRORS_PANIC: i32 = 3;

static ERRORS: EnumTable<3> = EnumTable::new([
    EnumName::new(c"continue", ERRORS_CONTINUE),
    EnumName::new(c"remount-ro", ERRORS_READ_ONLY),
    EnumName::new(c"panic", ERRORS_PANIC),
]);

pub(super) const DATA_ORDERED: i32 = 1;
pub(super) const DATA_WRITEBACK: i32 = 2;
pub(super) const DATA_JOURNAL: i32 = 3;

static DATA: EnumTable<3> = EnumTable::new([
    EnumName::new(c"ordered", DATA_ORDERED),
    EnumName::new(c"writeback", DATA_WRITEBACK),
    EnumName::new(c"journal", DATA_JOURNAL),
]);

/// What is asked for is so, or cannot be had: of `data_err=` and `dax=`.
pub(super) const AS_IT_IS: i32 = 1;
pub(super) const NOT_TO_BE_HAD: i32 = 2;

static DATA_ERR: EnumTable<2> = EnumTable::new([
    EnumName::new(c"ignore", AS_IT_IS),
    EnumName::new(c"abort", NOT_TO_BE_HAD),
]);

static DAX: EnumTable<3> = EnumTable::new([
    EnumName::new(c"never", AS_IT_IS),
    EnumName::new(c"inode", AS_IT_IS),
    EnumName::new(c"always", NOT_TO_BE_HAD),
]);

static QUOTA_FORMATS: EnumTable<3> = EnumTable::new([
    EnumName::new(c"vfsold", 1),
    EnumName::new(c"vfsv0", 2),
    EnumName::new(c"vfsv1", 3),
]);

/// The numbers that options are known by between the table and the parser.
pub(super) mod key {
    pub(in super::super) const BARRIER: u8 = 0;
    pub(in super::super) const DISCARD: u8 = 1;
    pub(in super::super) const AUTO_DA_ALLOC: u8 = 2;
    pub(in super::super) const GRPID: u8 = 3;
    pub(in super::super) const SYSVGROUPS: u8 = 4;
    pub(in super::super) const MINIXDF: u8 = 5;
    pub(in super::super) const BSDDF: u8 = 6;
    pub(in super::super) const NO_LOAD: u8 = 7;
    pub(in super::super) const USER_XATTR: u8 = 8;
    pub(in super::super) const ACL: u8 = 9;
    pub(in super::super) const DEBUG: u8 = 10;
    pub(in super::super) const JOURNAL_CHECKSUM: u8 = 11;
    pub(in super::super) const COMMIT: u8 = 12;
    pub(in super::super) const MIN_BATCH: u8 = 13;
    pub(in super::super) const MAX_BATCH: u8 = 14;
    pub(in super::super) const RESUID: u8 = 15;
    pub(in super::super) const RESGID: u8 = 16;
    pub(in super::super) const MAX_DIR_SIZE: u8 = 17;
    pub(in super::super) const SUPER_BLOCK: u8 = 18;
    pub(in super::super) const INODE_READAHEAD: u8 = 19;
    pub(in super::super) const SCAN: u8 = 20;
    pub(in super::super) const JOURNAL_IOPRIO: u8 = 21;
    pub(in super::super) const ERRORS: u8 = 22;
    pub(in super::super) const DATA: u8 = 23;
    pub(in super::super) const AS_IT_IS_OR_NOT: u8 = 24;
    pub(in super::super) const ABORT: u8 = 25;
    pub(in super::super) const QUOTA: u8 = 26;
    /// Options that have no effect.
    pub(in super::super) const INERT: u8 = 27;
    /// Options that ext4 has dropped.
    pub(in super::super) const DROPPED: u8 = 28;
    /// Options that are refused.
    pub(in super::super) const REFUSED: u8 = 29;
}

static TABLE: [Parameter; 69] = [
    Parameter::flag_or_no(c"barrier", key::BARRIER),
    Parameter::flag_or_no(c"discard", key::DISCARD),
    Parameter::flag_or_no(c"auto_da_alloc", key::AUTO_DA_ALLOC),
    Parameter::flag_or_no(c"grpid", key::GRPID),
    Parameter::flag(c"bsdgroups", key::GRPID),
    Parameter::flag(c"sysvgroups", key::SYSVGROUPS),
    Parameter::flag(c"minixdf", key::MINIXDF),
    Parameter::flag(c"bsddf", key::BSDDF),
    Parameter::flag(c"norecovery", key::NO_LOAD),
    Parameter::flag(c"noload", key::NO_LOAD),
    Parameter::flag_or_no(c"user_xattr", key::USER_XATTR),
    Parameter::flag_or_no(c"acl", key::ACL),
    Parameter::flag_or_no(c"debug", key::DEBUG),
    Parameter::flag_or_no(c"journal_checksum", key::JOURNAL_CHECKSUM),
    Parameter::flag(c"abort", key::ABORT),
    Parameter::u32(c"commit", key::COMMIT),
    Parameter::u32(c"min_batch_time", key::MIN_BATCH),
    Parameter::u32(c"max_batch_time", key::MAX_BATCH),
    Parameter::uid(c"resuid", key::RESUID),
    Parameter::gid(c"resgid", key::RESGID),
    Parameter::u32(c"max_dir_size_kb", key::MAX_DIR_SIZE),
    Parameter::u32(c"sb", key::SUPER_BLOCK),
    Parameter::u32(c"journal_ioprio", key::JOURNAL_IOPRIO),
    Parameter::choice(c"errors", key::ERRORS, &ERRORS),
    Parameter::choice(c"data", key::DATA, &DATA),
    // The older way to negate: a number, where 0 means no.
    Parameter::u32(c"barrier", key::BARRIER),
    Parameter::u32(c"auto_da_alloc", key::AUTO_DA_ALLOC),
    // Quotas.
    Parameter::flag_or_no(c"quota", key::QUOTA),
    Parameter::flag(c"usrquota", key::QUOTA),
    Parameter::flag(c"grpquota", key::QUOTA),
    Parameter::flag(c"prjquota", key::QUOTA),
    Parameter::string_or_empty(c"usrjquota", key::QUOTA),
    Parameter::string_or_empty(c"grpjquota", key::QUOTA),
    Parameter::choice(c"jqfmt", key::QUOTA, &QUOTA_FORMATS),
    // What has no effect.
    Parameter::flag_or_no(c"block_validity", key::INERT),
    Parameter::flag_or_no(c"delalloc", key::INERT),
    Parameter::flag(c"dioread_lock", key::INERT),
    Parameter::flag_or_no(c"dioread_nolock", key::INERT),
    Parameter::flag(c"i_version", key::INERT),
    Parameter::flag_or_no(c"init_itable", key::INERT),
    Parameter::u32(c"init_itable", key::INERT),
    Parameter::flag(c"inlinecrypt", key::INERT),
    Parameter::u32(c"inode_readahead_blks", key::INODE_READAHEAD),
    Parameter::u32(c"mb_optimize_scan", key::SCAN),
    Parameter::flag(c"nombcache", key::INERT),
    Parameter::flag(c"no_mbcache", key::INERT),
    Parameter::flag(c"no_prefetch_block_bitmaps", key::INERT),
    Parameter::u32(c"stripe", key::INERT),
    Parameter::u32(c"debug_want_extra_isize", key::INERT),
    Parameter::flag_or_no(c"warn_on_error", key::INERT),
    Parameter::choice(c"data_err", key::AS_IT_IS_OR_NOT, &DATA_ERR),
    Parameter::choice(c"dax", key::AS_IT_IS_OR_NOT, &DAX),
    // What is not there.
    Parameter::flag(c"dax", key::REFUSED),
    Parameter::flag(c"journal_async_commit", key::REFUSED),
    Parameter::u32(c"journal_dev", key::REFUSED),
    Parameter::string(c"journal_path", key::REFUSED),
    Parameter::flag(c"nouid32", key::REFUSED),
    Parameter::flag(c"test_dummy_encryption", key::REFUSED),
    Parameter::string(c"test_dummy_encryption", key::REFUSED),
    // What the kernel's ext4 has dropped.
    Parameter::flag_or_no(c"bh", key::DROPPED),
    Parameter::flag(c"orlov", key::DROPPED),
    Parameter::flag(c"oldalloc", key::DROPPED),
    Parameter::string(c"check", key::DROPPED),
    Parameter::flag(c"nocheck", key::DROPPED),
    Parameter::u32(c"journal", key::DROPPED),
    Parameter::flag_or_no(c"reservation", key::DROPPED),
    Parameter::flag_or_no(c"mblk_io_submit", key::DROPPED),
    Parameter::flag(c"prefetch_block_bitmaps", key::DROPPED),
    Parameter::END,
];

/// The table for the kernel's parser.
pub(crate) static PARAMETERS: ParameterTable = ParameterTable::new(&TABLE);
