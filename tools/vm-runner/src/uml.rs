// SPDX-License-Identifier: GPL-2.0

//! The debug kernel: User Mode Linux, an ordinary program. Its root is the sandbox's own, by hostfs, and its channels are
//! serial lines on inherited pipes.

use crate::guest;
use crate::guest::bound_command;
use crate::guest::Limits;
use crate::guest::Outcome;
use crate::guest::Streams;
use crate::options::Options;
use crate::path_text;
use crate::variable;
use crate::Files;
use anyhow::Context;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use vm_job::Job;

/// Boots a guest for `job` and follows it to its end.
pub fn run(options: &Options, job: &Job, files: &Files) -> anyhow::Result<Outcome> {
    anyhow::ensure!(
        !options.icount,
        "--icount is QEMU's: the debug kernel runs on the processor itself"
    );
    anyhow::ensure!(
        options.lossy_cache.is_none(),
        "--lossy-cache is QEMU's: the debug kernel's disks are plain files"
    );
    let mut log =
        File::create(&files.log).with_context(|| format!("making {}", files.log.display()))?;
    let console = Pipe::new()?;
    let output = Pipe::new()?;
    let error = Pipe::new()?;
    let status = Pipe::new()?;
    let shown = Pipe::new()?;
    let typed = Pipe::new()?;
    let agent = std::env::current_exe()
        .context("finding this program")?
        .with_file_name("guest-agent");

    let mut linux = bound_command(&variable("FERROFS_DEBUG_KERNEL")?);
    linux
        .arg(format!("mem={}M", options.mem.mebibytes()))
        .args(["root=none", "rootfstype=hostfs", "rootflags=/", "rw"])
        .arg(format!("ubd0={}", path_text(&files.nvme)?))
        .arg(format!("ubd1={}", path_text(&files.sata)?))
        .arg(format!("con0=null,fd:{}", console.to.as_raw_fd()))
        .args(["con=null", "ssl=null", "console=tty0", "panic=-1"])
        .arg(format!("ssl0=null,fd:{}", output.to.as_raw_fd()))
        .arg(format!("ssl1=null,fd:{}", error.to.as_raw_fd()))
        .arg(format!("ssl2=null,fd:{}", status.to.as_raw_fd()))
        .arg(format!(
            "ssl3=fd:{},fd:{}",
            typed.from.as_raw_fd(),
            shown.to.as_raw_fd()
        ))
        .args(
            options
                .append
                .iter()
                .flat_map(|text| text.split_whitespace()),
        )
        .arg(format!("init={}", path_text(&agent)?))
        .args(["--", &path_text(&files.job)?])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    let guest = linux.spawn().context("starting the debug kernel")?;
    let mut messages = console.reader();
    let logger = thread::spawn(move || std::io::copy(&mut messages, &mut log));
    let streams = Streams {
        output: Box::new(output.reader()),
        error: Box::new(error.reader()),
        status: Box::new(status.reader()),
        terminal: job
            .terminal
            .map(|_| -> (Box<dyn Read + Send>, Box<dyn Write + Send>) {
                (Box::new(shown.reader()), Box::new(typed.writer()))
            }),
    };
    let limits = Limits {
        start: Instant::now(),
        timeout: options.timeout.map(Duration::from_secs),
        boot: None,
    };
    let outcome = guest::follow(guest, streams, &limits)?;
    logger
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that writes the kernel's log panicked"))?
        .context("writing the kernel's log")?;
    Ok(outcome)
}

/// A pipe that a child inherits under the same numbers.
struct Pipe {
    from: OwnedFd,
    to: OwnedFd,
}

impl Pipe {
    fn new() -> anyhow::Result<Pipe> {
        let (from, to) = pipe2(OFlag::empty()).context("making a pipe")?;
        Ok(Pipe { from, to })
    }

    /// Keeps the end to read from: with the other one gone here, the pipe ends when the guest does.
    fn reader(self) -> File {
        self.from.into()
    }

    /// Keeps the end to write to.
    fn writer(self) -> File {
        self.to.into()
    }
}
