"""Large files past the page cache: reading ahead in one thread, hashing and writing in another.

O_DIRECT where the file system has it: a copy of 800 GB must not push the services out of memory,
and what is hashed again later is then read from the disk and not from memory. Without it the
kernel's cache is used.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ALIGN = 4096
CHUNK_BYTES = 8 * 1024 * 1024
DIRECT_MIN_BYTES = 1024 * 1024  # below, a file is read as a whole before any of it is written
DIRECT_SMALL_BYTES = 64 * 1024  # below, the page cache is faster
_BUFFERS = 3

Open = Callable[[int], int]
"""Opens the source with additional flags (``os.O_DIRECT`` or 0) and returns a descriptor."""


def open_direct(opener: Open, *, direct: bool) -> int:
    """Open with O_DIRECT if wanted and possible."""
    if direct:
        try:
            return opener(os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return opener(0)


def aligned(size: int) -> int:
    """Return a size rounded up to whole blocks."""
    return -(-size // ALIGN) * ALIGN


def is_direct(descriptor: int) -> bool:
    """Tell whether the descriptor goes past the page cache."""
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


def leave_direct(descriptor: int) -> None:
    """Go on through the page cache: this file system refuses such requests after all."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)


def read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill ``buffer`` from ``offset``; return the count, less than its length only at the end.

    Raises:
        OSError: the source cannot be read.
    """
    filled = 0
    while filled < len(buffer):
        try:
            count = os.preadv(descriptor, [buffer[filled:]], offset + filled)
        except OSError as error:
            if error.errno == errno.EINVAL and is_direct(descriptor):
                leave_direct(descriptor)
                continue
            raise
        if count == 0:
            break
        filled += count
        if count % ALIGN and is_direct(descriptor):
            break  # the end of the file: a direct read ends unaligned only there
    return filled


def write_at(descriptor: int, buffer: memoryview, count: int, offset: int) -> None:
    """Write ``count`` bytes; a direct tail is padded with zeros (the caller cuts the file).

    ``buffer`` must be page-aligned and at least ``count`` rounded up to :data:`ALIGN` long when
    the descriptor is direct.

    Raises:
        OSError: the disk is full or broken.
    """
    padded = count
    if is_direct(descriptor):
        padded = aligned(count)
        buffer[count:padded] = bytes(padded - count)
    done = 0
    while done < padded:
        try:
            done += os.pwrite(descriptor, buffer[done:padded], offset + done)
        except OSError as error:
            if error.errno != errno.EINVAL or not is_direct(descriptor):
                raise
            leave_direct(descriptor)
            padded = count


class Buffers:
    """A few page-aligned buffers that wander between a reading and a writing thread."""

    def __init__(self, count: int = _BUFFERS, size: int = CHUNK_BYTES) -> None:
        self._maps = [mmap.mmap(-1, size) for _ in range(count)]
        self._views = [memoryview(item) for item in self._maps]

    def take(self) -> list[memoryview]:
        """Return all of them."""
        return list(self._views)

    def close(self) -> None:
        """Give the memory back; what the traceback of a failed read still holds, goes with it."""
        with suppress(BufferError):
            for view in self._views:
                view.release()
            for item in self._maps:
                item.close()


def chunks(
    descriptor: int, start: int, limit: int, buffers: Buffers, stop: threading.Event
) -> Generator[tuple[memoryview, int], None, None]:
    """Yield the source's bytes from ``start`` as (buffer, count), read ahead by another thread.

    At most ``limit`` bytes are yielded. A buffer is valid until the next one is asked for.

    Raises:
        OSError: the source cannot be read.
    """
    free: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[memoryview | None, int, BaseException | None]]
    full = queue.SimpleQueue()
    for view in buffers.take():
        free.put(view)

    def read() -> None:
        position = 0
        try:
            while position < limit and not stop.is_set():
                view = free.get()
                if view is None:
                    return
                # Direct reads ask for whole blocks; what is past the limit is not yielded.
                wanted = min(len(view), aligned(limit - position))
                count = min(read_at(descriptor, view[:wanted], start + position), limit - position)
                if count:
                    full.put((view, count, None))
                position += count
                if count < wanted:
                    break
            full.put((None, 0, None))
        except BaseException as error:
            full.put((None, 0, error))

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            filled, count, error = full.get()
            if error is not None:
                raise error
            if filled is None:
                return
            yield filled, count
            free.put(filled)
    finally:
        free.put(None)
        thread.join()


@contextmanager
def reading(opener: Open, *, direct: bool) -> Iterator[int]:
    """Open a source for one pass."""
    descriptor = open_direct(opener, direct=direct)
    try:
        if not is_direct(descriptor):
            with suppress(OSError):  # only a hint
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        yield descriptor
    finally:
        os.close(descriptor)


def hash_prefix(path: Path, length: int | None = None) -> hashlib._Hash:
    """Return the SHA-256 object over a file of ours, or its first ``length`` bytes.

    Raises:
        OSError: it cannot be read, or is shorter.
    """
    size = path.stat().st_size
    wanted = size if length is None else length
    if wanted > size:
        raise OSError(errno.ENODATA, "file is shorter", str(path))
    digest = hashlib.sha256()
    if wanted < DIRECT_MIN_BYTES:
        with path.open("rb", buffering=0) as stream:
            _forget(stream.fileno())
            digest.update(stream.read(wanted))
        return digest
    buffers = Buffers(2)
    try:
        with reading(lambda flags: os.open(path, os.O_RDONLY | flags), direct=True) as source:
            _forget(source)
            for view, count in chunks(source, 0, wanted, buffers, threading.Event()):
                digest.update(view[:count])
    finally:
        buffers.close()
    return digest


def _forget(descriptor: int) -> None:
    """Let the disk be read and not memory; fs-verity serves even direct reads from the cache."""
    with suppress(OSError):  # only a hint; what is not yet written stays in memory
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def hash_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file of ours."""
    return hash_prefix(path).hexdigest()
