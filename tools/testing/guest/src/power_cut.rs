// SPDX-License-Identifier: GPL-2.0

//! Power cuts: a guest is killed in the middle of its work, again and again, and the next guest looks at what it left.

use crate::bench::fsck_device;
use crate::bench::mount_device;
use crate::bench::REFERENCE;
use crate::busy;
use crate::crash;
use crate::kernel_log::KernelLog;
use crate::module;
use crate::rng::Rng;
use anyhow::Context;
use clap::Args;
use rustix::mount::unmount;
use rustix::mount::UnmountFlags;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// What the guest says when it works on both disks.
const BUSY: &str = "busy on both disks";
/// How long a guest may take to come so far, or to end by itself.
const GUEST_TIMEOUT: Duration = Duration::from_secs(400);
/// How large the disks are.
const DISK_SIZE: u64 = 1 << 30;

/// The arguments of `power-cut`.
#[derive(Args, Debug)]
pub struct HostOptions {
    /// How many times the power is cut
    #[arg(long, default_value_t = 20)]
    rounds: u64,

    /// Where random choices start
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The driver under test
    #[arg(long, env = "FSTYPE", default_value = "ferrofs")]
    fstype: String,

    /// Mount options for the work
    #[arg(long, default_value = "")]
    options: String,

    /// Passes when something is lost, and fails when nothing is: with options that do without flushes, this shows that the
    /// test can tell
    #[arg(long)]
    expect_loss: bool,

    /// Further arguments for the program that runs guests
    #[arg(last = true)]
    vm: Vec<String>,
}

/// The arguments of `power-cut-guest`.
#[derive(Args, Debug)]
pub struct GuestOptions {
    /// The number of this guest: it looks at what the guest before left
    #[arg(long)]
    round: u64,

    /// Looks only, and ends
    #[arg(long)]
    last: bool,

    /// Where random choices start
    #[arg(long)]
    seed: u64,

    /// The driver under test
    #[arg(long)]
    fstype: String,

    /// Mount options for the work
    #[arg(long, default_value = "")]
    options: String,

    /// The folder that holds the promises
    #[arg(long)]
    journals: PathBuf,
}

/// On the host: cuts the power of one guest after the other.
pub fn host(options: &HostOptions) -> anyhow::Result<bool> {
    let scratch = PathBuf::from(
        std::env::var_os("FERROFS_SCRATCH")
            .context("FERROFS_SCRATCH is not set: run this in the sandbox")?,
    )
    .join(format!("power-cut.{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let result = cut_rounds(options, &scratch);
    if matches!(result, Ok(true)) {
        std::fs::remove_dir_all(&scratch).context("removing the disks")?;
    } else {
        eprintln!("the disks and promises are kept in {}", scratch.display());
    }
    result
}

fn cut_rounds(options: &HostOptions, scratch: &Path) -> anyhow::Result<bool> {
    let mut rng = Rng::new(options.seed);
    for disk in ["nvme.img", "sata.img"] {
        File::create(scratch.join(disk))?.set_len(DISK_SIZE)?;
    }
    for round in 0..=options.rounds {
        let start = Instant::now();
        let last = round == options.rounds;
        let mut guest = Guest::start(options, scratch, round, last)?;
        let come = guest.wait_for(if last { "done" } else { BUSY })?;
        if !come && options.expect_loss && round > 0 {
            println!("ok power cut {round}: what was lost was missed");
            return Ok(true);
        }
        if !come {
            println!("not ok power cut {round}: the guest did not come so far, see above");
            return Ok(false);
        }
        if last {
            guest.end()?;
        } else {
            let moment = Duration::from_millis(200 + rng.below(4000));
            std::thread::sleep(moment);
            guest.cut()?;
            println!(
                "power cut {} of {} after {:.1} s of work ({:.0} s in all)",
                round + 1,
                options.rounds,
                moment.as_secs_f64(),
                start.elapsed().as_secs_f64()
            );
        }
    }
    if options.expect_loss {
        println!("not ok {} power cuts: nothing was missed", options.rounds);
        return Ok(false);
    }
    println!(
        "ok {} power cuts on two disks: nothing that was acknowledged is lost",
        options.rounds
    );
    Ok(true)
}

/// A guest that may be killed.
pub struct Guest {
    vm: Child,
    lines: std::sync::mpsc::Receiver<String>,
    disks: [PathBuf; 2],
}

/// Waits until nobody holds a lock on the file.
fn wait_until_free(path: &Path) -> anyhow::Result<()> {
    use rustix::fs::fcntl_lock;
    use rustix::fs::FlockOperation;

    let deadline = Instant::now() + GUEST_TIMEOUT;
    loop {
        let file = File::options().read(true).write(true).open(path)?;
        // The lock goes with the file, at once.
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => {
                return Err(error).with_context(|| format!("{} is held by a guest", path.display()))
            }
        }
    }
}

impl Guest {
    fn start(
        options: &HostOptions,
        scratch: &Path,
        round: u64,
        last: bool,
    ) -> anyhow::Result<Guest> {
        let journals = scratch.join("journals");
        std::fs::create_dir_all(&journals)?;
        let mut arguments: Vec<String> = ["power-cut-guest", "--fstype", &options.fstype]
            .map(String::from)
            .into();
        arguments.extend(["--round".into(), round.to_string()]);
        arguments.extend(["--seed".into(), options.seed.to_string()]);
        arguments.extend(["--journals".into(), journals.display().to_string()]);
        arguments.push(format!("--options={}", options.options));
        if last {
            arguments.push("--last".into());
        }
        // What the guest forgets to flush is gone.
        let mut vm = vec!["--lossy-cache".into(), (options.seed + round).to_string()];
        vm.extend(options.vm.iter().cloned());
        Guest::run(scratch, &vm, &arguments)
    }

    /// Starts this program in a guest whose disks are files in `scratch`, which the guest sees too.
    pub fn run(
        scratch: &Path,
        vm_arguments: &[String],
        arguments: &[String],
    ) -> anyhow::Result<Guest> {
        let mut vm = Command::new("vm-runner")
            .arg("--nvme")
            .arg(scratch.join("nvme.img"))
            .arg("--sata")
            .arg(scratch.join("sata.img"))
            .arg("--share")
            .arg(scratch)
            .args(["--timeout", &GUEST_TIMEOUT.as_secs().to_string()])
            .args(vm_arguments)
            .arg("--")
            .arg(std::env::current_exe().context("finding this program")?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting vm-runner")?;
        let output = vm.stdout.take().context("the guest has an output")?;
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Guest {
            vm,
            lines,
            disks: ["nvme.img", "sata.img"].map(|disk| scratch.join(disk)),
        })
    }

    /// Waits until the guest says `word`; false when it ended or its time did. Everything else that it says is passed on.
    pub fn wait_for(&mut self, word: &str) -> anyhow::Result<bool> {
        self.wait_for_with(word, &mut |line| println!("  {line}"))
    }

    /// The same, with other uses for what the guest says.
    pub fn wait_for_with(
        &mut self,
        word: &str,
        take: &mut dyn FnMut(&str),
    ) -> anyhow::Result<bool> {
        let deadline = Instant::now() + GUEST_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line == word => return Ok(true),
                Ok(line) => take(&line),
                Err(_) => {
                    self.cut()?;
                    return Ok(false);
                }
            }
        }
    }

    /// Ends the guest as a power cut does. Its disks' caches go with vm-runner; without a lossy cache, what the disks had
    /// taken stays.
    pub fn cut(&mut self) -> anyhow::Result<()> {
        self.vm.kill().context("killing the guest")?;
        self.vm.wait().context("waiting for the guest's end")?;
        // QEMU is killed with its parent, and holds the disks, by locks, until it is gone.
        for disk in &self.disks {
            wait_until_free(disk)?;
        }
        Ok(())
    }

    /// Waits for the guest's own end.
    pub fn end(&mut self) -> anyhow::Result<()> {
        let status = self.vm.wait().context("waiting for the guest's end")?;
        anyhow::ensure!(status.success(), "the guest ended with {status}");
        Ok(())
    }
}

/// The two disks of a guest and where they are mounted.
pub fn disks() -> anyhow::Result<[(String, PathBuf, PathBuf); 2]> {
    let disk = |name: &str, variable: &str| -> anyhow::Result<_> {
        let device =
            std::env::var_os(variable).with_context(|| format!("{variable} is not set"))?;
        let dir = PathBuf::from(format!("/tmp/power-{name}"));
        std::fs::create_dir_all(&dir)?;
        Ok((name.to_string(), PathBuf::from(device), dir))
    };
    Ok([disk("nvme", "NVME_DISK")?, disk("sata", "SATA_DISK")?])
}

/// Loads the module unless the reference is tested.
pub fn load(fstype: &str) -> anyhow::Result<()> {
    if fstype != REFERENCE {
        let path = std::env::var("FERROFS_KO").context("FERROFS_KO is not set")?;
        module::load(&path)?;
    }
    Ok(())
}

/// The folder of a round on a disk.
fn round_dir(mount: &Path, round: u64) -> PathBuf {
    mount.join(format!("round{round}"))
}

/// In a guest: checks what the last one left, then works until the power goes.
pub fn guest(options: &GuestOptions) -> anyhow::Result<bool> {
    let mut log = KernelLog::from_now()?;
    load(&options.fstype)?;
    for (name, device, dir) in disks()? {
        if options.round == 0 {
            crate::bench::format_device(&device, &[])?;
            continue;
        }
        let before = options.round - 1;
        // Recovery is the driver's work most of the time; the others must be able to do it as well.
        let by = match options.round % 4 {
            2 => REFERENCE,
            3 => "e2fsck",
            _ => options.fstype.as_str(),
        };
        let reader = if by == "e2fsck" {
            let output = crate::command::run("e2fsck", &["-fy", crate::bench::text(&device)])?;
            anyhow::ensure!(output.status <= 1, "e2fsck -fy {name}:\n{}", output.text);
            anyhow::ensure!(
                crash::is_only_recovery(&output.text),
                "e2fsck repaired {name}:\n{}",
                output.text
            );
            &options.fstype
        } else {
            by
        };
        mount_device(&device, &dir, reader, "")
            .with_context(|| format!("{name} after power cut {}", options.round))?;
        let journals = options.journals.join(format!("{name}-{before}"));
        let found = busy::check_against_files(
            &round_dir(&dir, before),
            &journals,
            options.fstype == REFERENCE,
        );
        unmount(&dir, UnmountFlags::empty()).with_context(|| format!("unmounting {name}"))?;
        let found = found.with_context(|| {
            format!(
                "{name} after power cut {}, recovered by {by}",
                options.round
            )
        })?;
        fsck_device(&device, reader == REFERENCE)?;
        println!(
            "{name}: recovered by {by}; {} acknowledgements, {} files, e2fsck has nothing to say",
            found.acknowledged, found.files
        );
    }
    let complaints: Vec<_> = log
        .drain()?
        .into_iter()
        .filter(|line| line.is_complaint(&options.fstype) && !line.text.contains("taint"))
        .map(|line| line.text)
        .collect();
    anyhow::ensure!(
        complaints.is_empty(),
        "the kernel complained:\n{}",
        complaints.join("\n")
    );
    if options.last {
        println!("done");
        return Ok(true);
    }
    for (name, device, dir) in disks()? {
        mount_device(&device, &dir, &options.fstype, &options.options)
            .with_context(|| format!("mounting {name}"))?;
    }
    work_for_ever(options)
}

fn work_for_ever(options: &GuestOptions) -> anyhow::Result<bool> {
    let disks = disks()?;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (name, _, dir) in &disks {
            let journals = options.journals.join(format!("{name}-{}", options.round));
            let seed = options.seed * 1000 + options.round;
            threads.push(scope.spawn(move || {
                busy::work_for_ever(&round_dir(dir, options.round), &journals, seed)
            }));
            // What older rounds left makes room, while the others work.
            threads.push(scope.spawn(move || -> anyhow::Result<()> {
                for round in 0..options.round {
                    let old = round_dir(dir, round);
                    if old.exists() {
                        std::fs::remove_dir_all(&old).context("removing an old round")?;
                    }
                }
                Ok(())
            }));
        }
        println!("{BUSY}");
        std::io::stdout().flush()?;
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(true)
    })
}
