"""Engines that send what no engine should: the client gets one answer, and it gets a record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    CHAT_PATH,
    DONE,
    FUZZ,
    QUESTION,
    Engine,
    EngineRequest,
    Site,
    answer,
    chunk,
    completion,
    event,
    replaces_methods,
    stream_head,
    usage_event,
)
from services.policy_gateway.tests.test_guardrails import use
from tresor_gateway.api.cleaning import AnswerError, StreamCleaner, clean_answer
from tresor_gateway.call import Call
from tresor_gateway.upstream.sse import EventFilter, StreamFaultError

MESSAGES = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
ASKED = {
    CHAT_PATH: QUESTION,
    "/v1/completions": {"model": "small", "prompt": "Hi"},
    "/v1/messages": MESSAGES,
    "/v1/responses": {"model": "small", "input": "Hi"},
    "/v1/embeddings": {"model": "minilm", "input": "Hi"},
    "/v1/rerank": {"model": "ranker", "query": "q", "documents": ["d"]},
}
STREAMED = [CHAT_PATH, "/v1/completions", "/v1/messages", "/v1/responses"]


@pytest_asyncio.fixture
async def open_site(make_site: MakeSite, engines: list[Engine]) -> Site:
    endpoints = ["chat.completions", "completions", "messages", "responses"]
    one = [{"url": engines[0].url, "served_name": "served"}]
    return await make_site(
        models=[
            {"name": "smollm", "aliases": ["small"], "task": "chat", "replicas": one},
            {"name": "minilm", "task": "embedding", "replicas": one},
            {"name": "ranker", "task": "rerank", "replicas": one},
        ],
        access=[
            {
                "group": "llm-users",
                "models": ["smollm"],
                "endpoints": endpoints,
                # Counted, so that what an engine says about tokens gets into the counters.
                "limits": {"daily_tokens": 1_000_000_000_000},
            },
            {"group": "llm-users", "models": ["minilm"], "endpoints": ["embeddings"]},
            {"group": "llm-users", "models": ["ranker"], "endpoints": ["rerank"]},
        ],
        guardrails={"request": {}, "response": {}},
        upstream={"cooldown_seconds": 0.000_1, "cooldown_max_seconds": 0.000_1},
    )


def with_usage(usage: Any) -> bytes:
    return json.dumps({**completion(), "usage": usage}).encode()


WHOLE = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b'{"choices":{}}',
    b'{"choices":[null]}',
    b'{"choices":[{"index":0,"message":{"content":"\xff"}}]}',
    b'{"choices":[{"index":0,"message":{"content":"\\ud800"}}]}',
    b"[" * 5000 + b"]" * 5000,
    with_usage(7),
    with_usage({"prompt_tokens": -1}),
    with_usage({"prompt_tokens": 2**63}),
    with_usage({"prompt_tokens": 10**400}),
    with_usage({"prompt_tokens": "seven"}),
    with_usage({"completion_tokens": [1]}),
    with_usage({"prompt_tokens": 1.5}),
    b'{"results":[{"index":-1,"relevance_score":1}]}',
    b'{"results":[{"index":7,"relevance_score":1}]}',
    b'{"results":[{"index":0,"relevance_score":"x"}]}',
    b'{"data":[{"embedding":{"a":1}}]}',
    b'{"data":[{"embedding":"not base64 \\u0000"}]}',
    b'{"data":"secret"}',
    b'{"data":[{"index":0,"embedding":[1,[2]]}]}',
    b'{"data":[{"index":0,"embedding":["secret"]}]}',
    b'{"data":[{"index":0,"embedding":[1e5,-2.5]}],"secret":1}',
]


@pytest.mark.asyncio
@pytest.mark.parametrize("body", WHOLE, ids=range(len(WHOLE)))
async def test_garbage_is_answered_and_recorded(
    open_site: Site, engines: list[Engine], body: bytes
) -> None:
    async def garbage(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await answer(writer, 200, body)

    use(engines, garbage)
    for target, question in ASKED.items():
        response = await open_site.ask(target, body=question)
        assert response.status in (200, 502), (target, response.body)
        if response.status == 200:
            assert b"secret" not in response.body
    await open_site.stop()
    assert len(open_site.decisions()) == len(ASKED)
    assert all("internal" not in record["reason"] for record in open_site.decisions())


EVENTS = [
    [b"data: null\n\n"],
    [b"data: {}\n\n"],
    [b'data: {"choices":null}\n\n'],
    [b"data:\n\n"],
    [b"\n\n\n\n"],
    [b"event: x\nid: 1\n\n"],
    [b"data: {\n\n"],
    [b"\xff\xfe\n\n"],
    [b"<html>secret</html>\n\n"],
    [b"data: [DONE]\n\n", b"data: [DONE]\n\n"],
    [event("In"), b"data: [DONE]\n\ndata: {}\n\n"],
    [event("In"), b'data: {"choices":[],"\\u0075sage":{"prompt_tokens":"x"}}\n\n', DONE],
    [event("In"), b'data: {"choices":[],"usage":{"prompt_tokens":-9}}\n\n', DONE],
    [event("In"), usage_event().replace(b"7", b"1" * 30), DONE],
    [event("In"), event("x" * 100).replace(b"choices", b"choice"), DONE],
    [event("In"), b'data: {"choices":[{"index":99999999999999999999,"delta":{}}]}\n\n', DONE],
    [event("In"), b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":-5}]}}]}\n\n'],
    [event("In"), b"data: " + b"[" * 5000 + b"\n\n"],
    [event("In"), b"data: " + b"x" * (5 << 20)],
    [event("In").replace(b"\n\n", b"\r\n\r\n"), DONE],
]


def sends(parts: Sequence[bytes]) -> Any:
    async def script(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        stream_head(writer)
        for part in parts:
            chunk(writer, part)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return script


@pytest.mark.asyncio
@pytest.mark.parametrize("parts", EVENTS, ids=range(len(EVENTS)))
async def test_garbage_in_a_stream_ends_it_with_a_record(
    open_site: Site, engines: list[Engine], parts: list[bytes]
) -> None:
    use(engines, sends(parts))
    for target in STREAMED:
        response = await open_site.ask(target, body={**ASKED[target], "stream": True})
        assert response.status in (200, 502), (target, response.body)
        assert b"secret" not in response.body
    await open_site.stop()
    assert len(open_site.decisions()) == len(STREAMED)
    assert all("internal" not in record["reason"] for record in open_site.decisions())


@replaces_methods
@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("method", ["answer", "stream_data", "stream_end"])
async def test_mistake_of_ours_is_an_answer_not_a_silence(
    open_site: Site,
    engines: list[Engine],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    *,
    stream: bool,
) -> None:
    def fail(self: Call, *values: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Call, method, fail)
    use(engines, sends([event("In"), usage_event(), DONE]) if stream else engines[0].script)
    response = await open_site.ask(body={**QUESTION, "stream": stream})
    await open_site.stop()
    [record] = open_site.decisions()
    if (method == "answer") != stream:
        assert record["reason"] == "internal_error"
        assert b"internal" in response.body
    else:
        assert record["reason"] == "ok"


# --- parsers, without a socket -------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        *("choices", "index", "delta", "message", "content", "tool_calls", "function", "usage"),
        *("arguments", "logprobs", "token", "tokens", "token_logprobs", "top_logprobs", "text"),
        *("role", "finish_reason", "prompt_tokens", "completion_tokens", "id", "name", "type"),
    ]
)
NEARLY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("a@example.org"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=30,
)
CHOICE = st.fixed_dictionaries(
    {"index": st.integers(0, 2)},
    optional={
        "delta": st.dictionaries(NAMES, NEARLY, max_size=4),
        "message": st.dictionaries(NAMES, NEARLY, max_size=4),
        "text": st.text(max_size=20),
        "logprobs": NEARLY,
        "finish_reason": st.sampled_from(["stop", "length", None]),
    },
)
ANSWERS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=3)}, optional={"usage": NEARLY, "id": NEARLY}
)
PAYLOADS = (ANSWERS | NEARLY | JSON).map(lambda value: json.dumps(value).encode()) | st.binary()
ALLOWED = (AnswerError, StreamFaultError)


@FUZZ
@given(payloads=st.lists(PAYLOADS, max_size=6), chat=st.booleans(), keep=st.booleans())
def test_cleaner_refuses_or_encodes_whatever_comes(
    payloads: list[bytes], chat: bool, keep: bool
) -> None:
    from services.policy_gateway.tests.guardrails.support import pipeline

    cleaner = StreamCleaner(pipeline().guard(), chat=chat, keep=keep)
    for payload in payloads:
        try:
            out = cleaner.event(payload)
        except ALLOWED:
            return
        for part in out.split(b"\n\n"):
            if part:
                assert part.startswith(b"data: ")
                json.loads(part[6:])
    cleaner.finish()


@FUZZ
@given(payload=PAYLOADS, chat=st.booleans())
def test_whole_answers_are_refused_or_encoded(payload: bytes, chat: bool) -> None:
    from services.policy_gateway.tests.guardrails.support import pipeline

    try:
        body, _ = clean_answer(pipeline().guard(), payload, chat=chat, repair=lambda text: text)
    except ALLOWED:
        return
    json.loads(body)


@FUZZ
@given(
    data=st.lists(
        st.binary(max_size=30)
        | st.sampled_from([event("a"), usage_event(), DONE, b"\n\n", b"data:", b"\r\n", b": x\n\n"])
    ),
    cuts=st.lists(st.integers(1, 40), max_size=20),
)
def test_event_filter_passes_the_same_however_it_is_cut(data: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(data)
    assert filtered([whole]) == filtered(pieces(whole, cuts))


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n\n", b"data: [DONE]\t\n\n\n\n\n"])
def test_blank_line_behind_the_end_is_no_event(end: bytes) -> None:
    data = event("a") + end
    whole = filtered([data])
    assert whole is not None
    assert whole[1]
    for place in range(1, len(data)):
        assert filtered([data[:place], data[place:]]) == whole


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    out = []
    for cut in cuts:
        out.append(data[:cut])
        data = data[cut:]
    return [*out, data]


def filtered(parts: list[bytes]) -> tuple[list[bytes], bool] | None:
    events = EventFilter(usage_wanted=False)
    out = b""
    try:
        for part in parts:
            out += events.feed(part)
    except StreamFaultError:
        return None
    found = [event.strip(b"\n") for event in out.split(b"\n\n")]
    return [event for event in found if event], events.done
