"""The KV pool: groups, pages, blocks per request, and what the engine calls its size."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.sizing import estimate
from tresor.sizing.memory.capacity import Capacity, capacity_of
from tresor.sizing.memory.engine import engine_of
from tresor.sizing.memory.groups import CacheOptions, Pool, pool_of
from tresor.sizing.memory.parallel import Layout
from tresor.sizing.model import describe
from tresor.sizing.model.shape import State

GIB = 1024**3


def pool(name: str, version: str = "0.19.0", **options: Any) -> Pool:
    layout = Layout(options.pop("tensor", 1), options.pop("pipeline", 1))
    chosen = {
        "block_size": None,
        "kv_bits": 16,
        "packed_latent": False,
        "prefix_caching": None,
        **options,
    }
    return pool_of(describe(name), layout, engine_of(version), CacheOptions(**chosen))


def capacity(found: Pool, version: str, available: float, length: int) -> Capacity:
    return capacity_of(
        found,
        engine_of(version),
        (int(available),),
        max_model_len=length,
        batched_tokens=8192,
        longest_asked=length,
    )


def test_grouped_queries_have_one_group() -> None:
    found = pool("meta-llama/Llama-3.1-8B")
    assert len(found.groups) == 1
    assert found.stage_block_bytes == (16 * 32 * 2 * 8 * 128 * 2,)


def test_ranks_divide_a_block_until_heads_repeat() -> None:
    one = pool("Qwen/Qwen2.5-7B").stage_block_bytes[0]
    assert pool("Qwen/Qwen2.5-7B", tensor=4).stage_block_bytes[0] * 4 == one
    assert pool("Qwen/Qwen2.5-7B", tensor=28).stage_block_bytes[0] * 4 == one


def test_latent_cache_is_not_divided() -> None:
    one = pool("deepseek-ai/DeepSeek-V3")
    assert one.block_size == 64
    assert one.stage_block_bytes == pool("deepseek-ai/DeepSeek-V3", tensor=8).stage_block_bytes
    assert one.stage_block_bytes == (64 * 61 * 576 * 2,)


def test_sparse_indexer_adds_its_own_cache() -> None:
    found = pool("deepseek-ai/DeepSeek-V3.2")
    assert found.stage_block_bytes == (64 * 61 * (576 * 2 + 132),)


def test_fp8_layout_of_sparse_latent_attention_is_not_half() -> None:
    found = pool("deepseek-ai/DeepSeek-V3.2", kv_bits=8, packed_latent=True)
    assert found.stage_block_bytes == (64 * 61 * (656 + 132),)


@pytest.mark.parametrize(
    ("model", "gpu", "version", "dtype", "per_token"),
    [
        ("deepseek-ai/DeepSeek-V3.2", "H200", "0.32.0", "fp8", 656),
        ("deepseek-ai/DeepSeek-V3.2", "H200", "0.32.0", "auto", 1152),
        # FlashInfer serves 8-bit caches on Blackwell for data centres, with plain values.
        ("deepseek-ai/DeepSeek-V3.2", "B200", "0.14.0", "fp8", 656),
        ("deepseek-ai/DeepSeek-V3.2", "B200", "0.32.0", "fp8", 576),
        ("deepseek-ai/DeepSeek-V3.2", "B200", "0.32.0", "fp8_ds_mla", 656),
        ("deepseek-ai/DeepSeek-V3.2", "RTX PRO 6000", "0.32.0", "auto", 656),
        # This architecture asks for 8 bits by itself there.
        ("zai-org/GLM-5", "B200", "0.32.0", "auto", 576),
        ("zai-org/GLM-5", "B200", "0.28.0", "auto", 1152),
        ("zai-org/GLM-5", "H200", "0.32.0", "auto", 1152),
    ],
)
def test_layout_of_sparse_latent_caches_follows_the_card(
    model: str, gpu: str, version: str, dtype: str, per_token: int
) -> None:
    options = {"tensor_parallel_size": 8, "kv_cache_memory_bytes": 64 * GIB, "max_model_len": 64}
    found = estimate(model=model, gpu=gpu, vllm_version=version, kv_cache_dtype=dtype, **options)
    layers = describe(model).num_layers
    blocks = 64 * GIB // (64 * layers * (per_token + 132))
    assert found["kv_cache_tokens"] == blocks * 64


def test_stages_have_blocks_of_their_own_layers() -> None:
    found = pool("meta-llama/Llama-3.1-8B", pipeline=4)
    assert found.stage_block_bytes == (16 * 8 * 2 * 8 * 128 * 2,) * 4


def test_windows_and_full_layers_form_groups_of_equal_size() -> None:
    # 29 windows and 5 full layers: groups of 5, six of windows with one padded place.
    found = pool("google/gemma-3-4b-it")
    assert len(found.groups) == 7
    assert found.stage_block_bytes == (5 * 16 * 2 * 4 * 256 * 2,)


def test_groups_of_nearly_equal_types_take_the_larger_size() -> None:
    # 8 full and 10 sliding layers: padded to 10 since 0.12, five groups of 2 or so before.
    numbers = {
        "architectures": ["Olmo3ForCausalLM"],
        "hidden_size": 256,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "intermediate_size": 512,
        "vocab_size": 1024,
        "sliding_window": 128,
        "layer_types": ["full_attention"] * 8 + ["sliding_attention"] * 10,
    }
    model = describe(numbers)
    options = CacheOptions(None, 16, False, None)
    old = pool_of(model, Layout(), engine_of("0.10.1"), options)
    new = pool_of(model, Layout(), engine_of("0.19.0"), options)
    page = 16 * 2 * 256 * 2
    assert (len(old.groups), old.stage_block_bytes) == (3, (8 * page,))
    assert (len(new.groups), new.stage_block_bytes) == (2, (10 * page,))


def test_windows_count_as_full_without_group_support() -> None:
    found = pool("google/gemma-3-4b-it", "0.8.5")
    assert len(found.groups) == 1
    assert found.blocks_per_request(8192, 8192) == 512


def test_chunks_count_as_full_before_they_had_groups() -> None:
    assert len(pool("meta-llama/Llama-4-Scout-17B-16E", "0.11.0").groups) == 1
    assert len(pool("meta-llama/Llama-4-Scout-17B-16E", "0.19.0").groups) == 4


def test_window_holds_itself_and_what_is_in_flight() -> None:
    found = pool("openai/gpt-oss-20b")
    # full: 131072 / 16; window: (128 - 1 + 8192) / 16 rounded up, plus one.
    assert found.blocks_per_request(131072, 8192) == 8192 + 520 + 1
    newer = pool("openai/gpt-oss-20b", "0.28.0")
    assert newer.blocks_per_request(131072, 8192) == 8192 + 1032 + 1


def test_hybrid_block_makes_attention_pages_as_large_as_a_state() -> None:
    found = pool("Qwen/Qwen3-Next-80B-A3B", "0.10.2", tensor=2)
    # State of a rank: (4096 x 3 + 16 x 128 x 128) x 2 bytes; a token has 1024 bytes of attention.
    assert found.block_size == 544
    assert found.stage_block_bytes == (12 * 544 * 1024,)
    assert len(found.groups) == 4
    assert found.blocks_per_request(262144, 8192) == 482 + 3


def test_hybrids_hold_two_states_when_prefixes_are_cached() -> None:
    cached = pool("Qwen/Qwen3-Next-80B-A3B", "0.24.0", prefix_caching=True)
    assert cached.states_per_request == 2
    assert pool("Qwen/Qwen3-Next-80B-A3B", "0.24.0").states_per_request == 1
    assert pool("Qwen/Qwen3-Next-80B-A3B", "0.32.0").states_per_request == 2


def test_size_in_the_log_changed_its_meaning() -> None:
    name, length = "google/gemma-3-4b-it", 8192
    old = capacity(pool(name, "0.19.0"), "0.19.0", 20 * GIB, length)
    new = capacity(pool(name, "0.21.0"), "0.21.0", 20 * GIB, length)
    assert old.blocks == new.blocks
    assert old.tokens == old.blocks // 7 * 16
    assert new.tokens == int(new.concurrency * length)


def test_longest_context_is_the_last_that_fits() -> None:
    found = pool("meta-llama/Llama-3.1-8B")
    size = found.stage_block_bytes[0]
    got = capacity(found, "0.19.0", 100 * size, 131072)
    assert not got.fits
    assert got.longest == 1600
    assert got.needed_bytes == 8192 * size


def test_newer_engines_set_one_block_aside() -> None:
    found = pool("meta-llama/Llama-3.1-8B", "0.32.0")
    exact = 512 * found.stage_block_bytes[0]
    assert not capacity(found, "0.32.0", exact, 8192).fits
    assert capacity(found, "0.19.0", exact, 8192).fits


def test_encoder_needs_no_pool() -> None:
    got = capacity(pool("BAAI/bge-m3"), "0.19.0", GIB, 8192)
    assert got.fits
    assert got.tokens == 0


@pytest.mark.parametrize(
    "name",
    [
        "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
        "tiiuae/Falcon-H1-7B-Instruct",
        "ai21labs/AI21-Jamba-1.5-Mini",
        "ibm-granite/granite-4.0-h-small",
        "moonshotai/Kimi-Linear-48B-A3B-Instruct",
    ],
)
def test_page_of_a_hybrid_is_no_smaller_than_its_state(name: str) -> None:
    model = describe(name)
    state = max(c.state_bytes(1, 16) for c, _ in model.caches if isinstance(c, State))
    token = max(c.elements_per_token() * 2 for c, _ in model.caches)
    found = pool(name, "0.24.0")
    assert found.block_size * token >= state
    assert found.block_size % 16 == 0
