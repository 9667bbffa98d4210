"""A disk that hangs tells nobody: whoever must wait for it does so for a while, then hears no."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.content_support import content
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    DONE,
    QUESTION,
    Client,
    Engine,
    Site,
    stream_two,
)
from tresor_gateway.metrics.registry import render

pytestmark = pytest.mark.asyncio
SECONDS = 0.2
LATE = {"strict": True, "deadline_seconds": SECONDS}


class Disk:
    """An fdatasync of one thread that hangs while the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, thread: str) -> None:
        self._thread = thread
        self._free = threading.Event()
        self._free.set()
        self._real: Callable[[int], None] = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def hang(self) -> None:
        self._free.clear()

    def come_back(self) -> None:
        self._free.set()

    def _sync(self, descriptor: int) -> None:
        if threading.current_thread().name == self._thread:
            self._free.wait()
        self._real(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch, "audit")
    yield made
    made.come_back()


async def asked(site: Site, body: dict[str, Any]) -> Client:
    client = await site.client()
    client.request("POST", CHAT_PATH, site.issuer.token(), body)
    return client


async def open_again(site: Site) -> None:
    async with asyncio.timeout(10):
        while (await site.ask("/v1/models")).status != 200:
            await asyncio.sleep(0.01)


def figures(site: Site) -> str:
    return render([site.worker.metrics.registry.collect("0")])


async def test_answer_is_refused_after_the_deadline_and_recorded_when_the_disk_is_back(
    make_site: MakeSite, disk: Disk
) -> None:
    site = await make_site(audit=LATE)
    disk.hang()
    response = await site.ask(body=QUESTION)
    assert (response.status, response.error["code"]) == (503, "audit_timeout")
    assert "Peru" not in response.body.decode()
    text = figures(site)
    assert 'decision="error",reason="audit_timeout",worker="0"} 1' in text
    assert 'reason="ok"' not in text
    disk.come_back()
    await open_again(site)
    await site.stop()
    decision = site.decisions()[0]
    [withheld] = [record for record in site.records() if record["type"] == "withheld"]
    assert decision["reason"] == "ok"
    assert withheld["decision"] == decision["id"]
    assert withheld["request_id"] == response.headers["x-request-id"]
    assert (withheld["status"], withheld["reason"]) == (503, "audit_timeout")


async def test_stream_is_cut_with_an_error_and_never_complete(
    make_site: MakeSite, engines: list[Engine], disk: Disk
) -> None:
    for engine in engines:
        engine.script = stream_two
    site = await make_site(audit=LATE)
    disk.hang()
    client = await asked(site, {**QUESTION, "stream": True})
    assert (await client.head())[0] == 200
    async with asyncio.timeout(10):
        body = await client.chunks()
    assert b"Peru" in body
    assert b"audit_timeout" in body
    assert DONE not in body
    assert await client.at_end()
    disk.come_back()
    await open_again(site)
    await site.stop()
    [withheld] = [record for record in site.records() if record["type"] == "withheld"]
    assert (withheld["status"], withheld["reason"]) == (200, "audit_timeout")


async def test_everybody_is_refused_while_the_disk_hangs_and_counted_after_it(
    make_site: MakeSite, engines: list[Engine], disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    site = await make_site(audit={"deadline_seconds": SECONDS})
    disk.hang()
    # Nobody of these waits for the disk, and a short pause of it is none of their business.
    assert (await site.ask(body=QUESTION)).status == 200
    async with asyncio.timeout(10):
        while (response := await site.ask(body=QUESTION)).status == 200:
            await asyncio.sleep(0.02)
    assert (response.status, response.error["code"]) == (503, "audit_unavailable")
    before = sum(len(engine.requests) for engine in engines)
    assert (await site.ask(body=QUESTION)).status == 503
    assert sum(len(engine.requests) for engine in engines) == before
    assert 'tresor_gateway_audit_healthy{worker="0"} 0' in figures(site)
    assert caplog.text.count("the disk hangs") == 1
    disk.come_back()
    await open_again(site)
    await site.stop()
    gaps = [record for record in site.records() if record["type"] == "gap"]
    assert sum(gap["refused"] for gap in gaps) >= 2
    assert gaps[0]["problem"].startswith("a write took ")


async def test_answer_in_time_is_not_touched_by_its_deadline(
    make_site: MakeSite, disk: Disk
) -> None:
    site = await make_site(audit=LATE)
    disk.hang()
    client = await asked(site, QUESTION)
    await asyncio.sleep(SECONDS / 4)
    disk.come_back()
    assert (await client.response()).status == 200
    # The same connection: a second answer of ours would be read as that of this question.
    await asyncio.sleep(SECONDS * 1.5)
    client.request("GET", "/v1/models", site.issuer.token())
    assert "smollm" in (await client.response()).body.decode()
    await site.stop()
    assert [record["type"] for record in site.records()] == ["start", "decision", "decision"]


async def test_who_left_meanwhile_is_recorded_once_more_and_harms_nobody(
    make_site: MakeSite, disk: Disk
) -> None:
    site = await make_site(audit=LATE)
    disk.hang()
    client = await asked(site, QUESTION)
    await asyncio.sleep(SECONDS / 2)
    client.abort()
    await asyncio.sleep(SECONDS)
    disk.come_back()
    await open_again(site)
    await site.stop()
    kinds = [record["type"] for record in site.records()]
    assert kinds.count("withheld") == 1
    assert site.decisions()[0]["reason"] == "ok"


async def test_content_that_is_not_on_disk_in_time_is_no_answer(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = content(tmp_path, {"keep": "full"}) | {"deadline_seconds": SECONDS}
    site = await make_site(content=kept)
    assert (await site.ask(body=QUESTION)).status == 200
    disk = Disk(monkeypatch, "content")
    disk.hang()
    try:
        response = await site.ask(body=QUESTION)
        assert (response.status, response.error["code"]) == (503, "content_unavailable")
        async with asyncio.timeout(10):
            while 'tresor_gateway_content_healthy{worker="0"} 0' not in figures(site):
                await asyncio.sleep(0.01)
        # At once, and before an engine is asked.
        async with asyncio.timeout(SECONDS / 2):
            assert (await site.ask(body=QUESTION)).status == 503
    finally:
        disk.come_back()
    async with asyncio.timeout(10):
        while (await site.ask(body=QUESTION)).status != 200:
            await asyncio.sleep(0.01)
    await site.stop()
    first, second, *_ = site.decisions()
    assert first["content"]["kept"] == "full"
    assert second["content"]["kept"] == "failed"
