// SPDX-License-Identifier: GPL-2.0

/* Mount API. */

/*
 * 'e' is an error, 'w' a warning, 'i' news. The kernel log gets the message in
 * any case: who reads the log of the context is not who looks after the machine.
 */
void ferrofs_helper_fc_log(struct fs_context *fc, char level, const char *message)
{
	if (fc->log.log)
		logfc(fc->log.log, fc->log.prefix, level, "%s", message);
	logfc(NULL, fc->log.prefix, level, "%s", message);
}

/* Messages. */

void ferrofs_helper_ratelimit_default_init(struct ratelimit_state *state)
{
	ratelimit_default_init(state);
}

/* Super blocks. */

u64 ferrofs_helper_bdev_nr_bytes(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}

bool ferrofs_helper_bdev_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

/* How many sectors of 512 bytes were written to the device since it came. */
u64 ferrofs_helper_bdev_sectors_written(struct block_device *bdev)
{
	return part_stat_read(bdev, sectors[STAT_WRITE]);
}

bool ferrofs_helper_sb_start_intwrite_trylock(struct super_block *sb)
{
	return sb_start_intwrite_trylock(sb);
}

void ferrofs_helper_sb_start_intwrite(struct super_block *sb)
{
	sb_start_intwrite(sb);
}

void ferrofs_helper_sb_end_intwrite(struct super_block *sb)
{
	sb_end_intwrite(sb);
}

u64 ferrofs_helper_huge_encode_dev(dev_t dev)
{
	return huge_encode_dev(dev);
}

/* Inodes. */

struct kmem_cache *ferrofs_helper_inode_cache_create(const char *name, unsigned int size,
						     unsigned int align, void (*ctor)(void *))
{
	return kmem_cache_create(name, size, align, SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, ctor);
}

void *ferrofs_helper_alloc_inode_sb(struct super_block *sb, struct kmem_cache *cache)
{
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

/* False when the inode is on its way out, or has as many references as can be counted. */
bool ferrofs_helper_inode_get(struct inode *inode)
{
	return atomic_read(&inode->i_count) < INT_MAX / 2 && igrab(inode);
}

unsigned int ferrofs_helper_inode_state(struct inode *inode)
{
	return inode_state_read_once(inode);
}

loff_t ferrofs_helper_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

void ferrofs_helper_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

u32 ferrofs_helper_i_uid_read(const struct inode *inode)
{
	return i_uid_read(inode);
}

u32 ferrofs_helper_i_gid_read(const struct inode *inode)
{
	return i_gid_read(inode);
}

void ferrofs_helper_i_uid_write(struct inode *inode, u32 uid)
{
	i_uid_write(inode, uid);
}

void ferrofs_helper_i_gid_write(struct inode *inode, u32 gid)
{
	i_gid_write(inode, gid);
}

void ferrofs_helper_mark_inode_dirty(struct inode *inode)
{
	mark_inode_dirty(inode);
}

void ferrofs_helper_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

int ferrofs_helper_inode_trylock(struct inode *inode)
{
	return inode_trylock(inode);
}

void ferrofs_helper_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

void ferrofs_helper_inode_lock_shared(struct inode *inode)
{
	inode_lock_shared(inode);
}

int ferrofs_helper_inode_trylock_shared(struct inode *inode)
{
	return inode_trylock_shared(inode);
}

void ferrofs_helper_inode_unlock_shared(struct inode *inode)
{
	inode_unlock_shared(inode);
}

void ferrofs_helper_inode_set_iversion_queried(struct inode *inode, u64 version)
{
	inode_set_iversion_queried(inode, version);
}

u64 ferrofs_helper_inode_peek_iversion(struct inode *inode)
{
	return inode_peek_iversion(inode);
}

void ferrofs_helper_inode_inc_iversion(struct inode *inode)
{
	inode_inc_iversion(inode);
}

void ferrofs_helper_mapping_set_error(struct address_space *mapping, int error)
{
	mapping_set_error(mapping, error);
}

struct timespec64 ferrofs_helper_inode_get_atime(const struct inode *inode)
{
	return inode_get_atime(inode);
}

struct timespec64 ferrofs_helper_inode_get_mtime(const struct inode *inode)
{
	return inode_get_mtime(inode);
}

struct timespec64 ferrofs_helper_inode_get_ctime(const struct inode *inode)
{
	return inode_get_ctime(inode);
}

void ferrofs_helper_inode_set_atime_to_ts(struct inode *inode, struct timespec64 time)
{
	inode_set_atime_to_ts(inode, time);
}

void ferrofs_helper_inode_set_mtime_to_ts(struct inode *inode, struct timespec64 time)
{
	inode_set_mtime_to_ts(inode, time);
}
