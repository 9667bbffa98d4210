"""A service that requests reach at a rate, whatever is in it: Poisson arrivals, a bounded house."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from .steady import EXPONENTIAL_95, Rank, Steady, closed_loop

ROUNDS: Final = 60
# A service this close to its capacity has no steady state worth promising.
FULL: Final = 0.98


def open_loop(rank: Rank, *, rate: float, slots: float) -> tuple[Steady, bool]:
    """Return the steady state at ``rate`` requests a second, and whether there is one.

    If requests pile up, the state is that of the full house: its rate is what still completes.

    The number in the house follows Little's law; all slots taken, a request waits as in a queue
    with that many servers (Sakasegawa's approximation of Erlang's formula).
    """
    full = closed_loop(rank, users=slots, slots=slots)
    if rate >= full.rate * FULL:
        # Near its limit a house completes what arrives, though nobody can say when.
        return replace(full, rate=min(full.rate, rate)), False
    low, high = 0.0, slots
    state = full
    for _ in range(ROUNDS):
        inside = (low + high) / 2
        state = closed_loop(rank, users=max(1.0, inside), slots=slots, arrival_wait=0.5)
        if inside / max(state.e2e, 1e-9) < rate:
            low = inside
        else:
            high = inside
        if high - low < 1e-3 * slots:
            break
    load = rate / full.rate
    wait = load ** (math.sqrt(2 * (slots + 1)) - 1) / (slots * (1 - load)) * full.e2e
    late = wait * EXPONENTIAL_95
    settled = replace(
        state,
        ttft=state.ttft + wait,
        ttft_95=state.ttft_95 + late,
        e2e=state.e2e + wait,
        e2e_95=state.e2e_95 + late,
        rate=rate,
    )
    return settled, True
