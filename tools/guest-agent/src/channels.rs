// SPDX-License-Identifier: GPL-2.0

//! The guest's ends of the channels to the host.

use anyhow::Context;
use nix::sys::termios;
use std::fs::read_dir;
use std::fs::read_to_string;
use std::fs::File;
use std::fs::OpenOptions;
use std::path::PathBuf;
use vm_job::Channel;
use vm_job::Guest;

/// Opens `channel` for reading and writing. A virtio-serial port can be open once at a time.
pub fn open(guest: Guest, channel: Channel) -> anyhow::Result<File> {
    let path = match guest {
        Guest::Qemu => find_port(channel.name())?,
        Guest::Uml => PathBuf::from(format!("/dev/ttyS{}", channel as usize)),
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening the channel {}", path.display()))?;
    if guest == Guest::Uml {
        // Serial lines are terminals: bytes are to pass as they are.
        let mut settings = termios::tcgetattr(&file).context("reading a line's settings")?;
        termios::cfmakeraw(&mut settings);
        termios::tcsetattr(&file, termios::SetArg::TCSANOW, &settings)
            .context("changing a line's settings")?;
    }
    Ok(file)
}

/// Waits until the host has taken all that was written. A virtio-serial port's write returns only then.
pub fn drain(file: &File) -> anyhow::Result<()> {
    match termios::tcdrain(file) {
        Ok(()) | Err(nix::errno::Errno::ENOTTY) | Err(nix::errno::Errno::EINVAL) => Ok(()),
        Err(error) => Err(error).context("draining a channel"),
    }
}

fn find_port(name: &str) -> anyhow::Result<PathBuf> {
    let class = "/sys/class/virtio-ports";
    for entry in read_dir(class).with_context(|| format!("reading {class}"))? {
        let entry = entry?;
        if read_to_string(entry.path().join("name"))?.trim() == name {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    anyhow::bail!("the guest has no virtio-serial port {name}")
}
