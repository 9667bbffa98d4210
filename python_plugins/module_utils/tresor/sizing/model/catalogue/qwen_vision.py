"""Alibaba's Qwen models with a vision tower, and the gated delta hybrids."""

from __future__ import annotations

from .rows import Config, dense, vision

_TOWER_25: Config = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3420,
    "patch_size": 14,
    "spatial_merge_size": 2,
}
_TOWER_2: Config = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}
_TOWER_3: Config = {
    "depth": 27,
    "hidden_size": 1152,
    "num_heads": 16,
    "intermediate_size": 4304,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
}
_TOWER_3_SMALL: Config = {
    **_TOWER_3,
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "deepstack_visual_indexes": [5, 11, 17],
}
_TOWER_35: Config = {**_TOWER_3, "deepstack_visual_indexes": []}
_TOWER_35_SMALL: Config = {
    **_TOWER_35,
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
}
_TOWER_35_TINY: Config = {**_TOWER_35, "depth": 12, "hidden_size": 768, "intermediate_size": 3072,
                          "num_heads": 12}  # fmt: skip


def _vl(generation: str, text: Config, tower: Config, *aliases: str, tied: bool = False) -> Config:
    architecture = {
        "2": "Qwen2VLForConditionalGeneration",
        "2_5": "Qwen2_5_VLForConditionalGeneration",
        "3": "Qwen3VLForConditionalGeneration",
        "3_moe": "Qwen3VLMoeForConditionalGeneration",
    }[generation]
    kind = {"2": "qwen2_vl", "2_5": "qwen2_5_vl", "3": "qwen3_vl", "3_moe": "qwen3_vl_moe"}
    return vision(
        architecture,
        kind[generation],
        text,
        tower,
        tie_word_embeddings=tied,
        aliases=list(aliases),
    )


def _q2(size: tuple[int, int, int, int, int], vocab: int, context: int) -> Config:
    return dense("Qwen2ForCausalLM", *size, vocab, context)


def _q3(size: tuple[int, int, int, int, int]) -> Config:
    return dense("Qwen3ForCausalLM", *size, 151936, 262144, head_dim=128)


def _q3_moe(size: tuple[int, int, int, int, int], inner: int) -> Config:
    return dense(
        "Qwen3MoeForCausalLM",
        *size,
        151936,
        262144,
        head_dim=128,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=inner,
    )


def _delta(
    size: tuple[int, int, int, int, int],
    value_heads: int,
    vocab: int,
    architecture: str,
    **more: object,
) -> Config:
    return dense(
        architecture,
        *size,
        vocab,
        262144,
        head_dim=256,
        full_attention_interval=4,
        linear_num_key_heads=16,
        linear_num_value_heads=value_heads,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
        **more,
    )


def _q35(
    size: tuple[int, int, int, int, int],
    value_heads: int,
    tower: Config,
    *aliases: str,
    tied: bool = False,
    **more: object,
) -> Config:
    sparse = "num_experts" in more
    text = _delta(
        size,
        value_heads,
        248320,
        "Qwen3_5MoeForCausalLM" if sparse else "Qwen3_5ForCausalLM",
        mamba_ssm_dtype="float32",
        **more,
    )
    name = "Qwen3_5MoeForConditionalGeneration" if sparse else "Qwen3_5ForConditionalGeneration"
    return vision(
        name,
        "qwen3_5_moe" if sparse else "qwen3_5",
        text,
        tower,
        tie_word_embeddings=tied,
        aliases=list(aliases),
    )


MODELS: dict[str, Config] = {
    "Qwen/Qwen2-VL-2B": _vl("2", _q2((1536, 28, 12, 2, 8960), 151936, 32768), _TOWER_2, tied=True),
    "Qwen/Qwen2-VL-7B": _vl("2", _q2((3584, 28, 28, 4, 18944), 152064, 32768), _TOWER_2),
    "Qwen/Qwen2-VL-72B": _vl("2", _q2((8192, 80, 64, 8, 29568), 152064, 32768), _TOWER_2),
    "Qwen/Qwen2.5-VL-3B": _vl(
        "2_5", _q2((2048, 36, 16, 2, 11008), 151936, 128000), _TOWER_25, tied=True
    ),
    "Qwen/Qwen2.5-VL-7B": _vl("2_5", _q2((3584, 28, 28, 4, 18944), 152064, 128000), _TOWER_25),
    "Qwen/Qwen2.5-VL-32B": _vl(
        "2_5",
        _q2((5120, 64, 40, 8, 27648), 152064, 128000),
        {**_TOWER_25, "intermediate_size": 3456},
    ),
    "Qwen/Qwen2.5-VL-72B": _vl(
        "2_5",
        _q2((8192, 80, 64, 8, 29568), 152064, 128000),
        {**_TOWER_25, "intermediate_size": 3456},
    ),
    "Qwen/Qwen3-VL-2B": _vl("3", _q3((2048, 28, 16, 8, 6144)), _TOWER_3_SMALL, tied=True),
    "Qwen/Qwen3-VL-4B": _vl("3", _q3((2560, 36, 32, 8, 9728)), _TOWER_3_SMALL, tied=True),
    "Qwen/Qwen3-VL-8B": _vl("3", _q3((4096, 36, 32, 8, 12288)), _TOWER_3),
    "Qwen/Qwen3-VL-32B": _vl("3", _q3((5120, 64, 64, 8, 25600)), _TOWER_3),
    "Qwen/Qwen3-VL-30B-A3B": _vl("3_moe", _q3_moe((2048, 48, 32, 4, 6144), 768), _TOWER_3),
    "Qwen/Qwen3-VL-235B-A22B": _vl("3_moe", _q3_moe((4096, 94, 64, 4, 12288), 1536), _TOWER_3),
    "Qwen/Qwen3-Next-80B-A3B": _delta(
        (2048, 48, 16, 2, 5120),
        32,
        151936,
        "Qwen3NextForCausalLM",
        num_experts=512,
        num_experts_per_tok=10,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=512,
        aliases=["Qwen3-Coder-Next"],
    ),
    "Qwen/Qwen3.5-0.8B": _q35((1024, 24, 8, 2, 3584), 16, _TOWER_35_TINY, tied=True),
    "Qwen/Qwen3.5-2B": _q35((2048, 24, 8, 2, 6144), 16, _TOWER_35_SMALL, tied=True),
    "Qwen/Qwen3.5-4B": _q35((2560, 32, 16, 4, 9216), 32, _TOWER_35_SMALL, tied=True),
    "Qwen/Qwen3.5-9B": _q35((4096, 32, 16, 4, 12288), 32, _TOWER_35),
    "Qwen/Qwen3.5-27B": _q35((5120, 64, 24, 4, 17408), 48, _TOWER_35, "Qwen3.6-27B"),
    "Qwen/Qwen3.5-35B-A3B": _q35(
        (2048, 40, 16, 2, 5120),
        32,
        _TOWER_35,
        "Qwen3.6-35B-A3B",
        num_experts=256,
        num_experts_per_tok=8,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=512,
    ),
    "Qwen/Qwen3.5-122B-A10B": _q35(
        (3072, 48, 32, 2, 5120),
        64,
        _TOWER_35,
        num_experts=256,
        num_experts_per_tok=8,
        moe_intermediate_size=1024,
        shared_expert_intermediate_size=1024,
    ),
    "Qwen/Qwen3.5-397B-A17B": _q35(
        (4096, 60, 32, 2, 5120),
        64,
        _TOWER_35,
        num_experts=512,
        num_experts_per_tok=10,
        moe_intermediate_size=1024,
        shared_expert_intermediate_size=1024,
    ),
}
