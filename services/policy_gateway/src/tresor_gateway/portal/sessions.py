"""Who is signed in: in this process's memory only, so a restart signs everybody out.

The cookie holds a random id; the store knows only its hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

PER_SUBJECT: Final = 8


class FullError(Exception):
    """There is no room for another session."""


@dataclass
class Session:
    """One browser of one person. ``expires`` is the access token's end, Unix seconds."""

    subject: str
    provider_session: str | None
    name: str
    access_token: str = field(repr=False)
    id_token: str = field(repr=False)
    issued: float
    expires: float
    csrf: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(32))
    begun: float = 0.0
    seen: float = 0.0

    def csrf_fits(self, value: str) -> bool:
        """Whether a form comes from a page of this session."""
        return hmac.compare_digest(self.csrf.encode(), value.encode())


class Sessions:
    """A bounded store. A session ends by itself: idle, too old, or with its token."""

    def __init__(
        self,
        *,
        session_seconds: float,
        idle_seconds: float,
        max_sessions: int,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._session_seconds = session_seconds
        self._idle_seconds = idle_seconds
        self._max = max_sessions
        self._clock = clock
        self._wall = wall
        self._sessions: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: Session) -> str:
        """Keep a session; returns the new id for its cookie.

        Raises:
            FullError: there are as many as there may be.
        """
        if len(self._sessions) >= self._max:
            self._sweep()
        if len(self._sessions) >= self._max:
            raise FullError
        mine = [key for key, held in self._sessions.items() if held.subject == session.subject]
        for key in mine[: max(0, len(mine) - PER_SUBJECT + 1)]:
            del self._sessions[key]
        cookie = secrets.token_urlsafe(32)
        session.begun = session.seen = self._clock()
        self._sessions[_key(cookie)] = session
        return cookie

    def find(self, cookie: str | None) -> Session | None:
        """The session of a cookie, if it is still good."""
        if cookie is None:
            return None
        key = _key(cookie)
        session = self._sessions.get(key)
        if session is None:
            return None
        if not self._good(session):
            del self._sessions[key]
            return None
        session.seen = self._clock()
        return session

    def end(self, cookie: str | None) -> Session | None:
        """Forget a session; returns it."""
        return None if cookie is None else self._sessions.pop(_key(cookie), None)

    def end_all(
        self, subject: str | None, provider_session: str | None, issued: float
    ) -> list[Session]:
        """Forget and return those that a logout at ``issued`` (Unix seconds) means.

        With a provider's session that one alone, and of the subject's those whose session at the
        provider is not known; without one all of the subject's.
        """

        def meant(session: Session) -> bool:
            if session.issued > issued or (subject is not None and session.subject != subject):
                return False
            if provider_session is None or session.provider_session == provider_session:
                return True
            return subject is not None and session.provider_session is None

        ended = {key: session for key, session in self._sessions.items() if meant(session)}
        for key in ended:
            del self._sessions[key]
        return list(ended.values())

    def _good(self, session: Session) -> bool:
        now = self._clock()
        return (
            now - session.seen <= self._idle_seconds
            and now - session.begun <= self._session_seconds
            and self._wall() < session.expires
        )

    def _sweep(self) -> None:
        self._sessions = {key: s for key, s in self._sessions.items() if self._good(s)}


def _key(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
