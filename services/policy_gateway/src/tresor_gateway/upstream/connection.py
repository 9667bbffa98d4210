"""The client side of HTTP/1.1: one connection to an engine, one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

from tresor_gateway.outbox import Outbox

MAX_HEADERS: Final = 64 << 10


class Sink(Protocol):
    """Who reads an engine's answer. No method may raise."""

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Status and headers are known."""

    def data(self, data: bytes) -> None:
        """A piece of the body."""

    def end(self) -> None:
        """The answer is complete."""

    def failed(self, problem: str) -> None:
        """The answer will never be complete."""


class EngineConnection:
    """Sends a request and reports the answer to its sink.

    An ``asyncio.Protocol`` by its methods, not by name: a compiled class can have no such base.
    """

    def __init__(
        self, gone: Callable[[EngineConnection], None], outbox: Outbox | None = None
    ) -> None:
        """``gone`` hears of the connection's end; without an ``outbox`` writes leave at once."""
        self._gone = gone
        self._outbox = outbox
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sink: Sink | None = None
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._parts: list[bytes] = []
        self._complete = False
        self._keep_alive = False
        self._fault: str | None = None
        self.idle_since = 0.0
        self.used = False

    def protocol(self) -> asyncio.Protocol:
        """Factory for ``loop.create_connection``: this one."""
        return cast("asyncio.Protocol", self)

    # --- requests ----------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether a request may be sent now."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and self._sink is None

    def send(self, request: bytes, sink: Sink) -> None:
        """Send a whole request; the answer goes to ``sink``."""
        self._sink = sink
        self._headers = {}
        self._header_bytes = 0
        self._complete = False
        self._fault = None
        if self._transport is None:
            sink.failed("connection is closed")
            return
        if self._outbox is None:
            self._transport.write(request)
        else:
            self._outbox.write(self._transport, request)

    @property
    def reusable(self) -> bool:
        """Whether the connection is ready for another request."""
        return self.alive and self._complete and self._keep_alive

    def pause(self) -> None:
        """Read no more for now (the client is behind)."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """End at once; an engine stops working when its client is gone."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # --- transport -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected (and the engine's certificate checked)."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report an answer that was cut off."""
        self._transport = None
        sink, self._sink = self._sink, None
        self._gone(self)
        if sink is not None:
            sink.failed(f"connection lost ({type(exc).__name__ if exc else 'closed by engine'})")

    def pause_writing(self) -> None:
        """A request is as large as a body may be: it waits in the transport."""

    def resume_writing(self) -> None:
        """The engine has read it."""

    def eof_received(self) -> None:
        """The engine sends no more: the connection closes."""

    def data_received(self, data: bytes) -> None:
        """Parse; hand the body pieces of one read over as one."""
        sink = self._sink
        if sink is None:
            # An engine that speaks without being asked is not one to reuse.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fault = self._fault or "answer is not valid HTTP/1.1"
        if self._fault is not None:
            self.close()
            sink.failed(self._fault)
            return
        parts = self._parts
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            sink.data(body)
        if self._complete and self._sink is sink:
            self._sink = None
            self.used = True
            sink.end()

    # --- parser callbacks (must not raise) ------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADERS:
            self._fault = "headers larger than the limit"
        else:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Status and headers are known."""
        parser, sink = self._parser, self._sink
        if sink is None or self._fault is not None:
            return
        status = parser.get_status_code()
        if not 200 <= status <= 599:
            self._fault = f"unexpected status {status}"
            return
        self._keep_alive = parser.should_keep_alive()
        sink.head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._complete:
            self._fault = "data behind the answer"
        else:
            self._parts.append(data)

    def on_message_begin(self) -> None:
        """Only one answer belongs to a request."""
        if self._complete:
            self._fault = "second answer to one request"

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._complete = True
