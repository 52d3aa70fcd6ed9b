// SPDX-License-Identifier: GPL-2.0

//! Bindings to the parts of the kernel that the `kernel` crate does not bind: the file system
//! context, buffer heads, jbd2, iomap and the inline helpers of their headers.
//!
//! Every item of the kernel crate's own bindings is visible here too, so that a user imports one
//! crate. A type has one definition: the kernel crate's wherever it has one.

#![allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    missing_docs,
    dead_code,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    improper_ctypes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unknown_lints,
    unnecessary_transmutes
)]

use kernel::ffi;
use pin_init::MaybeZeroable;
use pin_init::Zeroable;

// Items that bindgen defines below take precedence over this import. They are exactly those which
// the kernel crate lacks or knows only as opaque types.
pub use kernel::bindings::*;

type __kernel_size_t = usize;
type __kernel_ssize_t = isize;

// SAFETY: `__BindgenBitfieldUnit<Storage>` is a transparent wrapper of `Storage`.
unsafe impl<Storage> Zeroable for __BindgenBitfieldUnit<Storage> where Storage: Zeroable {}

include!(env!("FERROFS_BINDINGS"));

mod helpers {
    use super::*;

    include!(env!("FERROFS_HELPERS"));
}

pub use helpers::*;
