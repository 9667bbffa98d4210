"""Reads growing files by inode: renaming loses nothing, and a reused inode is a new file.

A position is the inode, the offset behind the last forwarded line, and a digest of the file's
first bytes (never more than were forwarded), by which a new file with an old inode is known.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO

from tresor_siem.shape_files import Line

CHUNK_BYTES = 256 * 1024
MAX_LINE_BYTES = 1024 * 1024
REST_SECONDS = 300.0
_HEAD_BYTES = 256


@dataclass(frozen=True)
class FileSource:
    """Files of one kind. ``keep_rest``: forward a last line without its end after a while.

    Not for audit records: their writer itself cuts a torn line off and reports it.
    """

    name: str
    patterns: tuple[str, ...]
    keep_rest: bool = True


@dataclass(frozen=True)
class Batch:
    """Lines of one file, and the positions that are true once they are kept."""

    lines: tuple[Line, ...]
    changed: dict[str, Any]


class Tail:
    """Looks for what is new in the files of a source."""

    def __init__(self, source: FileSource, host: str) -> None:
        self.source = source
        self._host = host
        self.unreadable: dict[str, str] = {}
        """Files that could not be read at the last look, with the reason."""

    def batches(self, positions: Mapping[str, Any], now: float) -> Iterator[Batch]:
        """Yield what is new, oldest file first; the caller keeps each batch before the next.

        ``now`` is in seconds since 1970.
        """
        self.unreadable = {}
        found: set[str] = set()
        for path, status in self._files():
            key = f"{self.source.name}:{status.st_dev}:{status.st_ino}"
            found.add(key)
            known = positions.get(key)
            if known is not None and known["offset"] == status.st_size:
                continue
            try:
                with path.open("rb") as stream:
                    yield from self._read(stream, key, positions, now)
            except OSError as error:
                self.unreadable[str(path)] = str(error.strerror)
        prefix = f"{self.source.name}:"
        gone = [key for key in positions if key.startswith(prefix) and key not in found]
        if gone and not self.unreadable:
            yield Batch((), dict.fromkeys(gone))

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        seen: dict[tuple[int, int], tuple[Path, os.stat_result]] = {}
        for pattern in self.source.patterns:
            for name in glob(pattern):  # noqa: PTH207  (the patterns are absolute)
                path = Path(name)
                try:
                    status = path.lstat()
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self.unreadable[str(path)] = str(error.strerror)
                    continue
                if stat.S_ISREG(status.st_mode):
                    seen[status.st_dev, status.st_ino] = (path, status)
        return sorted(seen.values(), key=lambda entry: (entry[1].st_mtime_ns, entry[0]))

    def _read(
        self, stream: BinaryIO, key: str, positions: Mapping[str, Any], now: float
    ) -> Iterator[Batch]:
        status = os.fstat(stream.fileno())
        if key != f"{self.source.name}:{status.st_dev}:{status.st_ino}":
            return  # renamed meanwhile: the next look finds both files
        while True:
            # Anew each time: behind an older size, lines that came meanwhile would look like a cut.
            status = os.fstat(stream.fileno())
            offset = self._offset(stream, positions.get(key), status.st_size)
            stream.seek(offset)
            data = stream.read(CHUNK_BYTES)
            if b"\n" not in data and len(data) == CHUNK_BYTES:
                data += stream.read(MAX_LINE_BYTES - CHUNK_BYTES)
            end = data.rfind(b"\n") + 1
            if not end:
                rested = self.source.keep_rest and now - status.st_mtime >= REST_SECONDS
                if not data or not (rested or len(data) >= MAX_LINE_BYTES):
                    return
                end = len(data)
            lines = self._lines(data[:end], status.st_ino, offset, now)
            yield Batch(lines, {key: self._position(stream, offset + end)})

    def _lines(self, data: bytes, inode: int, offset: int, now: float) -> tuple[Line, ...]:
        lines = []
        for raw in data.split(b"\n"):
            if raw.strip():
                lines.append(Line(self._host, inode, offset, raw, now))
            offset += len(raw) + 1
        return tuple(lines)

    @staticmethod
    def _offset(stream: BinaryIO, known: Mapping[str, Any] | None, size: int) -> int:
        """Return where to go on; 0 for a file that is another one or was cut."""
        if known is None or known["offset"] > size:
            return 0
        stream.seek(0)
        head = stream.read(known["head_bytes"])
        same = hashlib.sha256(head).hexdigest() == known["head"]
        return int(known["offset"]) if same else 0

    @staticmethod
    def _position(stream: BinaryIO, offset: int) -> dict[str, Any]:
        stream.seek(0)
        head = stream.read(min(_HEAD_BYTES, offset))
        return {
            "offset": offset,
            "head_bytes": len(head),
            "head": hashlib.sha256(head).hexdigest(),
        }
