# SPDX-License-Identifier: GPL-2.0
#
# Stores and loads through mappings that cannot be done: on a full disk, behind the end of a file, after a truncation. They
# end a process by SIGBUS; whatever does not, is kept.


def store(m, at, data=b"x"):
    """A store by a child: what signal it dies of."""

    def work():
        m.store(at, data)

    return signal_of(work)


def load(m, at):
    return signal_of(lambda: m.load(at, 1))


def fill_disk():
    """Takes all space there is, down to single blocks."""
    fd = create("filler")
    offset = 0
    size = 1 << 20
    while True:
        before = offset
        try:
            while True:
                offset += os.pwrite(fd, b"f" * size, offset)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        # What was set aside for the worst case comes free when the blocks are allocated, and what the journal held on to
        # with its commit.
        os.fsync(fd)
        os.sync()
        if offset == before and size == BLOCK:
            break
        size = BLOCK if size < 65536 else 16384
    os.close(fd)
    # A large file may need a block for its map with the next block of data; a small one takes the very last block.
    for number in range(1000):
        try:
            fd = create(f"crumb{number}")
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            break
        try:
            os.pwrite(fd, b"f" * BLOCK, 0)
            os.fsync(fd)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            break
        finally:
            os.close(fd)
    else:
        raise AssertionError("the disk does not get full")


def full_disk():
    size = 64 * PAGE
    kept = create("kept")
    old = bytes_of("kept", size)
    os.write(kept, old)
    sparse = create("sparse")
    os.ftruncate(sparse, size)
    os.pwrite(sparse, b"data" * (PAGE // 4), 5 * PAGE)
    mixed = create("mixed")
    os.pwrite(mixed, b"m" * PAGE, 0)
    os.ftruncate(mixed, 8 * PAGE)
    os.sync()
    kept_map, sparse_map, mixed_map = (Beyond(fd, os.fstat(fd).st_size) for fd in (kept, sparse, mixed))
    private = Beyond(sparse, size, mmap.MAP_PRIVATE)
    # A hole that is in the page cache already, and one that is not.
    assert sparse_map.load(20 * PAGE, PAGE) == bytes(PAGE)
    fill_disk()

    for at in (20 * PAGE + 5, 40 * PAGE):
        assert store(sparse_map, at) == signal.SIGBUS, f"a store to the hole at {at} of a full disk is taken"
    assert store(mixed_map, 5 * PAGE) == signal.SIGBUS
    # Where there are blocks there is no need of space.
    for at in range(0, size, 3 * PAGE):
        assert store(kept_map, at, b"new!") == 0, f"a store to an allocated block at {at}"
    old = bytearray(old)
    for at in range(0, size, 3 * PAGE):
        old[at : at + 4] = b"new!"
    assert store(sparse_map, 5 * PAGE + 100, b"more") == 0
    # A private mapping takes memory, no blocks.
    private.store(30 * PAGE, b"private")
    assert private.load(30 * PAGE, 7) == b"private"
    # Loads go on, and what was refused left no trace.
    model = bytearray(size)
    model[5 * PAGE : 6 * PAGE] = b"data" * (PAGE // 4)
    model[5 * PAGE + 100 : 5 * PAGE + 104] = b"more"
    same("the sparse file", contents("sparse"), bytes(model))
    refused(errno.ENOSPC, "a write to a hole", os.pwrite, sparse, b"x", 41 * PAGE)
    for fd in (kept, sparse, mixed):
        os.fsync(fd)
    drop_caches()
    same("the sparse file on disk", contents("sparse"), bytes(model))
    same("the other file on disk", contents("kept"), bytes(old))

    os.truncate(path("filler"), 8 << 20)
    os.sync()
    # Now there is space, and the same store goes well.
    assert store(sparse_map, 40 * PAGE, b"space") == 0
    model[40 * PAGE : 40 * PAGE + 5] = b"space"
    os.fsync(sparse)
    drop_caches()
    same("with space", contents("sparse"), bytes(model))
    for m in (kept_map, sparse_map, mixed_map, private):
        m.close()
    for fd in (kept, sparse, mixed):
        os.close(fd)
    os.unlink(path("filler"))


def behind_the_end():
    size = 3 * PAGE + 100
    fd = create("ends")
    os.write(fd, bytes_of("ends", size))
    m = Beyond(fd, 8 * PAGE)
    for at in (0, 3 * PAGE + 99, 4 * PAGE - 1):
        assert load(m, at) == 0, f"a load at {at} of {size}"
    for at in (4 * PAGE, 7 * PAGE):
        assert load(m, at) == signal.SIGBUS, f"a load at {at} of {size}"
        assert store(m, at) == signal.SIGBUS, f"a store at {at} of {size}"
    # Bytes behind the end can be stored to, are not the file's, and do not become that.
    assert store(m, size + 10, b"beyond") == 0
    os.fsync(fd)
    os.ftruncate(fd, 6 * PAGE)
    same("grown", contents("ends"), bytes_of("ends", size) + bytes(6 * PAGE - size))
    # A write behind the end, not a truncation, makes it grow.
    os.ftruncate(fd, 3 * PAGE + 100)
    m.store(size + 10, b"beyond")
    os.pwrite(fd, b"end", 5 * PAGE)
    expected = bytes_of("ends", size) + bytes(5 * PAGE - size) + b"end"
    same("grown by a write", contents("ends"), expected)
    drop_caches()
    same("grown by a write, on disk", contents("ends"), expected)
    # The mapping sees what it may now.
    assert load(m, 5 * PAGE + 2) == 0 and store(m, 5 * PAGE + 1) == 0
    m.close()
    os.close(fd)


def truncated():
    size = 64 * PAGE
    fd = create("truncated")
    data = bytes_of("truncated", size)
    os.write(fd, data)
    m = Beyond(fd, size)
    same("mapped", m.load(0, size), data)
    private = Beyond(fd, size, mmap.MAP_PRIVATE)
    private.store(20 * PAGE, b"mine")
    private.store(2 * PAGE, b"mine")
    os.ftruncate(fd, 10 * PAGE + 1)
    for mapped in (m, private):
        assert load(mapped, 11 * PAGE) == signal.SIGBUS
        assert load(mapped, 20 * PAGE) == signal.SIGBUS
        assert load(mapped, 10 * PAGE) == 0
    assert store(m, 30 * PAGE) == signal.SIGBUS
    same("a private page before the end", private.load(2 * PAGE, 4), b"mine")
    os.ftruncate(fd, size)
    model = bytearray(data[: 10 * PAGE + 1]) + bytes(size - 10 * PAGE - 1)
    same("grown again", m.load(0, size), bytes(model))
    assert private.load(20 * PAGE, 4) == bytes(4), "a truncated private page is back"
    m.store(50 * PAGE, b"new")
    model[50 * PAGE : 50 * PAGE + 3] = b"new"
    same("private, unchanged", private.load(50 * PAGE, 3), b"new")
    private.store(50 * PAGE, b"own")
    same("stored to", contents("truncated"), bytes(model))

    # Many sizes with a mapping that is stored to before and after each: nothing is dirty without a block of its own,
    # whatever the end was when its page became writable.
    rng = random.Random(7)
    for _ in range(200):
        new_size = rng.randrange(1, size)
        os.ftruncate(fd, new_size)
        model = model[:new_size] + bytes(max(0, new_size - len(model)))
        at = rng.randrange(new_size)
        m.store(at, b"#")
        model[at : at + 1] = b"#"
        if rng.randrange(3) == 0:
            # Within the page of the old end, and behind it.
            grown = min(size, new_size + rng.randrange(1, 2 * PAGE))
            if rng.randrange(2):
                os.ftruncate(fd, grown)
                model.extend(bytes(grown - new_size))
            else:
                os.pwrite(fd, b"%", grown - 1)
                model.extend(bytes(grown - len(model)))
                model[grown - 1 : grown] = b"%"
            for at in (new_size, grown - 1):
                if at < len(model):
                    m.store(at, b"&")
                    model[at : at + 1] = b"&"
        if rng.randrange(4) == 0:
            os.fsync(fd)
        if rng.randrange(10) == 0:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        same("after a truncation", contents("truncated"), bytes(model))
    m.close()
    private.close()
    drop_caches()
    same("truncated, on disk", contents("truncated"), bytes(model))
    os.close(fd)


def while_truncated():
    """Processes that store while another one truncates: they go on or die of SIGBUS, and nothing else."""
    with open("/proc/cpuinfo") as file:
        if "User Mode Linux" in file.read():
            # To unmap a page of another process, that kernel's flush_tlb_mm() walks the process's mappings without a
            # lock, and lockdep rightly says so, whatever the file system is.
            print("not under User Mode Linux: a file that is truncated while others store to it")
            return
    size = 32 * PAGE
    fd = create("busy")
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            # Not without the one that is to end it, however long that takes.
            pr_set_pdeathsig = 1
            LIBC.prctl(pr_set_pdeathsig, signal.SIGKILL)
            rng = random.Random(number)
            m = Beyond(fd, size)
            while True:
                m.store(rng.randrange(size), b"s")
        children.append(child)
    deaths = 0
    rng = random.Random(99)
    for _ in range(300):
        os.ftruncate(fd, rng.randrange(size))
        os.ftruncate(fd, size)
        if rng.randrange(5) == 0:
            os.fsync(fd)
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS, hex(status)
                children.remove(child)
                deaths += 1
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.fsync(fd)
    found = contents("busy")
    drop_caches()
    same("a busy file", contents("busy"), found)
    assert set(found) <= {0, ord("s")}, "bytes that nobody wrote"
    os.close(fd)


behind_the_end()
truncated()
while_truncated()
full_disk()
