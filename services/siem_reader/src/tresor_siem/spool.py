"""The spool: shaped messages and the places they came from, in one append-only log of segments.

A batch is some messages (``R``) and then the new positions of their sources (``P``), so that after
any end of the process, or of the power, messages and positions agree: what stands behind the last
whole ``P`` is cut off and read again from the sources. Every segment begins with all positions
(``S``), so that older segments can go.

An entry is a line ``<kind> <bytes>``, the bytes, and a line end.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tresor_siem.errors import ForwardError

SEGMENT_BYTES = 1024 * 1024
_MAX_ENTRY = 64 * 1024 * 1024
Positions = dict[str, Any]


@dataclass(frozen=True, order=True)
class Place:
    """A place in the spool: number of the segment, byte offset in it."""

    segment: int
    offset: int


class Spool:
    """One process' handle of the spool; not for threads."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Open or begin the spool and cut off what an interrupted run left behind.

        Raises OSError when the folder cannot be used; a full disk is no error here.
        """
        self._folder = folder
        self._segment_bytes = segment_bytes
        self.positions: Positions = {}
        self._proven = folder / "proven"
        numbers = self._numbers()
        self._end = Place(numbers[-1], 0) if numbers else Place(0, 0)
        self._stream: BinaryIO | None = None
        while numbers:
            size = self._recover(numbers[-1])
            if size:
                self._end = Place(numbers[-1], size)
                self._stream = self._path(numbers[-1]).open("r+b")
                self._stream.truncate(size)
                self._stream.seek(size)
                break
            # Not even its positions are whole: it was just begun, and nothing of it was sent.
            self._path(numbers.pop()).unlink()
            self._end = Place(numbers[-1], 0) if numbers else self._end
        self.proven = self._read_proven()
        if not self._proven.exists():
            # Now, while there is room for it: later it is only overwritten.
            _overwrite(self._proven, f"{self.proven.segment:020d} {self.proven.offset:020d}")

    @property
    def end(self) -> Place:
        """Where the next batch begins."""
        return self._end

    def size(self) -> int:
        """Return the bytes of all segments."""
        return sum(self._path(number).stat().st_size for number in self._numbers())

    def proven_time(self) -> float:
        """Return when the last proof was noted, in seconds since 1970."""
        return self._proven.stat().st_mtime

    def unproven_messages(self) -> int:
        """Count the messages behind the proven place; reads the spool, so only for a start."""
        return sum(1 for _ in self.read(self.proven))

    def append(self, messages: Sequence[bytes], changed: Mapping[str, Any]) -> None:
        """Add a batch; raises OSError (a full disk) with the spool as it was before.

        ``changed`` holds the sources' new positions; None forgets one.
        """
        if self._stream is None or self._end.offset >= self._segment_bytes:
            self._begin_segment()
        stream = self._stream
        if stream is None:
            raise ForwardError("the spool has no open segment; start the service again")
        data = b"".join(_entry(b"R", message) for message in messages)
        data += _entry(b"P", _json(changed))
        start = self._end.offset
        try:
            stream.seek(start)
            stream.write(data)
            stream.flush()
        except OSError:
            self._undo(start)
            raise
        self._end = Place(self._end.segment, start + len(data))
        _update(self.positions, changed)

    def read(self, place: Place) -> Iterator[tuple[bytes, Place]]:
        """Yield the messages from a place to the present end, each with the place behind it."""
        for number in self._numbers():
            if number < place.segment or number > self._end.segment:
                continue
            limit = self._end.offset if number == self._end.segment else None
            start = place.offset if number == place.segment else 0
            with self._path(number).open("rb") as stream:
                for kind, data, behind in _entries(stream, start, limit):
                    if kind == b"R":
                        yield data, Place(number, behind)

    def prove(self, place: Place) -> None:
        """Note that everything before a place is at the collector; remove what nobody needs.

        Raises OSError when it cannot be written; then the older note stays, which is safe.
        """
        if place <= self.proven:
            return
        _overwrite(self._proven, f"{place.segment:020d} {place.offset:020d}")
        self.proven = place
        for number in self._numbers():
            if number < place.segment:
                self._path(number).unlink()

    def close(self) -> None:
        """Close the segment."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _begin_segment(self) -> None:
        number = self._end.segment + 1
        path = self._path(number)
        data = _entry(b"S", _json(self.positions))
        stream = path.open("w+b")
        try:
            stream.write(data)
            stream.flush()
            # On disk before an older segment may go: the positions are nowhere else.
            os.fsync(stream.fileno())
        except OSError:
            stream.close()
            path.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.close()
        self._stream = stream
        self._end = Place(number, len(data))

    def _undo(self, size: int) -> None:
        """Cut off what a failed write left; buffered bytes must not come later."""
        path = self._path(self._end.segment)
        if self._stream is not None:
            # The buffer still does not fit; the descriptor is closed all the same.
            with contextlib.suppress(OSError):
                self._stream.close()
        os.truncate(path, size)
        self._stream = path.open("r+b")

    def _recover(self, number: int) -> int:
        """Read a segment's positions; return the bytes up to the last whole batch, 0 for none."""
        good = 0
        positions: Positions = {}
        with self._path(number).open("rb") as stream:
            for kind, data, behind in _entries(stream, 0, None):
                if kind == b"R":
                    continue
                try:
                    content = json.loads(data)
                except ValueError:
                    break
                if kind == b"S":
                    positions = {}
                _update(positions, content)
                good = behind
        if good:
            self.positions = positions
        return good

    def _read_proven(self) -> Place:
        first = self._numbers()[:1]
        oldest = Place(first[0], 0) if first else self._end
        try:
            text, _, check = self._proven.read_text("ascii").strip().rpartition(" ")
            segment, offset = map(int, text.split())
        except (FileNotFoundError, ValueError):
            return oldest
        if check != _check(text):
            return oldest
        place = Place(segment, offset)
        # After a power cut the spool may end before it; what came later was read again.
        return min(max(place, oldest), self._end)

    def _numbers(self) -> list[int]:
        return sorted(
            int(path.stem) for path in self._folder.glob("*.spool") if path.stem.isdigit()
        )

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.spool"


def _overwrite(path: Path, text: str) -> None:
    """Write a note of fixed length in place: that needs no room, so a full disk can be emptied."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
    try:
        os.pwrite(descriptor, f"{text} {_check(text)}\n".encode("ascii"), 0)
    finally:
        os.close(descriptor)


def _check(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def write_file(path: Path, text: str) -> None:
    """Replace a small file whole; raises OSError."""
    temporary = path.with_suffix(".new")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _update(positions: Positions, changed: Mapping[str, Any]) -> None:
    for name, value in changed.items():
        if value is None:
            positions.pop(name, None)
        else:
            positions[name] = value


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _entry(kind: bytes, data: bytes) -> bytes:
    return b"%s %d\n%s\n" % (kind, len(data), data)


def _entries(stream: BinaryIO, start: int, limit: int | None) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield kind, bytes and the offset behind each whole entry; stop at the first that is not."""
    stream.seek(start)
    offset = start
    while limit is None or offset < limit:
        head = stream.readline(32)
        kind, _, size = head.rstrip(b"\n").partition(b" ")
        if kind not in {b"R", b"P", b"S"} or not size.isdigit() or int(size) > _MAX_ENTRY:
            return
        data = stream.read(int(size) + 1)
        if len(data) != int(size) + 1 or data[-1:] != b"\n":
            return
        offset += len(head) + len(data)
        yield kind, data[:-1], offset
