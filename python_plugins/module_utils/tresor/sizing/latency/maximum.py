"""The most a deployment delivers: offline maxima, and maxima under latency limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .steady import Rank, most_running
from .step import Parts
from .workloads import Limits

# A benchmark's limit holds for 99 of 100 requests; a step under mixed load varies about its mean.
TAIL: Final = 1.25
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


def fullest_within(rank: Rank, slots: float, limits: Limits) -> Maximum:
    """Return the fullest steady state whose step and prompts stay within limits.

    If even one sequence exceeds them, that one is returned: the caller sees it from its step.
    """
    high = fullest(rank, slots)
    alone = rank.alone()
    if _within(alone, high, limits):
        return high
    lower, upper = 1.0, high.running
    best = _at(rank, 1.0)
    for _ in range(SEARCH_STEPS):
        middle = (lower + upper) / 2
        state = _at(rank, middle)
        if _within(alone, state, limits):
            lower, best = middle, state
        else:
            upper = middle
    return best


def _at(rank: Rank, running: float) -> Maximum:
    output = max(1.0, rank.request.output_tokens)
    micro = max(1.0, running / rank.work.layout.pipeline)
    parts = rank.mean_step(micro, micro / output)
    return Maximum(running, parts.total, running / (parts.total * output), parts)


def _within(alone: float, state: Maximum, limits: Limits) -> bool:
    """Tell whether a state whose prompts take ``alone`` seconds each stays within limits."""
    first = alone + 2 * state.step
    return state.step * TAIL * 1000 <= limits.itl_ms and first * TAIL * 1000 <= limits.ttft_ms
