"""The report: who asked for what, who answered, and what the route to smaller models saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .busy import Span, union
from .engines import Site
from .errors import TrafficError
from .rates import MEASURED, UNKNOWN, Latency, Rate, Shape, Work, measured, predicted, work_of

FORMAT: Final = "tresor-traffic-1"


def report(
    readings: Sequence[Mapping[str, Any]], site: Site, latency: Latency, least_requests: int
) -> dict[str, Any]:
    """Return the report over the readings of all gateways, for JSON.

    Raises:
        TrafficError: no reading, or readings of different periods.
    """
    periods = {(reading["since"], reading["until"]) for reading in readings}
    if len(periods) != 1:
        raise TrafficError(
            f"the gateways were read for {len(periods)} periods: run the report again"
        )
    rows = [row for reading in readings for row in reading["sums"]]
    busy = _busy(readings)
    models = sorted({site.base(row["model"]) for row in rows} | _chat(site))
    works = {model: work_of(model, rows, busy, site) for model in models}
    rates = {model: measured(works[model], least_requests) for model in models}
    since, until = periods.pop()
    return {
        "format": FORMAT,
        "since": since,
        "until": until,
        "gateways": len(readings),
        "requests": sum(row["requests"] for row in rows),
        "uncounted": sum(row["uncounted"] for row in rows),
        "unreadable": sum(reading["unreadable"] for reading in readings),
        "problems": [text for reading in readings for text in reading["problems"]],
        "asked": _asked(rows, site, rates),
        "classes": _classes(rows, site),
        "models": [_model(name, works[name], rates[name], site) for name in models],
        "moved": _moved(rows, site, works, rates, latency),
    }


def _busy(readings: Sequence[Mapping[str, Any]]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for reading in readings:
        for engine, spans in reading["busy"].items():
            found.setdefault(engine, []).extend((begin, end) for begin, end in spans)
    return {engine: union(spans) for engine, spans in found.items()}


def _chat(site: Site) -> set[str]:
    return {
        name
        for name, model in site.models.items()
        if model["task"] == "chat" and "adapter_of" not in model
    }


def _tokens(row: Mapping[str, Any]) -> int:
    return int(row["prompt_tokens"]) + int(row["completion_tokens"])


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _sum(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    keys = ("requests", "prompt_tokens", "completion_tokens")
    return {key: sum(row[key] for row in rows) for key in keys}


def _asked(
    rows: Sequence[Mapping[str, Any]], site: Site, rates: Mapping[str, Rate]
) -> list[dict[str, Any]]:
    """One row per asked name and answering model; shares are of the asked name's own traffic."""
    groups: dict[tuple[str, bool, str], list[Mapping[str, Any]]] = {}
    whole: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["asked"], row["route"], row["model"]), []).append(row)
        whole.setdefault((row["asked"], row["route"]), []).append(row)
    found = []
    for (asked, route, model), mine in sorted(groups.items()):
        all_of_it = whole[asked, route]
        tokens = sum(map(_tokens, mine))
        rate = rates[site.base(model)].per_token
        found.append(
            {
                "asked": asked,
                "route": route,
                "model": model,
                "class": site.part(model),
                "known": site.base(model) in site.models,
                **_sum(mine),
                "share_of_requests": _share(_sum(mine)["requests"], _sum(all_of_it)["requests"]),
                "share_of_tokens": _share(tokens, sum(map(_tokens, all_of_it))),
                "device_seconds": None if rate is None else rate * tokens,
            }
        )
    return found


def _classes(rows: Sequence[Mapping[str, Any]], site: Site) -> list[dict[str, Any]]:
    """One row per class, of what writes."""
    chat = [row for row in rows if site.models.get(row["model"], {}).get("task", "chat") == "chat"]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in chat:
        groups.setdefault(site.part(row["model"]), []).append(row)
    tokens = sum(map(_tokens, chat))
    return [
        {
            "class": name,
            **_sum(mine),
            "share_of_requests": _share(_sum(mine)["requests"], _sum(chat)["requests"]),
            "share_of_tokens": _share(sum(map(_tokens, mine)), tokens),
        }
        for name, mine in sorted(groups.items())
    ]


def _model(name: str, work: Work, rate: Rate, site: Site) -> dict[str, Any]:
    return {
        "model": name,
        "class": site.part(name),
        "known": name in site.models,
        "on_gpu": any(engine.on_gpu for engine in site.of_model(name)),
        "requests": work.requests,
        "tokens": work.tokens,
        "busy_seconds": work.busy_seconds,
        "concurrency": work.concurrency,
        "device_seconds": None if work.unknown_engines else work.device_seconds,
        "device_seconds_per_token": rate.per_token,
        "source": rate.source,
        "why": rate.why,
    }


def _moved(
    rows: Sequence[Mapping[str, Any]],
    site: Site,
    works: Mapping[str, Work],
    rates: Mapping[str, Rate],
    latency: Latency,
) -> dict[str, Any]:
    """What routes gave to other models than the largest, and what that one would have taken."""
    largest = site.largest()
    routed = [row for row in rows if row["route"]]
    moved = [row for row in routed if site.base(row["model"]) != largest]
    found: dict[str, Any] = {
        "largest": largest,
        "routed": _sum(routed),
        **_sum(moved),
        "share_of_requests": _share(_sum(moved)["requests"], _sum(routed)["requests"]),
        "share_of_tokens": _share(sum(map(_tokens, moved)), sum(map(_tokens, routed))),
        "device_seconds": None,
        "device_seconds_on_largest": None,
        "saved_device_seconds": None,
        "share_of_device_seconds": None,
        "sources": {},
        "unknown": [],
    }
    if largest is None or not sum(map(_tokens, moved)):
        return found
    here = there = 0.0
    sources: dict[str, str] = {}
    unknown: set[str] = set()
    for model in sorted({site.base(row["model"]) for row in moved}):
        mine = [row for row in moved if site.base(row["model"]) == model]
        tokens = sum(map(_tokens, mine))
        if not tokens:
            continue
        shape = _shape(mine, works[model])
        small = _best(model, rates[model], shape, site, latency)
        large = _best(largest, rates[largest], shape, site, latency)
        sources[model], sources[largest] = small.source, large.source
        unknown |= {rate.why for rate in (small, large) if rate.per_token is None}
        here += (small.per_token or 0.0) * tokens
        there += (large.per_token or 0.0) * tokens
    found["sources"] = sources
    if unknown:
        found["unknown"] = sorted(unknown)
        return found
    found |= {
        "device_seconds": here,
        "device_seconds_on_largest": there,
        "saved_device_seconds": there - here,
    }
    if set(sources.values()) == {MEASURED}:
        chat = [works[model] for model in works if model in _chat(site)]
        found["share_of_device_seconds"] = _share(here, sum(one.device_seconds for one in chat))
    return found


def _shape(rows: Sequence[Mapping[str, Any]], work: Work) -> Shape:
    total = _sum(rows)
    counted = max(1, total["requests"] - sum(row["uncounted"] for row in rows))
    return Shape(
        total["prompt_tokens"] / counted, total["completion_tokens"] / counted, work.concurrency
    )


def _best(model: str, rate: Rate, shape: Shape, site: Site, latency: Latency) -> Rate:
    """Return the measured rate, else the predicted one, with both reasons if there is none."""
    if rate.per_token is not None:
        return rate
    other = predicted(model, shape, site, latency)
    if other.per_token is not None:
        return Rate(other.per_token, other.source, rate.why)
    return Rate(None, UNKNOWN, f"{model}: {rate.why}; {other.why}")
