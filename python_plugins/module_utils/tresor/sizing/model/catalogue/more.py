"""Models that are older, regional or less common: Falcon 3, Pythia, OPT, OLMo 3, EXAONE, Teuken."""

from __future__ import annotations

from .rows import Config, dense, vision

_L, _X = "LlamaForCausalLM", "GPTNeoXForCausalLM"
_CLIP: Config = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 336,
    "patch_size": 14,
}
_INTERN: Config = {**_CLIP, "image_size": 448}


def _llava(*size: int) -> Config:
    return vision("LlavaForConditionalGeneration", "llava", dense(_L, *size, 32064, 4096), _CLIP)


def _internvl(*size: int) -> Config:
    text = dense("Qwen2ForCausalLM", *size, 151674, 32768)
    return vision("InternVLChatModel", "internvl_chat", text, _INTERN, max_dynamic_patch=12)


MODELS: dict[str, Config] = {
    "tiiuae/Falcon3-1B-Base": dense(_L, 2048, 18, 8, 4, 8192, 131072, 4096, head_dim=256),
    "tiiuae/Falcon3-3B-Base": dense(_L, 3072, 22, 12, 4, 9216, 131072, 32768, head_dim=256),
    "tiiuae/Falcon3-7B-Base": dense(_L, 3072, 28, 12, 4, 23040, 131072, 32768, head_dim=256),
    "tiiuae/Falcon3-10B-Base": dense(_L, 3072, 40, 12, 4, 23040, 131072, 32768, head_dim=256),
    "ibm-granite/granite-7b-instruct": dense(_L, 4096, 32, 32, 32, 11008, 32008, 4096),
    "openGPT-X/Teuken-7B-instruct-research-v0.4": dense(
        _L,
        4096,
        32,
        32,
        2,
        13440,
        250680,
        4096,
        tie_word_embeddings=True,
        aliases=["Teuken-7B-instruct-commercial-v0.4"],
    ),
    "speakleash/Bielik-11B-v2": dense(
        "MistralForCausalLM",
        4096,
        50,
        32,
        8,
        14336,
        32128,
        32768,
        aliases=[
            "Bielik-11B-v2.2-Instruct",
            "Bielik-11B-v2.3-Instruct",
            "Bielik-11B-v2.6-Instruct",
        ],
    ),
    "microsoft/phi-1_5": dense("PhiForCausalLM", 2048, 24, 32, 32, 8192, 51200, 2048),
    "EleutherAI/pythia-1b": dense(
        _X, 2048, 16, 8, 8, 8192, 50304, 2048, partial_rotary_factor=0.25
    ),
    "EleutherAI/pythia-6.9b": dense(
        _X, 4096, 32, 32, 32, 16384, 50432, 2048, partial_rotary_factor=0.25
    ),
    "EleutherAI/pythia-12b": dense(
        _X, 5120, 36, 40, 40, 20480, 50688, 2048, partial_rotary_factor=0.25
    ),
    "EleutherAI/gpt-neox-20b": dense(
        _X, 6144, 44, 64, 64, 24576, 50432, 2048, partial_rotary_factor=0.25
    ),
    "facebook/opt-2.7b": dense("OPTForCausalLM", 2560, 32, 32, 32, 10240, 50272, 2048),
    "facebook/opt-30b": dense("OPTForCausalLM", 7168, 48, 56, 56, 28672, 50272, 2048),
    "allenai/Olmo-3-7B": dense(
        "Olmo3ForCausalLM",
        4096,
        32,
        32,
        32,
        11008,
        100278,
        65536,
        sliding_window=4096,
        aliases=["Olmo-3-1025-7B", "Olmo-3-7B-Instruct", "Olmo-3-7B-Think"],
    ),
    "allenai/Olmo-3-32B": dense(
        "Olmo3ForCausalLM",
        5120,
        64,
        40,
        8,
        27648,
        100278,
        65536,
        sliding_window=4096,
        aliases=["Olmo-3-1125-32B", "Olmo-3-32B-Think"],
    ),
    "LGAI-EXAONE/EXAONE-4.0-32B": dense(
        "Exaone4ForCausalLM",
        5120,
        64,
        40,
        8,
        27392,
        102400,
        131072,
        head_dim=128,
        sliding_window=4096,
        sliding_window_pattern=4,
    ),
    "llava-hf/llava-1.5-7b-hf": _llava(4096, 32, 32, 32, 11008),
    "llava-hf/llava-1.5-13b-hf": _llava(5120, 40, 40, 40, 13824),
    "OpenGVLab/InternVL3-2B": _internvl(1536, 28, 12, 2, 8960),
    "OpenGVLab/InternVL3-8B": _internvl(3584, 28, 28, 4, 18944),
    "OpenGVLab/InternVL3-14B": _internvl(5120, 48, 40, 8, 13824),
}
