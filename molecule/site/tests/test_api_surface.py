"""The other interfaces, routes and prefix caches, as users at the company see them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

MODEL = "smollm2-135m-instruct"
Curl = Callable[..., tuple[int, Any]]
Token = Callable[[str], str]
_ENGINE = (
    "curl -sS --max-time 10 --cacert /etc/tresor/pki/ca.crt --cert /etc/tresor/pki/host.crt"
    " --key /etc/tresor/pki/host.key"
)
_HITS = re.compile(r"^vllm:prefix_cache_hits_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_AUDIT = "cat $(ls -1t /var/log/tresor/audit/*-gateway*/*.jsonl | head -n 4)"


def question(text: str = "Say hello.", **extra: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 8,
        **extra,
    }


def test_responses_answer_and_keep_nothing(curl: Curl, token: Token) -> None:
    alice = token("alice")
    body = {"model": MODEL, "input": "Say hello.", "max_output_tokens": 8}
    status, answer = curl("/v1/responses", token=alice, body=body)
    assert status == 200
    assert (answer["object"], answer["store"]) == ("response", False)
    assert answer["output"][0]["content"][0]["text"].strip()
    status, answer = curl("/v1/responses", token=alice, body={**body, "store": True})
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_messages_answer_in_their_shape(curl: Curl, token: Token) -> None:
    alice = token("alice")
    status, answer = curl("/v1/messages", token=alice, body=question())
    assert status == 200
    assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", MODEL)
    assert answer["content"][0]["text"].strip()
    assert answer["usage"]["output_tokens"] >= 1
    status, answer = curl("/v1/messages", token=alice, body=question(thinking={"type": "enabled"}))
    assert (status, answer["type"]) == (400, "error")
    status, answer = curl("/v1/messages", body=question())
    assert (status, answer["error"]["type"]) == (401, "authentication_error")


def test_stream_ends_with_its_mark(curl: Curl, token: Token) -> None:
    status, text = curl(
        "/v1/chat/completions", token=token("alice"), body=question(stream=True, n=2)
    )
    assert status == 200
    assert text.rstrip().endswith("data: [DONE]")
    assert '"index":1' in text


def test_chat_model_does_not_rank(curl: Curl, token: Token) -> None:
    body = {"model": MODEL, "query": "q", "documents": ["d"]}
    status, answer = curl("/v1/rerank", token=token("alice"), body=body)
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


def test_structured_answer_obeys_or_is_refused(curl: Curl, token: Token) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    status, answer = curl(
        "/v1/chat/completions",
        token=token("alice"),
        body={**question("Answer in JSON."), "max_tokens": 40, "response_format": form},
    )
    if status == 200:
        assert '"ok"' in answer["choices"][0]["message"]["content"]
    else:
        assert (status, answer["error"]["code"]) == (502, "output_schema")
    form["json_schema"] = {"name": "a", "schema": {"$ref": "http://example.com/x"}}
    status, _ = curl(
        "/v1/chat/completions", token=token("alice"), body=question(response_format=form)
    )
    assert status == 400


def test_route_is_a_model_to_those_who_may_use_it(
    curl: Curl, token: Token, connect: Callable[[str], Host]
) -> None:
    alice = token("alice")
    _, listing = curl("/v1/models", token=alice)
    assert "auto" in {entry["id"] for entry in listing["data"]}
    status, answer = curl("/v1/chat/completions", token=alice, body={**question(), "model": "auto"})
    assert (status, bool(answer["choices"])) == (200, True)
    status, _ = curl(
        "/v1/chat/completions", token=token("bob"), body={**question(), "model": "auto"}
    )
    assert status in {403, 404}
    # A record is on disk within a commit window; the command takes longer to get there.
    records = connect("gateway1").check_output(_AUDIT)
    assert re.search(r'"model":"smollm2-135m-instruct"[^\n]*"route":"auto"', records)


@pytest.fixture
def cache_hits(connect: Callable[[str], Host]) -> Callable[[], float]:
    """Return a function that counts the tokens both engines found in their prefix caches."""

    def count() -> float:
        total = 0.0
        for name in ("gpu1", "gpu2"):
            url = f"https://{name}.site.example:8100/metrics"
            found = _HITS.findall(connect(name).check_output(f"{_ENGINE} {url}"))
            assert found, name
            total += sum(map(float, found))
        return total

    return count


def test_prefix_is_shared_within_a_tenant_and_never_with_another(
    curl: Curl, token: Token, cache_hits: Callable[[], float]
) -> None:
    # Longer than several blocks of the cache, and of words that nobody else sends.
    text = " ".join(f"velvet lantern {number} orchard" for number in range(160))
    asked = question(f"{text}. Say hello.")
    alice, carol = token("alice"), token("carol")
    before = cache_hits()
    assert curl("/v1/chat/completions", token=alice, body=asked)[0] == 200
    first = cache_hits()
    assert curl("/v1/chat/completions", token=alice, body=asked)[0] == 200
    again = cache_hits()
    assert curl("/v1/chat/completions", token=carol, body=asked)[0] == 200
    other = cache_hits()
    print(
        f"\ncached tokens: {first - before} new, {again - first} again, {other - again} another's"
    )
    assert again - first >= 256
    # Probes and other people's short questions share no block with anybody.
    assert other - again < 128
    assert first - before < 128
