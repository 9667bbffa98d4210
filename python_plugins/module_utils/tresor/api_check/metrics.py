"""Read a counter from a Prometheus text exposition."""

from __future__ import annotations

import re

SERVED = "vllm:request_success_total"
"""vLLM's counter of finished requests, one series per way they finished."""

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})? (\S+)(?: -?\d+)?$")


class MetricMissing(ValueError):  # noqa: N818
    """The exposition does not hold the counter."""


def total(text: str, name: str = SERVED) -> float:
    """Return the sum of a counter over all its series.

    Raises:
        MetricMissing: there is no such series.
    """
    values = [
        float(match[2])
        for line in text.splitlines()
        if (match := _SAMPLE.match(line)) and match[1] == name
    ]
    if not values:
        raise MetricMissing(f"the engine's /metrics has no series {name}")
    return sum(values)
