"""What was measured, as a table for people and one JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from services.policy_gateway.bench.measure import Result


@dataclass(frozen=True)
class Floor:
    """A figure that must never be worse."""

    name: str
    most: float


FLOORS: Final = (
    Floor("cpu_per_request_x_nginx", 12.0),
    Floor("cpu_per_token_x_nginx", 4.0),
    Floor("leaks", 0),
    Floor("rss_mib", 150.0),
    Floor("failures", 0),
)
_TOP_CLIENTS: Final = 500


def pick(results: Iterable[Result], peer: str, *, stream: bool, clients: int) -> list[Result]:
    """The rounds of one measurement."""
    return [r for r in results if r.peer == peer and r.stream == stream and r.clients == clients]


def figures(
    results: Sequence[Result], *, clients: int, streams: int, decisions: int
) -> dict[str, float | int]:
    """The figures by their agreed names; a peer that did not run has none."""
    own = pick(results, "gateway", stream=False, clients=clients)
    own_streams = pick(results, "gateway", stream=True, clients=streams)
    top = pick(results, "gateway", stream=True, clients=_TOP_CLIENTS)
    mine = [r for r in results if r.peer == "gateway"]
    request = median(r.cpu_per_answer for r in own)
    token = median(r.cpu_per_token for r in own_streams)
    out: dict[str, float | int] = {
        "cpu_us_per_request": round(request * 1e6, 1),
        "cpu_us_per_token": round(token * 1e6, 2),
        "requests_per_s_per_core": round(1 / request),
        "tokens_per_s_per_core": round(1 / token),
        "leaks": sum(r.leaks for r in mine),
        "bodies_checked": sum(r.checked for r in mine),
        "failures": sum(r.failures for r in mine),
        "rss_mib": round(max(r.rss for r in own_streams), 1),
        "audit_per_answer": round(decisions / max(sum(r.asked for r in mine), 1), 6),
    }
    if top:
        out["top_tokens_per_s"] = round(median(r.tokens / r.seconds for r in top))
        out["top_cores"] = round(median(r.cpu / r.seconds for r in top), 2)
        out["top_gap_p95_ms"] = round(median(r.gap_p95 for r in top) * 1e3, 1)
    plain = pick(results, "nginx", stream=False, clients=clients)
    plain_streams = pick(results, "nginx", stream=True, clients=streams)
    if plain and plain_streams:
        out["cpu_per_request_x_nginx"] = _ratio(own, plain, "cpu_per_answer")
        out["cpu_per_token_x_nginx"] = _ratio(own_streams, plain_streams, "cpu_per_token")
        for name in ("first_event_p95", "first_token_p95", "gap_p95"):
            added = _median(own_streams, name) - _median(plain_streams, name)
            out[f"{name}_over_nginx_ms"] = round(added * 1e3, 2)
    asking = pick(results, "nginx-auth", stream=False, clients=clients)
    if plain and asking:
        out["nginx_auth_request_x_nginx"] = _ratio(asking, plain, "cpu_per_answer")
    other = pick(results, "litellm", stream=False, clients=clients)
    if other:
        out["requests_per_core_x_litellm"] = _ratio(other, own, "cpu_per_answer")
    return out


def table(results: Sequence[Result]) -> str:
    """One line per measurement, the median of its rounds."""
    lines = [
        "| peer | load | answers/s | CPU µs/answer | tokens/s | CPU µs/token | first event, "
        "first token, gap p95 ms | RSS MiB | leaks |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((r.peer, r.stream, r.clients) for r in results):
        rounds = pick(results, key[0], stream=key[1], clients=key[2])
        times, tokens, token = "-", "-", "-"
        if key[1]:
            names = ("first_event_p95", "first_token_p95", "gap_p95")
            times = " / ".join(f"{_median(rounds, name) * 1e3:.1f}" for name in names)
            token = f"{_median(rounds, 'cpu_per_token') * 1e6:.1f}"
            tokens = f"{median(r.tokens / r.seconds for r in rounds):.0f}"
        load = f"{key[2]} {'streams' if key[1] else 'clients'}"
        lines.append(
            f"| {key[0]} | {load} | {median(r.answers / r.seconds for r in rounds):.0f} "
            f"| {_median(rounds, 'cpu_per_answer') * 1e6:.1f} | {tokens} | {token} | {times} "
            f"| {_median(rounds, 'rss'):.0f} "
            f"| {sum(r.leaks for r in rounds)}/{sum(r.checked for r in rounds)} |"
        )
    return "\n".join(lines)


def broken_floors(values: dict[str, float | int]) -> list[str]:
    """Floors that do not hold."""
    broken = [
        f"{floor.name} is {values[floor.name]}, it must be {floor.most:g} or less"
        for floor in FLOORS
        if floor.name in values and values[floor.name] > floor.most
    ]
    if values["audit_per_answer"] != 1.0:
        broken.append(f"audit_per_answer is {values['audit_per_answer']}, it must be 1")
    return broken


def last_line(values: dict[str, float | int]) -> str:
    """The JSON object."""
    return json.dumps(values, sort_keys=True)


def _median(results: Iterable[Result], name: str) -> float:
    return float(median(getattr(r, name) for r in results))


def _ratio(ours: Iterable[Result], theirs: Iterable[Result], name: str) -> float:
    return round(_median(ours, name) / _median(theirs, name), 2)
