"""The most a deployment delivers: offline maxima, and maxima under latency limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from .steady import Rank, most_running
from .step import Parts
from .workloads import Limits

# A limit holds for 99 of 100 requests, and 99 % of a normal distribution lie below this many
# deviations.
CROWD: Final = 2.33
SEARCH_STEPS: Final = 24


@dataclass(frozen=True)
class Maximum:
    """The fullest steady state: running sequences of one rank, its mean step, answers a second."""

    running: float
    step: float
    rate: float
    parts: Parts


def fullest(rank: Rank, slots: float) -> Maximum:
    """Return the steady state with as many sequences as slots and token budget allow."""
    stages = rank.work.layout.pipeline
    return _at(rank, max(1.0, min(slots, most_running(rank.request, rank.budget) * stages)))


def fullest_within(rank: Rank, slots: float, limits: Limits, ranks: float = 1.0) -> Maximum:
    """Return the fullest steady state that keeps limits when arrivals crowd.

    Requests arrive independently, so their number in the house varies by its square root; equal
    ``ranks`` share it evenly. The limits hold in the crowd that 99 of 100 requests do not exceed.
    If even one sequence exceeds them, that one is returned: the caller sees it from its step.
    """
    high = fullest(rank, slots)
    alone = rank.alone()
    if _within(alone, _crowded(rank, high, ranks), limits):
        return high
    lower, upper = 1.0, high.running
    best = _at(rank, 1.0)
    for _ in range(SEARCH_STEPS):
        middle = (lower + upper) / 2
        state = _at(rank, middle)
        if _within(alone, _crowded(rank, state, ranks), limits):
            lower, best = middle, state
        else:
            upper = middle
    return best


def _at(rank: Rank, running: float) -> Maximum:
    output = max(1.0, rank.request.output_tokens)
    micro = max(1.0, running / rank.work.layout.pipeline)
    parts = rank.mean_step(micro, micro / output)
    return Maximum(running, parts.total, running / (parts.total * output), parts)


def _crowded(rank: Rank, state: Maximum, ranks: float) -> Maximum:
    house = state.running * ranks
    return _at(rank, (house + CROWD * math.sqrt(house)) / ranks)


def _within(alone: float, state: Maximum, limits: Limits) -> bool:
    """Tell whether a state whose prompts take ``alone`` seconds each stays within limits."""
    first = alone + 2 * state.step
    return state.step * 1000 <= limits.itl_ms and first * 1000 <= limits.ttft_ms
