"""What reaches the client and the engine when a request is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import (
    QUESTION,
    Engine,
    EngineRequest,
    Issuer,
    Site,
    answer,
    completion,
    vectors,
)

pytestmark = pytest.mark.asyncio


async def test_chat_answer_comes_back_unchanged(site: Site, engines: list[Engine]) -> None:
    response = await site.ask(body=QUESTION)
    assert response.status == 200
    assert response.json == completion()
    [request] = engines[0].requests + engines[1].requests
    assert request.target == "/v1/chat/completions"
    assert request.headers["x-request-id"] == response.headers["x-request-id"]
    assert "authorization" not in request.headers


async def test_completions_answer(site: Site) -> None:
    response = await site.ask("/v1/completions", {"model": "smollm", "prompt": "Lima is"})
    assert response.status == 200


async def test_engine_gets_its_own_model_name_and_a_cache_salt(
    site: Site, engines: list[Engine]
) -> None:
    await site.ask(body={**QUESTION, "temperature": 0, "user": "alice@example.com", "seed": 3})
    [request] = engines[0].requests + engines[1].requests
    assert request.body["model"] == "served"
    assert request.body["seed"] == 3
    assert len(request.body["cache_salt"]) == 43
    assert "user" not in request.body
    assert request.body["messages"] == QUESTION["messages"]


async def test_cache_salt_separates_tenants_and_is_stable(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site(identity={"tenant_claim": "tid"})
    for claims in (
        {"sub": "alice", "tid": "a"},
        {"sub": "bob", "tid": "a"},
        {"sub": "alice", "tid": "b"},
        {"sub": "alice"},
        {"sub": "a"},
    ):
        token = site.issuer.token(**claims)
        assert (await site.ask(body=QUESTION, token=token)).status == 200
    salts = {}
    for engine in engines:
        for request in engine.requests:
            salts[request.headers["x-request-id"]] = request.body["cache_salt"]
    await site.stop()
    ordered = [salts[record["request_id"]] for record in site.decisions()]
    assert ordered[0] == ordered[1]
    assert len(set(ordered)) == 4


@pytest.mark.parametrize(
    ("wish", "limit", "asked"),
    [
        ({"max_tokens": 16}, 4096, 16),
        ({"max_completion_tokens": 16}, 4096, 16),
        ({"max_completion_tokens": 9, "max_tokens": 16}, 4096, 9),
        ({"max_tokens": 9999}, 512, 512),
        ({}, 512, 512),
        # The model's context of 2048 tokens is the tighter bound.
        ({}, 4096, None),
    ],
)
async def test_output_tokens_are_capped(
    make_site: MakeSite,
    engines: list[Engine],
    wish: dict[str, int],
    limit: int,
    asked: int | None,
) -> None:
    site = await make_site(limits={"max_output_tokens": limit})
    await site.ask(body={**QUESTION, **wish})
    [request] = engines[0].requests + engines[1].requests
    assert request.body.get("max_tokens") == asked
    assert "max_completion_tokens" not in request.body


async def test_models_lists_only_what_the_user_may_use(site: Site) -> None:
    response = await site.ask("/v1/models")
    assert response.json["object"] == "list"
    assert [model["id"] for model in response.json["data"]] == ["smollm"]
    assert response.json["data"][0]["object"] == "model"


async def test_models_is_refused_without_a_grant(site: Site) -> None:
    response = await site.ask("/v1/models", token=site.issuer.token(groups=["guests"]))
    assert response.status == 403


async def test_embeddings_for_those_who_may(
    site: Site, engines: list[Engine], issuer: Issuer
) -> None:
    body = {"model": "minilm", "input": ["a", "b"], "encoding_format": "base64"}
    token = issuer.token(groups=["llm-embedding"])
    response = await site.ask("/v1/embeddings", body, token=token)
    assert response.json == vectors(engines[0].requests[0])
    assert (await site.ask("/v1/embeddings", body)).status == 403
    assert engines[0].requests[0].body["model"] == "minilm"


async def test_embeddings_do_not_exist_without_such_a_model(make_site: MakeSite) -> None:
    site = await make_site(
        models=[{"name": "m", "task": "chat", "replicas": [{"url": "http://127.0.0.1:9"}]}],
        access=[{"group": "llm-users", "models": ["m"], "endpoints": ["models"]}],
    )
    response = await site.ask("/v1/embeddings", {"model": "m", "input": "x"})
    assert response.error["code"] == "unknown_url"


async def test_tools_and_schema_pass(site: Site, engines: list[Engine]) -> None:
    extra: dict[str, Any] = {
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {"type": "object"}},
        },
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "42"},
        ],
    }
    assert (await site.ask(body={**QUESTION, **extra})).status == 200
    [request] = engines[0].requests + engines[1].requests
    for name, value in extra.items():
        assert request.body[name] == value


@pytest.mark.parametrize(
    ("status", "seen", "code"),
    [
        (400, 400, "engine_refused"),
        (422, 400, "engine_refused"),
        (401, 502, "upstream_error"),
        (404, 502, "upstream_error"),
        (500, 502, "upstream_error"),
        (503, 503, "upstream_busy"),
    ],
)
async def test_engine_errors_have_openai_shape(
    site: Site, engines: list[Engine], status: int, seen: int, code: str
) -> None:
    async def script(request: EngineRequest, writer: Any) -> None:
        body = {"error": {"message": "too long", "type": "BadRequestError", "code": status}}
        await answer(writer, status, json.dumps(body).encode())

    for engine in engines:
        engine.script = script
    response = await site.ask(body=QUESTION)
    assert response.status == seen
    assert response.error["code"] == code
    assert ("too long" in response.error["message"]) == (seen == 400)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Type: application/json\r\n\r\n{{{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 2\r\n\r\n{}{}",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
)
async def test_upstream_garbage_is_a_502(site: Site, engines: list[Engine], data: bytes) -> None:
    async def script(request: EngineRequest, writer: Any) -> None:
        writer.write(data)
        await writer.drain()

    for engine in engines:
        engine.script = script
    response = await site.ask(body=QUESTION)
    assert response.status == 502
    assert response.error["code"] == "upstream_error"


async def test_stand_alone_gateway_makes_its_own_request_id(site: Site) -> None:
    response = await site.ask("/v1/models", headers={"X-Request-Id": "chosen-by-client"})
    assert response.headers["x-request-id"] != "chosen-by-client"
