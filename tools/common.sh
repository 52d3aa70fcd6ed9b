# SPDX-License-Identifier: GPL-2.0
#
# What the shell programs of tools/ share: where things lie, how they speak, and which kernels ferrofs supports.
# Sourced, never run.
#
# shellcheck shell=bash
# shellcheck disable=SC2034 # The variables are read by the programs that source this file.

set -euo pipefail
# With this, cd may go elsewhere, and print where.
unset CDPATH
# What lies below the cache is read by other users, too, in the sandbox and in guests.
umask 022

# The clone that this file is part of.
CLONE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# Everything that set-up makes lies below one folder, which may be deleted at any time.
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ferrofs
ROOT=$CACHE/root
STAMPS=$CACHE/stamps
LOGS=$CACHE/log

# The Debian release of the sandbox and the kernel series that ferrofs is written for.
SUITE=trixie
SERIES=7.3

case $CLONE$CACHE in
*[[:space:]:,\"\']*)
	printf 'ferrofs: kbuild and QEMU do not take blanks, colons, commas or quotes in paths: %s, %s\n' "$CLONE" "$CACHE" >&2
	exit 1
	;;
esac

# Objects of this clone are kept apart from those of other clones that share the cache.
BUILD=$CACHE/build/$(basename "$CLONE")-$(printf %s "$CLONE" | sha256sum | cut -c1-12)
TOOLS_BIN=$BUILD/bin
# Cargo knows a source by its place in the workspace and its age: to it, another clone's is the same, older or newer.
TOOLS_TARGET=$BUILD/tools-target
# Test programs from the registry of crates.
CRATES=$CACHE/crates

# say TEXT...: one line of news, on stderr so that it never mixes with a command's output.
say() {
	printf 'ferrofs: %s\n' "$*" >&2
}

# die TEXT...: says why the work cannot go on, and ends it.
die() {
	say "$*"
	exit 1
}

# usage: prints what the comment at the top of the program says from its line "usage:" on, and ends the program.
usage() {
	sed -n '/^# usage/,/^$/s/^# \{0,1\}//p' "$0"
	exit 0
}

# stamp_is NAME KEY: whether the stage NAME was finished for KEY.
stamp_is() {
	[ -f "$STAMPS/$1" ] && [ "$(<"$STAMPS/$1")" = "$2" ]
}

# stamp NAME KEY: records that the stage NAME is finished for KEY. A rename, so that an interrupted run leaves the
# old stamp or the new one, never half of one.
stamp() {
	mkdir -p "$STAMPS"
	printf '%s\n' "$2" >"$STAMPS/$1.$$"
	mv -f "$STAMPS/$1.$$" "$STAMPS/$1"
}

# kernel_release: the release of the stock kernel that set-up chose, "7.3.4+deb13-amd64".
kernel_release() {
	cut -d' ' -f1 "$STAMPS/kernel"
}

# stock_tree: the prepared tree of the stock kernel. debug_tree: that of the debug kernel, built.
stock_tree() {
	printf '%s\n' "$CACHE/linux/$(kernel_release)/stock"
}
debug_tree() {
	printf '%s\n' "$CACHE/linux/$(kernel_release)/debug"
}

# Some thousands of files of the kernel's source, in an archive that unpacks fast, for tests that want a real tree.
sample_tar() {
	printf '%s\n' "$CACHE/linux/$(kernel_release)/sample.tar"
}

# guest_environment: sets for vm-runner what it cannot know.
guest_environment() {
	FERROFS_RELEASE=$(kernel_release)
	FERROFS_DEBUG_KERNEL=$(debug_tree)/linux
	FERROFS_SAMPLE_TAR=$(sample_tar)
	FERROFS_STAMPS=$STAMPS
	FERROFS_STOCK_TREE=$(stock_tree)
	export FERROFS_RELEASE FERROFS_DEBUG_KERNEL FERROFS_SAMPLE_TAR FERROFS_STAMPS FERROFS_STOCK_TREE
}

# config_value FILE NAME: the value of CONFIG_NAME in a kernel configuration, without quotes; empty when not set.
config_value() {
	sed -n "s/^CONFIG_$2=//p" "$1" | tr -d '"'
}

# check_tree DIR: refuses, with a sentence, a kernel tree that ferrofs cannot be built against.
check_tree() {
	local tree=$1 config=$1/.config release
	[ -d "$tree" ] || die "there is no kernel tree at $tree"
	[ -f "$config" ] || config=$tree/include/config/auto.conf
	[ -f "$config" ] ||
		die "the kernel tree $tree is not configured: run 'make olddefconfig prepare modules_prepare' in it first"
	[ "$(config_value "$config" RUST)" = y ] ||
		die "the kernel in $tree was configured without Rust (CONFIG_RUST is not set): ferrofs needs a kernel with it"
	[ -f "$tree/include/config/kernel.release" ] ||
		die "the kernel tree $tree is configured but not prepared: run 'make prepare modules_prepare' in it first"
	release=$(<"$tree/include/config/kernel.release")
	case $release in
	"$SERIES" | "$SERIES".* | "$SERIES"-* | "$SERIES"+*) ;;
	*) die "the kernel in $tree is $release, and this ferrofs supports $SERIES kernels only" ;;
	esac
	[ -f "$tree/rust/libkernel.rmeta" ] ||
		die "the kernel tree $tree has no Rust metadata (rust/libkernel.rmeta): distributions' header packages leave it out;" \
			"prepare the kernel's source instead, as tools/setup does"
}
