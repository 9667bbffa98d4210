"""Hostile load on a stand-alone gateway process; each case returns what was wrong, or nothing."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from services.policy_gateway.fuzz.site import Site, stand_alone

_RESERVE: Final = 512
_MIB_PER_CONNECTION: Final = 0.03
_PATIENCE: Final = 10.0
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


def allow_files(wanted: int) -> int:
    """Raise this process's limit of open files; how many there may be now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(soft, limit)


def request(site: Site, content: str, *, stream: bool = False) -> bytes:
    """A chat question."""
    message = {"role": "user", "content": content}
    body = json.dumps({"model": "chat-model", "messages": [message], "stream": stream}).encode()
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Authorization: Bearer {site.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def ask(site: Site, content: str = "Hello") -> int:
    """The status of one question on a connection of its own, within the time of a patient user."""
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(request(site, content))
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        writer.close()
        return status


async def opened(site: Site, count: int, first: bytes) -> list[tuple[Reader, Writer]]:
    """``count`` connections on each of which ``first`` was sent."""
    out = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        if first:
            writer.write(first)
        out.append((reader, writer))
    return out


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, but not longer than a patient user does."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and not condition():
        await asyncio.sleep(0.02)


async def many_connections(site: Site, count: int) -> list[str]:
    """Silent and half-sent connections by the thousand, while others are served."""
    before = site.rss_mib
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Slow: "
    held = await opened(site, count // 2, b"")
    held += await opened(site, count - count // 2, head)
    await asyncio.sleep(0.2)
    began = time.monotonic()
    statuses = [await ask(site) for _ in range(20)]
    seconds = (time.monotonic() - began) / 20
    grown = site.rss_mib - before
    for _, writer in held:
        writer.transport.abort()
    print(f"{count} connections: {grown:.0f} MiB more, {seconds * 1000:.1f} ms a question beside")
    problems = [] if statuses == [200] * 20 else [f"beside {count} connections: {statuses}"]
    if grown > 16 + count * _MIB_PER_CONNECTION:
        problems.append(f"{count} connections took {grown:.0f} MiB")
    return problems


async def more_connections_than_allowed(site: Site, limit: int) -> list[str]:
    """Beyond the limit connections are closed; those within are served, and places come back."""
    held = await opened(site, limit, b"")
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    problems = []
    with suppress(ConnectionError):
        writer.write(request(site, "Hello"))
        if await asyncio.wait_for(reader.read(1), _PATIENCE):
            problems.append("a connection beyond the limit was served")
    writer.transport.abort()
    held[0][1].write(request(site, "Hello"))
    line = await asyncio.wait_for(held[0][0].readuntil(b"\r\n"), _PATIENCE)
    if b" 200 " not in line:
        problems.append(f"a connection within the limit got {line!r}")
    for _, other in held:
        other.transport.abort()
    await asyncio.sleep(0.1)
    if await ask(site) != 200:
        problems.append("no place came back")
    return problems


async def slow_loris(site: Site, count: int) -> list[str]:
    """Heads and bodies that come byte by byte; whole requests are still answered."""
    question = request(site, "Hello")
    held = await opened(site, count, question[:-40])

    async def drip() -> None:
        for position in range(-40, -1):
            for _, writer in held:
                writer.write(question[position : position + 1])
            await asyncio.sleep(0.01)

    dripping = asyncio.ensure_future(drip())
    statuses = [await ask(site) for _ in range(10)]
    await dripping
    for _, writer in held:
        writer.transport.abort()
    return [] if statuses == [200] * 10 else [f"beside {count} slow senders: {statuses}"]


async def leaving_clients(site: Site, count: int) -> list[str]:
    """Who leaves, ends the engine's work: before the first token and in mid-stream."""
    problems = []
    engine = site.engine
    for content in ("please hang", "please slow"):
        left = engine.left_alone
        held = await opened(site, count, request(site, content, stream=True))
        await until(lambda: engine.working == count)
        if engine.working != count:
            problems.append(f"{content}: the engine works on {engine.working} of {count}")
        for _, writer in held:
            writer.transport.abort()
        began = time.monotonic()
        await until(lambda: engine.working == 0)
        if engine.working:
            problems.append(f"{content}: the engine still works for {engine.working}")
        print(f"{content}: {count} engine requests ended {time.monotonic() - began:.3f} s after")
        if engine.left_alone - left != count:
            problems.append(f"{content}: {engine.left_alone - left} of {count} were cancelled")
    return problems


async def bad_engines(site: Site) -> list[str]:
    """Death and garbage in mid-stream are said; a flood is stopped by who does not read."""
    problems = []
    for content in ("please die", "please garbage"):
        [(reader, writer)] = await opened(site, 1, request(site, content, stream=True))
        answer = await asyncio.wait_for(reader.read(), _PATIENCE)
        if b'"error"' not in answer or b"[DONE]" in answer:
            problems.append(f"{content}: {answer[-300:]!r}")
        writer.close()
    if (status := await ask(site, "please garbage")) != 502:
        problems.append(f"a whole answer of garbage got {status}")
    before = site.rss_mib
    # Stopped reading before the answer begins.
    held = await opened(site, 20, b"")
    for reader, writer in held:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request(site, "please flood", stream=True))
    await until(lambda: site.engine.working == len(held))
    await asyncio.sleep(2)
    if site.engine.working != len(held):
        problems.append(f"the engine floods {site.engine.working} of {len(held)}")
    grown = site.rss_mib - before
    print(f"20 floods that nobody reads: {grown:.0f} MiB more")
    if grown > 60:
        problems.append(f"floods that nobody reads took {grown:.0f} MiB")
    if await ask(site) != 200:
        problems.append("beside floods nobody was served")
    for _, writer in held:
        writer.transport.abort()
    await until(lambda: site.engine.working == 0)
    if site.engine.working:
        problems.append("floods go on when their clients have gone")
    return problems


Case = Callable[[Site], Awaitable[list[str]]]


async def run(folder: Path, cases: list[Case], **limits: Any) -> list[str]:  # noqa: ANN401
    """All ``cases`` on one gateway; afterwards every answer has a record and nothing crashed."""
    problems: list[str] = []
    async with stand_alone(folder, **limits) as site:
        for case in cases:
            problems += await case(site)
        site.stop()
        log = (folder / "gateway.log").read_text(errors="replace")
    if "Traceback" in log or "Fatal error" in log:
        problems.append(log[-5000:])
    return problems
