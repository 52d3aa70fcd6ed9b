// SPDX-License-Identifier: GPL-2.0
/*
 * Callable bodies for the inline functions and macros of kernel headers that
 * the Rust side needs and that the kernel crate does not already export.
 *
 * A function ferrofs_helper_NAME() is seen from Rust as NAME(). One file per
 * area; each is included here so that bindgen reads them in one pass.
 */

#include "bindings_helper.h"
#include "helpers/bio.c"
#include "helpers/buffer.c"
#include "helpers/file.c"
#include "helpers/credentials.c"
#include "helpers/fs.c"
#include "helpers/journal.c"
#include "helpers/names.c"
#include "helpers/pagecache.c"
#include "helpers/percpu.c"
