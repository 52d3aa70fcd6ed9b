// SPDX-License-Identifier: GPL-2.0

struct inode *ferrofs_helper_file_inode(const struct file *file)
{
	return file_inode(file);
}

/* Where the mount that the file was opened through is mounted, as d_path() tells it. */
char *ferrofs_helper_file_mount_path(struct file *file, char *buffer, int size)
{
	struct path root = {
		.mnt = file->f_path.mnt,
		.dentry = file->f_path.mnt->mnt_root,
	};

	return d_path(&root, buffer, size);
}

void ferrofs_helper_file_accessed(struct file *file)
{
	file_accessed(file);
}

bool ferrofs_helper_is_sync_kiocb(struct kiocb *kiocb)
{
	return is_sync_kiocb(kiocb);
}

ssize_t ferrofs_helper_generic_write_sync(struct kiocb *iocb, ssize_t count)
{
	return generic_write_sync(iocb, count);
}

void ferrofs_helper_iov_iter_truncate(struct iov_iter *i, u64 count)
{
	iov_iter_truncate(i, count);
}

bool ferrofs_helper_inode_is_nosec(const struct inode *inode)
{
	return IS_NOSEC(inode);
}

bool ferrofs_helper_inode_dio_in_flight(const struct inode *inode)
{
	return atomic_read(&inode->i_dio_count);
}

void ferrofs_helper_sb_start_pagefault(struct super_block *sb)
{
	sb_start_pagefault(sb);
}

void ferrofs_helper_sb_end_pagefault(struct super_block *sb)
{
	sb_end_pagefault(sb);
}

vm_fault_t ferrofs_helper_vmf_fs_error(int err)
{
	return vmf_fs_error(err);
}

struct folio *ferrofs_helper_vmf_folio(struct vm_fault *vmf)
{
	return page_folio(vmf->page);
}

struct workqueue_struct *ferrofs_helper_alloc_workqueue(const char *name,
							unsigned int flags,
							int max_active)
{
	return alloc_workqueue("%s", flags, max_active, name);
}

struct file *ferrofs_helper_vmf_file(struct vm_fault *vmf)
{
	return vmf->vma->vm_file;
}

void ferrofs_helper_file_set_nowait(struct file *file)
{
	file->f_mode |= FMODE_NOWAIT;
}

void ferrofs_helper_file_set_can_odirect(struct file *file)
{
	file->f_mode |= FMODE_CAN_ODIRECT;
}

bool ferrofs_helper_file_is_writable(const struct file *file)
{
	return file->f_mode & FMODE_WRITE;
}
