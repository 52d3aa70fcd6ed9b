# SPDX-License-Identifier: GPL-2.0
#
# What the scripts of the guest tests have in common. Each script is run with this before it, and with the mounted
# directory, the block size and the driver's name as arguments. Failures are exceptions.

import ctypes
import errno
import mmap
import os
import random
import signal
import sys
import time

DIR, BLOCK, FSTYPE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)

RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT = 0x01, 0x02, 0x04, 0x08
RWF_APPEND, RWF_NOAPPEND, RWF_ATOMIC, RWF_DONTCACHE = 0x10, 0x20, 0x40, 0x80


def path(name):
    return os.path.join(DIR, name)


def create(name, flags=0):
    return os.open(path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o644)


def reopen(name, flags=0):
    return os.open(path(name), os.O_RDWR | flags)


def bytes_of(tag, length):
    """Bytes that differ from place to place and from tag to tag, and of which none is zero."""
    return bytes(random.Random(tag).choices(range(1, 256), k=length))


def same(what, found, expected):
    """Fails, and tells where they begin to differ, unless both are the same."""
    if found == expected:
        return
    place = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    raise AssertionError(
        f"{what}: byte {place} of {len(found)} is {found[place:place + 8].hex()} "
        f"instead of {expected[place:place + 8].hex()} of {len(expected)}"
    )


def contents(name):
    with open(path(name), "rb") as file:
        return file.read()


def refused(number, what, call, *arguments):
    """Fails unless the call fails with this error."""
    try:
        result = call(*arguments)
    except OSError as error:
        if error.errno != number:
            raise AssertionError(f"{what}: {error}, not {errno.errorcode[number]}") from error
        return
    raise AssertionError(f"{what}: returned {result}, not {errno.errorcode[number]}")


def memory(length, data=b""):
    """Anonymous memory that begins at a page."""
    m = mmap.mmap(-1, max(length, 1))
    m[: len(data)] = data
    return m


def checked(result, function, arguments):
    """What ctypes calls after a function: turns -1 into an exception."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")
    return result


def function(name, *types):
    """A function of the C library that returns -1 and an errno when it fails."""
    found = getattr(LIBC, name)
    found.argtypes = types
    found.restype = ctypes.c_ssize_t
    found.errcheck = checked
    return found


INT, SIZE, OFFSET, POINTER = ctypes.c_int, ctypes.c_size_t, ctypes.c_int64, ctypes.c_void_p
fallocate = function("fallocate", INT, INT, OFFSET, OFFSET)
raw_write = function("pwrite", INT, POINTER, SIZE, OFFSET)
raw_mmap = LIBC.mmap
raw_mmap.argtypes = (POINTER, SIZE, INT, INT, INT, OFFSET)
raw_mmap.restype = POINTER
raw_munmap = function("munmap", POINTER, SIZE)
raw_mprotect = function("mprotect", POINTER, SIZE, INT)


def preallocate(fd, mode, offset, length):
    """Whether the file system could: a driver without fallocate is tested without it."""
    try:
        fallocate(fd, mode, offset, length)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    return True


def mapping(fd, length, offset=0, private=False):
    kind = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED
    return mmap.mmap(fd, length, flags=kind, prot=mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)


class Beyond:
    """A mapping that may go on behind the end of its file, which Python's own do not."""

    def __init__(self, fd, length, kind=mmap.MAP_SHARED):
        self.length = length
        self.address = raw_mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, kind, fd, 0)
        assert self.address not in (None, ctypes.c_void_p(-1).value), os.strerror(ctypes.get_errno())

    def load(self, start, length):
        assert start + length <= self.length
        return ctypes.string_at(self.address + start, length)

    def store(self, start, data):
        assert start + len(data) <= self.length
        ctypes.memmove(self.address + start, data, len(data))

    def close(self):
        raw_munmap(self.address, self.length)


def signal_of(work):
    """The signal that ends a child which does this work; 0 if none does."""
    child = os.fork()
    if child == 0:
        for number in (signal.SIGBUS, signal.SIGSEGV, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        try:
            work()
        except BaseException as error:
            print(f"in a child: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0, "a child failed"
    return 0


def disk(what):
    """What sysfs says of the disk; an empty text where it has no such file."""
    number = os.stat(DIR).st_dev
    name = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/{what}"
    if not os.path.exists(name):
        return ""
    with open(name) as file:
        return file.read()


def next_tick():
    """Waits until the clock that files get their times from goes on: what is changed then gets another time.

    A sleep of some ticks does not do for that: one processor has the clock go on, and on a busy host that one may stand
    still while the others work.
    """
    realtime_coarse = 5
    before = time.clock_gettime_ns(realtime_coarse)
    while time.clock_gettime_ns(realtime_coarse) == before:
        pass


def until_it_need_not_wait(what, attempt):
    """Does what must not wait, which is refused if the times of the file are due to be changed: `attempt` brings them up
    to date, and goes on at once. Whether a tick comes in between is a matter of how busy the machine is, so that all it
    has of the time between two ticks is given to it, as often as it takes."""
    deadline = time.monotonic() + 60
    while True:
        next_tick()
        try:
            return attempt()
        except BlockingIOError:
            assert time.monotonic() < deadline, f"{what}: did not go without waiting in 60 s"


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


