"""Read a table of published figures and turn each row into a latency question."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tresor.sizing.latency.question import Question
from tresor.sizing.latency.resolve import resolve
from tresor.sizing.latency.work import Work

# How tables write a precision, and the name of that quantization here. None: as the checkpoint.
PRECISIONS = {
    "fp16/bf16": "bf16",
    "bf16": "bf16",
    "fp16": "bf16",
    "fp8": "fp8",
    "nvfp4": "nvfp4",
    "awq_int4": "awq_int4",
    "mxfp4 (fp8 act)": None,
    "mxfp4": None,
    "submitter choice (fp8/fp4)": None,
}
FAMILIES = ("gpt-oss", "mixtral", "mistral", "llama", "qwen", "deepseek", "gemma", "phi")
MEASURES = {
    "ttft_ms": ("ttft", 1000.0),
    "itl_ms": ("itl", 1000.0),
    "e2e_ms": ("e2e", 1000.0),
    "output_tok_s_total": ("tokens_per_second", 1.0),
}


class RowError(Exception):
    """A row that cannot be read; the text names it and the value."""


@dataclass(frozen=True)
class Case:
    """One published number: its row, the questions that predict it, and the measured value."""

    row: str
    family: str
    card: str
    kind: str
    measure: str
    attribute: str
    measured: float
    questions: tuple[tuple[Question, Work], ...]


def read_cases(path: Path) -> list[Case]:
    """Return every number of the table that is a measurement of its own."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [case for row in rows for case in _cases(row)]


def _cases(row: dict[str, str]) -> Iterator[Case]:
    questions = resolve(options_of(row)).questions
    for column, (attribute, unit) in MEASURES.items():
        if not row.get(column):
            continue
        derived = column == "output_tok_s_total" and row["metric_kind"] == "offline_static_batch"
        if derived and row.get("e2e_ms"):
            # A static batch's throughput is its size over its time: the same number twice.
            continue
        yield Case(
            row=row["id"],
            family=family_of(row["model"]),
            card=questions[0][0].gpu.architecture,
            kind=row["metric_kind"],
            measure=column,
            attribute=attribute,
            measured=float(row[column]) / unit,
            questions=questions,
        )


def family_of(model: str) -> str:
    """Return the model family that a name belongs to."""
    plain = model.lower()
    for family in FAMILIES:
        if family in plain:
            return family
    raise RowError(f"model {model!r}: of which family is it? Add it to FAMILIES")


def options_of(row: dict[str, str]) -> dict[str, Any]:
    """Return the options of the latency question that a row answers."""
    if row["precision"] not in PRECISIONS:
        raise RowError(f"{row['id']}: precision {row['precision']!r} is not known")
    options: dict[str, Any] = {
        "model": row["model"],
        "gpu": row["gpu"],
        "engine": row["engine"],
        "engine_version": row["engine_version"],
        "metric_kind": row["metric_kind"],
        "gpus_per_node": max(int(row["n_gpus"]), 1),
    }
    quantization = PRECISIONS[row["precision"]]
    if quantization is not None:
        options["quantization"] = quantization
    for column in ("input_tokens", "output_tokens"):
        if row[column]:
            options[column] = float(row[column])
    if row["concurrency"]:
        options["concurrency"] = int(row["concurrency"])
    options.update(_layout(row))
    return options


def _layout(row: dict[str, str]) -> dict[str, Any]:
    match = re.fullmatch(r"(TP|PP|DEP)(\d+)", row["tp"])
    if match is None:
        return {}
    size = int(match[2])
    if match[1] == "TP":
        return {"tensor_parallel_size": size}
    if match[1] == "PP":
        return {"pipeline_parallel_size": size}
    return {"data_parallel_size": size, "enable_expert_parallel": True}


def weights(cases: list[Case], most: float = 40.0) -> list[float]:
    """Return a weight per case, so that no metric kind counts more than ``most`` cases."""
    counts: dict[str, int] = {}
    for case in cases:
        counts[case.kind] = counts.get(case.kind, 0) + 1
    return [min(1.0, most / counts[case.kind]) for case in cases]


def logarithm(value: float | None) -> float | None:
    """Return the natural logarithm of a positive number, else None."""
    return math.log(value) if value is not None and value > 0 else None
