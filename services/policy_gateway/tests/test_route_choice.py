"""Which model and which replica answer: routes, affinity, weights, queues, fallback, probes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    NO_GUARDRAILS,
    QUESTION,
    Engine,
    EngineRequest,
    Site,
    answer,
    chunk,
    completion,
    event,
    reply,
    settings,
    stream_head,
)
from tresor_gateway import config
from tresor_gateway.errors import ConfigError
from tresor_gateway.process.worker import Worker
from tresor_gateway.routing.affinity import score

pytestmark = pytest.mark.asyncio
RULES = [
    {"model": "big", "hints": ["tools"]},
    {"model": "big", "groups": ["llm-vip"]},
    {"model": "big", "languages": ["de"], "min_characters": 30},
    {"model": "big", "min_characters": 1000},
]
ACCESS = [
    {
        "group": "llm-users",
        "models": ["smollm", "big"],
        "endpoints": ["models", "chat.completions", "completions"],
    },
    {"group": "llm-vip", "models": ["big"], "endpoints": ["models", "chat.completions"]},
]


def models(engines: list[Engine], **small: Any) -> list[dict[str, Any]]:
    """Each model has an engine of its own."""
    return [
        {
            "name": "smollm",
            "aliases": ["small"],
            "task": "chat",
            "replicas": [{"url": engines[0].url}],
            **small,
        },
        {"name": "big", "task": "chat", "replicas": [{"url": engines[1].url}]},
    ]


@pytest.fixture
def routed(make_site: MakeSite, engines: list[Engine]) -> Any:
    async def make(small: dict[str, Any] | None = None, **changes: Any) -> Site:
        values: dict[str, Any] = {
            "models": models(engines, **(small or {})),
            "access": ACCESS,
            "routes": [{"name": "auto", "default": "smollm", "rules": RULES}],
        }
        return await make_site(**{**values, **changes})

    return make


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **more}


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (ask("Where is Lima?"), "smollm"),
        (ask("x " * 600), "big"),
        (ask("Wo liegt die Stadt Lima und wie ist das Wetter dort?"), "big"),
        (ask("Hi", tools=[TOOL]), "big"),
    ],
)
async def test_rules_choose_the_model(routed: Any, body: dict[str, Any], model: str) -> None:
    site = await routed()
    assert (await site.ask(body=body)).status == 200
    await site.stop()
    [record] = site.decisions()
    assert (record["route"], record["model"]) == ("auto", model)


async def test_group_decides_and_access_still_counts(routed: Any) -> None:
    site = await routed()
    token = site.issuer.token(groups=["llm-vip"])
    assert (await site.ask(body=ask("Hi"), token=token)).status == 200
    listed = (await site.ask("/v1/models", token=token, method="GET")).json["data"]
    assert [entry["id"] for entry in listed] == ["auto", "big"]
    await site.stop()
    assert site.decisions()[0]["model"] == "big"


async def test_route_to_nothing_one_may_use_does_not_exist(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(routes=[{"name": "auto", "default": "big"}])
    response = await site.ask(body=ask("Hi"))
    assert (response.status, response.error["code"]) == (404, "model_not_found")
    assert "auto" not in (await site.ask("/v1/models", method="GET")).body.decode()


async def test_conversation_stays_with_its_replica(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(models=_two_replicas(engines))
    for text in "abcdefghijkl":
        before = [len(engine.requests) for engine in engines]
        messages = [{"role": "user", "content": f"Question {text}"}]
        for turn in range(3):
            await site.ask(body={"model": "small", "messages": messages})
            messages += [
                {"role": "assistant", "content": "Answer"},
                {"role": "user", "content": f"More {turn}"},
            ]
        after = [len(engine.requests) for engine in engines]
        assert sorted(b - a for a, b in zip(before, after, strict=True)) == [0, 3]
    assert all(engine.requests for engine in engines)


def _two_replicas(engines: list[Engine], **second: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": "smollm",
            "aliases": ["small"],
            "task": "chat",
            "replicas": [{"url": engines[0].url}, {"url": engines[1].url, **second}],
        },
        {"name": "minilm", "task": "embedding", "replicas": [{"url": engines[0].url}]},
    ]


async def test_busy_replica_loses_its_conversation_to_an_idle_one(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(
        models=_two_replicas(engines), upstream={"probe_seconds": 0, "affinity_slack": 0}
    )
    release = asyncio.Event()

    async def slow(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await reply(request, writer)

    for engine in engines:
        engine.script = slow
    asking = [asyncio.ensure_future(site.ask(body=QUESTION)) for _ in range(4)]
    async with asyncio.timeout(10):
        while len(engines[0].requests) + len(engines[1].requests) < 4:
            await asyncio.sleep(0)
    assert [len(engine.requests) for engine in engines] == [2, 2]
    release.set()
    await asyncio.gather(*asking)


async def test_replica_without_weight_waits_for_the_others_to_fail(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(models=_two_replicas(engines, weight=0))
    for text in "abcdef":
        await site.ask(body={"model": "small", "messages": [{"role": "user", "content": text}]})
    assert not engines[1].requests
    await engines[0].stop()
    assert (await site.ask(body=QUESTION)).status == 200
    assert engines[1].requests


async def test_share_of_a_canary_follows_its_weight() -> None:
    replicas = {"stable:1": 95, "canary:1": 5}
    count: Counter[str] = Counter()
    for number in range(4000):
        key = number.to_bytes(16, "big")
        count[max(replicas, key=lambda r: score(key, r, replicas[r]))] += 1
    assert 120 < count["canary:1"] < 280


async def test_full_queue_is_a_429_with_an_honest_retry_after(
    routed: Any, engines: list[Engine]
) -> None:
    small = {"replicas": [{"url": engines[0].url, "max_requests": 1}]}
    site = await routed(small)
    release = asyncio.Event()

    async def slow(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await reply(request, writer)

    engines[0].script = slow
    first = asyncio.ensure_future(site.ask(body=QUESTION))
    async with asyncio.timeout(10):
        while not engines[0].requests:
            await asyncio.sleep(0)
    response = await site.ask(body=QUESTION)
    assert (response.status, response.error["code"]) == (429, "queue_full")
    assert 1 <= int(response.headers["retry-after"]) <= 60
    release.set()
    assert (await first).status == 200
    await site.stop()
    assert {record["reason"] for record in site.decisions()} == {"ok", "queue_full"}


async def test_fallback_answers_for_a_dead_model(routed: Any, engines: list[Engine]) -> None:
    site = await routed({"fallback": "big"})
    await engines[0].stop()
    assert (await site.ask(body=QUESTION)).status == 200
    await site.stop()
    [record] = site.decisions()
    assert (record["model"], record["fallback_of"]) == ("big", "smollm")


async def test_fallback_that_one_may_not_use_does_not_answer(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(models=[*models(engines, fallback="big"), _embedding(engines)])
    await engines[0].stop()
    assert (await site.ask(body=QUESTION)).status == 503


def _embedding(engines: list[Engine]) -> dict[str, Any]:
    return {"name": "minilm", "task": "embedding", "replicas": [{"url": engines[0].url}]}


async def test_probe_finds_a_broken_engine_and_its_recovery(
    site: Site, engines: list[Engine]
) -> None:
    worker: Worker = site.worker
    pool, prober = worker._pool, worker._prober

    async def broken(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await answer(writer, 500, b"{}")

    engines[1].script = broken
    await prober.round()
    health = {engine.port: pool.is_healthy(engine) for engine in pool.engines}
    assert health == {engines[0].port: True, engines[1].port: False}
    probe = engines[1].requests[0]
    assert (probe.target, probe.body["max_tokens"]) == ("/v1/completions", 1)
    engines[1].script = reply
    for engine in pool.engines:
        engine.last_success = 0.0
    prober._interval = 0.0
    await prober.round()
    assert all(pool.is_healthy(engine) for engine in pool.engines)


async def _silent(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _says_one_word(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    if request.body.get("stream"):
        stream_head(writer)
        chunk(writer, event("In "))
        await writer.drain()
    await asyncio.Event().wait()


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.005)


async def test_requests_leave_an_engine_that_hangs(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    """It takes connections and says nothing; nobody waits for it after a probe did in vain."""
    engines[0].script = _silent
    upstream = {"probe_seconds": 0, "probe_timeout_seconds": 0.05}
    two = [{"url": engines[0].url, "weight": 1000}, {"url": engines[1].url, "weight": 1}]
    one = models(engines)[0] | {"replicas": two}
    site = await make_site(models=[one, _embedding(engines)], upstream=upstream)
    asked = [asyncio.create_task(site.ask(body=QUESTION)) for _ in range(2)]
    await _until(lambda: bool(engines[0].requests))
    await site.worker._prober.round()
    assert [(await one).status for one in asked] == [200, 200]
    hanging = next(e for e in site.worker._pool.engines if e.port == engines[0].port)
    assert not site.worker._pool.is_healthy(hanging)
    assert (hanging.in_flight, hanging.requests) == (0, set())


async def test_stream_that_began_on_a_hanging_engine_is_cut(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    engines[0].script = _says_one_word
    upstream = {"probe_seconds": 0, "probe_timeout_seconds": 0.05}
    site = await make_site([engines[0].url], upstream=upstream)
    asked = asyncio.create_task(site.ask(body={**QUESTION, "stream": True}))
    await _until(lambda: any(e.heard > 1 for e in site.worker._pool.engines))
    await site.worker._prober.round()
    text = (await asked).body.decode()
    assert '"error"' in text
    assert "[DONE]" not in text


async def test_busy_engine_is_not_taken_for_a_hanging_one(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    """The probe waits in the engine's queue while an answer of another request comes."""
    free = asyncio.Event()

    async def busy(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        if request.target == "/v1/completions":
            await asyncio.Event().wait()
        await free.wait()
        await reply(request, writer)

    engines[0].script = busy
    upstream = {"probe_seconds": 0, "probe_timeout_seconds": 0.2}
    site = await make_site([engines[0].url], upstream=upstream)
    asked = asyncio.create_task(site.ask(body=QUESTION))
    await _until(lambda: bool(engines[0].requests))
    probing = asyncio.create_task(site.worker._prober.round())
    await _until(lambda: len(engines[0].requests) > 1)
    free.set()
    await probing
    assert (await asked).status == 200
    assert all(site.worker._pool.is_healthy(engine) for engine in site.worker._pool.engines)


async def test_engine_that_just_answered_is_not_probed(site: Site, engines: list[Engine]) -> None:
    for _ in range(2):
        await site.ask(body=QUESTION)
    before = [len(engine.requests) for engine in engines]
    site.worker._prober._interval = 60.0
    await site.worker._prober.round()
    assert [len(engine.requests) for engine in engines] == before


async def test_engine_behind_its_cool_down_gets_one_trial(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    upstream = {"cooldown_seconds": 0.001, "cooldown_max_seconds": 0.001, "probe_seconds": 0}
    site = await make_site([engines[0].url], upstream=upstream)
    [engine] = [e for e in site.worker._pool.engines if e.port == engines[0].port]
    site.worker._pool.failed(engine, "test")
    async with asyncio.timeout(10):
        while not site.worker._pool.is_healthy(engine):
            await asyncio.sleep(0)
    engine.in_flight = 1
    assert not site.worker._pool.is_healthy(engine)
    engine.in_flight = 0
    assert (await site.ask(body=QUESTION)).status == 200
    assert engine.failures == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"routes": [{"name": "small", "default": "smollm"}]}, "belongs to a model"),
        ({"routes": [{"name": "auto", "default": "nothing"}]}, "is no model"),
        (
            {"routes": [{"name": "auto", "default": "smollm", "rules": [{"model": "minilm"}]}]},
            "different tasks",
        ),
    ],
)
async def test_mistake_in_a_route_is_explained(
    tmp_path: Any, change: dict[str, Any], message: str
) -> None:
    values = {**settings(tmp_path, ["http://127.0.0.1:9000"]), **change}
    with pytest.raises(ConfigError, match=message):
        config.parse(json.dumps(values), "test")


@pytest.mark.parametrize("fallback", ["minilm", "smollm", "nothing"])
async def test_mistake_in_a_fallback_is_explained(tmp_path: Any, fallback: str) -> None:
    values = settings(tmp_path, ["http://127.0.0.1:9000"])
    values["models"][0]["fallback"] = fallback
    with pytest.raises(ConfigError, match=r"models\[0\].fallback"):
        config.parse(json.dumps(values), "test")


async def test_masked_request_has_the_same_home_as_its_conversation(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    guardrails = {**NO_GUARDRAILS, "request": {}}
    site = await make_site(models=_two_replicas(engines), guardrails=guardrails)
    for engine in engines:
        engine.script = _echo
    messages = [{"role": "user", "content": "Write to anna@example.org"}]
    for _ in range(2):
        await site.ask(body={"model": "small", "messages": messages})
        messages += [
            {"role": "assistant", "content": "Done, anna@example.org"},
            {"role": "user", "content": "And again"},
        ]
    assert sorted(len(engine.requests) for engine in engines) == [0, 2]


async def _echo(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    await answer(writer, 200, json.dumps(completion("Done, [EMAIL_1]")).encode())
