"""fs-verity: where kernel and file system have it, the kernel itself refuses changed contents.

Sealing is an addition: the importer skips no hash because a file is sealed. It costs one reading
of the file and 0.8 % of its size. Tried on a kernel of Debian by ``make test-fs-verity``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_ENABLE = 0x40806685  # FS_IOC_ENABLE_VERITY
_MEASURE = 0xC0046686  # FS_IOC_MEASURE_VERITY
_SHA256 = 1
_DIGEST_BYTES = 32
_BLOCK = 4096
# Neither this kernel nor this file system will ever say something else.
_NEVER = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EROFS}


def seal_all(paths: Iterable[Path]) -> int:
    """Seal files for ever and return how many are sealed now.

    Where sealing is not known at all, only the first one is tried.

    Raises:
        OSError: a file cannot be opened.
    """
    sealed = 0
    for path in paths:
        reason = _enable(path)
        if reason in _NEVER:
            return sealed
        sealed += reason in (0, errno.EEXIST)
    return sealed


def measure(path: Path) -> str | None:
    """Return the digest (hex) that the kernel holds the file to, None if it is not sealed.

    It is the root of a hash tree (SHA-256, blocks of 4,096 bytes, no salt), not the file's SHA-256.
    """
    buffer = bytearray(struct.pack("<HH", 0, 64)) + bytearray(64)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.ioctl(descriptor, _MEASURE, buffer)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    algorithm, size = struct.unpack_from("<HH", buffer)
    if (algorithm, size) != (_SHA256, _DIGEST_BYTES):
        return None
    return bytes(buffer[4 : 4 + size]).hex()


def _enable(path: Path) -> int:
    """Ask the kernel to seal a file; return 0 or why not."""
    argument = struct.pack("<IIIIQIIQ11Q", 1, _SHA256, _BLOCK, 0, 0, 0, 0, 0, *([0] * 11))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _ENABLE, argument)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(descriptor)
    return 0
