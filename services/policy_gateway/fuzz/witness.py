"""Stands between clients and gateway and writes down which request ids were answered."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

# Bodies are JSON and events, in which no line break is followed by this.
_ANSWER: Final = re.compile(rb"\r\nX-Request-Id: ([0-9a-f-]{36})\r\n")


@dataclass
class Witness:
    """Knows every answer by its id."""

    gateway: int
    port: int = 0
    answered: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def start(self) -> Witness:
        """Listen on a port of its own."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, ours = await asyncio.open_connection("127.0.0.1", self.gateway)
        except OSError:
            writer.close()
            return
        seen = bytearray()
        await asyncio.gather(_copy(reader, ours), _copy(theirs, writer, seen))
        self.answered += [found.decode() for found in _ANSWER.findall(bytes(seen))]


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, seen: bytearray | None = None
) -> None:
    with suppress(OSError, asyncio.CancelledError):
        while data := await source.read(1 << 16):
            if seen is not None:
                seen += data
            target.write(data)
            await target.drain()
    with suppress(OSError):
        target.close()
