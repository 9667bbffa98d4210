"""One request on one connection, and the only way to answer it."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tresor_gateway.api.errors import ApiError
    from tresor_gateway.http.server import ServerConnection

JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_END_CHUNK: Final = b"0\r\n\r\n"

Headers = tuple[tuple[bytes, bytes], ...]


def _nothing() -> None:
    return


class Exchange:
    """A received request; answered exactly once, by ``respond`` or by a stream.

    ``context`` belongs to the application. ``on_pause``/``on_resume`` tell it that the client
    reads slower than it is written to. ``received_ns`` is the monotonic time of the first byte.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "body",
        "context",
        "headers",
        "method",
        "on_pause",
        "on_resume",
        "received_ns",
        "refusal",
        "request_id",
        "sent_bytes",
        "target",
    )

    def __init__(self, connection: ServerConnection) -> None:
        self._connection: ServerConnection | None = connection
        self._chunked = False
        self.method = b""
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.context: Any = None
        self.refusal: ApiError | None = None
        self.request_id = b""
        self.received_ns = time.monotonic_ns()
        self.sent_bytes = 0
        self.on_pause: Callable[[], None] = _nothing
        self.on_resume: Callable[[], None] = _nothing

    @property
    def open(self) -> bool:
        """Whether an answer can still reach the client."""
        return self._connection is not None

    @property
    def paused(self) -> bool:
        """Whether the client is behind; write no more until ``on_resume``."""
        return self._connection is not None and self._connection.write_paused

    def respond(
        self, status: int, body: bytes, headers: Headers = (), content_type: bytes = JSON
    ) -> None:
        """The whole answer at once."""
        connection = self._connection
        if connection is None:
            return
        head = self._head(connection, status, headers, content_type if body else b"")
        if status != HTTPStatus.NO_CONTENT:
            head += b"Content-Length: %d\r\n" % len(body)
        if self.method == b"HEAD":
            # Its answer ends with the head; a body would be read as the next answer.
            body = b""
        self.sent_bytes += len(body)
        connection.write(head + b"\r\n" + body)
        self._finish(connection)

    def start_stream(self, content_type: bytes, first: bytes) -> None:
        """Begin a streamed answer with its first bytes, in one write."""
        connection = self._connection
        if connection is None:
            return
        self._chunked = connection.http_1_1
        if not self._chunked:
            connection.close_after_answer = True
        head = self._head(connection, 200, ((b"X-Accel-Buffering", b"no"),), content_type)
        if self._chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        connection.write_now(head + b"\r\n" + self._frame(first))

    def write(self, data: bytes) -> None:
        """More of a streamed answer."""
        if self._connection is not None and data:
            self._connection.write_now(self._frame(data))

    def end_stream(self, data: bytes = b"") -> None:
        """The last bytes of a streamed answer."""
        connection = self._connection
        if connection is None:
            return
        last = self._frame(data) if data else b""
        if self._chunked:
            last += _END_CHUNK
        if last:
            connection.write_now(last)
        self._finish(connection)

    def detach(self) -> None:
        """The client is gone; nothing written from now on goes anywhere."""
        self._connection = None
        self.on_pause = self.on_resume = _nothing

    def close_connection(self) -> None:
        """The answer that follows is the connection's last."""
        if self._connection is not None:
            self._connection.close_after_answer = True

    def _frame(self, data: bytes) -> bytes:
        self.sent_bytes += len(data)
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _head(
        self, connection: ServerConnection, status: int, headers: Headers, content_type: bytes
    ) -> bytes:
        head = _STATUS_LINES[status]
        if content_type:
            head += b"Content-Type: %b\r\n" % content_type
        head += b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        if self.request_id:
            head += b"X-Request-Id: %b\r\n" % self.request_id
        for name, value in headers:
            head += b"%b: %b\r\n" % (name, value)
        if connection.last_answer:
            head += b"Connection: close\r\n"
        return head

    def _finish(self, connection: ServerConnection) -> None:
        self.detach()
        # The application's part knows us: together we would wait for the garbage collector.
        self.context = None
        connection.answered()
