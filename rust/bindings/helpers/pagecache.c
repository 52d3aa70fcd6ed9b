// SPDX-License-Identifier: GPL-2.0

void ferrofs_helper_folio_get(struct folio *folio)
{
	folio_get(folio);
}

void ferrofs_helper_folio_put(struct folio *folio)
{
	folio_put(folio);
}

void ferrofs_helper_folio_lock(struct folio *folio)
{
	folio_lock(folio);
}

bool ferrofs_helper_folio_test_uptodate(const struct folio *folio)
{
	return folio_test_uptodate(folio);
}

bool ferrofs_helper_folio_test_dirty(const struct folio *folio)
{
	return folio_test_dirty(folio);
}

bool ferrofs_helper_folio_test_writeback(const struct folio *folio)
{
	return folio_test_writeback(folio);
}

void ferrofs_helper_folio_mark_uptodate(struct folio *folio)
{
	folio_mark_uptodate(folio);
}

void ferrofs_helper_folio_cancel_dirty(struct folio *folio)
{
	folio_cancel_dirty(folio);
}

void ferrofs_helper_folio_start_writeback(struct folio *folio)
{
	folio_start_writeback(folio);
}

size_t ferrofs_helper_folio_size(const struct folio *folio)
{
	return folio_size(folio);
}

loff_t ferrofs_helper_folio_pos(const struct folio *folio)
{
	return folio_pos(folio);
}

/* Only valid where the folio cannot leave the page cache. */
struct inode *ferrofs_helper_folio_inode(const struct folio *folio)
{
	return folio->mapping ? folio->mapping->host : NULL;
}

/* The pointer alone; @inode may be about to go away. */
bool ferrofs_helper_folio_belongs_to(const struct folio *folio,
				     const struct inode *inode)
{
	return folio->mapping == inode->i_mapping;
}

void *ferrofs_helper_folio_get_private(struct folio *folio)
{
	return READ_ONCE(folio->private);
}

/* Who does not hold the lock of the folio must see what @data points to if it sees the pointer. */
void ferrofs_helper_folio_attach_private(struct folio *folio, void *data)
{
	smp_wmb();
	folio_attach_private(folio, data);
}

void *ferrofs_helper_folio_detach_private(struct folio *folio)
{
	return folio_detach_private(folio);
}

void ferrofs_helper_memcpy_to_folio(struct folio *folio, size_t offset,
				    const char *from, size_t len)
{
	memcpy_to_folio(folio, offset, from, len);
}

void ferrofs_helper_memcpy_from_folio(char *to, struct folio *folio,
				      size_t offset, size_t len)
{
	memcpy_from_folio(to, folio, offset, len);
}

void ferrofs_helper_folio_zero_range(struct folio *folio, size_t start,
				     size_t length)
{
	folio_zero_range(folio, start, length);
}

/* Zeroed memory for the state of a folio that is locked: no reclaim through the file system. */
void *ferrofs_helper_folio_state_alloc(size_t size, bool nowait)
{
	return kzalloc(size, nowait ? GFP_NOWAIT : GFP_NOFS | __GFP_NOFAIL);
}

struct ferrofs_folio_state {
	struct rcu_head rcu;
};

/* @state may be NULL, and begins with an rcu_head otherwise. */
void ferrofs_helper_folio_state_free(void *state)
{
	struct ferrofs_folio_state *begin = state;

	kfree_rcu(begin, rcu);
}

size_t ferrofs_helper_mapping_max_folio_size(const struct address_space *mapping)
{
	return mapping_max_folio_size(mapping);
}

struct folio *ferrofs_helper_write_begin_get_folio(const struct kiocb *iocb,
						   struct address_space *mapping,
						   pgoff_t index, size_t len)
{
	fgf_t flags = FGP_WRITEBEGIN | fgf_set_order(len);
	bool nowait = iocb && (iocb->ki_flags & IOCB_NOWAIT);
	struct folio *folio;

	if (iocb && (iocb->ki_flags & IOCB_DONTCACHE))
		flags |= FGP_DONTCACHE;
	/* FGP_STABLE waits, whatever else is asked for. */
	if (nowait)
		flags = (flags & ~FGP_STABLE) | FGP_NOWAIT;
	folio = __filemap_get_folio(mapping, index, flags,
				    mapping_gfp_mask(mapping));
	if (nowait && !IS_ERR(folio) && folio_test_writeback(folio) &&
	    mapping_stable_writes(mapping)) {
		folio_unlock(folio);
		folio_put(folio);
		return ERR_PTR(-EAGAIN);
	}
	return folio;
}

struct folio *ferrofs_helper_filemap_lock_folio(struct address_space *mapping,
						pgoff_t index)
{
	return filemap_lock_folio(mapping, index);
}

void ferrofs_helper_mapping_set_large_folios(struct address_space *mapping)
{
	mapping_set_large_folios(mapping);
}

struct folio *ferrofs_helper_readahead_next(struct readahead_control *rac)
{
	return __readahead_folio(rac);
}

loff_t ferrofs_helper_readahead_pos(const struct readahead_control *rac)
{
	return readahead_pos((struct readahead_control *)rac);
}

size_t ferrofs_helper_readahead_length(const struct readahead_control *rac)
{
	return readahead_length((struct readahead_control *)rac);
}

blk_opf_t ferrofs_helper_wbc_to_write_flags(struct writeback_control *wbc)
{
	return wbc_to_write_flags(wbc);
}

void ferrofs_helper_wbc_init_bio(struct writeback_control *wbc, struct bio *bio)
{
	wbc_init_bio(wbc, bio);
}

void ferrofs_helper_filemap_invalidate_lock(struct address_space *mapping)
{
	filemap_invalidate_lock(mapping);
}

void ferrofs_helper_filemap_invalidate_unlock(struct address_space *mapping)
{
	filemap_invalidate_unlock(mapping);
}

void ferrofs_helper_filemap_invalidate_lock_shared(struct address_space *mapping)
{
	filemap_invalidate_lock_shared(mapping);
}

void ferrofs_helper_filemap_invalidate_unlock_shared(struct address_space *mapping)
{
	filemap_invalidate_unlock_shared(mapping);
}

ssize_t ferrofs_helper_folio_mkwrite_check_truncate(const struct folio *folio,
						    const struct inode *inode)
{
	return folio_mkwrite_check_truncate(folio, inode);
}
