// SPDX-License-Identifier: GPL-2.0

int ferrofs_helper_percpu_counter_init(struct percpu_counter *counter, s64 value)
{
	return percpu_counter_init(counter, value, GFP_KERNEL);
}

void ferrofs_helper_percpu_counter_destroy(struct percpu_counter *counter)
{
	percpu_counter_destroy(counter);
}

void ferrofs_helper_percpu_counter_add(struct percpu_counter *counter, s64 amount)
{
	percpu_counter_add(counter, amount);
}

void ferrofs_helper_percpu_counter_set_value(struct percpu_counter *counter, s64 value)
{
	percpu_counter_set(counter, value);
}

s64 ferrofs_helper_percpu_counter_read(struct percpu_counter *counter)
{
	return percpu_counter_read(counter);
}

s64 ferrofs_helper_percpu_counter_sum(struct percpu_counter *counter)
{
	return percpu_counter_sum(counter);
}

int ferrofs_helper_percpu_counter_compare(struct percpu_counter *counter, s64 value)
{
	return percpu_counter_compare(counter, value);
}
