// SPDX-License-Identifier: GPL-2.0

//! Disks made with other features than the default ones.

use super::tree::work_and_compare;
use crate::bench::Bench;
use anyhow::Context;

/// The same work on one kind of disk after the other.
pub fn variants(bench: &Bench) -> anyhow::Result<()> {
    // What both drivers say of 128-byte inodes, rightly.
    bench.expect_message("supports timestamps until 2038");
    // Name, arguments of mkfs.ext4, mount options, whether inodes hold full times.
    let kinds: [(&str, &[&str], &str, bool); 10] = [
        ("1 KiB blocks", &["-b", "1024", "512M"], "", true),
        ("2 KiB blocks", &["-b", "2048", "512M"], "", true),
        ("4 KiB blocks", &["-b", "4096", "512M"], "", true),
        ("no journal", &["-O", "^has_journal", "512M"], "", true),
        ("128-byte inodes", &["-I", "128", "512M"], "", false),
        ("512-byte inodes", &["-I", "512", "512M"], "", true),
        ("without 64bit", &["-O", "^64bit", "512M"], "", true),
        (
            "without metadata_csum",
            &["-O", "^metadata_csum,^metadata_csum_seed", "512M"],
            "",
            true,
        ),
        (
            "without flex_bg, orphan_file and dir_index",
            &["-O", "^flex_bg,^orphan_file,^dir_index", "512M"],
            "",
            true,
        ),
        (
            "errors=remount-ro,commit=1",
            &["512M"],
            "errors=remount-ro,commit=1",
            true,
        ),
    ];
    for (name, arguments, options, full_times) in kinds {
        eprintln!("{name}");
        bench.format(arguments)?;
        work_and_compare(bench, options, 400, full_times)
            .and_then(|()| bench.fsck())
            .with_context(|| format!("on a disk with {name}"))?;
    }
    Ok(())
}
