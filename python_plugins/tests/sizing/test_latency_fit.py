"""The fit recipe: finds constants back from figures made with them, cross-validates honestly."""

from __future__ import annotations

import csv
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from docs.tools.latency_fit.plot import picture
from docs.tools.latency_fit.priors import FIXED, priors
from docs.tools.latency_fit.report import by_kind, in_sample, leave_out, quantile
from docs.tools.latency_fit.rows import Case, RowError, options_of, read_cases
from docs.tools.latency_fit.solve import fit, residual
from tresor.sizing.latency import latency
from tresor.sizing.latency.answer import CONSTANTS
from tresor.sizing.latency.constants import Constants
from tresor.sizing.latency.question import answer

COLUMNS = (
    *("id", "model", "precision", "gpu", "n_gpus", "tp", "engine", "engine_version"),
    *("input_tokens", "output_tokens", "concurrency", "metric_kind"),
    *("ttft_ms", "itl_ms", "e2e_ms", "output_tok_s_total"),
)
MODELS = ("Llama-3.1-8B", "Qwen3-8B", "Mistral-7B-v0.1")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Invented figures: what a card with its own constants would have measured."""
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    rows = []
    for number, model in enumerate(MODELS * 4):
        row = dict.fromkeys(COLUMNS, "")
        row |= {"id": f"X{number}", "model": model, "precision": "bf16", "n_gpus": "1"}
        row |= {"gpu": "H100 SXM 80GB", "tp": "TP1", "engine": "vLLM", "engine_version": "2024"}
        row |= {"input_tokens": "512", "output_tokens": "128", "concurrency": str(1 + 9 * number)}
        row |= {"metric_kind": "offline_static_batch"}
        rows.append(row)
    _write(path, rows)
    for row, case in zip(rows, _predictable(rows, path), strict=True):
        question, work = case.questions[0]
        found = answer(question, Constants(_true_constants()), work)
        assert found.e2e is not None
        row["e2e_ms"] = repr(found.e2e * 1000)
        row["output_tok_s_total"] = repr(found.tokens_per_second)
    _write(path, rows)
    return path


def _true_constants() -> dict[str, float]:
    logs = {**FIXED, **{name: mean for name, (mean, _) in priors().items()}}
    logs["layer_us"] += math.log(1.5)
    logs["bandwidth"] -= 0.1
    return logs


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _predictable(rows: list[dict[str, str]], path: Path) -> list[Case]:
    _write(path, [{**row, "e2e_ms": "1"} for row in rows])
    return read_cases(path)


def test_constants_are_found_back(table: Path) -> None:
    cases = read_cases(table)
    before = [abs(residual(case, {n: m for n, (m, _) in priors().items()}).value) for case in cases]
    logs = fit(cases, priors())
    after = [abs(one.log_ratio) for one in in_sample(cases, logs)]
    assert quantile(before, 0.5) > 0.05
    assert quantile(after, 0.9) < 0.03


def test_throughput_of_a_static_batch_is_not_counted_twice(table: Path) -> None:
    assert {case.measure for case in read_cases(table)} == {"e2e_ms"}


def test_a_left_out_group_is_predicted_without_its_figures(table: Path) -> None:
    cases = read_cases(table)
    spoiled = [case if case.family != "qwen" else _times(case, 3.0) for case in read_cases(table)]
    honest = [one for one in leave_out(cases, priors(), _family) if one.case.family == "qwen"]
    fooled = [one for one in leave_out(spoiled, priors(), _family) if one.case.family == "qwen"]
    for left, right in zip(honest, fooled, strict=True):
        assert right.predicted == pytest.approx(left.predicted)
        assert right.error > left.error


def _family(case: Case) -> str:
    return case.family


def _times(case: Case, factor: float) -> Case:
    return Case(**{**vars(case), "measured": case.measured * factor})


def test_report_counts_every_figure(table: Path) -> None:
    predictions = in_sample(read_cases(table), _true_constants())
    count, middle, late = by_kind(predictions)["offline_static_batch"]
    assert count == len(MODELS) * 4
    assert middle <= late < 1e-6


def test_picture_is_well_formed_and_has_a_point_for_each_figure(table: Path) -> None:
    predictions = in_sample(read_cases(table), _true_constants())
    rates = [
        type(one)(Case(**{**vars(one.case), "measure": "output_tok_s_total"}), one.log_ratio)
        for one in predictions
    ]
    root = ET.fromstring(picture([*predictions, *rates]))  # noqa: S314 (our own text)
    points = [node for node in root.iter() if node.tag.endswith("circle")]
    assert len(points) == len(predictions) + len(rates) + 1


def test_committed_constants_are_those_the_recipe_knows() -> None:
    assert set(CONSTANTS.logs) == set(priors()) | set(FIXED)
    for name, value in FIXED.items():
        assert CONSTANTS.logs[name] == pytest.approx(value, abs=1e-4)


def test_every_answer_carries_its_cross_validated_error() -> None:
    options: dict[str, Any] = {"model": "Qwen/Qwen3-8B", "gpu": "L40S"}
    found = latency(**options, input_tokens=512, output_tokens=256, concurrency=8)
    assert found["error_figures"] > 0
    assert 0 < found["error_median_percent"] <= found["error_p90_percent"]


@pytest.mark.parametrize(
    ("change", "message"), [({"precision": "int3"}, "int3"), ({"model": "01-ai/Yi-6B"}, "family")]
)
def test_rows_that_cannot_be_read_are_named(
    change: dict[str, str], message: str, tmp_path: Path
) -> None:
    row = {
        **dict.fromkeys(COLUMNS, ""),
        **{"id": "X1", "model": "Qwen3-8B", "precision": "bf16", "n_gpus": "1", "tp": "TP1"},
        **{"gpu": "L40S", "engine": "vLLM", "engine_version": "0.10.2", "e2e_ms": "5"},
        **{"input_tokens": "9", "output_tokens": "9", "metric_kind": "online_closed_loop"},
        **change,
    }
    path = tmp_path / "rows.csv"
    _write(path, [row])
    with pytest.raises((RowError, ValueError), match=message):
        read_cases(path)


def test_expert_layouts_are_read_from_their_short_names() -> None:
    row = {
        **dict.fromkeys(COLUMNS, ""),
        **{"id": "X1", "model": "gpt-oss-120b", "precision": "mxfp4", "n_gpus": "4", "tp": "DEP4"},
        **{"engine": "vLLM", "metric_kind": "offline_max_throughput", "gpu": "H100"},
    }
    options = options_of(row)
    assert options["data_parallel_size"] == 4
    assert options["enable_expert_parallel"]
