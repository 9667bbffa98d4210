"""Say how far a prediction was from what the engine took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from .observed import Observed

SCHEMA: Final = "engine-sizing/v1"
OK, WARN, FAIL, NOTHING = "ok", "warn", "fail", "nothing_to_compare"
COMPARED: Final = (
    ("kv_cache_tokens", "kv_tokens"),
    ("available_kv_gib_per_gpu", "kv_gib"),
    ("weights_gib_per_gpu", "weights_gib"),
)
"""Key of the prediction, field of the observation."""


@dataclass(frozen=True)
class Difference:
    """One figure; `error_percent` is positive where the prediction promised too much."""

    figure: str
    predicted: float
    observed: float
    error_percent: float


@dataclass(frozen=True)
class Comparison:
    """The verdict on one engine: ok, warn, fail or nothing_to_compare; and what it rests on."""

    verdict: str
    differences: tuple[Difference, ...]
    missing: tuple[str, ...]

    def says(self) -> str:
        """Return the result in one sentence for an operator."""
        if self.verdict == NOTHING:
            return "the engine keeps no KV cache and told no figure of the plan"
        parts = [
            f"{one.figure}: planned {one.predicted:,.10g}, the engine has {one.observed:,.10g} "
            f"({one.error_percent:+.2f} %)"
            for one in self.differences
        ]
        if self.missing:
            parts.append(f"not told by the engine: {', '.join(self.missing)}")
        return "; ".join(parts)


def compare(
    predicted: Mapping[str, Any], observed: Observed, *, warn_percent: float, fail_percent: float
) -> Comparison:
    """Compare every figure that both know; the worst error decides.

    A KV cache that was planned and that the engine says nothing about is a warning: the loop is
    open. Weights and KV memory are not told by every engine, so they may be missing.
    """
    differences: list[Difference] = []
    missing: list[str] = []
    for key, name in COMPARED:
        plan, seen = predicted.get(key), getattr(observed, name)
        if not plan:
            continue
        if not seen:
            missing.append(key)
            continue
        error = 100 * (plan - seen) / seen
        differences.append(Difference(key, plan, seen, round(error, 4)))
    return Comparison(
        _verdict(differences, missing, warn_percent, fail_percent),
        tuple(differences),
        tuple(missing),
    )


def _verdict(
    differences: list[Difference], missing: list[str], warn_percent: float, fail_percent: float
) -> str:
    worst = max((abs(one.error_percent) for one in differences), default=0.0)
    if worst > fail_percent:
        return FAIL
    if worst > warn_percent or COMPARED[0][0] in missing:
        return WARN
    return OK if differences else NOTHING


def record(
    instance: str,
    predicted: Mapping[str, Any],
    observed: Observed,
    comparison: Comparison,
    *,
    warn_percent: float,
    fail_percent: float,
) -> dict[str, Any]:
    """Return what is kept on the host; without a time, so that equal starts give equal records."""
    return {
        "schema": SCHEMA,
        "instance": instance,
        "verdict": comparison.verdict,
        "warn_percent": warn_percent,
        "fail_percent": fail_percent,
        "predicted": {key: predicted.get(key) for key, _ in COMPARED},
        "observed": observed.as_dict(),
        "differences": [asdict(one) for one in comparison.differences],
        "missing": list(comparison.missing),
    }
