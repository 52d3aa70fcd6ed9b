# SPDX-License-Identifier: GPL-2.0
#
# Writes whose source goes away in the middle: what was copied counts, nothing else is shown. The disk was full of a
# pattern before the file system was made, and so is memory that was freed lately.


class Source:
    """Pages of memory of which the last ones cannot be read."""

    def __init__(self, kind, pages):
        self.pages = pages
        self.length = pages * PAGE
        if kind == "protected":
            self.address = raw_mmap(None, self.length + 8 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, 0x22, -1, 0)
            raw_mprotect(self.address + self.length, 8 * PAGE, 0)
        else:
            # A mapping that goes on behind the end of its file: touching that is SIGBUS, or EFAULT for the kernel.
            fd = os.open("/tmp/ferrofs-source", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.ftruncate(fd, self.length)
            self.address = raw_mmap(None, self.length + 8 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, 1, fd, 0)
            os.close(fd)

    def fill(self, number):
        """Bytes that no earlier call gave at the same places."""
        start = number * 37 % len(OLD)
        data = (OLD[::-1] * 2)[start : start + self.length]
        ctypes.memmove(self.address, data, self.length)
        return data

    def close(self):
        raw_munmap(self.address, self.length + 8 * PAGE)


def poison(megabytes=16):
    """Fills free memory with a pattern, so that a page which is shown without being zeroed gives itself away."""
    m = mmap.mmap(-1, megabytes << 20)
    for at in range(0, megabytes << 20, PAGE):
        m[at : at + 8] = b"\xdd" * 8
    m[:PAGE] = b"\xdd" * PAGE
    m.close()


def one(kind, source, state, offset, good, asked, flags=0):
    """Writes `asked` bytes at `offset` of a file in some state, of which only the first `good` can be read."""
    what = f"{kind}, {state}, {asked} bytes at {offset} of which {good} are there, flags {flags}"
    name = "faulty"
    size = 40 * PAGE
    fd = create(name)
    model = bytearray()
    if state != "new":
        model = bytearray(size)
        if state == "hole":
            os.ftruncate(fd, size)
        else:
            model[:] = OLD
            os.pwrite(fd, OLD, 0)
            if state == "disk":
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            elif state == "dirty part":
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.pwrite(fd, b"part", offset + good + 10)
                model[offset + good + 10 : offset + good + 14] = b"part"
            elif state == "preallocated":
                os.ftruncate(fd, 0)
                if not preallocate(fd, 0, 0, size):
                    os.ftruncate(fd, size)
                model = bytearray(size)
    global rounds
    rounds += 1
    data = source.fill(rounds)[source.length - good :]
    try:
        count = raw_pwritev2(fd, source.address + source.length - good, asked, offset, flags)
    except OSError as error:
        # A write that must not wait leaves it to others to find out why memory is not there.
        assert error.errno == (errno.EAGAIN if flags else errno.EFAULT), f"{what}: {error}"
        count = 0
    assert count <= good, f"{what}: {count} bytes are said to be written"
    # The kernel promises no more than that it goes on as far as whole blocks or folios do; a write of which a page at
    # least was there is no failure.
    if good >= 2 * PAGE and not flags:
        assert count > 0, f"{what}: nothing was written"
    if count:
        model.extend(bytes(max(0, offset + count - len(model))))
        model[offset : offset + count] = data[:count]
    assert os.fstat(fd).st_size == len(model), f"{what}: size {os.fstat(fd).st_size}, not {len(model)}"
    same(what, contents(name), bytes(model))
    # What follows in the same block or folio is the file's as well.
    tail = len(model) + 3 * PAGE
    os.pwrite(fd, b"tail", tail)
    model.extend(bytes(tail - len(model)) + b"tail")
    same(f"{what}, extended", contents(name), bytes(model))
    if rounds % 3 == 0:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        same(f"{what}, from the disk", contents(name), bytes(model))
    os.close(fd)
    os.unlink(path(name))
    return count


class Vector(ctypes.Structure):
    _fields_ = [("base", POINTER), ("length", SIZE)]


def raw_pwritev2(fd, address, length, offset, flags):
    vector = Vector(address, length)
    call = function("pwritev2", INT, POINTER, INT, OFFSET, INT)
    return call(fd, ctypes.byref(vector), 1, offset, flags)


def sources_that_end():
    counts = 0
    for kind in ("protected", "truncated"):
        source = Source(kind, 20)
        for state in ("new", "hole", "cached", "disk", "dirty part", "preallocated"):
            for offset, good, asked in [
                (0, 100, 200),
                (0, BLOCK, 2 * BLOCK),
                (0, PAGE, 2 * PAGE),
                (100, 2 * PAGE + 17, 4 * PAGE),
                (BLOCK - 1, 1, 3 * BLOCK),
                (BLOCK + 7, BLOCK - 7, 5 * PAGE),
                (3 * PAGE - 5, 5 * PAGE + 1, 8 * PAGE),
                (2 * PAGE, 16 * PAGE - 1, 20 * PAGE),
                (512, 3 * BLOCK + 511, 3 * BLOCK + 513),
                (PAGE + BLOCK // 2, 19 * PAGE + 3, 20 * PAGE),
            ]:
                for flags in (0, RWF_NOWAIT) if FSTYPE != "ext4" and state == "cached" else (0,):
                    counts += one(kind, source, state, offset, good, asked, flags) > 0
        source.close()
    assert counts > 60, f"only {counts} of the writes did something"


def sources_of_the_same_file():
    """The source is a mapping of the very page that is written to."""
    for state in ("hole", "cached", "disk"):
        for source, target, length in [
            (0, 0, PAGE),
            (100, 50, PAGE),
            (50, 100, 3 * PAGE),
            (0, PAGE, PAGE),
            (5 * PAGE + 1, 5 * PAGE, 16 * PAGE),
            (0, 2 * PAGE, 30 * PAGE),
        ]:
            what = f"{state}: {length} bytes from {source} to {target} of one file"
            fd = create("same")
            size = 40 * PAGE
            if state == "hole":
                model = bytearray(size)
                os.ftruncate(fd, size)
            else:
                model = bytearray(OLD)
                os.pwrite(fd, OLD, 0)
            os.fsync(fd)
            if state == "disk":
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            m = Beyond(fd, size)
            count = raw_write(fd, m.address + source, length, target)
            assert count == length, f"{what}: {count}"
            if source >= target or source + length <= target:
                # Folio after folio is copied from its start to its end, so that bytes are read before they change.
                model[target : target + length] = model[source : source + length]
                same(what, contents("same"), bytes(model))
            found = contents("same")
            same(f"{what}, mapped", m.load(0, size), found)
            assert len(found) == size
            same(f"{what}, before", found[:target], bytes(model[:target]))
            same(f"{what}, behind", found[target + length :], bytes(model[target + length :]))
            m.close()
            os.close(fd)
            os.unlink(path("same"))


def vectors_with_holes():
    """Several pieces of memory of which one in the middle is not there."""
    fd = create("vector")
    hole = raw_mmap(None, PAGE, 0, 0x22, -1, 0)
    m = memory(3 * PAGE, bytes_of("vector", 3 * PAGE))
    address = ctypes.addressof(ctypes.c_char.from_buffer(m))
    pieces = (Vector * 3)(Vector(address, 2 * PAGE + 100), Vector(hole, 100), Vector(address, 100))
    pwritev = function("pwritev", INT, POINTER, INT, OFFSET)
    count = pwritev(fd, pieces, 3, 0)
    assert 0 < count <= 2 * PAGE + 100, count
    same("a vector with a hole", contents("vector"), m[:count])
    refused(errno.EFAULT, "a vector that begins with a hole", pwritev, fd, ctypes.byref(pieces, ctypes.sizeof(Vector)), 2, 0)
    same("a vector with a hole", contents("vector"), m[:count])
    # Reading into memory that is not there.
    preadv = function("preadv", INT, POINTER, INT, OFFSET)
    assert preadv(fd, pieces, 2, 0) == count
    refused(errno.EFAULT, "a read to nowhere", preadv, fd, ctypes.byref(pieces, ctypes.sizeof(Vector)), 1, 0)
    raw_munmap(hole, PAGE)
    os.close(fd)


OLD = bytes_of("old", 40 * PAGE)
rounds = 0
poison()
sources_that_end()
sources_of_the_same_file()
vectors_with_holes()
with open(path("left"), "wb") as file:
    file.write(OLD)
