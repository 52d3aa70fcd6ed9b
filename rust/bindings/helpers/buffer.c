// SPDX-License-Identifier: GPL-2.0

/* rust/vfs/buffer.rs keeps a lock in the upper half of b_state. */
static_assert(BITS_PER_LONG == 64);
static_assert(BH_JBDPrivateStart <= 32);

struct buffer_head *ferrofs_helper_bdev_getblk_nofs(struct block_device *bdev,
						    sector_t block, unsigned int size)
{
	return __getblk(bdev, block, size);
}

void ferrofs_helper_get_bh(struct buffer_head *bh)
{
	get_bh(bh);
}

void ferrofs_helper_brelse(struct buffer_head *bh)
{
	brelse(bh);
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

int ferrofs_helper_buffer_write_io_error(const struct buffer_head *bh)
{
	return buffer_write_io_error(bh);
}

int ferrofs_helper_bh_read(struct buffer_head *bh, blk_opf_t op_flags)
{
	return bh_read(bh, op_flags);
}

blk_opf_t ferrofs_helper_metadata_read_flags(void)
{
	return REQ_META | REQ_PRIO;
}

unsigned int ferrofs_helper_bdev_max_discard_sectors(struct block_device *bdev)
{
	return bdev_max_discard_sectors(bdev);
}

unsigned int ferrofs_helper_bdev_discard_granularity(struct block_device *bdev)
{
	return bdev_discard_granularity(bdev);
}

void ferrofs_helper_wait_on_state_bit(unsigned long *word, int bit)
{
	wait_on_bit(word, bit, TASK_UNINTERRUPTIBLE);
}

/* Whether one of the bits in @mask is set in the state of any buffer that the device's cache holds. */
bool ferrofs_helper_bdev_has_buffer_state(struct block_device *bdev, unsigned long mask)
{
	struct buffer_head *bh, *head;
	struct folio_batch batch;
	bool found = false;
	pgoff_t index = 0;
	unsigned int i;

	folio_batch_init(&batch);
	while (!found && filemap_get_folios(bdev->bd_mapping, &index, ULONG_MAX, &batch)) {
		for (i = 0; i < folio_batch_count(&batch); i++) {
			struct folio *folio = batch.folios[i];

			/* Keeps the buffers. */
			folio_lock(folio);
			bh = head = folio_buffers(folio);
			while (bh) {
				if (READ_ONCE(bh->b_state) & mask)
					found = true;
				bh = bh->b_this_page;
				if (bh == head)
					break;
			}
			folio_unlock(folio);
		}
		folio_batch_release(&batch);
		cond_resched();
	}
	return found;
}

int ferrofs_helper_write_buffer_now(struct buffer_head *bh, bool durable)
{
	int err;

	lock_buffer(bh);
	/* The device has dropped it from its cache: it has changed its block size. */
	if (!buffer_mapped(bh)) {
		unlock_buffer(bh);
		return -EIO;
	}
	/* What is in memory is what counts, also when an earlier write failed. */
	set_buffer_uptodate(bh);
	/* This write covers what a checkpoint of the journal would write. */
	clear_buffer_dirty(bh);
	bh_submit(bh, REQ_OP_WRITE | REQ_SYNC | REQ_META | REQ_PRIO |
		  (durable ? REQ_PREFLUSH | REQ_FUA : 0), bh_end_write);
	wait_on_buffer(bh);
	err = buffer_uptodate(bh) ? 0 : -EIO;
	set_buffer_uptodate(bh);
	return err;
}
