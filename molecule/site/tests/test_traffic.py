"""The report of what went to which model, out of the audit log of the running site."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

MODEL = "smollm2-135m-instruct"
ASKED = 3
Tresor = Callable[[str], tuple[int, str]]
_REPORTS = "/var/lib/tresor/traffic"


@pytest.fixture
def bastion(connect: Callable[[str], Host]) -> Host:
    return connect("bastion")


def newest(bastion: Host) -> str:
    return str(bastion.check_output(f"ls -d {_REPORTS}/* 2>/dev/null | sort | tail -n 1"))


def report(bastion: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bastion.check_output(f"cat {newest(bastion)}/report.json"))
    return found


def test_requests_of_the_last_minutes_are_all_counted(
    bastion: Host,
    connect: Callable[[str], Host],
    curl: Callable[..., tuple[int, Any]],
    token: Callable[[str], str],
    tresor: Tresor,
) -> None:
    gateway = connect("gateway1")
    began = gateway.check_output("date -u +%FT%TZ")
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    used = [
        curl("/v1/chat/completions", token=token("alice"), body=body)[1]["usage"]
        for _ in range(ASKED)
    ]
    status, text = tresor("run operate/traffic.yml -- -e traffic_days=0.1")
    assert status == 0, text
    found = report(bastion)
    [row] = [one for one in found["asked"] if one["asked"] == MODEL]
    # Counted again with another tool, over the same records.
    count = gateway.check_output(
        "cat /var/log/tresor/audit/*/*.jsonl | grep -F '\"engine\":' | grep -cF "
        f'\'"model":"{MODEL}"\''
    )
    assert ASKED <= row["requests"] <= int(count), f"asked since {began}"
    assert row["prompt_tokens"] >= sum(one["prompt_tokens"] for one in used)
    assert row["completion_tokens"] >= sum(one["completion_tokens"] for one in used)
    assert row["known"]
    assert (found["problems"], found["unreadable"]) == ([], 0)
    assert bastion.file(newest(bastion)).mode == 0o700
    leaks = bastion.run(f"grep -rlE 'alice|subject|[0-9a-f]{{32}}' {newest(bastion)}")
    assert leaks.stdout == "", "nothing about people leaves a gateway"


def test_period_without_traffic_is_told_and_not_guessed(bastion: Host, tresor: Tresor) -> None:
    options = "-e traffic_days=1 -e traffic_until=2020-01-01T00:00:00Z"
    assert tresor(f"run operate/traffic.yml -- {options}")[0] == 0
    assert (report(bastion)["requests"], report(bastion)["asked"]) == (0, [])
    page = bastion.check_output(f"cat {newest(bastion)}/page.md")
    assert "No request reached an engine in this period" in page


def test_wrong_period_is_refused_before_a_gateway_is_asked(bastion: Host, tresor: Tresor) -> None:
    before = newest(bastion)
    status, text = tresor("run operate/traffic.yml -- -e traffic_until=yesterday")
    assert status != 0
    assert "write a time with its zone" in text
    assert newest(bastion) == before
