"""Everything that must not pass, and that each refusal leaves a record."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from services.policy_gateway.tests.support import CHAT_PATH, QUESTION, Engine, Site

pytestmark = pytest.mark.asyncio


async def check(
    site: Site, engines: list[Engine], token: str | None, status: int, reason: str
) -> None:
    """A chat request with ``token`` is refused, recorded, and no engine hears of it."""
    response = await site.ask(body=QUESTION, token=token)
    assert response.status == status
    assert response.error["message"]
    await site.stop()
    [record] = site.decisions()
    assert (record["status"], record["reason"], record["decision"]) == (status, reason, "deny")
    assert record["request_id"] == response.headers["x-request-id"]
    assert not any(engine.requests for engine in engines)


async def test_no_token_is_refused_with_a_challenge(site: Site, engines: list[Engine]) -> None:
    await check(site, engines, None, 401, "token_missing")


async def test_challenge_names_the_scheme(site: Site) -> None:
    response = await site.ask(body=QUESTION, token=None)
    assert response.headers["www-authenticate"] == 'Bearer realm="tresor"'
    assert response.error["type"] == "authentication_error"


async def test_expired_token_is_refused(site: Site, engines: list[Engine]) -> None:
    token = site.issuer.token(exp=int(time.time()) - 31)
    await check(site, engines, token, 401, "token_expired")


async def test_token_without_expiry_is_refused(site: Site, engines: list[Engine]) -> None:
    await check(site, engines, site.issuer.token(exp=None), 401, "token_expired")


async def test_token_from_the_future_is_refused(site: Site, engines: list[Engine]) -> None:
    token = site.issuer.token(nbf=int(time.time()) + 60)
    await check(site, engines, token, 401, "token_not_yet_valid")


async def test_skew_is_allowed(site: Site) -> None:
    token = site.issuer.token(exp=int(time.time()) - 5)
    assert (await site.ask(body=QUESTION, token=token)).status == 200


@pytest.mark.parametrize("audience", ["urn:other:api", ["urn:other:api"], None, 7])
async def test_wrong_audience_is_refused(site: Site, engines: list[Engine], audience: Any) -> None:
    await check(site, engines, site.issuer.token(aud=audience), 401, "token_audience")


async def test_one_audience_of_several_is_enough(site: Site) -> None:
    token = site.issuer.token(aud=["urn:other:api", "urn:example:gateway"])
    assert (await site.ask(body=QUESTION, token=token)).status == 200


async def test_wrong_issuer_is_refused(site: Site, engines: list[Engine]) -> None:
    token = site.issuer.token(iss="https://idp.example.org")
    await check(site, engines, token, 401, "token_issuer")


async def test_id_token_type_is_refused(site: Site, engines: list[Engine]) -> None:
    token = site.issuer.token(header={"typ": "logout+jwt"})
    await check(site, engines, token, 401, "token_type")


async def test_forged_signature_is_refused(site: Site, engines: list[Engine]) -> None:
    token = site.issuer.token(key=site.issuer.other)
    await check(site, engines, token, 401, "token_signature")


async def test_changed_payload_is_refused(site: Site, engines: list[Engine]) -> None:
    head, _, signature = site.issuer.token().split(".")
    claims = json.dumps(site.issuer.claims(groups=["llm-users", "admins"])).encode()
    payload = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    await check(site, engines, f"{head}.{payload}.{signature}", 401, "token_signature")


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256"])
async def test_unlisted_algorithm_is_refused(
    site: Site, engines: list[Engine], algorithm: str
) -> None:
    head = base64.urlsafe_b64encode(
        json.dumps({"alg": algorithm, "typ": "at+jwt", "kid": "k1"}).encode()
    ).rstrip(b"=")
    payload = site.issuer.token().split(".")[1]
    await check(site, engines, f"{head.decode()}.{payload}.", 401, "token_algorithm")


@pytest.mark.parametrize("token", ["x", "a.b.c", "....", "a" * 20_000, "e30.e30.e30"])
async def test_garbage_token_is_refused(site: Site, engines: list[Engine], token: str) -> None:
    await check(site, engines, token, 401, "token_malformed")


async def test_unknown_key_is_refused(site: Site, engines: list[Engine]) -> None:
    token = site.issuer.token(key=site.issuer.next)
    await check(site, engines, token, 401, "token_key_unknown")


async def test_wrong_group_may_not_use_the_endpoint(site: Site, engines: list[Engine]) -> None:
    token = site.issuer.token(groups=["guests"])
    await check(site, engines, token, 403, "endpoint_forbidden")


@pytest.mark.parametrize("groups", [None, "guests", 5, [["llm-users"]], {"llm-users": 1}])
async def test_default_is_deny(site: Site, engines: list[Engine], groups: Any) -> None:
    await check(site, engines, site.issuer.token(groups=groups), 403, "endpoint_forbidden")


async def test_forbidden_and_unknown_model_look_the_same(site: Site) -> None:
    forbidden = await site.ask(body={**QUESTION, "model": "big"})
    unknown = await site.ask(body={**QUESTION, "model": "none"})
    assert forbidden.status == unknown.status == 404
    assert forbidden.error["code"] == unknown.error["code"] == "model_not_found"
    assert forbidden.error["message"].replace("big", "none") == unknown.error["message"]
    await site.stop()
    assert [record["reason"] for record in site.decisions()] == ["model_not_found"] * 2


async def test_model_of_another_task_is_not_there(site: Site) -> None:
    token = site.issuer.token(groups=["llm-users", "llm-embedding"])
    response = await site.ask(body={**QUESTION, "model": "minilm"}, token=token)
    assert response.status == 404


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/health"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1/chat/completions?x=1"),
        ("POST", "/v1/%63hat/completions"),
        ("POST", "/v1/chat/completions/../completions"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/models"),
        ("POST", "/v1/audio/speech"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/tokenize"),
        ("POST", "/invocations"),
        ("OPTIONS", "/v1/models"),
        ("DELETE", "/v1/models"),
        ("GET", "/internal/authorize"),
    ],
)
async def test_unlisted_path_does_not_exist(
    site: Site, engines: list[Engine], method: str, target: str
) -> None:
    body = QUESTION if method == "POST" else None
    response = await site.ask(target, body=body, method=method)
    assert response.status == 404
    assert response.error["code"] == "unknown_url"
    assert not any(engine.requests for engine in engines)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"chat_template": "x"}, "chat_template"),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs"),
        ({"cache_salt": "mine"}, "cache_salt"),
        ({"prompt_embeds": "x"}, "prompt_embeds"),
        ({"made_up": 1}, "made_up"),
        ({"n": 5}, "n"),
        ({"n": 16384}, "n"),
        ({"n": "2"}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"store": True}, "store"),
        ({"stream_options": {"continuous_usage_stats": True}, "stream": True}, None),
        ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            None,
        ),
    ],
)
async def test_parameter_outside_the_list_is_refused_by_name(
    site: Site, engines: list[Engine], change: dict[str, Any], param: str | None
) -> None:
    response = await site.ask(body={**QUESTION, **change})
    assert response.status == 400
    if param is not None:
        assert response.error["param"] == param
    assert not any(engine.requests for engine in engines)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"model":"small","messages":[{"role":"user","content":"\xff\xfe"}]}',
        b'{"model":"small","messages":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"model":"small"}',
    ],
)
async def test_malformed_body_is_refused(site: Site, engines: list[Engine], body: bytes) -> None:
    response = await site.ask(body=body)
    assert response.status == 400
    assert response.error["type"] == "invalid_request_error"
    assert not any(engine.requests for engine in engines)


async def test_body_with_another_content_type_is_refused(site: Site) -> None:
    client = await site.client()
    client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    assert (await client.response()).status == 400


async def test_oversize_body_is_refused_before_it_is_read(site: Site) -> None:
    client = await site.client()
    token = site.issuer.token()
    client.send(
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 65537\r\n\r\n".encode()
    )
    response = await client.response()
    assert response.status == 413
    assert response.error["code"] == "request_too_large"
    await site.stop()
    assert [record["reason"] for record in site.decisions()] == ["body_too_large"]


async def test_oversize_chunked_body_is_refused(site: Site) -> None:
    client = await site.client()
    client.send(
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {site.issuer.token()}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    client.send(b"20000\r\n" + b"x" * 0x20000)
    assert (await client.response()).status == 413
    assert await client.at_end()
