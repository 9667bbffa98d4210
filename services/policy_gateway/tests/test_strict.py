"""Strict groups and tenants: an answer's last byte leaves when its record is on disk."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    DONE,
    QUESTION,
    Client,
    Engine,
    Issuer,
    Site,
    settings,
    stream_two,
)
from tresor_gateway import config
from tresor_gateway.audit import chain as chains
from tresor_gateway.audit.verify import order, verify
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
        answer = await last
    assert answer == DONE if isinstance(answer, bytes) else answer.status == 200
    await site.stop()
    assert [record["status"] for record in site.decisions()][-1] == 200


async def test_strict_tenants_need_a_claim_to_tell_them(tmp_path: Path) -> None:
    values = settings(tmp_path, ["http://127.0.0.1:9"])
    values["audit"]["strict_tenants"] = ["treasury"]
    with pytest.raises(ConfigError, match=r"strict_tenants: needs identity\.tenant_claim"):
        config.parse(json.dumps(values), "test")


class Killed:
    """The program under load until it is killed; knows which answers were complete."""

    def __init__(self, folder: Path, issuer: Issuer, values: dict[str, Any]) -> None:
        self._config = folder / "gateway.yml"
        self._config.write_text(json.dumps(values))
        self._token = issuer.token(groups=["board"])
        self.complete: set[str] = set()
        self.streams = 0

    async def run(self, seconds: float, clients: int) -> None:
        """Serve that long under load, then die; ``seconds`` count from the first answer."""
        source = Path(sys.modules["tresor_gateway"].__file__ or "").parent.parent
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tresor_gateway",
            "--config",
            str(self._config),
            env={**os.environ, "PYTHONPATH": str(source)},
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            address = await _address(process)
        work = [asyncio.ensure_future(self._ask(address, number)) for number in range(clients)]
        before = len(self.complete)
        async with asyncio.timeout(30):
            while len(self.complete) == before:
                await asyncio.sleep(0.001)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        await asyncio.gather(*work)

    async def _ask(self, address: str, number: int) -> None:
        """One question after the other on one connection, until it breaks."""
        client = await Client.open(address)
        stream = number % 2 == 0
        try:
            while True:
                client.request("POST", CHAT_PATH, self._token, {**QUESTION, "stream": stream})
                status, headers = await client.head()
                assert status == 200
                if stream:
                    # The end mark counts, whether the end of the body still comes or not.
                    while await client.chunk() != DONE:
                        pass
                    self.streams += 1
                    self.complete.add(headers["x-request-id"])
                    assert await client.chunk() == b""
                else:
                    await client.reader.readexactly(int(headers["content-length"]))
                    self.complete.add(headers["x-request-id"])
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            client.abort()


async def _address(process: asyncio.subprocess.Process) -> str:
    if process.stderr is None:
        raise RuntimeError("no log")
    while line := await process.stderr.readline():
        if b"listens at " in line:
            return line.decode().split("listens at ")[1].strip()
    raise RuntimeError("the gateway did not start")


async def _answers(request: Any, writer: asyncio.StreamWriter) -> None:
    script = stream_two if request.body.get("stream") else Engine.script
    await script(request, writer)


async def test_killed_worker_has_a_record_of_every_strict_answer_that_was_complete(
    tmp_path: Path, issuer: Issuer, engines: list[Engine]
) -> None:
    (tmp_path / "jwks.json").write_bytes(issuer.jwks(issuer.key))
    for engine in engines:
        engine.script = _answers
    values = settings(tmp_path, [engine.url for engine in engines])
    values |= {"access": STRICT}
    killed = Killed(tmp_path, issuer, values)
    for seconds in (0.05, 0.13):
        await killed.run(seconds, 16)
    recorded = {
        record["request_id"]
        for path in order([tmp_path / "audit"])
        # The last line may be torn.
        for line in path.read_bytes().split(b"\n")[:-1]
        if (record := json.loads(line))["type"] == "decision"
    }
    assert killed.streams > 5
    assert len(killed.complete) > killed.streams
    assert killed.complete <= recorded
    if (last := order([tmp_path / "audit"])[-1].read_bytes()).endswith(b"\n") and last:
        assert verify([tmp_path / "audit"]).complete
