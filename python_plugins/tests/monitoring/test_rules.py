"""Every rule of the role prometheus, evaluated by promtool: it fires, and it does not fire."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.tests.monitoring.conftest import GIVEN, ROLE, ROOT, STATIC_RULES, render
from python_plugins.tests.monitoring.rule_cases import (
    ALERTS,
    ALWAYS_FIRING,
    RECORDS,
    AlertCase,
    RecordCase,
    Series,
)

RUNBOOKS = ROOT / "docs" / "runbooks" / "alerts"
SECTIONS = ["## What it means", "## How to look", "## What to do", "## How to silence"]
# Inputs first: a rule then sees what others computed at the same moment.
_RECORDING_GROUPS = [
    "tresor-targets",
    "tresor-availability",
    "tresor-availability-slow",
    "tresor-latency",
    "tresor-load",
    "tresor-engines",
    "tresor-gpus",
    "tresor-window",
]
_LABEL = re.compile(r"\$labels\.(\w+)")
_RECORD = re.compile(r"\btresor:[a-z0-9_:]+")


@functools.lru_cache(maxsize=64)
def groups_of(path: Path) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return groups


def every_group(rules: Path) -> list[dict[str, Any]]:
    return [group for path in sorted(rules.glob("*.yml")) for group in groups_of(path)]


def rules_of(*files: Path) -> Iterator[dict[str, Any]]:
    for path in files:
        for group in groups_of(path):
            yield from group["rules"]


ALERT_RULES = {rule["alert"]: rule for rule in rules_of(*STATIC_RULES) if "alert" in rule}
every_alert = pytest.mark.parametrize("name", sorted(ALERT_RULES))


def labels_text(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"


def needed_by(name: str, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups with only the rules that ``name`` needs, itself included.

    Most of promtool's time would go into rules that a case does not look at.
    """
    expressions = {
        rule.get("alert") or rule["record"]: rule["expr"]
        for group in groups
        for rule in group["rules"]
    }
    needed, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current not in needed:
            needed.add(current)
            waiting += [n for n in _RECORD.findall(expressions[current]) if n in expressions]
    cut = [
        {**g, "rules": [r for r in g["rules"] if (r.get("alert") or r["record"]) in needed]}
        for g in groups
    ]
    return [group for group in cut if group["rules"]]


@dataclasses.dataclass(frozen=True)
class Promtool:
    """promtool over the rules of one folder; its files go to another."""

    program: Path
    rules: Path
    folder: Path

    def run(self, name: str, tests: list[dict[str, Any]], step: str) -> None:
        """Evaluate the rule ``name``, and what it builds on, over the series of each test."""
        groups = needed_by(name, every_group(self.rules))
        names = [group["name"] for group in groups]
        (self.folder / "rules.yml").write_text(json.dumps({"groups": groups}))
        content = {
            "rule_files": ["rules.yml"],
            "evaluation_interval": step,
            "group_eval_order": sorted(names, key=order),
            "tests": tests,
        }
        path = self.folder / "test.yml"
        path.write_text(json.dumps(content))
        done = subprocess.run(
            [self.program, "test", "rules", path],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def evaluator(promtool: Path, rules: Path, tmp_path: Path) -> Promtool:
    return Promtool(promtool, rules, tmp_path)


def order(group: str) -> int:
    inputs = len(_RECORDING_GROUPS)
    return _RECORDING_GROUPS.index(group) if group in _RECORDING_GROUPS else inputs


def every(case: AlertCase | RecordCase) -> str:
    """Return how often the rules are evaluated: rarely in cases that take days."""
    return "30m" if case.interval == "5m" else case.interval


def evaluation(
    at: str, series: Series, interval: str, checks: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "interval": interval,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{**check, "eval_time": at} for check in checks],
    }


def test_promtool_accepts_every_file(promtool: Path, rules: Path) -> None:
    files = sorted(rules.glob("*.yml"))
    done = subprocess.run(
        [promtool, "check", "rules", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", ALERTS, ids=lambda c: f"{c.alert}-{c.why}" if c.why else c.alert)
def test_alert_fires_and_stays_quiet(case: AlertCase, evaluator: Promtool) -> None:
    firing = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
    names = ", ".join(case.labels)
    fires = {
        "expr": f"sum by ({names}) ({firing})",
        "exp_samples": [{"labels": labels_text(case.labels), "value": 1}],
    }
    quiet = {"expr": f"count({firing})", "exp_samples": []}
    tests = [
        evaluation(case.at, case.fires, case.interval, [fires]),
        evaluation(case.at, case.quiet, case.interval, [quiet]),
    ]
    evaluator.run(case.alert, tests, every(case))


def test_watchdog_always_fires(evaluator: Promtool) -> None:
    firing = f'count(ALERTS{{alertname="{ALWAYS_FIRING}",alertstate="firing"}})'
    check = {"expr": firing, "exp_samples": [{"labels": "{}", "value": 1}]}
    evaluator.run(ALWAYS_FIRING, [evaluation("1m", {}, "1m", [check])], "1m")


@pytest.mark.parametrize("case", RECORDS, ids=lambda c: c.record)
def test_record_computes_what_it_says(case: RecordCase, evaluator: Promtool) -> None:
    # promtool compares exactly; what follows is 1 where the value is near enough.
    near = [
        {
            "expr": f"abs({case.record}{labels_text(labels)} - {value!r})"
            f" <= bool {case.within * abs(value)!r}",
            "exp_samples": [{"labels": labels_text(labels), "value": 1}],
        }
        for labels, value in case.samples
    ]
    number = {
        "expr": f"count({case.record})",
        "exp_samples": [{"labels": "{}", "value": len(case.samples)}],
    }
    tests = [evaluation(case.at, case.series, case.interval, [*near, number])]
    evaluator.run(case.record, tests, every(case))


def test_availability_counts_nothing_without_requests(evaluator: Promtool) -> None:
    check = {"expr": "count(tresor:burn:rate5m)", "exp_samples": []}
    idle = {'tresor_nginx_requests_total{endpoint="models",status="200"}': "7x60"}
    evaluator.run(
        "tresor:burn:rate5m",
        [evaluation("30m", idle, "1m", [check])],
        "1m",
    )


def test_every_rule_has_a_case(rules: Path) -> None:
    found = list(rules_of(*rules.glob("*.yml")))
    assert {r["alert"] for r in found if "alert" in r} == {c.alert for c in ALERTS} | {
        ALWAYS_FIRING
    }
    assert {r["record"] for r in found if "record" in r} == {c.record for c in RECORDS}
    names = [r.get("alert") or r["record"] for r in found]
    assert len(names) == len(set(names)), "a name has two rules"


def test_every_file_of_rules_is_installed() -> None:
    installed = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__prometheus_rules"]
    assert sorted(installed) == [path.name for path in STATIC_RULES]


@every_alert
def test_alert_says_what_it_is(name: str) -> None:
    rule = ALERT_RULES[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "none"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/alerts/{name}.md"


@every_alert
def test_texts_of_an_alert_name_only_labels_that_it_carries(name: str) -> None:
    texts = ALERT_RULES[name]["annotations"]
    used = {label for text in texts.values() for label in _LABEL.findall(text)}
    for case in ALERTS:
        if case.alert == name:
            assert used <= set(case.labels)


@every_alert
def test_alert_has_a_runbook_page(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS


def test_every_page_has_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERT_RULES)


@pytest.mark.parametrize(
    ("availability", "window", "expected"),
    [
        (99.9, 30, {"1h": 14.4, "6h": 6, "1d": 3, "3d": 1}),
        (99.9, 7, {"1h": 3.36, "6h": 1.4, "1d": 1, "3d": 1}),
        (90, 30, {"1h": 5, "6h": 5, "1d": 3, "3d": 1}),
    ],
    ids=["the usual month", "a week", "a generous promise"],
)
def test_burn_thresholds_fit_window_and_promise(
    tmp_path: Path, availability: float, window: int, expected: dict[str, float]
) -> None:
    slo = {**GIVEN["prometheus_slo"], "availability_percent": availability, "window_days": window}  # type: ignore[dict-item]
    source = ROLE / "templates/etc/tresor/prometheus/rules/targets.yml.j2"
    render(tmp_path / "targets.yml", {**GIVEN, "prometheus_slo": slo}, source, ROLE)
    found = {rule["record"]: rule["expr"] for rule in rules_of(tmp_path / "targets.yml")}
    for name, value in expected.items():
        assert found[f"tresor:target_burn_{name}:ratio"] == f"vector({float(value)})"
    assert f"[{window}d]" in found["tresor:availability:ratio_window"]
