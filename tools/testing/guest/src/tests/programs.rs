// SPDX-License-Identifier: GPL-2.0

//! Other people's test programs: fsx and pjdfstest, built by set-up.

use crate::bench::Bench;
use crate::command::run_prepared;
use anyhow::Context;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// What fsx does: every operation that the driver has, and as often as the weights say.
const FSX_CONFIG: &str = "
flen = 262144
nomsyncafterwrite = false
[opsize]
max = 65536
min = 0
align = 1
[weights]
close_open = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
truncate = 10
invalidate = 1
fsync = 2
fdatasync = 2
copy_file_range = 0
posix_fallocate = 0
punch_hole = 0
sendfile = 2
posix_fadvise = 2
";

fn fsx_operations(bench: &Bench, count: u64, processes: u64) -> anyhow::Result<()> {
    let config = "/tmp/fsx.toml";
    fs::write(config, FSX_CONFIG)?;
    let each = count / processes;
    let outputs: Vec<crate::command::Output> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..processes)
            .map(|number| {
                let path = bench.path(format!("fsx{number}"));
                let seed = bench.seed + number;
                scope.spawn(move || {
                    run_prepared(
                        Command::new("fsx")
                            .args([
                                "-f",
                                config,
                                "-N",
                                &each.to_string(),
                                "-S",
                                &seed.to_string(),
                            ])
                            .arg(path),
                    )
                })
            })
            .collect();
        runs.into_iter()
            .map(|run| {
                run.join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))?
            })
            .collect::<anyhow::Result<_>>()
    })?;
    for output in outputs {
        let status = output.status;
        let text: Vec<&str> = output.text.lines().collect();
        anyhow::ensure!(
            status == 0,
            "`{}` ended with status {status}:\n{}",
            output.line,
            text[text.len().saturating_sub(40)..].join("\n")
        );
    }
    Ok(())
}

/// Random operations on files, one of them large blocks' and one small blocks'.
pub fn fsx(bench: &Bench) -> anyhow::Result<()> {
    for block_size in ["4096", "1024"] {
        bench.format(&["-b", block_size, "512M"])?;
        bench.mount()?;
        fsx_operations(bench, bench.scaled(20_000), 2)?;
        bench.umount()?;
        bench.fsck()?;
    }
    Ok(())
}

/// The same with 200,000 operations.
pub fn fsx_long(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&[])?;
    bench.mount()?;
    fsx_operations(bench, bench.scaled(200_000), 2)
}

/// Cases of pjdfstest that fail, each with its reason; see the file.
const EXPECTED_FAILURES: &str = include_str!("../../pjdfstest-failures");

/// Cases that are skipped, each with its reason.
const EXPECTED_SKIPS: &str = include_str!("../../pjdfstest-skipped");

/// How many cases there are in the version of pjdfstest that set-up builds.
const CASES: usize = 398;

const PJDFSTEST_CONFIG: &str = r#"
[features]
secondary_fs = "/dev/shm"
rename_ctime = {}
utimensat = {}
utime_now = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"], ["bin", "bin"]]
"#;

/// POSIX conformance: every case passes, but those that the file of failures explains.
pub fn pjdfstest(bench: &Bench) -> anyhow::Result<()> {
    bench.format(&[])?;
    bench.mount()?;
    let config = "/tmp/pjdfstest.toml";
    fs::write(config, PJDFSTEST_CONFIG)?;
    let dir = bench.path("pjdfstest");
    fs::create_dir(&dir)?;
    let output = run_prepared(
        // On the processor whose timer moves the clock of time stamps on: who has slept there finds that it went on. The
        // other one of an emulated machine may get far ahead of it.
        Command::new("taskset")
            .args(["-c", "0", "pjdfstest", "-c", config, "-p"])
            .arg(&dir)
            .current_dir(&dir),
    )?;
    let results = pjdfstest_results(&output.text);
    let with = |wanted: &str| -> Vec<&str> {
        let all = results.iter().filter(|(_, result)| *result == wanted);
        all.map(|(name, _)| name.as_str()).collect()
    };
    let (passed, skipped, failed) = (with("ok"), with("skipped"), with("FAILED"));
    eprintln!(
        "{} cases passed, {} were skipped, {} failed",
        passed.len(),
        skipped.len(),
        failed.len()
    );
    anyhow::ensure!(
        results.len() == CASES,
        "{} cases were reported instead of {CASES}:\n{}",
        results.len(),
        output.text
    );
    for (what, found, expected) in [
        ("failures", failed, EXPECTED_FAILURES),
        ("skipped cases", skipped, EXPECTED_SKIPS),
    ] {
        let explained = names(expected);
        let unexplained: Vec<&str> = found
            .into_iter()
            .filter(|name| !explained.contains(name))
            .collect();
        anyhow::ensure!(
            unexplained.is_empty(),
            "unexplained {what}: {unexplained:?}\n{}",
            output.text
        );
    }
    fs::remove_dir_all(&dir).context("removing what pjdfstest left")
}

/// The first words of the lines of a list, without its comments.
fn names(list: &str) -> Vec<&str> {
    list.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

/// The lines of the report that name a case and its result.
fn pjdfstest_results(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().filter(|name| name.contains("::"))?;
            let result = words.last()?;
            ["ok", "FAILED", "skipped"]
                .contains(&result)
                .then(|| (name.to_string(), result.to_string()))
        })
        .collect()
}
