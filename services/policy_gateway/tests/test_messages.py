"""Anthropic's interface and reranking: other shapes, the same policy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    NO_GUARDRAILS,
    Engine,
    EngineRequest,
    Site,
    answer,
    event,
    stream_head,
)
from services.policy_gateway.tests.test_guardrails import only_request, says, streams, use

pytestmark = pytest.mark.asyncio
PATH = "/v1/messages"
MAIL = "anna.kovalova@example.org"
ASK = {"model": "small", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
ACCESS = [
    {"group": "llm-users", "models": ["smollm"], "endpoints": ["models", "messages"]},
    {"group": "llm-embedding", "models": ["minilm"], "endpoints": ["embeddings"]},
]


@pytest.fixture
def anthropic(make_site: MakeSite) -> Any:
    async def make(**changes: Any) -> Site:
        return await make_site(access=ACCESS, **changes)

    return make


def events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in body.split(b"\n\n"):
        if block:
            name, data = block.split(b"\n")
            value = json.loads(data.removeprefix(b"data: "))
            assert name == b"event: " + value["type"].encode()
            found.append((value["type"], value))
    return found


async def test_whole_message_comes_back_in_its_shape(anthropic: Any, engines: list[Engine]) -> None:
    site = await anthropic()
    use(engines, says("In Peru."))
    response = await site.ask(PATH, {**ASK, "system": "Be brief.", "stop_sequences": ["X"]})
    assert response.status == 200
    body = response.json
    assert body["content"] == [{"type": "text", "text": "In Peru."}]
    assert (body["type"], body["role"], body["model"]) == ("message", "assistant", "small")
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    assert body["usage"] == {"input_tokens": 7, "output_tokens": 3}
    sent = only_request(engines)
    assert sent.target == "/v1/chat/completions"
    assert [m["role"] for m in sent.body["messages"]] == ["system", "user"]
    assert (sent.body["max_tokens"], sent.body["stop"]) == (50, ["X"])
    assert "cache_salt" in sent.body
    await site.stop()
    [record] = site.decisions()
    assert (record["endpoint"], record["decision"]) == ("messages", "allow")


async def test_tools_go_there_and_back(anthropic: Any, engines: list[Engine]) -> None:
    site = await anthropic()
    call = {"id": "t1", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}}

    async def script(request: EngineRequest, writer: Any) -> None:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        await answer(writer, 200, json.dumps({"id": "c", "choices": [choice]}).encode())

    use(engines, script)
    body = {
        **ASK,
        "tools": [{"name": "find", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Find it"}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t0", "name": "find", "input": {"q": 0}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t0", "content": "nothing"},
                    {"type": "text", "text": "Again"},
                ],
            },
        ],
    }
    response = await site.ask(PATH, body)
    assert response.json["stop_reason"] == "tool_use"
    [block] = response.json["content"]
    assert block == {"type": "tool_use", "id": "t1", "name": "find", "input": {"q": 1}}
    sent = only_request(engines).body
    assert [m["role"] for m in sent["messages"]] == ["user", "assistant", "tool", "user"]
    assert sent["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"q":0}'
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)


@pytest.mark.parametrize("guardrails", [NO_GUARDRAILS, {"response": {"output_schema": "allow"}}])
async def test_stream_is_a_well_formed_sequence_of_events(
    anthropic: Any, engines: list[Engine], guardrails: dict[str, Any]
) -> None:
    site = await anthropic(guardrails=guardrails)
    pieces = [event(piece) for piece in ("In", " Pe", "ru, ", "say", "s ", "x")]
    use(engines, streams([*pieces, event("", finish="length")]))
    response = await site.ask(PATH, {**ASK, "stream": True})
    assert b"[DONE]" not in response.body
    found = events(response.body)
    names = [name for name, _ in found]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(names[2:-3]) == {"content_block_delta"}
    text = "".join(v["delta"]["text"] for n, v in found if n == "content_block_delta")
    assert text == "In Peru, says x"
    assert found[-2][1]["delta"]["stop_reason"] == "max_tokens"
    assert found[-2][1]["usage"] == {"input_tokens": 7, "output_tokens": 2}


async def test_values_are_masked_and_put_back(anthropic: Any, engines: list[Engine]) -> None:
    site = await anthropic(guardrails={"request": {}, "response": {}})
    answers = [event(piece) for piece in ("To [EMA", "IL_1] not ", "bob@exam", "ple.com", " ok")]
    use(engines, streams([*answers, event("", finish="stop")]))
    body = {**ASK, "stream": True, "messages": [{"role": "user", "content": f"Write {MAIL}"}]}
    response = await site.ask(PATH, body)
    found = events(response.body)
    text = "".join(v["delta"]["text"] for n, v in found if n == "content_block_delta")
    assert text == f"To {MAIL} not [EMAIL_2] ok"
    assert MAIL not in json.dumps(only_request(engines).body)


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"model": "big"}, 404, "not_found_error"),
        ({"thinking": {"type": "enabled"}}, 400, "invalid_request_error"),
        ({"max_tokens": None}, 400, "invalid_request_error"),
        ({"cache_salt": "x"}, 400, "invalid_request_error"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            400,
            "invalid_request_error",
        ),
    ],
)
async def test_refusal_has_the_shape_its_clients_expect(
    anthropic: Any, change: dict[str, Any], status: int, kind: str
) -> None:
    site = await anthropic()
    response = await site.ask(PATH, {**ASK, **change})
    assert response.status == status
    assert set(response.json) == {"type", "error"}
    assert (response.json["type"], response.json["error"]["type"]) == ("error", kind)


@pytest.mark.parametrize(
    "change",
    [
        {"system": [{"text": "Be brief."}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t", "content": [{"text": "x"}]}
                    ],
                }
            ]
        },
    ],
)
async def test_piece_of_text_without_its_type_is_refused(
    anthropic: Any, engines: list[Engine], change: dict[str, Any]
) -> None:
    site = await anthropic()
    response = await site.ask(PATH, {**ASK, **change})
    assert response.status == 400
    assert "type" in response.json["error"]["message"]
    assert not [request for engine in engines for request in engine.requests]


async def test_missing_token_has_the_shape_its_clients_expect(anthropic: Any) -> None:
    site = await anthropic()
    response = await site.ask(PATH, ASK, token=None)
    assert (response.status, response.json["error"]["type"]) == (401, "authentication_error")


async def test_broken_stream_ends_with_an_error_event(
    anthropic: Any, engines: list[Engine]
) -> None:
    site = await anthropic()

    async def script(request: EngineRequest, writer: Any) -> None:
        stream_head(writer)
        data = event("In")
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
        writer.transport.close()

    use(engines, script)
    response = await site.ask(PATH, {**ASK, "stream": True})
    found = events(response.body)
    assert found[-1][0] == "error"
    assert "message_stop" not in [name for name, _ in found]


RANKER = {
    "name": "ranker",
    "task": "rerank",
}


async def test_ranking_shows_the_client_its_own_documents(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(
        models=[{**RANKER, "replicas": [{"url": engines[0].url, "served_name": "served"}]}],
        access=[{"group": "llm-users", "models": ["ranker"], "endpoints": ["rerank"]}],
        guardrails={"request": {}},
    )

    async def script(request: EngineRequest, writer: Any) -> None:
        results = [
            {"index": i, "relevance_score": 1.0 - i, "document": {"text": "engine's"}}
            for i in range(len(request.body["documents"]))
        ]
        values = {"id": "r", "model": "served", "results": results, "usage": {"total_tokens": 9}}
        await answer(writer, 200, json.dumps(values).encode())

    engines[0].script = script
    documents = [f"Contact {MAIL}", "Nothing"]
    body = {"model": "ranker", "query": "Who?", "documents": documents, "top_n": 2}
    response = await site.ask("/v1/rerank", body)
    assert [r["document"]["text"] for r in response.json["results"]] == documents
    assert response.json["model"] == "ranker"
    sent = engines[0].requests[0]
    assert (sent.target, sent.body["documents"][0]) == ("/v1/rerank", "Contact [EMAIL_1]")
    assert (await site.ask("/v1/rerank", {**body, "truncate": 1})).status == 400


async def test_embedding_model_ranks_for_whom_a_rule_lets_rank(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    one = [{"url": engines[0].url}]
    site = await make_site(
        models=[
            {"name": "vectors", "task": "embedding", "replicas": one},
            {"name": "others", "task": "embedding", "replicas": one},
            {"name": "small", "task": "chat", "replicas": one},
        ],
        access=[
            {"group": "llm-users", "models": ["vectors", "small"], "endpoints": ["rerank"]},
            {"group": "llm-users", "models": ["others"], "endpoints": ["embeddings"]},
        ],
    )

    async def script(_: EngineRequest, writer: Any) -> None:
        results = [{"index": 0, "relevance_score": 0.5, "document": {"text": "d"}}]
        await answer(writer, 200, json.dumps({"id": "r", "results": results}).encode())

    engines[0].script = script
    body = {"query": "q", "documents": ["d"]}
    assert (await site.ask("/v1/rerank", {**body, "model": "vectors"})).status == 200
    for model in ("others", "small"):
        assert (await site.ask("/v1/rerank", {**body, "model": model})).status == 404
    assert len(engines[0].requests) == 1


async def test_rerank_does_not_exist_without_a_model_for_it(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(
        models=[{"name": "small", "task": "chat", "replicas": [{"url": engines[0].url}]}],
        access=[
            {"group": "llm-users", "models": ["small"], "endpoints": ["chat.completions"]},
        ],
    )
    assert (await site.ask("/v1/rerank", {"model": "x"})).status == 404
