// SPDX-License-Identifier: GPL-2.0

//! The stock kernel in QEMU.
//!
//! The guest's root is the sandbox's own, by virtiofs: nothing has to be packed or copied, and it boots without an
//! initramfs, as virtiofs and virtio-pci are built into Debian's kernel. Two virtiofs daemons export the same tree:
//! one that lets the guest cache for ever, for the root, and one that shows changes of the host, for shared folders.

use crate::guest;
use crate::guest::bound_command;
use crate::guest::Limits;
use crate::guest::Outcome;
use crate::guest::Streams;
use crate::nbd;
use crate::options::Options;
use crate::path_text;
use crate::variable;
use crate::write_cache::CachedDisk;
use crate::write_cache::StableWrites;
use crate::Files;
use anyhow::Context;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use vm_job::Channel;
use vm_job::Guest;
use vm_job::Job;
use vm_job::ROOT_TAG;
use vm_job::SHARE_TAG;

/// How long a guest may take to start its command, on a machine that has much else to do.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a guest is booted that does not come so far.
const BOOTS: u32 = 3;
/// How often it is looked whether QEMU has connected.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What QEMU is asked for.
struct Machine<'a> {
    memory_mebibytes: u64,
    cpus: u32,
    icount: bool,
    kvm: bool,
    append: &'a str,
    shares: bool,
    disks: bool,
    lossy_cache: Option<u64>,
}

/// Boots a guest for `job` and follows it to its end.
pub fn run(options: &Options, job: &Job, files: &Files, kvm: bool) -> anyhow::Result<Outcome> {
    let machine = Machine {
        memory_mebibytes: options.mem.mebibytes(),
        cpus: if options.icount { 1 } else { options.cpus },
        icount: options.icount,
        kvm: kvm && !options.icount,
        append: options.append.as_deref().unwrap_or_default(),
        shares: !job.shares.is_empty(),
        disks: true,
        lossy_cache: options.lossy_cache,
    };
    let limits = Limits {
        start: Instant::now(),
        timeout: options.timeout.map(Duration::from_secs),
        // On the instruction clock a boot takes long, and there is one processor.
        boot: (!machine.icount).then_some(BOOT_TIMEOUT),
    };
    // Rarely (two boots of a hundred were seen), the guest hangs before it mounts its root: both emulated processors
    // idle, and no timer wakes the one that waits for it. That is before anything of the job has begun.
    for boot in 1..=BOOTS {
        let outcome = run_once(&machine, job, files, &limits)?;
        if outcome != Outcome::Stuck {
            return Ok(outcome);
        }
        eprintln!("vm: the guest hangs in its boot, {boot} of {BOOTS} times");
    }
    Ok(Outcome::Stuck)
}

fn run_once(
    machine: &Machine<'_>,
    job: &Job,
    files: &Files,
    limits: &Limits,
) -> anyhow::Result<Outcome> {
    let sockets = Sockets::listen()?;
    let mut started = start(machine, job, files, &sockets)?;
    let streams = sockets.accept(&mut started.guest, job.terminal.is_some())?;
    let outcome = guest::follow(started.guest, streams, limits)?;
    for disk in started.disks {
        disk.join()
            .map_err(|_| anyhow::anyhow!("a thread that serves a disk panicked"))??;
    }
    Ok(outcome)
}

/// Whether a guest boots with KVM within the time limit.
pub fn probe_kvm(scratch: &Path, timeout: Duration) -> anyhow::Result<bool> {
    let job = Job {
        guest: Guest::Qemu,
        command: vec!["/bin/true".into()],
        environment: Vec::new(),
        directory: "/".into(),
        shares: Vec::new(),
        modules: Vec::new(),
        disks: Vec::new(),
        terminal: None,
    };
    let files = Files {
        job: scratch.join("probe.json"),
        log: scratch.join("probe.log"),
        nvme: PathBuf::new(),
        sata: PathBuf::new(),
    };
    job.save(&files.job)?;
    let machine = Machine {
        memory_mebibytes: 1024,
        cpus: 2,
        icount: false,
        kvm: true,
        append: "",
        shares: false,
        disks: false,
        lossy_cache: None,
    };
    let sockets = Sockets::listen()?;
    let mut started = start(&machine, &job, &files, &sockets)?;
    match sockets.accept(&mut started.guest, false) {
        Ok(streams) => {
            let limits = Limits {
                start: Instant::now(),
                timeout: Some(timeout),
                boot: None,
            };
            let outcome = guest::follow(started.guest, streams, &limits)?;
            Ok(outcome == Outcome::Exited(0))
        }
        // QEMU refused to start with KVM.
        Err(_) => Ok(false),
    }
}

/// The sockets at which QEMU finds this program, in a folder of their own: their paths have to be short.
struct Sockets {
    folder: TempDir,
    listeners: Vec<UnixListener>,
}

impl Sockets {
    fn listen() -> anyhow::Result<Sockets> {
        let folder = tempfile::Builder::new()
            .prefix("vm.")
            .tempdir_in("/tmp")
            .context("making a folder for sockets")?;
        let mut listeners = Vec::new();
        for channel in Channel::ALL {
            let listener = UnixListener::bind(folder.path().join(channel.name()))
                .context("listening for the guest")?;
            listener.set_nonblocking(true)?;
            listeners.push(listener);
        }
        Ok(Sockets { folder, listeners })
    }

    fn path(&self, name: &str) -> anyhow::Result<String> {
        path_text(&self.folder.path().join(name))
    }

    /// Takes QEMU's connections. When this fails, `guest` has ended.
    fn accept(&self, guest: &mut Child, terminal: bool) -> anyhow::Result<Streams> {
        let mut take = |channel: Channel| -> anyhow::Result<UnixStream> {
            loop {
                match self.listeners[channel as usize].accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false)?;
                        return Ok(stream);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error).context("waiting for QEMU"),
                }
                if let Some(status) = guest.try_wait()? {
                    anyhow::bail!("QEMU did not start ({status})");
                }
                std::thread::sleep(POLL_INTERVAL);
            }
        };
        let output = take(Channel::Output)?;
        let error = take(Channel::Error)?;
        let status = take(Channel::Status)?;
        let line = take(Channel::Terminal)?;
        Ok(Streams {
            output: Box::new(output),
            error: Box::new(error),
            status: Box::new(status),
            terminal: if terminal {
                Some((Box::new(line.try_clone()?), Box::new(line)))
            } else {
                None
            },
        })
    }
}

/// The programs that a guest needs beside it; they end with this value.
struct Daemons(Vec<Child>);

impl Drop for Daemons {
    fn drop(&mut self) {
        for daemon in &mut self.0 {
            // They end by themselves when the guest does; that is what the kill's failure would say.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// A guest that was started, with all that it needs.
struct Started {
    guest: Child,
    /// The threads that serve disks. They end when QEMU does.
    disks: Vec<JoinHandle<anyhow::Result<()>>>,
    /// Ended when this is dropped.
    _daemons: Daemons,
}

/// Starts a virtiofs daemon that shows the whole sandbox to who connects to `socket`.
fn start_virtiofsd(socket: &str, cache: &str) -> anyhow::Result<Child> {
    // It listens already: QEMU may come before the daemon is ready, and waits then.
    let listener = UnixListener::bind(socket).context("listening for QEMU")?;
    bound_command("/usr/libexec/virtiofsd")
        .args([
            "--shared-dir=/",
            "--sandbox=none",
            "--no-announce-submounts",
        ])
        .args(["--log-level=error"])
        .arg("--fd=0")
        .arg(format!("--cache={cache}"))
        .stdin(OwnedFd::from(listener))
        .spawn()
        .context("starting virtiofsd")
}

/// Starts the guest and what it needs beside it.
fn start(
    machine: &Machine<'_>,
    job: &Job,
    files: &Files,
    sockets: &Sockets,
) -> anyhow::Result<Started> {
    let mut daemons = Daemons(Vec::new());
    let mut disks = Vec::new();
    let mut filesystems = vec![(ROOT_TAG, "always")];
    if machine.shares {
        filesystems.push((SHARE_TAG, "auto"));
    }
    let release = variable("FERROFS_RELEASE")?;
    let mut qemu = bound_command("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-machine", "q35,memory-backend=memory"])
        .args(["-smp", &machine.cpus.to_string()])
        .args(["-m", &format!("{}M", machine.memory_mebibytes)])
        .arg("-object")
        .arg(format!(
            "memory-backend-memfd,id=memory,share=on,size={}M",
            machine.memory_mebibytes
        ))
        .args(accelerator(machine))
        .args([
            "-kernel",
            &format!("/usr/lib/modules/{release}/vmlinuz.unsigned"),
        ])
        .args(["-append", &kernel_command_line(machine, &files.job)?])
        .args([
            "-chardev",
            &format!("file,id=console,path={}", comma_safe(&files.log)?),
        ])
        .args(["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
    for channel in Channel::ALL {
        let (index, name) = (channel as usize, channel.name());
        let socket = sockets.path(name)?;
        qemu.args([
            "-chardev",
            &format!("socket,id=channel{index},path={socket}"),
        ])
        .arg("-device")
        .arg(format!("virtserialport,chardev=channel{index},name={name}"));
    }
    for (tag, cache) in filesystems {
        let socket = sockets.path(tag)?;
        daemons.0.push(start_virtiofsd(&socket, cache)?);
        qemu.args(["-chardev", &format!("socket,id={tag},path={socket}")])
            .args([
                "-device",
                &format!("vhost-user-fs-pci,chardev={tag},tag={tag}"),
            ]);
    }
    if machine.disks {
        // Another seed for each, so that the caches do not choose alike. QEMU's NVMe disk drops the mark of writes that
        // have to go around the cache (FUA); its SATA disk has no such mark, and the guest flushes instead.
        for (name, file, seed, stable_writes) in [
            (
                "nvme",
                &files.nvme,
                machine.lossy_cache,
                StableWrites::Guessed,
            ),
            (
                "sata",
                &files.sata,
                machine.lossy_cache.map(|seed| !seed),
                StableWrites::Marked,
            ),
        ] {
            let backend = match seed {
                Some(seed) => {
                    let socket = sockets.path(name)?;
                    disks.push(serve_disk(file, seed, stable_writes, &socket)?);
                    format!("cache=writeback,file=nbd+unix:///?socket={socket}")
                }
                None => format!("cache=unsafe,file={}", comma_safe(file)?),
            };
            qemu.arg("-drive").arg(format!(
                "if=none,id={name},format=raw,discard=unmap,{backend}"
            ));
        }
        qemu.args(["-device", "nvme,drive=nvme,serial=ferrofs-nvme"])
            .args(["-device", "ide-hd,drive=sata,serial=ferrofs-sata,bus=ide.0"]);
    }
    debug_assert_eq!(job.guest, Guest::Qemu);
    qemu.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(Started {
        guest: qemu.spawn().context("starting QEMU")?,
        disks,
        _daemons: daemons,
    })
}

fn accelerator(machine: &Machine<'_>) -> Vec<String> {
    let text: &[&str] = if machine.icount {
        &[
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "max",
            "-icount",
            "shift=0,sleep=off",
        ]
    } else if machine.kvm {
        &["-accel", "kvm", "-cpu", "host"]
    } else {
        &["-accel", "tcg,thread=multi", "-cpu", "max"]
    };
    text.iter().map(|word| String::from(*word)).collect()
}

/// A panic ends QEMU at once (`-no-reboot`); everything else is as the kernel does it by itself.
fn kernel_command_line(machine: &Machine<'_>, job: &Path) -> anyhow::Result<String> {
    let agent = std::env::current_exe()
        .context("finding this program")?
        .with_file_name("guest-agent");
    // A processor that sleeps with its timer set for one moment sleeps for ever if the emulator, with one thread
    // per processor on a busy host, loses that one interrupt. A timer that ticks comes again.
    let ticks = if machine.kvm || machine.icount {
        ""
    } else {
        "highres=off nohz=off "
    };
    let line = format!(
        "root={ROOT_TAG} rootfstype=virtiofs rw console=ttyS0 panic=-1 no_timer_check {ticks}{} init={} -- {}",
        machine.append,
        path_text(&agent)?,
        path_text(job)?
    );
    anyhow::ensure!(
        !line.chars().any(|letter| letter == '"') && line.len() < 2048,
        "the kernel's command line would be too long, or would hold a quote: {line}"
    );
    Ok(line)
}

/// Serves a disk with a lossy cache at `socket`. This program's death is then the power cut.
///
/// Disks of both kinds tell the guest of a write cache and take its flushes, but plain files make nothing of them: what the
/// guest wrote survives the guest in the host's memory.
fn serve_disk(
    file: &Path,
    seed: u64,
    stable_writes: StableWrites,
    socket: &str,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let image = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .with_context(|| format!("opening {}", file.display()))?;
    let disk = CachedDisk::new(image, seed, stable_writes)?;
    let listener = UnixListener::bind(socket).context("listening for a disk's user")?;
    Ok(std::thread::spawn(move || nbd::serve(&listener, disk)))
}

/// In QEMU's options a comma is written twice.
fn comma_safe(path: &Path) -> anyhow::Result<String> {
    Ok(path_text(path)?.replace(',', ",,"))
}
