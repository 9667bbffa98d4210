"""What users of a load see on a deployment, at the 95th percentile of requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..latency import latency
from .promise import Load, Promise

ROUNDS: Final = 20
CLOSE: Final = 0.005


@dataclass(frozen=True)
class Seen:
    """What is seen, in milliseconds; ``inside`` users are waiting for an answer at a time.

    ``floor_e2e`` and ``floor_ttft`` are what one user alone sees: more replicas cannot beat them.
    """

    ttft_p95: float
    e2e_p95: float
    itl: float
    inside: float
    floor_ttft: float
    floor_e2e: float
    answer: Mapping[str, Any]
    alone: Mapping[str, Any]

    def excess(self, promise: Promise) -> float:
        """Return the larger share of a limit that is used; above 1 the promise is broken."""
        return max(self.ttft_p95 / promise.ttft_p95_ms, self.e2e_p95 / promise.e2e_p95_ms)

    def floor_excess(self, promise: Promise) -> float:
        """Return the same for one user alone."""
        return max(self.floor_ttft / promise.ttft_p95_ms, self.floor_e2e / promise.e2e_p95_ms)


def predict(options: Mapping[str, Any], load: Load) -> Seen:
    """Predict what the users of ``load`` see.

    Long prompts add their own computing time to the first token; long answers add their tokens at
    the mean pace. With thinking time the users inside follow Little's law.
    """
    request = {
        **options,
        "input_tokens": load.input_tokens,
        "output_tokens": load.output_tokens,
        "cached_tokens": load.cached_tokens,
    }
    alone = latency(**request, concurrency=1)
    late = latency(**{**request, "input_tokens": load.input_tokens_p95}, concurrency=1)
    longer = max(0.0, late["ttft_ms"] - alone["ttft_ms"])
    answer, inside = _settle(request, load)
    first = answer["ttft_p95_ms"] + longer
    tail = load.output_tokens_p95 - 1
    floor_first = alone["ttft_ms"] + longer
    return Seen(
        ttft_p95=first,
        e2e_p95=max(answer["e2e_p95_ms"], first + tail * answer["itl_ms"]),
        itl=answer["itl_ms"],
        inside=inside,
        floor_ttft=floor_first,
        floor_e2e=floor_first + tail * alone["itl_ms"],
        answer=answer,
        alone=alone,
    )


def _settle(request: Mapping[str, Any], load: Load) -> tuple[Mapping[str, Any], float]:
    """Return the answer with the number of users inside that thinking time leaves."""
    if not load.think_seconds:
        return latency(**request, concurrency=load.users), load.users
    low, high = 1.0, float(load.users)
    inside = high
    answer = latency(**request, concurrency=inside)
    for _ in range(ROUNDS):
        seconds = answer["e2e_ms"] / 1000
        wanted = load.users * seconds / (seconds + load.think_seconds)
        if abs(wanted - inside) <= CLOSE * inside:
            break
        if wanted < inside:
            high = inside
        else:
            low = inside
        inside = max(1.0, (low + high) / 2)
        answer = latency(**request, concurrency=inside)
    return answer, inside
