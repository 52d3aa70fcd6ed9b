// SPDX-License-Identifier: GPL-2.0

struct buffer_head *ferrofs_helper_sb_bread(struct super_block *sb, sector_t block)
{
	return sb_bread(sb, block);
}

struct buffer_head *ferrofs_helper_sb_getblk(struct super_block *sb, sector_t block)
{
	return sb_getblk(sb, block);
}

void ferrofs_helper_brelse(struct buffer_head *bh)
{
	brelse(bh);
}

void ferrofs_helper_get_bh(struct buffer_head *bh)
{
	get_bh(bh);
}

void ferrofs_helper_lock_buffer(struct buffer_head *bh)
{
	lock_buffer(bh);
}

int ferrofs_helper_buffer_uptodate(const struct buffer_head *bh)
{
	return buffer_uptodate(bh);
}

void ferrofs_helper_set_buffer_uptodate(struct buffer_head *bh)
{
	set_buffer_uptodate(bh);
}
