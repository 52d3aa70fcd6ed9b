// SPDX-License-Identifier: GPL-2.0

//! Whether KVM works here. /dev/kvm may exist and be useless: inside another virtual machine QEMU may abort, or the
//! guest creep. So a guest is booted once, with a time limit, and the answer remembered.

use crate::options::Kvm;
use crate::qemu;
use crate::variable;
use anyhow::Context;
use std::fs::read_to_string;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// A guest that boots by emulation takes a few seconds; with KVM that works it takes one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(8);

/// Whether the guest is to use KVM.
pub fn wanted(choice: Kvm, scratch: &Path) -> anyhow::Result<bool> {
    match choice {
        Kvm::Yes => Ok(true),
        Kvm::No => Ok(false),
        Kvm::Auto => probe(scratch),
    }
}

fn probe(scratch: &Path) -> anyhow::Result<bool> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(false);
    }
    let release = variable("FERROFS_RELEASE")?;
    let answers = PathBuf::from(variable("FERROFS_STAMPS")?);
    // Another boot of the host may be another machine, or have other settings.
    let machine = read_to_string("/proc/sys/kernel/random/boot_id")
        .context("asking which boot of the host this is")?;
    let question = format!("{} {release}", machine.trim());
    let answer = answers.join("kvm");
    if let Ok(text) = read_to_string(&answer) {
        if let Some(known) = text.strip_prefix(&question) {
            return Ok(known.trim() == "works");
        }
    }
    eprintln!("vm: probing whether KVM works, once");
    let works = qemu::probe_kvm(scratch, PROBE_TIMEOUT)?;
    let word = if works { "works" } else { "useless" };
    eprintln!("vm: KVM is {word} here");
    let fresh = answers.join(format!("kvm.{}", std::process::id()));
    std::fs::write(&fresh, format!("{question} {word}\n"))
        .and_then(|()| std::fs::rename(&fresh, &answer))
        .with_context(|| format!("remembering the answer in {}", answer.display()))?;
    Ok(works)
}
