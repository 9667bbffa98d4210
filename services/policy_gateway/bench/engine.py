"""A fake engine: answers at once, streams one token per interval and stream, counts what it sent.

``python -m services.policy_gateway.bench.engine PORT FIRST_MS INTERVAL_MS``
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import cycle
from typing import Final, cast

import uvloop

from services.policy_gateway.bench import script

_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class Engine:
    """The state that all connections share; all streams advance together, as a batch does."""

    def __init__(self, first: float, interval: float) -> None:
        self.first = first
        self.interval = interval
        self.tokens = 0
        self.answer = _whole(script.answer())
        self._variants = [script.events(variant) for variant in range(script.VARIANTS)]
        self._next = cycle(range(script.VARIANTS))
        self._streams: dict[Connection, tuple[list[bytes], int]] = {}

    def begin(self, connection: Connection) -> None:
        """Stream to a connection from its first token on."""
        self._streams[connection] = (self._variants[next(self._next)], 0)

    def forget(self, connection: Connection) -> None:
        """The client is gone."""
        self._streams.pop(connection, None)

    async def run(self) -> None:
        """One step of the batch per interval."""
        loop = asyncio.get_running_loop()
        step = loop.time()
        while True:
            step = max(step + self.interval, loop.time())
            await asyncio.sleep(step - loop.time())
            for connection, (events, position) in list(self._streams.items()):
                sent = position + 1
                if position == 0:
                    # The role comes with the first token.
                    connection.send(_STREAM_HEAD + events[0] + events[1])
                    sent = 2
                elif position < len(events) - 2:
                    connection.send(events[position])
                else:
                    del self._streams[connection]
                    connection.send(b"".join(events[position:]) + b"0\r\n\r\n")
                    continue
                self.tokens += 1
                self._streams[connection] = (events, sent)


class Connection(asyncio.Protocol):
    """One client; requests come one after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        self._transport = None
        self._engine.forget(self)

    def data_received(self, data: bytes) -> None:
        """Whole requests only are answered."""
        self._buffer += data
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(rest) < length:
            return
        self._buffer = b""
        if head.startswith(b"GET /tokens"):
            self.send(_whole(json.dumps(self._engine.tokens).encode()))
        elif b'"stream":true' in rest:
            loop = asyncio.get_running_loop()
            loop.call_later(self._engine.first, self._engine.begin, self)
        else:
            self.send(self._engine.answer)

    def send(self, data: bytes) -> None:
        """Write, unless the client is gone."""
        if self._transport is not None:
            self._transport.write(data)


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


async def main(port: int, first_ms: float, interval_ms: float) -> None:
    """Serve until killed."""
    engine = Engine(first_ms / 1000, interval_ms / 1000)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Connection(engine), "127.0.0.1", port, backlog=4096)
    await engine.run()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
