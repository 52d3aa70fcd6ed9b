# SPDX-License-Identifier: GPL-2.0
#
# Direct I/O: alignment, holes, unwritten blocks, sizes, and coherence with the page cache and mappings. The disk was full
# of a pattern before the file system was made: a byte that is shown and was never written gives itself away.

STATX_DIOALIGN, STATX_DIO_READ_ALIGN = 0x2000, 0x20000


def statx(name):
    """The mask of the answer, and the alignment of memory, of offsets, and of offsets of reads."""
    buffer = ctypes.create_string_buffer(256)
    call = function("statx", INT, ctypes.c_char_p, INT, ctypes.c_uint, POINTER)
    call(-100, path(name).encode(), 0, STATX_DIOALIGN | STATX_DIO_READ_ALIGN | 0x7FF, buffer)
    word = lambda at: int.from_bytes(buffer.raw[at : at + 4], "little")
    return word(0), word(152), word(156), word(180)


def sector_size():
    return int(disk("queue/logical_block_size"))


def read_direct(fd, length, offset):
    m = memory(length)
    count = os.preadv(fd, [memoryview(m)[:length]], offset)
    return m[:count]


def write_direct(fd, data, offset, flags=0):
    return os.pwritev(fd, [memoryview(memory(len(data), data))[: len(data)]], offset, flags)


def alignment():
    fd = create("aligned", os.O_DIRECT)
    mask, memory_align, offset_align, read_align = statx("aligned")
    sector = sector_size()
    assert mask & STATX_DIOALIGN, f"statx does not tell the alignment: {mask:#x}"
    assert offset_align == sector, f"offsets of {offset_align} and sectors of {sector}"
    dma_alignment = int(disk("queue/dma_alignment"))
    assert memory_align == dma_alignment + 1 > 1, f"memory of {memory_align} and DMA of {dma_alignment}"
    if FSTYPE != "ext4":
        assert mask & STATX_DIO_READ_ALIGN and read_align == sector, (hex(mask), read_align)
    assert not statx(".")[0] & STATX_DIOALIGN, "a directory has an alignment for direct I/O"

    data = bytes_of("aligned", 4 * PAGE)
    assert write_direct(fd, data, 0) == len(data)
    m = memory(8 * PAGE, b"x" * 8 * PAGE)
    view = memoryview(m)
    for what, start, length, offset in [
        ("offset", 0, sector, 1),
        ("offset half a sector", 0, sector, sector // 2),
        ("length", 0, sector - 1, 0),
        ("length over", 0, sector + 1, sector),
        ("memory", 1, sector, 0),
        ("memory, a page", memory_align // 2, PAGE, 0),
    ]:
        refused(errno.EINVAL, f"read, {what}", os.preadv, fd, [view[start : start + length]], offset)
        refused(errno.EINVAL, f"write, {what}", os.pwritev, fd, [view[start : start + length]], offset)
        refused(errno.EINVAL, f"append, {what}", os.pwritev, fd, [view[start : start + length]], offset + 4 * PAGE)
    same("after writes that were refused", contents("aligned"), data)
    # The smallest alignment that is told is enough.
    assert os.pwritev(fd, [view[memory_align : memory_align + sector]], 2 * sector) == sector
    data = data[: 2 * sector] + b"x" * sector + data[3 * sector :]
    same("after a write from memory that is just aligned", contents("aligned"), data)
    os.close(fd)


def ends():
    """Reads at and behind the end; writes of parts of blocks in holes, behind the end, and after it."""
    sector = sector_size()
    fd = create("ends", os.O_DIRECT)
    model = bytearray()

    def put(offset, length):
        data = bytes_of(f"ends {offset} {length}", length)
        assert write_direct(fd, data, offset) == length
        model.extend(bytes(max(0, offset + length - len(model))))
        model[offset : offset + length] = data
        found = read_direct(fd, len(model) + 4 * PAGE & -PAGE, 0)
        same(f"{length} bytes at {offset}, read directly", found, bytes(model))
        same(f"{length} bytes at {offset}, read", contents("ends"), bytes(model))

    put(sector, sector)
    put(0, sector)
    put(3 * sector, sector)
    put(5 * BLOCK + sector, sector)
    put(9 * BLOCK, 3 * BLOCK)
    put(2 * BLOCK + 2 * sector % BLOCK, sector)
    put(12 * BLOCK + sector, 2 * BLOCK)
    put(8 * BLOCK - sector, 4 * BLOCK)
    assert read_direct(fd, PAGE, len(model)) == b""
    assert read_direct(fd, PAGE, len(model) + 16 * PAGE) == b""
    os.truncate(path("ends"), len(model) - 100)
    del model[-100:]
    tail = (len(model) - 1) // sector * sector
    same("up to an end in a sector", read_direct(fd, PAGE, tail), bytes(model[tail:]))
    # The end is in a sector now, and a write begins behind it: what lies between reads as zeroes.
    put((len(model) + 4 * BLOCK) // BLOCK * BLOCK, BLOCK)
    # Blocks that were reserved and never written.
    if preallocate(fd, 0, 64 * BLOCK, 16 * BLOCK):
        model.extend(bytes(80 * BLOCK - len(model)))
        same("preallocated", read_direct(fd, 96 * BLOCK, 0), bytes(model))
        put(66 * BLOCK + sector, sector)
        put(70 * BLOCK, 4 * BLOCK)
    # A mapping shows zeroes behind the end, whatever the last block on the disk holds there.
    drop_caches()
    whole = (len(model) + PAGE - 1) // PAGE * PAGE
    m = Beyond(fd, whole)
    same("a mapping of all", m.load(0, whole), bytes(model) + bytes(whole - len(model)))
    m.close()
    os.close(fd)


def coherent():
    """Direct and buffered reads and writes, mappings and truncations of one file, against a model."""
    size = 64 * PAGE
    sector = sector_size()
    rng = random.Random(BLOCK)
    direct = create("coherent", os.O_DIRECT)
    cached = reopen("coherent")
    os.ftruncate(cached, size)
    model = bytearray(size)
    m = mapping(cached, size)

    def data(length):
        return rng.randbytes(length)

    for step in range(600):
        unit = rng.choice([sector, BLOCK, PAGE])
        start = rng.randrange(size // unit) * unit
        length = min(rng.randrange(1, 9) * unit, size - start)
        end = start + length
        what = rng.choice("ddbbmmDBMtsp")
        where = f"step {step}, {what}, {length} bytes at {start}"
        if what == "d":
            new = data(length)
            assert write_direct(direct, new, start) == length, where
            model[start:end] = new
        elif what == "b":
            new = data(length)
            assert os.pwrite(cached, new, start) == length, where
            model[start:end] = new
        elif what == "m":
            new = data(length)
            m[start:end] = new
            model[start:end] = new
        elif what == "D":
            same(where, read_direct(direct, length, start), bytes(model[start:end]))
        elif what == "B":
            same(where, os.pread(cached, length, start), bytes(model[start:end]))
        elif what == "M":
            same(where, m[start:end], bytes(model[start:end]))
        elif what == "t":
            # Shrunk and grown: a hole at the end.
            if rng.randrange(4) == 0:
                os.ftruncate(cached, start + 1)
                os.ftruncate(cached, size)
                model[start + 1 :] = bytes(size - start - 1)
        elif what == "s":
            os.fsync(cached)
        elif what == "p":
            # A hole where there was data, if the driver can make one.
            if preallocate(cached, 3, start, length):
                model[start:end] = bytes(length)
    same("all, directly", read_direct(direct, size, 0), bytes(model))
    same("all, cached", contents("coherent"), bytes(model))
    same("all, mapped", m[:], bytes(model))
    drop_caches()
    same("all, from the disk", contents("coherent"), bytes(model))
    m.close()
    os.close(direct)
    os.close(cached)


def nowait():
    """Requests that must not wait: what would wait is refused and changes nothing."""
    fd = create("nowait", os.O_DIRECT)
    cached = reopen("nowait")
    old, new = bytes_of("old", 16 * PAGE), bytes_of("new", 16 * PAGE)
    assert write_direct(fd, old, 0) == len(old)
    os.ftruncate(fd, 64 * PAGE)
    os.fsync(fd)

    def read(offset, length=PAGE):
        m = memory(length)
        return m[: os.preadv(fd, [m], offset, RWF_NOWAIT)]

    same("a read of blocks whose place is known", read(0, 16 * PAGE), old)
    same("a read of a hole", read(32 * PAGE), bytes(PAGE))
    refused(errno.EAGAIN, "a write to a hole", write_direct, fd, new[:PAGE], 32 * PAGE, RWF_NOWAIT)
    refused(errno.EAGAIN, "a write behind the end", write_direct, fd, new[:PAGE], 64 * PAGE, RWF_NOWAIT)
    assert os.fstat(fd).st_size == 64 * PAGE
    os.pwrite(cached, new[:PAGE], 4 * PAGE)
    refused(errno.EAGAIN, "a read of what is dirty in memory", read, 4 * PAGE)
    os.fsync(cached)
    m = memory(2 * PAGE, new[: 2 * PAGE])

    def overwrite():
        # No write, which takes as long as the disk does.
        os.utime(fd)
        return os.pwritev(fd, [m], 0, RWF_NOWAIT)

    assert until_it_need_not_wait("an overwrite", overwrite) == 2 * PAGE
    expected = new[: 2 * PAGE] + old[2 * PAGE : 4 * PAGE] + new[:PAGE] + old[5 * PAGE :] + bytes(48 * PAGE)
    same("in the end", contents("nowait"), expected)
    os.close(fd)
    os.close(cached)


def flags():
    """Direct writes with the flags of other writes."""
    fd = create("flags", os.O_DIRECT | os.O_DSYNC)
    a, b, c = (bytes_of(tag, PAGE) for tag in "abc")
    assert write_direct(fd, a, 0) == PAGE
    assert write_direct(fd, b, 0, RWF_APPEND) == PAGE
    append = reopen("flags", os.O_DIRECT | os.O_APPEND)
    assert write_direct(append, c, 0) == PAGE
    assert write_direct(append, c, 0, RWF_NOAPPEND | RWF_SYNC) == PAGE
    assert write_direct(append, a, 0, RWF_HIPRI) == PAGE
    same("appended", contents("flags"), c + b + c + a)
    # Several pieces of memory, of which one ends in the middle of a block.
    sector = sector_size()
    views = [memoryview(memory(PAGE, piece)) for piece in (a, b, c)]
    pieces = [views[0][:sector], views[1][: 3 * sector], views[2]]
    expected = a[:sector] + b[: 3 * sector] + c
    assert os.pwritev(fd, pieces, PAGE) == len(expected)
    m = [memory(PAGE), memory(2 * PAGE)]
    assert os.preadv(fd, [memoryview(m[0])[:sector], memoryview(m[1])], PAGE) == sector + 2 * PAGE
    same("in pieces", (m[0][:sector] + m[1][:])[: len(expected)], expected)
    # Memory that is not there: nothing of it counts, what was there stays or is what was given.
    hole = raw_mmap(None, 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, 0x22, -1, 0)
    raw_mprotect(hole + PAGE, PAGE, 0)
    size = os.fstat(fd).st_size
    refused(errno.EFAULT, "from memory without access", raw_write, fd, hole + PAGE, PAGE, 0)
    assert os.fstat(fd).st_size == size
    raw_munmap(hole, 2 * PAGE)
    os.close(fd)
    os.close(append)


def full():
    """The last blocks of the disk: what did not fit is an error, and the rest is whole."""
    fd = create("full", os.O_DIRECT)
    piece = bytes_of("full", 1 << 20)
    m = memory(len(piece), piece)
    offset = 0
    while True:
        try:
            count = os.pwritev(fd, [m], offset)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            break
        assert count > 0 and offset < 1 << 30
        offset += count
        m[: len(piece)] = (piece * 2)[offset % len(piece) :][: len(piece)]
    assert offset > 16 << 20, f"only {offset} bytes fit"
    os.fsync(fd)
    size = os.fstat(fd).st_size
    found = contents("full")
    for at in range(0, offset, 1 << 20):
        part = found[at : min(at + (1 << 20), offset)]
        same(f"at {at}", part, (piece * 2)[at % len(piece) :][: len(part)])
    # What belongs to the write that failed may have been written in part.
    assert size >= offset
    # Writes to blocks that are there go on.
    assert write_direct(fd, piece, 0) == len(piece)
    os.close(fd)
    os.unlink(path("full"))


def failed():
    """A write that would make the file longer and fails half way leaves no blocks behind the end."""
    good = 64 * PAGE
    length = 2 * good
    address = raw_mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, 0x22, -1, 0)
    raw_mprotect(address + good, length - good, 0)
    for size in (0, 5 * PAGE, 5 * PAGE + 100):
        fd = create("failed", os.O_DIRECT)
        old = bytes_of("failed", size)
        with open(path("failed"), "wb") as file:
            # Not on the disk yet.
            file.write(old)
        start = size // PAGE * PAGE
        try:
            count = raw_write(fd, address, length, start)
            assert 0 < count <= good, f"{count} bytes are said to be written"
        except OSError as error:
            assert error.errno == errno.EFAULT, error
            count = 0
        stat = os.fstat(fd)
        assert stat.st_size == max(size, start + count), f"size {stat.st_size} after {count} bytes at {start} of {size}"
        most = (stat.st_size + PAGE - 1) // PAGE * PAGE
        assert stat.st_blocks * 512 <= most, f"{stat.st_blocks} sectors for {stat.st_size} bytes"
        if count == 0:
            # What lies in the range of the failed write may be old or new.
            same("before the failed write", contents("failed")[:start], old[:start])
        os.close(fd)
        os.unlink(path("failed"))
    raw_munmap(address, length)


alignment()
ends()
coherent()
nowait()
flags()
full()
failed()
