"""Monitoring as the bastion sees it: Prometheus and Alertmanager over mutual TLS, by curl."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

REPOSITORY = Path(__file__).resolve().parents[3]
DASHBOARDS = sorted((REPOSITORY / "roles/grafana/files/dashboards").glob("*.json"))
# The lab has no GPUs: python_plugins/tests/monitoring answers these from DCGM's names.
NOT_HERE = {"gpu"}
# Only a model with a canary has these figures; the gateway's own tests look at them.
CANARIES = "tresor_gateway_variant_"
PROMETHEUS = "https://ops1.site.example:9090"
ALERTMANAGER = "https://ops1.site.example:9093"
PANEL_SECONDS = 200
_TRAFFIC = """
end=$(( $(date +%s) + {seconds} ))
call() {{
  curl -sS -m 60 -o /dev/null --cacert /run/traffic-ca.crt -H 'Authorization: Bearer {token}' \\
    -H 'Content-Type: application/json' -d "$2" "https://llm.site.example$1"
}}
hello='"messages":[{{"role":"user","content":"Hello"}}]'
while [ "$(date +%s)" -lt "$end" ]; do
  call /v1/chat/completions '{{"model":"small","max_tokens":16,"stream":true,'"$hello"'}}'
  call /v1/chat/completions '{{"model":"small","max_tokens":4,'"$hello"'}}'
  call /v1/embeddings '{{"model":"embedding","input":"Hello"}}'
  call /v1/chat/completions '{{"model":"none"}}'
  sleep 1
done
"""
_CURL = "curl -sS -m 20 --cacert /etc/tresor/pki/ca.crt"
_CERTIFICATE = "--cert /etc/tresor/pki/host.crt --key /etc/tresor/pki/host.key"

Ask = Callable[[str], Any]


@pytest.fixture(scope="module")
def ask(connect: Callable[[str], Host]) -> Ask:
    """Return a function that gives the data Prometheus answers to a path of its API."""
    bastion = connect("bastion")

    def by_path(path: str) -> Any:
        text = bastion.check_output(f"{_CURL} {_CERTIFICATE} {shlex.quote(PROMETHEUS + path)}")
        answer = json.loads(text)
        assert answer["status"] == "success", text
        return answer["data"]

    return by_path


@pytest.fixture(scope="module")
def query(connect: Callable[[str], Host]) -> Ask:
    """Return a function that gives the result of an expression."""
    bastion = connect("bastion")

    def by_expression(expression: str) -> Any:
        given = shlex.quote(f"query={expression}")
        url = f"{PROMETHEUS}/api/v1/query"
        text = bastion.check_output(f"{_CURL} {_CERTIFICATE} --data-urlencode {given} {url}")
        answer = json.loads(text)
        assert answer["status"] == "success", text
        return answer["data"]["result"]

    return by_expression


def within(seconds: float, look: Callable[[], Any]) -> Any:
    """Return the first answer of ``look`` that is not empty, the last one at the end."""
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(3)
    return found


def panels() -> dict[str, str]:
    """Return the expressions of all dashboards by dashboard, panel and letter."""
    found = {
        f"{path.stem}-{panel['title']}-{target['refId']}": target["expr"]
        for path in DASHBOARDS
        if path.stem not in NOT_HERE
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", [])
        if CANARIES not in target["expr"]
    }
    assert len(found) > 40
    return found


def test_every_target_is_up(ask: Ask) -> None:
    def down() -> list[str]:
        targets = ask("/api/v1/targets?state=active")["activeTargets"]
        assert targets
        return [f"{t['scrapeUrl']}: {t['lastError']}" for t in targets if t["health"] != "up"]

    end = time.monotonic() + 60
    while (found := down()) and time.monotonic() < end:
        time.sleep(3)
    assert found == []


def test_every_rule_is_evaluated(ask: Ask) -> None:
    rules = [rule for group in ask("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 60
    assert [rule["name"] for rule in rules if rule["health"] not in {"ok", "unknown"}] == []


@pytest.fixture(scope="module")
def traffic(connect: Callable[[str], Host], token: Callable[[str], str]) -> Iterator[None]:
    """Let a user call the API for some minutes: streams, answers, embeddings and a refusal."""
    company = connect("company1")
    script = _TRAFFIC.format(token=token("alice"), seconds=PANEL_SECONDS)
    # The CA that the site shows to its users, as the operator hands it out.
    ca = connect("bastion").check_output("cat /etc/tresor/pki/ca.crt")
    for path, content in (("/run/traffic.sh", script), ("/run/traffic-ca.crt", ca)):
        company.check_output("printf %%s %s > %s", content, path)
    company.check_output("systemd-run --quiet --unit=lab-traffic sh /run/traffic.sh")
    yield
    company.check_output("systemctl stop lab-traffic.service; rm -f /run/traffic.sh")


def test_every_panel_shows_data(query: Ask, traffic: None) -> None:
    # Rates need two scrapes; the slowest records are computed every two minutes.
    empty = panels()
    end = time.monotonic() + PANEL_SECONDS
    while empty and time.monotonic() < end:
        time.sleep(5)
        empty = {name: expression for name, expression in empty.items() if not query(expression)}
    assert not empty, f"no data: {empty}"
    assert query("tresor_no_such_metric") == [], "an expression without data must be seen as such"


@pytest.mark.parametrize("url", [f"{PROMETHEUS}/metrics", f"{ALERTMANAGER}/metrics"])
def test_nobody_is_answered_without_a_certificate(connect: Callable[[str], Host], url: str) -> None:
    bastion = connect("bastion")
    quiet = f"{_CURL} -o /dev/null -w '%{{http_code}}'"
    assert bastion.check_output(f"{quiet} {_CERTIFICATE} {url}") == "200"
    refused = bastion.run(f"{quiet} {url}")
    assert refused.rc != 0
    assert refused.stdout == "000"


def test_no_other_host_reaches_prometheus(connect: Callable[[str], Host]) -> None:
    other = connect("vector1").run(f"{_CURL} -m 3 {_CERTIFICATE} {PROMETHEUS}/metrics")
    assert other.rc != 0
    assert other.stdout == ""


@pytest.mark.parametrize("path", ["/-/reload", "/-/quit"])
def test_nobody_stops_or_reloads_prometheus_by_http(
    connect: Callable[[str], Host], path: str
) -> None:
    status = connect("bastion").check_output(
        f"{_CURL} -o /dev/null -w '%{{http_code}}' -X POST {_CERTIFICATE} {PROMETHEUS}{path}"
    )
    assert status in {"403", "405"}


def test_watchdog_arrives_in_the_journal(connect: Callable[[str], Host]) -> None:
    ops = connect("ops1")
    lines = within(
        60, lambda: ops.check_output("journalctl -q -o cat -t tresor-alert --since -15min")
    )
    alerts = [json.loads(line) for line in lines.splitlines()]
    assert "Watchdog" in {alert["alert"] for alert in alerts if alert["status"] == "firing"}


def test_an_alert_fires_when_a_service_is_gone_and_ends_when_it_is_back(
    connect: Callable[[str], Host],
) -> None:
    vector, ops = connect("vector1"), connect("ops1")
    # The journal reads local times; what it is given says so.
    since = ops.check_output("date '+%Y-%m-%d %H:%M:%S'")

    def told(status: str) -> bool:
        lines = ops.check_output(f"journalctl -q -o cat -t tresor-alert --since '{since}'")
        return any(
            (a["alert"], a["labels"].get("host"), a["status"])
            == ("InstanceDown", "vector1", status)
            for a in map(json.loads, lines.splitlines())
        )

    try:
        vector.check_output("systemctl stop tresor-metrics.service")
        assert within(240, lambda: told("firing")), "the alert did not arrive"
    finally:
        vector.check_output("systemctl start tresor-metrics.service")
    assert within(240, lambda: told("resolved")), "the end of the alert did not arrive"


@pytest.mark.parametrize("unit", ["tresor-prometheus", "tresor-alertmanager", "tresor-alert-log"])
def test_unit_comes_back_after_it_was_killed(connect: Callable[[str], Host], unit: str) -> None:
    ops = connect("ops1")
    show = f"systemctl show -P MainPID {unit}.service"
    before = ops.check_output(show)
    ops.check_output(f"systemctl kill -s KILL {unit}.service")
    after = within(
        30,
        lambda: pid if (pid := ops.check_output(show)) not in {before, "0"} else "",
    )
    assert after
    assert within(30, lambda: ops.service(unit).is_running)


@pytest.mark.parametrize("unit", ["prometheus", "prometheus-alertmanager"])
def test_units_of_the_distribution_stay_masked(connect: Callable[[str], Host], unit: str) -> None:
    service = connect("ops1").service(unit)
    assert service.is_masked
    assert not service.is_running


@pytest.mark.parametrize("unit", ["tresor-prometheus", "tresor-alertmanager", "tresor-alert-log"])
def test_sandbox_is_tight(connect: Callable[[str], Host], unit: str) -> None:
    # --threshold is in tenths; above it the command fails.
    done = connect("ops1").run(f"systemd-analyze security --threshold=20 {unit}.service")
    assert done.rc == 0, done.stdout[-300:]
