// SPDX-License-Identifier: GPL-2.0

//! Mount options: those of ext4, by the same names and with the same defaults.
//!
//! Documentation: `Documentation/admin-guide/ext4.rst` of the kernel, ext4(5).

use ext4::superblock::default_options;
use ext4::superblock::OnError;
use ext4::superblock::Superblock;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::seq_print;
use vfs::context::EnumName;
use vfs::context::EnumTable;
use vfs::context::Log;
use vfs::context::Parameter;
use vfs::context::ParameterTable;
use vfs::context::Value;

/// Seconds between commits unless the user says otherwise.
const DEFAULT_COMMIT_INTERVAL: u32 = 5;
/// Microseconds that a synchronous operation waits at most for company.
const DEFAULT_MAX_BATCH: u32 = 15_000;
/// The largest commit interval in seconds whose milliseconds fit a timer.
const MAX_COMMIT_INTERVAL: u32 = i32::MAX as u32 / 1000;

/// Options that are on or off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(u32);

impl Flags {
    pub(crate) const BARRIER: Self = Self(1 << 0);
    pub(crate) const DISCARD: Self = Self(1 << 1);
    pub(crate) const AUTO_DA_ALLOC: Self = Self(1 << 2);
    pub(crate) const GRPID: Self = Self(1 << 3);
    pub(crate) const MINIX_DF: Self = Self(1 << 4);
    pub(crate) const NO_LOAD: Self = Self(1 << 5);
    pub(crate) const USER_XATTR: Self = Self(1 << 6);
    pub(crate) const ACL: Self = Self(1 << 7);
    pub(crate) const INIT_ITABLE: Self = Self(1 << 8);
    pub(crate) const BLOCK_VALIDITY: Self = Self(1 << 9);
    pub(crate) const DEBUG: Self = Self(1 << 10);
    pub(crate) const I_VERSION: Self = Self(1 << 11);
    pub(crate) const JOURNAL_CHECKSUM: Self = Self(1 << 12);

    const DEFAULT: Self = Self(
        Self::BARRIER.0
            | Self::AUTO_DA_ALLOC.0
            | Self::USER_XATTR.0
            | Self::ACL.0
            | Self::INIT_ITABLE.0
            | Self::BLOCK_VALIDITY.0
            | Self::I_VERSION.0,
    );

    fn set(&mut self, flag: Self, on: bool) {
        if on {
            self.0 |= flag.0;
        } else {
            self.0 &= !flag.0;
        }
    }

    const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

/// The options in force.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    flags: Flags,
    /// What happens when the file system turns out to be damaged.
    pub(crate) on_error: OnError,
    /// Seconds between commits.
    pub(crate) commit_interval: u32,
    /// Microseconds that a synchronous operation waits at least for company in its commit.
    pub(crate) min_batch: u32,
    /// The same, at most.
    pub(crate) max_batch: u32,
    /// Who may use the reserved blocks besides root.
    pub(crate) reserved_uid: u32,
    /// The group that may use the reserved blocks.
    pub(crate) reserved_gid: u32,
    /// The most KiB that a directory may have; 0 for any number.
    pub(crate) max_dir_size_kb: u32,
    /// Blocks of a RAID stripe, to which large allocations are aligned; 0 for none.
    pub(crate) stripe: u32,
}

impl Settings {
    /// What is in force when the user gives no option: what the super block says.
    fn defaults(superblock: &Superblock) -> Self {
        let on_disk = superblock.default_mount_options.get();
        let mut flags = Flags::DEFAULT;
        flags.set(Flags::GRPID, on_disk & default_options::BSD_GROUPS != 0);
        flags.set(Flags::DEBUG, on_disk & default_options::DEBUG != 0);
        flags.set(Flags::BARRIER, on_disk & default_options::NO_BARRIER == 0);
        flags.set(Flags::DISCARD, on_disk & default_options::DISCARD != 0);
        Self {
            flags,
            on_error: superblock.on_error(),
            commit_interval: DEFAULT_COMMIT_INTERVAL,
            min_batch: 0,
            max_batch: DEFAULT_MAX_BATCH,
            reserved_uid: superblock.reserved_uid(),
            reserved_gid: superblock.reserved_gid(),
            max_dir_size_kb: 0,
            stripe: 0,
        }
    }

    /// Whether an on/off option is on.
    pub(crate) const fn has(&self, flag: Flags) -> bool {
        self.flags.has(flag)
    }

    /// Prints what differs from `defaults`.
    fn show(&self, defaults: &Self, out: &SeqFile) {
        for (flag, on, off) in [
            (Flags::BARRIER, "barrier", "nobarrier"),
            (Flags::DISCARD, "discard", "nodiscard"),
            (Flags::AUTO_DA_ALLOC, "auto_da_alloc", "noauto_da_alloc"),
            (Flags::GRPID, "grpid", "nogrpid"),
            (Flags::MINIX_DF, "minixdf", "bsddf"),
            (Flags::NO_LOAD, "norecovery", "load"),
            (Flags::USER_XATTR, "user_xattr", "nouser_xattr"),
            (Flags::ACL, "acl", "noacl"),
            (Flags::INIT_ITABLE, "init_itable", "noinit_itable"),
            (Flags::BLOCK_VALIDITY, "block_validity", "noblock_validity"),
            (Flags::DEBUG, "debug", "nodebug"),
            (
                Flags::JOURNAL_CHECKSUM,
                "journal_checksum",
                "nojournal_checksum",
            ),
        ] {
            if self.has(flag) != defaults.has(flag) {
                seq_print!(out, ",{}", if self.has(flag) { on } else { off });
            }
        }
        if self.on_error != defaults.on_error {
            seq_print!(out, ",errors={}", error_name(self.on_error));
        }
        for (name, value, default) in [
            ("commit", self.commit_interval, defaults.commit_interval),
            ("min_batch_time", self.min_batch, defaults.min_batch),
            ("max_batch_time", self.max_batch, defaults.max_batch),
            ("resuid", self.reserved_uid, defaults.reserved_uid),
            ("resgid", self.reserved_gid, defaults.reserved_gid),
            (
                "max_dir_size_kb",
                self.max_dir_size_kb,
                defaults.max_dir_size_kb,
            ),
            ("stripe", self.stripe, defaults.stripe),
        ] {
            if value != default {
                seq_print!(out, ",{}={}", name, value);
            }
        }
    }
}

fn error_name(on_error: OnError) -> &'static str {
    match on_error {
        OnError::Continue => "continue",
        OnError::ReadOnly => "remount-ro",
        OnError::Panic => "panic",
    }
}

/// Prints the options of a mount that differ from what its super block asks for.
pub(crate) fn show(settings: &Settings, superblock: &Superblock, out: &SeqFile) {
    settings.show(&Settings::defaults(superblock), out);
}

/// The options that a user gave; what is `None` or not in `given` was not mentioned.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    given: Flags,
    flags: Flags,
    on_error: Option<OnError>,
    commit_interval: Option<u32>,
    min_batch: Option<u32>,
    max_batch: Option<u32>,
    reserved_uid: Option<u32>,
    reserved_gid: Option<u32>,
    max_dir_size_kb: Option<u32>,
    stripe: Option<u32>,
    /// The block, in units of 1 KiB, of the super block to use (`sb=`).
    pub(crate) super_block: Option<u32>,
}

impl Options {
    /// No option given.
    pub(crate) const fn new() -> Self {
        Self {
            given: Flags(0),
            flags: Flags(0),
            on_error: None,
            commit_interval: None,
            min_batch: None,
            max_batch: None,
            reserved_uid: None,
            reserved_gid: None,
            max_dir_size_kb: None,
            stripe: None,
            super_block: None,
        }
    }

    fn flag(&mut self, flag: Flags, on: bool) {
        self.given.set(flag, true);
        self.flags.set(flag, on);
    }

    /// What is in force at a new mount.
    pub(crate) fn resolve(&self, superblock: &Superblock) -> Settings {
        self.apply(Settings::defaults(superblock))
    }

    /// `current`, changed by what the user gave.
    pub(crate) fn apply(&self, current: Settings) -> Settings {
        Settings {
            flags: Flags((current.flags.0 & !self.given.0) | (self.flags.0 & self.given.0)),
            on_error: self.on_error.unwrap_or(current.on_error),
            commit_interval: self.commit_interval.unwrap_or(current.commit_interval),
            min_batch: self.min_batch.unwrap_or(current.min_batch),
            max_batch: self.max_batch.unwrap_or(current.max_batch),
            reserved_uid: self.reserved_uid.unwrap_or(current.reserved_uid),
            reserved_gid: self.reserved_gid.unwrap_or(current.reserved_gid),
            max_dir_size_kb: self.max_dir_size_kb.unwrap_or(current.max_dir_size_kb),
            stripe: self.stripe.unwrap_or(current.stripe),
        }
    }

    /// Takes one option.
    pub(crate) fn parse(&mut self, key: u8, value: Value<'_>, log: &Log<'_>) -> Result {
        match value {
            Value::Flag(on) => self.parse_flag(key, on, log),
            Value::Number(number) => self.parse_number(key, number, log),
            Value::Choice(choice) => self.parse_choice(key, choice, log),
            Value::Text(_) => Err(EINVAL),
        }
    }

    fn parse_flag(&mut self, key: u8, on: bool, log: &Log<'_>) -> Result {
        match key {
            key::BARRIER => self.flag(Flags::BARRIER, on),
            key::DISCARD => self.flag(Flags::DISCARD, on),
            key::AUTO_DA_ALLOC => self.flag(Flags::AUTO_DA_ALLOC, on),
            key::GRPID => self.flag(Flags::GRPID, on),
            key::SYSVGROUPS => self.flag(Flags::GRPID, false),
            key::MINIXDF => self.flag(Flags::MINIX_DF, true),
            key::BSDDF => self.flag(Flags::MINIX_DF, false),
            key::NO_LOAD => self.flag(Flags::NO_LOAD, true),
            key::USER_XATTR => self.flag(Flags::USER_XATTR, on),
            key::ACL => self.flag(Flags::ACL, on),
            key::INIT_ITABLE => self.flag(Flags::INIT_ITABLE, on),
            key::BLOCK_VALIDITY => self.flag(Flags::BLOCK_VALIDITY, on),
            key::DEBUG => self.flag(Flags::DEBUG, on),
            key::I_VERSION => self.flag(Flags::I_VERSION, true),
            key::JOURNAL_CHECKSUM => self.flag(Flags::JOURNAL_CHECKSUM, on),
            key::DELALLOC if on => {}
            key::DELALLOC => {
                return Err(log.invalid(fmt!(
                    "nodelalloc: allocation is always delayed until writeback"
                )))
            }
            key::DIOREAD_NOLOCK => {
                // Direct reads need no lock here, whatever is asked for: extents are written before
                // they are marked so.
            }
            key::IGNORED => {
                log.warning(fmt!(
                    "an option that the kernel's ext4 has dropped is ignored"
                ));
            }
            key::QUOTA if !on => {}
            key::QUOTA => return Err(log.invalid(fmt!("quotas are not supported yet"))),
            key::ASYNC_COMMIT => {
                return Err(log.invalid(fmt!(
                    "journal_async_commit is not supported: a commit block must not \
                     overtake the blocks that it vouches for"
                )))
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    fn parse_number(&mut self, key: u8, number: u32, log: &Log<'_>) -> Result {
        match key {
            key::BARRIER => self.flag(Flags::BARRIER, number != 0),
            key::AUTO_DA_ALLOC => self.flag(Flags::AUTO_DA_ALLOC, number != 0),
            // How long the initialising thread rests, in units of the time that its work takes.
            key::INIT_ITABLE => self.flag(Flags::INIT_ITABLE, true),
            key::COMMIT if number == 0 => self.commit_interval = Some(DEFAULT_COMMIT_INTERVAL),
            key::COMMIT if number > MAX_COMMIT_INTERVAL => {
                return Err(log.invalid(fmt!(
                    "commit={} is too large; at most {} seconds",
                    number,
                    MAX_COMMIT_INTERVAL
                )))
            }
            key::COMMIT => self.commit_interval = Some(number),
            key::MIN_BATCH => self.min_batch = Some(number),
            key::MAX_BATCH => self.max_batch = Some(number),
            key::RESUID => self.reserved_uid = Some(number),
            key::RESGID => self.reserved_gid = Some(number),
            key::MAX_DIR_SIZE => self.max_dir_size_kb = Some(number),
            key::STRIPE => self.stripe = Some(number),
            key::SUPER_BLOCK => self.super_block = Some(number),
            key::INODE_READAHEAD if number != 0 && !number.is_power_of_two() => {
                return Err(log.invalid(fmt!(
                    "inode_readahead_blks={} is not a power of two",
                    number
                )))
            }
            key::INODE_READAHEAD => {}
            key::JOURNAL_IOPRIO if number > 7 => {
                return Err(log.invalid(fmt!("journal_ioprio={} is above 7", number)))
            }
            key::JOURNAL_IOPRIO => {}
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    fn parse_choice(&mut self, key: u8, choice: i32, log: &Log<'_>) -> Result {
        match (key, choice) {
            (key::ERRORS, ERRORS_CONTINUE) => self.on_error = Some(OnError::Continue),
            (key::ERRORS, ERRORS_READ_ONLY) => self.on_error = Some(OnError::ReadOnly),
            (key::ERRORS, ERRORS_PANIC) => self.on_error = Some(OnError::Panic),
            // Data is always on disk before metadata names it, so that both modes come to the same.
            (key::DATA, DATA_ORDERED | DATA_WRITEBACK) => {}
            (key::DATA, _) => {
                return Err(log.invalid(fmt!(
                    "data=journal is not supported yet; data=ordered is the default"
                )))
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}

const ERRORS_CONTINUE: i32 = 1;
const ERRORS_READ_ONLY: i32 = 2;
const ERRORS_PANIC: i32 = 3;

static ERRORS: EnumTable<3> = EnumTable::new([
    EnumName::new(c"continue", ERRORS_CONTINUE),
    EnumName::new(c"remount-ro", ERRORS_READ_ONLY),
    EnumName::new(c"panic", ERRORS_PANIC),
]);

const DATA_ORDERED: i32 = 1;
const DATA_WRITEBACK: i32 = 2;
const DATA_JOURNAL: i32 = 3;

static DATA: EnumTable<3> = EnumTable::new([
    EnumName::new(c"ordered", DATA_ORDERED),
    EnumName::new(c"writeback", DATA_WRITEBACK),
    EnumName::new(c"journal", DATA_JOURNAL),
]);

/// The numbers that options are known by between the table and the parser.
mod key {
    pub(super) const BARRIER: u8 = 0;
    pub(super) const DISCARD: u8 = 1;
    pub(super) const AUTO_DA_ALLOC: u8 = 2;
    pub(super) const GRPID: u8 = 3;
    pub(super) const SYSVGROUPS: u8 = 4;
    pub(super) const MINIXDF: u8 = 5;
    pub(super) const BSDDF: u8 = 6;
    pub(super) const NO_LOAD: u8 = 7;
    pub(super) const USER_XATTR: u8 = 8;
    pub(super) const ACL: u8 = 9;
    pub(super) const INIT_ITABLE: u8 = 10;
    pub(super) const BLOCK_VALIDITY: u8 = 11;
    pub(super) const DEBUG: u8 = 12;
    pub(super) const I_VERSION: u8 = 13;
    pub(super) const JOURNAL_CHECKSUM: u8 = 14;
    pub(super) const DELALLOC: u8 = 15;
    pub(super) const IGNORED: u8 = 16;
    pub(super) const QUOTA: u8 = 17;
    pub(super) const ASYNC_COMMIT: u8 = 18;
    pub(super) const COMMIT: u8 = 19;
    pub(super) const MIN_BATCH: u8 = 20;
    pub(super) const MAX_BATCH: u8 = 21;
    pub(super) const RESUID: u8 = 22;
    pub(super) const RESGID: u8 = 23;
    pub(super) const MAX_DIR_SIZE: u8 = 24;
    pub(super) const STRIPE: u8 = 25;
    pub(super) const SUPER_BLOCK: u8 = 26;
    pub(super) const INODE_READAHEAD: u8 = 27;
    pub(super) const JOURNAL_IOPRIO: u8 = 28;
    pub(super) const ERRORS: u8 = 29;
    pub(super) const DATA: u8 = 30;
    pub(super) const DIOREAD_NOLOCK: u8 = 31;
}

static TABLE: [Parameter; 55] = [
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
    Parameter::flag_or_no(c"init_itable", key::INIT_ITABLE),
    Parameter::flag_or_no(c"block_validity", key::BLOCK_VALIDITY),
    Parameter::flag_or_no(c"debug", key::DEBUG),
    Parameter::flag(c"i_version", key::I_VERSION),
    Parameter::flag_or_no(c"journal_checksum", key::JOURNAL_CHECKSUM),
    Parameter::flag(c"journal_async_commit", key::ASYNC_COMMIT),
    Parameter::flag_or_no(c"delalloc", key::DELALLOC),
    Parameter::flag_or_no(c"dioread_lock", key::DIOREAD_NOLOCK),
    Parameter::flag(c"dioread_nolock", key::DIOREAD_NOLOCK),
    Parameter::flag(c"nodioread_nolock", key::DIOREAD_NOLOCK),
    Parameter::flag_or_no(c"quota", key::QUOTA),
    Parameter::flag(c"usrquota", key::QUOTA),
    Parameter::flag(c"grpquota", key::QUOTA),
    Parameter::flag(c"prjquota", key::QUOTA),
    // What the kernel's ext4 accepts and ignores.
    Parameter::flag_or_no(c"bh", key::IGNORED),
    Parameter::flag(c"orlov", key::IGNORED),
    Parameter::flag(c"oldalloc", key::IGNORED),
    Parameter::flag(c"check", key::IGNORED),
    Parameter::flag(c"nocheck", key::IGNORED),
    Parameter::flag(c"reservation", key::IGNORED),
    Parameter::flag(c"noreservation", key::IGNORED),
    Parameter::flag(c"mblk_io_submit", key::IGNORED),
    Parameter::flag(c"nomblk_io_submit", key::IGNORED),
    Parameter::flag(c"prefetch_block_bitmaps", key::IGNORED),
    Parameter::flag(c"no_prefetch_block_bitmaps", key::IGNORED),
    // The older way to negate: a number, where 0 means no.
    Parameter::u32(c"barrier", key::BARRIER),
    Parameter::u32(c"auto_da_alloc", key::AUTO_DA_ALLOC),
    Parameter::u32(c"init_itable", key::INIT_ITABLE),
    Parameter::u32(c"commit", key::COMMIT),
    Parameter::u32(c"min_batch_time", key::MIN_BATCH),
    Parameter::u32(c"max_batch_time", key::MAX_BATCH),
    Parameter::uid(c"resuid", key::RESUID),
    Parameter::gid(c"resgid", key::RESGID),
    Parameter::u32(c"max_dir_size_kb", key::MAX_DIR_SIZE),
    Parameter::u32(c"stripe", key::STRIPE),
    Parameter::u32(c"sb", key::SUPER_BLOCK),
    Parameter::u32(c"inode_readahead_blks", key::INODE_READAHEAD),
    Parameter::u32(c"journal_ioprio", key::JOURNAL_IOPRIO),
    Parameter::choice(c"errors", key::ERRORS, &ERRORS),
    Parameter::choice(c"data", key::DATA, &DATA),
    Parameter::flag(c"nombcache", key::IGNORED),
    Parameter::flag(c"no_mbcache", key::IGNORED),
    Parameter::END,
];

/// The table for the kernel's parser.
pub(crate) static PARAMETERS: ParameterTable = ParameterTable::new(&TABLE);
