"""Everything verify gathered, judged into one list of checks. Needs ``cryptography``."""

from __future__ import annotations

import base64
import binascii
import datetime
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..probe.targets import uncovered_flows
from .audit import judge_records
from .certificates import judge_certificate, planned_addresses
from .check import Check, not_run
from .replicas import judge_replicas
from .report import collect

NETWORK, REQUEST_PATH, SERVICES, CONTROL = "network", "request_path", "services", "control"


@dataclass(frozen=True)
class Gathered:
    """What the modules of one run returned."""

    results: Mapping[str, Mapping[str, Any]]
    """By host: network, certificate, control, engines_before, engines_after, audit, services."""
    api: Mapping[str, Any]
    scope: tuple[str, ...]
    control_host: str
    gateways: tuple[str, ...]
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By name of a service, the hosts that must prove it."""

    def of(self, host: str, key: str) -> Mapping[str, Any] | None:
        """Return what one module returned on one host, None if nothing."""
        value = (self.results.get(host) or {}).get(key)
        return value if isinstance(value, Mapping) and value else None


def judge_all(
    plan: Mapping[str, Any], gathered: Gathered, ca_pem: bytes, renew_days: int, now: float
) -> tuple[list[Check], list[dict[str, str]]]:
    """Return all checks of the parts in scope, and what is not covered.

    Every host of the plan must have answered: one that is missing fails the report.
    """
    hosts = list(plan["hosts"])
    checks: list[Check] = []
    uncovered: list[dict[str, str]] = []
    if NETWORK in gathered.scope:
        checks += _of_hosts(gathered, hosts, "network")
        checks += _certificates(plan, gathered, ca_pem, renew_days, now)
        uncovered += [item.as_dict() for item in uncovered_flows(hosts, plan["flows"])]
    if REQUEST_PATH in gathered.scope:
        checks += _request_path(gathered, {model["task"] for model in plan["models"]})
    if SERVICES in gathered.scope:
        checks += _services(gathered)
    if SERVICES not in gathered.scope or not gathered.services:
        uncovered.append(
            {
                "what": "the services behind the request path",
                "reason": "verify_services is empty, or this run left out the tag services",
            }
        )
    if CONTROL in gathered.scope:
        checks += _control(gathered)
    else:
        uncovered.append(
            {
                "what": "the positive control of the network probes",
                "reason": "verify_control_host is empty, or this run left out the tag control",
            }
        )
    return checks, uncovered


def _of_hosts(gathered: Gathered, hosts: Sequence[str], key: str) -> list[Check]:
    return collect(
        {f"{key}.{host}": gathered.of(host, key) for host in hosts},
        [f"{key}.{host}" for host in hosts],
    )


def _services(gathered: Gathered) -> list[Check]:
    """Return what the hosts of each service proved; a host that gave nothing fails."""
    checks: list[Check] = []
    for service, hosts in gathered.services.items():
        found = {host: (gathered.of(host, "services") or {}).get(service) for host in hosts}
        wanted = [f"{service}.{host}" for host in hosts]
        checks += collect({f"{service}.{host}": found[host] for host in hosts}, wanted)
    return checks


def _certificates(
    plan: Mapping[str, Any], gathered: Gathered, ca_pem: bytes, renew_days: int, now: float
) -> list[Check]:
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    checks: list[Check] = []
    for name, host in plan["hosts"].items():
        text = (gathered.results.get(name) or {}).get("certificate")
        try:
            pem = base64.b64decode(text, validate=True) if isinstance(text, str) else None
        except (binascii.Error, ValueError):
            pem = None
        checks.append(
            judge_certificate(
                name,
                pem,
                ca_pem,
                names=host["tls_names"],
                addresses=planned_addresses(host),
                renew_days=renew_days,
                now=moment,
            )
        )
    return checks


def _request_path(gathered: Gathered, tasks: Collection[str]) -> list[Check]:
    checks = collect({"request_path": gathered.api or None}, ["request_path"])
    if not gathered.gateways:
        reason = "the site names no gateway host"
        return [*checks, not_run("run.gateways", "gateways give results", reason)]
    for key in ("engines_before", "engines_after"):
        checks += _of_hosts(gathered, gathered.gateways, key)
    # The counters are the engines' own: every gateway reads the same, so the first that could
    # read an engine speaks for it.
    before = _served(gathered, "engines_before")
    after = _served(gathered, "engines_after")
    for item in gathered.api.get("replicas") or []:
        checks += judge_replicas(item["model"], item["instances"], before, after)
    return checks + _audit(gathered, tasks)


def _served(gathered: Gathered, key: str) -> dict[str, float]:
    served: dict[str, float] = {}
    for host in gathered.gateways:
        for instance, value in ((gathered.of(host, key) or {}).get("served") or {}).items():
            served.setdefault(instance, float(value))
    return served


def _audit(gathered: Gathered, tasks: Collection[str]) -> list[Check]:
    decided: Counter[str] = Counter()
    early: Counter[str] = Counter()
    problems: list[str] = []
    for host in gathered.gateways:
        counted = gathered.of(host, "audit")
        if counted is None or "decided" not in counted:
            problems.append(f"{host} gave no count")
            continue
        decided.update(counted["decided"])
        early.update(counted["refused_early"])
        problems += [f"{host}: {problem}" for problem in counted["problems"]]
    requests = gathered.api.get("requests") or []
    return judge_records(
        requests, decided, early, problems, source=", ".join(gathered.gateways), tasks=tasks
    )


def _control(gathered: Gathered) -> list[Check]:
    if not gathered.control_host:
        reason = "verify_control_host is empty: name the host whose output may open for a moment"
        return [not_run("run.control", "the prober itself is proven", reason)]
    return _of_hosts(gathered, [gathered.control_host], "control")
