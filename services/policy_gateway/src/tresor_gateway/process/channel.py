"""The private channel between supervisor and worker: one JSON object per line."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any, Final

import msgspec

LIMIT: Final = 16 << 20


class Channel:
    """One end of a socket pair; its end of file means that the other process is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Channel:
        """Take over one end of a socket pair."""
        reader, writer = await asyncio.open_connection(sock=end, limit=LIMIT)
        return cls(reader, writer)

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message."""
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """The next message; none at the end."""
        try:
            line = await self._reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, OSError):
            return None
        return msgspec.json.decode(line, type=dict[str, Any])

    async def close(self) -> None:
        """Close this end."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
