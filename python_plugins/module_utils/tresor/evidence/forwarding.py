"""Judge whether a host's records reach the collector, from two reports and the kernel's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .check import Check


@dataclass(frozen=True)
class Observation:
    """What was seen of a host: unit states, the reports around the marker, and the connection.

    ``connection`` is the kernel's, not the forwarder's: the peer's ``address:port`` or None.
    """

    host: str
    target: str
    units: Mapping[str, str]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    connection: str | None
    seconds: float


def acknowledged(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a record written after the report ``before`` is proven to be at the collector.

    Proofs come in order: more of them than there were records before it include the marker.
    """
    return bool(
        after["proven_records"] - before["proven_records"] > before["unproven_records"]
        and after["submitted"]["journal"] > before["submitted"]["journal"]
    )


def judge(seen: Observation) -> list[Check]:
    """Return the checks of one host."""
    down = {unit: state for unit, state in seen.units.items() if state != "active"}
    waiting = int(seen.after["unproven_records"])
    limit = max(2 * int(seen.after["window"]), int(seen.before["unproven_records"]))

    def check(name: str, what: str, expected: str, observed: str, ok: bool) -> Check:
        return Check(
            f"siem.{name}.{seen.host}", what, seen.host, seen.target, expected, observed, ok,
            seen.seconds,
        )  # fmt: skip

    return [
        check(
            "units", "the forwarder's units run", "active",
            ", ".join(f"{unit} {state}" for unit, state in seen.units.items()), not down,
        ),
        check(
            "connection", "the kernel has a connection of the forwarder's user to the collector",
            "established", seen.connection or "none", seen.connection is not None,
        ),
        check(
            "acknowledged", "a record written now is acknowledged by the collector",
            "acknowledged",
            f"{seen.after['proven_records'] - seen.before['proven_records']} newly acknowledged, "
            f"{seen.before['unproven_records']} were waiting before",
            acknowledged(seen.before, seen.after),
        ),
        check(
            "queue", "the queue does not grow", f"at most {limit} records waiting",
            f"{waiting} waiting", waiting <= limit,
        ),
        check(
            "complete", "nothing was left out", "no file unreadable, no journal entry missed",
            f"unreadable: {', '.join(seen.after['unreadable']) or 'none'}; entries missed: "
            f"{seen.after['lost_journal_entries']}",
            not seen.after["unreadable"] and not seen.after["lost_journal_entries"],
        ),
    ]  # fmt: skip
