"""Sums over a growing context, in closed form."""

from __future__ import annotations


def mean_cached(start: float, end: float, window: int | None) -> float:
    """Return the mean of min(length, window) while a length grows from ``start`` to ``end``."""
    if window is None or end <= window:
        return (start + end) / 2
    if start >= window:
        return float(window)
    growing = (window - start) * (start + window) / 2
    return (growing + (end - window) * window) / (end - start)


def causal_pairs(before: float, tokens: float, window: int | None) -> float:
    """Return the number of query-key pairs of a prefill.

    ``tokens`` new tokens follow ``before`` cached ones; each sees all tokens up to itself, of which
    at most ``window``.
    """
    return tokens * mean_cached(before, before + tokens, window)
