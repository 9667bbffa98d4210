"""Carry one request to an engine and its answer back, over as many replicas as it takes.

Another replica is tried only while nothing of an answer has reached the client. The result is
reported once to the ``Receiver``; after that nothing happens any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from tresor_gateway import config_schema as schema
from tresor_gateway.api import answers, errors
from tresor_gateway.api.answers import Tokens
from tresor_gateway.api.errors import ApiError
from tresor_gateway.deadline import Deadline
from tresor_gateway.upstream.connection import EngineConnection
from tresor_gateway.upstream.pool import ConnectError, Engine, EnginePool, Replica
from tresor_gateway.upstream.sse import EventFilter, StreamFaultError

log = logging.getLogger(__name__)
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_MAX_ERROR_BYTES: Final = 64 << 10


class Receiver(Protocol):
    """The request on whose behalf we ask. No method may raise."""

    def stream_data(self, data: bytes) -> None:
        """Whole events of a stream; the first ones open it."""

    def stream_end(self) -> None:
        """The stream is complete, up to its end mark (which is the receiver's to send)."""

    def stream_cut(self, error: ApiError) -> None:
        """The stream has begun and will not be completed."""

    def answer(self, body: bytes) -> None:
        """A complete answer."""

    def refused(self, error: ApiError) -> None:
        """There is no answer, and nothing was sent yet."""


def _no_body(_served_name: str) -> bytes:
    return b""


class Forward:
    """One request on its way. Created, started once, then either reported or cancelled."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: EnginePool,
        settings: schema.Upstream,
        receiver: Receiver,
        *,
        target: bytes,
        request_id: bytes,
        stream: bool,
        usage_wanted: bool,
        body: Callable[[str], bytes],
        more_headers: bytes = b"",
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._settings = settings
        # None when there is nothing more to report: nobody is kept alive by us.
        self._receiver: Receiver | None = receiver
        self._target = target
        self._request_id = request_id
        self._stream = stream
        self._usage_wanted = usage_wanted
        self._body = body
        self._more_headers = more_headers
        self._waiting: list[Replica] = []
        self._replica: Replica | None = None
        self._connection: EngineConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._deadline: Deadline | None = None
        self._counted: Engine | None = None
        self._began = self._total_end = 0.0
        self._retried_stale = False
        self._over = False
        self._status = 0
        self._event_stream = False
        self._parts: list[bytes] = []
        self._size = 0
        self._events: EventFilter | None = None
        self._last_error: ApiError | None = None
        self._paused = False
        self.started_stream = False
        self.first_byte_ns: int | None = None
        self.tokens: Tokens | None = None
        self.attempts = 0
        # Replicas of models with variants that gave no answer, so that another one was asked.
        self.left: tuple[Replica, ...] = ()

    @property
    def replica(self) -> Replica | None:
        """The replica asked last."""
        return self._replica

    def start(self, replicas: Sequence[Replica]) -> None:
        """Begin, in this order; the receiver hears about the outcome later, never during this."""
        self._waiting = list(replicas)
        self._began = self._loop.time()
        self._total_end = self._began + self._settings.total_seconds
        self._deadline = self._pool.deadlines.take(self._late)
        self._next()

    def cancel(self) -> None:
        """Nobody waits any more: the engine's work ends at once."""
        self._receiver = None
        if not self._over:
            self._close()

    def pause(self) -> None:
        """The client is behind."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()
            if not self._over:
                self._extend(self._settings.idle_seconds)

    # --- choosing and connecting ------------------------------------------------------------

    def _next(self) -> None:
        """Ask the next replica, or give up."""
        self._drop_connection()
        left = self._replica
        if left is not None and left.counted:
            self.left += (left,)
        if not self._waiting:
            self._refuse(
                self._last_error
                or errors.unavailable(
                    "upstream_unavailable", "No engine of this model is reachable."
                )
            )
            return
        self._replica = self._waiting.pop(0)
        self._attempt(self._replica)

    def _attempt(self, replica: Replica, *, fresh: bool = False) -> None:
        self.attempts += 1
        replica.engine.in_flight += 1
        replica.engine.requests.add(self)
        self._counted = replica.engine
        connection = None if fresh else self._pool.idle_connection(replica.engine)
        # The deadline covers the wait for the first byte; connecting has its own.
        first = self._settings.first_byte_seconds if self._stream else self._settings.total_seconds
        self._extend(first)
        if connection is not None:
            self._send(connection, replica)
        else:
            self._connecting = self._loop.create_task(self._connect(replica))

    async def _connect(self, replica: Replica) -> None:
        try:
            connection = await self._pool.connect(replica.engine)
        except ConnectError as problem:
            self._connecting = None
            self._pool.failed(replica.engine, str(problem))
            self._next()
            return
        self._connecting = None
        if self._over:
            connection.close()
            return
        receiver = self._receiver
        try:
            self._send(connection, replica)
        except Exception as error:
            self._broken(error, receiver)

    def _send(self, connection: EngineConnection, replica: Replica) -> None:
        body = self._body(replica.served_name)
        self._connection = connection
        self._status = 0
        self._parts = []
        self._size = 0
        self._events = EventFilter(usage_wanted=self._usage_wanted) if self._stream else None
        accept = b"text/event-stream" if self._stream else b"application/json"
        connection.send(
            b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nAccept: %b\r\n"
            b"X-Request-Id: %b\r\n%bContent-Length: %d\r\n\r\n%b"
            % (
                self._target,
                replica.engine.host_header,
                accept,
                self._request_id,
                self._more_headers,
                len(body),
                body,
            ),
            self,
        )

    # --- the engine's answer (Sink) ------------------------------------------------------------

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Status and headers are known."""
        if self._counted is not None:
            self._counted.heard += 1
        self._status = status
        content_type = headers.get(b"content-type", b"").lower()
        self._event_stream = content_type.startswith(b"text/event-stream")

    def data(self, data: bytes) -> None:
        """A piece of the body."""
        if self._over:
            return
        if self._counted is not None:
            self._counted.heard += 1
        if self._events is not None and self._status == 200 and self._event_stream:
            receiver = self._receiver
            try:
                self._stream_data(data, self._events)
            except Exception as error:
                self._broken(error, receiver)
            return
        self._size += len(data)
        limit = self._settings.max_response_bytes if self._status == 200 else _MAX_ERROR_BYTES
        if self._size > limit:
            self._fault(f"answer with status {self._status} is larger than {limit} bytes")
            return
        self._parts.append(data)

    def end(self) -> None:
        """The engine's answer is complete."""
        if self._over:
            return
        receiver = self._receiver
        try:
            if self._status != 200:
                self._error_answer()
            elif self._stream:
                self._end_of_stream()
            else:
                self._end_of_answer()
        except Exception as error:
            self._broken(error, receiver)

    def failed(self, problem: str) -> None:
        """The connection ended early."""
        if self._over:
            return
        connection, replica = self._connection, self._replica
        if replica is None or connection is None:
            return
        if self._status == 0 and connection.used and not self._retried_stale:
            # An idle connection that the engine closed while we were sending: no failure of it.
            self._retried_stale = True
            self._drop_connection()
            self._attempt(replica, fresh=True)
            return
        if self._events is not None and self._events.done:
            # Everything the client needs has arrived; only the connection is lost.
            self._end_of_stream()
            return
        self._fault(problem)

    def abandon(self, problem: str) -> None:
        """The engine hangs, or its host is gone; the pool knows already."""
        if not self._over:
            log.info("request %s: %s", self._request_id.decode(), problem)
            self._lost()

    # --- streams --------------------------------------------------------------------------------

    def _stream_data(self, data: bytes, events: EventFilter) -> None:
        try:
            out = events.feed(data)
        except StreamFaultError as error:
            self._fault(str(error))
            return
        self._extend(self._settings.idle_seconds)
        if out:
            self.started_stream = True
            if self.first_byte_ns is None:
                self.first_byte_ns = time.monotonic_ns()
            if self._receiver is not None:
                self._receiver.stream_data(out)

    def _end_of_stream(self) -> None:
        events = self._events
        if events is None or not self._event_stream or not events.done:
            self._fault("the stream ended without its end mark")
            return
        self.tokens = events.tokens
        self._succeed()
        if not self.started_stream:
            self.first_byte_ns = time.monotonic_ns()
        if (receiver := self._last_report()) is not None:
            receiver.stream_end()

    # --- whole answers ---------------------------------------------------------------------------

    def _end_of_answer(self) -> None:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        try:
            answer = answers.ANSWER.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._fault("the answer is not the JSON object it should be")
            return
        self.tokens = Tokens.of(answer.usage)
        self.first_byte_ns = time.monotonic_ns()
        self._succeed()
        if (receiver := self._last_report()) is not None:
            receiver.answer(body)

    def _error_answer(self) -> None:
        error = answers.engine_error(self._status, b"".join(self._parts))
        replica = self._replica
        if replica is not None:
            log.info("engine %s: answered with status %d", replica.engine.address, self._status)
        if self._status in _RETRIED and self._waiting:
            self._last_error = error
            self._next()
            return
        self._succeed()
        if (receiver := self._last_report()) is not None:
            receiver.refused(error)

    # --- endings ----------------------------------------------------------------------------------

    def _fault(self, problem: str) -> None:
        """The engine did not keep to its part; before the first byte another one may."""
        replica = self._replica
        if replica is not None:
            self._pool.failed(replica.engine, problem)
        self._lost()

    def _lost(self) -> None:
        if self.started_stream:
            self._close()
            if (receiver := self._last_report()) is not None:
                receiver.stream_cut(errors.upstream_failed("The model's engine was lost."))
            return
        self._last_error = errors.upstream_failed()
        self._next()

    def _broken(self, error: Exception, receiver: Receiver | None) -> None:
        """Our own mistake: nobody waits for ever because of it."""
        log.error("request %s", self._request_id.decode(), exc_info=error)
        self._close()
        self._last_report()
        if receiver is None:
            return
        if self.started_stream:
            receiver.stream_cut(errors.internal())
        else:
            receiver.refused(errors.internal())

    def _late(self) -> None:
        if self._over:
            return
        if self._paused and self._loop.time() < self._total_end:
            # Silence while we do not read is not the engine's.
            self._extend(self._settings.idle_seconds)
            return
        replica = self._replica
        log.warning("engine %s: deadline passed", replica.engine.address if replica else "-")
        started = self.started_stream
        self._close()
        receiver = self._last_report()
        if receiver is None:
            return
        if started:
            receiver.stream_cut(errors.upstream_timeout())
        else:
            receiver.refused(errors.upstream_timeout())

    def _refuse(self, error: ApiError) -> None:
        self._close()
        if (receiver := self._last_report()) is not None:
            receiver.refused(error)

    def _last_report(self) -> Receiver | None:
        receiver, self._receiver = self._receiver, None
        return receiver

    def _succeed(self) -> None:
        """The answer is complete: keep the connection, the engine is healthy."""
        replica, connection = self._replica, self._connection
        self._connection = None
        if replica is not None:
            self._pool.succeeded(replica.engine)
            self._pool.took(replica.engine, self._loop.time() - self._began)
            self._uncount()
            if connection is not None:
                if self._paused:
                    connection.resume()
                self._pool.release(replica.engine, connection)
        self._finish()

    def _close(self) -> None:
        self._drop_connection()
        self._finish()

    def _finish(self) -> None:
        self._over = True
        # It knows the call, which knows us.
        self._body = _no_body
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            self._pool.deadlines.give(deadline)

    def _drop_connection(self) -> None:
        """Leave the current replica, whatever state it is in."""
        connection, self._connection = self._connection, None
        connecting, self._connecting = self._connecting, None
        if connection is not None:
            connection.close()
        if connecting is not None and connecting is not asyncio.current_task(self._loop):
            connecting.cancel()
        self._uncount()

    def _uncount(self) -> None:
        engine, self._counted = self._counted, None
        if engine is not None:
            engine.in_flight -= 1
            engine.requests.discard(self)

    def _extend(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.set_at(min(self._loop.time() + seconds, self._total_end))
