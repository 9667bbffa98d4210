"""What was logged out before its time: a file that all processes of a host share.

An entry is the hash of a token's subject, session (``sid``) or of a token itself, with the moment
up to which tokens count as revoked. Readers only compare a number while nothing changes. A file
that is damaged or full revokes everything issued until then: people sign in again, nothing that was
revoked comes back.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from tresor_gateway.errors import ConfigError

log = logging.getLogger(__name__)
Kind = Literal["subject", "session", "token"]
FOR_EVER: Final = 1 << 62

_MAGIC: Final = b"TRSRREV1"
_SLOTS: Final = 1 << 16
_HEADER: Final = struct.Struct("<8sQIIq32x")  # magic, generation, slots, used, everything before
_SLOT: Final = struct.Struct("<16sqq")  # key, tokens issued until, forget after (Unix seconds)
_SIZE: Final = _HEADER.size + _SLOT.size * _SLOTS
_GENERATION: Final = slice(8, 16)


class Revocations:
    """One process's view of the list."""

    def __init__(
        self,
        path: Path | None,
        *,
        keep_seconds: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Open or make the list; without a path it is private to this process.

        ``keep_seconds`` is the longest life of a token that is accepted at all.

        Raises:
            ConfigError: the file cannot be used.
        """
        self.keep_seconds = keep_seconds
        self._wall = wall
        self._entries: dict[bytes, int] = {}
        self._everything = 0
        self._descriptor = -1
        if path is None:
            self._map = mmap.mmap(-1, _SIZE)
            self._begin(everything=0)
        else:
            self._open(path)
        self._seen = b""

    def version(self) -> bytes:
        """Differs after every change, which is read now; cheap while there is none."""
        if self._map[_GENERATION] != self._seen:
            with self._locked(fcntl.LOCK_SH):
                self._load()
        return self._seen

    def revoked(self, subject: str, session: str | None, token: bytes, issued: float) -> bool:
        """Whether a token issued at ``issued`` (Unix seconds) was logged out, as of ``version``.

        ``token`` is the SHA-256 of the whole token.
        """
        if issued <= self._everything:
            return True
        entries = self._entries
        if not entries:
            return False
        keys = [_key("subject", subject), _key("token", token.hex())]
        if session is not None:
            keys.append(_key("session", session))
        return any(issued <= entries.get(key, -1) for key in keys)

    def revoke(self, kind: Kind, value: str, *, until: float = FOR_EVER) -> None:
        """Refuse what is meant from now on, on every worker of this host.

        ``until`` is the moment (Unix seconds) up to which tokens of a subject or session are
        meant: one that was issued later is a new login.
        """
        now = int(self._wall())
        key, moment = _key(kind, value), int(until)
        forget = now + int(self.keep_seconds) + 1
        with self._locked(fcntl.LOCK_EX):
            magic, generation, slots, used, everything = _HEADER.unpack_from(self._map, 0)
            place = self._place(key, used, now)
            if place is None:
                log.error("the list of revocations is full: all tokens issued so far are revoked")
                used, everything = 0, now
            else:
                offset = _HEADER.size + _SLOT.size * place
                held, known, _ = _SLOT.unpack_from(self._map, offset)
                moment = max(moment, known) if held == key else moment
                _SLOT.pack_into(self._map, offset, key, moment, forget)
                used = max(used, place + 1)
            # The number last: whoever sees it sees the entry.
            _HEADER.pack_into(self._map, 0, magic, generation + 1, slots, used, everything)
            self._map.flush()

    def close(self) -> None:
        """Give the file back."""
        self._map.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # --- inner ----------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with self._locked(fcntl.LOCK_EX):
                size = os.fstat(self._descriptor).st_size
                if size != _SIZE:
                    os.ftruncate(self._descriptor, 0)
                    os.ftruncate(self._descriptor, _SIZE)
                self._map = mmap.mmap(self._descriptor, _SIZE)
                magic, _, slots, used, _ = _HEADER.unpack_from(self._map, 0)
                if (magic, slots) == (_MAGIC, _SLOTS) and used <= _SLOTS:
                    return
                if size:
                    log.error("%s: damaged: all tokens issued so far are revoked", path)
                # A file that was removed leaves no trace, so that is the operator's way out.
                self._begin(everything=int(self._wall()) if size else 0)
        except OSError as error:
            raise ConfigError(f"identity.revocations.file: {path}: {error.strerror}") from error

    def _begin(self, *, everything: int) -> None:
        _HEADER.pack_into(self._map, 0, _MAGIC, 1, _SLOTS, 0, everything)
        self._map.flush()

    def _load(self) -> None:
        _, _, _, used, self._everything = _HEADER.unpack_from(self._map, 0)
        now = int(self._wall())
        held = self._map[_HEADER.size : _HEADER.size + _SLOT.size * min(used, _SLOTS)]
        self._entries = {
            key: moment for key, moment, forget in _SLOT.iter_unpack(held) if forget > now
        }
        self._seen = self._map[_GENERATION]

    def _place(self, key: bytes, used: int, now: int) -> int | None:
        """The entry's own slot, or one that nobody needs any more; none when all are in use."""
        free = used if used < _SLOTS else None
        held = self._map[_HEADER.size : _HEADER.size + _SLOT.size * used]
        for number, (known, _, forget) in enumerate(_SLOT.iter_unpack(held)):
            if known == key:
                return number
            if forget <= now and (free is None or number < free):
                free = number
        return free

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        if self._descriptor < 0:
            yield
            return
        fcntl.flock(self._descriptor, how)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def _key(kind: Kind, value: str) -> bytes:
    return hashlib.blake2b(f"{kind}\0{value}".encode(), digest_size=16).digest()
