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


def fullest_within(rank: Rank, slots: float, limits: Limits) -> Maximum:
    """Return the fullest steady state that keeps limits when arrivals crowd.

    Requests reach a rank independently, so their number in it varies by its square root, and so
    does the number of prompts that an answer meets while it is written. Limits hold for 99 of 100
    requests: the room for both is left free. If even one sequence exceeds the limits, that one is
    returned: the caller sees it from its step.
    """
    high = fullest(rank, slots)
    alone = rank.alone()
    if _within(rank, alone, high, limits):
        return high
    lower, upper = 1.0, high.running
    best = _at(rank, 1.0)
    for _ in range(SEARCH_STEPS):
        middle = (lower + upper) / 2
        state = _at(rank, middle)
        if _within(rank, alone, state, limits):
            lower, best = middle, state
        else:
            upper = middle
    return best


def _at(rank: Rank, running: float) -> Maximum:
    output = max(1.0, rank.request.output_tokens)
    micro = max(1.0, running / rank.work.layout.pipeline)
    parts = rank.mean_step(micro, micro / output)
    return Maximum(running, parts.total, running / (parts.total * output), parts)


def _within(rank: Rank, alone: float, state: Maximum, limits: Limits) -> bool:
    """Tell whether a state whose prompts take ``alone`` seconds each stays within limits.

    The time per token of an answer is its mean step: it rises with the crowd that is there
    meanwhile, and with the prompts that happen to come; the two add as independent deviations.
    """
    crowd = _at(rank, state.running + CROWD * math.sqrt(state.running)).step
    if (alone + 2 * crowd) * 1000 > limits.ttft_ms:
        return False
    output = max(1.0, rank.request.output_tokens)
    micro = max(1.0, state.running / rank.work.layout.pipeline)
    prompt = rank.beside(micro, 0.0) - rank.step(micro).total
    met = limits.tail * math.sqrt(state.running) / output * max(0.0, prompt)
    late = state.step + math.hypot(crowd - state.step, met)
    return late * 1000 <= limits.itl_ms
