"""The most a deployment delivers: offline maxima, and maxima under latency limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from .steady import Rank, most_running
from .step import Parts
from .workloads import Limits

# A limit holds for 99 of 100 requests, and 99 % of a normal distribution lie below this many
# deviations.
CROWD: Final = 2.33
SEARCH_STEPS: Final = 24
# What a unit of skewness adds to that, in deviations (Cornish and Fisher).
SKEW: Final = (CROWD**2 - 1) / 6
# A crowd whose steps grow as its number would never dissolve; the token budget and the slots end
# it before.
GROWTH: Final = 0.95


@dataclass(frozen=True)
class Maximum:
    """The fullest steady state: running sequences of one rank, its mean step, answers a second.

    ``kept`` is false where even one sequence exceeds the limits.
    """

    running: float
    step: float
    rate: float
    parts: Parts
    kept: bool = True


def fullest(rank: Rank, slots: float) -> Maximum:
    """Return the steady state with as many sequences as slots and token budget allow."""
    stages = rank.work.layout.pipeline
    return _at(rank, max(1.0, min(slots, most_running(rank.request, rank.budget) * stages)))


def fullest_within(rank: Rank, slots: float, limits: Limits) -> Maximum:
    """Return the fullest steady state that keeps limits when arrivals crowd.

    Limits hold for 99 of 100 requests: room is left for the crowds that meet in a rank, and for the
    prompts that come while an answer is written. If even one sequence exceeds the limits, that one
    is returned, with ``kept`` false.
    """
    high = fullest(rank, slots)
    alone = rank.alone()
    if _within(rank, alone, high, limits):
        return high
    lower, upper = 1.0, high.running
    best = _at(rank, 1.0)
    if not _within(rank, alone, best, limits):
        return replace(best, kept=False)
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


def crowds(rank: Rank, state: Maximum) -> tuple[float, float]:
    """Return the step in the fullest moment, and in the fullest mean over an answer, of a hundred.

    Requests reach a rank independently. Were a step as long in a crowd as alone, the number in a
    rank would vary by its square root. But a crowd slows itself down: its answers take longer, so
    more come before they end. With a step that grows as the power ``e`` of the number, requests
    that share a rank's speed have ``running / (1 - e)`` as the variance of their number, whatever
    the lengths of the answers, and a crowd dissolves within ``1 / (1 - e)`` answers. The mean over
    one answer evens out what is shorter than that.
    """
    number = state.running
    wider = number + CROWD * math.sqrt(number)
    growth = math.log(_at(rank, wider).step / state.step) / math.log(wider / number)
    calm = 1.0 - min(GROWTH, max(0.0, growth))
    # The number has the tail of a negative binomial distribution: its skewness in deviations.
    moment = CROWD * math.sqrt(number / calm) + SKEW * (2 - calm) / calm
    evened = math.sqrt(2 * (calm - 1 + math.exp(-calm))) / calm
    return _at(rank, number + moment).step, _at(rank, number + moment * evened).step


def _within(rank: Rank, alone: float, state: Maximum, limits: Limits) -> bool:
    """Tell whether a state whose prompts take ``alone`` seconds each stays within limits.

    The time per token of an answer is its mean step: it rises with the crowd that is there
    meanwhile, and with the prompts that happen to come; the two add as independent deviations.
    """
    moment, crowd = crowds(rank, state)
    if (alone + 2 * moment) * 1000 > limits.ttft_ms:
        return False
    output = max(1.0, rank.request.output_tokens)
    micro = max(1.0, state.running / rank.work.layout.pipeline)
    prompt = rank.beside(micro, 0.0) - rank.step(micro).total
    met = limits.tail * math.sqrt(state.running) / output * max(0.0, prompt)
    late = state.step + math.hypot(crowd - state.step, met)
    return late * 1000 <= limits.itl_ms
