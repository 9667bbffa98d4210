"""The protocol towards clients: what could be read in two ways is refused."""

from __future__ import annotations

import asyncio

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import CHAT_PATH, QUESTION, Engine, Site

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: 4\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: +4\r\n",
        b"Content-Length: 0x4\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length : 4\r\n",
        b"Host: b\r\nContent-Length: 4\r\n",
        b" folded: x\r\nContent-Length: 4\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        b"X: a\nContent-Length: 4\r\n",
        b"X: a\x00b\r\nContent-Length: 4\r\n",
    ],
)
async def test_smuggling_shape_is_refused_and_the_connection_closed(
    site: Site, engines: list[Engine], head: bytes
) -> None:
    client = await site.client()
    client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n0\r\n\r\n"
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    response = await client.response()
    assert response.status in (400, 413)
    assert response.headers["connection"] == "close"
    assert await client.at_end()
    await site.stop()
    [record] = site.decisions()
    assert record["decision"] == "deny"
    assert not any(engine.requests for engine in engines)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00", b"NONSENSE\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
async def test_what_is_not_http_is_refused(site: Site, data: bytes) -> None:
    client = await site.client()
    client.send(data)
    assert (await client.response()).status == 400
    assert await client.at_end()
    await site.stop()
    assert [record["reason"] for record in site.decisions()] == ["malformed_http"]


@pytest.mark.parametrize("finished", [True, False])
async def test_oversize_headers_are_refused(site: Site, *, finished: bool) -> None:
    client = await site.client()
    filler = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(40))
    client.send(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n" + filler + (b"\r\n" if finished else b""))
    response = await client.response()
    assert response.status == 431
    await site.stop()
    assert [record["reason"] for record in site.decisions()] == ["headers_too_large"]


async def test_endless_header_without_an_end_is_refused(site: Site) -> None:
    client = await site.client()
    client.send(b"GET /v1/models HTTP/1.1\r\nX: " + b"a" * 40_000)
    assert (await client.response()).status == 431


async def test_slow_sender_is_refused(make_site: MakeSite) -> None:
    site = await make_site(limits={"receive_seconds": 0.05})
    client = await site.client()
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
    response = await client.response()
    assert response.status == 408
    assert await client.at_end()
    await site.stop()
    assert [record["reason"] for record in site.decisions()] == ["slow_sender"]


async def test_silent_client_is_closed_without_an_answer(make_site: MakeSite) -> None:
    site = await make_site(limits={"receive_seconds": 0.05})
    client = await site.client()
    assert await client.at_end()
    await site.stop()
    assert site.decisions() == []


async def test_connection_is_kept_alive(site: Site) -> None:
    client = await site.client()
    for _ in range(3):
        client.request("POST", CHAT_PATH, site.issuer.token(), QUESTION)
        assert (await client.response()).status == 200
    client.request("GET", "/nothing")
    assert (await client.response()).status == 404
    client.request("GET", "/v1/models", site.issuer.token())
    assert (await client.response()).status == 200


async def test_idle_connection_is_closed(make_site: MakeSite) -> None:
    site = await make_site(limits={"keepalive_seconds": 0.05})
    client = await site.client()
    client.request("GET", "/v1/models", site.issuer.token())
    assert (await client.response()).status == 200
    assert await client.at_end()


async def test_byte_by_byte_request_is_understood(site: Site) -> None:
    client = await site.client()
    client.writer.transport.set_write_buffer_limits(0)
    token = site.issuer.token()
    data = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    for position in range(len(data)):
        client.send(data[position : position + 1])
        await client.writer.drain()
    assert (await client.response()).status == 200


async def test_chunked_request_and_continue(site: Site) -> None:
    client = await site.client()
    client.send(
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {site.issuer.token()}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        "Expect: 100-continue\r\n\r\n".encode()
    )
    assert (await client.head())[0] == 100
    body = b'{"model":"small","messages":[{"role":"user","content":"Hi"}]}'
    client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    assert (await client.response()).status == 200


async def test_pipelined_request_behind_an_open_one_closes(
    site: Site, engines: list[Engine]
) -> None:
    client = await site.client()
    client.request("POST", CHAT_PATH, site.issuer.token(), QUESTION)
    client.request("GET", "/v1/models", site.issuer.token())
    response = await client.response()
    assert response.status == 200
    assert response.headers["connection"] == "close"
    assert await client.at_end()
    await site.stop()
    assert len(site.decisions()) == 1


async def test_http_1_0_gets_a_plain_answer(site: Site) -> None:
    client = await site.client()
    client.send(
        f"GET /v1/models HTTP/1.0\r\nAuthorization: Bearer {site.issuer.token()}\r\n\r\n".encode()
    )
    assert (await client.response()).status == 200
    assert await client.at_end()


async def test_full_worker_accepts_no_more_connections(make_site: MakeSite) -> None:
    site = await make_site(limits={"max_connections": 1})
    first = await site.client()
    first.request("GET", "/v1/models", site.issuer.token())
    await first.response()
    second = await site.client()
    with pytest.raises((ConnectionError, AssertionError)):
        assert not await second.at_end()


async def test_drain_answers_what_has_begun(site: Site, engines: list[Engine]) -> None:
    release = asyncio.Event()
    asked = asyncio.Event()
    script = engines[0].script

    async def wait(request: object, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await release.wait()
        await script(request, writer)  # type: ignore[arg-type]

    engines[0].script = engines[1].script = wait
    client = await site.client()
    client.request("POST", CHAT_PATH, site.issuer.token(), QUESTION)
    await asked.wait()
    stopping = asyncio.ensure_future(site.worker.stop())
    await asyncio.sleep(0)
    release.set()
    response = await client.response()
    assert response.status == 200
    assert response.headers["connection"] == "close"
    await stopping
    assert len(site.decisions()) == 1
