// SPDX-License-Identifier: GPL-2.0

//! The tests of ferrofs that need a guest. `run` runs them inside one; see `--help`.

mod bench;
mod busy;
mod clock;
mod command;
mod crash;
mod demo;
mod disk_trace;
mod kernel_log;
mod manifest;
mod mapped;
mod measure;
mod model;
mod module;
mod patience;
mod power_cut;
mod rng;
mod runner;
mod setting;
mod tests;

use clap::Parser;
use clap::Subcommand;
use std::process::ExitCode;

/// The tests of ferrofs that need a guest.
#[derive(Debug, Parser)]
#[command(name = "ferrofs-test")]
struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// In a guest: loads the module, runs tests, one line of result for each, and removes the module
    Run(runner::RunOptions),
    /// Lists the tests that run when none is named
    List {
        /// The others too
        #[arg(long)]
        all: bool,
    },
    /// On the host: the main job from end to end, and a table of what was shown
    Demo(demo::HostOptions),
    /// In a guest: for `demo`
    DemoGuest(demo::GuestOptions),
    /// On the host: kills guests in the middle of their work, and has the next one look at what is left
    PowerCut(power_cut::HostOptions),
    /// In a guest: for `power-cut`
    PowerCutGuest(power_cut::GuestOptions),
    /// In a guest: what operations cost the processor, as a ratio to the kernel's ext4
    Measure(measure::MeasureOptions),
    /// In a guest: runs one test in this process; for `run`
    One(runner::OneOptions),
}

fn main() -> ExitCode {
    let result = match Options::parse().action {
        Action::Run(options) => runner::run(&options),
        Action::Demo(options) => demo::host(&options),
        Action::DemoGuest(options) => demo::guest(&options),
        Action::PowerCut(options) => power_cut::host(&options),
        Action::PowerCutGuest(options) => power_cut::guest(&options),
        Action::Measure(options) => measure::measure(&options),
        Action::One(options) => runner::one(&options),
        Action::List { all } => {
            for test in tests::all().iter().filter(|test| all || !test.on_demand) {
                println!("{:<20} {}", test.name, test.about);
            }
            Ok(true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ferrofs-test: {error:#}");
            ExitCode::from(2)
        }
    }
}
