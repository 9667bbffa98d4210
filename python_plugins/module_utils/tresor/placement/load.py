"""How many users an engine carries within the service level, as far as the latency model knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..sizing.errors import SizingError

Latency = Callable[..., Mapping[str, Any]]
"""`tresor.sizing.latency`."""
MOST_USERS: Final = 4096
"""No engine is asked about more users at a time."""


@dataclass(frozen=True)
class Load:
    """What a model carries at peak: users at the same time, tokens of prompt and answer."""

    users: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Carried:
    """How many users one engine serves within the targets, and the figures there.

    With `users` 0 the figures are those of a single user, and `why` says which target is missed.
    """

    users: int
    ttft_p95_ms: float | None
    e2e_p95_ms: float | None
    why: str = ""


@dataclass(frozen=True)
class Targets:
    """The service level that latency is held to, in milliseconds at the 95th percentile."""

    ttft_p95_ms: float
    e2e_p95_ms: float

    def missed(self, answer: Mapping[str, Any]) -> str:
        """Return which target an answer of the latency model misses, or nothing."""
        for key in ("ttft_p95_ms", "e2e_p95_ms"):
            value, target = answer.get(key), getattr(self, key)
            if not isinstance(value, (int, float)):
                return f"{key} is not known"
            if value > target:
                return f"{key} would be {value:.0f}, the service level says {target:g}"
        return ""


def loads_of(planning: Mapping[str, Any]) -> dict[str, Load]:
    """Return the load of each model that `planning.yml` states."""
    return {
        entry["model"]: Load(
            entry["concurrent_users"], entry["prompt_tokens"], entry["output_tokens"]
        )
        for entry in planning.get("load", ())
    }


def carried(keys: Mapping[str, Any], load: Load, targets: Targets, latency: Latency) -> Carried:
    """Return the most users that one engine carries; a binary search over the latency model.

    `keys` describe the engine, as `engine_keys` gives them.
    """
    tokens = {"input_tokens": load.prompt_tokens, "output_tokens": load.output_tokens}

    def ask(users: int) -> Mapping[str, Any]:
        return latency(**keys, **tokens, concurrency=users)

    try:
        answer = ask(1)
        missed = targets.missed(answer)
        if missed:
            return _carried(0, answer, f"even one user alone: {missed}")
        low, high = 1, 2
        while high <= MOST_USERS and not targets.missed(ask(high)):
            low, high = high, high * 2
        high = min(high, MOST_USERS)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if targets.missed(ask(middle)) else (middle, high)
        answer = ask(low)
    except SizingError as error:
        return Carried(0, None, None, str(error))
    return _carried(low, answer, "")


def _carried(users: int, answer: Mapping[str, Any], why: str) -> Carried:
    return Carried(users, _number(answer, "ttft_p95_ms"), _number(answer, "e2e_p95_ms"), why)


def _number(answer: Mapping[str, Any], key: str) -> float | None:
    value = answer.get(key)
    return round(float(value), 1) if isinstance(value, (int, float)) else None
