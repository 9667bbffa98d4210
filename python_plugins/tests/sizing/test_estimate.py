"""The public `estimate`: verdicts, reasons, defaults, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tresor.sizing import SizingError, estimate

from .helpers import config

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.3-70B-Instruct"
KEYS = {
    "weights_gib_per_gpu",
    "peak_activation_gib",
    "non_torch_gib",
    "cudagraph_gib",
    "available_kv_gib_per_gpu",
    "kv_cache_tokens",
    "max_concurrency",
    "est_max_model_len",
    "outcome",
    "fail_kind",
    "reasons",
    "advice",
    "error_band",
    "resolved",
}


def ask(**options: Any) -> dict[str, Any]:
    return estimate(**{"model": LLAMA_8B, "gpu": "H100 SXM 80GB", **options})


def test_answer_has_every_key_and_is_json() -> None:
    answer = ask(max_model_len=8192)
    assert set(answer) == KEYS
    assert answer["outcome"] == "fit"
    assert answer["fail_kind"] is None
    json.dumps(answer)


def test_budget_adds_up() -> None:
    answer = ask(max_model_len=8192, vllm_version="0.19.0", gpu_memory_utilization=0.9)
    parts = ("weights_gib_per_gpu", "peak_activation_gib", "non_torch_gib")
    spent = sum(answer[part] for part in parts)
    total = answer["resolved"]["gpu_total_gib"]
    assert answer["available_kv_gib_per_gpu"] == pytest.approx(0.9 * total - spent, abs=0.01)


def test_graphs_are_inside_of_the_budget_since_0_20() -> None:
    options = {"max_model_len": 8192, "gpu_memory_utilization": 0.9}
    old, new = ask(vllm_version="0.19.0", **options), ask(vllm_version="0.20.0", **options)
    difference = old["available_kv_gib_per_gpu"] - new["available_kv_gib_per_gpu"]
    assert difference == pytest.approx(new["cudagraph_gib"], abs=0.01)
    eager = ask(vllm_version="0.20.0", enforce_eager=True, **options)
    assert eager["cudagraph_gib"] == 0
    assert eager["available_kv_gib_per_gpu"] > new["available_kv_gib_per_gpu"]


@pytest.mark.parametrize(
    ("version", "utilization"), [("0.11.0", 0.9), ("0.19.1", 0.9), ("0.20.0", 0.92), (None, 0.92)]
)
def test_default_utilization_follows_the_version(version: str | None, utilization: float) -> None:
    assert ask(vllm_version=version)["resolved"]["gpu_memory_utilization"] == utilization


@pytest.mark.parametrize(
    ("gpu", "tokens", "sequences"),
    [("H100 SXM 80GB", 8192, 1024), ("A100 SXM 80GB", 2048, 256), ("L40S", 2048, 256)],
)
def test_default_batch_follows_the_card(gpu: str, tokens: int, sequences: int) -> None:
    resolved = ask(gpu=gpu, vllm_version="0.19.0", max_model_len=4096)["resolved"]
    assert (resolved["max_num_batched_tokens"], resolved["max_num_seqs"]) == (tokens, sequences)


def test_cpu_engine_is_predicted_exactly() -> None:
    # Measured on the lab's CPU engine 0.32.0 with VLLM_CPU_KVCACHE_SPACE=1:
    # "CPU KV cache size: 46,592 tokens, Maximum concurrency for 2,048 tokens per request: 22.75x".
    answer = estimate(
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        gpu="cpu",
        kv_cache_memory_bytes=1 << 30,
        max_model_len=2048,
        max_num_seqs=16,
        enforce_eager=True,
        vllm_version="0.32.0",
    )
    assert answer["kv_cache_tokens"] == 46592
    assert answer["max_concurrency"] == 22.75
    assert answer["outcome"] == "fit"


def test_cpu_engine_needs_the_size_of_its_cache() -> None:
    with pytest.raises(SizingError, match="kv_cache_memory_bytes"):
        estimate(model="HuggingFaceTB/SmolLM2-135M", gpu="cpu")


def test_weights_that_do_not_load() -> None:
    answer = ask(model="deepseek-ai/DeepSeek-R1")
    assert (answer["outcome"], answer["fail_kind"]) == ("no_fit", "weights_oom_at_load")
    assert answer["advice"] == ["set tensor_parallel_size to 16"]


def test_pool_below_zero() -> None:
    answer = ask(model=f"{LLAMA_70B}-FP8-dynamic", vllm_version="0.11.0", max_model_len=16000)
    assert answer["fail_kind"] == "negative_kv"
    assert answer["available_kv_gib_per_gpu"] < 0
    assert "set tensor_parallel_size to 2" in answer["advice"]


def test_pool_too_small_for_one_request_names_the_longest_context() -> None:
    answer = ask(gpu="L4", max_model_len=131072)
    assert answer["fail_kind"] == "kv_insufficient_for_one_request"
    longest = answer["est_max_model_len"]
    assert f"set max_model_len to {longest} or less" in answer["advice"]
    assert ask(gpu="L4", max_model_len=longest)["outcome"] == "fit"
    assert ask(gpu="L4", max_model_len=longest + 64)["outcome"] == "no_fit"


def test_warm_up_after_the_pool_is_taken() -> None:
    options = {"model": "google/gemma-2-27b-it", "max_model_len": 8192, "vllm_version": "0.19.0"}
    assert ask(gpu_memory_utilization=0.9, **options)["outcome"] == "fit"
    answer = ask(gpu_memory_utilization=0.98, **options)
    assert answer["fail_kind"] == "oom_after_kv_allocation"
    assert "gpu_memory_utilization" in answer["advice"][0]


def test_busy_card_is_its_own_kind() -> None:
    answer = ask(free_gib=60.0, max_model_len=8192)
    assert answer["fail_kind"] == "free_memory_below_budget"
    assert "60.00 GiB are free" in answer["reasons"][0]
    assert ask(free_gib=78.0, max_model_len=8192)["outcome"] == "fit"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tensor_parallel_size": 3}, "does not divide the 32 attention heads"),
        ({"tensor_parallel_size": 16, "gpus_per_node": 8, "nodes": 1}, "needs 16 GPUs"),
        ({"gpus_per_node": 4, "tensor_parallel_size": 8}, "needs 8 GPUs"),
        ({"enable_expert_parallel": True}, "needs a mixture of experts"),
        ({"gpu": "B200", "quantization": "int8_w8a8"}, "cannot run int8_w8a8"),
        ({"quantization": "bitsandbytes", "vllm_version": "0.32.0"}, "no longer loads"),
    ],
)
def test_layouts_that_cannot_start_are_structural(options: dict[str, Any], reason: str) -> None:
    answer = ask(**options)
    assert (answer["outcome"], answer["fail_kind"]) == ("no_fit", "structural")
    assert any(reason in one for one in answer["reasons"])
    assert answer["advice"]


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"tensor_parallel_size": 3}, "set tensor_parallel_size to 1"),
        ({"enable_expert_parallel": True}, "leave enable_expert_parallel out"),
        ({"gpu": "B200", "quantization": "int8_w8a8"}, "use a checkpoint in fp8"),
        ({"gpu": "L4", "max_model_len": 32768}, "set kv_cache_dtype to fp8"),
        ({"model": LLAMA_70B, "max_model_len": 8192}, "use a checkpoint in awq_int4"),
        ({"free_gib": 40.0, "max_model_len": 8192}, "set gpu_memory_utilization to 0.5"),
    ],
)
def test_advice_names_what_cures(options: dict[str, Any], advice: str) -> None:
    assert any(advice in one for one in ask(**options)["advice"])


def test_advice_that_would_not_help_is_not_given() -> None:
    answer = ask(model="deepseek-ai/DeepSeek-R1", gpu="L4")
    assert answer["fail_kind"] == "weights_oom_at_load"
    assert answer["advice"] == [one for one in answer["advice"] if "no single change" in one]
    assert len(answer["advice"]) == 1


def test_every_no_fit_gives_reasons_and_advice() -> None:
    for options in ({"gpu": "L4"}, {"model": LLAMA_70B}, {"free_gib": 1.0}):
        answer = ask(**options)
        assert answer["outcome"] == "no_fit"
        assert answer["reasons"]
        assert answer["advice"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_modellen": 1}, "did you mean max_model_len"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size is 0"),
        ({"tensor_parallel_size": -2}, "tensor_parallel_size is -2"),
        ({"tensor_parallel_size": 2.0}, r"tensor_parallel_size is 2\.0"),
        ({"tensor_parallel_size": True}, "tensor_parallel_size is True"),
        ({"max_model_len": 10**12}, "max_model_len is 1000000000000"),
        ({"max_num_seqs": "many"}, "max_num_seqs is 'many'"),
        ({"gpu_memory_utilization": 1.2}, r"gpu_memory_utilization is 1\.2"),
        ({"gpu_memory_utilization": float("nan")}, "gpu_memory_utilization is nan"),
        ({"gpu_total_gib": -80}, "gpu_total_gib is -80"),
        ({"free_gib": float("inf")}, "free_gib is inf"),
        ({"kv_cache_dtype": "int3"}, "kv_cache_dtype is 'int3'"),
        ({"enforce_eager": 1}, "enforce_eager is 1"),
        ({"vllm_version": "latest"}, "vllm_version is 'latest'"),
        ({"vllm_version": "0.2.1"}, r"vllm_version is '0\.2\.1'"),
        ({"gpu": "H9000"}, "H9000"),
        ({"quantization": "int3"}, "int3"),
        ({"gpu": None}, "gpu and gpu_total_gib are missing"),
    ],
)
def test_bad_option_is_refused_by_its_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SizingError, match=message):
        ask(**options)


def test_model_must_be_given() -> None:
    with pytest.raises(SizingError, match="model is missing"):
        estimate(gpu="L4")


def test_memory_of_a_card_may_be_given_instead_of_its_name() -> None:
    by_size = estimate(model=LLAMA_8B, gpu_total_gib=79.19, max_model_len=8192)
    assert by_size["outcome"] == "fit"
    assert any("not in the catalogue" in one for one in by_size["reasons"])
    named = estimate(model=LLAMA_8B, gpu="H100", gpu_total_gib=40.0, max_model_len=8192)
    assert named["resolved"]["gpu_total_gib"] == 40.0


def test_version_may_have_words_around_it() -> None:
    plain = ask(vllm_version="0.12.0")
    assert ask(vllm_version="0.12 (by log line)")["kv_cache_tokens"] == plain["kv_cache_tokens"]


@pytest.mark.parametrize("larger", [0.85, 0.9, 0.95])
def test_more_of_the_card_never_makes_the_pool_smaller(larger: float) -> None:
    less = ask(gpu_memory_utilization=larger - 0.05, vllm_version="0.24.0")
    more = ask(gpu_memory_utilization=larger, vllm_version="0.24.0")
    assert more["available_kv_gib_per_gpu"] > less["available_kv_gib_per_gpu"]
    assert more["kv_cache_tokens"] > less["kv_cache_tokens"]


def test_fp8_cache_doubles_the_tokens() -> None:
    options = {"max_model_len": 8192, "vllm_version": "0.19.0"}
    auto, fp8 = ask(**options), ask(kv_cache_dtype="fp8", **options)
    assert fp8["kv_cache_tokens"] == pytest.approx(2 * auto["kv_cache_tokens"], abs=32)


def test_cache_type_of_the_checkpoint_is_obeyed_by_newer_engines() -> None:
    block = {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}
    with_scheme = config(quantization_config=block)
    plain = config(quantization_config={**block, "kv_cache_quant_algo": None})

    def tokens(model: dict[str, Any], version: str) -> int:
        answer = estimate(
            model=model, gpu="H100", kv_cache_memory_bytes=1 << 30, vllm_version=version
        )
        found: int = answer["kv_cache_tokens"]
        return found

    assert tokens(with_scheme, "0.19.0") == 2 * tokens(plain, "0.19.0")
    assert tokens(with_scheme, "0.11.0") == tokens(plain, "0.11.0")


def test_pipeline_is_limited_by_its_worst_stage() -> None:
    answer = ask(pipeline_parallel_size=2, vllm_version="0.19.0", max_model_len=8192)
    half = ask(vllm_version="0.19.0", max_model_len=8192)["weights_gib_per_gpu"] / 2
    assert answer["weights_gib_per_gpu"] > half
    assert answer["kv_cache_tokens"] > ask(vllm_version="0.19.0")["kv_cache_tokens"]


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({"gpu": "H100"}, True),
        ({"gpu": "B200"}, True),
        ({"gpu": "L40S"}, False),
        ({"gpu": "A100 80GB"}, False),
        ({"gpu": "H100", "enforce_eager": True}, False),
        ({"gpu": "H100", "pipeline_parallel_size": 2}, False),
        ({"gpu": "H100", "pipeline_parallel_size": 2, "vllm_version": "0.32.0"}, True),
        ({"gpu": "H100", "vllm_version": "0.15.0"}, False),
    ],
)
def test_fused_all_reduce_costs_where_the_engine_uses_it(
    options: dict[str, Any], fused: bool
) -> None:
    asked = {"vllm_version": "0.19.0", "tensor_parallel_size": 2, "max_model_len": 4096, **options}
    assert (ask(**asked)["non_torch_gib"] > 1) is fused


@pytest.mark.parametrize(
    ("model", "version", "filtered"),
    [
        ("Qwen/Qwen3-8B", "0.21.0", True),
        ("Qwen/Qwen3-8B", "0.22.0", False),
        ("Qwen/Qwen3-8B-AWQ", "0.22.0", True),
        (LLAMA_8B, "0.22.0", True),
        (LLAMA_8B, "0.24.0", False),
        ("google/gemma-7b", "0.24.0", True),
        ("google/gemma-7b", "0.28.0", False),
        ("Qwen/Qwen3-30B-A3B", "0.28.0", True),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "0.28.0", True),
        ("Qwen/Qwen3-30B-A3B", "0.32.0", False),
    ],
)
def test_second_model_runner_profiles_without_filters(
    model: str, version: str, filtered: bool
) -> None:
    def peak(sequences: int) -> float:
        answer = ask(
            model=model,
            gpu="H200",
            vllm_version=version,
            max_num_seqs=sequences,
            max_num_batched_tokens=1024,
            max_model_len=1024,
            tensor_parallel_size=2,
        )
        found: float = answer["peak_activation_gib"]
        return found

    assert (peak(1024) - peak(16) > 1) is filtered


def test_explicit_pool_overrides_the_budget() -> None:
    answer = ask(kv_cache_memory_bytes=8 << 30, max_model_len=8192)
    assert answer["available_kv_gib_per_gpu"] == 8
    assert answer["kv_cache_tokens"] == pytest.approx(65536, abs=16)


def test_embedding_model_needs_no_sampler_and_no_pool() -> None:
    answer = estimate(model="BAAI/bge-m3", gpu="L4")
    assert answer["outcome"] == "fit"
    assert answer["kv_cache_tokens"] == 0
    assert answer["peak_activation_gib"] < 1


def test_own_config_is_accepted() -> None:
    answer = estimate(model=config(), gpu_total_gib=8.0)
    assert answer["outcome"] == "fit"


def test_error_band_lies_around_the_pool() -> None:
    answer = ask(max_model_len=8192)
    band = answer["error_band"]
    pool = answer["available_kv_gib_per_gpu"]
    assert band["available_kv_gib_low"] < pool < band["available_kv_gib_high"]
