"""One row per decoder architecture: what its modelling code fixes and its config does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Traits:
    """What the modelling code of an architecture fixes and its config does not say.

    `bias` is the default of attention's input bias, `out_bias` of its output bias ("config": read
    `attention_bias`). `norms` counts vectors of hidden size per layer.
    """

    family: str
    gated: bool = True
    bias: bool | str = "config"
    out_bias: bool | str = False
    mlp_bias: bool = False
    norms: int = 2
    norm_bias: bool = False
    qk_norm: str = ""
    tied: bool = False
    head_bias: bool = False
    learned_positions: int = 0
    moe: bool = False
    correction: bool = False
    expert_bias: bool = False
    shared_gate: bool = False
    shared_expert: bool = False
    sinks: bool = False
    windowed: bool = False
    window_period: int = 0


DECODERS: Mapping[str, Traits] = {
    "LlamaForCausalLM": Traits("dense_gqa", out_bias="config"),
    "LLaMAForCausalLM": Traits("dense_gqa", out_bias="config"),
    "MistralForCausalLM": Traits("dense_gqa", windowed=True),
    "Ministral3ForCausalLM": Traits("dense_gqa"),
    "Qwen2ForCausalLM": Traits("dense_gqa", bias=True),
    "Qwen3ForCausalLM": Traits("dense_gqa", qk_norm="head"),
    "Phi3ForCausalLM": Traits("dense_gqa", bias=False),
    "PhiForCausalLM": Traits(
        "dense_mha",
        gated=False,
        bias=True,
        out_bias=True,
        mlp_bias=True,
        norms=1,
        norm_bias=True,
        head_bias=True,
    ),
    "GraniteForCausalLM": Traits("dense_gqa"),
    "GemmaForCausalLM": Traits("dense_mha", tied=True),
    "Gemma2ForCausalLM": Traits(
        "swa_hybrid_dense", norms=4, tied=True, windowed=True, window_period=2
    ),
    "Gemma3ForCausalLM": Traits(
        "swa_hybrid_dense",
        norms=4,
        tied=True,
        qk_norm="head",
        windowed=True,
        window_period=6,
    ),
    "CohereForCausalLM": Traits("dense_gqa", norms=1, tied=True),
    "Cohere2ForCausalLM": Traits(
        "swa_hybrid_dense", norms=1, tied=True, windowed=True, window_period=4
    ),
    "Olmo2ForCausalLM": Traits("dense_gqa", qk_norm="full"),
    "Olmo3ForCausalLM": Traits("swa_hybrid_dense", qk_norm="full", windowed=True, window_period=4),
    "Starcoder2ForCausalLM": Traits(
        "dense_gqa",
        gated=False,
        bias=True,
        out_bias=True,
        mlp_bias=True,
        norm_bias=True,
        tied=True,
    ),
    "GPT2LMHeadModel": Traits(
        "dense_mha",
        gated=False,
        bias=True,
        out_bias=True,
        mlp_bias=True,
        norm_bias=True,
        tied=True,
        learned_positions=1024,
    ),
    "OPTForCausalLM": Traits(
        "dense_mha",
        gated=False,
        bias=True,
        out_bias=True,
        mlp_bias=True,
        norm_bias=True,
        tied=True,
        learned_positions=2050,
    ),
    "GPTNeoXForCausalLM": Traits(
        "dense_mha", gated=False, bias=True, out_bias=True, mlp_bias=True, norm_bias=True
    ),
    "ArceeForCausalLM": Traits("dense_gqa", gated=False),
    # Its norms have no weights.
    "OlmoForCausalLM": Traits("dense_mha", norms=0),
    "HunYuanDenseV1ForCausalLM": Traits("dense_gqa", qk_norm="head", tied=True),
    "StableLmForCausalLM": Traits("dense_gqa", norm_bias=True),
    "InternLM2ForCausalLM": Traits("dense_gqa", bias=False),
    "InternLM3ForCausalLM": Traits("dense_gqa", bias=False),
    "ExaoneForCausalLM": Traits("dense_gqa", bias=False),
    "Exaone4ForCausalLM": Traits("dense_gqa", qk_norm="head", windowed=True, window_period=4),
    "Glm4ForCausalLM": Traits("dense_gqa", norms=4),
    "GlmForCausalLM": Traits("dense_gqa"),
    "NemotronForCausalLM": Traits("dense_gqa", gated=False, norm_bias=True),
    "SmolLM3ForCausalLM": Traits("dense_gqa", tied=True),
    "SeedOssForCausalLM": Traits("dense_gqa"),
    "ApertusForCausalLM": Traits("dense_gqa", gated=False, qk_norm="head"),
    "Ernie4_5ForCausalLM": Traits("dense_gqa", tied=True),
    "MiMoForCausalLM": Traits("dense_gqa", bias=True),
    "SolarForCausalLM": Traits("dense_gqa"),
    "MixtralForCausalLM": Traits("moe_gqa", moe=True),
    "PhiMoEForCausalLM": Traits(
        "moe_gqa", moe=True, out_bias="config", norm_bias=True, head_bias=True
    ),
    "Qwen2MoeForCausalLM": Traits("moe_mha", moe=True, bias=True, shared_gate=True),
    "Qwen3MoeForCausalLM": Traits("moe_gqa", moe=True, qk_norm="head"),
    "OlmoeForCausalLM": Traits("moe_mha", moe=True, qk_norm="full"),
    "GraniteMoeForCausalLM": Traits("moe_gqa", moe=True, tied=True),
    "HunYuanMoEV1ForCausalLM": Traits("moe_gqa", moe=True, qk_norm="head", tied=True),
    "Dots1ForCausalLM": Traits("moe_mha", moe=True, qk_norm="head", correction=True),
    "DbrxForCausalLM": Traits("moe_gqa", moe=True),
    "Glm4MoeForCausalLM": Traits("moe_gqa", moe=True, correction=True),
    "Ernie4_5_MoeForCausalLM": Traits("moe_gqa", moe=True, tied=True, correction=True),
    "MiniMaxM2ForCausalLM": Traits("moe_gqa", moe=True, correction=True, qk_norm="full"),
    "BailingMoeForCausalLM": Traits("moe_gqa", moe=True),
    "BailingMoeV2ForCausalLM": Traits("moe_gqa", moe=True, correction=True, qk_norm="head"),
    "GptOssForCausalLM": Traits(
        "gptoss_swa_moe",
        moe=True,
        bias=True,
        out_bias=True,
        expert_bias=True,
        sinks=True,
        windowed=True,
        window_period=2,
    ),
    "Llama4ForCausalLM": Traits("moe_chunked_local_hybrid", moe=True, shared_expert=True),
}
