"""The fit recipe: it finds constants again, judges by family, and writes what the product reads."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from docs.tools import sizing_fit
from tresor.sizing.estimate import estimate_with
from tresor.sizing.memory.constants import Constants

TRUE = Constants(
    workspace=0.06,
    forward=0.04,
    encoder=0.1,
    non_torch=0.3,
    non_torch_tp=1.5,
    non_torch_tp_rank=0.1,
    graph_base=0.2,
    graph_layer=0.02,
    graph_hidden=0.5,
    graph_tp=-0.1,
    graph_expert=0.1,
)
MODELS = {
    "meta-llama/Llama-3.1-8B-Instruct": "dense_gqa",
    "Qwen/Qwen2.5-7B-Instruct": "dense_gqa",
    "codellama/CodeLlama-7b-hf": "dense_mha",
    "google/gemma-7b": "dense_mha",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "moe_gqa",
    "Qwen/Qwen1.5-MoE-A2.7B": "moe_mha",
    "openai/gpt-oss-20b": "gptoss_swa_moe",
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": "dense_gqa_vlm",
}
FIELDS = [*sizing_fit.COLUMNS, *sizing_fit.MEASURED, "case_id", "model_id", "family", "ep", "notes",
          "enforce_eager", "outcome", "fail_kind", "confidence"]  # fmt: skip


def write_cases(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """Write rows that `TRUE` would measure; `changes` overwrite columns of the first."""
    rows = []
    for index, (model, family) in enumerate(MODELS.items()):
        for tensor in (1, 2, 4):
            options = {
                "model": model,
                "gpu": "H200",
                "vllm_version": "0.19.0",
                "max_model_len": 4096,
                "tensor_parallel_size": tensor,
            }
            answer = estimate_with(TRUE, options)
            row = {name: answer[name] for name in sizing_fit.MEASURED}
            rows.append(
                row
                | {
                    "case_id": f"C{index}-{tensor}",
                    "model_id": model,
                    "family": family,
                    "gpu": "H200",
                    "tp": tensor,
                    "vllm_version": "0.19.0",
                    "max_model_len": 4096,
                    "outcome": answer["outcome"],
                    "fail_kind": answer["fail_kind"] or "",
                }
            )
    rows[0].update(changes)
    cases, models = folder / "cases.csv", folder / "models.json"
    with cases.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    models.write_text(json.dumps({"models": []}))
    return cases, models


def test_constants_are_found_again(tmp_path: Path) -> None:
    found = sizing_fit.fit(sizing_fit.read_cases(*write_cases(tmp_path)))
    for field in dataclasses.fields(Constants):
        if field.name.startswith(("graph_old", "context", "warm_up", "non_torch_")):
            continue
        expected = getattr(TRUE, field.name)
        assert getattr(found, field.name) == pytest.approx(expected, abs=2e-3), field.name
    assert found.non_torch_tp + 2 * found.non_torch_tp_rank == pytest.approx(1.7, abs=2e-3)


def test_predictions_with_the_found_constants_are_exact(tmp_path: Path) -> None:
    cases = sizing_fit.read_cases(*write_cases(tmp_path))
    errors = sizing_fit.judge(cases, sizing_fit.fit(cases))
    assert max(errors.pool) < 1e-3
    assert max(errors.weights) < 1e-4
    assert errors.wrong_verdicts == ()


def test_family_left_out_is_judged_by_the_others(tmp_path: Path) -> None:
    cases = sizing_fit.read_cases(*write_cases(tmp_path))
    found = sizing_fit.cross_validate(cases)
    assert set(found) == set(MODELS.values())
    # A family whose pools no constant of its own decides is exact without it, too.
    assert max(found["gptoss_swa_moe"].pool) < 1e-3


def test_wrong_verdict_is_reported(tmp_path: Path) -> None:
    cases = sizing_fit.read_cases(
        *write_cases(tmp_path, outcome="no_fit", fail_kind="negative_kv(some remark)")
    )
    errors = sizing_fit.judge(cases, sizing_fit.fit(cases))
    assert errors.wrong_verdicts == ("C0-1: negative_kv, predicted None",)


def test_row_of_low_confidence_is_held_to_its_weights(tmp_path: Path) -> None:
    cases = sizing_fit.read_cases(
        *write_cases(tmp_path, confidence="low", available_kv_gib_per_gpu=1)
    )
    errors = sizing_fit.judge(cases, TRUE)
    assert len(errors.weights) == len(errors.pool) + 1
    assert max(errors.pool) < 1e-3


def test_recipe_prints_writes_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sizing_fit, "FITTED", tmp_path / "fitted.py")
    cases, models = write_cases(tmp_path)
    picture = tmp_path / "images" / "plot.svg"
    assert sizing_fit.main([str(cases), str(models), "--write", "--plot", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "without moe_mha (n 3)" in printed
    assert "cross-validated, all families" in printed
    assert '"workspace": 0.06' in (tmp_path / "fitted.py").read_text()
    assert picture.read_text().count("<circle") == 3 * 24
    assert "gemma" not in picture.read_text()


def test_missing_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sizing_fit.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "sizing_fit:" in capsys.readouterr().err
