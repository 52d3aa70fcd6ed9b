// SPDX-License-Identifier: GPL-2.0

/* Dentries, open directories, ACLs, ioctls. */

#include <linux/compat.h>
#include <linux/filelock.h>

/*
 * Whether the user of an open directory can take positions of 31 bits only.
 * knfsd says what it can take; for programs, their word size decides.
 */
bool ferrofs_helper_file_has_narrow_positions(const struct file *file)
{
	if (file->f_mode & FMODE_32BITHASH)
		return true;
	if (file->f_mode & FMODE_64BITHASH)
		return false;
	return in_compat_syscall();
}

struct mnt_idmap *ferrofs_helper_file_mnt_idmap(const struct file *file)
{
	return file_mnt_idmap(file);
}

struct posix_acl *ferrofs_helper_posix_acl_dup(struct posix_acl *acl)
{
	return posix_acl_dup(acl);
}

void ferrofs_helper_posix_acl_release(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

unsigned int ferrofs_helper_posix_acl_count(const struct posix_acl *acl)
{
	return acl->a_count;
}

int ferrofs_helper_generic_setlease(struct file *file, int type, struct file_lease **lease,
				    void **private)
{
	return generic_setlease(file, type, lease, private);
}

/* An inline function in a kernel without security modules, where the kernel crate has no binding of it. */
int ferrofs_helper_inode_init_security(struct inode *inode, struct inode *dir,
				       const struct qstr *name,
				       initxattrs initxattrs, void *data)
{
	return security_inode_init_security(inode, dir, name, initxattrs, data);
}
