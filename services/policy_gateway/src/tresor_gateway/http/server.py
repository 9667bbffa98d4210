"""The server side of HTTP/1.1: an asyncio protocol around llhttp (httptools).

One request at a time per connection. What could be read in two ways is refused and the
connection closed: Transfer-Encoding with Content-Length, repeated framing headers, pipelining.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol, cast

import httptools

from tresor_gateway.api import errors
from tresor_gateway.api.errors import ApiError
from tresor_gateway.deadline import Deadline
from tresor_gateway.http.exchange import Exchange
from tresor_gateway.outbox import Outbox

WRITE_HIGH_WATER: Final = 256 << 10
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1 << 20
MAX_LENGTH_DIGITS: Final = 18
SINGLE_HEADERS: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"x-request-id",
        b"x-tresor-client-certificate",
        b"x-tresor-endpoint",
    }
)


class Application(Protocol):
    """What stands behind the connections. No method may block or raise."""

    def head_received(self, exchange: Exchange) -> ApiError | None:
        """Judge the head before the body is accepted; an error means the body is thrown away."""

    def request_received(self, exchange: Exchange) -> None:
        """The request is complete; answer it now or later."""

    def request_refused(self, exchange: Exchange, error: ApiError) -> None:
        """Record and send a refusal."""

    def client_gone(self, exchange: Exchange) -> None:
        """The client went away before its answer was complete."""


@dataclass(frozen=True)
class ServerLimits:
    """Bounds of a connection; sizes in bytes, times in seconds."""

    header_bytes: int
    body_bytes: int
    connections: int
    buffered_bytes: int
    receive_seconds: float
    keepalive_seconds: float


class HttpServer:
    """The state that all connections of a worker share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        application: Application,
        limits: ServerLimits,
        outbox: Outbox | None = None,
    ) -> None:
        self.loop = loop
        self.outbox = Outbox(loop) if outbox is None else outbox
        self.application = application
        self.limits = limits
        self.connections: set[ServerConnection] = set()
        self.draining = False
        # Bodies that are being received or answered, of all connections.
        self.buffered_bytes = 0
        self.refused_connections = 0
        self._empty: asyncio.Event = asyncio.Event()

    def protocol(self) -> asyncio.Protocol:
        """Factory for ``loop.create_server``."""
        return cast("asyncio.Protocol", ServerConnection(self))

    def drain(self) -> None:
        """Answer what has begun, close what is idle."""
        self.draining = True
        self.outbox.flush()
        for connection in list(self.connections):
            connection.close_if_idle()
        self.forget(None)

    async def drained(self) -> None:
        """Wait until the last connection is gone."""
        await self._empty.wait()

    def abort(self) -> None:
        """End every connection at once."""
        for connection in list(self.connections):
            connection.abort()

    def forget(self, connection: ServerConnection | None) -> None:
        """Called by a connection that is gone."""
        if connection is not None:
            self.connections.discard(connection)
        if self.draining and not self.connections:
            self._empty.set()


class ServerConnection:
    """A client's connection (NGINX's, or a program's in stand-alone mode).

    An ``asyncio.Protocol`` by its methods, not by name: a compiled class can have no such base.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._application = server.application
        self._limits = server.limits
        self._outbox = server.outbox
        self._transport: asyncio.Transport | None = None
        self._deadline = Deadline(server.loop, self._late)
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._in_flight = False
        self._lingering = False
        self._ignored_bytes = 0
        self._header_bytes = 0
        self._wire_bytes = 0
        self._unread_bytes = 0
        self._in_head = True
        self._content_length: int | None = None
        self._has_body = False
        self._body_size = 0
        self._buffered = 0
        self._body: list[bytes] = []
        self._keep_alive = True
        self._fault: ApiError | None = None
        self.close_after_answer = False
        self.write_paused = False
        self.http_1_1 = True

    # --- transport -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept, unless the worker is full."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= self._limits.connections:
            self._server.refused_connections += 1
            self._transport.abort()
            return
        self._server.connections.add(self)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        # A client that connects and says nothing is slow from the first moment.
        self._deadline.set(self._limits.receive_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the work that nobody waits for any more."""
        self._deadline.close()
        self._transport = None
        exchange, self._exchange = self._exchange, None
        self._forget_body()
        if exchange is not None:
            exchange.detach()
            if self._in_flight:
                self._application.client_gone(exchange)
        self._server.forget(self)

    def eof_received(self) -> bool:
        """A half-closed client counts as gone: engines must not work for it."""
        return False

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.write_paused = True
        if self._exchange is not None:
            self._exchange.on_pause()
        elif self._transport is not None and not self._transport.is_closing():
            # The answer that is too much for the client is whole already.
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        if self._exchange is not None:
            self._exchange.on_resume()

    def data_received(self, data: bytes) -> None:
        """Feed the parser within the limits."""
        if self._lingering or self._in_flight:
            self._ignore(len(data))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            fault = self._fault or errors.malformed_http("The request is not valid HTTP/1.1.")
            self._refuse(fault)
            return
        if self._fault is not None:
            self._refuse(self._fault)
        elif self._exchange is not None and not self._in_flight:
            self._count_wire(len(data))

    # --- parser callbacks (must not raise) ----------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._exchange is not None:
            # A second request behind the first one: the first is answered, then we close.
            self.close_after_answer = True
            return
        self._exchange = Exchange(self)
        self._header_bytes = self._wire_bytes = self._ignored_bytes = self._body_size = 0
        self._in_head = True
        self._content_length = None
        self._body = []
        self._fault = None
        self._deadline.set(self._limits.receive_seconds)

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        if self._exchange is not None and not self._in_flight:
            self._exchange.target += url
            self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        exchange = self._exchange
        if exchange is None or self._in_flight or self._fault is not None:
            return
        self._count_header(len(name) + len(value) + 4)
        if not self._in_head:
            self._fault = errors.malformed_http("Trailers are not supported.")
            return
        name = name.lower()
        if name in exchange.headers:
            if name in SINGLE_HEADERS:
                self._fault = errors.malformed_http(
                    f"The header {name.decode('latin-1')} is there more than once."
                )
                return
            value = exchange.headers[name] + b", " + value
        exchange.headers[name] = value

    def on_headers_complete(self) -> None:
        """Judge the head before any of the body is kept."""
        exchange = self._exchange
        if exchange is None or self._in_flight:
            return
        self._in_head = False
        exchange.method = self._parser.get_method()
        self.http_1_1 = self._parser.get_http_version() == "1.1"
        self._keep_alive = self._parser.should_keep_alive()
        if self._fault is None and self._parser.should_upgrade():
            self._fault = errors.malformed_http("Protocol upgrades are not supported.")
        if self._fault is None:
            self._fault = self._check_framing(exchange.headers)
        if self._fault is not None:
            return
        exchange.refusal = self._application.head_received(exchange)
        if exchange.headers.get(b"expect", b"").lower() == b"100-continue" and self.http_1_1:
            if exchange.refusal is not None:
                self._fault = exchange.refusal
            elif self._has_body:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        exchange = self._exchange
        if exchange is None or self._in_flight or self._fault is not None:
            return
        self._body_size += len(data)
        if self._body_size > self._limits.body_bytes:
            self._forget_body()
            self._fault = errors.too_large(self._limits.body_bytes)
        elif exchange.refusal is None:
            self._server.buffered_bytes += len(data)
            if self._server.buffered_bytes > self._limits.buffered_bytes:
                self._server.buffered_bytes -= len(data)
                self._forget_body()
                self._fault = errors.unavailable("overloaded", "The gateway is busy.", 2)
                return
            self._buffered += len(data)
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        exchange = self._exchange
        if exchange is None or self._in_flight or self._fault is not None:
            return
        self._in_flight = True
        self._deadline.clear()
        self._ignored_bytes = 0
        body = self._body
        exchange.body = body[0] if len(body) == 1 else b"".join(body)
        self._body = []
        if exchange.refusal is not None:
            self._application.request_refused(exchange, exchange.refusal)
        else:
            self._application.request_received(exchange)

    # --- answers --------------------------------------------------------------------------------

    @property
    def last_answer(self) -> bool:
        """Whether the connection ends after the answer being written."""
        return self.close_after_answer or not self._keep_alive or self._server.draining

    def write(self, data: bytes) -> None:
        """A whole answer: it leaves together with others."""
        if self._transport is not None and not self._transport.is_closing():
            self._outbox.write(self._transport, data)

    def write_now(self, data: bytes) -> None:
        """A piece of a stream: somebody is reading along."""
        if self._transport is not None and not self._transport.is_closing():
            self._outbox.flush()
            self._transport.write(data)

    def answered(self) -> None:
        """The exchange is finished: wait for the next request, or end."""
        self._exchange = None
        self._forget_body()
        complete, self._in_flight = self._in_flight, False
        if self._transport is None:
            return
        if not self.last_answer:
            self._ignored_bytes = 0
            self._deadline.set(self._limits.keepalive_seconds)
            self._watch_reader(self._transport)
        elif complete and not self._ignored_bytes:
            self._outbox.flush()
            self._transport.close()
            self._deadline.set(self._limits.keepalive_seconds)
            self._watch_reader(self._transport)
        else:
            self._linger()

    def close_if_idle(self) -> None:
        """Close when no request is being received or answered."""
        if self._exchange is None and not self._lingering and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- inner ------------------------------------------------------------------------------------

    def _watch_reader(self, transport: asyncio.Transport) -> None:
        """Somebody who does not read answers may not ask for more of them."""
        self._unread_bytes = transport.get_write_buffer_size()
        if self.write_paused and not transport.is_closing():
            transport.pause_reading()

    def _forget_body(self) -> None:
        """What was kept of a body is given back."""
        self._server.buffered_bytes -= self._buffered
        self._buffered = 0
        self._body = []

    def _count_wire(self, size: int) -> None:
        """Bound what the parser swallows without telling: llhttp keeps an unfinished header to
        itself, and sizes and extensions of chunks are no part of a body."""
        self._wire_bytes += size
        limits = self._limits
        if self._in_head:
            if self._wire_bytes > limits.header_bytes:
                self._refuse(errors.headers_too_large(limits.header_bytes))
        elif self._wire_bytes > 2 * limits.body_bytes + limits.header_bytes:
            self._refuse(errors.too_large(limits.body_bytes))

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.header_bytes and self._fault is None:
            self._fault = errors.headers_too_large(self._limits.header_bytes)

    def _check_framing(self, headers: dict[bytes, bytes]) -> ApiError | None:
        length = headers.get(b"content-length")
        coding = headers.get(b"transfer-encoding")
        self._has_body = coding is not None or length not in (None, b"0")
        if self.http_1_1 and b"host" not in headers:
            return errors.malformed_http("The header host is missing.")
        if coding is not None and length is not None:
            return errors.malformed_http("Transfer-Encoding and Content-Length exclude each other.")
        if coding is not None and (coding.lower() != b"chunked" or not self.http_1_1):
            return errors.malformed_http("The only supported transfer coding is chunked.")
        if length is not None:
            if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
                return errors.malformed_http("The header content-length is not a number.")
            if int(length) > self._limits.body_bytes:
                return errors.too_large(self._limits.body_bytes)
        return None

    def _refuse(self, error: ApiError) -> None:
        """Answer something that is not a complete request, then close."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._in_flight:
            # Garbage behind a request that is being answered: finish that, then close.
            self.close_after_answer = True
            return
        exchange = self._exchange or Exchange(self)
        self._exchange = exchange
        self.close_after_answer = True
        self._fault = None
        self._forget_body()
        self._ignored_bytes = 1
        self._deadline.clear()
        self._lingering = True
        self._application.request_refused(exchange, error)

    def _ignore(self, size: int) -> None:
        self.close_after_answer = True
        self._ignored_bytes += size
        if self._ignored_bytes > LINGER_BYTES:
            self.abort()

    def _linger(self) -> None:
        """Let the peer read our answer: closing with unread input would reset the connection."""
        self._lingering = True
        self._deadline.set(LINGER_SECONDS)
        if self._transport is not None and self._transport.can_write_eof():
            self._outbox.flush()
            self._transport.write_eof()

    def _late(self) -> None:
        transport = self._transport
        if transport is None:
            return
        unread = transport.get_write_buffer_size()
        if self._lingering:
            transport.abort()
        elif self._exchange is not None:
            self._refuse(errors.too_slow())
        elif 0 < unread < self._unread_bytes:
            # An answer on its way to a slow reader.
            self._unread_bytes = unread
            self._deadline.set(self._limits.keepalive_seconds)
        elif unread:
            transport.abort()
        else:
            transport.close()
