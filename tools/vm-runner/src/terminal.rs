// SPDX-License-Identifier: GPL-2.0

//! The user's terminal, for interactive guests.

use anyhow::Context;
use nix::sys::termios;
use nix::sys::termios::Termios;
use std::io::stdin;
use std::io::IsTerminal;
use std::process::Command;
use vm_job::TerminalSize;

/// The size of the user's terminal, or that of the classic one.
pub fn size() -> TerminalSize {
    let classic = TerminalSize {
        rows: 24,
        columns: 80,
    };
    let Ok(output) = Command::new("stty")
        .arg("size")
        .stdin(std::process::Stdio::inherit())
        .output()
    else {
        return classic;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().split_once(' ') {
        Some((rows, columns)) => match (rows.parse(), columns.parse()) {
            (Ok(rows), Ok(columns)) if rows > 0 && columns > 0 => TerminalSize { rows, columns },
            _ => classic,
        },
        None => classic,
    }
}

/// The user's terminal passing every key on, until this is dropped.
pub struct Raw {
    before: Option<Termios>,
}

impl Raw {
    /// Changes the terminal on standard input, if there is one.
    pub fn enter() -> anyhow::Result<Raw> {
        if !stdin().is_terminal() {
            return Ok(Raw { before: None });
        }
        let before = termios::tcgetattr(stdin()).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin(), termios::SetArg::TCSANOW, &raw)
            .context("changing the terminal's settings")?;
        Ok(Raw {
            before: Some(before),
        })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            if let Err(error) = termios::tcsetattr(stdin(), termios::SetArg::TCSANOW, before) {
                eprintln!("vm: restoring the terminal's settings: {error}");
            }
        }
    }
}
