"""Alibaba's Qwen text models."""

from __future__ import annotations

from .rows import Config, dense

_Q2, _Q3, _MOE = "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM"


def _q2(
    size: tuple[int, int, int, int, int], vocab: int, context: int = 32768, **more: object
) -> Config:
    return dense(_Q2, *size, vocab, context, **more)


def _q3(size: tuple[int, int, int, int, int], context: int = 40960, **more: object) -> Config:
    return dense(_Q3, *size, 151936, context, head_dim=128, **more)


def _moe(
    size: tuple[int, int, int, int, int],
    experts: int,
    inner: int,
    context: int = 40960,
    **more: object,
) -> Config:
    return dense(
        _MOE,
        *size,
        151936,
        context,
        head_dim=128,
        num_experts=experts,
        num_experts_per_tok=8,
        moe_intermediate_size=inner,
        **more,
    )


_0B5 = (896, 24, 14, 2, 4864)
_1B5 = (1536, 28, 12, 2, 8960)
_3B = (2048, 36, 16, 2, 11008)
_7B = (3584, 28, 28, 4, 18944)
_14B = (5120, 48, 40, 8, 13824)
_32B = (5120, 64, 40, 8, 27648)
_72B = (8192, 80, 64, 8, 29568)

MODELS: dict[str, Config] = {
    "Qwen/Qwen1.5-7B": _q2((4096, 32, 32, 32, 11008), 151936),
    "Qwen/Qwen1.5-14B": _q2((5120, 40, 40, 40, 13696), 152064),
    "Qwen/Qwen1.5-32B": _q2((5120, 64, 40, 8, 27392), 152064),
    "Qwen/Qwen2-0.5B": _q2(_0B5, 151936, 131072, tie_word_embeddings=True),
    "Qwen/Qwen2-1.5B": _q2(_1B5, 151936, 131072, tie_word_embeddings=True),
    "Qwen/Qwen2-7B": _q2(_7B, 152064, 131072),
    "Qwen/Qwen2-72B": _q2(_72B, 152064, 131072),
    "Qwen/Qwen2.5-0.5B": _q2(
        _0B5, 151936, tie_word_embeddings=True, aliases=["Qwen2.5-Coder-0.5B"]
    ),
    "Qwen/Qwen2.5-1.5B": _q2(
        _1B5, 151936, tie_word_embeddings=True, aliases=["Qwen2.5-Coder-1.5B", "Qwen2.5-Math-1.5B"]
    ),
    "Qwen/Qwen2.5-3B": _q2(_3B, 151936, tie_word_embeddings=True, aliases=["Qwen2.5-Coder-3B"]),
    "Qwen/Qwen2.5-7B": _q2(_7B, 152064, aliases=["Qwen2.5-Coder-7B", "Qwen2.5-Math-7B"]),
    "Qwen/Qwen2.5-14B": _q2(_14B, 152064, aliases=["Qwen2.5-Coder-14B"]),
    "Qwen/Qwen2.5-32B": _q2(_32B, 152064, aliases=["Qwen2.5-Coder-32B"]),
    "Qwen/Qwen2.5-72B": _q2(_72B, 152064, aliases=["Qwen2.5-Math-72B"]),
    "Qwen/QwQ-32B": _q2(_32B, 152064, 40960, aliases=["QwQ-32B-Preview"]),
    "moonshotai/Kimi-Dev-72B": _q2(_72B, 152064, 131072),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _q2(_1B5, 151936, 131072),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _q2(_7B, 152064, 131072),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": _q2(_14B, 152064, 131072),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": _q2(_32B, 152064, 131072),
    "Alibaba-NLP/gte-Qwen2-7B-instruct": _q2(_7B, 151646, 131072, embeds=True),
    "Qwen/Qwen1.5-MoE-A2.7B": dense(
        "Qwen2MoeForCausalLM",
        2048,
        24,
        16,
        16,
        5632,
        151936,
        8192,
        num_experts=60,
        num_experts_per_tok=4,
        moe_intermediate_size=1408,
        shared_expert_intermediate_size=5632,
    ),
    "Qwen/Qwen2-57B-A14B": dense(
        "Qwen2MoeForCausalLM",
        3584,
        28,
        28,
        4,
        18944,
        151936,
        131072,
        num_experts=64,
        num_experts_per_tok=8,
        moe_intermediate_size=2560,
        shared_expert_intermediate_size=20480,
    ),
    "Qwen/Qwen3-0.6B": _q3(
        (1024, 28, 16, 8, 3072), tie_word_embeddings=True, aliases=["Qwen3-Reranker-0.6B"]
    ),
    "Qwen/Qwen3-1.7B": _q3((2048, 28, 16, 8, 6144), tie_word_embeddings=True),
    "Qwen/Qwen3-4B": _q3(
        (2560, 36, 32, 8, 9728), tie_word_embeddings=True, aliases=["Qwen3-Reranker-4B"]
    ),
    "Qwen/Qwen3-4B-Instruct-2507": _q3(
        (2560, 36, 32, 8, 9728),
        tie_word_embeddings=True,
        context=262144,
        aliases=["Qwen3-4B-Thinking-2507"],
    ),
    "Qwen/Qwen3-8B": _q3(
        (4096, 36, 32, 8, 12288), aliases=["DeepSeek-R1-0528-Qwen3-8B", "Qwen3-Reranker-8B"]
    ),
    "Qwen/Qwen3-14B": _q3((5120, 40, 40, 8, 17408)),
    "Qwen/Qwen3-32B": _q3((5120, 64, 64, 8, 25600)),
    "Qwen/Qwen3-Embedding-0.6B": _q3(
        (1024, 28, 16, 8, 3072),
        tie_word_embeddings=True,
        context=32768,
        embeds=True,
    ),
    "Qwen/Qwen3-Embedding-4B": _q3(
        (2560, 36, 32, 8, 9728), tie_word_embeddings=True, context=40960, embeds=True
    ),
    "Qwen/Qwen3-Embedding-8B": _q3((4096, 36, 32, 8, 12288), context=40960, embeds=True),
    "Qwen/Qwen3-30B-A3B": _moe((2048, 48, 32, 4, 6144), 128, 768),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": _moe(
        (2048, 48, 32, 4, 6144),
        128,
        768,
        context=262144,
        aliases=["Qwen3-30B-A3B-Thinking-2507", "Qwen3-Coder-30B-A3B"],
    ),
    "Qwen/Qwen3-235B-A22B": _moe((4096, 94, 64, 4, 12288), 128, 1536),
    "Qwen/Qwen3-235B-A22B-Instruct-2507": _moe(
        (4096, 94, 64, 4, 12288),
        128,
        1536,
        context=262144,
        aliases=["Qwen3-235B-A22B-Thinking-2507"],
    ),
    "Qwen/Qwen3-Coder-480B-A35B": _moe((6144, 62, 96, 8, 8192), 160, 2560, context=262144),
}
