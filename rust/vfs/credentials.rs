// SPDX-License-Identifier: GPL-2.0

//! Who the current task acts for.
//!
//! C headers: [`include/linux/cred.h`](srctree/include/linux/cred.h),
//! [`include/linux/capability.h`](srctree/include/linux/capability.h)

use ferrofs_bindings as bindings;

/// The user id that the current task has towards file systems, as in the initial user namespace.
pub fn filesystem_uid() -> u32 {
    // SAFETY: Reads the credentials of the current task.
    unsafe { bindings::current_fsuid_raw() }
}

/// Whether the current task is in a group, given as in the initial user namespace.
pub fn is_in_group(gid: u32) -> bool {
    // SAFETY: Reads the credentials of the current task.
    unsafe { bindings::current_in_group_raw(gid) }
}

/// Whether the current task may use resources that are kept back from others (`CAP_SYS_RESOURCE`).
pub fn can_use_reserved_resources() -> bool {
    // SAFETY: Reads the credentials of the current task.
    unsafe { bindings::current_has_sys_resource() }
}
