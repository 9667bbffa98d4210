"""Fit the constants of the memory model on measured start-ups, and say how good they are.

``docs/tools/sizing_fit.py CASES.csv MODELS.json`` prints the fit and its cross-validation: each
model family is predicted with constants fitted on all others. ``--write`` writes the constants into
the product, ``--plot FILE.svg`` draws predicted against measured. The measurements themselves are
never part of the product. Columns of CASES.csv are those of ``COLUMNS`` below; empty means the
engine's default, or not measured. A row of low confidence is held to its weights only.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "python_plugins" / "module_utils")]

from docs.tools.sizing_plot import plot  # noqa: E402
from tresor.sizing.errors import SizingError  # noqa: E402
from tresor.sizing.estimate import estimate_with, setting_of  # noqa: E402
from tresor.sizing.memory import activation, overhead  # noqa: E402
from tresor.sizing.memory.activation import GIB  # noqa: E402
from tresor.sizing.memory.budget import Setting, batch_of  # noqa: E402
from tresor.sizing.memory.constants import Constants  # noqa: E402
from tresor.sizing.memory.options import Request, request_of  # noqa: E402

FITTED = ROOT / "python_plugins/module_utils/tresor/sizing/memory/fitted.py"
COLUMNS = {
    "tp": ("tensor_parallel_size", int),
    "pp": ("pipeline_parallel_size", int),
    "dp": ("data_parallel_size", int),
    "gpu_total_gib": ("gpu_total_gib", float),
    "gpu_memory_utilization": ("gpu_memory_utilization", float),
    "max_model_len": ("max_model_len", int),
    "max_num_seqs": ("max_num_seqs", int),
    "max_num_batched_tokens": ("max_num_batched_tokens", int),
    "block_size": ("block_size", int),
    "gpu": ("gpu", str),
    "kv_cache_dtype": ("kv_cache_dtype", str),
    "weight_quant": ("quantization", str),
    "vllm_version": ("vllm_version", str),
}
MEASURED = (
    "weights_gib_per_gpu",
    "peak_activation_gib",
    "non_torch_gib",
    "cudagraph_gib",
    "available_kv_gib_per_gpu",
    "kv_cache_tokens",
)
# From here on the engine behaves as the rows that the constants are fitted on.
_NEW = 17


@dataclass(frozen=True)
class Case:
    """One start-up: what was asked, and what was measured."""

    name: str
    family: str
    options: dict[str, Any]
    measured: dict[str, float]
    outcome: str
    fail_kind: str | None


@dataclass(frozen=True)
class Errors:
    """Errors of predictions: shares for weights and tokens, share of the card for pools."""

    weights: tuple[float, ...]
    pool: tuple[float, ...]
    tokens: tuple[float, ...]
    wrong_verdicts: tuple[str, ...]
    points: tuple[tuple[str, float, float], ...]


def read_cases(cases: Path, models: Path) -> list[Case]:
    """Read the rows; a model that the reduced descriptions have is asked by its description."""
    described = {entry["model_id"]: entry for entry in json.loads(models.read_text())["models"]}
    with cases.open(newline="") as stream:
        return [_case(row, described) for row in csv.DictReader(stream)]


def _case(row: dict[str, str], described: dict[str, Any]) -> Case:
    options: dict[str, Any] = {"model": described.get(row["model_id"], row["model_id"])}
    for column, (option, kind) in COLUMNS.items():
        if row.get(column):
            options[option] = kind(row[column])
    options["enforce_eager"] = row.get("enforce_eager") == "1"
    options["enable_expert_parallel"] = row.get("ep") not in ("", "0", None)
    measured = MEASURED[:1] if row.get("confidence") == "low" else MEASURED
    free = re.search(r"free_gib=([\d.]+)", row.get("notes", ""))
    if free:
        options["free_gib"] = float(free[1])
    return Case(
        row["case_id"],
        row["family"],
        options,
        {name: float(row[name]) for name in measured if row.get(name)},
        row["outcome"],
        row["fail_kind"].partition("(")[0] or None,
    )


def fit(cases: Sequence[Case]) -> Constants:
    """Return the constants that fit these cases; what they do not determine keeps its default."""
    constants = Constants()
    values = {**_non_torch(cases), **_graphs(cases)}
    constants = dataclasses.replace(constants, **values)
    constants = dataclasses.replace(constants, **_peaks(cases, constants))
    return dataclasses.replace(constants, **_warm_up(cases, constants))


def _non_torch(cases: Sequence[Case]) -> dict[str, float]:
    """Medians by engine age and parallelism; with tensor parallelism a line over the ranks."""
    groups: dict[str, list[float]] = {}
    line: list[tuple[list[float], float]] = []
    for case in cases:
        if "non_torch_gib" not in case.measured:
            continue
        setting = setting_of(request_of(case.options))
        value, tensor = case.measured["non_torch_gib"], setting.layout.tensor
        if tensor > 1 and setting.engine.since(_NEW):
            line.append(([1.0, float(tensor)], value))
        else:
            groups.setdefault(_non_torch_name(setting), []).append(value)
    found = {name: statistics.median(values) for name, values in groups.items()}
    if len({tuple(x) for x, _ in line}) > 1:
        found["non_torch_tp"], found["non_torch_tp_rank"] = least_squares(line)
    return found


def _non_torch_name(setting: Setting) -> str:
    """Return the constant that `overhead.non_torch` reads for a setting."""
    tensor, pipeline = setting.layout.tensor, setting.layout.pipeline
    if not setting.engine.since(12):
        if tensor == 1:
            return "non_torch_old"
        return "non_torch_tp_old" if setting.engine.v1 else "non_torch_tp_v0"
    if not setting.engine.since(_NEW):
        return "non_torch_middle"
    return "non_torch_pp" if pipeline > 1 else "non_torch"


_GRAPH_TERMS = (
    "graph_base",
    "graph_layer",
    "graph_hidden",
    "graph_tp",
    "graph_expert",
)


def _graphs(cases: Sequence[Case]) -> dict[str, float]:
    """Least squares over the terms of `overhead.graphs`, each a constant times a known factor."""
    zero = dataclasses.replace(Constants(), **dict.fromkeys(_GRAPH_TERMS, 0.0))
    samples: list[tuple[list[float], float]] = []
    for case in cases:
        if "cudagraph_gib" not in case.measured:
            continue
        request = request_of(case.options)
        setting = setting_of(request)
        if not setting.engine.since(_NEW):
            continue
        # `graph_tp` is negative and clipped at zero together with the others, so it is counted
        # on top of a large hidden term.
        row = []
        for term in _GRAPH_TERMS:
            base = dataclasses.replace(zero, graph_hidden=1e3) if term == "graph_tp" else zero
            one = dataclasses.replace(base, **{term: getattr(base, term) + 1.0})
            row.append(_graph_gib(setting, request, one) - _graph_gib(setting, request, base))
        samples.append((row, case.measured["cudagraph_gib"]))
    kept = [i for i in range(len(_GRAPH_TERMS)) if any(row[i] for row, _ in samples)]
    if len(samples) <= len(kept):
        return {}
    solved = least_squares([([row[i] for i in kept], value) for row, value in samples])
    return {_GRAPH_TERMS[i]: value for i, value in zip(kept, solved, strict=True)}


def _graph_gib(setting: Setting, request: Request, constants: Constants) -> float:
    batch = batch_of(setting, request)
    model, engine = setting.model, setting.engine
    captured = overhead.capture_sizes(model, engine, setting.card, batch)
    size = overhead.graphs(model, setting.layout, engine, captured, constants)
    return size / GIB


def _peaks(cases: Sequence[Case], constants: Constants) -> dict[str, float]:
    """Medians of what the profile peak has beyond the counted tensors, by what dominates it."""
    bare = dataclasses.replace(constants, workspace=0.0, forward=0.0, encoder=0.0)
    sampled: list[float] = []
    layered: list[float] = []
    seeing: list[float] = []
    for case in cases:
        if "peak_activation_gib" not in case.measured:
            continue
        request = request_of(case.options)
        setting = setting_of(request)
        if not setting.engine.since(_NEW) or setting.layout.pipeline > 1:
            continue
        peak = activation.peak(
            setting.model,
            setting.layout,
            setting.engine,
            batch_of(setting, request),
            bare,
            first=True,
            last=True,
        )
        beyond = case.measured["peak_activation_gib"] - peak.bytes / GIB
        if setting.model.vision is not None:
            if peak.encoder < 0.95 * peak.sampler:
                seeing.append(beyond)
        elif peak.forward > peak.sampler:
            layered.append(beyond)
        else:
            sampled.append(beyond)
    found: dict[str, float] = {}
    if sampled:
        found["workspace"] = statistics.median(sampled)
    workspace = found.get("workspace", constants.workspace)
    if layered:
        found["forward"] = max(0.0, statistics.median(layered) - workspace)
    if seeing:
        found["encoder"] = max(0.0, statistics.median(seeing) - workspace)
    return found


def _warm_up(cases: Sequence[Case], constants: Constants) -> dict[str, float]:
    """Bytes per logit halfway between start-ups that just passed and those that just failed."""
    passed: list[float] = []
    failed: list[float] = []
    for case in cases:
        request = request_of(case.options)
        setting = setting_of(request)
        graphs = case.measured.get("cudagraph_gib")
        if graphs is None or not setting.engine.since(_NEW) or setting.engine.since(20):
            continue
        batch = batch_of(setting, request)
        used = request.gpu_memory_utilization or setting.engine.gpu_memory_utilization
        outside = setting.card.total_gib * (1 - used) - constants.context
        per_logit = (outside - graphs) * GIB / (batch.sequences * setting.model.vocab_size)
        if case.outcome == "fit":
            passed.append(per_logit)
        elif case.fail_kind == "oom_after_kv_allocation":
            failed.append(per_logit)
    if not passed or not failed or min(passed) < max(failed):
        return {}
    return {"warm_up_logit_bytes": (min(passed) + max(failed)) / 2}


def least_squares(samples: Sequence[tuple[Sequence[float], float]]) -> list[float]:
    """Solve the normal equations by elimination with row exchange."""
    size = len(samples[0][0])
    matrix = [
        [sum(x[i] * x[j] for x, _ in samples) for j in range(size)]
        + [sum(x[i] * y for x, y in samples)]
        for i in range(size)
    ]
    for i in range(size):
        pivot = max(range(i, size), key=lambda row: abs(matrix[row][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        if abs(matrix[i][i]) < 1e-12:
            raise SystemExit("the cases do not determine the constants; give more of them")
        for row in range(size):
            if row != i:
                factor = matrix[row][i] / matrix[i][i]
                matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[i], strict=True)]
    return [matrix[i][size] / matrix[i][i] for i in range(size)]


def judge(cases: Iterable[Case], constants: Constants) -> Errors:
    """Predict the cases and return the errors."""
    weights: list[float] = []
    pool: list[float] = []
    tokens: list[float] = []
    wrong: list[str] = []
    points: list[tuple[str, float, float]] = []
    for case in cases:
        answer = estimate_with(constants, case.options)
        if case.outcome in ("fit", "no_fit") and (answer["outcome"], answer["fail_kind"]) != (
            case.outcome,
            case.fail_kind,
        ):
            wrong.append(f"{case.name}: {case.fail_kind or 'fit'}, predicted {answer['fail_kind']}")
        measured, total = case.measured, answer["resolved"]["gpu_total_gib"]
        for name, scale, errors in (
            ("weights_gib_per_gpu", None, weights),
            ("available_kv_gib_per_gpu", total, pool),
            ("kv_cache_tokens", None, tokens),
        ):
            if name in measured and answer[name] is not None:
                difference = abs(answer[name] - measured[name])
                errors.append(difference / (scale or abs(measured[name])))
                points.append((name, measured[name], answer[name]))
    return Errors(tuple(weights), tuple(pool), tuple(tokens), tuple(wrong), tuple(points))


def merge(parts: Iterable[Errors]) -> Errors:
    """Return the errors of several sets as one."""
    listed = list(parts)
    return Errors(
        tuple(value for part in listed for value in part.weights),
        tuple(value for part in listed for value in part.pool),
        tuple(value for part in listed for value in part.tokens),
        tuple(value for part in listed for value in part.wrong_verdicts),
        tuple(value for part in listed for value in part.points),
    )


def summary(values: Sequence[float]) -> str:
    """Return n, median, p90 and p95 in percent."""
    if not values:
        return "n 0"
    ordered = sorted(values)
    p90, p95 = (ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.9, 0.95))
    return (
        f"n {len(ordered)}, median {100 * statistics.median(ordered):.2f} %, "
        f"p90 {100 * p90:.2f} %, p95 {100 * p95:.2f} %"
    )


def report(title: str, errors: Errors) -> None:
    """Print one block of figures."""
    print(f"{title}\n  weights: {summary(errors.weights)}")
    print(f"  pool (share of the card): {summary(errors.pool)}")
    print(f"  tokens: {summary(errors.tokens)}")
    for line in errors.wrong_verdicts:
        print(f"  wrong verdict {line}")


def write_constants(constants: Constants, path: Path) -> None:
    """Write the constants that differ from their defaults."""
    default = Constants()
    lines = [
        '"""Constants fitted on measured start-ups. Written by docs/tools/sizing_fit.py."""',
        "",
        "from __future__ import annotations",
        "",
        "VALUES: dict[str, float] = {",
    ]
    for field in dataclasses.fields(Constants):
        value = getattr(constants, field.name)
        if value != getattr(default, field.name):
            lines.append(f'    "{field.name}": {round(value, 4)},')
    path.write_text("\n".join([*lines, "}", ""]))


def cross_validate(
    cases: Sequence[Case], fitter: Callable[[Sequence[Case]], Constants] = fit
) -> dict[str, Errors]:
    """Return for every family the errors with constants fitted on the others."""
    found = {}
    for family in sorted({case.family for case in cases}):
        others = [case for case in cases if case.family != family]
        found[family] = judge([c for c in cases if c.family == family], fitter(others))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--write", action="store_true", help="write the product's constants")
    parser.add_argument("--plot", type=Path, help="draw predicted against measured as SVG")
    chosen = parser.parse_args(arguments)
    try:
        cases = read_cases(chosen.cases, chosen.models)
        constants = fit(cases)
        for field in dataclasses.fields(Constants):
            print(f"{field.name} = {getattr(constants, field.name):.4g}")
        report("fitted on all", judge(cases, constants))
        families = cross_validate(cases)
        for family, errors in families.items():
            count = sum(case.family == family for case in cases)
            report(f"without {family} (n {count})", errors)
        together = merge(families.values())
        report("cross-validated, all families", together)
    except (OSError, KeyError, ValueError, SizingError) as error:
        print(f"sizing_fit: {error}", file=sys.stderr)
        return 2
    if chosen.plot:
        plot(together.points, chosen.plot)
    if chosen.write:
        write_constants(constants, FITTED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
