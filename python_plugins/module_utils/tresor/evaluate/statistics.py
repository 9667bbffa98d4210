"""What paired results of two instances allow to say.

Pass or fail of the same prompts is paired: only prompts where the two differ carry information.
The interval of the difference is Tango's score interval (T. Tango, Statistics in Medicine 17, 1998,
891-908), which keeps its level for small numbers, and for no difference at all still has the width
that so few prompts deserve. Scores between 0 and 1 get a bootstrap interval beside it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

GOOD, BAD, OPEN = "good_enough", "not_good_enough", "cannot_tell"
RESAMPLES: Final = 4000
_STEPS: Final = 100


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, as shares (1 is all prompts)."""

    estimate: float
    low: float
    high: float


def tango(gains: int, losses: int, pairs: int, confidence: float = 0.95) -> Interval:
    """Return the difference of two paired shares: (gains - losses) / pairs.

    Args:
        gains: pairs where only the second one passed.
        losses: pairs where only the first one passed.
        pairs: all pairs, at least 1.
        confidence: of the two-sided interval, between 0 and 1.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    estimate = (gains - losses) / pairs

    def beyond(delta: float) -> float:
        return _score(gains, losses, pairs, delta)

    return Interval(
        estimate,
        _root(lambda delta: beyond(delta) - z, -1.0, estimate),
        _root(lambda delta: beyond(delta) + z, estimate, 1.0),
    )


def _score(gains: int, losses: int, pairs: int, delta: float) -> float:
    """Return the score statistic of the hypothesis that the difference is ``delta``."""
    off = gains - losses - pairs * delta
    a = 2 * pairs
    b = -gains - losses + (2 * pairs - gains + losses) * delta
    c = -losses * delta * (1 - delta)
    # The share of losses that is likeliest if the difference is delta.
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = pairs * (2 * share + delta * (1 - delta))
    if variance <= 0:
        return 0.0 if abs(off) < 1e-12 else math.copysign(math.inf, off)
    return off / math.sqrt(variance)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function crosses 0 between two points; the nearer end if nowhere."""
    if function(low) <= 0:
        return low
    if function(high) >= 0:
        return high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def mcnemar(gains: int, losses: int) -> float:
    """Return the exact two-sided p value of "gains and losses are equally likely"."""
    changed = gains + losses
    tail = sum(math.comb(changed, k) for k in range(min(gains, losses) + 1))
    # Whole numbers until the end: with many prompts 2**changed is no float.
    return min(1.0, 2 * tail / 2**changed) if changed else 1.0


def bootstrap(differences: Sequence[float], confidence: float = 0.95, seed: int = 7) -> Interval:
    """Return the mean of paired differences with its percentile bootstrap interval.

    The same differences give the same interval.
    """
    count = len(differences)
    source = random.Random(seed)  # noqa: S311 - resampling, no secret
    means = sorted(
        math.fsum(source.choices(differences, k=count)) / count for _ in range(RESAMPLES)
    )
    edge = (1 - confidence) / 2
    low = means[int(edge * (RESAMPLES - 1))]
    high = means[math.ceil((1 - edge) * (RESAMPLES - 1))]
    return Interval(math.fsum(differences) / count, low, high)


def verdict(interval: Interval, tolerance: float) -> str:
    """Return whether the second one is at most ``tolerance`` worse, with the interval's confidence.

    The whole interval must lie on one side of the tolerance, or the number of prompts cannot tell.
    """
    if interval.low >= -tolerance:
        return GOOD
    return BAD if interval.high < -tolerance else OPEN


def pairs_needed(gains: int, losses: int, pairs: int, tolerance: float, confidence: float) -> int:
    """Return about how many prompts would tell, if the shares of gains and losses stay as they are.

    0 if more prompts of this kind would not help: the estimate itself lies on the tolerance.
    """
    for factor in (2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128):
        found = tango(gains * factor, losses * factor, pairs * factor, confidence)
        if verdict(found, tolerance) != OPEN:
            return pairs * factor
    return 0
