"""The chat box's way to a worker: one request to its socket with the person's own token.

The worker decides as for any other client; nothing is allowed or recorded here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tresor_gateway.http.exchange import EVENT_STREAM, Exchange
from tresor_gateway.upstream.connection import EngineConnection

MAX_ANSWER_BYTES: Final = 4 << 20
_CONNECT_SECONDS: Final = 2.0
_ERROR_EVENT: Final = (
    b'data: {"error":{"message":"The gateway was lost.","type":"server_error",'
    b'"param":null,"code":"upstream_unavailable"}}\n\n'
)


class WorkerGoneError(Exception):
    """No worker could be reached, or it was lost before it answered."""


@dataclass(frozen=True)
class Question:
    """What the form asks."""

    model: str
    message: str
    token: str = field(repr=False)
    request_id: bytes
    stream: bool

    def request(self) -> bytes:
        """The bytes for a worker."""
        body = msgspec.json.encode(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": self.message}],
                "stream": self.stream,
            }
        )
        lines = [
            b"POST /v1/chat/completions HTTP/1.1",
            b"Host: portal",
            b"Authorization: Bearer " + self.token.encode("ascii"),
            b"Content-Type: application/json",
            b"Content-Length: %d" % len(body),
            b"X-Request-Id: " + self.request_id,
            b"Connection: close",
        ]
        return b"\r\n".join([*lines, b"", body])


@dataclass(frozen=True)
class Reply:
    """A whole answer of a worker; of a stream that was passed on only the status."""

    status: int
    body: bytes = b""


class Relay:
    """Reads a worker's answer: a stream is passed on as it comes, everything else is kept."""

    def __init__(self, exchange: Exchange, connection: EngineConnection) -> None:
        self._exchange = exchange
        self._connection = connection
        self._done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._pass_on = False
        self._streaming = False
        self._kept = bytearray()

    async def reply(self) -> Reply:
        """Wait for the end.

        Raises:
            WorkerGoneError: the answer never became whole, and nothing of it was passed on.
        """
        return await self._done

    # --- Sink -------------------------------------------------------------------------------

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Status and headers are known."""
        self._status = status
        kind = headers.get(b"content-type", b"")
        self._pass_on = status == 200 and kind.startswith(b"text/event-stream")

    def data(self, data: bytes) -> None:
        """A piece of the answer."""
        if not self._pass_on:
            self._kept += data
            if len(self._kept) > MAX_ANSWER_BYTES:
                self._connection.close()
                self.failed("answer is too large")
            return
        exchange = self._exchange
        if self._streaming:
            exchange.write(data)
            return
        self._streaming = True
        exchange.on_pause = self._connection.pause
        exchange.on_resume = self._connection.resume
        exchange.start_stream(EVENT_STREAM, data)

    def end(self) -> None:
        """The answer is whole."""
        if self._streaming:
            self._exchange.end_stream()
        self._finish(Reply(self._status, bytes(self._kept)))

    def failed(self, problem: str) -> None:
        """The answer will never be whole."""
        if self._streaming:
            self._exchange.close_connection()
            self._exchange.end_stream(_ERROR_EVENT)
            self._finish(Reply(self._status))
        elif not self._done.done():
            self._done.set_exception(WorkerGoneError(problem))

    def _finish(self, reply: Reply) -> None:
        if not self._done.done():
            self._done.set_result(reply)


class Workers:
    """The workers' sockets, asked in turn."""

    def __init__(self, addresses: tuple[str, ...], total_seconds: float) -> None:
        self._addresses = addresses
        self._next = 0
        self._total_seconds = total_seconds

    async def ask(self, question: Question, exchange: Exchange) -> Reply:
        """Send a question; a stream goes to ``exchange`` while it comes.

        Cancelling this ends the worker's work too.

        Raises:
            WorkerGoneError: no worker answered.
        """
        connection = await self._connect()
        relay = Relay(exchange, connection)
        connection.send(question.request(), relay)
        try:
            async with asyncio.timeout(self._total_seconds):
                return await relay.reply()
        except TimeoutError as error:
            raise WorkerGoneError("no answer in time") from error
        finally:
            connection.close()

    async def _connect(self) -> EngineConnection:
        loop = asyncio.get_running_loop()
        problem = "there are no workers"
        for _ in self._addresses:
            address = self._addresses[self._next % len(self._addresses)]
            self._next += 1

            def factory() -> EngineConnection:
                return EngineConnection(lambda _connection: None)

            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    if address.startswith("/"):
                        _, connection = await loop.create_unix_connection(factory, address)
                    else:
                        host, _, port = address.rpartition(":")
                        _, connection = await loop.create_connection(
                            factory, host.strip("[]"), int(port)
                        )
                    return connection
            except (OSError, TimeoutError) as error:
                problem = f"{address}: {error or 'no connection in time'}"
        raise WorkerGoneError(problem)
