"""The files of one chain on disk: open, continue, repair, rotate. Used by the writer thread only.

A line is durable after ``commit``. What a crash left behind the last whole line is moved into a
``repair`` record, so that nothing disappears and every line of a file stays readable.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tresor_gateway import __version__
from tresor_gateway.audit import record as records
from tresor_gateway.audit.uuid7 import uuid7
from tresor_gateway.audit.verify import ChainError, Link, check_line, lines, order
from tresor_gateway.errors import AuditError

_KEPT_BYTES: Final = 16 << 10
_NO_PREV: Final = b'"prev":"?"'
_NO_SEQ: Final = b'"seq":-1'
_FILE_MODE: Final = 0o640


class Chain:
    """One writer's chain below ``directory``; exactly one process may hold it."""

    def __init__(
        self,
        directory: Path,
        writer: str,
        *,
        max_file_bytes: int,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._writer = writer
        self._max_file_bytes = max_file_bytes
        self._wall = wall
        self._lock = -1
        self._file = -1
        self._path = directory
        self._size = 0
        self._link = Link(records.GENESIS, 0, writer)
        self.breaks = 0

    @property
    def last(self) -> Link:
        """Hash and number of the last line."""
        return self._link

    def open(self) -> None:
        """Lock the folder, find the end of the chain, write a start record.

        Raises:
            AuditError: another process holds the chain, or the folder cannot be used.
        """
        try:
            self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock = os.open(self._directory / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AuditError(
                f"{self._directory}: another process writes this chain; stop it first"
            ) from error
        except OSError as error:
            raise AuditError(
                f"{self._directory}: {error.strerror}; check owner and mode"
            ) from error
        try:
            repair = self._resume()
            if repair is not None:
                self.append([repair])
            self.append([self._start()])
        except OSError as error:
            raise AuditError(f"{self._path}: {error.strerror}") from error

    def prepare(self, record: records.Base) -> bytes:
        """A record's line without its place in the chain, which ``append`` fills in."""
        record.v = records.VERSION
        record.type = type(record).__name__.lower()
        record.writer = self._writer
        record.prev = "?"
        record.seq = -1
        return records.encode(record)

    def append(self, batch: Sequence[records.Base | bytes]) -> None:
        """Write records, prepared or not, and make them durable.

        On an error nothing of the batch counts as written; the file is cut back.

        Raises:
            OSError: the disk is full or gone.
        """
        prev, seq = self._link.prev, self._link.seq
        out: list[bytes] = []
        for item in batch:
            seq += 1
            # Inside a JSON string a quote is escaped, so these marks are never part of a value.
            opened = item if isinstance(item, bytes) else self.prepare(item)
            head, rest = opened.split(_NO_PREV, 1)
            middle, tail = rest.split(_NO_SEQ, 1)
            line = b'%b"prev":"%b"%b"seq":%d%b' % (head, prev.encode(), middle, seq, tail)
            prev = hashlib.sha256(line).hexdigest()
            out.append(line)
        link = Link(prev, seq, self._writer)
        out.append(b"")
        data = b"\n".join(out)
        self._rotate(len(data))
        try:
            _write_all(self._file, data)
            os.fdatasync(self._file)
        except Exception:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise
        self._size += len(data)
        self._link = link

    def close(self) -> None:
        """Give the chain back."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    # --- inner ------------------------------------------------------------------------------

    def _start(self) -> records.Start:
        return records.Start(
            id=uuid7(),
            time=records.timestamp(self._wall()),
            version=__version__,
            pid=os.getpid(),
            file=self._path.name,
        )

    def _resume(self) -> records.Repair | None:
        """Continue behind the last good line of the newest file."""
        files = [path for path in order([self._directory]) if path.parent == self._directory]
        if not files:
            self._create(self._today(), 1)
            return None
        path = files[-1]
        if path.stat().st_size == 0 and len(files) > 1:
            # A crash between creating a file and its first line: the chain ends before it.
            path.unlink()
            return self._resume()
        good, end, bad = _scan(path)
        for earlier in reversed(files[:-1]):
            if good is not None:
                break
            # Not one whole line in the newest file: the chain ends in the one before.
            good = _scan(earlier)[0]
        if good is not None:
            self._link = good
        size = path.stat().st_size
        if end == size:
            self._open(path)
            return None
        with path.open("rb") as stream:
            stream.seek(end)
            tail = stream.read()
        kind = "broken" if _is_tampered(tail) else "torn"
        repair = records.Repair(
            id=uuid7(),
            time=records.timestamp(self._wall()),
            file=path.name,
            kind="broken" if kind == "broken" else "torn",
            line=bad,
            bytes=len(tail),
            sha256=hashlib.sha256(tail).hexdigest(),
        )
        if kind == "torn":
            repair.data = base64.b64encode(tail[:_KEPT_BYTES]).decode()
            self._open(path)
            os.ftruncate(self._file, end)
            self._size = end
            os.lseek(self._file, end, os.SEEK_SET)
            return repair
        # Not what a crash does: leave the evidence alone and go on in a new file.
        self.breaks += 1
        self._create(self._today(), _number(path) + 1)
        return repair

    def _rotate(self, coming: int) -> None:
        today = self._today()
        date = self._path.stem.rpartition("-")[0]
        if self._size and (today > date or self._size + coming > self._max_file_bytes):
            self._create(*((today, 1) if today > date else (date, _number(self._path) + 1)))

    def _today(self) -> str:
        # A wall clock that was set back must not start a file that sorts before the last one.
        today = records.timestamp(self._wall())[:10]
        return max(today, self._path.stem.rpartition("-")[0]) if self._file >= 0 else today

    def _create(self, date: str, number: int) -> None:
        newest = [path.stem for path in order([self._directory]) if path.parent == self._directory]
        if newest and newest[-1].rpartition("-")[0] > date:
            date, _, last = newest[-1].rpartition("-")
            number = int(last) + 1
        while (path := self._directory / f"{date}-{number}.jsonl").exists():
            number += 1
        self._open(path)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, path: Path) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE)
        if self._file >= 0:
            os.close(self._file)
        self._file = descriptor
        self._path = path
        self._size = os.lseek(descriptor, 0, os.SEEK_END)


def _scan(path: Path) -> tuple[Link | None, int, int]:
    """The last good link, the offset behind it, and the number of the first bad line."""
    link: Link | None = None
    end = 0
    good = 0
    try:
        for number, line in lines(path):
            link, _ = check_line(line, link)
            end += len(line) + 1
            good = number
    except ChainError:
        # What stands behind the last good line is the caller's business.
        return link, end, good + 1
    return link, end, good + 1


def _is_tampered(tail: bytes) -> bool:
    """Whether whole records stand behind the damage; a crash leaves only one torn line.

    A power cut may leave zero bytes where the last commit should have been.
    """
    first, separator, rest = tail.partition(b"\n")
    if not separator:
        return False
    return bool(first.strip(b"\0")) or bool(rest.strip(b"\0\n"))


def _number(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
