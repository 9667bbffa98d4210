"""Limits count exactly on a host, whatever worker a request meets, and reload cuts no stream."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    DONE,
    QUESTION,
    Engine,
    EngineRequest,
    Site,
    chunk,
    event,
    reply,
    settings,
    stream_head,
    stream_two,
)
from tresor_gateway import config
from tresor_gateway import config_schema as schema
from tresor_gateway.access import AccessTable
from tresor_gateway.errors import ConfigError
from tresor_gateway.process.reload import reload
from tresor_gateway.usage.limits import Limits
from tresor_gateway.usage.table import Refusal, Ticket, UsageTable

NOON = 1_770_000_000.0 // 86_400 * 86_400 + 43_200


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def admitted(
    table: UsageTable, limits: Limits, tokens: int = 10, *, stream: bool = False
) -> Ticket:
    ticket = table.admit("alice", limits, tokens=tokens, stream=stream)
    assert isinstance(ticket, Ticket)
    return ticket


def refused(table: UsageTable, limits: Limits, tokens: int = 10, *, stream: bool = False) -> str:
    refusal = table.admit("alice", limits, tokens=tokens, stream=stream)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after >= 1
    return refusal.limit


def test_requests_of_a_minute_are_counted_and_forgotten() -> None:
    clock = Clock()
    table = UsageTable(None, 1, 0, wall=clock)
    limits = Limits(requests_per_minute=2)
    admitted(table, limits)
    admitted(table, limits)
    assert refused(table, limits) == "limit_requests"
    assert isinstance(table.admit("bob", limits, tokens=0, stream=False), Ticket)
    clock.now += 60
    admitted(table, limits)


def test_tokens_are_reserved_and_settled_by_what_was_used() -> None:
    table = UsageTable(None, 1, 0, wall=Clock())
    limits = Limits(tokens_per_minute=100)
    ticket = admitted(table, limits, 90)
    assert refused(table, limits, 20) == "limit_tokens"
    table.settle(ticket, 30)
    admitted(table, limits, 70)


def test_tokens_of_a_day_end_at_midnight_utc() -> None:
    clock = Clock()
    table = UsageTable(None, 1, 0, wall=clock)
    limits = Limits(daily_tokens=50)
    table.settle(admitted(table, limits), 60)
    assert refused(table, limits) == "limit_daily_tokens"
    clock.now += 43_199
    assert refused(table, limits) == "limit_daily_tokens"
    clock.now += 1
    admitted(table, limits)


def test_streams_end_with_their_request_or_with_their_worker(tmp_path: Path) -> None:
    limits = Limits(concurrent_streams=1)
    first, second = (UsageTable(tmp_path / "usage", 2, worker) for worker in range(2))
    ticket = admitted(first, limits, stream=True)
    assert refused(second, limits, stream=True) == "limit_streams"
    admitted(second, limits)
    first.settle(ticket, 1)
    admitted(second, limits, stream=True)
    assert refused(first, limits, stream=True) == "limit_streams"
    # The second worker dies and starts again.
    UsageTable(tmp_path / "usage", 2, 1)
    admitted(first, limits, stream=True)


@pytest.mark.parametrize("step", [-90, 30 * 86_400])
def test_step_of_the_clock_keeps_nobody_out(step: float) -> None:
    clock = Clock()
    table = UsageTable(None, 1, 0, wall=clock)
    limits = Limits(requests_per_minute=1)
    clock.now += step
    admitted(table, limits)
    clock.now -= step
    clock.now += 60
    admitted(table, limits)


def _hammer(path: str, worker: int, count: int) -> None:
    table = UsageTable(Path(path), 4, worker, wall=Clock())
    limits = Limits(requests_per_minute=1_000)
    passed = sum(
        isinstance(table.admit("alice", limits, tokens=1, stream=False), Ticket)
        for _ in range(count)
    )
    Path(f"{path}.{worker}").write_text(str(passed), encoding="ascii")


def test_workers_share_one_count_exactly(tmp_path: Path) -> None:
    path = str(tmp_path / "usage")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_hammer, args=(path, n, 400)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(int(Path(f"{path}.{n}").read_text(encoding="ascii")) for n in range(4)) == 1_000


def test_counts_survive_a_restart_and_a_foreign_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    path.write_bytes(b"something else")
    clock = Clock()
    limits = Limits(requests_per_minute=1)
    table = UsageTable(path, 1, 0, wall=clock)
    admitted(table, limits)
    table.close()
    assert refused(UsageTable(path, 1, 0, wall=clock), limits) == "limit_requests"


def rule(group: str, **limits: int) -> schema.AccessRule:
    return schema.AccessRule(
        group=group,
        models=["m"],
        endpoints=["models"],
        limits=schema.UserLimits(**limits) if limits else None,
    )


def test_most_generous_group_counts() -> None:
    table = AccessTable(
        [
            rule("a", requests_per_minute=5, daily_tokens=100),
            rule("b", requests_per_minute=9),
            rule("free"),
        ],
        {"m": "chat"},
    )
    assert table.grant(["a"]).limits == Limits(requests_per_minute=5, daily_tokens=100)
    assert table.grant(["a", "b"]).limits == Limits(requests_per_minute=9)
    assert table.grant(["a", "free"]).limits == Limits()
    assert not table.grant(["nobody"]).limits.counted


def limited(**limits: int) -> list[dict[str, Any]]:
    return [
        {
            "group": "llm-users",
            "models": ["smollm"],
            "endpoints": ["models", "chat.completions", "completions"],
            "limits": limits,
        }
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"requests_per_minute": 1}, "limit_requests"),
        ({"tokens_per_minute": 60}, "limit_tokens"),
        ({"daily_tokens": 10}, "limit_daily_tokens"),
    ],
)
async def test_used_up_limit_is_a_429(
    make_site: MakeSite, limits: dict[str, int], reason: str
) -> None:
    site = await make_site(access=limited(**limits))
    body = {**QUESTION, "max_tokens": 30}
    assert (await site.ask(body=body)).status == 200
    response = await site.ask(body=body)
    assert (response.status, response.error["code"]) == (429, "rate_limit_exceeded")
    assert int(response.headers["retry-after"]) >= 1
    await site.stop()
    assert [record["reason"] for record in site.decisions()] == ["ok", reason]


@pytest.mark.asyncio
async def test_context_longer_than_the_group_may_use_is_refused(make_site: MakeSite) -> None:
    site = await make_site(access=limited(context_tokens=100))
    response = await site.ask(body={**QUESTION, "max_tokens": 90})
    assert (response.status, response.error["code"]) == (400, "context_length_exceeded")


@pytest.mark.asyncio
async def test_stream_counts_until_it_ends(make_site: MakeSite, engines: list[Engine]) -> None:
    site = await make_site(access=limited(concurrent_streams=1))
    release = asyncio.Event()

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await stream_two(request, writer)

    for engine in engines:
        engine.script = script
    body = {**QUESTION, "stream": True}
    first = asyncio.ensure_future(site.ask(body=body))
    async with asyncio.timeout(10):
        while not engines[0].requests + engines[1].requests:
            await asyncio.sleep(0)
    assert (await site.ask(body=body)).status == 429
    release.set()
    assert (await first).status == 200
    assert (await site.ask(body=body)).status == 200


@pytest.mark.asyncio
async def test_reload_changes_access_and_cuts_no_stream(
    make_site: MakeSite, engines: list[Engine], tmp_path: Path
) -> None:
    site = await make_site()
    release = asyncio.Event()

    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        chunk(writer, event("In"))
        await release.wait()
        chunk(writer, event(" Peru") + DONE)
        writer.write(b"0\r\n\r\n")

    for engine in engines:
        engine.script = script
    client = await site.client()
    client.request("POST", CHAT_PATH, site.issuer.token(), {**QUESTION, "stream": True})
    await client.head()
    assert await client.chunk() == event("In")
    changed = {**site.settings, "access": []}
    path = tmp_path / "changed.yml"
    path.write_text(json.dumps(changed), encoding="utf-8")
    assert reload(site.worker, path)
    assert (await site.ask(body=QUESTION)).status == 403
    release.set()
    assert (await client.chunks()).endswith(DONE)


@pytest.mark.asyncio
@pytest.mark.parametrize("change", [{"models": []}, {"workers": 3}, {"identity": {}}])
async def test_reload_of_a_mistake_changes_nothing(
    site: Site, engines: list[Engine], tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "changed.yml"
    path.write_text(json.dumps({**site.settings, **change}), encoding="utf-8")
    assert not reload(site.worker, path)
    for engine in engines:
        engine.script = reply
    assert (await site.ask(body=QUESTION)).status == 200


def test_several_workers_with_limits_need_a_file(tmp_path: Path) -> None:
    values = settings(tmp_path, ["http://127.0.0.1:9000"])
    values |= {"workers": 2, "listen": {"tcp": "127.0.0.1:8080"}}
    values["access"][0]["limits"] = {"requests_per_minute": 1}
    values["keys"] = {"pseudonym_file": "/x", "cache_salt_file": "/y"}
    with pytest.raises(ConfigError, match=r"usage\.file"):
        config.parse(json.dumps(values), "test")
