"""Latency: bounded by the roofline, monotone where physics is, and wrong input is named."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from tresor.sizing import latency
from tresor.sizing.errors import SizingError
from tresor.sizing.latency.answer import CONSTANTS
from tresor.sizing.latency.question import KINDS, answer, ideal_answer
from tresor.sizing.latency.resolve import resolve

DENSE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "gpu": "H100 SXM 80GB",
    "input_tokens": 1000,
    "output_tokens": 200,
}
LARGE: dict[str, Any] = {**DENSE, "model": "meta-llama/Llama-3.3-70B-Instruct"}
MODELS = (
    ("meta-llama/Llama-3.1-8B", "bf16"),
    ("meta-llama/Llama-3.3-70B-Instruct", "fp8"),
    ("openai/gpt-oss-120b", None),
    ("Qwen/Qwen3-30B-A3B", "bf16"),
    ("mistralai/Mixtral-8x7B-v0.1", "awq_int4"),
    ("deepseek-ai/DeepSeek-R1", None),
)
CARDS = ("H100 SXM 80GB", "H200 SXM 141GB", "B200", "L40S", "A100 SXM 80GB", "MI300X")


def _random_options(rng: random.Random) -> dict[str, Any]:
    model, quantization = rng.choice(MODELS)
    kind = rng.choice(KINDS)
    options: dict[str, Any] = {
        "model": model,
        "quantization": quantization,
        "gpu": rng.choice(CARDS),
        "engine": rng.choice(("vllm", "tensorrt_llm", "sglang")),
        "metric_kind": kind,
    }
    if not kind.startswith("mlperf"):
        options["input_tokens"] = rng.choice((16, 500, 3000, 20_000))
        options["output_tokens"] = rng.choice((1, 20, 300, 2000))
        options["tensor_parallel_size"] = rng.choice((1, 2, 4, 8))
        options["pipeline_parallel_size"] = rng.choice((1, 1, 2))
    if kind in ("online_closed_loop", "offline_static_batch"):
        options["concurrency"] = rng.choice((1, 7, 64, 700))
    if kind == "online_open_loop":
        options["request_rate"] = rng.choice((0.1, 1.0, 20.0))
    return options


def test_no_answer_is_better_than_the_roofline() -> None:
    rng = random.Random(11)  # noqa: S311 (repeatable cases, no secrets)
    compared: dict[str, int] = dict.fromkeys(KINDS, 0)
    for _ in range(800):
        options = _random_options(rng)
        try:
            questions = resolve(options).questions
        except SizingError:
            continue
        for question, work in questions:
            real, ideal = answer(question, CONSTANTS, work), ideal_answer(question, work)
            compared[question.kind] += 1
            # Under a limit both run as full as the limit allows; their rates are what differs.
            names = ("ttft", "e2e") if question.limits else ("ttft", "itl", "e2e")
            for name in names:
                measured, bound = getattr(real, name), getattr(ideal, name)
                if measured is not None and bound is not None:
                    assert measured >= bound * (1 - 1e-9), (options, name)
            if real.tokens_per_second is not None and ideal.tokens_per_second is not None:
                limit = ideal.tokens_per_second * (1 + 1e-9)
                assert real.tokens_per_second <= limit, options
    assert all(count >= 10 for count in compared.values()), compared


def test_no_fitted_share_exceeds_the_data_sheet() -> None:
    for question, work in resolve({**DENSE, "concurrency": 1}).questions:
        generous = dataclasses.replace(
            CONSTANTS, logs={key: abs(value) + 1 for key, value in CONSTANTS.logs.items()}
        )
        found, bound = answer(question, generous, work), ideal_answer(question, work)
        assert found.itl is not None
        assert bound.itl is not None
        assert found.itl >= bound.itl


@pytest.mark.parametrize("key", ["input_tokens", "output_tokens", "concurrency", "cached_tokens"])
def test_more_work_takes_longer(key: str) -> None:
    times = [
        latency(**{**DENSE, "concurrency": 20, key: value})["e2e_ms"] for value in (32, 128, 512)
    ]
    assert times == sorted(times)
    assert times[0] < times[-1]


def test_decode_of_one_user_reads_all_weights_per_token() -> None:
    found = latency(**LARGE, tensor_parallel_size=4, concurrency=1)
    # 70 billion parameters in 16 bit over four cards of 3.35 TB/s: 10.3 ms if nothing else counted.
    assert 10.3 < found["itl_ms"] < 25
    assert found["bound_by"] == "memory bandwidth (weights)"


def test_fewer_bits_are_faster_for_one_user() -> None:
    times = [
        latency(**{**DENSE, "gpu": "B200", "quantization": form}, concurrency=1)["itl_ms"]
        for form in ("bf16", "fp8", "nvfp4")
    ]
    assert times == sorted(times, reverse=True)


def test_experts_that_a_small_batch_leaves_alone_are_not_read() -> None:
    moe = {**DENSE, "model": "Qwen/Qwen3-30B-A3B"}
    one, many = (latency(**moe, concurrency=users)["itl_ms"] for users in (1, 64))
    dense_one, dense_many = (latency(**DENSE, concurrency=users)["itl_ms"] for users in (1, 64))
    assert many / one > dense_many / dense_one


def test_users_beyond_the_slots_wait() -> None:
    within = latency(**DENSE, max_num_seqs=32, concurrency=32)
    beyond = latency(**DENSE, max_num_seqs=32, concurrency=320)
    assert within["queued_users"] == 0
    assert beyond["queued_users"] == pytest.approx(288)
    assert beyond["itl_ms"] == pytest.approx(within["itl_ms"])
    assert beyond["ttft_ms"] > 8 * within["e2e_ms"]
    assert beyond["output_tok_s_total"] == pytest.approx(within["output_tok_s_total"])


def test_slots_follow_the_kv_cache() -> None:
    short = latency(**DENSE, concurrency=1000)
    long = latency(**{**DENSE, "input_tokens": 100_000}, concurrency=1000)
    assert long["max_running_sequences"] < short["max_running_sequences"]
    assert long["queued_users"] > 900


def test_closed_loop_obeys_littles_law() -> None:
    found = latency(**DENSE, concurrency=100)
    inside = found["output_tok_s_total"] / 200 * found["e2e_ms"] / 1000
    assert inside == pytest.approx(100, rel=0.01)


def test_replicas_share_the_users() -> None:
    one = latency(**DENSE, concurrency=50)
    four = latency(**DENSE, concurrency=200, replicas=4)
    assert four["itl_ms"] == pytest.approx(one["itl_ms"])
    assert four["output_tok_s_total"] == pytest.approx(4 * one["output_tok_s_total"])
    assert four["gpus"] == 4


def test_open_loop_below_capacity_waits_little_and_above_it_has_no_latency() -> None:
    calm = latency(**DENSE, metric_kind="online_open_loop", request_rate=0.5)
    alone = latency(**DENSE, concurrency=1)
    assert calm["e2e_ms"] == pytest.approx(alone["e2e_ms"], rel=0.2)
    flooded = latency(**DENSE, metric_kind="online_open_loop", request_rate=10_000)
    assert not flooded["stable"]
    assert flooded["ttft_ms"] is None
    assert flooded["output_tok_s_total"] < 10_000 * 200


def test_open_loop_grows_with_the_rate() -> None:
    rates = (1, 4, 8, 12)
    found = [latency(**DENSE, metric_kind="online_open_loop", request_rate=rate) for rate in rates]
    assert all(one["stable"] for one in found)
    times = [one["ttft_p95_ms"] for one in found]
    assert times == sorted(times)


def test_percentile_is_not_below_the_mean() -> None:
    for users in (1, 16, 256, 2000):
        found = latency(**DENSE, concurrency=users)
        assert found["ttft_p95_ms"] >= found["ttft_ms"]
        assert found["e2e_p95_ms"] >= found["e2e_ms"]


def test_limits_of_a_benchmark_cost_throughput() -> None:
    options = {"model": "llama2-70b-99", "gpu": "H200 NVL", "engine": "TensorRT-LLM"}
    kinds = ("mlperf_offline", "mlperf_server", "mlperf_interactive")
    rates = [latency(**options, metric_kind=kind)["output_tok_s_total"] for kind in kinds]
    assert rates == sorted(rates, reverse=True)


def test_benchmark_chooses_its_layout_and_uses_every_gpu() -> None:
    found = latency(
        model="llama3.1-405b", gpu="H200", metric_kind="mlperf_offline", engine="TensorRT-LLM"
    )
    assert found["gpus"] == 8
    assert found["tensor_parallel_size"] >= 4
    assert found["quantization"] == "fp8"


def test_layout_of_a_benchmark_with_limits_is_the_one_set_up_offline() -> None:
    kinds = ("mlperf_offline", "mlperf_server", "mlperf_interactive")
    options = {"model": "gpt-oss-120b", "gpu": "B200", "engine": "TensorRT-LLM"}
    layouts = [latency(**options, metric_kind=kind) for kind in kinds]
    assert {one["tensor_parallel_size"] for one in layouts} == {1}
    assert {one["replicas"] for one in layouts} == {8}


def test_layout_that_cannot_keep_the_limits_is_given_up() -> None:
    options = {"model": "deepseek-r1", "gpu": "H200", "engine": "TensorRT-LLM"}
    offline = latency(**options, metric_kind="mlperf_offline")
    interactive = latency(**options, metric_kind="mlperf_interactive")
    assert offline["data_parallel_size"] == 8
    assert interactive["tensor_parallel_size"] == 8
    assert interactive["itl_ms"] < 15


def test_benchmark_is_known_from_a_config_that_carries_the_name() -> None:
    config = {
        "model_id": "meta-llama/Llama-3.1-8B-Instruct",
        "family": "dense_gqa",
        "config": {
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 14336,
            "vocab_size": 128256,
            "max_position_embeddings": 131072,
        },
    }
    options = {"gpu": "L40S", "tensor_parallel_size": 1, "metric_kind": "mlperf_offline"}
    given, named = (
        latency(model=model, **options)["output_tok_s_total"]
        for model in (config, "llama3.1-8b-99")
    )
    assert given == pytest.approx(named)


@pytest.mark.parametrize("version", ["0.10.2", "2024 (paper arXiv 2411.00136)", "v6.0", "1.1/1.2"])
def test_versions_may_be_written_as_tables_write_them(version: str) -> None:
    found = latency(**DENSE, concurrency=4, engine_version=version)
    assert found == latency(**DENSE, concurrency=4, vllm_version=version)
    assert found["e2e_ms"] > 0


def test_eager_mode_is_slower() -> None:
    graphs, eager = (latency(**DENSE, concurrency=1, enforce_eager=e) for e in (False, True))
    assert eager["itl_ms"] > graphs["itl_ms"]


def test_links_cost_more_over_pcie() -> None:
    times = []
    for card in ("H100 SXM 80GB", "L40S"):
        options = {**LARGE, "gpu": card, "quantization": "fp8"}
        found = latency(**options, tensor_parallel_size=4, concurrency=16)
        times.append(found["step_shares"]["communication"] * found["itl_ms"])
    assert times[1] > 2 * times[0]


def test_request_longer_than_the_context_is_noted() -> None:
    found = latency(**{**DENSE, "input_tokens": 5000}, max_model_len=4096)
    assert any("longer than" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpu": "H1000"}, "H1000"),
        ({"gpu": None}, "gpu: missing"),
        ({"gpu": "cpu"}, "not modelled"),
        ({"model": None}, "model: missing"),
        ({"model": "no-such-model"}, "no-such-model"),
        ({"model": "BAAI/bge-m3"}, "generates no tokens"),
        ({"colour": "red"}, "colour: no such option"),
        ({"engine": "llama.cpp"}, "llama.cpp"),
        ({"metric_kind": "fast"}, "'fast'"),
        ({"input_tokens": None}, "input_tokens: missing"),
        ({"output_tokens": 0}, "output_tokens: '0'"),
        ({"output_tokens": float("nan")}, "'nan'"),
        ({"output_tokens": float("inf")}, "'inf'"),
        ({"concurrency": -1}, "'-1'"),
        ({"concurrency": True}, "'True'"),
        ({"concurrency": "many"}, "'many'"),
        ({"tensor_parallel_size": 3}, "does not divide the 32 attention heads"),
        ({"tensor_parallel_size": 2.5}, "tensor_parallel_size: '2.5'"),
        ({"tensor_parallel_size": 16, "gpus_per_node": 8}, "need 16 GPUs"),
        ({"kv_cache_dtype": "fp3"}, "fp3"),
        ({"request_rate": 3}, "request_rate: online_closed_loop has none"),
        ({"metric_kind": "online_open_loop", "concurrency": 3}, "concurrency: an open loop"),
        ({"metric_kind": "mlperf_server"}, "MLPerf has no benchmark"),
        ({"model": "meta-llama/Llama-3.3-70B-Instruct"}, "does not fit on 1x H100"),
    ],
)
def test_wrong_input_is_named(change: dict[str, Any], message: str) -> None:
    options = {**DENSE, **change}
    if change.get("metric_kind") == "mlperf_server":
        options["model"] = "Qwen/Qwen3-8B"
    with pytest.raises(SizingError, match=message.replace("(", r"\(")):
        latency(**options)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("vLLM", "vllm"),
        ("TensorRT-LLM", "tensorrt_llm"),
        ("mostly TensorRT-LLM", "tensorrt_llm"),
        ("SGLang", "sglang"),
    ],
)
def test_engines_are_known_by_the_names_of_tables(name: str, engine: str) -> None:
    assert latency(**DENSE, engine=name)["engine"] == engine


def test_a_config_serves_as_the_model() -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "torch_dtype": "bfloat16",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
    }
    given, named = latency(**{**DENSE, "model": config}), latency(**DENSE)
    assert given["itl_ms"] == pytest.approx(named["itl_ms"])
