"""Clients that keep a number of requests going, and what they saw."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Final, cast

from services.policy_gateway.bench import script

_CONTENT: Final = b'"content":"'
_END: Final = b"0\r\n\r\n"


@dataclass
class Seen:
    """Times in seconds; ``bodies`` are those of the streams that ended."""

    answers: int = 0
    failures: int = 0
    totals: list[float] = field(default_factory=list)
    first_events: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


class Load:
    """``clients`` connections to one address, each with one request at a time."""

    def __init__(self, port: int, token: str, clients: int, *, stream: bool) -> None:
        body = script.question(stream=stream)
        self._port = port
        self._clients = clients
        self.stream = stream
        self._asked = 0
        request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (token.encode(), len(body), body)
        )
        self._before, self._behind = request.split(b"00000000", 1)
        self.seen = Seen()
        self.answered = 0
        self.failed = 0
        self.counting = False
        self.running = True
        self._done = asyncio.Event()
        self._open = 0

    async def start(self) -> None:
        """Connect all clients; each one begins at once."""
        loop = asyncio.get_running_loop()
        for number in range(self._clients):
            self._open += 1
            await loop.create_connection(lambda: _Client(self), "127.0.0.1", self._port)
            if number % 16 == 15:
                await asyncio.sleep(0.002)

    def request(self) -> bytes:
        """A question that nobody has asked before: a memory of judged texts must not help."""
        self._asked += 1
        return b"%b%08d%b" % (self._before, self._asked, self._behind)

    def count(self, *, on: bool) -> None:
        """Whether what is seen from now on counts."""
        self.counting = on

    async def finish(self, seconds: float = 60.0) -> None:
        """Begin nothing new, wait for what has begun."""
        self.running = False
        async with asyncio.timeout(seconds):
            await self._done.wait()

    def closed(self) -> None:
        """A client is through."""
        self._open -= 1
        if self._open == 0:
            self._done.set()


class _Client(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._began = self._last = 0.0
        self._counted = False
        self._token_seen = False
        self._left = 0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._began:
            self._load.failed += 1
        self._load.closed()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        load, first = self._load, not self._parts
        self._parts.append(data)
        if first and not data.startswith(b"HTTP/1.1 200"):
            self._ended(now, good=False)
            return
        if not load.stream:
            self._whole(data, now, first=first)
            return
        if self._counted:
            if self._token_seen:
                load.seen.gaps.append(now - self._last)
            else:
                if first:
                    load.seen.first_events.append(now - self._began)
                if _has_text(data):
                    self._token_seen = True
                    load.seen.first_tokens.append(now - self._began)
        self._last = now
        # The mark may come in two reads.
        self._tail = (
            data[-len(_END) :] if len(data) >= len(_END) else (self._tail + data)[-len(_END) :]
        )
        if self._tail == _END:
            body = b"".join(self._parts)
            self._ended(now, good=body.startswith(b"HTTP/1.1 200") and b"[DONE]" in body)

    def _whole(self, data: bytes, now: float, *, first: bool) -> None:
        if first:
            head, _, rest = data.partition(b"\r\n\r\n")
            mark = head.lower().find(b"content-length:")
            self._left = int(head[mark + 15 :].split(b"\r\n", 1)[0]) - len(rest)
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._ended(now, good=self._parts[0].startswith(b"HTTP/1.1 200"))

    def _ended(self, now: float, *, good: bool) -> None:
        load = self._load
        if good:
            load.answered += 1
        else:
            load.failed += 1
        if self._counted:
            load.seen.answers += good
            load.seen.failures += not good
            load.seen.totals.append(now - self._began)
            load.seen.bodies.append(b"".join(self._parts))
        self._began = 0.0
        if load.running and good:
            self._ask()
        elif self._transport is not None:
            self._transport.close()

    def _ask(self) -> None:
        self._parts = []
        self._token_seen = False
        self._counted = self._load.counting
        self._began = self._last = time.perf_counter()
        if self._transport is not None:
            self._transport.write(self._load.request())


def _has_text(data: bytes) -> bool:
    start = data.find(_CONTENT)
    while start >= 0:
        if data[start + len(_CONTENT) : start + len(_CONTENT) + 1] not in (b'"', b""):
            return True
        start = data.find(_CONTENT, start + 1)
    return False


def text_of(body: bytes) -> str:
    """What a client puts together from a stream or an answer."""
    raw = body.partition(b"\r\n\r\n")[2]
    if b"data: " not in raw:
        return str(json.loads(raw)["choices"][0]["message"]["content"])
    out: list[str] = []
    for line in _unchunk(raw).split(b"\n\n"):
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                out.append(choice["delta"].get("content") or "")
    return "".join(out)


def _unchunk(raw: bytes) -> bytes:
    out: list[bytes] = []
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        out.append(raw[:length])
        raw = raw[length + 2 :]
        if length == 0:
            break
    return b"".join(out)


def leaks(bodies: list[bytes]) -> int:
    """Bodies that hold a planted value; this engine uses no placeholder that would be put back."""
    return sum(any(secret in text_of(body) for secret in script.SECRETS) for body in bodies)
