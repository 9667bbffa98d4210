"""The time a report is about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from .errors import TrafficError

MOST_DAYS: Final = 3660
_LEAST_DAYS: Final = 0.001
_DAY: Final = 86400.0


@dataclass(frozen=True)
class Period:
    """From `since` up to, not including, `until`; both in whole seconds since 1970."""

    since: int
    until: int


def period(days: float, until: str, now: float) -> Period:
    """Return the period of so many days that ends at `until` (RFC 3339), empty for `now`.

    Raises:
        TrafficError: no number of days that makes sense, no time, or one that is yet to come.
    """
    if not _LEAST_DAYS <= days <= MOST_DAYS:
        raise TrafficError(f"traffic_days is {days:g}: write {_LEAST_DAYS} to {MOST_DAYS} days")
    end = _time(until) if until else now
    if end > now:
        raise TrafficError(
            f"traffic_until is {until}, which is yet to come: write a time before now"
        )
    return Period(math.floor(end - days * _DAY), math.floor(end))


def _time(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise TrafficError(
            f"traffic_until is {text[:40]!r}: write a time with its zone, such as "
            "2026-11-25T00:00:00Z"
        )
    return found.timestamp()


def shown(seconds: float) -> str:
    """Return a time for people and files, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
