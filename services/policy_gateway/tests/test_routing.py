"""Which engine is asked, and what happens when it is not there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    QUESTION,
    Engine,
    EngineRequest,
    Site,
    answer,
    event,
    reply,
    stream_head,
    stream_two,
)
from tresor_gateway import config_schema as schema
from tresor_gateway.upstream.pool import EnginePool

pytestmark = pytest.mark.asyncio


async def test_requests_are_spread_over_the_replicas(site: Site, engines: list[Engine]) -> None:
    for _ in range(10):
        await site.ask(body=QUESTION)
    assert len(engines[0].requests) == len(engines[1].requests) == 5


async def test_the_less_loaded_engine_is_preferred(site: Site, engines: list[Engine]) -> None:
    release = asyncio.Event()
    asked = asyncio.Event()

    async def wait(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await release.wait()
        await reply(request, writer)

    engines[0].script = engines[1].script = wait
    first = await site.client()
    first.request("POST", CHAT_PATH, site.issuer.token(), QUESTION)
    async with asyncio.timeout(10):
        await asked.wait()
    busy, free = engines if engines[0].requests else reversed(engines)
    free.script = reply
    for _ in range(4):
        assert (await site.ask(body=QUESTION)).status == 200
    assert (len(busy.requests), len(free.requests)) == (1, 4)
    release.set()
    assert (await first.response()).status == 200


async def test_connections_to_engines_are_reused(site: Site, engines: list[Engine]) -> None:
    for _ in range(8):
        assert (await site.ask(body=QUESTION)).status == 200
    assert engines[0].connections == engines[1].connections == 1


async def test_dead_replica_is_left_out(site: Site, engines: list[Engine]) -> None:
    await engines[1].stop()
    for _ in range(6):
        assert (await site.ask(body=QUESTION)).status == 200
    await site.stop()
    assert max(record["attempts"] for record in site.decisions()) == 2
    # After the first failure nobody is sent there until the cool-down is over.
    assert sum(record["attempts"] for record in site.decisions()) == 7


async def test_replica_that_came_back_is_used_again(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(upstream={"cooldown_seconds": 0.001, "cooldown_max_seconds": 0.001})
    await engines[1].stop()
    for _ in range(4):
        assert (await site.ask(body=QUESTION)).status == 200
    await engines[1].start()
    async with asyncio.timeout(10):
        while not engines[1].requests:
            assert (await site.ask(body=QUESTION)).status == 200


async def test_all_replicas_dead_is_a_503(site: Site, engines: list[Engine]) -> None:
    for engine in engines:
        await engine.stop()
    response = await site.ask(body=QUESTION)
    assert response.status == 503
    assert response.error["code"] == "upstream_unavailable"
    assert int(response.headers["retry-after"]) > 0


async def _cut_silently(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _cut_after_head(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    stream_head(writer)
    await writer.drain()
    writer.transport.close()


async def _cut_in_first_event(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    stream_head(writer)
    writer.write(b"5\r\n" + event("lost")[:5] + b"\r\n")
    await writer.drain()
    writer.transport.close()


async def _busy(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    await answer(writer, 503, b'{"error":{"message":"queue full"}}')


@pytest.mark.parametrize("first", [_cut_silently, _cut_after_head, _cut_in_first_event, _busy])
async def test_failure_before_the_first_byte_goes_to_another_replica(
    site: Site, engines: list[Engine], first: Any
) -> None:
    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        if len(engines[0].requests) + len(engines[1].requests) == 1:
            await first(request, writer)
        else:
            await stream_two(request, writer)

    engines[0].script = engines[1].script = script
    response = await site.ask(body={**QUESTION, "stream": True})
    assert response.status == 200
    assert response.body.endswith(b"data: [DONE]\n\n")
    assert b"lost" not in response.body
    assert len(engines[0].requests) == len(engines[1].requests) == 1
    await site.stop()
    [record] = site.decisions()
    assert record["attempts"] == 2


async def test_idle_connection_closed_by_the_engine_is_no_failure(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site([engines[0].url])
    count = 0

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if count == 2:
            # What a keep-alive timeout looks like when it races with a request.
            writer.transport.abort()
        else:
            await reply(request, writer)

    engines[0].script = script
    for _ in range(3):
        assert (await site.ask(body=QUESTION)).status == 200
    assert count == 4


async def test_engine_that_closes_after_each_answer_is_fine(
    site: Site, engines: list[Engine]
) -> None:
    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await answer(writer, 200, b'{"usage":null}', "Connection: close\r\n")
        writer.close()

    engines[0].script = engines[1].script = script
    for _ in range(4):
        assert (await site.ask(body=QUESTION)).status == 200


async def test_engine_whose_pause_ends_while_it_is_looked_at_is_still_asked() -> None:
    """Between two questions who is healthy it would be neither healthy nor doubtful."""
    loop = asyncio.get_running_loop()
    pool = EnginePool(loop, schema.Upstream(), None)
    replica = pool.replica(schema.Replica(url="http://127.0.0.1:9"), "m")
    pool.failed(replica.engine, "test")
    usable = pool.usable([replica])
    assert usable == []
    replica.engine.down_until = 0.0
    assert pool.is_healthy(replica.engine)
    assert pool.doubtful([replica], usable) == [replica]
    assert pool.doubtful([replica], [replica]) == []
