"""Stages converge and verify: the operator's command on the bastion."""

from __future__ import annotations

import json
from typing import Any

from stages.shell import StageError, lab, on_host, output, run

_SUMMARY = "/run/tresor-summary.json"


def tresor(
    *arguments: str,
    what: str,
    ansible: tuple[str, ...] = (),
    command: tuple[str, ...] = ("tresor",),
) -> dict[str, Any]:
    """Run ``tresor`` on the bastion with its output on the screen; return the run's summary."""
    line = [*command, *arguments, "--summary-json", _SUMMARY]
    run(on_host("bastion", *line, *(("--", *ansible) if ansible else ())), what=what)
    summary: dict[str, Any] = json.loads(
        output(on_host("bastion", "cat", _SUMMARY), what="read the run's summary")
    )
    return summary


def converge() -> dict[str, Any]:
    """Converge the site."""
    return tresor("converge", what="converge")


def trust_collector() -> None:
    """Hand the site's CA, which the first converge made, to the company's log collector.

    Until then the collector does not run, and verify rightly fails on every host.
    """
    run(lab("siem", "trust"), what="hand the site's CA to the collector")


def check_mode() -> dict[str, Any]:
    """Run converge with --check on the converged site: no change, no error."""
    summary = tresor("converge", what="converge --check", ansible=("--check",))
    refuse_changes(summary, "converge --check")
    return summary


def evidence_path() -> str:
    """Return where the newest evidence report lies on the bastion."""
    link = "/var/lib/tresor/evidence/latest-full.json"
    return output(on_host("bastion", "readlink", "-f", link), what="find the evidence").strip()


def verify(*ansible: str) -> dict[str, Any]:
    """Prove the site with real traffic; return the evidence report."""
    tresor("verify", what="verify", ansible=ansible)
    evidence: dict[str, Any] = json.loads(
        output(on_host("bastion", "cat", "/var/lib/tresor/evidence/latest.json"), what="evidence")
    )
    return evidence


def refuse_changes(summary: dict[str, Any], what: str) -> None:
    """Raise StageError when a host of the run's summary reports a change."""
    changed = {host: c["changed"] for host, c in summary["hosts"].items() if c["changed"]}
    if changed:
        raise StageError(f"{what} changed something: {changed}; record {summary['id']}")
