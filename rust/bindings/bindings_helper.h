/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads: the headers whose contents the kernel crate's own
 * bindings lack. Kbuild names, beside the rule that runs bindgen, the headers
 * from which items are taken; a type that the kernel crate already binds is
 * never bound again.
 */

#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/backing-dev.h>
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/buffer_head.h>
#include <linux/crc16.h>
#include <linux/crc32.h>
#include <linux/crc32c.h>
#include <linux/exportfs.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fileattr.h>
#include <linux/fserror.h>
#include <linux/fsnotify.h>
#include <linux/highmem.h>
#include <linux/iomap.h>
#include <linux/ioprio.h>
#include <linux/iversion.h>
#include <linux/jbd2.h>
#include <linux/mbcache.h>
#include <linux/memcontrol.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/part_stat.h>
#include <linux/percpu_counter.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/quotaops.h>
#include <linux/random.h>
#include <linux/ratelimit.h>
#include <linux/rmap.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/statfs.h>
#include <linux/swap.h>
#include <linux/uio.h>
#include <linux/uuid.h>
#include <linux/workqueue.h>
#include <linux/writeback.h>
#include <linux/xattr.h>

/*
 * Constants whose macros bindgen cannot evaluate. FERROFS_CONST_NAME is seen
 * from Rust as NAME.
 */
static const unsigned int FERROFS_CONST_SB_RDONLY = SB_RDONLY;
static const unsigned int FERROFS_CONST_SB_SYNCHRONOUS = SB_SYNCHRONOUS;
static const unsigned int FERROFS_CONST_SB_DIRSYNC = SB_DIRSYNC;
static const unsigned int FERROFS_CONST_SB_POSIXACL = SB_POSIXACL;
static const unsigned int FERROFS_CONST_SB_I_VERSION = SB_I_VERSION;
static const unsigned int FERROFS_CONST_SB_LAZYTIME = SB_LAZYTIME;
static const unsigned int FERROFS_CONST_IOCB_NOWAIT = (__force unsigned int)IOCB_NOWAIT;
static const unsigned int FERROFS_CONST_REQ_SYNC = (__force unsigned int)REQ_SYNC;
static const unsigned int FERROFS_CONST_REQ_META = (__force unsigned int)REQ_META;
static const unsigned int FERROFS_CONST_REQ_PRIO = (__force unsigned int)REQ_PRIO;
static const unsigned int FERROFS_CONST_REQ_PREFLUSH = (__force unsigned int)REQ_PREFLUSH;
static const unsigned int FERROFS_CONST_REQ_FUA = (__force unsigned int)REQ_FUA;
