"""The module: a thin shell around `estimate`."""

from __future__ import annotations

from typing import Any

import pytest

from python_plugins.tests.module_call import call

ASK: dict[str, Any] = {"model": "Qwen/Qwen3-8B", "gpu": "L40S", "max_model_len": 8192}


@pytest.mark.parametrize("check", [True, False])
def test_answers_in_check_mode_as_without(check: bool) -> None:
    answer = call("tresor_vram_fit", check=check, **ASK)
    assert answer["outcome"] == "fit"
    assert answer["changed"] is False
    assert answer == call("tresor_vram_fit", **ASK)


def test_model_may_be_a_mapping() -> None:
    model = {
        "model_id": "example/small",
        "family": "dense_gqa",
        "config": {
            "hidden_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "intermediate_size": 512,
            "vocab_size": 1024,
            "max_position_embeddings": 2048,
        },
    }
    assert call("tresor_vram_fit", **{**ASK, "model": model, "max_model_len": 2048})["outcome"]


def test_no_fit_is_an_answer_unless_it_shall_fail() -> None:
    ask = {**ASK, "model": "meta-llama/Llama-3.3-70B-Instruct"}
    assert call("tresor_vram_fit", **ask)["fail_kind"] == "weights_oom_at_load"
    failed = call("tresor_vram_fit", **ask, fail_on_no_fit=True)
    assert failed["failed"]
    assert "the weights need" in failed["msg"]
    assert failed["fail_kind"] == "weights_oom_at_load"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu": "H9000"}, "H9000"),
        ({"model": "nobody/nothing"}, "not in the catalogue"),
        ({"tensor_parallel_size": -1}, "tensor_parallel_size is -1"),
        ({"gpu": None}, "gpu and gpu_total_gib are missing"),
    ],
)
def test_bad_input_fails_with_its_name(changes: dict[str, Any], message: str) -> None:
    failed = call("tresor_vram_fit", **{**ASK, **changes})
    assert failed["failed"]
    assert message in failed["msg"]
