"""Run programs, write files whole, lock: the few things every module needs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.errors import lab_error


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout: float = 120,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output.

    Raises LabError with the program's own message when it fails or exceeds ``timeout`` seconds.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
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
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)  # the file was removed meanwhile: this lock would guard nothing


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock.

    Asking takes a shared lock for a moment, so a ``try_lock`` just then may find it taken.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
