"""The space guard: below a stated free space nothing is written, and reading goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OPEN: Final = "writes-open"
"""While this file is there, writes pass. Without it they do not: a guard that died lets none in."""
RETURN_AT: Final = 1.1
"""Writes come back at this multiple of the bound, so that the guard does not flap around it."""


@dataclass(frozen=True)
class Space:
    """What was seen: free bytes of the file system, and whether writes are refused."""

    free: int
    blocked: bool


def free_bytes(path: Path) -> int:
    """Return the bytes that users without privilege can still write below ``path``."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class SpaceGuard:
    """Decides by the free space of one directory whether writes pass."""

    def __init__(
        self, data: Path, minimum: int, measure: Callable[[Path], int] = free_bytes
    ) -> None:
        self._data, self._minimum, self._measure = data, minimum, measure
        self._blocked = False

    def look(self) -> Space:
        """Measure once and decide."""
        free = self._measure(self._data)
        bound = self._minimum * RETURN_AT if self._blocked else self._minimum
        self._blocked = free < bound
        return Space(free, self._blocked)

    def message(self, space: Space) -> str:
        """Return what operators and clients are told about refused writes."""
        return (
            f"vector database is read-only: {space.free} bytes are free for its data, and below "
            f"{self._minimum} nothing is written; remove data or give the disk more room"
        )


def set_open(folder: Path, *, is_open: bool) -> None:
    """Make or remove the file that lets writes pass."""
    if is_open:
        (folder / OPEN).touch(mode=0o644)
    else:
        (folder / OPEN).unlink(missing_ok=True)
