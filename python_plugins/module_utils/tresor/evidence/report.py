"""Build the evidence report and the summary that the operator reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .check import Check, not_run

SCHEMA = "evidence/v1"


@dataclass(frozen=True)
class Subject:
    """What was verified: the site, its release and its plan."""

    site: str
    level: str
    bundle_id: str
    bundle_sha256: str
    plan_sha256: str


def from_dicts(items: Iterable[Mapping[str, Any]]) -> list[Check]:
    """Return the checks that a module returned.

    Raises:
        KeyError: an entry is no check.
    """
    return [
        Check(
            id=str(item["id"]),
            what=str(item["what"]),
            source=str(item["from"]),
            target=str(item["to"]),
            expected=str(item["expected"]),
            observed=str(item["observed"]),
            ok=item["ok"] is True,
            duration=float(item["duration"]),
        )
        for item in items
    ]


def collect(results: Mapping[str, Mapping[str, Any] | None], wanted: Iterable[str]) -> list[Check]:
    """Return the checks of all wanted results, and a failed one for each that is missing.

    Args:
        results: what each module run returned, by a name such as ``network.gpu1``.
        wanted: the names that must be there. A host that was unreachable, a module that failed
            and a task that was skipped all show as a missing result.
    """
    checks: list[Check] = []
    for name in wanted:
        result = results.get(name)
        items = result.get("checks") if isinstance(result, Mapping) else None
        what = f"{name} gives results"
        if not isinstance(items, Sequence) or isinstance(items, str):
            checks.append(not_run(f"run.{name}", what, _why(result), source=name))
            continue
        try:
            found = from_dicts(items)
        except (KeyError, TypeError, ValueError) as error:
            checks.append(not_run(f"run.{name}", what, f"malformed check: {error!r}", source=name))
            continue
        if not found:
            checks.append(not_run(f"run.{name}", what, "it made no check at all", source=name))
        checks.extend(found)
    return checks


def build(
    subject: Subject,
    *,
    scope: Sequence[str],
    checks: Sequence[Check],
    uncovered: Sequence[Mapping[str, str]],
    started: str,
    finished: str,
    seconds: float,
) -> dict[str, Any]:
    """Return the report. A report without a single check has failed.

    Args:
        scope: the parts of verify that ran: network, request_path, control.
        uncovered: what is not proven, each with ``what`` and ``reason``.
        started: UTC time in ISO 8601; ``finished`` likewise.
    """
    unique = _unique(checks) or [not_run("run.verify", "verify makes checks", "there is none")]
    failed = sum(1 for check in unique if not check.ok)
    return {
        "schema": SCHEMA,
        "site": subject.site,
        "level": subject.level,
        "bundle": {"id": subject.bundle_id, "sha256": subject.bundle_sha256},
        "plan_sha256": subject.plan_sha256,
        "scope": list(scope),
        "started": started,
        "finished": finished,
        "seconds": round(seconds, 3),
        "totals": {"passed": len(unique) - failed, "failed": failed, "checks": len(unique)},
        "passed": failed == 0,
        "checks": [check.as_dict() for check in unique],
        "uncovered": [dict(item) for item in uncovered],
    }


def summary(report: Mapping[str, Any], path: str, most: int = 25) -> str:
    """Return the text for the screen: totals, then what failed and what is not covered."""
    totals = report["totals"]
    lines = [f"{totals['passed']} passed, {totals['failed']} failed ({path})"]
    failed = [check for check in report["checks"] if not check["ok"]]
    for check in failed[:most]:
        lines.append(
            f"FAILED {check['id']}: {check['what']} | {check['from']} -> {check['to']} | "
            f"expected: {check['expected']} | observed: {check['observed']}"
        )
    if len(failed) > most:
        lines.append(f"and {len(failed) - most} more in the report")
    lines.extend(f"not covered: {item['what']}: {item['reason']}" for item in report["uncovered"])
    return "\n".join(lines)


def _why(result: Mapping[str, Any] | None) -> str:
    if not isinstance(result, Mapping):
        return "the host was not reached or the step before it failed"
    return str(result.get("msg") or "the module returned no checks")


def _unique(checks: Sequence[Check]) -> list[Check]:
    """Number repeated ids, so that each one names a single check of the report."""
    seen: Counter[str] = Counter()
    result: list[Check] = []
    for check in checks:
        seen[check.id] += 1
        count = seen[check.id]
        result.append(check if count == 1 else replace(check, id=f"{check.id}#{count}"))
    return result
