// SPDX-License-Identifier: GPL-2.0

//! The mount options: a table that the kernel parses by, and where the values go.
//!
//! The kernel looks an option up in the table, checks that its value is of the declared kind, and hands
//! over the number of the option with a typed value. Unknown options are refused without our help.

use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::seq_print;
use vfs::context::Given;
use vfs::context::Log;
use vfs::context::Parameter;
use vfs::context::ParameterTable;
use vfs::context::Value;

/// The number of `size=`.
const SIZE: u8 = 0;
/// The number of `mode=`.
const MODE: u8 = 1;

static TABLE: [Parameter; 3] = [
    Parameter::string(c"size", SIZE),
    Parameter::u32_octal(c"mode", MODE),
    Parameter::END,
];
pub(crate) static PARAMETERS: ParameterTable = ParameterTable::new(&TABLE);

/// What the options are parsed into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// How many bytes all files together may hold; a multiple of the page size.
    pub(crate) size: u64,
    /// The permissions of the root directory, when it is made.
    pub(crate) mode: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: 64 << 20,
            mode: 0o755,
        }
    }
}

impl Options {
    /// Takes one option. What is wrong with it is told to who mounts.
    pub(crate) fn parse(&mut self, given: &Given<'_>, log: &Log<'_>) -> Result {
        match (given.key, &given.value) {
            (SIZE, Value::Text(text)) => {
                self.size = parse_size(text.to_bytes())
                    .ok_or_else(|| log.invalid(fmt!("size= wants a number, K, M or G after it")))?;
            }
            (MODE, Value::Number(mode)) => {
                self.mode = u16::try_from(*mode)
                    .ok()
                    .filter(|mode| *mode & !0o1777 == 0)
                    .ok_or_else(|| log.invalid(fmt!("mode= wants permissions up to 1777")))?;
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// Prints what differs from the defaults, as it would have to be given.
    pub(crate) fn show(&self, out: &SeqFile) {
        let default = Self::default();
        if self.size != default.size {
            seq_print!(out, ",size={}k", self.size >> 10);
        }
        if self.mode != default.mode {
            seq_print!(out, ",mode={:o}", self.mode);
        }
    }
}

/// A size in bytes, `K`, `M` or `G`, rounded up to whole pages. Not zero.
fn parse_size(text: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(text).ok()?;
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let size = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    // What is larger than any file can be is a mistake.
    if size == 0 || size > i64::MAX as u64 {
        return None;
    }
    Some(size.next_multiple_of(PAGE_SIZE as u64))
}
