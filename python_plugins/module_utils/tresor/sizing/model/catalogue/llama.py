"""Meta's Llama models and those built exactly like them."""

from __future__ import annotations

from .rows import Config, dense, vision

_L = "LlamaForCausalLM"
_TOWER_4: Config = {
    "hidden_size": 1408,
    "num_hidden_layers": 34,
    "num_attention_heads": 16,
    "intermediate_size": 5632,
    "image_size": 336,
    "patch_size": 14,
    "projector_input_dim": 4096,
    "projector_output_dim": 4096,
    "vision_output_dim": 4096,
}


def _llama4(experts: int, step: int, context: int) -> Config:
    text = dense(
        "Llama4ForCausalLM",
        5120,
        48,
        40,
        8,
        8192,
        202048,
        context,
        head_dim=128,
        intermediate_size_mlp=16384,
        num_local_experts=experts,
        num_experts_per_tok=1,
        interleave_moe_layer_step=step,
        attention_chunk_size=8192,
    )
    return vision("Llama4ForConditionalGeneration", "llama4", text, _TOWER_4)


_KEPT_405 = [f"model.layers.{layer}.mlp.{name}_proj" for layer in (0, 125) for name in
             ("down", "gate", "up")]  # fmt: skip

MODELS: dict[str, Config] = {
    "meta-llama/Llama-2-7b-hf": dense(_L, 4096, 32, 32, 32, 11008, 32000, 4096),
    "meta-llama/Llama-2-13b-hf": dense(_L, 5120, 40, 40, 40, 13824, 32000, 4096),
    "meta-llama/Llama-2-70b-hf": dense(_L, 8192, 80, 64, 8, 28672, 32000, 4096),
    "codellama/CodeLlama-7b-hf": dense(
        _L, 4096, 32, 32, 32, 11008, 32016, 16384, aliases=["CodeLlama-7b-Instruct-hf"]
    ),
    "codellama/CodeLlama-13b-hf": dense(
        _L, 5120, 40, 40, 40, 13824, 32016, 16384, aliases=["CodeLlama-13b-Instruct-hf"]
    ),
    "codellama/CodeLlama-34b-hf": dense(
        _L, 8192, 48, 64, 8, 22016, 32000, 16384, aliases=["CodeLlama-34b-Instruct-hf"]
    ),
    "meta-llama/Meta-Llama-3-8B": dense(_L, 4096, 32, 32, 8, 14336, 128256, 8192),
    "meta-llama/Meta-Llama-3-70B": dense(_L, 8192, 80, 64, 8, 28672, 128256, 8192),
    "meta-llama/Llama-3.1-8B": dense(
        _L,
        4096,
        32,
        32,
        8,
        14336,
        128256,
        131072,
        aliases=[
            "Hermes-3-Llama-3.1-8B",
            "Llama-Guard-3-8B",
            "Llama-3.1-Tulu-3-8B",
            "DeepSeek-R1-Distill-Llama-8B",
            "Llama-3.1-Nemotron-Nano-8B-v1",
            "Llama-3.1-SauerkrautLM-8b-Instruct",
            "Foundation-Sec-8B",
        ],
    ),
    "meta-llama/Llama-3.1-70B": dense(
        _L,
        8192,
        80,
        64,
        8,
        28672,
        128256,
        131072,
        aliases=[
            "Llama-3.3-70B-Instruct",
            "Hermes-3-Llama-3.1-70B",
            "Hermes-4-70B",
            "Llama-3.1-Nemotron-70B-Instruct-HF",
            "DeepSeek-R1-Distill-Llama-70B",
            "Llama-3.1-SauerkrautLM-70b-Instruct",
        ],
    ),
    "meta-llama/Llama-3.1-405B": dense(
        _L, 16384, 126, 128, 8, 53248, 128256, 131072, aliases=["Hermes-3-Llama-3.1-405B"]
    ),
    "meta-llama/Llama-3.1-405B-FP8": dense(
        _L,
        16384,
        126,
        128,
        8,
        53248,
        128256,
        131072,
        quantization_config={
            "quant_method": "fbgemm_fp8",
            "modules_to_not_convert": ["re:.*self_attn.*", *_KEPT_405, "lm_head"],
        },
        aliases=["Llama-3.1-405B-Instruct-FP8"],
    ),
    "meta-llama/Llama-3.2-1B": dense(
        _L,
        2048,
        16,
        32,
        8,
        8192,
        128256,
        131072,
        head_dim=64,
        tie_word_embeddings=True,
        aliases=["Llama-Guard-3-1B"],
    ),
    "meta-llama/Llama-3.2-3B": dense(
        _L,
        3072,
        28,
        24,
        8,
        8192,
        128256,
        131072,
        head_dim=128,
        tie_word_embeddings=True,
        aliases=["Hermes-3-Llama-3.2-3B"],
    ),
    "meta-llama/Llama-4-Scout-17B-16E": _llama4(16, 1, 10485760),
    "meta-llama/Llama-4-Maverick-17B-128E": _llama4(128, 2, 1048576),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": dense(
        _L, 2048, 22, 32, 4, 5632, 32000, 2048, aliases=["TinyLlama-1.1B"]
    ),
    "HuggingFaceTB/SmolLM2-135M": dense(
        _L, 576, 30, 9, 3, 1536, 49152, 8192, tie_word_embeddings=True
    ),
    "HuggingFaceTB/SmolLM2-360M": dense(
        _L, 960, 32, 15, 5, 2560, 49152, 8192, tie_word_embeddings=True
    ),
    "HuggingFaceTB/SmolLM2-1.7B": dense(
        _L, 2048, 24, 32, 32, 8192, 49152, 8192, tie_word_embeddings=True
    ),
    "HuggingFaceTB/SmolLM3-3B": dense(
        "SmolLM3ForCausalLM", 2048, 36, 16, 4, 11008, 128256, 65536, tie_word_embeddings=True
    ),
    "01-ai/Yi-34B": dense(_L, 7168, 60, 56, 8, 20480, 64000, 4096, aliases=["Yi-1.5-34B"]),
    "01-ai/Yi-1.5-9B": dense(_L, 4096, 48, 32, 4, 11008, 64000, 4096, aliases=["Yi-9B"]),
    "01-ai/Yi-6B": dense(_L, 4096, 32, 32, 4, 11008, 64000, 4096, aliases=["Yi-1.5-6B"]),
    "upstage/SOLAR-10.7B-v1.0": dense(_L, 4096, 48, 32, 8, 14336, 32000, 4096),
    "utter-project/EuroLLM-9B": dense(_L, 4096, 42, 32, 8, 12288, 128000, 4096),
    "utter-project/EuroLLM-1.7B": dense(_L, 2048, 24, 16, 8, 5632, 128000, 4096),
    "lmsys/vicuna-7b-v1.5": dense(_L, 4096, 32, 32, 32, 11008, 32000, 4096),
    "lmsys/vicuna-13b-v1.5": dense(_L, 5120, 40, 40, 40, 13824, 32000, 4096),
}
