"""The most a deployment delivers: offline maxima, and maxima under latency limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .steady import Request, filled_step, most_running, prefill_seconds
from .step import Parts, Speed
from .work import Work
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


def fullest(work: Work, speed: Speed, request: Request, slots: float, budget: float) -> Maximum:
    """Return the steady state with as many sequences as slots and token budget allow.

    ``slots`` and ``budget`` are those of one rank; figures too.
    """
    stages = work.layout.pipeline
    ceiling = max(1.0, min(slots, most_running(request, budget) * stages))
    return _at(work, speed, request, ceiling, budget)


def fullest_within(
    work: Work, speed: Speed, request: Request, slots: float, budget: float, limits: Limits
) -> Maximum:
    """Return the fullest steady state whose step and prompts stay within limits.

    If even one sequence exceeds them, that one is returned: the caller sees it from its step.
    """
    high = fullest(work, speed, request, slots, budget)
    if _within(work, speed, request, high, budget, limits):
        return high
    lower, upper = 1.0, high.running
    best = _at(work, speed, request, 1.0, budget)
    for _ in range(SEARCH_STEPS):
        middle = (lower + upper) / 2
        state = _at(work, speed, request, middle, budget)
        if _within(work, speed, request, state, budget, limits):
            lower, best = middle, state
        else:
            upper = middle
    return best


def _at(work: Work, speed: Speed, request: Request, running: float, budget: float) -> Maximum:
    parts = filled_step(work, speed, request, max(1.0, running / work.layout.pipeline), budget)
    seconds = parts.total
    rate = running / (seconds * max(1.0, request.output_tokens))
    return Maximum(running=running, step=seconds, rate=rate, parts=parts)


def _within(
    work: Work, speed: Speed, request: Request, state: Maximum, budget: float, limits: Limits
) -> bool:
    alone = prefill_seconds(work, speed, request, budget)
    first = alone + 2 * state.step
    return state.step * TAIL * 1000 <= limits.itl_ms and first * TAIL * 1000 <= limits.ttft_ms
