"""Models with latent attention: DeepSeek, Kimi, Moonlight, GLM-5; and DeepSeek's dense ones."""

from __future__ import annotations

from .rows import FP8_BLOCK, Config, dense, vision

_L = "LlamaForCausalLM"
_LATENT: Config = {
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}
_V3: Config = {
    **_LATENT,
    "q_lora_rank": 1536,
    "moe_intermediate_size": 2048,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "topk_method": "noaux_tc",
}
_INT4_EXPERTS: Config = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "input_activations": None,
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": 32,
            },
        }
    },
    "ignore": [
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        "re:.*mlp\\.(gate|up|gate_up|down)_proj.*",
    ],
}


def _deepseek3(architecture: str, *aliases: str, **more: object) -> Config:
    return dense(
        architecture,
        7168,
        61,
        128,
        128,
        18432,
        129280,
        163840,
        n_routed_experts=256,
        first_k_dense_replace=3,
        quantization_config=FP8_BLOCK,
        aliases=list(aliases),
        **_V3,
        **more,
    )


def _kimi_k2(context: int, **more: object) -> Config:
    return dense(
        "DeepseekV3ForCausalLM",
        7168,
        61,
        64,
        64,
        18432,
        163840,
        context,
        n_routed_experts=384,
        first_k_dense_replace=1,
        **_V3,
        **more,
    )


_MOONLIGHT: Config = {
    **_LATENT,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1408,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "topk_method": "noaux_tc",
}

MODELS: dict[str, Config] = {
    "deepseek-ai/deepseek-llm-7b-base": dense(
        _L, 4096, 30, 32, 32, 11008, 102400, 4096, aliases=["deepseek-llm-7b"]
    ),
    "deepseek-ai/deepseek-llm-67b-base": dense(
        _L, 8192, 95, 64, 8, 22016, 102400, 4096, aliases=["deepseek-llm-67b"]
    ),
    "deepseek-ai/deepseek-coder-1.3b-base": dense(
        _L, 2048, 24, 16, 16, 5504, 32256, 16384, aliases=["deepseek-coder-1.3b"]
    ),
    "deepseek-ai/deepseek-coder-6.7b-base": dense(
        _L, 4096, 32, 32, 32, 11008, 32256, 16384, aliases=["deepseek-coder-6.7b"]
    ),
    "deepseek-ai/deepseek-coder-33b-base": dense(
        _L, 7168, 62, 56, 8, 19200, 32256, 16384, aliases=["deepseek-coder-33b"]
    ),
    "deepseek-ai/DeepSeek-V2-Lite": dense(
        "DeepseekV2ForCausalLM",
        2048,
        27,
        16,
        16,
        10944,
        102400,
        163840,
        n_routed_experts=64,
        num_experts_per_tok=6,
        moe_intermediate_size=1408,
        n_shared_experts=2,
        first_k_dense_replace=1,
        aliases=["DeepSeek-V2-Lite-Chat", "DeepSeek-Coder-V2-Lite-Instruct"],
        **_LATENT,
    ),
    "deepseek-ai/DeepSeek-V2": dense(
        "DeepseekV2ForCausalLM",
        5120,
        60,
        128,
        128,
        12288,
        102400,
        163840,
        q_lora_rank=1536,
        n_routed_experts=160,
        num_experts_per_tok=6,
        moe_intermediate_size=1536,
        n_shared_experts=2,
        first_k_dense_replace=1,
        aliases=["DeepSeek-V2.5", "DeepSeek-Coder-V2-Instruct"],
        **_LATENT,
    ),
    "deepseek-ai/DeepSeek-V3": _deepseek3(
        "DeepseekV3ForCausalLM",
        "DeepSeek-R1",
        "DeepSeek-R1-0528",
        "DeepSeek-V3-0324",
        "DeepSeek-V3.1",
        "DeepSeek-V3.1-Terminus",
    ),
    "deepseek-ai/DeepSeek-V3.2": _deepseek3(
        "DeepseekV32ForCausalLM",
        "DeepSeek-V3.2-Exp",
        index_n_heads=64,
        index_head_dim=128,
        index_topk=2048,
    ),
    "moonshotai/Kimi-K2-Instruct": _kimi_k2(
        131072, quantization_config=FP8_BLOCK, aliases=["Kimi-K2-Base"]
    ),
    "moonshotai/Kimi-K2-Instruct-0905": _kimi_k2(262144, quantization_config=FP8_BLOCK),
    "moonshotai/Kimi-K2-Thinking": _kimi_k2(262144, quantization_config=_INT4_EXPERTS),
    "moonshotai/Moonlight-16B-A3B": dense(
        "DeepseekV3ForCausalLM", 2048, 27, 16, 16, 11264, 163840, 8192, **_MOONLIGHT
    ),
    "moonshotai/Kimi-VL-A3B-Instruct": vision(
        "KimiVLForConditionalGeneration",
        "kimi_vl",
        dense("DeepseekV3ForCausalLM", 2048, 27, 16, 16, 11264, 163840, 131072, **_MOONLIGHT),
        {
            "hidden_size": 1152,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "intermediate_size": 4304,
            "patch_size": 14,
            "init_pos_emb_height": 64,
        },
        aliases=["Kimi-VL-A3B-Thinking", "Kimi-VL-A3B-Thinking-2506"],
    ),
    "moonshotai/Kimi-K2.5": vision(
        "KimiK25ForConditionalGeneration",
        "kimi_k25",
        _kimi_k2(262144),
        {
            "vt_hidden_size": 1152,
            "vt_num_hidden_layers": 27,
            "vt_num_attention_heads": 16,
            "vt_intermediate_size": 4304,
            "patch_size": 14,
            "init_pos_emb_height": 64,
        },
        quantization_config=_INT4_EXPERTS,
    ),
    "zai-org/GLM-5": dense(
        "GlmMoeDsaForCausalLM",
        6144,
        78,
        64,
        64,
        12288,
        154880,
        202752,
        q_lora_rank=2048,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        qk_nope_head_dim=192,
        v_head_dim=256,
        n_routed_experts=256,
        num_experts_per_tok=8,
        moe_intermediate_size=2048,
        n_shared_experts=1,
        first_k_dense_replace=3,
        topk_method="noaux_tc",
        index_n_heads=32,
        index_head_dim=128,
        index_topk=2048,
    ),
    "zai-org/GLM-4.7-Flash": dense(
        "Glm4MoeLiteForCausalLM",
        2048,
        47,
        20,
        20,
        10240,
        154880,
        202752,
        q_lora_rank=768,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        qk_nope_head_dim=192,
        v_head_dim=256,
        n_routed_experts=64,
        num_experts_per_tok=4,
        moe_intermediate_size=1536,
        n_shared_experts=1,
        first_k_dense_replace=1,
        topk_method="noaux_tc",
    ),
}
