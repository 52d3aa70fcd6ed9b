# SPDX-License-Identifier: GPL-2.0
#
# Operations in which the kernel finds no memory: the first time at the first allocation, then at the second one, and so
# on until the operation needs no more. Each succeeds or fails with ENOMEM, and what has failed is not done.

import shutil

# How many extents the files have that are to be freed, each of one block. The list of what is freed grows some times.
EXTENTS = 70
LONG = "long name " * 20


def inject():
    """Prepares the kernel for it, and returns a descriptor that takes the number of the allocation that fails."""
    for kind in ("failslab", "fail_page_alloc"):
        for setting, value in (("ignore-gfp-wait", "N"), ("verbose", "0")):
            with open(f"/sys/kernel/debug/{kind}/{setting}", "w") as file:
                file.write(value)
    return os.open("/proc/thread-self/fail-nth", os.O_RDWR)


def put(name, data):
    with open(name, "wb") as file:
        file.write(data)


def scatter(name, sync=True):
    """Writes every other block of a file."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        for number in range(EXTENTS):
            os.pwrite(fd, b"x" * BLOCK, number * 2 * BLOCK)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def extended(name):
    put(name, b"with attributes")
    os.setxattr(name, "user.large", LONG.encode() * 3)


def tree(top):
    """All that can be seen below a directory."""
    found = []
    for base, dirs, files in os.walk(top):
        for name in sorted(dirs + files):
            full = os.path.join(base, name)
            status = os.lstat(full)
            content = None
            if os.path.islink(full):
                content = os.readlink(full)
            elif os.path.isfile(full):
                with open(full, "rb") as file:
                    content = file.read()
            names = os.listxattr(full, follow_symlinks=False)
            attributes = [os.getxattr(full, key, follow_symlinks=False) for key in names]
            found.append((full[len(top) :], status.st_mode, status.st_nlink, content, names, attributes))
    return found


# What is there before, the operation, and whether a part of it may be done when it fails. The first is one that frees
# blocks: the first time in the life of a mount takes the most memory.
OPERATIONS = {
    "unlink": (lambda d: scatter(d + "/a"), lambda d: os.unlink(d + "/a"), False),
    "create": (lambda d: None, lambda d: os.close(os.open(d + "/f", os.O_CREAT | os.O_WRONLY)), False),
    "mkdir": (lambda d: None, lambda d: os.mkdir(d + "/d"), False),
    "symlink": (lambda d: None, lambda d: os.symlink(LONG, d + "/s"), False),
    "link": (lambda d: put(d + "/a", b"a"), lambda d: os.link(d + "/a", d + "/b"), False),
    "unlink with attributes": (lambda d: extended(d + "/a"), lambda d: os.unlink(d + "/a"), False),
    "rmdir": (lambda d: os.mkdir(d + "/a"), lambda d: os.rmdir(d + "/a"), False),
    "rename": (
        lambda d: (put(d + "/a", b"new"), scatter(d + "/b")),
        lambda d: os.rename(d + "/a", d + "/b"),
        False,
    ),
    "attribute": (
        lambda d: put(d + "/a", b"a"),
        lambda d: os.setxattr(d + "/a", "user.large", LONG.encode() * 3),
        False,
    ),
    "truncate": (lambda d: scatter(d + "/a"), lambda d: os.truncate(d + "/a", BLOCK // 2), True),
    "truncate what is not on the disk": (
        lambda d: scatter(d + "/a", False),
        lambda d: os.truncate(d + "/a", 5 * BLOCK),
        True,
    ),
    "write": (lambda d: None, lambda d: put(d + "/a", b"w" * 40 * BLOCK), True),
    "write and sync": (lambda d: None, lambda d: scatter(d + "/a"), True),
}


def attempt(nth, number, operation, directory):
    """Does it with the allocation of this number failing. Returns the error, and whether there was such a one."""
    error = None
    os.write(nth, b"%d" % number)
    try:
        operation(directory)
    except MemoryError:
        error = errno.ENOMEM
    except OSError as failure:
        error = failure.errno
    left = os.pread(nth, 20, 0).rstrip(b"\n\0 ")
    os.write(nth, b"0")
    return error, left == b"0"


def every_allocation(nth, what, cold):
    prepare, operation, partly = OPERATIONS[what]
    done = []
    failures = 0
    for number in range(1, 41):
        directory = path(f"{number}")
        os.mkdir(directory)
        prepare(directory)
        before = tree(directory)
        if cold:
            LIBC.sync()
            with open("/proc/sys/vm/drop_caches", "w") as file:
                file.write("3")
        error, reached = attempt(nth, number, operation, directory)
        case = f"{what}, {'cold' if cold else 'warm'}, allocation {number}: error {error}"
        found = tree(directory)
        if error is None:
            done.append((case, found))
        else:
            assert error == errno.ENOMEM, case
            assert reached, f"{case}, before anything was to fail"
            assert partly or found == before, f"{case}: {found}"
            failures += 1
        if not reached:
            break
    # The last one had all the memory that it asked for, unless there was too much to ask for.
    for case, found in done:
        assert found == done[-1][1], f"{case}: {found}"
    assert failures or cold, f"{what}: nothing has failed"
    for name in os.listdir(DIR):
        if name != "lost+found":
            shutil.rmtree(path(name))


nth = inject()
for what in OPERATIONS:
    for cold in (False, True) if BLOCK == PAGE else (False,):
        every_allocation(nth, what, cold)
