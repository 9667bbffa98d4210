"""Robust least squares with priors: Gauss-Newton, Levenberg's damping, Huber's weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tresor.sizing.latency.choice import choose
from tresor.sizing.latency.constants import Constants

from .priors import FIXED, Prior
from .rows import Case, logarithm, weights

# A figure's own scatter (of its logarithm), and where the loss turns from square to linear.
SCATTER = 0.10
KNEE = 1.5
STEP = 1e-3
ITERATIONS = 15
# What a prediction counts that does not exist (a service said to be impossible that was measured).
IMPOSSIBLE = 3.0


class _Recorder(dict[str, float]):
    """Constants that note which of them a prediction looked at."""

    def __init__(self, logs: Mapping[str, float]) -> None:
        super().__init__(logs)
        self.seen: set[str] = set()

    def __getitem__(self, key: str) -> float:
        self.seen.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: float = 0.0) -> float:  # type: ignore[override]
        if key in self:
            self.seen.add(key)
        return super().get(key, default)


@dataclass(frozen=True)
class Residual:
    """The logarithm of predicted over measured, and the constants it depends on."""

    value: float
    depends: frozenset[str]


def residual(case: Case, logs: Mapping[str, float]) -> Residual:
    """Return the residual of a case under the logarithms of constants."""
    recorder = _Recorder({**FIXED, **logs})
    _, _, found = choose(case.questions, Constants(recorder))
    predicted = logarithm(getattr(found, case.attribute))
    value = IMPOSSIBLE if predicted is None else predicted - math.log(case.measured)
    return Residual(value, frozenset(recorder.seen))


def fit(cases: Sequence[Case], table: Mapping[str, Prior]) -> dict[str, float]:
    """Return the logarithms of the constants that fit the cases best, given their priors."""
    names = list(table)
    means = [table[name][0] for name in names]
    deviations = [table[name][1] for name in names]
    shares = weights(list(cases))
    point = list(means)

    def cost(where: Sequence[float], found: Sequence[Residual]) -> float:
        losses = (share * _huber(one.value) for share, one in zip(shares, found, strict=True))
        held = zip(where, means, deviations, strict=True)
        return sum(losses) + sum(0.5 * ((x - mean) / sd) ** 2 for x, mean, sd in held)

    def at(where: Sequence[float]) -> list[Residual]:
        logs = dict(zip(names, where, strict=True))
        return [residual(case, logs) for case in cases]

    found = at(point)
    best = cost(point, found)
    damping = 1.0
    for _ in range(ITERATIONS):
        matrix, gradient = _normal_equations(cases, names, point, found, shares)
        for index, (mean, sd) in enumerate(zip(means, deviations, strict=True)):
            matrix[index][index] += 1 / sd**2
            gradient[index] += (point[index] - mean) / sd**2
        moved = _improve(matrix, gradient, point, damping=damping, at=at, cost=cost, best=best)
        if moved is None:
            break
        gained = best - moved[2]
        point, found, best, damping = moved
        if gained < 1e-3 * best:
            break
    return dict(zip(names, point, strict=True))


def _improve(
    matrix: list[list[float]],
    gradient: list[float],
    point: list[float],
    *,
    damping: float,
    at: Callable[[Sequence[float]], list[Residual]],
    cost: Callable[[Sequence[float], Sequence[Residual]], float],
    best: float,
) -> tuple[list[float], list[Residual], float, float] | None:
    """Return a better point with its residuals, cost and damping, None if there is none near."""
    for _ in range(7):
        damped = [list(row) for row in matrix]
        for index, row in enumerate(damped):
            row[index] *= 1 + damping
        move = _solve(damped, gradient)
        trial = [x - max(-0.5, min(0.5, step)) for x, step in zip(point, move, strict=True)]
        residuals = at(trial)
        reached = cost(trial, residuals)
        if reached < best:
            return trial, residuals, reached, max(1e-3, damping / 4)
        damping *= 4
    return None


def _huber(value: float) -> float:
    size = abs(value) / SCATTER
    return 0.5 * size * size if size < KNEE else KNEE * size - 0.5 * KNEE**2


def _normal_equations(
    cases: Sequence[Case],
    names: Sequence[str],
    point: Sequence[float],
    found: Sequence[Residual],
    shares: Sequence[float],
) -> tuple[list[list[float]], list[float]]:
    size = len(names)
    matrix = [[0.0] * size for _ in range(size)]
    gradient = [0.0] * size
    base = dict(zip(names, point, strict=True))
    for case, now, share in zip(cases, found, shares, strict=True):
        slopes = []
        for index, name in enumerate(names):
            if name not in now.depends:
                continue
            moved = residual(case, {**base, name: base[name] + STEP}).value
            if moved != now.value:
                slopes.append((index, (moved - now.value) / STEP))
        scaled = abs(now.value) / SCATTER
        weight = share * (1.0 if scaled < KNEE else KNEE / scaled) / SCATTER**2
        for left, slope in slopes:
            gradient[left] += weight * slope * now.value
            for right, other in slopes:
                matrix[left][right] += weight * slope * other
    return matrix, gradient


def _solve(matrix: list[list[float]], right: Sequence[float]) -> list[float]:
    """Solve a symmetric positive definite system by Cholesky's factorization."""
    size = len(right)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = math.sqrt(max(rest, 1e-12)) if i == j else rest / lower[j][j]
    forward = [0.0] * size
    for i in range(size):
        known = sum(lower[i][k] * forward[k] for k in range(i))
        forward[i] = (right[i] - known) / lower[i][i]
    solution = [0.0] * size
    for i in reversed(range(size)):
        known = sum(lower[k][i] * solution[k] for k in range(i + 1, size))
        solution[i] = (forward[i] - known) / lower[i][i]
    return solution
