"""How many users an engine carries within the service level, as far as the latency model knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from ..sizing.errors import SizingError
from ..sizing.slo import Load, Promise
from ..sizing.slo.predict import Seen
from ..sizing.slo.promise import MARGIN

MOST_USERS: Final = 4096
"""No engine is asked about more users at a time."""


@dataclass(frozen=True)
class ServiceModel:
    """The two questions to `tresor.sizing.slo`: what users see, and what that means."""

    see: Callable[[Mapping[str, Any], Load], Seen]
    assess: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Carried:
    """How many users one engine serves within the promise; with none, `why` says why not."""

    users: int
    why: str = ""


def loads_of(planning: Mapping[str, Any]) -> dict[str, Load]:
    """Return the load of each model that `planning.yml` states; raises SizingError."""
    return {
        entry["model"]: Load.read({key: value for key, value in entry.items() if key != "model"})
        for entry in planning.get("load", ())
    }


def load_keys(load: Load) -> dict[str, Any]:
    """Return a load in the words of `planning.yml`."""
    return asdict(load)


def carried(keys: Mapping[str, Any], load: Load, promise: Promise, model: ServiceModel) -> Carried:
    """Return the most users that one engine carries, with the prediction's own error to spare.

    `keys` describe the engine, as `engine_keys` gives them. The search is binary, because more
    users never see less.
    """

    def kept(users: int) -> bool:
        seen = model.see(keys, replace(load, users=users))
        return seen.excess(promise) * (1 + MARGIN) <= 1

    try:
        if not kept(1):
            return Carried(0, _alone(model.see(keys, replace(load, users=1)), promise))
        low, high = 1, 2
        while high <= MOST_USERS and kept(high):
            low, high = high, high * 2
        high = min(high, MOST_USERS)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if kept(middle) else (low, middle)
    except SizingError as error:
        return Carried(0, str(error))
    return Carried(low)


def _alone(seen: Seen, promise: Promise) -> str:
    return (
        f"one user alone would see {seen.ttft_p95:.0f} ms to the first token and "
        f"{seen.e2e_p95:.0f} ms to the whole answer; promised are {promise.ttft_p95_ms:g} and "
        f"{promise.e2e_p95_ms:g}, with {100 * MARGIN:.0f} % to spare for the prediction's error"
    )
