// SPDX-License-Identifier: GPL-2.0

//! Ioctls of files and directories.
//!
//! Those for flags, projects, extent maps and the UUID the kernel answers itself, from the operations of
//! the inode.

use kernel::fs::File;
use kernel::ioctl::_IOR;
use kernel::ioctl::_IOW;
use kernel::prelude::*;
use kernel::uaccess::UserSlice;
use vfs::ioctl;
use vfs::ioctl::Command;
use vfs::ioctl::WriteAccess;
use vfs::transaction::Credits;

use crate::attr;
use crate::checksum::crc32c;
use crate::state;
use crate::Inode;

/// The older numbers of ext4 for the generation.
const EXT4_GET_VERSION: u32 = _IOR::<isize>(b'f' as u32, 3);
const EXT4_SET_VERSION: u32 = _IOW::<isize>(b'f' as u32, 4);

/// The size of a label that programs and kernel agree on, a NUL included.
const LABEL_MAX: usize = 256;
const GET_LABEL: u32 = _IOR::<[u8; LABEL_MAX]>(0x94, 49);
const SET_LABEL: u32 = _IOW::<[u8; LABEL_MAX]>(0x94, 50);

/// The length of a label on disk.
const VOLUME_NAME_LENGTH: usize = 16;

/// The capability to administer the system.
const CAP_SYS_ADMIN: u32 = 21;

/// Answers an ioctl.
pub(crate) fn ioctl(inode: &Inode, file: &File, command: Command) -> Result<isize> {
    match command.number() {
        ioctl::GET_VERSION | EXT4_GET_VERSION => get_generation(inode, command)?,
        ioctl::SET_VERSION | EXT4_SET_VERSION => set_generation(inode, file, command)?,
        GET_LABEL => get_label(inode, command.memory())?,
        SET_LABEL => set_label(inode, file, command.memory())?,
        _ => return Err(ENOTTY),
    }
    Ok(0)
}

fn get_generation(inode: &Inode, command: Command) -> Result {
    let memory = command.memory_of(size_of::<u32>());
    memory.writer().write(&inode.generation())
}

fn set_generation(inode: &Inode, file: &File, command: Command) -> Result {
    if !ioctl::idmap(file).owner_or_capable(inode) {
        return Err(EPERM);
    }
    let _access = WriteAccess::new(file)?;
    let memory = command.memory_of(size_of::<u32>());
    attr::set_generation(inode, memory.reader().read::<u32>()?)
}

fn get_label(inode: &Inode, memory: UserSlice) -> Result {
    let mut label = [0; VOLUME_NAME_LENGTH + 1];
    inode.sb().data().with_superblock(|superblock| {
        for (to, from) in label.iter_mut().zip(superblock.volume_name()) {
            *to = *from;
        }
    })?;
    memory.writer().write_slice(&label)
}

fn set_label(inode: &Inode, file: &File, memory: UserSlice) -> Result {
    if !ioctl::capable(CAP_SYS_ADMIN) {
        return Err(EPERM);
    }
    let mut label = [0; VOLUME_NAME_LENGTH + 1];
    memory.reader().read_slice(&mut label)?;
    let length = label.iter().position(|&byte| byte == 0).ok_or(EINVAL)?;
    let _access = WriteAccess::new(file)?;
    let volume = inode.sb().data();
    // The block of the super block.
    let txn = state::transaction(inode.sb(), Credits::blocks(1))?;
    txn.set_sync();
    let mut fits = false;
    volume.write_superblock(&txn, |superblock| {
        fits = superblock.set_volume_name(&label[..length]);
        superblock.update_checksum(crc32c);
    })?;
    txn.stop()?;
    if fits {
        Ok(())
    } else {
        Err(EINVAL)
    }
}
