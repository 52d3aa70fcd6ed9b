// SPDX-License-Identifier: GPL-2.0

handle_t *ferrofs_helper_journal_current_handle(void)
{
	return journal_current_handle();
}

int ferrofs_helper_is_journal_aborted(journal_t *journal)
{
	return is_journal_aborted(journal);
}

int ferrofs_helper_is_handle_aborted(handle_t *handle)
{
	return is_handle_aborted(handle);
}

/* The journal is loaded: its task runs. */
int ferrofs_helper_jbd2_set_io_priority(journal_t *journal, unsigned int level)
{
	return set_task_ioprio(journal->j_task, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, level));
}

int ferrofs_helper_jbd2_handle_buffer_credits(handle_t *handle)
{
	return jbd2_handle_buffer_credits(handle);
}

void ferrofs_helper_jbd2_handle_set_sync(handle_t *handle)
{
	handle->h_sync = 1;
}

tid_t ferrofs_helper_jbd2_get_latest_transaction(journal_t *journal)
{
	return jbd2_get_latest_transaction(journal);
}

void ferrofs_helper_jbd2_set_barrier(journal_t *journal, bool on)
{
	write_lock(&journal->j_state_lock);
	if (on)
		journal->j_flags |= JBD2_BARRIER;
	else
		journal->j_flags &= ~JBD2_BARRIER;
	write_unlock(&journal->j_state_lock);
}

void ferrofs_helper_jbd2_set_times(journal_t *journal, unsigned long interval_msecs,
				   u32 min_batch_usecs, u32 max_batch_usecs)
{
	write_lock(&journal->j_state_lock);
	journal->j_commit_interval = msecs_to_jiffies(interval_msecs);
	journal->j_min_batch_time = min_batch_usecs;
	journal->j_max_batch_time = max_batch_usecs;
	write_unlock(&journal->j_state_lock);
}

bool ferrofs_helper_jbd2_needs_recovery(journal_t *journal)
{
	return journal->j_tail != 0;
}

/* The module that this is linked into cannot be unloaded meanwhile. The caller runs in it. */
void ferrofs_helper_this_module_get(void)
{
	__module_get(THIS_MODULE);
}

void ferrofs_helper_this_module_put(void)
{
	module_put(THIS_MODULE);
}

unsigned int ferrofs_helper_memalloc_nofs_save(void)
{
	return memalloc_nofs_save();
}

void ferrofs_helper_memalloc_nofs_restore(unsigned int flags)
{
	memalloc_nofs_restore(flags);
}

void ferrofs_helper_memalloc_retry_wait_nofs(void)
{
	memalloc_retry_wait(GFP_NOFS);
}

gfp_t ferrofs_helper_gfp_nofs(void)
{
	return GFP_NOFS;
}

void ferrofs_helper_pagefault_disable(void)
{
	pagefault_disable();
}

void ferrofs_helper_pagefault_enable(void)
{
	pagefault_enable();
}
