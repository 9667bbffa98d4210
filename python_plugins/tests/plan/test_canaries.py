"""Weights of canaries: whole numbers that give each its share with any number of engines."""

from __future__ import annotations

import itertools

import pytest

from tresor.plan.canaries import MOST, add_canaries, share_weights

COUNTS = (1, 2, 3, 5, 7, 16)


@pytest.mark.parametrize("own", COUNTS)
def test_share_is_right_with_any_number_of_engines(own: int) -> None:
    for count, percent in itertools.product(COUNTS, range(1, 51)):
        one, [canary] = share_weights(own, [(percent, count)])

        assert 1 <= one <= MOST
        assert all(0 <= weight <= MOST for weight in canary)
        assert len(canary) == count
        share = 100 * sum(canary) / (one * own + sum(canary))
        assert abs(share - percent) <= 0.05, (count, percent, one, canary)


@pytest.mark.parametrize("own", COUNTS)
def test_more_percent_takes_nothing_from_a_canary(own: int) -> None:
    """A conversation moves only where a weight grew in relation to that of its home."""
    for count, percent in itertools.product(COUNTS, range(1, 50)):
        less, [before] = share_weights(own, [(percent, count)])
        more, [after] = share_weights(own, [(percent + 1, count)])

        for old, new in zip(before, after, strict=True):
            assert new * less >= old * more, (count, percent)


def test_two_canaries_get_a_share_each() -> None:
    for first, second in ((1, 49), (5, 10), (25, 25), (50, 0)):
        wanted = [(percent, count) for percent, count in ((first, 2), (second, 3)) if percent]
        one, shares = share_weights(4, wanted)

        whole = 4 * one + sum(map(sum, shares))
        for (percent, _), share in zip(wanted, shares, strict=True):
            assert abs(100 * sum(share) / whole - percent) <= 0.05


def test_smallest_share_leaves_one_engine_with_weight() -> None:
    one, [canary] = share_weights(1, [(1, 16)])

    assert (one, sum(canary), max(canary)) == (1000, 10, 1)


def test_site_without_canaries_has_no_weights() -> None:
    entries = [{"name": "a", "instances": ["a-1"]}]

    assert add_canaries(entries, [{"name": "a"}]) == entries
