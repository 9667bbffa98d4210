"""A deadline that may be moved on every token without touching the event loop's timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_MAX_FREE: Final = 1024


class Deadline:
    """Call back once when the time set last has passed (nobody, while ``callback`` is none).

    Moving a deadline later is one assignment; the timer that fires early re-arms itself.
    """

    __slots__ = ("_callback", "_handle", "_loop", "_when")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None] | None = None
    ) -> None:
        self._loop = loop
        self._callback: Callable[[], None] | None = callback
        self._handle: asyncio.TimerHandle | None = None
        self._when = 0.0

    def set(self, seconds: float) -> None:
        """Expire ``seconds`` from now, whatever was set before."""
        self.set_at(self._loop.time() + seconds)

    def set_at(self, when: float) -> None:
        """Expire at the loop's time ``when`` (seconds)."""
        if self._callback is None:
            return
        self._when = when
        if self._handle is None:
            self._handle = self._loop.call_at(when, self._fire)
        elif self._handle.when() > when:
            self._handle.cancel()
            self._handle = self._loop.call_at(when, self._fire)

    def lend(self, callback: Callable[[], None] | None) -> None:
        """Belong to somebody else, or to nobody, from now on, and expire when that one says so."""
        self._when = 0.0
        self._callback = callback

    def clear(self) -> None:
        """Do not expire until set again; the timer stays and finds nothing to do."""
        self._when = 0.0

    def close(self) -> None:
        """Never expire again and drop the references."""
        self._callback = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        if self._when == 0.0 or self._callback is None:
            return
        # The loop's clock has a resolution of a millisecond; do not spin on the difference.
        if self._loop.time() + 0.0005 < self._when:
            self._handle = self._loop.call_at(self._when, self._fire)
            return
        self._when = 0.0
        self._callback()


class Deadlines:
    """Deadlines that are used again with their timers: most requests need no timer of their own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._free: list[Deadline] = []

    def take(self, callback: Callable[[], None]) -> Deadline:
        """One that calls back; give it back in the end."""
        if not self._free:
            return Deadline(self._loop, callback)
        deadline = self._free.pop()
        deadline.lend(callback)
        return deadline

    def give(self, deadline: Deadline) -> None:
        """It is not needed any more and must not be touched again."""
        deadline.lend(None)
        if len(self._free) < _MAX_FREE:
            self._free.append(deadline)
        else:
            deadline.close()

    def close(self) -> None:
        """Cancel the timers of those that nobody uses."""
        while self._free:
            self._free.pop().close()
