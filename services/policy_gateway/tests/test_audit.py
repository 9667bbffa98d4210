"""The audit log: complete, chained, repaired after a crash, and closed when it cannot be kept."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import CHAT_PATH, QUESTION, Engine, Site
from tresor_gateway.audit import chain as chains
from tresor_gateway.audit import record as records
from tresor_gateway.audit.chain import Chain
from tresor_gateway.audit.uuid7 import uuid7
from tresor_gateway.audit.verify import ChainError, canonical, main, order, verify
from tresor_gateway.audit.writer import AuditWriter
from tresor_gateway.errors import AuditError

NOON = 1_800_000_000.0
DAY = 86_400.0


def decision(text: str = "x") -> records.Decision:
    return records.Decision(
        id=uuid7(),
        time=records.timestamp(NOON),
        request_id=text,
        decision="deny",
        reason="token_missing",
        status=401,
        endpoint="models",
    )


def open_chain(folder: Path, wall: float = NOON, size: int = 1 << 20) -> Chain:
    chain = Chain(folder, "gw1-gateway0", max_file_bytes=size, wall=lambda: wall)
    chain.open()
    return chain


def audit_writer(
    loop: asyncio.AbstractEventLoop,
    chain: Chain,
    *,
    commit_seconds: float = 0.001,
    deadline_seconds: float = 60,
) -> AuditWriter:
    return AuditWriter(
        loop,
        chain,
        commit_seconds=commit_seconds,
        max_pending=1000,
        strict=False,
        deadline_seconds=deadline_seconds,
    )


def types(folder: Path) -> list[str]:
    return [
        json.loads(line)["type"]
        for path in order([folder])
        for line in path.read_bytes().splitlines()
    ]


@pytest.mark.asyncio
async def test_every_answer_has_exactly_one_record(site: Site, engines: list[Engine]) -> None:
    answered = []
    for body, token, target in (
        (QUESTION, "", CHAT_PATH),
        (QUESTION, None, CHAT_PATH),
        ({**QUESTION, "model": "none"}, "", CHAT_PATH),
        ({**QUESTION, "n": 99}, "", CHAT_PATH),
        (None, "", "/v1/models"),
        (None, None, "/nothing"),
    ):
        response = await site.ask(target, body, token=token)
        answered.append((response.headers["x-request-id"], response.status))
    await site.stop()
    assert [(r["request_id"], r["status"]) for r in site.decisions()] == answered


@pytest.mark.asyncio
async def test_record_holds_what_the_format_promises_and_no_content(site: Site) -> None:
    await site.ask(body={**QUESTION, "max_tokens": 5})
    await site.stop()
    [record] = site.decisions()
    assert record["v"] == 1
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-.{12}", record["id"]
    )
    assert record["writer"] == "gw1-gateway0"
    expected = {
        "decision": "allow",
        "reason": "ok",
        "endpoint": "chat.completions",
        "client": "cli",
        "groups": ["llm-users"],
        "auth": "bearer",
        "model": "smollm",
        "model_digest": "sha256:aa",
        "attempts": 1,
        "parameters": {"max_tokens": 5, "n": 1, "stream": False},
        "tokens": {"completion": 3, "prompt": 7, "total": 10},
    }
    assert {name: record[name] for name in expected} == expected
    assert re.fullmatch("[0-9a-f]{32}", record["subject"])
    assert re.fullmatch("[0-9a-f]{32}", record["token"])
    text = "".join(path.read_text() for path in order([site.folder / "audit"]))
    for secret in ("alice", "Lima", "Peru", "t-1"):
        assert secret not in text


@pytest.mark.asyncio
async def test_strict_mode_answers_only_what_is_on_disk(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await make_site(audit={"strict": True})
    synced: list[int] = []
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        real(descriptor)
        synced.append(descriptor)

    monkeypatch.setattr(chains.os, "fdatasync", sync)
    for number in range(1, 4):
        assert (await site.ask(body=QUESTION)).status == 200
        assert len(synced) == number
    stream = await site.ask(body={**QUESTION, "model": "none", "stream": True})
    assert stream.status == 404
    assert len(synced) == 4


@pytest.mark.asyncio
async def test_nothing_is_answered_while_records_cannot_be_written(
    make_site: MakeSite, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await make_site()
    broken = True
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        if broken:
            loop.call_soon_threadsafe(failed.set)
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(chains.os, "fdatasync", sync)
    assert (await site.ask("/v1/models")).status == 200
    async with asyncio.timeout(10):
        await failed.wait()
        while (response := await site.ask(body=QUESTION)).status != 503:
            pass
    assert response.error["code"] == "audit_unavailable"
    asked = sum(len(engine.requests) for engine in engines)
    assert (await site.ask(body=QUESTION)).status == 503
    assert sum(len(engine.requests) for engine in engines) == asked
    broken = False
    async with asyncio.timeout(10):
        while (await site.ask("/v1/models")).status != 200:
            pass
    await site.stop()
    [gap] = [record for record in site.records() if record["type"] == "gap"]
    assert gap["refused"] >= 2
    assert gap["problem"] == "No space left on device"


@pytest.mark.asyncio
async def test_unexpected_failure_of_the_writer_suspends_and_ends_with_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    chain = Chain(tmp_path, "w", max_file_bytes=1 << 20)
    writer = audit_writer(loop, chain)
    writer.start()
    broken = True
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        if broken:
            raise MemoryError
        real(descriptor)

    monkeypatch.setattr(chains.os, "fdatasync", sync)
    done = asyncio.Event()
    writer.append_strict(decision(), done.set, done.set)
    async with asyncio.timeout(10):
        while writer.healthy:
            await asyncio.sleep(0)
        assert not done.is_set()
        broken = False
        await done.wait()
    assert writer.healthy
    await loop.run_in_executor(None, writer.stop)
    assert types(tmp_path) == ["start", "decision", "gap"]
    assert verify([tmp_path]).decisions == 1


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_writer_whose_thread_has_ended_is_not_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    chain = Chain(tmp_path, "w", max_file_bytes=1 << 20)
    writer = audit_writer(loop, chain)
    assert writer.healthy

    def drain() -> None:
        raise SystemExit

    monkeypatch.setattr(writer, "_drain", drain)
    writer.start()
    writer.append(decision(), lambda: None)
    async with asyncio.timeout(10):
        while writer.healthy:
            await asyncio.sleep(0)
    await loop.run_in_executor(None, writer.stop)


def test_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        chain = open_chain(tmp_path)
        chain.append([decision(), decision()])
        chain.close()
    report = verify([tmp_path])
    assert (report.files, report.records, report.decisions, report.complete) == (1, 9, 6, True)


def test_chain_goes_on_over_days_and_sizes(tmp_path: Path) -> None:
    chain = Chain(tmp_path, "w", max_file_bytes=2048, wall=lambda: moment)
    moment = NOON
    chain.open()
    for _ in range(20):
        chain.append([decision()])
    moment += DAY
    chain.append([decision()])
    # A clock that is set back must not open a file that sorts before the last one.
    moment -= 2 * DAY
    chain.append([decision()])
    chain.close()
    moment = NOON - DAY
    again = Chain(tmp_path, "w", max_file_bytes=2048, wall=lambda: moment)
    again.open()
    again.append([decision()])
    again.close()
    report = verify([tmp_path])
    assert report.files > 3
    assert report.decisions == 23


def test_second_writer_is_refused(tmp_path: Path) -> None:
    chain = open_chain(tmp_path)
    with pytest.raises(AuditError, match="another process"):
        open_chain(tmp_path)
    chain.close()


@pytest.mark.parametrize("keep", [1, 10, -1])
def test_torn_line_is_kept_in_a_repair_record(tmp_path: Path, keep: int) -> None:
    chain = open_chain(tmp_path)
    chain.append([decision()])
    chain.close()
    [path] = order([tmp_path])
    whole = path.read_bytes()
    torn = whole.splitlines(keepends=True)[-1][:keep]
    path.write_bytes(whole + torn)
    again = open_chain(tmp_path)
    again.append([decision()])
    again.close()
    assert types(tmp_path) == ["start", "decision", "repair", "start", "decision"]
    repair = json.loads(path.read_bytes().splitlines()[2])
    assert base64.b64decode(repair["data"]) == torn
    assert repair["sha256"] == hashlib.sha256(torn).hexdigest()
    assert verify([tmp_path]).complete


def test_zero_bytes_of_a_power_cut_are_repaired(tmp_path: Path) -> None:
    chain = open_chain(tmp_path)
    chain.close()
    [path] = order([tmp_path])
    with path.open("ab") as stream:
        stream.write(b"\0" * 700)
    open_chain(tmp_path).close()
    assert types(tmp_path) == ["start", "repair", "start"]


@pytest.mark.parametrize("content", [b"", b'{"torn'])
def test_new_file_without_a_whole_line_continues_the_chain(tmp_path: Path, content: bytes) -> None:
    chain = open_chain(tmp_path)
    chain.append([decision()])
    chain.close()
    (tmp_path / "2027-01-16-1.jsonl").write_bytes(content)
    open_chain(tmp_path, NOON + DAY).close()
    assert verify([tmp_path]).complete


def test_tampered_file_stays_as_evidence_and_the_chain_goes_on_elsewhere(tmp_path: Path) -> None:
    chain = open_chain(tmp_path)
    chain.append([decision("a"), decision("b"), decision("c")])
    chain.close()
    [path] = order([tmp_path])
    evidence = path.read_bytes().replace(b'"request_id":"b"', b'"request_id":"z"')
    path.write_bytes(evidence)
    again = open_chain(tmp_path)
    again.append([decision("d")])
    again.close()
    assert again.breaks == 1
    assert path.read_bytes() == evidence
    assert len(order([tmp_path])) == 2
    with pytest.raises(ChainError):
        verify([tmp_path])


MUTATIONS: list[Any] = [
    lambda lines: lines[:1] + lines[2:],
    lambda lines: [*lines[:1], lines[2], lines[1], *lines[3:]],
    lambda lines: [*lines[:2], lines[1], *lines[2:]],
    lambda lines: [*lines[:-1], lines[-1].replace(b"401", b"200"), lines[-1]],
    lambda lines: [lines[0].replace(b'"seq":1', b'"seq": 1'), *lines[1:]],
    lambda lines: [*lines[:-1], lines[-1][:-5]],
]


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_verifier_notices_every_change(tmp_path: Path, mutate: Any) -> None:
    chain = open_chain(tmp_path)
    chain.append([decision("a"), decision("b"), decision("c")])
    chain.close()
    [path] = order([tmp_path])
    path.write_bytes(b"".join(mutate(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ChainError, match=re.escape(path.name)):
        verify([path])


def test_verifier_runs_alone_and_says_what_it_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = open_chain(tmp_path)
    chain.append([decision()])
    chain.close()
    script = Path(sys.modules["tresor_gateway.audit.verify"].__file__ or "")
    command = [sys.executable, "-I", "-S", str(script), "verify", "--from-start", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 files, 2 records, 1 decisions, complete" in result.stdout
    assert chain.last.prev in result.stdout
    (tmp_path / "none").mkdir()
    assert main(["verify", str(tmp_path / "none")]) == 2
    [path] = order([tmp_path])
    path.write_bytes(path.read_bytes()[40:])
    assert main(["verify", str(path)]) == 1
    assert "broken" in capsys.readouterr().err


@settings(max_examples=200, deadline=None)
@given(st.text(), st.integers(-(1 << 53), 1 << 53), st.lists(st.text(), max_size=3))
def test_gateway_and_verifier_agree_on_canonical_json(
    text: str, number: int, groups: list[str]
) -> None:
    try:
        text.encode()
        "".join(groups).encode()
    except UnicodeEncodeError:
        return
    record = decision(text)
    record.status = number
    record.groups = groups
    line = records.encode(record)
    assert canonical(json.loads(line)) == line


@pytest.mark.asyncio
async def test_records_queued_together_share_one_sync(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    chain = Chain(tmp_path, "w", max_file_bytes=1 << 20)
    writer = audit_writer(loop, chain, commit_seconds=0.01)
    writer.start()
    done = asyncio.Event()
    left = 500

    def one() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    for _ in range(500):
        writer.append_strict(decision(), one, one)
    async with asyncio.timeout(10):
        await done.wait()
    assert writer.written == 500
    assert writer.commits < 10
    await loop.run_in_executor(None, writer.stop)
    assert verify([tmp_path]).decisions == 500
