// SPDX-License-Identifier: GPL-2.0

//! Mount options: those of ext4, by the same names and with the same defaults.
//!
//! What is in force ([`Settings`]) comes from three places, each of which overrides the one before: the default
//! options in the super block (`tune2fs -o`), the text of options in it (`tune2fs -E mount_opts`), and the user.
//!
//! Documentation: `Documentation/admin-guide/ext4.rst` of the kernel, ext4(5).

mod inert;
mod table;

use ext4::features::RoCompat;
use ext4::superblock::default_options;
use ext4::superblock::OnError;
use ext4::superblock::Superblock;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::seq_print;
use vfs::context::Given;
use vfs::context::Log;
use vfs::context::Value;

use table::key;
pub(crate) use table::PARAMETERS;

/// Seconds between commits unless the user says otherwise.
const DEFAULT_COMMIT_INTERVAL: u32 = 5;
/// Microseconds that a synchronous operation waits at most for company.
const DEFAULT_MAX_BATCH: u32 = 15_000;
/// The I/O priority of the journal: a level of the best-effort class.
const DEFAULT_IO_PRIORITY: u8 = 3;
/// The lowest of its levels.
const LAST_IO_PRIORITY: u8 = 7;
/// Where the super block lies, in KiB.
const DEFAULT_SUPER_BLOCK: u32 = 1;
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
    pub(crate) const DEBUG: Self = Self(1 << 8);
    pub(crate) const JOURNAL_CHECKSUM: Self = Self(1 << 9);
    /// `data=journal`, which is refused.
    const DATA_JOURNAL: Self = Self(1 << 10);

    const DEFAULT: Self =
        Self(Self::BARRIER.0 | Self::AUTO_DA_ALLOC.0 | Self::USER_XATTR.0 | Self::ACL.0);

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
    /// The I/O priority of the journal: a level of the best-effort class, 0 to 7.
    pub(crate) io_priority: u8,
    /// Where the super block was read from, in KiB.
    super_block: u32,
}

impl Settings {
    /// What `tune2fs -o` has set.
    fn of_super_block(superblock: &Superblock) -> Self {
        let on_disk = superblock.default_mount_options.get();
        let mut flags = Flags::DEFAULT;
        flags.set(Flags::GRPID, on_disk & default_options::BSD_GROUPS != 0);
        flags.set(Flags::DEBUG, on_disk & default_options::DEBUG != 0);
        flags.set(Flags::BARRIER, on_disk & default_options::NO_BARRIER == 0);
        flags.set(Flags::DISCARD, on_disk & default_options::DISCARD != 0);
        let mode = on_disk & default_options::JOURNAL_MODE;
        flags.set(Flags::DATA_JOURNAL, mode == default_options::JOURNAL_DATA);
        let checksums = superblock.features().ro_compat(RoCompat::METADATA_CSUM);
        flags.set(Flags::JOURNAL_CHECKSUM, checksums);
        Self {
            flags,
            on_error: superblock.on_error(),
            commit_interval: DEFAULT_COMMIT_INTERVAL,
            min_batch: 0,
            max_batch: DEFAULT_MAX_BATCH,
            reserved_uid: superblock.reserved_uid(),
            reserved_gid: superblock.reserved_gid(),
            max_dir_size_kb: 0,
            io_priority: DEFAULT_IO_PRIORITY,
            super_block: DEFAULT_SUPER_BLOCK,
        }
    }

    /// Whether an on/off option is on.
    pub(crate) const fn has(&self, flag: Flags) -> bool {
        self.flags.has(flag)
    }

    /// Takes an on/off option over from `other`.
    pub(crate) fn keep(&mut self, flag: Flags, other: &Self) {
        self.flags.set(flag, other.has(flag));
    }

    /// Refuses, with a message, what cannot be had.
    pub(crate) fn check(&self, log: &Log<'_>) -> Result {
        if self.has(Flags::DATA_JOURNAL) {
            return Err(log.invalid(fmt!(
                "data=journal is not supported yet, and refused also when the super block asks for it; \
                 data=ordered is the default"
            )));
        }
        Ok(())
    }

    /// Prints what differs from `defaults`, those of the disk.
    pub(crate) fn show(&self, defaults: &Self, out: &SeqFile) {
        for (flag, on, off) in [
            (Flags::BARRIER, "barrier", "nobarrier"),
            (Flags::DISCARD, "discard", "nodiscard"),
            (Flags::AUTO_DA_ALLOC, "auto_da_alloc", "noauto_da_alloc"),
            (Flags::GRPID, "grpid", "nogrpid"),
            (Flags::MINIX_DF, "minixdf", "bsddf"),
            (Flags::NO_LOAD, "norecovery", "load"),
            (Flags::USER_XATTR, "user_xattr", "nouser_xattr"),
            (Flags::ACL, "acl", "noacl"),
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
            (
                "journal_ioprio",
                self.io_priority.into(),
                defaults.io_priority.into(),
            ),
            ("sb", self.super_block, defaults.super_block),
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

/// The options of a new mount.
pub(crate) struct Resolved {
    /// What is in force when the user gives none.
    pub(crate) defaults: Settings,
    /// What is in force.
    pub(crate) settings: Settings,
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
    io_priority: Option<u8>,
    /// The block, in units of 1 KiB, of the super block to use (`sb=`).
    pub(crate) super_block: Option<u32>,
    /// The journal is to be given up, by a remount.
    pub(crate) abort: bool,
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
            io_priority: None,
            super_block: None,
            abort: false,
        }
    }

    fn flag(&mut self, flag: Flags, on: bool) {
        self.given.set(flag, true);
        self.flags.set(flag, on);
    }

    /// What is in force at a new mount.
    pub(crate) fn resolve(&self, superblock: &Superblock, log: &Log<'_>) -> Resolved {
        let of_super_block = Settings::of_super_block(superblock);
        let on_disk = superblock.default_mount_options.get();
        for (bit, name) in [
            (default_options::UID16, "uid16"),
            (default_options::NO_DELAYED_ALLOCATION, "nodelalloc"),
        ] {
            if on_disk & bit != 0 {
                inert::no_effect(name, log);
            }
        }
        let text = superblock.mount_options();
        let defaults =
            Self::of_text(text, log).map_or(of_super_block, |stored| stored.apply(of_super_block));
        let mut settings = self.apply(defaults);
        settings.super_block = self.super_block.unwrap_or(DEFAULT_SUPER_BLOCK);
        Resolved { defaults, settings }
    }

    /// The options of a text in the super block. When it cannot be understood the mount goes on without all of
    /// them.
    fn of_text(text: &[u8], log: &Log<'_>) -> Option<Self> {
        let mut options = Self::new();
        let result = PARAMETERS.parse_text(text, log, |given| options.parse(given, log));
        match result {
            Ok(()) => Some(options),
            Err(_) => {
                log.warning(fmt!(
                    "the options in the super block are ignored: {}",
                    core::str::from_utf8(text).unwrap_or("they are no text")
                ));
                None
            }
        }
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
            io_priority: self.io_priority.unwrap_or(current.io_priority),
            super_block: current.super_block,
        }
    }

    /// Takes one option.
    pub(crate) fn parse(&mut self, given: &Given<'_>, log: &Log<'_>) -> Result {
        let name = given.name();
        match (given.key, &given.value) {
            (key::INERT, _) => inert::no_effect(name, log),
            (key::DROPPED, _) => inert::dropped(name, log),
            (key::REFUSED, _) => return Err(inert::refuse(name, log)),
            (key::QUOTA, _) => return inert::quota(given, log),
            (key, Value::Flag(on)) => return self.parse_flag(key, *on),
            (key, Value::Number(number)) => return self.parse_number(name, key, *number, log),
            (key, Value::Choice(choice)) => return self.parse_choice(name, key, *choice, log),
            (_, Value::Text(_)) => return Err(EINVAL),
        }
        Ok(())
    }

    fn parse_flag(&mut self, key: u8, on: bool) -> Result {
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
            key::DEBUG => self.flag(Flags::DEBUG, on),
            key::JOURNAL_CHECKSUM => self.flag(Flags::JOURNAL_CHECKSUM, on),
            key::ABORT => self.abort = true,
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    fn parse_number(&mut self, name: &str, key: u8, number: u32, log: &Log<'_>) -> Result {
        match key {
            key::BARRIER => self.flag(Flags::BARRIER, number != 0),
            key::AUTO_DA_ALLOC => self.flag(Flags::AUTO_DA_ALLOC, number != 0),
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
            key::SUPER_BLOCK => self.super_block = Some(number),
            key::INODE_READAHEAD if number != 0 && !number.is_power_of_two() => {
                return Err(log.invalid(fmt!("{}={} is not a power of two", name, number)))
            }
            key::SCAN if number > 1 => {
                return Err(log.invalid(fmt!("{}={} is neither 0 nor 1", name, number)))
            }
            key::INODE_READAHEAD | key::SCAN => inert::no_effect(name, log),
            key::JOURNAL_IOPRIO => match u8::try_from(number) {
                Ok(level @ 0..=LAST_IO_PRIORITY) => self.io_priority = Some(level),
                _ => {
                    return Err(log.invalid(fmt!(
                        "{}={} is above {}",
                        name,
                        number,
                        LAST_IO_PRIORITY
                    )))
                }
            },
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    fn parse_choice(&mut self, name: &str, key: u8, choice: i32, log: &Log<'_>) -> Result {
        match (key, choice) {
            (key::ERRORS, table::ERRORS_CONTINUE) => self.on_error = Some(OnError::Continue),
            (key::ERRORS, table::ERRORS_READ_ONLY) => self.on_error = Some(OnError::ReadOnly),
            (key::ERRORS, table::ERRORS_PANIC) => self.on_error = Some(OnError::Panic),
            // Data is always on disk before metadata names it, so that both modes come to the same.
            (key::DATA, table::DATA_ORDERED) => self.flag(Flags::DATA_JOURNAL, false),
            (key::DATA, table::DATA_WRITEBACK) => {
                self.flag(Flags::DATA_JOURNAL, false);
                inert::no_effect("data=writeback", log);
            }
            (key::DATA, table::DATA_JOURNAL) => self.flag(Flags::DATA_JOURNAL, true),
            (key::AS_IT_IS_OR_NOT, table::AS_IT_IS) => inert::no_effect(name, log),
            (key::AS_IT_IS_OR_NOT, _) => return Err(inert::refuse(name, log)),
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}
