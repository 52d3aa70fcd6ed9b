# SPDX-License-Identifier: GPL-2.0
#
# The ways in and out of a file's data, one by one: vectors, flags of requests, pipes, loop devices; and what every write
# does beside: limits, privileges, times.

import resource
import socket
import stat
import struct
import subprocess

PATTERN = bytes_of("calls", 1 << 20)


def cachestat(fd):
    """How many pages of a file are in the page cache, are dirty, and are under writeback."""
    span = (ctypes.c_uint64 * 2)(0, 0)
    found = (ctypes.c_uint64 * 5)()
    if LIBC.syscall(ctypes.c_long(451), ctypes.c_int(fd), span, found, ctypes.c_uint(0)) != 0:
        raise OSError(ctypes.get_errno(), "cachestat")
    return found[0], found[1], found[2]


def cached_pages(fd):
    return cachestat(fd)[0]


def is_dirty(fd):
    _, dirty, writeback = cachestat(fd)
    return dirty + writeback > 0


def evict(fd):
    """Has no page of a file in the page cache."""
    os.fsync(fd)
    # A page that is being read cannot go. Here all of them are waited for: none is missing when this ends.
    assert len(os.pread(fd, os.fstat(fd).st_size, 0)) == os.fstat(fd).st_size
    for _ in range(100):
        # Who looks at pages for a moment, as the kernel does when it moves them about, has them stay, too.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if cached_pages(fd) == 0:
            return
        drop_caches()
        time.sleep(0.02)
    raise AssertionError(f"{cached_pages(fd)} pages stay in the cache")


def vectors():
    fd = create("vectors")
    pieces = [PATTERN[at : at + at % 7 * 300] for at in range(1024)]
    whole = b"".join(pieces)
    count = os.writev(fd, pieces)
    assert count == len(whole), count
    same("writev", contents("vectors"), whole)
    os.lseek(fd, 5, os.SEEK_SET)
    buffers = [bytearray(size) for size in (0, 1, 4095, 4097, 0, 70000)]
    count = os.readv(fd, buffers)
    same("readv", b"".join(buffers), whole[5 : 5 + count])
    assert count == sum(map(len, buffers)) and os.lseek(fd, 0, os.SEEK_CUR) == 5 + count
    assert os.pwritev(fd, [b"", b"ab", b"", b"cd"], len(whole) - 1) == 4
    assert os.pwritev(fd, [], 0) == 0
    whole = whole[:-1] + b"abcd"
    assert os.preadv(fd, buffers, len(whole) - 4) == 4
    assert bytes(buffers[1] + buffers[2][:3]) == b"abcd"
    same("pwritev", contents("vectors"), whole)
    refused(errno.EINVAL, "more pieces than there may be", os.writev, fd, [b"x"] * 1025)
    # One call for more than a folio has, over folios that are there and that are not.
    big = PATTERN * 5
    assert os.pwritev(fd, [big[:3000001], big[3000001:]], 12345) == len(big)
    whole = whole[:12345] + big
    same("a large write", contents("vectors"), whole)
    os.close(fd)


def flags():
    fd = create("flags")
    os.write(fd, PATTERN[:5000])
    os.lseek(fd, 7, os.SEEK_SET)
    assert os.pwritev(fd, [b"end"], 0, RWF_APPEND) == 3
    assert os.pwritev(fd, [b"END"], -1, RWF_APPEND) == 3
    place = os.lseek(fd, 0, os.SEEK_CUR)
    assert place == 5006, f"an append at the file's own position left it at {place}"
    same("RWF_APPEND", contents("flags"), PATTERN[:5000] + b"endEND")

    append = reopen("flags", os.O_APPEND)
    assert os.pwrite(append, b"tail", 0) == 4
    assert os.pwritev(append, [b"HEAD"], 0, RWF_NOAPPEND) == 4
    assert os.write(append, b"!") == 1
    model = b"HEAD" + PATTERN[4:5000] + b"endENDtail!"
    same("O_APPEND and RWF_NOAPPEND", contents("flags"), model)
    refused(errno.EINVAL, "append and do not", os.pwritev, fd, [b"x"], 0, RWF_APPEND | RWF_NOAPPEND)
    refused(errno.EOPNOTSUPP, "a flag that there is not", os.pwritev, fd, [b"x"], 0, 1 << 14)
    refused(errno.EOPNOTSUPP, "an atomic write that is not direct", os.pwritev, fd, [b"x" * 4096], 0, RWF_ATOMIC)
    for flag in (RWF_DSYNC, RWF_SYNC, RWF_HIPRI, RWF_DSYNC | RWF_SYNC | RWF_HIPRI):
        assert os.pwritev(fd, [b"%02x" % flag], flag * 100, flag) == 2
        model = model[: flag * 100] + b"%02x" % flag + model[flag * 100 + 2 :]
    same("RWF_DSYNC, RWF_SYNC, RWF_HIPRI", contents("flags"), model)
    for flag in (RWF_DSYNC, RWF_SYNC, RWF_HIPRI):
        buffer = bytearray(100)
        assert os.preadv(fd, [buffer], 0, flag) == 100
        same(f"a read with {flag}", bytes(buffer), model[:100])
    os.close(append)
    os.close(fd)


def remount(options):
    """Mounts again what is mounted, with other options."""
    text, flags, remounted = ctypes.c_char_p, ctypes.c_ulong, 32
    function("mount", text, text, text, flags, text)(None, DIR.encode(), None, remounted, options.encode())


def flushed(work):
    """How many flushes the disk is asked for by some work."""
    before = int(disk("stat").split()[15])
    work()
    return int(disk("stat").split()[15]) - before


def durable():
    """Requests that say so are on stable media when they end, others are not."""
    fd = create("durable")
    os.write(fd, PATTERN[:65536])
    os.fsync(fd)
    os.sync()
    # No commit of the journal but those that are asked for.
    remount("commit=300")
    for flag in (RWF_DSYNC, RWF_SYNC, 0):
        count = flushed(lambda: os.pwritev(fd, [PATTERN[:100]], 500, flag))
        if "write back" in disk("queue/write_cache"):
            assert (count > 0) == (flag != 0), f"{count} flushes for a write with flag {flag}"
    # After RWF_DSYNC nothing of the range is dirty; after sync_file_range neither.
    os.fsync(fd)
    assert not is_dirty(fd)
    os.pwritev(fd, [PATTERN[:100]], 500, 0)
    assert is_dirty(fd), "a page that was written to is not dirty"
    os.pwritev(fd, [PATTERN[:100]], 500, RWF_DSYNC)
    assert not is_dirty(fd), "dirty after RWF_DSYNC"
    sync_file_range = function("sync_file_range", INT, OFFSET, OFFSET, ctypes.c_uint)
    for offset, length, flags in ((0, 0, 7), (30000, 5000, 7), (0, 65536, 2)):
        os.pwrite(fd, PATTERN[:2000], 31000)
        sync_file_range(fd, offset, length, flags)
        if flags == 7:
            assert not is_dirty(fd), f"dirty after sync_file_range({offset}, {length})"
    sync_file_range(fd, 0, 0, 7)
    assert not is_dirty(fd)
    refused(errno.EINVAL, "a negative range", sync_file_range, fd, -1, 5, 7)
    refused(errno.EINVAL, "flags that there are not", sync_file_range, fd, 0, 5, 8)
    os.close(fd)


def nowait():
    """Reads and writes that must not wait: those that need not are done, the others refused without a trace."""
    fd = create("nowait")
    os.write(fd, PATTERN[: 64 * PAGE])
    buffer = bytearray(PAGE)
    assert os.preadv(fd, [buffer], 3 * PAGE, RWF_NOWAIT) == PAGE
    same("a read of what is cached", bytes(buffer), PATTERN[3 * PAGE : 4 * PAGE])
    for page in range(0, 64, 4):
        evict(fd)
        # The kernel starts to read, and does not wait for it: a fast disk may be fast enough. What a disk that does not
        # answer makes of it is for the test reads-nowait.
        try:
            assert os.preadv(fd, [buffer], page * PAGE, RWF_NOWAIT) == PAGE
            same("a read that did not wait", bytes(buffer), PATTERN[page * PAGE : (page + 1) * PAGE])
        except BlockingIOError:
            pass
    assert os.preadv(fd, [buffer], 64 * PAGE, RWF_NOWAIT) == 0
    os.close(fd)

    fd = create("nowait-write")
    model = bytearray(PATTERN[: 64 * PAGE])
    os.write(fd, model)
    if FSTYPE == "ext4":
        refused(errno.EOPNOTSUPP, "a write to the page cache", os.pwritev, fd, [b"x"], 0, RWF_NOWAIT)
        os.close(fd)
        return

    def eventually(what, data, offset):
        def attempt():
            os.pwrite(fd, b"!", 0)
            return os.pwritev(fd, [data], offset, RWF_NOWAIT)

        count = until_it_need_not_wait(what, attempt)
        model[0:1] = b"!"
        assert 0 < count <= len(data)
        model[offset : offset + count] = data[:count]
        return count

    new = bytes_of("new", 16 * PAGE)
    assert eventually("a few bytes", new[:10], 5000) == 10
    assert eventually("over pages", new, 777) == len(new)
    eventually("at the end", new[: 3 * PAGE], len(model))
    eventually("a byte at an end in a block", new[:1], len(model))
    eventually("from an end in a block on", new[: 5 * PAGE], len(model))
    same("cached", contents("nowait-write"), bytes(model))
    os.fsync(fd)
    eventually("clean pages", new[: 2 * PAGE + 5], 9000)
    same("cached and clean", contents("nowait-write"), bytes(model))
    evict(fd)
    for _ in range(50):
        # A part of a block that would have to be read. What is written to before is another page.
        os.pwrite(fd, b"!", 0)
        refused(errno.EAGAIN, "a part of a block that is not cached", os.pwritev, fd, [b"x"], 40 * PAGE + 5, RWF_NOWAIT)
    refused(errno.EAGAIN, "durable at once", os.pwritev, fd, [b"x"], 0, RWF_NOWAIT | RWF_DSYNC)
    refused(errno.EAGAIN, "behind the end, which is in a block", os.pwritev, fd, [b"x"], len(model) + PAGE, RWF_NOWAIT)
    same("after what was refused", contents("nowait-write"), bytes(model))
    os.close(fd)


def dontcache():
    """What such requests bring into the page cache leaves it again."""
    fd = create("dontcache")
    assert os.pwritev(fd, [PATTERN], 0, RWF_DONTCACHE) == len(PATTERN)
    os.fsync(fd)
    # Writeback that has ended drops its pages a little later.
    deadline = time.monotonic() + 60
    while cached_pages(fd) > 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    left = cached_pages(fd)
    assert left == 0, f"{left} pages of a write stay in the cache"
    buffer = bytearray(len(PATTERN))
    assert os.preadv(fd, [buffer], 0, RWF_DONTCACHE) == len(PATTERN)
    same("read", bytes(buffer), PATTERN)
    left = cached_pages(fd)
    assert left == 0, f"{left} pages of a read stay in the cache"
    # Pages that others want stay.
    same("read again", contents("dontcache"), PATTERN)
    assert os.preadv(fd, [buffer], 0, RWF_DONTCACHE) == len(PATTERN)
    assert cached_pages(fd) >= len(PATTERN) // PAGE
    assert os.pwritev(fd, [b"part"], 5000, RWF_DONTCACHE) == 4
    same("overwritten in part", contents("dontcache"), PATTERN[:5000] + b"part" + PATTERN[5004:])
    os.close(fd)


def advice():
    fd = create("advice")
    os.write(fd, PATTERN)
    os.fsync(fd)
    for kind in ("NORMAL", "SEQUENTIAL", "RANDOM", "NOREUSE"):
        os.posix_fadvise(fd, 0, 0, getattr(os, f"POSIX_FADV_{kind}"))
        evict(fd)
        assert os.pread(fd, 10, 70000) == PATTERN[70000:70010]
    evict(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_NORMAL)
    os.posix_fadvise(fd, 0, len(PATTERN), os.POSIX_FADV_WILLNEED)
    assert cached_pages(fd) > 16, "WILLNEED reads nothing"
    same("read ahead", contents("advice"), PATTERN)
    # A part that is dirty is not lost by being unwanted.
    os.pwrite(fd, b"dirty", 300000)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    same("unwanted", contents("advice"), PATTERN[:300000] + b"dirty" + PATTERN[300005:])
    os.close(fd)


def pipes():
    source = create("pipe-source")
    os.write(source, PATTERN)
    fd = create("pipe-target")
    model = bytearray()

    def through_pipe(fill, drain):
        """Moves data through a pipe, as much at a time as fits."""
        read_end, write_end = os.pipe()
        done = 0
        while True:
            count = fill(write_end, done)
            if count == 0:
                break
            left = count
            while left:
                moved = drain(read_end, done, left)
                assert moved > 0
                done += moved
                left -= moved
        os.close(read_end)
        os.close(write_end)
        return done

    # Pages of the source's cache go into the pipe, and from there to the target.
    base = 1234
    moved = through_pipe(
        lambda pipe, done: os.splice(source, pipe, 100001, offset_src=done),
        lambda pipe, done, left: os.splice(pipe, fd, left, offset_dst=base + done),
    )
    assert moved == len(PATTERN)
    model[:] = bytes(base) + PATTERN
    same("splice in and out", contents("pipe-target"), bytes(model))
    # Not from the cache: the source is read for it.
    evict(source)
    read_end, write_end = os.pipe()
    assert os.splice(source, write_end, 5000, offset_src=300) == 5000
    same("spliced from the disk", os.read(read_end, 5000), PATTERN[300:5300])
    # A pipe has a page of the file: what it holds and what the file holds later are two things only once it is copied.
    other_read, other_write = os.pipe()
    assert os.splice(source, write_end, 5000, offset_src=0) == 5000
    tee = function("tee", INT, INT, SIZE, ctypes.c_uint)
    assert tee(read_end, other_write, 5000, 0) == 5000
    assert os.splice(read_end, fd, 5000, offset_dst=0) == 5000
    assert os.splice(other_read, fd, 5000, offset_dst=7000) == 5000
    model[0:5000] = PATTERN[:5000]
    model[7000:12000] = PATTERN[:5000]
    same("tee", contents("pipe-target"), bytes(model))
    # Pages of the process, lent and given.
    for flag in (0, 8):
        m = memory(3 * PAGE, PATTERN[50 : 50 + 3 * PAGE])
        address = ctypes.addressof(ctypes.c_char.from_buffer(m))
        vector = (ctypes.c_void_p * 2)(address, 3 * PAGE)
        vmsplice = function("vmsplice", INT, POINTER, SIZE, ctypes.c_uint)
        assert vmsplice(write_end, vector, 1, flag) == 3 * PAGE
        at = len(model) - 100
        left = 3 * PAGE
        while left:
            moved = os.splice(read_end, fd, left, offset_dst=at + 3 * PAGE - left)
            assert moved > 0
            left -= moved
        model[at:] = PATTERN[50 : 50 + 3 * PAGE]
        same("vmsplice", contents("pipe-target"), bytes(model))
    append = reopen("pipe-target", os.O_APPEND)
    os.write(write_end, b"x")
    refused(errno.EINVAL, "splice to a file that is appended to", os.splice, read_end, append, 1)
    os.close(append)
    # Past the end of the source there is nothing, and it is not an error.
    assert os.splice(source, write_end, 100, offset_src=len(PATTERN)) == 0
    # To and from a file that bypasses the page cache.
    direct = reopen("pipe-target", os.O_DIRECT)
    assert os.splice(direct, other_write, 8 * PAGE, offset_src=0) > 0
    same("spliced directly", os.read(other_read, PAGE), bytes(model[:PAGE]))
    for descriptor in (read_end, write_end, other_read, other_write, direct):
        os.close(descriptor)

    sent = create("sent")
    os.lseek(source, 0, os.SEEK_SET)
    done = 0
    while done < len(PATTERN):
        done += os.sendfile(sent, source, done, 300001)
    assert os.sendfile(sent, source, done, 1) == 0
    same("sendfile to a file", contents("sent"), PATTERN)
    ours, theirs = socket.socketpair()
    assert os.sendfile(ours.fileno(), source, 4000, 20000) == 20000
    got = b""
    while len(got) < 20000:
        got += theirs.recv(65536)
    same("sendfile to a socket", got, PATTERN[4000:24000])
    ours.close()
    theirs.close()

    copy = create("copied")
    done = 0
    while done < 500000:
        count = os.copy_file_range(source, copy, 500000 - done, 100 + done, 3333 + done)
        assert count > 0
        done += count
    same("copy_file_range", contents("copied"), bytes(3333) + PATTERN[100:500100])
    assert os.copy_file_range(copy, copy, 5000, 4000, 700000) == 5000
    same("within a file", contents("copied")[700000:], contents("copied")[4000:9000])
    refused(errno.EINVAL, "onto itself", os.copy_file_range, copy, copy, 5000, 4000, 8000)
    assert os.copy_file_range(source, copy, 10, len(PATTERN), 0) == 0
    # From a file system of another kind.
    with open("/tmp/ferrofs-elsewhere", "wb") as file:
        file.write(PATTERN[:70000])
    elsewhere = os.open("/tmp/ferrofs-elsewhere", os.O_RDONLY)
    done = 0
    while done < 70000:
        done += os.sendfile(copy, elsewhere, done, 70000)
    os.close(elsewhere)
    for descriptor in (source, fd, sent, copy):
        os.close(descriptor)


def loop_devices():
    """A file under a loop device, whose requests come as vectors of pages, buffered and direct."""
    # Where loop devices are built in there is nothing to load.
    subprocess.run(["modprobe", "loop"], stderr=subprocess.DEVNULL)
    if not os.path.exists("/dev/loop-control"):
        print("there are no loop devices here")
        return
    for direct in ("off", "on"):
        name = f"loop-{direct}"
        fd = create(name)
        os.ftruncate(fd, 4 << 20)
        os.pwrite(fd, PATTERN, 1 << 20)
        os.fsync(fd)
        command = ["losetup", "--find", "--show", f"--direct-io={direct}", path(name)]
        device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        try:
            block = os.open(device, os.O_RDWR)
            found = os.pread(block, 4 << 20, 0)
            same(f"{name}: read", found, bytes(1 << 20) + PATTERN + bytes(2 << 20))
            rng = random.Random(4)
            model = bytearray(found)
            for _ in range(100):
                at = rng.randrange(len(model) - 70000)
                data = rng.randbytes(rng.randrange(1, 70000))
                assert os.pwrite(block, data, at) == len(data)
                model[at : at + len(data)] = data
            os.fsync(block)
            m = memory(256 * 1024, PATTERN[: 256 * 1024])
            unbuffered = os.open(device, os.O_RDWR | os.O_DIRECT)
            for at in range(0, 2 << 20, 512 * 1024):
                assert os.pwritev(unbuffered, [m], at) == len(m)
                model[at : at + len(m)] = m[:]
            os.fsync(unbuffered)
            os.close(unbuffered)
            os.close(block)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)
        same(f"{name}: written", contents(name), bytes(model))
        os.close(fd)


def core_dump():
    """The kernel itself writes to a file: from its own memory."""
    pattern = "/proc/sys/kernel/core_pattern"
    if not os.path.exists(pattern):
        print("this kernel dumps no cores")
        return
    with open(pattern) as file:
        before = file.read()
    with open(pattern, "w") as file:
        file.write(path("core"))
    try:

        def abort():
            resource.setrlimit(resource.RLIMIT_CORE, (16 << 20, 16 << 20))
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            os.abort()

        assert signal_of(abort) == signal.SIGABRT
    finally:
        with open(pattern, "w") as file:
            file.write(before)
    name = next(name for name in os.listdir(DIR) if name.startswith("core"))
    core = contents(name)
    assert len(core) > 1 << 20 and core.startswith(b"\x7fELF"), f"{len(core)} bytes: {core[:16]}"


def limits():
    fd = create("limited")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))
    try:
        assert os.pwrite(fd, PATTERN[:70000], 60000) == 40000, "a write over the limit is not cut at it"
        assert os.pwrite(fd, PATTERN[:70000], 0) == 70000
        refused(errno.EFBIG, "a write at the limit", os.pwrite, fd, b"x", 100000)
        refused(errno.EFBIG, "an append at the limit", os.pwritev, fd, [b"x"], 0, RWF_APPEND)
        refused(errno.EFBIG, "a size behind the limit", os.ftruncate, fd, 100001)
        os.ftruncate(fd, 100000)
        direct = reopen("limited", os.O_DIRECT)
        m = memory(PAGE)
        refused(errno.EFBIG, "a direct write behind the limit", os.pwritev, direct, [m], 32 * PAGE)
        os.close(direct)

        def over():
            os.pwrite(fd, b"x", 100000)

        assert signal_of(over) == signal.SIGXFSZ
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    same("limited", contents("limited"), PATTERN[:70000] + PATTERN[10000:40000])
    os.close(fd)

    fd = create("largest")
    largest = ((1 << 32) - 1) * BLOCK
    refused(errno.EFBIG, "a byte behind the largest file", os.pwrite, fd, b"x", largest)
    refused(errno.EFBIG, "a size larger than the largest", os.ftruncate, fd, largest + 1)
    assert os.fstat(fd).st_size == 0
    os.ftruncate(fd, largest)
    assert os.pwrite(fd, b"0123456789", largest - 4) == 4, "a write over the largest size is not cut at it"
    assert os.pread(fd, 10, largest - 6) == b"\0\0" + b"0123"
    os.fsync(fd)
    assert os.lseek(fd, 0, os.SEEK_DATA) == largest - BLOCK
    assert os.lseek(fd, largest - BLOCK, os.SEEK_HOLE) == largest
    direct = reopen("largest", os.O_DIRECT)
    assert os.pwritev(direct, [memory(BLOCK, PATTERN[:BLOCK])], largest - 3 * BLOCK) == BLOCK
    assert os.pread(fd, BLOCK, largest - 3 * BLOCK) == PATTERN[:BLOCK]
    os.close(direct)
    os.close(fd)
    # Nobody is to read 16 TiB of zeroes afterwards.
    os.unlink(path("largest"))


def privileges():
    """A write by one without privileges takes the set-user-ID and set-group-ID bits away, by whatever way it comes."""
    source = create("privileged-source")
    os.write(source, PATTERN[:PAGE])

    def spliced(fd):
        read_end, write_end = os.pipe()
        os.write(write_end, b"x" * 100)
        os.splice(read_end, fd, 100, offset_dst=0)

    ways = {
        "write": lambda fd: os.write(fd, b"x"),
        "dsync": lambda fd: os.pwritev(fd, [b"x"], 0, RWF_DSYNC),
        "splice": spliced,
        "copy": lambda fd: os.copy_file_range(source, fd, 100, 0, 0),
        "truncate": lambda fd: os.ftruncate(fd, 1),
        "grow": lambda fd: os.ftruncate(fd, 3 * PAGE),
    }
    for way, work in list(ways.items()) + [("direct", None)]:
        name = f"privileged-{way}"
        fd = create(name, os.O_DIRECT if way == "direct" else 0)
        m = memory(PAGE, PATTERN[:PAGE])
        os.pwritev(fd, [m], 0)
        if way == "direct":
            work = lambda fd: os.pwritev(fd, [m], 0)
        os.setxattr(path(name), "security.capability", struct.pack("<IIIII", 0x02000000, 1, 0, 0, 0))
        os.fchmod(fd, 0o6777)
        work(fd)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o6777, f"{way}: root's write took bits away"
        assert "security.capability" not in os.listxattr(path(name)), f"{way}: the file's capabilities stay"

        def unprivileged():
            os.setresuid(65534, 65534, 65534)
            work(fd)

        assert signal_of(unprivileged) == 0
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        assert mode == 0o777, f"{way}: mode {mode:o} after a write"
        # Without execution for the group the bit means something else, and stays for members and goes for others.
        os.close(fd)
    os.close(source)


def times():
    """What moves the times of modification and change, and what does not."""
    fd = create("times")
    os.write(fd, PATTERN[: 4 * PAGE])
    m = mapping(fd, 4 * PAGE)
    pipe = os.pipe()

    def spliced():
        os.write(pipe[1], b"x")
        os.splice(pipe[0], fd, 1, offset_dst=0)

    def mapped():
        os.fsync(fd)
        m[PAGE : PAGE + 1] = b"y"
        m.flush()

    def moved(work):
        old = os.stat(path("times"))
        next_tick()
        work()
        new = os.stat(path("times"))
        return new.st_mtime_ns > old.st_mtime_ns, new.st_ctime_ns > old.st_ctime_ns

    for what, work in {
        "write": lambda: os.pwrite(fd, b"x", 0),
        "append": lambda: os.pwritev(fd, [b"x"], 0, RWF_APPEND),
        "dontcache": lambda: os.pwritev(fd, [b"x"], 0, RWF_DONTCACHE),
        "splice": spliced,
        "a store to a mapping": mapped,
        "truncate": lambda: os.ftruncate(fd, 3 * PAGE),
        "grow": lambda: os.ftruncate(fd, 4 * PAGE),
        "the same size": lambda: os.truncate(path("times"), 4 * PAGE),
    }.items():
        assert moved(work) == (True, True), f"{what} does not move the times"
    for what, work in {
        "an empty write": lambda: os.pwrite(fd, b"", 0),
        "a read": lambda: os.pread(fd, 100, 0),
        "fsync": lambda: os.fsync(fd),
        "a load from a mapping": lambda: m[0:1],
        "a seek": lambda: os.lseek(fd, 0, os.SEEK_DATA),
    }.items():
        assert moved(work) == (False, False), f"{what} moves the times"
    m.close()
    for descriptor in (fd, *pipe):
        os.close(descriptor)


vectors()
flags()
durable()
nowait()
dontcache()
advice()
pipes()
loop_devices()
core_dump()
limits()
privileges()
times()
