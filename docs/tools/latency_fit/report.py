"""Cross-validation: predict the figures of a group from constants that never saw it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .priors import Prior
from .rows import Case
from .solve import fit, residual


@dataclass(frozen=True)
class Prediction:
    """A case with the logarithm of predicted over measured."""

    case: Case
    log_ratio: float

    @property
    def error(self) -> float:
        """The relative error, unsigned."""
        return abs(math.exp(self.log_ratio) - 1)

    @property
    def predicted(self) -> float:
        """The predicted value in the unit of the measured one."""
        return self.case.measured * math.exp(self.log_ratio)


def in_sample(cases: Sequence[Case], logs: Mapping[str, float]) -> list[Prediction]:
    """Predict every case with the given constants."""
    return [Prediction(case, residual(case, logs).value) for case in cases]


def leave_out(
    cases: Sequence[Case], table: Mapping[str, Prior], group: Callable[[Case], str]
) -> list[Prediction]:
    """Predict each group of cases with constants fitted to all others."""
    found: list[Prediction] = []
    for name in sorted({group(case) for case in cases}):
        rest = [case for case in cases if group(case) != name]
        held = [case for case in cases if group(case) == name]
        found += in_sample(held, fit(rest, table))
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def by_kind(predictions: Sequence[Prediction]) -> dict[str, tuple[int, float, float]]:
    """Return figures, median and 90th percentile of the error, by metric kind."""
    groups: dict[str, list[float]] = {}
    for one in predictions:
        groups.setdefault(one.case.kind, []).append(one.error)
    return {
        kind: (len(errors), median(errors), quantile(errors, 0.9))
        for kind, errors in sorted(groups.items())
    }


def table_of(title: str, predictions: Sequence[Prediction], key: Callable[[Case], str]) -> str:
    """Return a Markdown table of errors by a key of the cases."""
    groups: dict[str, list[float]] = {}
    for one in predictions:
        groups.setdefault(key(one.case), []).append(one.error)
    lines = [f"{title}\n", "| | n | median | p90 |", "|---|---|---|---|"]
    for name, errors in sorted(groups.items()):
        middle, late = median(errors), quantile(errors, 0.9)
        lines.append(f"| {name} | {len(errors)} | {middle:.1%} | {late:.1%} |")
    return "\n".join(lines) + "\n"
