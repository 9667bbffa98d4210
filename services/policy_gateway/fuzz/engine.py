"""An engine for all endpoints whose answers are correct, and which behaves badly when told to."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

_WORDS: Final = ("The", " answer", " is", " 42", ".")
_DONE: Final = b"data: [DONE]\n\n"
_USAGE: Final = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
# What a user asks for in order to get it.
MISBEHAVIOURS: Final = ("hang", "die", "flood", "garbage", "slow")


@dataclass
class Engine:
    """Listens on loopback; ``working`` counts the answers it is busy with."""

    port: int = 0
    working: int = 0
    asked: int = 0
    left_alone: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    async def start(cls) -> Engine:
        """An engine that runs."""
        engine = cls()
        engine._server = await asyncio.start_server(engine._serve, "127.0.0.1", 0, backlog=4096)
        engine.port = engine._server.sockets[0].getsockname()[1]
        return engine

    async def stop(self) -> None:
        """End it with all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.asked += 1
                await self._watched(respond(head[0].split(" ")[1], body, writer), reader)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            # The gateway has closed the connection, or the engine stops.
            pass
        finally:
            writer.close()
            if task is not None:
                self._tasks.discard(task)

    async def _watched(self, work: Any, reader: asyncio.StreamReader) -> None:  # noqa: ANN401
        """Work until it is done or nobody waits for it any more."""
        self.working += 1
        running = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                self.left_alone += 1
                raise ConnectionResetError
            await running
        finally:
            self.working -= 1
            for future in (running, gone):
                future.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await future


async def respond(target: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Answer one request; misbehave when it says ``please`` and a misbehaviour."""
    text = json.dumps(body)
    misbehaviour = next((name for name in MISBEHAVIOURS if f"please {name}" in text), "")
    if misbehaviour == "hang":
        await asyncio.Event().wait()
    if body.get("stream"):
        await _stream(target, body, writer, misbehaviour)
        return
    if misbehaviour == "garbage":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>\xff\xfe!")
    else:
        data = json.dumps(_whole(target, body)).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    await writer.drain()


def _whole(target: str, body: dict[str, Any]) -> dict[str, Any]:
    if target == "/v1/embeddings":
        count = 1 if isinstance(body["input"], str) else len(body["input"])
        data = [{"object": "embedding", "index": i, "embedding": [0.5, -1.0]} for i in range(count)]
        return {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 3}}
    if target == "/v1/rerank":
        found = [{"index": i, "relevance_score": 0.5} for i in range(len(body["documents"]))]
        return {"id": "r", "model": "m", "results": found, "usage": {"total_tokens": 3}}
    text = "".join(_WORDS)
    choices = [
        {"index": i, "finish_reason": "stop"}
        | (
            {"text": text}
            if target == "/v1/completions"
            else {"message": {"role": "assistant", "content": text}}
        )
        for i in range(body.get("n") or 1)
    ]
    return {"id": "c", "object": "x", "created": 1, "model": "m", "choices": choices} | {
        "usage": _USAGE
    }


async def _stream(
    target: str, body: dict[str, Any], writer: asyncio.StreamWriter, misbehaviour: str
) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )

    async def send(data: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()

    def event(text: str, finish: str | None = None) -> bytes:
        piece: dict[str, Any] = (
            {"text": text} if target == "/v1/completions" else {"delta": {"content": text}}
        )
        choices = [
            {"index": i, "finish_reason": finish, **piece} for i in range(body.get("n") or 1)
        ]
        return b"data: " + json.dumps({"id": "c", "choices": choices}).encode() + b"\n\n"

    for word in _WORDS:
        await send(event(word))
    if misbehaviour == "die":
        writer.transport.abort()
        raise ConnectionResetError
    if misbehaviour == "garbage":
        await send(b"data: <html>\xff\n\n")
    while misbehaviour == "flood":
        await send(event(" more" * 1000))
    while misbehaviour == "slow":
        await send(event(" word"))
        await asyncio.sleep(0.1)
    await send(event("", "stop"))
    usage = {"id": "c", "choices": [], "usage": _USAGE}
    await send(b"data: " + json.dumps(usage).encode() + b"\n\n" + _DONE)
    writer.write(b"0\r\n\r\n")
    await writer.drain()
