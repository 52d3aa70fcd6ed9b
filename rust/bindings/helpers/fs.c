// SPDX-License-Identifier: GPL-2.0

void ferrofs_helper_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}
