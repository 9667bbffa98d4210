"""Run programs, write files whole, lock: the few things every module needs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.errors import lab_error

# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid
_FLOCK = "hhqqi4x"


def run(
    argv: Sequence[str], *, stdin: str | None = None, timeout: float = 120, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output.

    Raises LabError with the program's own message when it fails or exceeds ``timeout`` seconds.
    """
    try:
        done = subprocess.run(
            list(argv), input=stdin, text=True, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise lab_error(
            f"command {' '.join(argv)}",
            f"no end after {timeout:.0f} s",
            "Look at what it waits for, then run the verb again",
        ) from error
    if check and done.returncode != 0:
        message = (done.stderr or done.stdout).strip() or "it printed nothing"
        raise lab_error(
            f"command {' '.join(argv)}",
            f"exit status {done.returncode}, it said: {message}",
            "Mend what it says, then run the verb again",
        )
    return done


def write_atomic(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(data)
    temporary.replace(path)


def try_lock(path: Path) -> int | None:
    """Take an exclusive lock on a file; return its descriptor, or None when another has it.

    The lock ends with the last process that holds the descriptor, however that process ends.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)  # the file was removed meanwhile: this lock would guard nothing


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock; asking disturbs nobody who tries to take it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
    finally:
        os.close(descriptor)
    kind: int = struct.unpack(_FLOCK, answer)[0]
    return kind != fcntl.F_UNLCK


def _whole_file(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)
