"""Counters that all workers of a host share: a file in memory, one lock, one slot per subject.

Every operation holds the lock for some microseconds, so counts are exact on a host. A worker's
streams are counted in a column of its own, which is cleared when the worker starts again: what
died with it does not count for ever.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tresor_gateway.errors import ConfigError
from tresor_gateway.usage.limits import Limits

_MAGIC: Final = b"TRSRUSE1"
_HEADER: Final = struct.Struct("<8sII48x")
_SLOT: Final = struct.Struct("<16sqqqqq")
_STREAMS: Final = struct.Struct("<I")
_SLOTS: Final = 1 << 16
_PROBES: Final = 64
_EMPTY: Final = bytes(16)
_MINUTE: Final = 60
_DAY: Final = 86_400


class UsageFullError(Exception):
    """No slot is free for another subject."""


@dataclass(frozen=True)
class Refusal:
    """A limit that is used up, and after how many seconds asking again makes sense."""

    limit: str
    retry_after: int


@dataclass(frozen=True)
class Ticket:
    """What an admitted request has reserved."""

    key: bytes
    minute: int
    tokens: int
    stream: bool


@dataclass
class _Use:
    minute: int
    requests: int
    tokens: int
    day: int
    day_tokens: int


class UsageTable:
    """The counters, as one worker sees them."""

    def __init__(
        self,
        path: Path | None,
        workers: int,
        worker: int | None,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Open or make the table; without a path it is private to this process.

        Who only reads is no ``worker``.

        Raises:
            ConfigError: the file cannot be used.
        """
        self._workers = workers
        self._worker = worker
        self._wall = wall
        self._size = _SLOT.size + _STREAMS.size * workers
        total = _HEADER.size + self._size * _SLOTS
        self._descriptor = -1
        if path is None:
            self._map = mmap.mmap(-1, total)
            return
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with self._locked():
                header = os.pread(self._descriptor, _HEADER.size, 0)
                wanted = _HEADER.pack(_MAGIC, workers, _SLOTS)
                if header != wanted or os.fstat(self._descriptor).st_size != total:
                    # Of another version, or for another number of workers: begin again.
                    os.ftruncate(self._descriptor, 0)
                    os.ftruncate(self._descriptor, total)
                    os.pwrite(self._descriptor, wanted, 0)
                self._map = mmap.mmap(self._descriptor, total)
                if worker is not None:
                    self._clear_streams(worker)
        except OSError as error:
            raise ConfigError(f"usage.file: {path}: {error.strerror}") from error

    def admit(self, subject: str, limits: Limits, *, tokens: int, stream: bool) -> Ticket | Refusal:
        """Count a request and reserve ``tokens`` for it, unless a limit is used up.

        Raises:
            UsageFullError: too many subjects.
        """
        key = hashlib.blake2b(subject.encode(), digest_size=16).digest()
        now = self._wall()
        with self._locked():
            offset = self._find(key, now)
            use = self._read(offset, now)
            refusal = self._refusal(use, limits, offset, tokens, now, stream=stream)
            if refusal is not None:
                return refusal
            use.requests += 1
            use.tokens += tokens
            self._write(offset, key, use)
            if stream:
                self._count_stream(offset, 1)
        return Ticket(key, use.minute, tokens, stream)

    def settle(self, ticket: Ticket, used: int) -> None:
        """The request is over and took ``used`` tokens."""
        now = self._wall()
        with self._locked():
            try:
                offset = self._find(ticket.key, now)
            except UsageFullError:
                # Its slot was given to somebody else meanwhile: nothing is left to correct.
                return
            use = self._read(offset, now)
            if use.minute == ticket.minute:
                use.tokens = max(0, use.tokens - ticket.tokens + used)
            use.day_tokens += used
            self._write(offset, ticket.key, use)
            if ticket.stream:
                self._count_stream(offset, -1)

    def used(self, subject: str) -> dict[str, int]:
        """What a subject has used of each kind of limit by now; nothing of one never counted."""
        key = hashlib.blake2b(subject.encode(), digest_size=16).digest()
        now = self._wall()
        with self._locked():
            offset = self._held(key)
            use = self._read(offset, now) if offset >= 0 else _Use(0, 0, 0, 0, 0)
            streams = self._streams(offset) if offset >= 0 else 0
        return {
            "requests_per_minute": use.requests,
            "tokens_per_minute": use.tokens,
            "concurrent_streams": streams,
            "daily_tokens": use.day_tokens,
        }

    def close(self) -> None:
        """Give the file back."""
        self._map.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # --- inner ----------------------------------------------------------------------------------

    def _refusal(
        self, use: _Use, limits: Limits, offset: int, tokens: int, now: float, *, stream: bool
    ) -> Refusal | None:
        next_minute = _MINUTE - int(now) % _MINUTE
        requests, per_minute = limits.requests_per_minute, limits.tokens_per_minute
        if requests is not None and use.requests >= requests:
            return Refusal("limit_requests", next_minute)
        if per_minute is not None and use.tokens + tokens > per_minute:
            return Refusal("limit_tokens", next_minute)
        daily, streams = limits.daily_tokens, limits.concurrent_streams
        if daily is not None and use.day_tokens >= daily:
            return Refusal("limit_daily_tokens", _DAY - int(now) % _DAY)
        if streams is not None and stream and self._streams(offset) >= streams:
            return Refusal("limit_streams", 1)
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._descriptor < 0:
            yield
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _find(self, key: bytes, now: float) -> int:
        """The subject's slot, or a free one for it."""
        home = int.from_bytes(key[:8], "little")
        free = -1
        for step in range(_PROBES):
            offset = _HEADER.size + (home + step) % _SLOTS * self._size
            held = self._map[offset : offset + 16]
            if held == key:
                return offset
            if free < 0 and (held == _EMPTY or self._is_stale(offset, now)):
                free = offset
            if held == _EMPTY:
                break
        if free < 0:
            raise UsageFullError
        self._map[free : free + self._size] = bytes(self._size)
        return free

    def _held(self, key: bytes) -> int:
        """The subject's slot, or -1."""
        home = int.from_bytes(key[:8], "little")
        for step in range(_PROBES):
            offset = _HEADER.size + (home + step) % _SLOTS * self._size
            if self._map[offset : offset + 16] == key:
                return offset
        return -1

    def _is_stale(self, offset: int, now: float) -> bool:
        _, minute, _, _, day, _ = _SLOT.unpack_from(self._map, offset)
        old = minute < int(now) // _MINUTE - 1 and day < int(now) // _DAY
        return old and self._streams(offset) == 0

    def _read(self, offset: int, now: float) -> _Use:
        _, minute, requests, tokens, day, day_tokens = _SLOT.unpack_from(self._map, offset)
        this_minute, this_day = int(now) // _MINUTE, int(now) // _DAY
        # A clock that was set back a little goes on in the later minute; one that was wrong by
        # more must not keep anybody out until it is that late again.
        if minute < this_minute or minute > this_minute + 1:
            minute, requests, tokens = this_minute, 0, 0
        if day < this_day or day > this_day + 1:
            day, day_tokens = this_day, 0
        return _Use(minute, requests, tokens, day, day_tokens)

    def _write(self, offset: int, key: bytes, use: _Use) -> None:
        _SLOT.pack_into(
            self._map,
            offset,
            key,
            use.minute,
            use.requests,
            use.tokens,
            use.day,
            use.day_tokens,
        )

    def _streams(self, offset: int) -> int:
        counts = struct.unpack_from(f"<{self._workers}I", self._map, offset + _SLOT.size)
        return int(sum(counts))

    def _count_stream(self, offset: int, change: int) -> None:
        if self._worker is None:
            return
        place = offset + _SLOT.size + _STREAMS.size * self._worker
        [count] = _STREAMS.unpack_from(self._map, place)
        _STREAMS.pack_into(self._map, place, max(0, count + change))

    def _clear_streams(self, worker: int) -> None:
        """Nothing of this worker is running when it starts."""
        place = _HEADER.size + _SLOT.size + _STREAMS.size * worker
        for _ in range(_SLOTS):
            if self._map[place : place + 4] != b"\0\0\0\0":
                _STREAMS.pack_into(self._map, place, 0)
            place += self._size
