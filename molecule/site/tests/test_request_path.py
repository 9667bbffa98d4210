"""The request path as a user at the company sees it: plain curl against the public name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

MODEL = "smollm2-135m-instruct"


def chat(**extra: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say hello."}]
    return {"model": MODEL, "messages": messages, "max_tokens": 8, **extra}


def test_chat_and_completions_answer(
    curl: Callable[..., tuple[int, Any]], token: Callable[[str], str]
) -> None:
    alice = token("alice")
    status, answer = curl("/v1/chat/completions", token=alice, body=chat())
    assert status == 200
    assert answer["choices"][0]["message"]["content"].strip()
    body = {"model": MODEL, "prompt": "The capital of France is", "max_tokens": 8}
    status, answer = curl("/v1/completions", token=alice, body=body)
    assert status == 200
    assert answer["choices"][0]["text"].strip()


def test_models_show_only_what_the_user_may_use(
    curl: Callable[..., tuple[int, Any]], token: Callable[[str], str]
) -> None:
    status, listing = curl("/v1/models", token=token("alice"))
    assert status == 200
    assert MODEL in {entry["id"] for entry in listing["data"]}
    status, listing = curl("/v1/models", token=token("bob"))
    assert status in {200, 403}
    assert not listing.get("data")


def test_no_token_is_refused_in_the_openai_shape(curl: Callable[..., tuple[int, Any]]) -> None:
    status, answer = curl("/v1/chat/completions", body=chat())
    assert status == 401
    assert set(answer["error"]) >= {"message", "type", "param", "code"}


def test_user_without_the_model_is_refused(
    curl: Callable[..., tuple[int, Any]], token: Callable[[str], str]
) -> None:
    status, _ = curl("/v1/chat/completions", token=token("bob"), body=chat())
    assert status in {403, 404}


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/tokenize",
        "/invocations",
        "/pooling",
        "/version",
        "/docs",
        "/internal/authorize",
    ],
)
def test_side_routes_do_not_exist(
    path: str, curl: Callable[..., tuple[int, Any]], token: Callable[[str], str]
) -> None:
    status, _ = curl(path, token=token("alice"), body={})
    assert status in {403, 404}


# With the certificate it answers, without it the same call does not: so neither a name that does
# not resolve nor a service that is down passes for a refusal.
_MUTUAL = "--cert /etc/tresor/pki/host.crt --key /etc/tresor/pki/host.key"
_CALL = "curl -sS --max-time 10 -w '%{http_code}' -o /dev/null --cacert /etc/tresor/pki/ca.crt"


def test_engine_answers_only_with_a_client_certificate(connect: Callable[[str], Host]) -> None:
    engine = connect("gpu1")
    url = "https://gpu1.site.example:8100/v1/models"
    assert engine.check_output(f"{_CALL} {_MUTUAL} {url}") == "200"
    refused = engine.run(f"{_CALL} {url}")
    assert refused.rc != 0
    assert refused.stdout == "000"


def test_store_answers_only_with_a_client_certificate(connect: Callable[[str], Host]) -> None:
    host = connect("gpu1")
    url = "https://bastion1.site.example:8443/apt/debian-12/dists/site/InRelease"
    assert host.check_output(f"{_CALL} {_MUTUAL} {url}") == "200"
    refused = host.run(f"{_CALL} {url}")
    assert refused.rc != 0 or refused.stdout == "400"
