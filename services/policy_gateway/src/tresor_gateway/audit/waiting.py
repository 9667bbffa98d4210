"""How long somebody waits for the disk: each answer has a deadline, and each write is watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def nothing() -> None:
    """For those who have nothing to say."""


class Waiting:
    """An answer that waits for the disk: in time, or given up after ``seconds``; never both.

    On the event loop only, so the two cannot cross.
    """

    __slots__ = ("_handle", "_late")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, late: Callable[[], None]
    ) -> None:
        self._late = late
        self._handle: asyncio.TimerHandle | None = loop.call_later(seconds, self._expire)

    def in_time(self) -> bool:
        """What it waited for has happened; whether it still waits. To be asked once."""
        handle, self._handle = self._handle, None
        if handle is None:
            return False
        handle.cancel()
        self._late = nothing
        return True

    def _expire(self) -> None:
        self._handle = None
        late, self._late = self._late, nothing
        late()


class Watch:
    """Whether a write of the writer's thread takes longer than anybody waits for it.

    A thread inside of a hanging system call cannot tell; so others look at when it began.
    """

    __slots__ = ("_began", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began: float | None = None

    @property
    def hangs(self) -> bool:
        """Whether a write is under way for longer than that."""
        began = self._began
        return began is not None and time.monotonic() - began > self._seconds

    def begin(self) -> None:
        """A write begins."""
        self._began = time.monotonic()

    def end(self) -> float:
        """It has ended; by how much it was too late (seconds), 0 if it was not."""
        began, self._began = self._began, None
        if began is None:
            return 0.0
        took = time.monotonic() - began
        return took if took > self._seconds else 0.0
