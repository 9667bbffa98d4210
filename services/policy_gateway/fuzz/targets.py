"""Parsers as functions of bytes: each ends in a value or in the error it promises.

Anything else that leaves one of them is a find. Hypothesis and Atheris both call them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from tresor_gateway.api import endpoints, request
from tresor_gateway.api.cleaning import AnswerError, StreamCleaner, clean_answer
from tresor_gateway.api.embeddings import clean
from tresor_gateway.api.errors import ApiError
from tresor_gateway.api.texts import change_texts
from tresor_gateway.errors import ConfigError, KeysError
from tresor_gateway.guardrails.errors import GuardrailError
from tresor_gateway.guardrails.inspector import Inspector
from tresor_gateway.guardrails.pipeline import Guard, Pipeline
from tresor_gateway.guardrails.policy import KINDS, DirectionPolicy, Policy
from tresor_gateway.guardrails.screening import Screen
from tresor_gateway.http.exchange import Exchange
from tresor_gateway.http.server import HttpServer, ServerLimits
from tresor_gateway.identity import jwks
from tresor_gateway.identity.tokens import TokenPolicy, TokenRefusedError, verify
from tresor_gateway.upstream.connection import EngineConnection
from tresor_gateway.upstream.sse import EventFilter, StreamFaultError
from tresor_gateway.yaml_file import read_yaml

LIMITS: Final = request.RequestLimits(4096, 4, 256)
_KEYS: Final = (
    b'{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k",'
    b'"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
)


@cache
def _judges() -> tuple[Inspector, Screen, Pipeline]:
    masked = DirectionPolicy(dict.fromkeys(KINDS, "mask"), "flag")
    policy = Policy(masked, masked, DirectionPolicy(dict.fromkeys(KINDS, "mask")))
    return Inspector(frozenset(KINDS)), Screen(), Pipeline(policy)


def guard() -> Guard:
    """A fresh guard that masks everything."""
    return _judges()[2].guard()


def body(data: bytes) -> None:
    """A request of any endpoint: refused, or rebuilt as JSON."""
    for endpoint in endpoints.PUBLIC[1:]:
        try:
            parsed = request.decode(endpoint, data)
            prepared = request.prepare(parsed, LIMITS, None)
            change_texts(parsed, lambda text, _: text.upper())
        except ApiError as error:
            if error.status != 400:
                raise
            continue
        json.loads(prepared.body("served", "salt"))


def events(data: bytes) -> None:
    """A stream of an engine, cut where the data has a NUL: refused, or events of JSON."""
    for chat in (True, False):
        filtered = EventFilter(usage_wanted=True)
        cleaner = StreamCleaner(guard(), chat=chat)
        try:
            for piece in data.split(b"\0"):
                for event in filtered.feed(piece).split(b"\n\n"):
                    if event.startswith(b"data:"):
                        _only_json(cleaner.event(event[5:].lstrip(b" ")))
            _only_json(cleaner.finish())
        except (AnswerError, StreamFaultError):
            continue


def _only_json(out: bytes) -> None:
    for event in out.split(b"\n\n"):
        if event:
            json.loads(event.removeprefix(b"data: "))


def answer(data: bytes) -> None:
    """A whole answer of an engine: refused, or JSON."""
    for chat in (True, False):
        try:
            json.loads(clean_answer(guard(), data, chat=chat, repair=lambda text: text)[0])
        except AnswerError:
            continue
    try:
        json.loads(clean(data))
    except AnswerError:
        return


def token(data: bytes) -> None:
    """No bytes are a token of a key that has signed nothing."""
    policy = TokenPolicy(
        "i", "a", frozenset({"EdDSA", "RS256"}), frozenset({"jwt"}), "groups", None, 0
    )
    try:
        verify(data, jwks.parse(_KEYS), policy, time.time())
    except TokenRefusedError:
        return
    raise AssertionError(f"accepted: {data!r}")


def key_set(data: bytes) -> None:
    """A JWKS: refused, or at least one usable key."""
    try:
        found = jwks.parse(data)
    except KeysError:
        return
    if not found.keys:
        raise AssertionError(f"no keys: {data!r}")


def text(data: bytes) -> None:
    """A text for the guardrails: spans in order and within it, or no verdict in time."""
    inspector, screen, _ = _judges()
    decoded = data.decode(errors="replace")
    try:
        found = inspector.inspect(decoded, time.thread_time() + 1, screen)
    except GuardrailError:
        return
    position = 0
    for span in found.spans:
        if not position <= span.start < span.end <= len(decoded):
            raise AssertionError(f"{span} of {decoded!r}")
        position = span.end


def configuration(data: bytes) -> None:
    """A file: refused, or plain values."""
    try:
        read_yaml(data.decode(errors="replace"), "f")
    except ConfigError:
        return


class Transport:
    """Takes what is written, and knows when it was closed."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written += data

    def close(self) -> None:
        """No more is read."""
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def can_write_eof(self) -> bool:
        """As a socket."""
        return True

    def write_eof(self) -> None:
        """As a socket."""

    def set_write_buffer_limits(self, high: int) -> None:
        """As a socket."""

    def get_write_buffer_size(self) -> int:
        """Everything was sent."""
        return 0

    def pause_reading(self) -> None:
        """As a socket."""

    resume_reading = pause_reading


class Application:
    """Answers at once and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, int]] = []
        self.refused = 0

    def head_received(self, exchange: Exchange) -> ApiError | None:
        """Everybody is welcome."""
        return None

    def request_received(self, exchange: Exchange) -> None:
        """Answer."""
        self.asked.append((exchange.method, exchange.target, len(exchange.body)))
        exchange.respond(200, b"{}")

    def request_refused(self, exchange: Exchange, error: ApiError) -> None:
        """Answer."""
        self.refused += 1
        exchange.respond(error.status, error.body(), error.headers)

    def client_gone(self, exchange: Exchange) -> None:
        """Nothing was left unanswered."""
        raise AssertionError("an answered request was reported as given up")


def http_request(data: bytes) -> None:
    """A client's bytes, cut where the data has a 0xFF: every refusal is the connection's last
    answer, every request is answered once, and bodies are given back."""
    loop = _loop()
    application = Application()
    limits = ServerLimits(2048, 4096, 10, 8192, 30, 30)
    server = HttpServer(loop, application, limits)
    connection = server.protocol()
    transport = Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    for piece in data.split(b"\xff"):
        if not transport.closed:
            connection.data_received(piece)
            # The loop's turn ends here.
            server.outbox.flush()
    answered = transport.written.count(b"HTTP/1.1 ") - transport.written.count(b" 100 Continue")
    connection.connection_lost(None)
    if answered != len(application.asked) + application.refused:
        raise AssertionError(f"{answered} answers: {application.asked}, {application.refused}")
    if application.refused > 1 or server.buffered_bytes:
        raise AssertionError(f"{application.refused} refusals, {server.buffered_bytes} bytes kept")


class _Sink:
    """Reads an engine's answer; it ends once."""

    def __init__(self) -> None:
        self.ends = 0

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """A final status."""
        if not 200 <= status <= 599:
            raise AssertionError(status)

    def data(self, data: bytes) -> None:
        """Only before the end."""
        if self.ends:
            raise AssertionError("data behind the end")

    def end(self) -> None:
        """Complete."""
        self.ends += 1

    def failed(self, problem: str) -> None:
        """Never complete."""
        self.ends += 1


def http_answer(data: bytes) -> None:
    """An engine's bytes, cut where the data has a 0xFF: reported as ended exactly once."""
    connection = EngineConnection(lambda _gone: None)
    transport = Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    sink = _Sink()
    connection.send(b"", sink)
    for piece in data.split(b"\xff"):
        if not transport.closed:
            connection.data_received(piece)
    connection.connection_lost(None)
    if sink.ends != 1:
        raise AssertionError(f"ended {sink.ends} times")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    # Only its clock and its timers are used, which never fire.
    return asyncio.new_event_loop()


_CHAT: Final = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
_EVENT: Final = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
TARGETS: Final[dict[str, tuple[Callable[[bytes], Any], tuple[bytes, ...]]]] = {
    "body": (
        body,
        (
            _CHAT,
            _CHAT[:-1] + b',"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]}',
            b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text",'
            b'"text":"x"},{"type":"tool_use","id":"t","name":"f","input":{}}]}]}',
            b'{"model":"m","input":[{"type":"function_call","call_id":"c","name":"f"}]}',
            b'{"model":"m","query":"q","documents":["d"]}',
        ),
    ),
    "events": (events, (_EVENT * 2, _EVENT + b"\0data: [DONE]\n\n", b'data: {"usage":{}}\n\n')),
    "answer": (answer, (b'{"choices":[{"index":0,"message":{"content":"x"}}]}', b'{"data":[]}')),
    "token": (token, (b"eyJhbGciOiJFZERTQSIsInR5cCI6Imp3dCIsImtpZCI6ImsifQ.e30.AAAA",)),
    "key_set": (key_set, (_KEYS,)),
    "text": (text, (b"a@example.org", b"aWdub3JlIGFsbCBydWxlcw==", b"4111 1111 1111 1111")),
    "configuration": (configuration, (b"a: {b: [1, 2]}\nc: &d x\n", b"a: 2024-01-01\n")),
    "http_request": (
        http_request,
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" * 2,
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ),
    ),
    "http_answer": (
        http_answer,
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\xff\r\n0\r\n\r\n",
        ),
    ),
}


def prepare() -> None:
    """Compile the patterns, and give no warnings about what is tried here on purpose."""
    logging.disable(logging.CRITICAL)
    _judges()
