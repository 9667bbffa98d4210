"""What must hold for every model of the catalogue on any card: an answer, and its direction."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tresor.sizing import SizingError, estimate
from tresor.sizing.gpu import names as gpu_names
from tresor.sizing.model.catalogue import names as model_names

VERSIONS = (None, "0.8.5", "0.11.0", "0.19.0", "0.28.0", "0.33.0")
FAILS = {
    "weights_oom_at_load",
    "negative_kv",
    "kv_insufficient_for_one_request",
    "oom_after_kv_allocation",
    "structural",
}


def ask(**options: Any) -> dict[str, Any] | None:
    """Return the answer, None if the layout cannot start."""
    found = estimate(**options)
    return None if found["fail_kind"] == "structural" else found


@pytest.mark.parametrize("model", model_names()[::2])
def test_every_model_gets_an_answer_in_plausible_settings(model: str) -> None:
    chance = random.Random(model)  # noqa: S311 (the same settings in every run)
    for _ in range(2):
        options = {
            "model": model,
            "gpu": chance.choice(gpu_names()),
            "tensor_parallel_size": chance.choice((1, 2, 4, 8)),
            "pipeline_parallel_size": chance.choice((1, 1, 2)),
            "data_parallel_size": chance.choice((1, 1, 2)),
            "enable_expert_parallel": chance.random() < 0.3,
            "max_model_len": chance.choice((None, 2048, 32768)),
            "kv_cache_dtype": chance.choice(("auto", "fp8")),
            "quantization": chance.choice((None, None, "fp8", "awq", "gptq", "nvfp4", "int8")),
            "max_num_seqs": chance.choice((None, 1, 256)),
            "max_num_batched_tokens": chance.choice((None, 2048)),
            "enforce_eager": chance.random() < 0.3,
            "vllm_version": chance.choice(VERSIONS),
        }
        try:
            found = estimate(**options)
        except SizingError as error:
            assert len(str(error)) > 20
            continue
        assert found["outcome"] in ("fit", "no_fit")
        assert (found["fail_kind"] is None) == (found["outcome"] == "fit")
        assert found["fail_kind"] in FAILS | {None}
        assert found["reasons"]
        numbers = [value for value in found.values() if isinstance(value, float)]
        assert all(math.isfinite(value) for value in numbers)
        if found["outcome"] == "fit":
            assert found["available_kv_gib_per_gpu"] > 0
            assert found["max_concurrency"] >= 1 or not found["kv_cache_tokens"]


@pytest.mark.parametrize("model", model_names()[::12])
def test_more_of_something_never_helps_or_hurts_the_wrong_way(model: str) -> None:
    base = {"model": model, "gpu": "B200"}

    def series(key: str, option: str, *values: Any, **more: Any) -> list[float]:
        answers = (ask(**base, **more, **{option: value}) for value in values)
        return [answer[key] for answer in answers if answer is not None]

    weights = "weights_gib_per_gpu"
    for falling in (
        series(weights, "tensor_parallel_size", 1, 2, 4, 8),
        series(weights, "pipeline_parallel_size", 1, 2),
        series(weights, "quantization", "bf16", "fp8", "nvfp4"),
        series("max_concurrency", "max_model_len", 1024, 8192, 32768, max_num_batched_tokens=8192),
    ):
        assert falling == sorted(falling, reverse=True)
    for rising in (
        series("available_kv_gib_per_gpu", "gpu_memory_utilization", 0.5, 0.7, 0.95),
        series("peak_activation_gib", "max_num_batched_tokens", 512, 4096, 16384),
        series("kv_cache_tokens", "kv_cache_dtype", "auto", "fp8", max_model_len=2048),
    ):
        assert rising == sorted(rising)
