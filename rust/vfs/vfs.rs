// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions for writing file systems.
//!
//! This crate knows nothing of any on-disk format. All unsafe code of the project lives here and in
//! the bindings; what it offers cannot be used from safe code to corrupt memory.
