// SPDX-License-Identifier: GPL-2.0

//! The command line of `tools/vm`.

use anyhow::Context;
use clap::Parser;
use clap::ValueEnum;
use std::path::PathBuf;
use std::str::FromStr;

/// Boots a guest, runs COMMAND in it as root, streams its output and exits with its status.
///
/// The guest sees the sandbox's root, this clone included, and may write to it, but such writes do not last. Its
/// environment has NVME_DISK and SATA_DISK, the two disks, FERROFS_KO, the module, and MEMFS_KO, the sample, built and
/// not loaded. The status is 125 when the guest itself failed: it did not boot, it died (a panic), or the time was up;
/// and 128 + N when signal N killed the command.
#[derive(Debug, Parser)]
#[command(
    name = "tools/vm",
    override_usage = "tools/vm [options] -- COMMAND [ARG...]"
)]
pub struct Options {
    /// The kernel to boot: Debian's, in QEMU, or the debug kernel (KASAN, lockdep, KUnit), as User Mode Linux
    #[arg(long, value_enum, default_value = "stock")]
    pub kernel: Kernel,

    /// The NVMe disk: the size of a fresh empty one (512M, 2G), or an existing file, which is written to
    #[arg(long, value_name = "SIZE|FILE", default_value = "2G")]
    pub nvme: Disk,

    /// The SATA disk, likewise
    #[arg(long, value_name = "SIZE|FILE", default_value = "2G")]
    pub sata: Disk,

    /// The guest's memory
    #[arg(long, value_name = "SIZE", default_value = "2G")]
    pub mem: Size,

    /// The guest's processors; the debug kernel has one
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    pub cpus: u32,

    /// Ends the guest after this many seconds, with status 125
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,

    /// Gives the disks a write cache that is lost when this program is killed, for tests that cut the power: what the guest
    /// has not flushed is then on the disk in part, as SEED has it. Without this, a killed guest loses nothing that it has
    /// given to its disks. Only for the stock kernel
    #[arg(long, value_name = "SEED")]
    pub lossy_cache: Option<u64>,

    /// One processor on the instruction clock: one guest instruction is one nanosecond of guest time
    #[arg(long)]
    pub icount: bool,

    /// A folder of the host that the guest sees and writes to under the same path; may be repeated
    #[arg(long, value_name = "DIR")]
    pub share: Vec<PathBuf>,

    /// Sets a variable in the command's environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub env: Vec<(String, String)>,

    /// Keeps the kernel's log in this file; without it, the end of the log is shown when the guest fails
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Adds arguments to the kernel's command line
    #[arg(long, value_name = "ARGUMENTS")]
    pub append: Option<String>,

    /// Runs the command on a terminal of its own, connected to this one
    #[arg(long)]
    pub terminal: bool,

    /// Whether to use KVM: where a probe showed that it works, always, or never
    #[arg(long, value_enum, default_value = "auto")]
    pub kvm: Kvm,

    /// The module that FERROFS_KO names, instead of this clone's, which then is not built
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,

    /// The command to run in the guest
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Which kernel to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Debian's kernel, unmodified, in QEMU.
    Stock,
    /// The debug kernel, as User Mode Linux.
    Debug,
}

/// Whether QEMU uses the processor's virtualisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kvm {
    /// Where a probe showed that it works.
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

/// A disk of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// A fresh, empty one, which goes with the guest.
    Fresh(Size),
    /// A file that stays.
    File(PathBuf),
}

impl FromStr for Disk {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Disk> {
        match text.parse() {
            Ok(size) => Ok(Disk::Fresh(size)),
            Err(_) => {
                let path = std::fs::canonicalize(text)
                    .with_context(|| format!("{text:?} is neither a size nor an existing file"))?;
                Ok(Disk::File(path))
            }
        }
    }
}

/// A number of bytes, written with a binary suffix (`512M`, `2G`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// The size in mebibytes, rounded down.
    pub fn mebibytes(self) -> u64 {
        self.0 >> 20
    }
}

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Size> {
        let (digits, shift) = match text.char_indices().last() {
            Some((end, 'K' | 'k')) => (&text[..end], 10),
            Some((end, 'M' | 'm')) => (&text[..end], 20),
            Some((end, 'G' | 'g')) => (&text[..end], 30),
            Some((end, 'T' | 't')) => (&text[..end], 40),
            _ => (text, 0),
        };
        let number: u64 = digits
            .parse()
            .with_context(|| format!("{text:?} is not a size: write 512M or 2G"))?;
        number
            .checked_mul(1 << shift)
            .filter(|bytes| *bytes > 0)
            .map(Size)
            .with_context(|| format!("{text:?} is not a size that a disk or memory can have"))
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("{text:?} is not of the form NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!("2G".parse::<Size>().unwrap(), Size(2 << 30));
        assert_eq!("512m".parse::<Size>().unwrap(), Size(512 << 20));
        assert_eq!("4096".parse::<Size>().unwrap(), Size(4096));
        for text in ["", "G", "0", "-1G", "20000000T", "2 G"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_disk_is_a_size_or_an_existing_file() {
        assert_eq!("1G".parse::<Disk>().unwrap(), Disk::Fresh(Size(1 << 30)));
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = std::fs::canonicalize(file.path()).unwrap();
        assert_eq!(
            file.path().to_str().unwrap().parse::<Disk>().unwrap(),
            Disk::File(path)
        );
        assert!("/nowhere/at/all".parse::<Disk>().is_err());
    }

    #[test]
    fn what_follows_the_dashes_is_the_command() {
        let options = Options::parse_from(["vm", "--cpus", "1", "--", "sh", "-c", "--mem"]);
        assert_eq!(options.command, ["sh", "-c", "--mem"]);
        assert_eq!(options.cpus, 1);
    }
}
