"""Judge what Prometheus, Alertmanager and the journal answered. Pure: no network, no files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..evidence.check import Check
from .expected import Target

WATCHDOG = "Watchdog"


def judge_targets(host: str, expected: Sequence[Target], answer: object) -> list[Check]:
    """Return a check for each expected target: it is scraped, and the last scrape worked."""
    seen = dict(_targets(answer))
    return [
        Check(
            id=f"monitoring.target.{target.job}.{target.instance}",
            what=f"{target.job} of {target.instance} is scraped",
            source=host,
            target=target.instance,
            expected="up",
            observed=seen.get(target, "not among Prometheus's targets"),
            ok=seen.get(target) == "up",
        )
        for target in expected
    ]


def judge_rules(host: str, answer: object) -> Check:
    """Return the check that rules are loaded and that none fails."""
    rules = [rule for group in _list(_data(answer), "groups") for rule in _list(group, "rules")]
    failing = [f"{rule.get('name')}: {rule.get('lastError')}" for rule in rules if _fails(rule)]
    return Check(
        id=f"monitoring.rules.{host}",
        what="rules are loaded and can be evaluated",
        source=host,
        target="Prometheus",
        expected="rules, none with an error",
        observed="; ".join(failing)[:500] or f"{len(rules)} rules, none with an error",
        ok=bool(rules) and not failing,
    )


def judge_alertmanagers(host: str, answer: object) -> Check:
    """Return the check that Prometheus hands its alerts to an Alertmanager."""
    active = [str(entry.get("url")) for entry in _list(_data(answer), "activeAlertmanagers")]
    return Check(
        id=f"monitoring.alertmanager.{host}",
        what="Prometheus is connected to Alertmanager",
        source=host,
        target="Alertmanager",
        expected="at least one",
        observed=", ".join(active) or "none",
        ok=bool(active),
    )


def judge_watchdog(host: str, answer: object) -> Check:
    """Return the check that the alert that always fires does fire."""
    states = [
        str(alert.get("state"))
        for alert in _list(_data(answer), "alerts")
        if _mapping(alert.get("labels")).get("alertname") == WATCHDOG
    ]
    return Check(
        id=f"monitoring.watchdog.{host}",
        what="the alert Watchdog fires",
        source=host,
        target="Prometheus",
        expected="firing",
        observed=", ".join(states) or "absent",
        ok="firing" in states,
    )


def judge_journal(host: str, lines: Iterable[str], since: str) -> Check:
    """Return the check that the Watchdog arrived in the journal lately."""
    arrived = sum(1 for line in lines if _is_watchdog(line))
    return Check(
        id=f"monitoring.journal.{host}",
        what="alerts arrive in the journal",
        source=host,
        target="journal",
        expected=f"{WATCHDOG} within {since}",
        observed=f"{arrived} times",
        ok=arrived > 0,
    )


def _is_watchdog(line: str) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and (record.get("alert"), record.get("status")) == (
        WATCHDOG,
        "firing",
    )


def _targets(answer: object) -> Iterator[tuple[Target, str]]:
    for entry in _list(_data(answer), "activeTargets"):
        labels = _mapping(entry.get("labels"))
        health = str(entry.get("health"))
        error = str(entry.get("lastError") or "")
        target = Target(str(labels.get("job")), str(labels.get("instance")))
        yield target, f"{health}: {error}" if error else health


def _fails(rule: Mapping[str, Any]) -> bool:
    # "unknown" is a rule that is not due yet after a start.
    return rule.get("health") not in {"ok", "unknown"}


def _data(answer: object) -> Mapping[str, Any]:
    return _mapping(_mapping(answer).get("data"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object, key: str) -> list[Mapping[str, Any]]:
    found = _mapping(value).get(key)
    return (
        [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []
    )
