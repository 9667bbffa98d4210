"""The intervals and what they allow to say."""

from __future__ import annotations

import math
import random

import pytest

from tresor.evaluate.statistics import (
    BAD,
    GOOD,
    OPEN,
    bootstrap,
    mcnemar,
    pairs_needed,
    tango,
    verdict,
)

Z = 1.959963984540054


def likeliest(gains: int, losses: int, pairs: int, delta: float) -> float:
    """Return the share of losses that is likeliest under a difference, by brute force."""

    def likelihood(loss: float) -> float:
        gain, same = loss + delta, 1 - 2 * loss - delta
        total = 0.0
        for count, share in ((gains, gain), (losses, loss), (pairs - gains - losses, same)):
            if count:
                total += count * math.log(share) if share > 0 else -math.inf
        return total

    low, high = max(0.0, -delta), (1 - delta) / 2
    return max((low + (high - low) * step / 20_000 for step in range(20_001)), key=likelihood)


@pytest.mark.parametrize(
    ("gains", "losses", "pairs"), [(12, 2, 50), (3, 9, 64), (0, 4, 30), (5, 5, 40)]
)
def test_ends_of_the_interval_are_where_the_score_test_rejects(
    gains: int, losses: int, pairs: int
) -> None:
    """Against the definition: the statistic with the likeliest shares, found by brute force."""
    found = tango(gains, losses, pairs)
    for delta, sign in ((found.low, 1), (found.high, -1)):
        loss = likeliest(gains, losses, pairs, delta)
        spread = math.sqrt(pairs * (2 * loss + delta - delta * delta))
        assert (gains - losses - pairs * delta) / spread == pytest.approx(sign * Z, abs=1e-3)


def test_no_difference_at_all_still_has_the_width_of_so_few_prompts() -> None:
    found = tango(0, 0, 60)
    width = Z * Z / (60 + Z * Z)
    assert (found.estimate, found.low, found.high) == pytest.approx((0, -width, width))
    assert verdict(found, 0.05) == OPEN
    assert verdict(tango(0, 0, 100), 0.05) == GOOD


def test_interval_is_mirrored_when_the_two_are_exchanged() -> None:
    one, other = tango(7, 3, 80), tango(3, 7, 80)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@pytest.mark.parametrize(("gains", "losses"), [(10, 0), (0, 10)])
def test_extremes_stay_within_the_possible(gains: int, losses: int) -> None:
    found = tango(gains, losses, 10)
    assert -1 <= found.low <= found.estimate <= found.high <= 1


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    source, covered, rounds = random.Random(3), 0, 400  # noqa: S311
    for _ in range(rounds):
        draws = source.choices(("gain", "loss", "same"), (0.05, 0.10, 0.85), k=60)
        found = tango(draws.count("gain"), draws.count("loss"), 60)
        covered += found.low <= -0.05 <= found.high
    assert 0.92 <= covered / rounds <= 0.985


@pytest.mark.parametrize(
    ("gains", "losses", "expected"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (0, 6, 2 / 64), (0, 1000, 0.0)],
)
def test_mcnemar_is_the_exact_binomial(gains: int, losses: int, expected: float) -> None:
    assert mcnemar(gains, losses) == pytest.approx(expected)


def test_verdict_needs_the_whole_interval_on_one_side() -> None:
    assert verdict(tango(2, 2, 400), 0.05) == GOOD
    assert verdict(tango(0, 30, 100), 0.05) == BAD
    assert verdict(tango(1, 4, 40), 0.05) == OPEN


def test_needed_prompts_would_tell() -> None:
    needed = pairs_needed(1, 2, 60, 0.05, 0.95)
    factor = needed // 60
    assert needed > 60
    assert verdict(tango(factor, 2 * factor, needed), 0.05) == GOOD
    assert pairs_needed(0, 3, 60, 0.05, 0.95) == 0


def test_bootstrap_is_repeatable_and_near_the_normal_interval() -> None:
    values = [math.sin(n) / 2 for n in range(200)]
    found = bootstrap(values)
    mean = sum(values) / 200
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / 200 / 200)
    assert found == bootstrap(values)
    assert found.estimate == pytest.approx(mean)
    assert found.low == pytest.approx(mean - Z * error, abs=0.006)
    assert found.high == pytest.approx(mean + Z * error, abs=0.006)
