// SPDX-License-Identifier: GPL-2.0

void ferrofs_helper_bio_first_folio(struct folio_iter *fi, struct bio *bio)
{
	bio_first_folio(fi, bio, 0);
}

void ferrofs_helper_bio_next_folio(struct folio_iter *fi, struct bio *bio)
{
	bio_next_folio(fi, bio);
}

/* Sleeps until there is a bio; never fails. */
struct bio *ferrofs_helper_bio_alloc_nofs(struct bio_set *set,
					  struct block_device *bdev,
					  unsigned short nr_vecs, blk_opf_t opf)
{
	return bio_alloc_bioset(bdev, nr_vecs, opf, GFP_NOFS, set);
}

void ferrofs_helper_bio_io_error(struct bio *bio)
{
	bio_io_error(bio);
}

/* The read of part of one folio, waited for. */
int ferrofs_helper_folio_read_sync(struct block_device *bdev, struct folio *folio,
				   size_t offset, size_t len, sector_t sector)
{
	struct bio_vec bvec;
	struct bio bio;
	int ret;

	bio_init(&bio, bdev, &bvec, 1, REQ_OP_READ);
	bio.bi_iter.bi_sector = sector;
	bio_add_folio_nofail(&bio, folio, len, offset);
	ret = submit_bio_wait(&bio);
	bio_uninit(&bio);
	return ret;
}

unsigned int ferrofs_helper_bdev_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

unsigned int ferrofs_helper_bdev_dma_alignment(struct block_device *bdev)
{
	return bdev_dma_alignment(bdev);
}
