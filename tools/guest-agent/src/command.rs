// SPDX-License-Identifier: GPL-2.0

//! Runs the job's command and waits for its end, as process 1 has to: reaping every orphan on the way.

use crate::channels;
use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::fcntl;
use nix::fcntl::FcntlArg;
use nix::fcntl::OFlag;
use nix::pty::openpty;
use nix::pty::Winsize;
use nix::sys::signal::kill;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::sys::wait::WaitStatus;
use nix::unistd::pipe2;
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread;
use std::thread::JoinHandle;
use vm_job::Channel;
use vm_job::Job;
use vm_job::Report;
use vm_job::TerminalSize;

/// Runs the command of `job` to its end, and hands all of its output to the host.
pub fn run(job: &Job) -> anyhow::Result<Report> {
    let (program, arguments) = job
        .command
        .split_first()
        .context("the job has no command")?;
    let mut command = prepare(program.as_ref(), job);
    command.args(arguments);
    match job.terminal {
        Some(size) => run_on_terminal(job, &command, size),
        None => run_with_pipes(job, command),
    }
}

/// A command with the job's environment and working directory.
fn prepare(program: &OsStr, job: &Job) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir(if job.directory.is_dir() {
        job.directory.as_path()
    } else {
        "/".as_ref()
    });
    for (name, value) in &job.environment {
        command.env(name, value);
    }
    command
}

/// The command's output passes through pipes, so that it sees what it would see in any pipeline.
fn run_with_pipes(job: &Job, mut command: Command) -> anyhow::Result<Report> {
    let finished = Arc::new(AtomicBool::new(false));
    let (output, output_end) = pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
    let (error, error_end) = pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
    let to_output = channels::open(job.guest, Channel::Output)?;
    let to_error = channels::open(job.guest, Channel::Error)?;
    let copies = [
        copy(output.into(), to_output, &finished)?,
        copy(error.into(), to_error, &finished)?,
    ];
    command.stdin(Stdio::null());
    command.stdout(output_end).stderr(error_end);
    command.process_group(0);
    let child = spawn(&mut command)?;
    // The agent's own ends of the pipes go with the builder: what is left belongs to the command.
    drop(command);

    let report = wait_for(child)?;
    finished.store(true, Ordering::Release);
    for copy in copies {
        join(copy)?;
    }
    Ok(report)
}

fn spawn(command: &mut Command) -> anyhow::Result<Pid> {
    let child = command
        .spawn()
        .with_context(|| format!("running {:?}", command.get_program()))?;
    Ok(Pid::from_raw(child.id() as i32))
}

/// Copies a pipe or terminal to a channel until its end, or until the command is gone and the pipe empty: a daemon that
/// the command left behind may hold the pipe open for ever.
fn copy(
    mut from: File,
    mut to: File,
    finished: &Arc<AtomicBool>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    fcntl(from.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("setting up a pipe")?;
    let finished = Arc::clone(finished);
    Ok(thread::spawn(move || {
        let mut buffer = [0; 16384];
        loop {
            // Read before the pipe is looked at: what the command wrote before it ended is then in the pipe.
            let over = finished.load(Ordering::Acquire);
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => to.write_all(&buffer[..length])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if over {
                        break;
                    }
                    wait_readable(&from)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What a terminal says when nobody has its other side open any more.
                Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => break,
                Err(error) => return Err(error).context("reading the command's output"),
            }
        }
        channels::drain(&to)
    }))
}

/// Waits for input, but not for long: whoever waits has to look whether the command has ended.
fn wait_readable(file: &impl AsFd) -> anyhow::Result<()> {
    use nix::poll::poll;
    use nix::poll::PollFd;
    use nix::poll::PollFlags;
    use nix::poll::PollTimeout;

    let mut wanted = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    match poll(&mut wanted, PollTimeout::from(20u8)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("waiting for the command's output"),
    }
}

/// The command gets a terminal of its own, whose other side is copied from and to the host.
fn run_on_terminal(job: &Job, command: &Command, size: TerminalSize) -> anyhow::Result<Report> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pair = openpty(Some(&size), None).context("making a terminal")?;
    // A new session whose controlling terminal is the one on standard input: with that, job control works.
    let mut session = prepare("/usr/bin/setsid".as_ref(), job);
    session.args(["--ctty", "--wait", "--"]);
    session.arg(command.get_program()).args(command.get_args());
    session
        .stdin(pair.slave.try_clone()?)
        .stdout(pair.slave.try_clone()?)
        .stderr(pair.slave);
    let child = spawn(&mut session)?;
    drop(session);

    let line = channels::open(job.guest, Channel::Terminal)?;
    let (mut keys, mut screen) = (line.try_clone()?, line);
    let master = File::from(pair.master);
    let mut typed = master.try_clone()?;
    // Ends with the guest: a read of the host's keys cannot be called back.
    thread::spawn(move || std::io::copy(&mut keys, &mut typed));
    let finished = Arc::new(AtomicBool::new(false));
    let show = copy(master, screen.try_clone()?, &finished)?;

    let report = wait_for(child)?;
    finished.store(true, Ordering::Release);
    join(show)?;
    screen.flush()?;
    Ok(report)
}

fn join(copy: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    copy.join()
        .map_err(|_| anyhow::anyhow!("a thread that copies output panicked"))?
}

/// Waits for `child`, reaping every orphan that ends before it, and ends what it leaves behind.
fn wait_for(child: Pid) -> anyhow::Result<Report> {
    let report = loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => break Report::Exited(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                break Report::Killed(signal as i32)
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the command"),
        }
    };
    // Whatever still runs would write to disks that are about to lose power.
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(error).context("ending what the command left behind"),
    }
    Ok(report)
}
