"""Times and throughput of one instance, from its answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value that ``share`` (0 to 1) of the values do not exceed (nearest rank)."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def times(answers: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return median and 95th percentile in seconds: first token, each further token, whole."""
    per_token = [
        (one["total"] - one["first"]) / (one["tokens"] - 1) for one in answers if one["tokens"] > 1
    ]
    series = {
        "first_token": [one["first"] for one in answers],
        "per_token": per_token,
        "whole_answer": [one["total"] for one in answers],
    }
    return {
        name: {"p50": percentile(values, 0.5), "p95": percentile(values, 0.95)}
        for name, values in series.items()
    }


def load(answers: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, float]:
    """Return what an instance did when it was asked by several at once, per second."""
    tokens = sum(one["tokens"] for one in answers)
    return {
        "seconds": seconds,
        "output_tokens_per_second": tokens / seconds if seconds > 0 else 0.0,
        "requests_per_second": len(answers) / seconds if seconds > 0 else 0.0,
    }


def repeated(answers: Sequence[Mapping[str, Mapping[str, Any]]]) -> float:
    """Return the share of prompts that got the same text alone and among others.

    Batching changes the order of sums, so even one instance does not always repeat itself. Where
    two instances differ no more than this, the difference is noise.
    """
    same = [bool(one["single"]["text"] == one["crowded"]["text"]) for one in answers]
    return sum(same) / len(same)
