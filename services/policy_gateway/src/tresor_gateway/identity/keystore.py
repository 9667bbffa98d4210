"""The keys in use: refreshed, cached on disk, and refused when they are too old."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tresor_gateway.errors import KeysError
from tresor_gateway.identity.jwks import MAX_JWKS_BYTES, KeySet, parse
from tresor_gateway.identity.source import KeySource

log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 60.0
_LONGEST_PAUSE_SECONDS: Final = 1800.0


class _Cached(msgspec.Struct, forbid_unknown_fields=True):
    """The cache file: when the document was fetched (Unix seconds), and its bytes."""

    fetched: float
    document: str


class KeyStore:
    """Signing keys with an age.

    The age is counted on the monotonic clock, so a step of the wall clock neither prolongs nor
    ends a key's life; only what is loaded from disk is dated by the wall clock, once.
    """

    def __init__(
        self,
        source: KeySource,
        *,
        refresh_seconds: float,
        max_age_seconds: float,
        cooldown_seconds: float,
        cache_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._refresh_seconds = refresh_seconds
        self._max_age_seconds = max_age_seconds
        self._cooldown_seconds = cooldown_seconds
        self._cache_file = cache_file
        self._clock = clock
        self._wall = wall
        self._keys: KeySet | None = None
        self._fetched = 0.0
        self._last_attempt: float | None = None
        self._running: asyncio.Task[bool] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._quiet_until = 0.0
        self._pause = _FIRST_PAUSE_SECONDS
        self.failures = 0

    @property
    def age(self) -> float | None:
        """Seconds since the keys were fetched; none without keys."""
        return None if self._keys is None else self._clock() - self._fetched

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the set of keys has become a different one."""
        self._listeners.append(listener)

    def current(self) -> KeySet | None:
        """The keys, unless there are none or they are older than allowed (fail closed)."""
        keys = self._keys
        if keys is None or self._clock() - self._fetched > self._max_age_seconds:
            return None
        return keys

    def may_refetch(self) -> bool:
        """Whether an unknown key id may trigger a fetch now (cool-down against floods)."""
        return self._running is not None or self._attempt_allowed()

    async def refresh(self) -> bool:
        """Fetch once, shared by all who wait; whether there are fresh keys afterwards."""
        if self._running is None:
            self._last_attempt = self._clock()
            self._running = asyncio.ensure_future(self._fetch())
            self._running.add_done_callback(self._finished)
        return await asyncio.shield(self._running)

    async def run(self) -> None:
        """Load the cache, then refresh for ever; the first round is done by ``start``."""
        while True:
            fresh = self.age is not None and self.failures == 0
            delay = self._refresh_seconds if fresh else min(_RETRY_SECONDS, self._refresh_seconds)
            await asyncio.sleep(delay)
            await self.refresh()

    async def start(self) -> None:
        """Have keys as soon as possible: from disk at once, then from the source."""
        self._load_cache()
        await self.refresh()

    def _attempt_allowed(self) -> bool:
        last = self._last_attempt
        return last is None or self._clock() - last >= self._cooldown_seconds

    def _finished(self, task: asyncio.Task[bool]) -> None:
        self._running = None
        if not task.cancelled():
            task.exception()

    async def _fetch(self) -> bool:
        try:
            data = await asyncio.get_running_loop().run_in_executor(None, self._source.fetch)
            self._adopt(parse(data), self._clock())
            self._save_cache(data)
        except Exception as error:
            # Not only KeysError: an exception here would end the refreshing for good.
            self._failed(error)
            return False
        if self.failures:
            log.info("signing keys refreshed again after %d failed attempts", self.failures)
        self.failures = 0
        return True

    def _failed(self, error: Exception) -> None:
        """Count, and log the first failure at once, the next ones at growing pauses."""
        self.failures += 1
        now = self._clock()
        if self.failures == 1:
            self._pause = _FIRST_PAUSE_SECONDS
        elif now < self._quiet_until:
            return
        else:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._quiet_until = now + self._pause
        known = isinstance(error, KeysError)
        log.warning(
            "signing keys not refreshed: %s (attempt %d, age %s s; told again after %d s)",
            error if known else type(error).__name__,
            self.failures,
            _whole(self.age),
            self._pause,
            exc_info=None if known else error,
        )

    def _adopt(self, keys: KeySet, fetched: float) -> None:
        before = self._keys
        self._keys, self._fetched = keys, fetched
        if before is None or before.fingerprint != keys.fingerprint:
            for listener in self._listeners:
                listener()

    def _load_cache(self) -> None:
        if self._cache_file is None:
            return
        try:
            with self._cache_file.open("rb") as stream:
                cached = msgspec.json.decode(stream.read(2 * MAX_JWKS_BYTES), type=_Cached)
            keys = parse(base64.b64decode(cached.document, validate=True))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeysError) as error:
            log.warning("%s: cached keys are not usable: %s", self._cache_file, error)
            return
        age = self._wall() - cached.fetched
        if 0 <= age <= self._max_age_seconds:
            self._adopt(keys, self._clock() - age)
        else:
            # Too old, or from the future: the clock was stepped and the age is unknown.
            log.warning("%s: cached keys are %d s old; not used", self._cache_file, age)

    def _save_cache(self, data: bytes) -> None:
        if self._cache_file is None:
            return
        content = msgspec.json.encode(_Cached(self._wall(), base64.b64encode(data).decode()))
        scratch = self._cache_file.with_name(f".{self._cache_file.name}.{os.getpid()}")
        try:
            scratch.write_bytes(content)
            scratch.replace(self._cache_file)
        except OSError as error:
            log.warning("%s: keys not cached: %s", self._cache_file, error.strerror)


def _whole(age: float | None) -> str:
    return "-" if age is None else str(int(age))
