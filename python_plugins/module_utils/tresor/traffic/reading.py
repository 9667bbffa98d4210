"""Add up the audit records of one gateway: who asked for what, who answered, with which work.

The audit log is the source because it is exact: one record joins the name that was asked, the model
that answered, its engine, its tokens and its time. Metrics have these apart, begin again with every
worker, and are extrapolated between two looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from .busy import Busy
from .period import Period, shown

_MARKER: Final = b'"engine":'
_MARGIN: Final = 60.0
"""Seconds that a file's time of writing may lie before its newest record's."""

Key = tuple[str, bool, str, str]


@dataclass
class Sum:
    """Requests that an engine worked on, its tokens, and their times (milliseconds)."""

    requests: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    milliseconds: int = 0


def add_up(paths: Iterable[Path], period: Period) -> dict[str, Any]:
    """Return the sums by asked name, model and engine, and when each engine had work.

    A request belongs to the period if it ended in it; its time counts from the period's begin. A
    line that is being written is left out; other lines that make no sense are counted.
    """
    sums: dict[Key, Sum] = {}
    busy: dict[str, Busy] = {}
    problems: list[str] = []
    unreadable = 0
    for path in sorted(paths):
        try:
            if path.stat().st_mtime < period.since - _MARGIN:
                continue
            with path.open("rb") as lines:
                for record in _records(lines):
                    unreadable += record is None or not _take(record, period, sums, busy)
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    return {
        "since": shown(period.since),
        "until": shown(period.until),
        "sums": [
            {
                "asked": asked,
                "route": route,
                "model": model,
                "engine": engine,
                **vars(found),
            }
            for (asked, route, model, engine), found in sorted(sums.items())
        ],
        "busy": {engine: one.spans() for engine, one in sorted(busy.items())},
        "unreadable": unreadable,
        "problems": problems,
    }


def _records(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any] | None]:
    for line in lines:
        if _MARKER not in line or not line.endswith(b"\n"):
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        yield record if isinstance(record, dict) else None


def _take(
    record: Mapping[str, Any], period: Period, sums: dict[Key, Sum], busy: dict[str, Busy]
) -> bool:
    """Take a record in; return whether it made sense."""
    if record.get("type") != "decision":
        return True
    try:
        end = datetime.fromisoformat(record["time"]).timestamp()
        model, engine = str(record["model"]), str(record["engine"])
        took = int(record["latency_us"]["total"]) / 1e6
        tokens = record.get("tokens")
        counted = (int(tokens["prompt"]), int(tokens["completion"])) if tokens else None
    except (KeyError, TypeError, ValueError):
        return False
    if not period.since <= end < period.until:
        return True
    route = str(record.get("route", ""))
    asked = route or str(record.get("fallback_of", "")) or model
    found = sums.setdefault((asked, bool(route), model, engine), Sum())
    begin = max(end - took, period.since)
    span = (int(begin * 1000), int(end * 1000))
    found.requests += 1
    found.milliseconds += span[1] - span[0]
    if counted is None:
        found.uncounted += 1
    else:
        found.prompt_tokens += counted[0]
        found.completion_tokens += counted[1]
    busy.setdefault(engine, Busy()).add(*span)
    return True
