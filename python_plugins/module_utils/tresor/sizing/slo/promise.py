"""What is promised, and under which load."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..latency import LatencyError

# A prediction this close to its limit is not a promise: the goal of the model's own error.
MARGIN: Final = 0.15
_LOAD_KEYS: Final = frozenset(
    {
        "users",
        "input_tokens",
        "output_tokens",
        "input_tokens_p95",
        "output_tokens_p95",
        "cached_tokens",
        "think_seconds",
    }
)


@dataclass(frozen=True)
class Promise:
    """Limits at the 95th percentile in milliseconds, as ``slo.yml`` states them."""

    ttft_p95_ms: float
    e2e_p95_ms: float

    @classmethod
    def read(cls, slo: Mapping[str, Any]) -> Promise:
        """Read the two limits of ``tresor_slo``; its other keys are not about latency.

        Raises:
            LatencyError: a limit is missing or no positive number.
        """
        return cls(*(_positive(slo, key, None) for key in ("ttft_p95_ms", "e2e_p95_ms")))


@dataclass(frozen=True)
class Load:
    """The busiest time: users and their requests.

    ``users`` each wait for an answer, then think for ``think_seconds`` before the next question.
    Tokens are means with their 95th percentiles; ``cached_tokens`` of a prompt (a shared system
    prompt, the conversation so far) are found in the prefix cache and come on top.
    """

    users: int
    input_tokens: float
    output_tokens: float
    input_tokens_p95: float
    output_tokens_p95: float
    cached_tokens: float = 0.0
    think_seconds: float = 0.0

    @classmethod
    def read(cls, load: Mapping[str, Any]) -> Load:
        """Read a load; percentiles that are left out equal the mean.

        Raises:
            LatencyError: a key is unknown, missing or absurd, or a percentile is below its mean.
        """
        unknown = sorted(set(load) - _LOAD_KEYS)
        if unknown:
            raise LatencyError(
                f"load.{unknown[0]}: no such key; known are {', '.join(sorted(_LOAD_KEYS))}"
            )
        users = _positive(load, "users", None)
        if users != int(users):
            raise LatencyError(f"load.users: {users} is not a whole number")
        means = {key: _positive(load, key, None) for key in ("input_tokens", "output_tokens")}
        late = {}
        for key, mean in means.items():
            late[key] = _positive(load, f"{key}_p95", mean)
            if late[key] < mean:
                raise LatencyError(
                    f"load.{key}_p95: {late[key]:g} is less than the mean {mean:g}; "
                    f"write {mean:g} or more"
                )
        return cls(
            users=int(users),
            input_tokens=means["input_tokens"],
            output_tokens=means["output_tokens"],
            input_tokens_p95=late["input_tokens"],
            output_tokens_p95=late["output_tokens"],
            cached_tokens=_not_negative(load, "cached_tokens"),
            think_seconds=_not_negative(load, "think_seconds"),
        )


def _positive(values: Mapping[str, Any], key: str, default: float | None) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise LatencyError(f"{key}: {str(value)[:40]!r} is not a number above 0")
    if not math.isfinite(value):
        raise LatencyError(f"{key}: {value} is not finite")
    return float(value)


def _not_negative(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise LatencyError(f"{key}: {str(value)[:40]!r} is not a number from 0 on")
    if not math.isfinite(value):
        raise LatencyError(f"{key}: {value} is not finite")
    return float(value)
