// SPDX-License-Identifier: GPL-2.0

//! Tests of directories: against a model, on damaged blocks, and against e2fsprogs.

mod check;
mod collisions;
mod damage;
mod images;
mod iteration;
mod model;
mod store;
