// SPDX-License-Identifier: GPL-2.0

uid_t ferrofs_helper_current_fsuid_raw(void)
{
	return from_kuid(&init_user_ns, current_fsuid());
}

bool ferrofs_helper_current_in_group_raw(gid_t gid)
{
	return in_group_p(make_kgid(&init_user_ns, gid));
}

bool ferrofs_helper_current_has_sys_resource(void)
{
	return capable(CAP_SYS_RESOURCE);
}
