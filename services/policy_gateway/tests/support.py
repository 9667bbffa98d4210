"""What the gateway's tests stand on: a token issuer, engines written here, a plain client."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from joserfc import jwk, jwt

from tresor_gateway import config, gateway
from tresor_gateway.audit.verify import order, verify
from tresor_gateway.process.worker import Worker

# A few examples are enough to see that a property still holds; make fuzz-gateway tries many.
FUZZ = hypothesis.settings(
    deadline=None,
    max_examples=int(os.environ.get("TRESOR_FUZZ_EXAMPLES", "25")),
    suppress_health_check=list(hypothesis.HealthCheck),
)
# A compiled class keeps its methods; what a test would put in their place is never called.
replaces_methods = pytest.mark.skipif(
    not str(gateway.__file__).endswith(".py"), reason="compiled methods cannot be replaced"
)
ISSUER = "https://idp.example.com"
AUDIENCE = "urn:example:gateway"
CHAT_PATH = "/v1/chat/completions"
QUESTION = {"model": "small", "messages": [{"role": "user", "content": "Where is Lima?"}]}


class Issuer:
    """Signs access tokens as the company's identity provider would."""

    def __init__(self) -> None:
        self.key = jwk.generate_key("RSA", 2048, {"kid": "k1", "use": "sig", "alg": "RS256"})
        self.other = jwk.generate_key("RSA", 2048, {"kid": "k1", "use": "sig", "alg": "RS256"})
        self.next = jwk.generate_key("RSA", 2048, {"kid": "k2", "use": "sig", "alg": "RS256"})

    def jwks(self, *keys: Any) -> bytes:
        return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "azp": "cli",
            "iat": now,
            "exp": now + 300,
            "jti": "t-1",
            "groups": ["llm-users"],
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, key: Any = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        head = {"alg": "RS256", "typ": "at+jwt", "kid": (key or self.key).kid} | (header or {})
        algorithms = [head["alg"]]
        return jwt.encode(head, self.claims(**changes), key or self.key, algorithms=algorithms)


@dataclass
class EngineRequest:
    """What an engine was asked."""

    target: str
    headers: dict[str, str]
    body: dict[str, Any]


Script = Callable[[EngineRequest, asyncio.StreamWriter], Awaitable[None]]


def completion(content: str = "In Peru.") -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def event(content: str, index: int = 0, finish: str | None = None) -> bytes:
    chunk = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served",
        "choices": [{"index": index, "delta": {"content": content}, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def usage_event() -> bytes:
    chunk = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served",
        "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


async def answer(writer: asyncio.StreamWriter, status: int, body: bytes, extra: str = "") -> None:
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{extra}\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()


def vectors(request: EngineRequest) -> dict[str, Any]:
    """An embedding for each of the inputs."""
    inputs = request.body["input"]
    in_base64 = request.body.get("encoding_format") == "base64"
    # The floats 0.25 and -1.5 in four bytes each.
    vector = "AACAPgAAwL8=" if in_base64 else [0.25, -1.5]
    count = 1 if isinstance(inputs, str) else len(inputs)
    return {
        "id": "e1",
        "object": "list",
        "created": 1,
        "model": "served",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i in range(count)],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


async def reply(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    value = vectors(request) if request.target == "/v1/embeddings" else completion()
    await answer(writer, 200, json.dumps(value).encode())


def stream_head(writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )


def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def stream_two(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    stream_head(writer)
    for part in (event("In"), event(" Peru"), usage_event(), DONE):
        chunk(writer, part)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


@dataclass
class Engine:
    """An engine on loopback whose behaviour is the test's."""

    script: Script = reply
    requests: list[EngineRequest] = field(default_factory=list)
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> Engine:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.split(": ", 1) for line in head[1:] if line)
                lowered = {name.lower(): value for name, value in headers.items()}
                body = await reader.readexactly(int(lowered["content-length"]))
                request = EngineRequest(head[0].split(" ")[1], lowered, json.loads(body))
                self.requests.append(request)
                running = asyncio.ensure_future(self.script(request, writer))
                gone = asyncio.ensure_future(reader.read(1))
                await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    self.closed.set()
                    running.cancel()
                    await asyncio.wait({running})
                    return
                gone.cancel()
                # Not "await gone": that would swallow a cancellation of this task.
                await asyncio.wait({gone})
                await running
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.closed.set()
            writer.close()
            if task is not None:
                self._tasks.discard(task)


@dataclass
class Response:
    """An answer as the client saw it."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: tuple[str, ...] = ()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found


class Client:
    """One connection, byte by byte when a test wants that."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.cookies: tuple[str, ...] = ()

    @classmethod
    async def open(cls, address: str) -> Client:
        if address.startswith("/"):
            return cls(*await asyncio.open_unix_connection(address))
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def request(
        self,
        method: str,
        target: str,
        token: str | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        data = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        lines = [f"{method} {target} HTTP/1.1", "Host: llm.example.com"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.send("\r\n".join([*lines, "", ""]).encode() + data)

    async def head(self) -> tuple[int, dict[str, str]]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.cookies = tuple(
            line.split(": ", 1)[1] for line in head if line.lower().startswith("set-cookie: ")
        )
        headers = {
            name.lower(): value
            for name, value in (line.split(": ", 1) for line in head[1:] if line)
        }
        return int(head[0].split(" ")[1]), headers

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]

    async def chunks(self) -> bytes:
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return b"".join(parts)

    async def response(self) -> Response:
        async with asyncio.timeout(60):
            status, headers = await self.head()
            if headers.get("transfer-encoding") == "chunked":
                return Response(status, headers, await self.chunks(), self.cookies)
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return Response(status, headers, body, self.cookies)

    async def at_end(self) -> bool:
        async with asyncio.timeout(60):
            return await self.reader.read(1) == b""

    def abort(self) -> None:
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class Site:
    """A gateway with its issuer and its audit log."""

    def __init__(self, folder: Path, issuer: Issuer, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.issuer = issuer
        self.settings = settings
        self.worker: Worker
        self._clients: list[Client] = []

    async def start(self) -> Site:
        text = json.dumps(self.settings)
        self.worker = Worker(config.parse(text, "test"), 0)
        await self.worker.start()
        return self

    async def stop(self) -> None:
        for client in self._clients:
            await client.close()
        await self.worker.stop()

    async def client(self) -> Client:
        client = await Client.open(self.worker.address)
        self._clients.append(client)
        return client

    async def ask(
        self,
        target: str = CHAT_PATH,
        body: Any = None,
        token: str | None = "",
        method: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """One request on a connection of its own; an empty token means a good one."""
        client = await self.client()
        bearer = self.issuer.token() if token == "" else token
        client.request(method or ("GET" if body is None else "POST"), target, bearer, body, headers)
        return await client.response()

    def records(self) -> list[dict[str, Any]]:
        """The audit log, after its chain was checked; call it when the gateway has stopped."""
        paths = order([self.folder / "audit"])
        verify(paths)
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]

    def decisions(self) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["type"] == "decision"]


NO_GUARDRAILS: dict[str, Any] = {
    "request": dict.fromkeys(
        ["email", "iban", "card", "phone", "ip", "secret", "injection"], "allow"
    ),
    "response": dict.fromkeys(
        ["email", "iban", "card", "phone", "ip", "secret", "output_schema"], "allow"
    ),
}
NO_GUARDRAILS["context"] = NO_GUARDRAILS["request"]


def settings(folder: Path, replicas: list[str]) -> dict[str, Any]:
    """A complete configuration of a stand-alone gateway."""
    return {
        "listen": {"tcp": "127.0.0.1:0"},
        "admin": {"tcp": "127.0.0.1:0"},
        "identity": {
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks": {"file": str(folder / "jwks.json"), "cooldown_seconds": 0.0001},
        },
        "models": [
            {
                "name": "smollm",
                "aliases": ["small"],
                "task": "chat",
                "context_tokens": 2048,
                "affinity": False,
                "artefact_digest": "sha256:aa",
                "replicas": [{"url": url, "served_name": "served"} for url in replicas],
            },
            {"name": "big", "task": "chat", "replicas": [{"url": replicas[0]}]},
            {"name": "minilm", "task": "embedding", "replicas": [{"url": replicas[0]}]},
        ],
        "access": [
            {
                "group": "llm-users",
                "models": ["smollm"],
                "endpoints": ["models", "chat.completions", "completions"],
            },
            {"group": "llm-embedding", "models": ["minilm"], "endpoints": ["embeddings"]},
        ],
        "guardrails": NO_GUARDRAILS,
        "upstream": {"probe_seconds": 0},
        "limits": {"max_body_bytes": 65536, "max_output_tokens": 4096, "drain_seconds": 5},
        "audit": {"directory": str(folder / "audit"), "host": "gw1", "commit_milliseconds": 5},
    }
