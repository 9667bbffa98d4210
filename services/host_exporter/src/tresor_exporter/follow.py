"""Lines of a log that others write and rotate, each exactly once.

A log is a family: the file itself and the files it was renamed to (``NAME-20261124T230000Z``,
``NAME.1``). Of every member the position is kept by inode, so the order of renaming, reopening and
late lines in the old file does not matter; and the first bytes are remembered, so that a new file
with an old inode number is recognised.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

MAX_LINE_BYTES: Final = 65536
MAX_PASS_BYTES: Final = 64 << 20
_CHUNK_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 1024
_PASSES_UNSEEN: Final = 3
_SUFFIX: Final = r"([-.][0-9][0-9A-Z-]*)?"


@dataclass
class Position:
    """How far a file is read. ``skip``: the line at ``offset`` was too long, leave out its rest."""

    offset: int = 0
    skip: bool = False
    head_bytes: int = 0
    head: str = ""
    unseen: int = 0


@dataclass(frozen=True)
class Batch:
    """Complete lines without their ends; ``dropped`` is the number of lines that were too long."""

    lines: tuple[bytes, ...]
    dropped: int


class Follower:
    """Reads on where the last pass ended.

    Args:
        path: the log.
        saved: positions of an earlier process (``positions()``); None begins at the present end.
        max_pass_bytes: bound on one pass; the rest comes with the next one.
    """

    def __init__(
        self,
        path: Path,
        saved: dict[str, dict[str, Any]] | None,
        *,
        max_pass_bytes: int = MAX_PASS_BYTES,
    ) -> None:
        self._path = path
        self._max_pass_bytes = max_pass_bytes
        self._name = re.compile(re.escape(path.name) + _SUFFIX)
        self._positions = {key: Position(**value) for key, value in (saved or {}).items()}
        self._from_end = saved is None

    def positions(self) -> dict[str, dict[str, Any]]:
        """Return what a later process needs to go on."""
        return {key: asdict(position) for key, position in self._positions.items()}

    def batches(self) -> Iterator[Batch]:
        """Yield new lines. A position counts a batch as read when the batch is handed out.

        Raises:
            OSError: the folder or a file cannot be read; FileNotFoundError if no member exists.
        """
        members = self._members()
        if not members:
            self._from_end = False  # a log that appears later is new from its first line
            raise FileNotFoundError(2, "No such file", str(self._path))
        seen: set[str] = set()
        left = self._max_pass_bytes
        for path in members:
            try:
                stream = path.open("rb")
            except FileNotFoundError:  # renamed or removed since it was listed
                continue
            with stream:
                key = str(os.fstat(stream.fileno()).st_ino)
                if key in seen:
                    continue
                seen.add(key)
                position = self._position(key, stream)
                start = position.offset
                yield from self._read(stream, position, left)
                left = max(left - (position.offset - start), 0)
        self._from_end = False
        self._forget(seen)

    def _members(self) -> list[Path]:
        folder = self._path.parent
        found = [path for path in folder.iterdir() if self._name.fullmatch(path.name)]
        return sorted(found, key=lambda path: (path == self._path, path.name))

    def _position(self, key: str, stream: BinaryIO) -> Position:
        size = os.fstat(stream.fileno()).st_size
        position = self._positions.get(key)
        if position is None and self._from_end:
            position = Position(offset=size, skip=_ends_within_line(stream, size))
            _remember_head(stream, position)
        elif position is None or size < position.offset or not _same_head(stream, position):
            position = Position()  # new, truncated, or another file with the same inode number
        position.unseen = 0
        self._positions[key] = position
        return position

    def _read(self, stream: BinaryIO, position: Position, limit: int) -> Iterator[Batch]:
        stream.seek(position.offset)
        rest = b""
        while limit > 0:
            chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                break
            limit -= len(chunk)
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            batch, taken = _batch(lines, position)
            position.offset += taken
            if len(rest) > MAX_LINE_BYTES:
                position.offset += len(rest)
                batch = Batch(batch.lines, batch.dropped + (not position.skip))
                position.skip, rest = True, b""
            _remember_head(stream, position)
            yield batch
            stream.seek(position.offset + len(rest))

    def _forget(self, seen: set[str]) -> None:
        """Drop files that are gone, not at once: a rename may hide one while the folder is read."""
        for key in [key for key in self._positions if key not in seen]:
            self._positions[key].unseen += 1
            if self._positions[key].unseen >= _PASSES_UNSEEN:
                del self._positions[key]


def _batch(lines: list[bytes], position: Position) -> tuple[Batch, int]:
    """Return the good lines and the number of bytes that all of them take in the file."""
    taken = sum(len(line) + 1 for line in lines)
    if lines and position.skip:
        lines, position.skip = lines[1:], False
    good = tuple(line for line in lines if len(line) <= MAX_LINE_BYTES)
    return Batch(good, len(lines) - len(good)), taken


def _ends_within_line(stream: BinaryIO, size: int) -> bool:
    if size == 0:
        return False
    stream.seek(size - 1)
    return stream.read(1) != b"\n"


def _remember_head(stream: BinaryIO, position: Position) -> None:
    length = min(position.offset, _HEAD_BYTES)
    if length > position.head_bytes:
        position.head_bytes, position.head = length, _head(stream, length)


def _same_head(stream: BinaryIO, position: Position) -> bool:
    return _head(stream, position.head_bytes) == position.head if position.head_bytes else True


def _head(stream: BinaryIO, length: int) -> str:
    stream.seek(0)
    return hashlib.sha256(stream.read(length)).hexdigest()[:32]
