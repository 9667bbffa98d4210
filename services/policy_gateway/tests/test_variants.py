"""A model and what is tried in its place: shares, homes, records, figures, and broken variants."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    QUESTION,
    Engine,
    EngineRequest,
    Site,
    answer,
    reply,
    settings,
    stream_two,
)
from tresor_gateway import config
from tresor_gateway import config_schema as schema
from tresor_gateway.catalogue import Catalogue, Model
from tresor_gateway.errors import ConfigError
from tresor_gateway.tracing.spans import Finished, batch
from tresor_gateway.upstream.pool import EnginePool

BASE, CANARY = "smollm", "smollm-fp8"
CLASSIFIER = {"model": BASE, "kind": "instruct", "policies": {"a": "b"}}


@pytest_asyncio.fixture
async def third() -> AsyncIterator[Engine]:
    """An engine beside the two of every test."""
    engine = await Engine().start()
    yield engine
    await engine.stop()


def models(base: list[str], canary: list[str], *, weight: int = 100) -> list[dict[str, Any]]:
    """The model with its canary, which may be asked by its own name, too, and an embedding."""
    tried = [{"url": url, "served_name": CANARY} for url in canary]
    variant = {"variant": CANARY, "artefact_digest": "sha256:bb", "weight": weight}
    return [
        {
            "name": BASE,
            "aliases": ["small"],
            "task": "chat",
            "artefact_digest": "sha256:aa",
            "replicas": [*({"url": url} for url in base), *(one | variant for one in tried)],
        },
        {"name": CANARY, "task": "chat", "artefact_digest": "sha256:bb", "replicas": tried},
        {"name": "minilm", "task": "embedding", "replicas": [{"url": base[0]}]},
    ]


def conversation(number: int, **more: Any) -> dict[str, Any]:
    return {**QUESTION, "messages": [{"role": "user", "content": f"Question {number}"}], **more}


async def _ask_until(site: Site, engine: Engine, **more: Any) -> dict[str, Any]:
    """The first conversation whose home is this engine."""
    for number in range(200):
        before = len(engine.requests)
        body = conversation(number, **more)
        assert (await site.ask(body=body)).status == 200
        if len(engine.requests) > before:
            return body
    raise AssertionError("no conversation is at home there")


def _samples(site: Site, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by its labels, without the worker."""
    text = site.worker.metrics.registry.collect("0")
    lines = [line for _, samples in text for line in samples if line.startswith(name + "{")]
    found: dict[tuple[str, ...], float] = {}
    for line in lines:
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        labels.pop("worker")
        found[tuple(labels.values())] = float(line.rsplit(" ", 1)[1])
    return found


# --- records ---------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_record_names_the_variant_that_answered_and_its_artefact(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(models=models([engines[0].url], [engines[1].url]))
    await _ask_until(site, engines[0])
    await _ask_until(site, engines[1])
    assert engines[1].requests[0].body["model"] == CANARY
    await site.stop()
    told = {
        (
            r["model"],
            r.get("variant"),
            r["model_digest"],
            r["engine"].endswith(str(engines[1].port)),
        )
        for r in site.decisions()
    }
    assert told == {(BASE, None, "sha256:aa", False), (BASE, CANARY, "sha256:bb", True)}
    assert all("fallback_of" not in record for record in site.decisions())


@pytest.mark.asyncio
async def test_variant_without_a_digest_never_gets_that_of_its_model(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    listed = models([engines[0].url], [engines[1].url])
    del listed[0]["replicas"][1]["artefact_digest"]
    site = await make_site(models=listed)
    await _ask_until(site, engines[1])
    await site.stop()
    [record] = [record for record in site.decisions() if "variant" in record]
    assert "model_digest" not in record


@pytest.mark.asyncio
async def test_canary_by_its_own_name_is_a_model_for_those_who_may_use_it(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    rule = {"endpoints": ["models", "chat.completions"]}
    site = await make_site(
        models=models([engines[0].url], [engines[1].url]),
        access=[
            {"group": "llm-users", "models": [BASE], **rule},
            {"group": "llm-testers", "models": [CANARY], **rule},
        ],
    )
    body = {**QUESTION, "model": CANARY}
    listed = (await site.ask("/v1/models", method="GET")).json["data"]
    assert [entry["id"] for entry in listed] == [BASE]
    assert (await site.ask(body=body)).status == 404
    tester = site.issuer.token(groups=["llm-testers"])
    assert (await site.ask(body=body, token=tester)).status == 200
    assert not engines[0].requests
    await site.stop()
    record = site.decisions()[-1]
    assert (record["model"], record["model_digest"]) == (CANARY, "sha256:bb")
    assert "variant" not in record


@pytest.mark.asyncio
async def test_fallback_is_recorded_with_its_own_artefact(
    make_site: MakeSite, engines: list[Engine], third: Engine
) -> None:
    listed = models([engines[0].url], [engines[1].url])
    listed[0]["fallback"] = "other"
    other = {"name": "other", "task": "chat", "artefact_digest": "sha256:cc"}
    listed.append({**other, "replicas": [{"url": third.url}]})
    rule = {"endpoints": ["chat.completions"], "models": [BASE, "other"]}
    site = await make_site(models=listed, access=[{"group": "llm-users", **rule}])
    for engine in engines:
        await engine.stop()
    assert (await site.ask(body=QUESTION)).status == 200
    await site.stop()
    [record] = site.decisions()
    assert (record["model"], record["fallback_of"]) == ("other", BASE)
    assert record["model_digest"] == "sha256:cc"
    assert "variant" not in record
    left = _samples(site, "tresor_gateway_variant_failures_total")
    assert left == {(BASE, BASE): 1, (BASE, CANARY): 1}
    assert not _samples(site, "tresor_gateway_variant_requests_total")


def test_trace_names_the_variant() -> None:
    from tresor_gateway.audit.record import Decision

    def attributes(variant: str) -> dict[str, Any]:
        record = Decision(
            id="i", time="t", request_id="r", decision="allow", reason="ok", status=200,
            endpoint="chat.completions", model=BASE, variant=variant, attempts=1,
        )  # fmt: skip
        one = Finished("t", "s", "", "e", 1, 2, 3, record)
        spans = json.loads(batch([one], "h", "0"))["resourceSpans"][0]["scopeSpans"][0]["spans"]
        return {a["key"]: a["value"].get("stringValue") for a in spans[1]["attributes"]}

    assert attributes(CANARY)["gen_ai.response.model"] == CANARY
    assert attributes(CANARY)["gen_ai.request.model"] == BASE
    assert "gen_ai.response.model" not in attributes("")


# --- shares and homes ------------------------------------------------------------------------


async def _model(weights: dict[str, tuple[str, int]], slack: int = 4) -> tuple[EnginePool, Model]:
    """A model out of address: (variant, weight); no engine is asked."""
    pool = EnginePool(asyncio.get_running_loop(), schema.Upstream(affinity_slack=slack), None)
    replicas = [
        schema.Replica(url=f"http://{address}", variant=variant or None, weight=weight)
        for address, (variant, weight) in weights.items()
    ]
    entry = schema.Model(name=BASE, task="chat", replicas=replicas)
    return pool, Catalogue([entry], pool).models[0]


def _homes(pool: EnginePool, model: Model, count: int = 3000) -> dict[int, str]:
    found: dict[int, str] = {}
    for number in range(count):
        first = pool.usable(model.replicas, number.to_bytes(16, "big"))[0]
        found[number] = first.variant or first.engine.address
    return found


@pytest.mark.asyncio
async def test_more_weight_moves_conversations_to_the_canary_only() -> None:
    def weights(canary: int) -> dict[str, tuple[str, int]]:
        return {"a:1": ("", 1000), "b:1": ("", 1000), "c:1": (CANARY, canary)}

    few = _homes(*await _model(weights(105)))
    many = _homes(*await _model(weights(500)))
    share = Counter(many.values())[CANARY] / len(many)
    assert abs(share - 0.2) < 0.03
    assert abs(Counter(few.values())[CANARY] / len(few) - 0.05) < 0.02
    moved = {(few[n], many[n]) for n in few if few[n] != many[n]}
    assert moved == {("a:1", CANARY), ("b:1", CANARY)}


@pytest.mark.asyncio
async def test_load_moves_a_conversation_to_another_engine_but_to_no_other_variant() -> None:
    """With the least busy engine in its place, a canary of one percent would get every overflow."""
    weights = {"a:1": ("", 99), "b:1": ("", 99), "c:1": (CANARY, 2)}
    pool, model = await _model(weights, slack=0)
    before = _homes(pool, model)
    busy, idle, canary = (replica.engine for replica in model.replicas)
    busy.in_flight, idle.in_flight, canary.in_flight = 50, 10, 0
    after = _homes(pool, model)
    assert {after[n] for n in before if before[n] == "a:1"} == {"b:1"}
    assert [n for n in before if before[n] == CANARY] == [n for n in after if after[n] == CANARY]
    canary.in_flight = 500
    busy.in_flight = idle.in_flight = 0
    assert [n for n in _homes(pool, model).items() if n[1] == CANARY] == [
        n for n in before.items() if n[1] == CANARY
    ]


@pytest.mark.asyncio
async def test_after_a_canary_the_models_own_replicas_are_asked() -> None:
    weights = {"c:1": (CANARY, 500), "a:1": ("", 10), "d:1": (CANARY, 500), "b:1": ("", 10)}
    pool, model = await _model(weights)
    orders = [
        [replica.variant for replica in pool.usable(model.replicas, number.to_bytes(16, "big"))]
        for number in range(50)
    ]
    assert [CANARY, "", "", CANARY] in orders
    assert all(order[0] == CANARY or order == ["", "", CANARY, CANARY] for order in orders)


# --- broken variants -------------------------------------------------------------------------


async def _broken(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    await answer(writer, 500, b"{}")


async def _refuses(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    await answer(writer, 400, b'{"error": {"message": "no tools"}}')


@pytest.mark.asyncio
async def test_share_of_a_dead_canary_is_answered_by_the_model_and_comes_back(
    make_site: MakeSite, engines: list[Engine], third: Engine
) -> None:
    upstream = {"cooldown_seconds": 0.05, "cooldown_max_seconds": 0.05, "probe_seconds": 0}
    listed = models([engines[0].url, third.url], [engines[1].url])
    site = await make_site(models=listed, upstream=upstream)
    body = await _ask_until(site, engines[1])
    await engines[1].stop()
    dead = next(e for e in site.worker._pool.engines if e.port == engines[1].port)
    asked = len(engines[0].requests) + len(third.requests)
    for _ in range(5):
        assert (await site.ask(body=body)).status == 200
    assert len(engines[0].requests) + len(third.requests) == asked + 5
    assert dead.failures >= 1
    await engines[1].start()
    async with asyncio.timeout(10):
        while dead.failures:
            assert (await site.ask(body=body)).status == 200
            await asyncio.sleep(0.01)
    before = len(engines[1].requests)
    assert (await site.ask(body=body)).status == 200
    assert len(engines[1].requests) == before + 1
    await site.stop()
    records = site.decisions()
    assert {record["reason"] for record in records} == {"ok"}
    assert {r["model_digest"] for r in records if r["attempts"] == 2} == {"sha256:aa"}


@pytest.mark.asyncio
async def test_canary_that_fails_is_told_by_its_own_figures(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    engines[1].script = _broken
    site = await make_site(models=models([engines[0].url], [engines[1].url]))
    while not engines[1].requests:
        assert (await site.ask(body=conversation(len(engines[0].requests)))).status == 200
    assert _samples(site, "tresor_gateway_variant_failures_total") == {(BASE, CANARY): 1}
    answered = _samples(site, "tresor_gateway_variant_requests_total")
    assert answered == {(BASE, BASE, "allow", "200"): len(engines[0].requests)}


@pytest.mark.asyncio
async def test_figures_of_a_canary_stand_beside_those_of_its_model(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    for engine in engines:
        engine.script = stream_two
    site = await make_site(models=models([engines[0].url], [engines[1].url]))
    await _ask_until(site, engines[0], stream=True)
    await _ask_until(site, engines[1], stream=True)
    engines[0].script, engines[1].script = reply, _refuses
    while engines[1].requests[-1].body.get("stream"):
        await site.ask(body=conversation(len(engines[0].requests) + len(engines[1].requests)))
    counts = [len(engine.requests) for engine in engines]
    requests = _samples(site, "tresor_gateway_variant_requests_total")
    assert requests[BASE, BASE, "allow", "200"] == counts[0]
    assert requests[BASE, CANARY, "allow", "200"] == counts[1] - 1
    assert requests[BASE, CANARY, "deny", "400"] == 1
    tokens = _samples(site, "tresor_gateway_variant_tokens_total")
    assert tokens[BASE, CANARY, "prompt"] == 7 * (counts[1] - 1)
    assert tokens[BASE, CANARY, "completion"] == 2 * (counts[1] - 1)
    for name in ("time_to_first_token", "request_duration"):
        seen = _samples(site, f"tresor_gateway_variant_{name}_seconds_count")
        assert seen[BASE, CANARY] == counts[1] - 1
    # Whoever asks for the model's figures still gets those of all its users.
    whole = _samples(site, "tresor_gateway_requests_total")
    assert sum(whole.values()) == sum(counts)


@pytest.mark.asyncio
async def test_model_without_variants_has_no_such_figures(site: Site) -> None:
    assert (await site.ask(body=QUESTION)).status == 200
    for _, samples in site.worker.metrics.registry.collect("0"):
        assert not [line for line in samples if "variant" in line]


@pytest.mark.asyncio
async def test_engine_of_a_canary_is_probed_once_a_round(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(models=models([engines[0].url], [engines[1].url]))
    await site.worker._prober.round()
    assert [request.body["model"] for request in engines[1].requests] == [CANARY]


# --- configuration ---------------------------------------------------------------------------


def _replicas(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"url": f"http://127.0.0.1:{9000 + number}", **change}
        for number, change in enumerate(changes)
    ]


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (
            {"replicas": _replicas({}, {"variant": "small"})},
            {},
            r"models\[0\].replicas\[1\].variant: value 'small': is the model itself",
        ),
        (
            {"replicas": _replicas({}, {"variant": "minilm"})},
            {},
            r"models\[0\].replicas\[1\].variant: value 'minilm': has task 'embedding'",
        ),
        (
            {"replicas": _replicas({}, {"variant": "big"}), "fallback": "big"},
            {},
            r"models\[0\].replicas\[1\].variant: value 'big': is the model's fallback",
        ),
        (
            {"replicas": _replicas({"variant": "a"}, {"variant": "b"})},
            {},
            r"models\[0\].replicas: all have a variant",
        ),
        (
            {"replicas": _replicas({"weight": 0}, {"variant": "b"})},
            {},
            r"models\[0\].replicas: the model's own have weight 0",
        ),
        (
            {"replicas": _replicas({}, {"variant": "b"}), "affinity": False},
            {},
            r"models\[0\].affinity: value False",
        ),
        (
            {"replicas": _replicas({}, {"variant": "b"})},
            {"classifiers": [CLASSIFIER]},
            r"classifiers\[0\].model: value 'smollm': has variants",
        ),
    ],
)
def test_mistake_in_a_variant_is_explained(
    tmp_path: Path, change: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    values = {**settings(tmp_path, ["http://127.0.0.1:9000"]), **more}
    values["models"][0] = {**values["models"][0], "affinity": True, **change}
    with pytest.raises(ConfigError, match=message):
        config.parse(json.dumps(values), "test")


def test_variant_may_be_a_model_of_its_own(tmp_path: Path) -> None:
    values = settings(tmp_path, ["http://127.0.0.1:9000"])
    replicas = _replicas({}, {"variant": "big"})
    values["models"][0] = {**values["models"][0], "affinity": True, "replicas": replicas}
    assert config.parse(json.dumps(values), "test").models[0].replicas[1].variant == "big"
