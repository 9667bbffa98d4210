"""What verify makes of the answers of Prometheus and of the journal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from python_plugins.tests.module_call import call
from tresor.monitoring.expected import Target, expected_targets
from tresor.monitoring.judge import (
    judge_alertmanagers,
    judge_journal,
    judge_rules,
    judge_targets,
    judge_watchdog,
)

HOSTS = {
    "gateway1": {"groups": ["gateway"], "instances": []},
    "gpu1": {"groups": ["gpu"], "instances": ["chat-gpu1"]},
    "ops1": {"groups": ["ops"], "instances": []},
    "vector1": {"groups": ["vector"], "instances": []},
}
WATCHDOG = json.dumps({"alert": "Watchdog", "status": "firing"})


def target(job: str, instance: str, health: str = "up", error: str = "") -> dict[str, Any]:
    return {"labels": {"job": job, "instance": instance}, "health": health, "lastError": error}


def data(**found: Any) -> dict[str, Any]:
    return {"status": "success", "data": found}


def test_plan_says_what_must_be_scraped() -> None:
    found = expected_targets(HOSTS, "ops1", "lite")
    everywhere = {Target(job, host) for job in ("node", "host") for host in HOSTS}
    assert set(found) == everywhere | {
        Target("gateway", "gateway1"),
        Target("milvus", "vector1"),
        Target("engine", "chat-gpu1"),
        Target("prometheus", "ops1"),
        Target("alertmanager", "ops1"),
    }
    assert found == sorted(set(found))


def test_the_real_vector_server_is_scraped_beside_its_probe() -> None:
    lite, standalone = (
        set(expected_targets(HOSTS, "ops1", form)) for form in ("lite", "standalone")
    )
    assert standalone - lite == {Target("milvus-server", "vector1")}
    assert lite < standalone


def test_a_target_that_is_down_or_missing_fails_and_says_why() -> None:
    expected = [Target("node", "a"), Target("node", "b"), Target("node", "c")]
    answer = data(activeTargets=[target("node", "a"), target("node", "b", "down", "refused")])
    checks = judge_targets("ops1", expected, answer)
    assert [check.ok for check in checks] == [True, False, False]
    assert checks[1].observed == "down: refused"
    assert "not among" in checks[2].observed
    assert {check.id.split(".")[0] for check in checks} == {"monitoring"}


@pytest.mark.parametrize(
    ("rules", "ok"),
    [
        ([{"name": "a", "health": "ok"}, {"name": "b", "health": "unknown"}], True),
        ([{"name": "a", "health": "err", "lastError": "many-to-many"}], False),
        ([], False),
    ],
    ids=["well", "error", "none"],
)
def test_rules_must_be_there_and_work(rules: list[dict[str, str]], ok: bool) -> None:
    assert judge_rules("ops1", data(groups=[{"rules": rules}])).ok is ok


def test_alertmanager_must_be_connected() -> None:
    assert judge_alertmanagers("ops1", data(activeAlertmanagers=[{"url": "u"}])).ok
    assert not judge_alertmanagers("ops1", data(activeAlertmanagers=[])).ok


@pytest.mark.parametrize(
    ("name", "state", "ok"),
    [("Watchdog", "firing", True), ("Watchdog", "pending", False), ("Other", "firing", False)],
)
def test_watchdog_must_fire(name: str, state: str, ok: bool) -> None:
    alerts = [{"labels": {"alertname": name}, "state": state}]
    assert judge_watchdog("ops1", data(alerts=alerts)).ok is ok


@pytest.mark.parametrize(
    ("lines", "ok"),
    [
        (["no json", WATCHDOG], True),
        ([], False),
        (["[]", WATCHDOG.replace("firing", "resolved")], False),
        ([WATCHDOG.replace("Watchdog", "Other")], False),
    ],
    ids=["arrived", "nothing", "ended", "another"],
)
def test_watchdog_must_arrive_in_the_journal(lines: list[str], ok: bool) -> None:
    assert judge_journal("ops1", lines, "15min").ok is ok


@pytest.mark.parametrize("answer", [None, [], {"data": 1}, {"data": {"groups": [1]}}])
def test_an_answer_in_another_form_fails_and_does_not_break(answer: object) -> None:
    assert not judge_rules("ops1", answer).ok
    assert not judge_watchdog("ops1", answer).ok
    assert not judge_alertmanagers("ops1", answer).ok
    assert not judge_targets("ops1", [Target("node", "a")], answer)[0].ok


def test_module_refuses_a_plan_without_its_host() -> None:
    done = call("tresor_monitoring_check", host="ops1", hosts={"gpu1": {}}, vector_form="lite")
    assert done["failed"]
    assert "do not describe ops1" in done["msg"]


def test_module_names_certificates_that_it_cannot_use() -> None:
    own = {"fqdn": "ops1.example", "ipv4": "192.0.2.1", "groups": ["ops"], "instances": []}
    done = call(
        "tresor_monitoring_check",
        host="ops1",
        hosts={"ops1": own},
        vector_form="lite",
        ca_file="/nonexistent",
    )
    assert done["failed"]
    assert "/nonexistent" in done["msg"]
    assert "converge the host" in done["msg"]
