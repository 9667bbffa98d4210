"""Logins that have begun: everything about one follows from a cookie that only we can make.

So a flood of begun logins costs no memory. A login can be finished once and within ten minutes;
the key lives as long as the process.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

SECONDS: Final = 600
_REMEMBERED: Final = 50_000


@dataclass(frozen=True)
class Login:
    """What goes to the provider (``state``, ``nonce``, ``challenge``) and what stays here."""

    cookie: str = field(repr=False)
    state: str
    nonce: str
    verifier: str = field(repr=False)

    @property
    def challenge(self) -> str:
        """The PKCE challenge, method S256 (RFC 7636)."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())


class Logins:
    """Begins logins and finds them again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock
        self._used: dict[str, float] = {}

    def begin(self) -> Login:
        """A new login."""
        seed, begun = secrets.token_urlsafe(32), int(self._clock())
        return self._login(f"{seed}.{begun}")

    def finish(self, cookie: str | None, state: str) -> Login | None:
        """The login that this browser began with this state; none if it is another's or used."""
        if cookie is None:
            return None
        body, _, _ = cookie.rpartition(".")
        login = self._login(body)
        if not hmac.compare_digest(login.cookie, cookie):
            return None
        now = self._clock()
        begun = float(body.rpartition(".")[2])
        if now - begun > SECONDS or not hmac.compare_digest(login.state.encode(), state.encode()):
            return None
        if login.state in self._used:
            return None
        self._remember(login.state, now)
        return login

    def _login(self, body: str) -> Login:
        return Login(
            cookie=f"{body}.{self._derive('cookie', body)}",
            state=self._derive("state", body),
            nonce=self._derive("nonce", body),
            verifier=self._derive("verifier", body),
        )

    def _derive(self, purpose: str, body: str) -> str:
        return _text(hmac.digest(self._key, f"{purpose}\0{body}".encode(), hashlib.sha256))

    def _remember(self, state: str, now: float) -> None:
        while self._used:
            oldest = next(iter(self._used))
            if len(self._used) < _REMEMBERED and now - self._used[oldest] <= SECONDS:
                break
            # Beyond the bound the provider's own rule remains: a code is good once.
            del self._used[oldest]
        self._used[state] = now


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
