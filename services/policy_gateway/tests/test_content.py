"""Content: kept as the policy says, unreadable without the key, gone when its key is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.content_support import (
    ACCESS,
    MASKING,
    SECRET,
    content,
    desk,
    everything,
    shown,
)
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    DONE,
    QUESTION,
    Engine,
    EngineRequest,
    Issuer,
    answer,
    chunk,
    completion,
    event,
    settings,
    stream_head,
    stream_two,
    usage_event,
)
from tresor_gateway import config
from tresor_gateway.audit.verify import verify
from tresor_gateway.content import store as stores
from tresor_gateway.content.crypto import ContentError
from tresor_gateway.content.operator import Operator, Order
from tresor_gateway.errors import ConfigError

pytestmark = pytest.mark.asyncio

MAIL = "anna.muster@example.com"
ASKED = {"model": "small", "messages": [{"role": "user", "content": f"Write to {MAIL} today."}]}


async def _says(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    """Repeats what it was told, and makes an address up."""
    said = request.body["messages"][-1]["content"]
    text = json.dumps(completion(f"You said: {said} Ask bob.noname@example.com"))
    await answer(writer, 200, text.encode())


async def _streams(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    stream_head(writer)
    said = request.body["messages"][-1]["content"]
    # Cut in the middle of whatever it is.
    for piece in (*(said[i : i + 5] for i in range(0, len(said), 5)), " ok"):
        chunk(writer, event(piece))
    for part in (event("", finish="stop"), usage_event(), DONE):
        chunk(writer, part)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def test_masked_content_is_what_the_model_saw_and_the_client_gets_its_own_back(
    make_site: MakeSite, engines: list[Engine], tmp_path: Path
) -> None:
    for engine in engines:
        engine.script = _says
    site = await make_site(guardrails=MASKING, content=content(tmp_path))
    response = await site.ask(body=ASKED)
    assert MAIL in response.json["choices"][0]["message"]["content"]
    await site.stop()
    [record] = site.decisions()
    ref = record["content"]
    assert ref["kept"] == "masked"
    assert ref["file"] == f"{record['time'][:10]}/gw1-gateway0.content"
    assert re.fullmatch("[0-9a-f]{64}", ref["sha256"])
    kept = shown(site, record["id"])
    assert kept["request"]["messages"][0]["content"] == "Write to [EMAIL_1] today."
    [choice] = kept["answer"]["choices"]
    assert choice["content"] == "You said: Write to [EMAIL_1] today. Ask [EMAIL_2]"
    assert (kept["record"], kept["kept"], kept["model"]) == (record["id"], "masked", "smollm")
    text = json.dumps(kept)
    assert "anna.muster" not in text
    assert "bob.noname" not in text
    assert "salt" not in text
    # Nothing of it can be read from the disk, and nobody's name is in a name.
    data = everything(tmp_path / "content")
    for secret in (b"Write to", b"EMAIL", b"alice", b"smollm"):
        assert secret not in data
    assert record["subject"].encode() in data


async def test_full_content_is_what_the_client_sent_and_got(
    make_site: MakeSite, engines: list[Engine], tmp_path: Path
) -> None:
    for engine in engines:
        engine.script = _streams
    site = await make_site(guardrails=MASKING, content=content(tmp_path, {"keep": "full"}))
    response = await site.ask(body={**ASKED, "stream": True})
    assert response.body.endswith(DONE)
    await site.stop()
    [record] = site.decisions()
    kept = shown(site, record["request_id"])
    assert kept["request"] == {**ASKED, "stream": True}
    assert kept["answer"]["choices"] == [
        {"index": 0, "finish_reason": "stop", "content": f"Write to {MAIL} today. ok"}
    ]


@pytest.mark.parametrize("endpoint", ["chat", "messages"])
async def test_stream_is_put_together_and_masked_wherever_it_was_cut(
    make_site: MakeSite, engines: list[Engine], tmp_path: Path, endpoint: str
) -> None:
    for engine in engines:
        engine.script = _streams
    site = await make_site(guardrails=MASKING, content=content(tmp_path), access=ACCESS)
    target = CHAT_PATH if endpoint == "chat" else "/v1/messages"
    response = await site.ask(target, {**ASKED, "stream": True, "max_tokens": 50})
    assert b"anna" in response.body
    await site.stop()
    [record] = site.decisions()
    kept = shown(site, record["id"])
    assert kept["answer"]["choices"][0]["content"] == "Write to [EMAIL_1] today. ok"


async def test_first_rule_that_fits_decides_and_without_one_nothing_is_kept(
    make_site: MakeSite, tmp_path: Path
) -> None:
    rules = [
        {"keep": "none", "groups": ["board"]},
        {"keep": "full", "endpoints": ["chat.completions"], "models": ["smollm"]},
    ]
    site = await make_site(access=ACCESS, content=content(tmp_path, *rules))
    board = site.issuer.token(groups=["board", "llm-users"])
    assert (await site.ask(body=QUESTION)).status == 200
    assert (await site.ask(body=QUESTION, token=board)).status == 200
    plain = {"model": "small", "prompt": "Where?"}
    assert (await site.ask("/v1/completions", plain)).status in (200, 502)
    assert (await site.ask("/v1/models")).status == 200
    assert (await site.ask(body={**QUESTION, "n": 99})).status == 400
    await site.stop()
    kept = [(record["endpoint"], "content" in record) for record in site.decisions()]
    assert kept == [
        ("chat.completions", True),
        ("chat.completions", False),
        ("completions", False),
        ("models", False),
        ("chat.completions", False),
    ]


async def test_embeddings_are_kept_without_their_numbers(
    make_site: MakeSite, engines: list[Engine], tmp_path: Path
) -> None:
    async def embeds(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        vector = b'{"object":"embedding","index":0,"embedding":[0.5]}'
        whole = b'{"object":"list","model":"m","data":[%b],"usage":{"prompt_tokens":1}}' % vector
        await answer(writer, 200, whole)

    engines[0].script = embeds
    site = await make_site(
        access=ACCESS, guardrails=MASKING, content=content(tmp_path), replicas=[engines[0].url]
    )
    token = site.issuer.token(groups=["llm-embedding"])
    body = {"model": "minilm", "input": f"of {MAIL}"}
    assert (await site.ask("/v1/embeddings", body, token=token)).status == 200
    await site.stop()
    [record] = site.decisions()
    kept = shown(site, record["id"])
    assert kept["request"]["input"] == "of [EMAIL_1]"
    assert "answer" not in kept


async def test_text_completions_and_tool_calls_are_kept(
    make_site: MakeSite, engines: list[Engine], tmp_path: Path
) -> None:
    async def answers(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        if "prompt" in request.body:
            choice: dict[str, Any] = {"index": 0, "text": "Peru", "finish_reason": "stop"}
        else:
            function = {"name": "find", "arguments": '{"q":"Lima"}'}
            calls = [{"id": "1", "type": "function", "function": function}]
            choice = {"index": 0, "message": {"content": None, "tool_calls": calls}}
        await answer(writer, 200, json.dumps({"choices": [choice]}).encode())

    for engine in engines:
        engine.script = answers
    site = await make_site(access=ACCESS, guardrails=MASKING, content=content(tmp_path))
    assert (await site.ask("/v1/completions", {"model": "small", "prompt": "x"})).status == 200
    assert (await site.ask(body=QUESTION)).status == 200
    await site.stop()
    first, second = (shown(site, record["id"]) for record in site.decisions())
    assert first["answer"]["choices"][0]["text"] == "Peru"
    call = {"0": {"name": "find", "arguments": '{"q":"Lima"}'}}
    assert second["answer"]["choices"][0]["tool_calls"] == call


@pytest.mark.parametrize("stream", [False, True])
async def test_no_answer_without_its_content(
    make_site: MakeSite,
    engines: list[Engine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
) -> None:
    for engine in engines:
        engine.script = stream_two if stream else engine.script
    rules: list[dict[str, Any]] = [{"keep": "none", "groups": ["board"]}, {"keep": "full"}]
    site = await make_site(access=ACCESS, content=content(tmp_path, *rules))
    broken = True
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        if broken and "/content/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(stores.os, "fdatasync", sync)
    response = await site.ask(body={**QUESTION, "stream": stream})
    if stream:
        assert response.status == 200
        assert b"content_unavailable" in response.body
        assert DONE not in response.body
    else:
        assert response.status == 503
        assert response.error["code"] == "content_unavailable"
        assert b"Peru" not in response.body
    # From now on nothing is asked that could not be answered; others are not concerned.
    asked = sum(len(engine.requests) for engine in engines)
    assert (await site.ask(body=QUESTION)).status == 503
    assert sum(len(engine.requests) for engine in engines) == asked
    board = site.issuer.token(groups=["board"])
    assert (await site.ask(body={**QUESTION, "stream": stream}, token=board)).status == 200
    broken = False
    async with asyncio.timeout(10):
        while (await site.ask(body={**QUESTION, "stream": stream})).status != 200:
            pass
    await site.stop()
    records = site.decisions()
    assert records[0]["reason"] == "content_unavailable"
    assert records[0]["decision"] == "error"
    assert records[0]["content"] == {"kept": "failed"}
    assert records[-1]["reason"] == "ok"
    assert shown(site, records[-1]["id"])["answer"]
    with pytest.raises(ContentError, match="could not be kept"):
        shown(site, records[0]["id"])


async def test_damaged_key_of_one_person_is_not_the_others_problem(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = await make_site(content=content(tmp_path, {"keep": "full"}))
    bob = site.issuer.token(sub="bob")
    assert (await site.ask(body=QUESTION)).status == 200
    [key] = (tmp_path / "content").rglob("*.key")
    key.write_bytes(b"{}")
    answers = await asyncio.gather(
        *(site.ask(body=QUESTION, token=token) for token in (bob, "", bob, ""))
    )
    assert [response.status for response in answers] == [200, 503, 200, 503]
    assert (await site.ask(body=QUESTION, token=bob)).status == 200


async def test_space_guard_refuses_before_the_disk_is_full(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 1 << 30
    site = await make_site(content=content(tmp_path, {"keep": "full"}, min_free_bytes=1 << 20))
    monkeypatch.setattr(stores.Store, "free_bytes", property(lambda _self: free))
    assert (await site.ask(body=QUESTION)).status == 200
    free = 1 << 10
    assert (await site.ask(body=QUESTION)).error["code"] == "content_unavailable"
    free = 1 << 30
    async with asyncio.timeout(10):
        while (await site.ask(body=QUESTION)).status != 200:
            pass


async def test_queue_is_bounded(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await make_site(
        content=content(tmp_path, {"keep": "full"}, max_pending_bytes=1024),
    )
    loop = asyncio.get_running_loop()
    entered, leave = asyncio.Event(), asyncio.Event()
    real = stores.Store.append

    def slow(self: stores.Store, *arguments: Any) -> Any:
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(leave.wait(), loop).result(30)
        return real(self, *arguments)

    monkeypatch.setattr(stores.Store, "append", slow)
    long = {**QUESTION, "messages": [{"role": "user", "content": "x" * 2000}]}
    first = asyncio.ensure_future(site.ask(body=long))
    await entered.wait()
    assert (await site.ask(body=QUESTION)).error["code"] == "content_unavailable"
    leave.set()
    assert (await first).status == 200
    assert (await site.ask(body=QUESTION)).status == 200


async def test_erased_day_of_a_person_cannot_be_read_and_the_rest_can(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = await make_site(content=content(tmp_path, {"keep": "full"}), audit={"strict": True})
    bob = site.issuer.token(sub="bob")
    assert (await site.ask(body=QUESTION)).status == 200
    assert (await site.ask(body=QUESTION, token=bob)).status == 200
    [alices, bobs] = site.decisions()
    order = Order("erase", "op", "GDPR 17", alices["subject"], alices["time"][:10])
    assert desk(site).erase(order) == 1
    assert desk(site).erase(order) == 0
    # The worker still has the destroyed key in its memory, and must not use it.
    assert (await site.ask(body=QUESTION)).status == 200
    await site.stop()
    records = site.decisions()
    later = records[2]
    assert later["content"]["key"] != alices["content"]["key"]
    with pytest.raises(ContentError, match="destroyed"):
        shown(site, alices["id"])
    assert shown(site, bobs["id"])["answer"]
    assert shown(site, later["id"])["answer"]
    uses = [record for record in site.records() if record["type"] == "content"]
    assert [(use["action"], use["outcome"]) for use in uses] == [
        ("erase", "begun"),
        ("erase", "done"),
        ("erase", "begun"),
        ("erase", "done"),
        ("show", "failed"),
        ("show", "done"),
        ("show", "done"),
    ]
    assert uses[1]["keys"] == 1
    assert uses[1]["reason"] == "GDPR 17"
    assert uses[1]["writer"] == "gw1-operator"
    assert "destroyed" in uses[4]["problem"]
    # The chain is untouched: erasing changes no record.
    assert verify([tmp_path / "audit"]).complete


async def test_nothing_is_shown_when_its_showing_cannot_be_recorded(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await make_site(content=content(tmp_path, {"keep": "full"}))
    await site.ask(body=QUESTION)
    await site.stop()
    [record] = site.decisions()
    written = 0
    real = os.fdatasync

    def full(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > 1:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(ContentError, match="cannot be recorded"):
        shown(site, record["id"])


async def test_second_person_can_be_asked_for(make_site: MakeSite, tmp_path: Path) -> None:
    site = await make_site(content=content(tmp_path, {"keep": "full"}))
    await site.ask(body=QUESTION)
    await site.stop()
    [record] = site.decisions()
    asked: list[Order] = []

    def consent(order: Order) -> list[str]:
        asked.append(order)
        return ["second"]

    def refuse(order: Order) -> list[str]:
        raise ContentError("nobody consents")

    values = config.parse(json.dumps(site.settings), "test")
    order = Order("erase", "op", "ticket", record["subject"], record["time"][:10])
    with pytest.raises(ContentError, match="nobody"):
        Operator(values, authorise=refuse).erase(order)
    assert shown(site, record["id"])
    assert Operator(values, authorise=consent).erase(order) == 1
    assert asked == [order]
    uses = [entry for entry in site.records() if entry["type"] == "content"]
    assert uses[-1]["approvals"] == ["second"]


@pytest.mark.parametrize("case", ["other-key", "changed", "moved", "truncated", "gone"])
async def test_content_that_is_not_the_record_s_is_refused(
    make_site: MakeSite, tmp_path: Path, case: str
) -> None:
    site = await make_site(content=content(tmp_path, {"keep": "full"}))
    for _ in range(2):
        await site.ask(body=QUESTION)
    await site.stop()
    first, second = site.decisions()
    path = tmp_path / "content" / first["content"]["file"]
    data = bytearray(path.read_bytes())
    secret = SECRET
    if case == "other-key":
        secret = b"o" * 32
    elif case == "changed":
        data[first["content"]["offset"] + 40] ^= 1
    elif case == "moved":
        one, two = first["content"], second["content"]
        data[one["offset"] : two["offset"]] = data[two["offset"] :]
    elif case == "truncated":
        del data[30:]
    path.write_bytes(data)
    if case == "gone":
        path.unlink()
    expected = {
        "other-key": "name the key file of that time",
        "changed": "changed since it was recorded",
        "moved": "changed since|has no content of this record",
        "truncated": "ends before",
        "gone": "is gone",
    }
    with pytest.raises(ContentError, match=expected[case]):
        desk(site, secret).show(Order("show", "op", "test", record=first["id"]))


async def test_days_go_when_their_time_is_over(make_site: MakeSite, tmp_path: Path) -> None:
    site = await make_site(content=content(tmp_path, {"keep": "full"}, retention_days=30))
    await site.ask(body=QUESTION)
    await site.stop()
    [record] = site.decisions()
    today = date.fromisoformat(record["time"][:10])
    store = tmp_path / "content"
    shutil.copytree(store / today.isoformat(), store / "2026-01-01")
    (store / "not a day").mkdir()
    order = Order("expire", "timer", "30 days over")
    assert desk(site).expire(order, today) == ["2026-01-01"]
    assert desk(site).expire(order, today) == []
    assert shown(site, record["id"])
    later = date.fromordinal(today.toordinal() + 31)
    assert desk(site).expire(order, later) == [today.isoformat()]
    assert sorted(path.name for path in store.iterdir()) == ["not a day"]
    uses = [entry for entry in site.records() if entry.get("action") == "expire"]
    assert [(use["outcome"], use.get("days")) for use in uses] == [
        ("begun", None),
        ("done", ["2026-01-01"]),
        ("begun", None),
        ("done", [today.isoformat()]),
    ]


async def test_nothing_is_kept_unless_the_site_says_so(
    make_site: MakeSite, tmp_path: Path, issuer: Issuer
) -> None:
    site = await make_site()
    assert (await site.ask(body=QUESTION)).status == 200
    await site.stop()
    [record] = site.decisions()
    assert "content" not in record
    assert not (tmp_path / "content").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": [{"keep": "masked"}]}, "guardrails.request lets email"),
        ({"rules": [{"keep": "full", "models": ["nix"]}]}, "'nix' is no model"),
        ({"rules": [{"keep": "full", "groups": ["nix"]}]}, "'nix' has no access rule"),
        ({"rules": [{"keep": "some"}]}, r"content.rules\[0\].keep"),
        ({"rules": []}, "content.rules"),
        ({"directory": "relative"}, "write an absolute path"),
        ({"retention_days": 0}, "content.retention_days"),
    ],
)
async def test_mistake_in_the_configuration_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    values = settings(tmp_path, ["http://127.0.0.1:9"])
    values["content"] = {**content(tmp_path, {"keep": "full"}), **changes}
    with pytest.raises(ConfigError, match=message):
        config.parse(json.dumps(values), "test")


async def test_short_key_stops_the_start(make_site: MakeSite, tmp_path: Path) -> None:
    section = content(tmp_path, {"keep": "full"})
    (tmp_path / "content.key").write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"content\.key_file.*holds 5 bytes"):
        await make_site(content=section)


async def test_rules_can_change_while_running_and_the_store_cannot(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = await make_site(content=content(tmp_path, {"keep": "full"}))
    values = dict(site.settings)
    values["content"] = content(tmp_path, {"keep": "none"})
    site.worker.reload(config.parse(json.dumps(values), "test"))
    await site.ask(body=QUESTION)
    with pytest.raises(ConfigError, match="only its rules"):
        values["content"] = content(tmp_path, {"keep": "full"}, retention_days=1)
        site.worker.reload(config.parse(json.dumps(values), "test"))
    await site.stop()
    assert "content" not in site.decisions()[0]
