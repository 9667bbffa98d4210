"""The authority's books, JSON lines, append only: what it issued, and what it revoked."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Issued:
    """One issued certificate. Times are UTC in ISO 8601."""

    serial: str
    host: str
    purpose: str
    subject: str
    not_before: str
    not_after: str
    fingerprint: str


@dataclass(frozen=True)
class Revoked:
    """One revoked certificate. Times are UTC in ISO 8601."""

    serial: str
    revoked: str
    not_after: str
    reason: str


def append(path: Path, entry: Issued | Revoked) -> None:
    """Write the entry and wait until it is on the disk."""
    line = json.dumps(asdict(entry), sort_keys=True, separators=(",", ":")) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def entries(path: Path) -> list[Issued]:
    """Return what was issued, oldest first."""
    if not path.exists():
        return []
    return [Issued(**json.loads(line)) for line in path.read_text().splitlines() if line]


def revocations(path: Path) -> list[Revoked]:
    """Return what was revoked, oldest first."""
    if not path.exists():
        return []
    return [Revoked(**json.loads(line)) for line in path.read_text().splitlines() if line]


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the authority's lock: Ansible's forks sign for several hosts at once."""
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
