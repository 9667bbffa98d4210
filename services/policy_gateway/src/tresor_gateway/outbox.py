"""Writes of one turn of the event loop, handed to the kernel together at its end.

Every write to a socket wakes the process behind it. When that one sleeps, waking it costs more
than the rest of the write; when several answers leave together, it is woken once.
"""

from __future__ import annotations

import asyncio


class Outbox:
    """Collects what is written to transports; the order per transport is kept."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send ``data`` when what is being worked on now has come to its end."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Send everything now: before a transport is closed, its last bytes must be with it."""
        waiting = self._waiting
        if not waiting:
            return
        self._waiting = []
        for transport, data in waiting:
            # Who was cut off meanwhile gets nothing more.
            if not transport.is_closing():
                transport.write(data)
