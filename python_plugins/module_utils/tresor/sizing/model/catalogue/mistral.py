"""Mistral AI's models."""

from __future__ import annotations

from .rows import Config, dense, vision

_M, _X = "MistralForCausalLM", "MixtralForCausalLM"
_TOWER: Config = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 1540,
    "patch_size": 14,
}
_FP8: Config = {
    "quant_method": "fp8",
    "activation_scheme": "static",
    "modules_to_not_convert": ["vision_tower", "multi_modal_projector", "lm_head"],
}
_SMALL_3 = dense(_M, 5120, 40, 32, 8, 32768, 131072, 131072, head_dim=128)


def _seeing(*aliases: str) -> Config:
    return vision(
        "Mistral3ForConditionalGeneration",
        "mistral3",
        _SMALL_3,
        _TOWER,
        spatial_merge_size=2,
        aliases=list(aliases),
    )


def _ministral(size: tuple[int, int, int, int, int], *aliases: str, tied: bool = False) -> Config:
    return vision(
        "Mistral3ForConditionalGeneration",
        "mistral3",
        dense(_M, *size, 131072, 262144, head_dim=128, tie_word_embeddings=tied),
        _TOWER,
        spatial_merge_size=2,
        quantization_config=_FP8,
        aliases=list(aliases),
    )


MODELS: dict[str, Config] = {
    "mistralai/Ministral-3-3B-Instruct-2512": _ministral((3072, 26, 32, 8, 9216), tied=True),
    "mistralai/Ministral-3-8B-Instruct-2512": _ministral((4096, 34, 32, 8, 14336)),
    "mistralai/Ministral-3-14B-Instruct-2512": _ministral((5120, 40, 32, 8, 16384)),
    "mistralai/Devstral-Small-2-24B-Instruct-2512": _ministral((5120, 40, 32, 8, 32768)),
    "mistralai/Mistral-7B-v0.1": dense(
        _M,
        4096,
        32,
        32,
        8,
        14336,
        32000,
        32768,
        sliding_window=4096,
        aliases=["Mistral-7B-Instruct-v0.1", "zephyr-7b-beta", "e5-mistral-7b-instruct"],
    ),
    "mistralai/Mistral-7B-Instruct-v0.2": dense(
        _M, 4096, 32, 32, 8, 14336, 32000, 32768, aliases=["Mistral-7B-v0.2"]
    ),
    "mistralai/Mistral-7B-Instruct-v0.3": dense(
        _M, 4096, 32, 32, 8, 14336, 32768, 32768, aliases=["Mistral-7B-v0.3"]
    ),
    "mistralai/Mistral-Nemo-Instruct-2407": dense(
        _M,
        5120,
        40,
        32,
        8,
        14336,
        131072,
        131072,
        head_dim=128,
        aliases=["Mistral-Nemo-Base-2407"],
    ),
    "mistralai/Mistral-Small-24B-Instruct-2501": dense(
        _M,
        5120,
        40,
        32,
        8,
        32768,
        131072,
        32768,
        head_dim=128,
        aliases=["Mistral-Small-24B-Base-2501"],
    ),
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": _seeing(
        "Mistral-Small-3.2-24B-Instruct-2506",
        "Mistral-Small-3.1-24B-Base-2503",
        "Magistral-Small-2509",
    ),
    "mistralai/Devstral-Small-2505": dense(
        _M,
        5120,
        40,
        32,
        8,
        32768,
        131072,
        131072,
        head_dim=128,
        aliases=["Devstral-Small-2507", "Magistral-Small-2506", "Magistral-Small-2507"],
    ),
    "mistralai/Mistral-Small-Instruct-2409": dense(
        _M, 6144, 56, 48, 8, 16384, 32768, 32768, head_dim=128
    ),
    "mistralai/Codestral-22B-v0.1": dense(_M, 6144, 56, 48, 8, 16384, 32768, 32768, head_dim=128),
    "mistralai/Mistral-Large-Instruct-2407": dense(
        _M,
        12288,
        88,
        96,
        8,
        28672,
        32768,
        131072,
        head_dim=128,
        aliases=["Mistral-Large-Instruct-2411"],
    ),
    "mistralai/Ministral-8B-Instruct-2410": dense(
        _M, 4096, 36, 32, 8, 12288, 131072, 32768, head_dim=128
    ),
    "mistralai/Pixtral-12B-2409": vision(
        "PixtralForConditionalGeneration",
        "pixtral",
        dense(_M, 5120, 40, 32, 8, 14336, 131072, 131072, head_dim=128),
        {**_TOWER, "image_size": 1024, "patch_size": 16},
        multimodal_projector_bias=True,
        aliases=["pixtral-12b"],
    ),
    "mistralai/Mixtral-8x7B-v0.1": dense(
        _X,
        4096,
        32,
        32,
        8,
        14336,
        32000,
        32768,
        num_local_experts=8,
        num_experts_per_tok=2,
        aliases=["Mixtral-8x7B-Instruct-v0.1", "Nous-Hermes-2-Mixtral-8x7B-DPO"],
    ),
    "mistralai/Mixtral-8x22B-v0.1": dense(
        _X,
        6144,
        56,
        48,
        8,
        16384,
        32000,
        65536,
        num_local_experts=8,
        num_experts_per_tok=2,
    ),
    "mistralai/Mixtral-8x22B-Instruct-v0.1": dense(
        _X,
        6144,
        56,
        48,
        8,
        16384,
        32768,
        65536,
        num_local_experts=8,
        num_experts_per_tok=2,
    ),
}
