"""Strict groups and tenants: an answer's last byte leaves when its record is on disk."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.killed import Killed, answers
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    DONE,
    QUESTION,
    Engine,
    Issuer,
    Site,
    settings,
    stream_two,
)
from tresor_gateway import config
from tresor_gateway.audit import chain as chains
from tresor_gateway.errors import ConfigError
from tresor_gateway.metrics.registry import render

pytestmark = pytest.mark.asyncio

STRICT = [
    {"group": "llm-users", "models": ["smollm"], "endpoints": ["models", "chat.completions"]},
    {"group": "board", "models": ["smollm"], "endpoints": ["chat.completions"], "strict": True},
]


def figures(site: Site) -> str:
    return render([site.worker.metrics.registry.collect("0")])


class Disk:
    """An fdatasync that waits until the test lets it go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = True
        self.asked = 0
        self._real = os.fdatasync
        monkeypatch.setattr(chains.os, "fdatasync", self._sync)

    def _sync(self, descriptor: int) -> None:
        self.asked += 1
        if not self.open:
            raise OSError(5, "Input/output error")
        self._real(descriptor)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("who", ["group", "tenant"])
async def test_strict_answer_waits_for_its_record_and_others_do_not(
    make_site: MakeSite,
    engines: list[Engine],
    monkeypatch: pytest.MonkeyPatch,
    who: str,
    stream: bool,
) -> None:
    for engine in engines:
        engine.script = stream_two if stream else engine.script
    site = await make_site(
        access=STRICT,
        identity={"tenant_claim": "tenant"},
        audit={"strict_tenants": ["treasury"]},
    )
    claims: dict[str, Any] = (
        {"groups": ["llm-users", "board"]} if who == "group" else {"tenant": "treasury"}
    )
    strict, other = site.issuer.token(**claims), site.issuer.token(tenant="sales")
    disk = Disk(monkeypatch)
    body = {**QUESTION, "stream": stream}
    # Its record cannot be written, and it does not wait for that.
    disk.open = False
    assert (await site.ask(body=body, token=other)).status == 200
    disk.open = True
    async with asyncio.timeout(10):
        while (await site.ask("/v1/models")).status != 200:
            pass
        while 'audit_pending_records{worker="0"} 0' not in figures(site):
            await asyncio.sleep(0)
    disk.open = False
    client = await site.client()
    client.request("POST", CHAT_PATH, strict, body)
    asked = disk.asked
    async with asyncio.timeout(10):
        if stream:
            status, _ = await client.head()
            assert status == 200
            while b"Peru" not in await client.chunk():
                pass
        while disk.asked == asked:
            await asyncio.sleep(0)
        last = asyncio.ensure_future(client.chunk() if stream else client.response())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(last), 0.05)
        disk.open = True
        answer: Any = await last
    assert answer == DONE if stream else answer.status == 200
    await site.stop()
    assert [record["status"] for record in site.decisions()][-1] == 200


async def test_strict_tenants_need_a_claim_to_tell_them(tmp_path: Path) -> None:
    values = settings(tmp_path, ["http://127.0.0.1:9"])
    values["audit"]["strict_tenants"] = ["treasury"]
    with pytest.raises(ConfigError, match=r"strict_tenants: needs identity\.tenant_claim"):
        config.parse(json.dumps(values), "test")


async def test_killed_worker_has_a_record_of_every_strict_answer_that_was_complete(
    tmp_path: Path, issuer: Issuer, engines: list[Engine]
) -> None:
    (tmp_path / "jwks.json").write_bytes(issuer.jwks(issuer.key))
    for engine in engines:
        engine.script = answers
    values = settings(tmp_path, [engine.url for engine in engines])
    values |= {"access": STRICT}
    killed = Killed(tmp_path, issuer.token(groups=["board"]), values)
    for seconds in (0.05, 0.13):
        await killed.run(seconds, 16)
    assert killed.streams > 5
    assert len(killed.complete) > killed.streams
    assert killed.complete <= killed.records().keys()
