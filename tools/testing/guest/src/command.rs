// SPDX-License-Identifier: GPL-2.0

//! Other programs: run to their end, with what they said.

use anyhow::Context;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// The exit status; 128 + N when signal N ended it.
    pub status: i32,
    /// Standard output and standard error, the first before the second.
    pub text: String,
}

impl Output {
    /// The text of a program that succeeded; an error with its text if it did not.
    pub fn success(self) -> anyhow::Result<String> {
        anyhow::ensure!(
            self.status == 0,
            "`{}` ended with status {}:\n{}",
            self.line,
            self.status,
            self.text
        );
        Ok(self.text)
    }
}

/// Runs `program` to its end.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    run_prepared(Command::new(program).args(arguments))
}

/// Runs a command that the caller has set up to its end.
pub fn run_prepared(command: &mut Command) -> anyhow::Result<Output> {
    run_fed(command, "")
}

/// The same with `input` on its standard input, which is short.
pub fn run_fed(command: &mut Command, input: &str) -> anyhow::Result<Output> {
    use std::os::unix::process::ExitStatusExt;

    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    let output = if input.is_empty() {
        command.stdin(Stdio::null()).output()
    } else {
        feed(command, input)
    };
    let output = output.with_context(|| format!("running `{line}`"))?;
    let status = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => -1,
    };
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Output { line, status, text })
}

fn feed(command: &mut Command, input: &str) -> std::io::Result<std::process::Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Taken, so that it is closed when all is written.
    if let Some(mut to) = child.stdin.take() {
        to.write_all(input.as_bytes())?;
    }
    child.wait_with_output()
}

/// Runs `program` and demands success; gives its output.
pub fn must(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    run(program, arguments)?.success()
}
