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

const PJDFSTEST_CONFIG: &str = r#"
[features]
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
        Command::new("pjdfstest")
            .args(["-c", config, "-p"])
            .arg(&dir)
            .current_dir(&dir),
    )?;
    let results = pjdfstest_results(&output.text);
    let passed = results
        .values()
        .filter(|result| result.as_str() == "ok")
        .count();
    let skipped = results
        .values()
        .filter(|result| result.as_str() == "skipped")
        .count();
    let failed: Vec<&String> = results
        .iter()
        .filter(|(_, result)| result.as_str() == "FAILED")
        .map(|(name, _)| name)
        .collect();
    eprintln!(
        "{passed} cases passed, {skipped} were skipped, {} failed",
        failed.len()
    );
    anyhow::ensure!(passed > 100, "only {passed} cases passed:\n{}", output.text);
    let explained: Vec<&str> = EXPECTED_FAILURES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let unexplained: Vec<&&String> = failed
        .iter()
        .filter(|name| !explained.contains(&name.as_str()))
        .collect();
    anyhow::ensure!(
        unexplained.is_empty(),
        "unexplained failures: {unexplained:?}\n{}",
        output.text
    );
    fs::remove_dir_all(&dir).context("removing what pjdfstest left")
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
