"""Limits of a person, counted by two workers and seen through NGINX."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

MODEL = "smollm2-135m-instruct"
URL = "https://llm.site.example/v1/chat/completions"
PER_MINUTE = 5
Token = Callable[[str], str]
_UNIT = "tresor-gateway.service"


def body(**extra: Any) -> str:
    messages = [{"role": "user", "content": "Say hello."}]
    return json.dumps({"model": MODEL, "messages": messages, "max_tokens": 4, **extra})


@pytest.fixture
def company(curl: object, connect: Callable[[str], Host]) -> Host:
    """Return the users' machine; ``curl`` has put the site's CA there."""
    return connect("company1")


def at_a_minutes_beginning(host: Host, needed: int) -> None:
    """Wait until at least ``needed`` seconds of the host's calendar minute are left."""
    second = int(host.check_output("date +%S"))
    if second > 60 - needed:
        time.sleep(61 - second)


def asked(company: Host, bearer: str, count: int, data: str) -> list[tuple[int, int]]:
    """Status and Retry-After of requests that are sent at the same time."""
    call = (
        f"curl -sS --max-time 90 --cacert /tmp/site-ca.crt -o /dev/null -H 'Authorization: Bearer"
        f" {bearer}' -H 'Content-Type: application/json' -d '{data}'"
        f" -w '%{{http_code}} %header{{retry-after}}\\n' {URL}"
    )
    lines = company.check_output(f"for n in $(seq {count}); do ({call}) & done; wait").splitlines()
    found = [[int(part) for part in line.split()] for line in lines]
    return sorted((status, rest[0] if rest else 0) for status, *rest in found)


def test_requests_of_a_minute_are_counted_exactly_by_two_workers(
    company: Host, connect: Callable[[str], Host], token: Token
) -> None:
    gateway = connect("gateway1")
    assert int(gateway.check_output("wc -l < /run/tresor/gateway/workers.pid")) >= 2
    bearer = token("dave")
    at_a_minutes_beginning(gateway, 40)
    found = asked(company, bearer, 3 * PER_MINUTE, body())
    assert [status for status, _ in found] == [200] * PER_MINUTE + [429] * (2 * PER_MINUTE)
    assert all(1 <= wait <= 60 for status, wait in found if status == 429)
    # Somebody else has a count of their own.
    assert asked(company, token("alice"), 1, body()) == [(200, 0)]


def test_prompt_beyond_the_groups_context_is_refused(company: Host, token: Token) -> None:
    at_a_minutes_beginning(company, 20)
    long = [{"role": "user", "content": "word " * 1600}]
    found = asked(company, token("carol"), 1, body(messages=long))
    assert found == [(400, 0)]


def test_reload_of_the_rules_cuts_no_stream(
    company: Host, connect: Callable[[str], Host], token: Token
) -> None:
    gateway = connect("gateway1")
    data = body(stream=True, max_tokens=600)
    company.check_output(f"printf %s '{data}' > /tmp/stream.json")
    company.check_output(
        "nohup curl -sSN --max-time 120 --cacert /tmp/site-ca.crt -H 'Content-Type:"
        f" application/json' -H 'Authorization: Bearer {token('alice')}' -d @/tmp/stream.json"
        f" {URL} > /tmp/stream.out 2>&1 & echo started"
    )
    for _ in range(100):
        if company.run("grep -q 'data:' /tmp/stream.out").rc == 0:
            break
        time.sleep(0.1)
    main = gateway.check_output(f"systemctl show -P MainPID {_UNIT}")
    gateway.run_expect([0], f"systemctl reload {_UNIT}")
    for _ in range(600):
        if company.run("grep -q 'DONE\\|error' /tmp/stream.out").rc == 0:
            break
        time.sleep(0.2)
    text = company.check_output("cat /tmp/stream.out; rm -f /tmp/stream.out")
    assert text.rstrip().endswith("data: [DONE]")
    assert '"error"' not in text
    assert gateway.check_output(f"systemctl show -P MainPID {_UNIT}") == main
    assert asked(company, token("alice"), 1, body()) == [(200, 0)]


def test_operator_sees_who_may_use_what_and_why(
    tresor: Callable[[str], tuple[int, str]],
) -> None:
    status, text = tresor("access --json report")
    assert status == 0
    report = {entry.get("group"): entry for entry in json.loads(text)}
    assert report["llm-trial"]["limits"]["requests_per_minute"] == PER_MINUTE
    assert [use["model"] for use in report["llm-trial"]["uses"]] == [MODEL]
    status, text = tresor(f"access explain --group llm-trial --model {MODEL}")
    assert (status, "llm-trial" in text) == (0, True)
    status, _ = tresor(f"access explain --group guests --model {MODEL}")
    assert status != 0
