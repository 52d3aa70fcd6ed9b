// SPDX-License-Identifier: GPL-2.0

//! The ext4 filesystem.

#![deny(unsafe_code)]

use kernel::prelude::*;

module! {
    type: Ferrofs,
    name: "ferrofs",
    authors: ["ferrofs developers"],
    description: "The ext4 filesystem in Rust",
    license: "GPL v2",
    alias: ["fs-ferrofs"],
}

struct Ferrofs;

impl kernel::Module for Ferrofs {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        pr_info!("loaded\n");
        Ok(Ferrofs)
    }
}
