"""Clients that want to hold on to more of the gateway than is theirs."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    QUESTION,
    Client,
    Engine,
    Site,
    replaces_methods,
)
from services.policy_gateway.tests.test_guardrails import use

pytestmark = pytest.mark.asyncio
HEAD = (
    f"POST {CHAT_PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    "Authorization: Bearer %s\r\n"
)


async def until(condition: Any) -> None:
    """Wait for something that happens in the gateway's loop."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("token", ["", None])
async def test_unfinished_requests_take_nobodys_place(
    make_site: MakeSite, token: str | None
) -> None:
    site = await make_site(limits={"max_concurrent_requests": 2})
    bearer = site.issuer.token() if token == "" else "x"
    clients = [await site.client() for _ in range(5)]
    for client in clients:
        client.send((HEAD % bearer + "Content-Length: 100\r\n\r\n{").encode())
    assert (await site.ask(body=QUESTION)).status == 200
    for client in clients:
        client.abort()
    await until(lambda: len(site.worker._server.connections) <= 1)
    for _ in range(3):
        assert (await site.ask(body=QUESTION)).status == 200
    assert site.worker.metrics.in_flight == 0
    # Nobody was answered, so nothing was decided.
    await site.stop()
    assert [record["status"] for record in site.decisions()] == [200] * 4


async def test_requests_that_become_whole_together_are_still_too_many(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(limits={"max_concurrent_requests": 2})
    release = asyncio.Event()
    script = engines[0].script

    async def wait(request: Any, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await script(request, writer)

    use(engines, wait)
    body = b'{"model":"small","messages":[{"role":"user","content":"Hi"}]}'
    clients = [await site.client() for _ in range(4)]
    for client in clients:
        head = HEAD % site.issuer.token() + f"Content-Length: {len(body)}\r\n\r\n"
        client.send(head.encode() + body[:-1])
    await until(lambda: site.worker._server.buffered_bytes == 4 * (len(body) - 1))
    for client in clients:
        client.send(body[-1:])
    answers = [asyncio.ensure_future(client.response()) for client in clients]
    await until(lambda: sum(answer.done() for answer in answers) == 2)
    release.set()
    statuses = sorted([(await answer).status for answer in answers])
    assert statuses == [200, 200, 503, 503]
    assert site.worker._server.buffered_bytes == 0


async def test_bodies_of_all_clients_together_are_bounded(make_site: MakeSite) -> None:
    site = await make_site(limits={"max_buffered_bytes": 100_000})
    head = HEAD % site.issuer.token() + "Content-Length: 60000\r\n\r\n"
    first, second = await site.client(), await site.client()
    first.send(head.encode() + b"x" * 59_999)
    await until(lambda: site.worker._server.buffered_bytes == 59_999)
    second.send(head.encode() + b"x" * 59_999)
    response = await second.response()
    assert (response.status, response.error["code"]) == (503, "overloaded")
    assert response.headers["retry-after"]
    assert await second.at_end()
    first.send(b"x")
    assert (await first.response()).status == 400
    await until(lambda: site.worker._server.buffered_bytes == 0)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"", b"1;" + b"e" * 1000 + b"\r\nx\r\n"),
        (b"1;", b"e" * 20_000),
        (b"0\r\nX: ", b"t" * 20_000),
        (b"0\r\n", b"X: t\r\n" * 2000),
    ],
    ids=["extensions", "endless-extension", "endless-trailer", "trailers"],
)
async def test_what_is_no_body_is_bounded_too(site: Site, first: bytes, more: bytes) -> None:
    client = await site.client()
    client.send((HEAD % site.issuer.token() + "Transfer-Encoding: chunked\r\n\r\n").encode())
    client.send(first)
    with suppress(ConnectionError):
        for _ in range(4_000_000 // len(more)):
            client.send(more)
            await client.writer.drain()
            await asyncio.sleep(0)
            if not site.worker._server.connections:
                break
    await site.stop()
    [record] = site.decisions()
    assert record["decision"] == "deny"
    assert record["reason"] in ("body_too_large", "malformed_http")


async def test_answers_nobody_reads_are_not_collected(make_site: MakeSite) -> None:
    models = [
        {
            "name": f"model-{number}-" + "n" * 100,
            "task": "chat",
            "replicas": [{"url": "http://127.0.0.1:9"}],
        }
        for number in range(2000)
    ]
    access = [
        {
            "group": "llm-users",
            "models": [m["name"] for m in models],
            "endpoints": ["models", "completions"],
        }
    ]
    site = await make_site(models=models, access=access, limits={"keepalive_seconds": 0.3})
    host, _, port = site.worker.address.rpartition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((host, int(port)))
    sock.setblocking(False)
    question = (
        f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {site.issuer.token()}\r\n\r\n"
    ).encode()
    await until(lambda: len(site.worker._server.connections) == 1)
    [connection] = site.worker._server.connections
    sizes = []
    for _ in range(100):
        with suppress(BlockingIOError, ConnectionError):
            sock.send(question)
        await asyncio.sleep(0.005)
        if connection._transport is None:
            break
        sizes.append(connection._transport.get_write_buffer_size())
    # An answer has 330 KB; a hundred of them would be 33 MB.
    assert max(sizes) < 2_000_000
    await until(lambda: not site.worker._server.connections)
    sock.close()


async def test_last_answer_that_nobody_reads_ends_too(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(limits={"keepalive_seconds": 0.2})

    async def large(request: Any, writer: asyncio.StreamWriter) -> None:
        body = b'{"choices":[],"x":"' + b"x" * 20_000_000 + b'"}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    use(engines, large)
    client = await site.client()
    client.request("POST", CHAT_PATH, site.issuer.token(), QUESTION, {"Connection": "close"})
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: site.worker._audit.written == 1)
    await until(lambda: not site.worker._server.connections)


async def test_slow_reader_of_a_large_answer_gets_all_of_it(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    # The kernel's own buffers empty in steps, so progress is not seen at every moment.
    site = await make_site(limits={"keepalive_seconds": 0.5})
    body = b'{"choices":[],"x":"' + b"x" * 8_000_000 + b'"}'

    async def large(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    use(engines, large)
    client = await site.client()
    client.request("POST", CHAT_PATH, site.issuer.token(), QUESTION, {"Connection": "close"})
    async with asyncio.timeout(20):
        _, headers = await client.head()
        received = 0
        while piece := await client.reader.read(1 << 20):
            received += len(piece)
            await asyncio.sleep(0.012)
    assert received == int(headers["content-length"])
    assert received == len(body)


async def test_head_has_no_body(site: Site) -> None:
    client = await site.client()
    for _ in range(2):
        client.request("HEAD", "/v1/models", site.issuer.token())
        status, headers = await client.head()
        assert status == 404
        assert int(headers["content-length"]) > 0
    client.request("GET", "/v1/models", site.issuer.token())
    assert (await client.response()).status == 200


@replaces_methods
async def test_who_leaves_before_the_token_is_known_was_not_allowed(make_site: MakeSite) -> None:
    site = await make_site()
    waiting = asyncio.Event()

    async def refresh() -> None:
        waiting.set()
        await asyncio.Event().wait()

    site.worker._authenticator.refresh = refresh  # type: ignore[method-assign]
    client = await Client.open(site.worker.address)
    client.request("POST", CHAT_PATH, site.issuer.token(key=site.issuer.next), QUESTION)
    await waiting.wait()
    client.abort()
    await until(lambda: not site.worker._server.connections)
    await site.stop()
    [record] = site.decisions()
    assert (record["decision"], record["reason"]) == ("deny", "client_closed")
