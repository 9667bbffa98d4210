"""The shipped catalogue, compared with parameter counts that the publishers state."""

from __future__ import annotations

import pytest

from tresor.sizing.errors import ModelError
from tresor.sizing.model import catalogue, describe
from tresor.sizing.model.shape import Attention, LatentAttention, State

# Parameters of the published checkpoints, vision towers included.
PUBLISHED = {
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "google/gemma-2-9b": 9_241_705_984,
    "microsoft/phi-4": 14_659_507_200,
}
ABOUT = {
    "deepseek-ai/DeepSeek-V3": 671e9,
    "openai/gpt-oss-120b": 117e9,
    "openai/gpt-oss-20b": 21e9,
    "Qwen/Qwen3-30B-A3B": 30.5e9,
    "Qwen/Qwen3-235B-A22B": 235e9,
    "Qwen/Qwen3-Next-80B-A3B": 80e9,
    "moonshotai/Kimi-K2-Instruct": 1.03e12,
    "meta-llama/Llama-4-Scout-17B-16E": 109e9,
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": 24e9,
    "google/gemma-3-27b": 27.4e9,
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": 8.9e9,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B": 31.6e9,
    "ai21labs/AI21-Jamba-1.5-Mini": 51.6e9,
    "ibm-granite/granite-4.0-h-small": 32.2e9,
    "BAAI/bge-m3": 567e6,
}
# In billions, as the publishers' pages state them (multi-token prediction left out).
BILLIONS = {
    "01-ai/Yi-34B": 34.389,
    "01-ai/Yi-6B": 6.061,
    "CohereLabs/c4ai-command-a-03-2025": 111.06,
    "CohereLabs/c4ai-command-r-plus": 103.81,
    "CohereLabs/c4ai-command-r7b-12-2024": 8.028,
    "EleutherAI/gpt-neox-20b": 20.555,
    "EleutherAI/pythia-12b": 11.846,
    "HuggingFaceTB/SmolLM2-135M": 0.1345,
    "HuggingFaceTB/SmolLM3-3B": 3.075,
    "LGAI-EXAONE/EXAONE-4.0-32B": 32.0,
    "LiquidAI/LFM2-1.2B": 1.170,
    "MiniMaxAI/MiniMax-M2": 228.7,
    "OpenGVLab/InternVL3-8B": 7.944,
    "Qwen/Qwen2-72B": 72.706,
    "Qwen/Qwen2-VL-7B": 8.291,
    "Qwen/Qwen2.5-32B": 32.764,
    "Qwen/Qwen2.5-VL-72B": 73.41,
    "Qwen/Qwen3-4B": 4.022,
    "Qwen/Qwen3-32B": 32.762,
    "Qwen/Qwen3-Coder-480B-A35B": 480.15,
    "Qwen/Qwen3-VL-8B": 8.767,
    "Qwen/Qwen3-VL-30B-A3B": 31.071,
    "Qwen/Qwen3-VL-235B-A22B": 235.67,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1.100,
    "allenai/OLMo-2-0325-32B": 32.234,
    "allenai/OLMoE-1B-7B-0924": 6.919,
    "baidu/ERNIE-4.5-21B-A3B-PT": 21.825,
    "databricks/dbrx-instruct": 131.6,
    "deepseek-ai/DeepSeek-V2": 235.74,
    "deepseek-ai/DeepSeek-V2-Lite": 15.706,
    "deepseek-ai/DeepSeek-V3": 671.03,
    "google/gemma-2-27b": 27.227,
    "google/gemma-3-1b": 0.99989,
    "google/gemma-3-12b": 12.187,
    "google/gemma-3-27b": 27.432,
    "google/gemma-7b": 8.538,
    "ibm-granite/granite-3.1-8b-instruct": 8.171,
    "inclusionAI/Ling-mini-2.0": 16.256,
    "internlm/internlm2_5-7b-chat": 7.738,
    "meta-llama/Llama-2-70b-hf": 68.977,
    "meta-llama/Llama-3.1-405B": 405.85,
    "meta-llama/Llama-3.2-3B": 3.213,
    "meta-llama/Llama-4-Scout-17B-16E": 108.64,
    "microsoft/Phi-3-medium-128k-instruct": 13.960,
    "microsoft/Phi-3-mini-4k-instruct": 3.821,
    "microsoft/Phi-3.5-MoE-instruct": 41.873,
    "microsoft/phi-2": 2.780,
    "mistralai/Codestral-22B-v0.1": 22.247,
    "mistralai/Ministral-8B-Instruct-2410": 8.020,
    "mistralai/Mistral-Large-Instruct-2407": 122.61,
    "mistralai/Mistral-Nemo-Instruct-2407": 12.248,
    "mistralai/Mistral-Small-24B-Instruct-2501": 23.572,
    "mistralai/Mixtral-8x22B-v0.1": 140.62,
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": 49.123,
    "nvidia/Nemotron-H-8B-Base-8K": 8.101,
    "openai/gpt-oss-120b": 116.83,
    "openai/gpt-oss-20b": 20.915,
    "swiss-ai/Apertus-70B-2509": 70.60,
    "tiiuae/Falcon-H1-7B-Instruct": 7.586,
    "tiiuae/falcon-mamba-7b": 7.273,
    "zai-org/GLM-4.5-Air": 106.85,
}
ACTIVE = {
    "deepseek-ai/DeepSeek-V3": 37e9,
    "openai/gpt-oss-120b": 5.1e9,
    "openai/gpt-oss-20b": 3.6e9,
    "Qwen/Qwen3-235B-A22B": 22e9,
    "mistralai/Mixtral-8x7B-v0.1": 12.9e9,
}


def test_catalogue_has_at_least_fifty_models() -> None:
    assert len(catalogue.names()) >= 50


@pytest.mark.parametrize("name", catalogue.names())
def test_every_entry_can_be_described(name: str) -> None:
    shape = describe(name)
    assert shape.parameters > 0
    assert sum(shape.layer_counts) == shape.num_layers


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_the_checkpoint(name: str) -> None:
    # Norm vectors and biases are part of the count, so a missing one shows.
    assert describe(name).parameters == pytest.approx(PUBLISHED[name], rel=1e-4)


@pytest.mark.parametrize("name", ABOUT)
def test_parameters_are_about_what_is_published(name: str) -> None:
    assert describe(name).parameters == pytest.approx(ABOUT[name], rel=0.015)


@pytest.mark.parametrize("name", BILLIONS)
def test_parameters_agree_to_a_thousandth(name: str) -> None:
    assert describe(name).parameters / 1e9 == pytest.approx(BILLIONS[name], rel=1e-3)


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_count_the_chosen_experts_only(name: str) -> None:
    assert describe(name).active_parameters == pytest.approx(ACTIVE[name], rel=0.03)


def test_embedding_models_of_decoders_have_no_output_head() -> None:
    # Parameters of the published checkpoints, which hold no head either.
    assert describe("Qwen/Qwen3-Embedding-8B").parameters == pytest.approx(7_567_295_488, rel=1e-3)
    assert describe("Qwen/Qwen3-Embedding-4B").parameters == pytest.approx(4_021_774_336, rel=1e-3)
    assert describe("Qwen/Qwen3-Embedding-0.6B").parameters == pytest.approx(595_776_512, rel=1e-3)
    assert describe("Qwen/Qwen3-Embedding-8B").pooling
    assert describe("Alibaba-NLP/gte-Qwen2-7B-instruct").pooling
    # A reranker answers with the probability of a token, so it keeps its head.
    assert not describe("Qwen/Qwen3-Reranker-8B").pooling


def test_head_dim_comes_from_the_config() -> None:
    shape = describe("Qwen/Qwen3-0.6B")
    assert shape.head_dim == 128
    assert shape.hidden_size // shape.heads == 64


@pytest.mark.parametrize(
    ("name", "same", "quantization"),
    [
        ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.1-70B", "bf16"),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "meta-llama/Llama-3.1-70B", "fp8_dynamic"),
        ("Qwen/Qwen3-8B-AWQ", "Qwen/Qwen3-8B", "awq_int4"),
        ("RedHatAI/Qwen2.5-7B-Instruct-quantized.w8a8", "Qwen/Qwen2.5-7B", "int8_w8a8"),
        ("nvidia/Llama-3.1-8B-Instruct-NVFP4", "meta-llama/Llama-3.1-8B", "nvfp4"),
        ("unsloth/gemma-2-9b-it-bnb-4bit", "google/gemma-2-9b", "bitsandbytes"),
        ("qwen3-8b", "Qwen/Qwen3-8B", "bf16"),
    ],
)
def test_names_of_copies_find_the_model_and_its_quantization(
    name: str, same: str, quantization: str
) -> None:
    shape = describe(name)
    assert shape.parameters_by_kind == describe(same).parameters_by_kind
    assert shape.quantization.name == quantization


def test_unknown_name_is_refused_with_near_names() -> None:
    with pytest.raises(ModelError, match=r"Qwen3-80B.*not in the catalogue.*Qwen/Qwen3"):
        describe("Qwen/Qwen3-80B")


def test_own_quantization_of_a_checkpoint_is_its_default() -> None:
    assert describe("deepseek-ai/DeepSeek-R1").quantization.name == "fp8_block"
    assert describe("openai/gpt-oss-20b").quantization.name == "mxfp4"
    assert describe("nvidia/DeepSeek-R1-NVFP4").quantization.name == "nvfp4"


def test_layers_by_kind_of_attention() -> None:
    def kinds(name: str) -> dict[str, int]:
        return {cache.label: count for cache, count in describe(name).caches}

    assert kinds("google/gemma-3-4b-it") == {"sliding": 29, "full": 5}
    assert kinds("openai/gpt-oss-20b") == {"sliding": 12, "full": 12}
    assert kinds("meta-llama/Llama-4-Scout-17B-16E-Instruct") == {"chunked": 36, "full": 12}
    assert kinds("Qwen/Qwen3-Next-80B-A3B-Instruct") == {"state": 36, "full": 12}
    assert kinds("deepseek-ai/DeepSeek-V3") == {"mla": 61}
    assert kinds("BAAI/bge-m3") == {}


def test_cache_of_a_latent_model_is_not_divided_by_ranks() -> None:
    shape = describe("deepseek-ai/DeepSeek-V3")
    assert shape.kv_bytes_per_token(16, 8) == shape.kv_bytes_per_token(16, 1) == 61 * 576 * 2
    (cache,) = (cache for cache, _ in describe("deepseek-ai/DeepSeek-V3.2").caches)
    assert isinstance(cache, LatentAttention)
    assert cache.indexer_bytes == 132


def test_cache_of_grouped_queries_repeats_heads_beyond_their_number() -> None:
    (cache,) = (cache for cache, _ in describe("Qwen/Qwen2.5-7B").caches)
    assert isinstance(cache, Attention)
    assert [cache.elements_per_token(size) for size in (1, 2, 4, 8)] == [1024, 512, 256, 256]


def test_recurrent_state_is_divided_by_ranks() -> None:
    (state,) = (c for c, _ in describe("Qwen/Qwen3-Next-80B-A3B").caches if isinstance(c, State))
    # Convolution: 8192 channels x 3; recurrence: 32 heads x 128 x 128; both 16 bit.
    assert state.state_bytes(1, 16) == (8192 * 3 + 32 * 128 * 128) * 2
    assert state.state_bytes(2, 16) * 2 == state.state_bytes(1, 16)
