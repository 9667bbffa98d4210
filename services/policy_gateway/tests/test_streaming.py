"""Streams: token by token, honest about their end, and no work for nobody."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    DONE,
    QUESTION,
    Client,
    Engine,
    EngineRequest,
    Site,
    answer,
    chunk,
    completion,
    event,
    stream_head,
    stream_two,
    usage_event,
)

pytestmark = pytest.mark.asyncio
STREAM = {**QUESTION, "stream": True}


def use(engines: list[Engine], script: Any) -> None:
    for engine in engines:
        engine.script = script


async def ask(site: Site, body: Any = None) -> Client:
    client = await site.client()
    client.request("POST", CHAT_PATH, site.issuer.token(), body or STREAM)
    return client


async def test_tokens_arrive_before_the_engine_has_finished(
    site: Site, engines: list[Engine]
) -> None:
    steps = [asyncio.Event() for _ in range(3)]

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        for step, part in zip(
            steps, [event("In"), event(" Peru"), usage_event() + DONE], strict=True
        ):
            await step.wait()
            chunk(writer, part)
        writer.write(b"0\r\n\r\n")

    use(engines, script)
    async with asyncio.timeout(10):
        client = await ask(site)
        steps[0].set()
        status, headers = await client.head()
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        assert await client.chunk() == event("In")
        steps[1].set()
        assert await client.chunk() == event(" Peru")
        steps[2].set()
        assert await client.chunks() == DONE
    await site.stop()
    [record] = site.decisions()
    assert record["tokens"] == {"completion": 2, "prompt": 7, "total": 9}
    assert 0 < record["latency_us"]["first"] <= record["latency_us"]["total"]


@pytest.mark.parametrize("wanted", [True, False])
async def test_usage_is_shown_only_to_those_who_asked(
    site: Site, engines: list[Engine], *, wanted: bool
) -> None:
    use(engines, stream_two)
    body = {**STREAM, "stream_options": {"include_usage": True}} if wanted else STREAM
    response = await (await ask(site, body)).response()
    assert (b'"usage"' in response.body) == wanted
    assert response.body.endswith(DONE)
    [request] = engines[0].requests + engines[1].requests
    assert request.body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
async def test_events_split_anywhere_are_put_together(
    site: Site, engines: list[Engine], size: int
) -> None:
    whole = event('"usage" [DONE] \\n\\n "error"') + event("x") + usage_event() + DONE

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        for start in range(0, len(whole), size):
            chunk(writer, whole[start : start + size])
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    use(engines, script)
    response = await (await ask(site)).response()
    assert response.body == whole.replace(usage_event(), b"")


async def test_client_that_leaves_cancels_the_engine(site: Site, engines: list[Engine]) -> None:
    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        chunk(writer, event("In"))
        await asyncio.Event().wait()

    use(engines, script)
    async with asyncio.timeout(10):
        client = await ask(site)
        await client.head()
        await client.chunk()
        client.abort()
        used = engines[0] if engines[0].requests else engines[1]
        await used.closed.wait()
    await site.stop()
    [record] = site.decisions()
    assert (record["reason"], record["status"]) == ("client_closed", 499)


async def test_client_that_leaves_before_the_first_token_cancels_the_engine(
    site: Site, engines: list[Engine]
) -> None:
    asked = asyncio.Event()

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await asyncio.Event().wait()

    use(engines, script)
    async with asyncio.timeout(10):
        client = await ask(site, QUESTION)
        await asked.wait()
        client.abort()
        used = engines[0] if engines[0].requests else engines[1]
        await used.closed.wait()
    await site.stop()
    assert [record["reason"] for record in site.decisions()] == ["client_closed"]


def _cut(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _no_mark(writer: asyncio.StreamWriter) -> None:
    writer.write(b"0\r\n\r\n")


def _error_event(writer: asyncio.StreamWriter) -> None:
    chunk(writer, b'data: {"error":{"message":"internals of the engine","code":500}}\n\n')
    chunk(writer, DONE)
    writer.write(b"0\r\n\r\n")


def _garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"zzz\r\n")


def _half_event(writer: asyncio.StreamWriter) -> None:
    chunk(writer, event("secret")[:20])
    writer.transport.close()


@pytest.mark.parametrize("end", [_cut, _no_mark, _error_event, _garbage, _half_event])
async def test_engine_death_in_mid_stream_is_said(
    site: Site, engines: list[Engine], end: Any
) -> None:
    seen = asyncio.Event()

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        chunk(writer, event("In"))
        await writer.drain()
        await seen.wait()
        end(writer)

    use(engines, script)
    async with asyncio.timeout(10):
        client = await ask(site)
        await client.head()
        assert await client.chunk() == event("In")
        seen.set()
        rest = await client.chunks()
        assert await client.at_end()
    assert b"[DONE]" not in rest
    assert b"internals" not in rest
    assert rest.startswith(b"data: ")
    error = json.loads(rest[len(b"data: ") :])["error"]
    assert error["code"] == "upstream_error"
    # The other engine must not be asked once the client has seen a token.
    assert len(engines[0].requests) + len(engines[1].requests) == 1
    await site.stop()
    [record] = site.decisions()
    assert (record["decision"], record["reason"]) == ("error", "upstream_error")


async def test_silent_engine_in_mid_stream_ends_with_a_timeout(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(upstream={"idle_seconds": 0.05})

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        chunk(writer, event("In"))
        await asyncio.Event().wait()

    use(engines, script)
    response = await (await ask(site)).response()
    assert b"upstream_timeout" in response.body
    assert b"[DONE]" not in response.body


@pytest.mark.parametrize("body", [QUESTION, STREAM])
async def test_engine_that_never_answers_is_a_504(
    make_site: MakeSite, engines: list[Engine], body: Any
) -> None:
    site = await make_site(upstream={"first_byte_seconds": 0.05, "total_seconds": 0.06})

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    use(engines, script)
    response = await (await ask(site, body)).response()
    assert response.status == 504
    async with asyncio.timeout(10):
        await (engines[0] if engines[0].requests else engines[1]).closed.wait()


async def test_slow_reader_slows_the_engine_and_loses_nothing(
    site: Site, engines: list[Engine]
) -> None:
    part = event("x" * 60_000)
    count = 200
    written = 0
    stalled = asyncio.Event()

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        stream_head(writer)
        for _ in range(count):
            chunk(writer, part)
            written += 1
            try:
                async with asyncio.timeout(0.2):
                    await writer.drain()
            except TimeoutError:
                stalled.set()
                await writer.drain()
        chunk(writer, DONE)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    use(engines, script)
    async with asyncio.timeout(120):
        client = await ask(site)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await stalled.wait()
        assert written < count
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        response = await client.response()
    assert response.body == part * count + DONE


async def test_answer_that_is_no_stream_is_refused_as_garbage(
    site: Site, engines: list[Engine]
) -> None:
    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await answer(writer, 200, json.dumps(completion()).encode())

    use(engines, script)
    response = await (await ask(site)).response()
    assert response.status == 502
