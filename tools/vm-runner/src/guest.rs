// SPDX-License-Identifier: GPL-2.0

//! Follows a running guest, whatever kind it is: streams its output, reads its reports, and ends it.

use crate::terminal::Raw;
use anyhow::Context;
use std::io::copy;
use std::io::stderr;
use std::io::stdin;
use std::io::stdout;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;
use vm_job::Report;

/// How long a guest may take to power off after its command ended.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(20);

/// How a guest's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command exited with this status.
    Exited(i32),
    /// This signal killed the command.
    Killed(i32),
    /// The guest failed; why, in words.
    Failed(String),
    /// The guest did not come so far as to start the command within the time that a boot may take. Its disks are as they
    /// were: what drives them is loaded last.
    Stuck,
}

/// The host's ends of the channels. Each reads as ended once the guest is gone.
pub struct Streams {
    /// Standard output of the command.
    pub output: Box<dyn Read + Send>,
    /// Standard error of the command.
    pub error: Box<dyn Read + Send>,
    /// Reports of the agent.
    pub status: Box<dyn Read + Send>,
    /// The terminal of an interactive command: what it shows, and what is typed.
    pub terminal: Option<(Box<dyn Read + Send>, Box<dyn Write + Send>)>,
}

enum Event {
    Report(Report),
    Garbage(String),
    /// The status channel has ended: the guest is gone, or never came.
    Ended,
}

/// A program that is killed when this process ends, however that happens.
pub fn bound_command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// How long a guest may go on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When the time began to count.
    pub start: Instant,
    /// How long all may take, further boots included.
    pub timeout: Option<Duration>,
    /// How long this boot may take.
    pub boot: Option<Duration>,
}

/// Follows `guest` until it has ended, within the limits.
pub fn follow(mut guest: Child, streams: Streams, limits: &Limits) -> anyhow::Result<Outcome> {
    let timeout = limits.timeout;
    let deadline = timeout.map(|timeout| limits.start + timeout);
    let boot_deadline = limits
        .boot
        .map(|timeout| Instant::now() + timeout)
        .filter(|boot| deadline.is_none_or(|deadline| *boot < deadline));
    let mut copies = vec![
        forward(streams.output, stdout()),
        forward(streams.error, stderr()),
    ];
    let raw = match streams.terminal {
        Some((shown, mut typed)) => {
            copies.push(forward(shown, stdout()));
            let raw = Raw::enter()?;
            // Ends with this process: a read of the user's keys cannot be called back.
            thread::spawn(move || forward_keys(&mut typed));
            Some(raw)
        }
        None => None,
    };
    let (sender, events) = mpsc::channel();
    thread::spawn(move || read_reports(streams.status, &sender));

    let mut outcome = None;
    let mut started = false;
    let mut limit = boot_deadline.or(deadline);
    loop {
        let event = match limit {
            Some(limit) => events.recv_timeout(limit.saturating_duration_since(Instant::now())),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Event::Report(Report::Started)) => {
                started = true;
                limit = deadline;
            }
            Ok(Event::Report(report)) => {
                outcome = Some(match report {
                    Report::Exited(status) => Outcome::Exited(status),
                    Report::Killed(signal) => Outcome::Killed(signal),
                    Report::Failed(why) => Outcome::Failed(why),
                    Report::Started => continue,
                });
                limit = Some(Instant::now() + POWER_OFF_TIMEOUT);
            }
            Ok(Event::Garbage(why)) => {
                outcome = Some(Outcome::Failed(why));
                break;
            }
            Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if outcome.is_none() && !started && boot_deadline.is_some() {
                    outcome = Some(Outcome::Stuck);
                } else if outcome.is_none() {
                    outcome = Some(Outcome::Failed(format!(
                        "the time limit of {} s is over; the guest was {}",
                        timeout.unwrap_or_default().as_secs(),
                        if started {
                            "running the command"
                        } else {
                            "still booting"
                        }
                    )));
                }
                break;
            }
        }
    }
    // Its channels have ended or its time has: a guest that is still there has nothing more to say.
    let ended = match guest.try_wait().context("asking for the guest's state")? {
        Some(status) => status,
        None => {
            if outcome.is_some() {
                guest.kill().context("ending the guest")?;
            }
            guest.wait().context("waiting for the guest's end")?
        }
    };
    drop(raw);
    for copy in copies {
        copy.join()
            .map_err(|_| anyhow::anyhow!("a thread that copies output panicked"))?
            .context("passing the command's output on")?;
    }
    Ok(outcome.unwrap_or_else(|| {
        Outcome::Failed(if started {
            format!("the guest died while the command ran ({ended})")
        } else {
            format!("the guest died before the command started ({ended})")
        })
    }))
}

fn read_reports(status: Box<dyn Read + Send>, events: &Sender<Event>) {
    for line in BufReader::new(status).lines() {
        let event = match line {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => match Report::from_line(&line) {
                Ok(report) => Event::Report(report),
                Err(error) => Event::Garbage(format!("{error:#}")),
            },
            // The guest's death cuts the line.
            Err(_) => break,
        };
        if events.send(event).is_err() {
            return;
        }
    }
    // Nobody listens any more only when the time limit has ended the run already.
    let _ = events.send(Event::Ended);
}

/// Copies what comes to `to` at once. A reader of ours that goes away must not stop the guest.
fn forward(
    mut from: Box<dyn Read + Send>,
    mut to: impl Write + Send + 'static,
) -> JoinHandle<std::io::Result<()>> {
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        let mut heard = true;
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // A guest that is killed resets its sockets.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            };
            if heard {
                let written = to.write_all(&buffer[..length]).and_then(|()| to.flush());
                match written {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => heard = false,
                    Err(error) => return Err(error),
                }
            }
        }
    })
}

fn forward_keys(typed: &mut dyn Write) {
    // The guest's end shows itself on the other channels.
    let _ = copy(&mut stdin(), typed);
}
