"""Dense models of other publishers: IBM, Microsoft, Cohere, AI2, GLM, Apertus and more."""

from __future__ import annotations

from .rows import Config, dense

_GRANITE, _PHI3, _COHERE = "GraniteForCausalLM", "Phi3ForCausalLM", "CohereForCausalLM"

MODELS: dict[str, Config] = {
    "ibm-granite/granite-3.1-2b-instruct": dense(
        _GRANITE,
        2048,
        40,
        32,
        8,
        8192,
        49155,
        131072,
        tie_word_embeddings=True,
        aliases=["granite-3.0-2b-instruct", "granite-3.1-2b-base", "granite-3.2-2b-instruct"],
    ),
    "ibm-granite/granite-3.3-2b-instruct": dense(
        _GRANITE, 2048, 40, 32, 8, 8192, 49159, 131072, tie_word_embeddings=True
    ),
    "ibm-granite/granite-3.1-8b-instruct": dense(
        _GRANITE,
        4096,
        40,
        32,
        8,
        12800,
        49155,
        131072,
        tie_word_embeddings=True,
        aliases=["granite-3.0-8b-instruct", "granite-3.1-8b-base", "granite-3.2-8b-instruct"],
    ),
    "ibm-granite/granite-3.3-8b-instruct": dense(
        _GRANITE, 4096, 40, 32, 8, 12800, 49159, 131072, tie_word_embeddings=True
    ),
    "microsoft/phi-2": dense("PhiForCausalLM", 2560, 32, 32, 32, 10240, 51200, 2048),
    "microsoft/Phi-3-mini-4k-instruct": dense(_PHI3, 3072, 32, 32, 32, 8192, 32064, 4096),
    "microsoft/Phi-3-mini-128k-instruct": dense(
        _PHI3, 3072, 32, 32, 32, 8192, 32064, 131072, aliases=["Phi-3.5-mini-instruct"]
    ),
    "microsoft/Phi-3-medium-128k-instruct": dense(
        _PHI3, 5120, 40, 40, 10, 17920, 32064, 131072, aliases=["Phi-3-medium-4k-instruct"]
    ),
    "microsoft/phi-4": dense(_PHI3, 5120, 40, 40, 10, 17920, 100352, 16384),
    "microsoft/Phi-4-reasoning": dense(
        _PHI3, 5120, 40, 40, 10, 17920, 100352, 32768, aliases=["Phi-4-reasoning-plus"]
    ),
    "microsoft/Phi-4-mini-instruct": dense(
        _PHI3,
        3072,
        32,
        24,
        8,
        8192,
        200064,
        131072,
        tie_word_embeddings=True,
        aliases=["Phi-4-mini-reasoning"],
    ),
    "CohereLabs/c4ai-command-r-v01": dense(
        _COHERE, 8192, 40, 64, 64, 22528, 256000, 131072, aliases=["aya-23-35B"]
    ),
    "CohereLabs/c4ai-command-r-08-2024": dense(
        _COHERE, 8192, 40, 64, 8, 24576, 256000, 131072, aliases=["aya-expanse-32b"]
    ),
    "CohereLabs/c4ai-command-r-plus": dense(
        _COHERE, 12288, 64, 96, 8, 33792, 256000, 131072, use_qk_norm=True
    ),
    "CohereLabs/aya-expanse-8b": dense(_COHERE, 4096, 32, 32, 8, 14336, 256000, 8192),
    "CohereLabs/c4ai-command-r7b-12-2024": dense(
        "Cohere2ForCausalLM", 4096, 32, 32, 8, 14336, 256000, 132096, sliding_window=4096
    ),
    "CohereLabs/c4ai-command-a-03-2025": dense(
        "Cohere2ForCausalLM",
        12288,
        64,
        96,
        8,
        36864,
        256000,
        131072,
        head_dim=128,
        sliding_window=4096,
    ),
    "allenai/OLMo-2-1124-7B": dense(
        "Olmo2ForCausalLM",
        4096,
        32,
        32,
        32,
        11008,
        100352,
        4096,
        aliases=["OLMo-2-1124-7B-Instruct"],
    ),
    "allenai/OLMo-2-1124-13B": dense(
        "Olmo2ForCausalLM",
        5120,
        40,
        40,
        40,
        13824,
        100352,
        4096,
        aliases=["OLMo-2-1124-13B-Instruct"],
    ),
    "allenai/OLMo-2-0325-32B": dense(
        "Olmo2ForCausalLM",
        5120,
        64,
        40,
        8,
        27648,
        100352,
        4096,
        aliases=["OLMo-2-0325-32B-Instruct"],
    ),
    "bigcode/starcoder2-3b": dense("Starcoder2ForCausalLM", 3072, 30, 24, 2, 12288, 49152, 16384),
    "bigcode/starcoder2-7b": dense("Starcoder2ForCausalLM", 4608, 32, 36, 4, 18432, 49152, 16384),
    "bigcode/starcoder2-15b": dense("Starcoder2ForCausalLM", 6144, 40, 48, 4, 24576, 49152, 16384),
    "facebook/opt-125m": dense("OPTForCausalLM", 768, 12, 12, 12, 3072, 50272, 2048),
    "facebook/opt-1.3b": dense("OPTForCausalLM", 2048, 24, 32, 32, 8192, 50272, 2048),
    "facebook/opt-6.7b": dense("OPTForCausalLM", 4096, 32, 32, 32, 16384, 50272, 2048),
    "facebook/opt-13b": dense("OPTForCausalLM", 5120, 40, 40, 40, 20480, 50272, 2048),
    "openai-community/gpt2": dense("GPT2LMHeadModel", 768, 12, 12, 12, 3072, 50257, 1024),
    "stabilityai/stablelm-2-1_6b": dense(
        "StableLmForCausalLM", 2048, 24, 32, 32, 5632, 100352, 4096, use_qkv_bias=True
    ),
    "internlm/internlm2_5-7b-chat": dense(
        "InternLM2ForCausalLM", 4096, 32, 32, 8, 14336, 92544, 32768, aliases=["internlm2_5-7b"]
    ),
    "internlm/internlm2_5-20b-chat": dense(
        "InternLM2ForCausalLM", 6144, 48, 48, 8, 16384, 92544, 32768, aliases=["internlm2_5-20b"]
    ),
    "zai-org/GLM-4-9B-0414": dense(
        "Glm4ForCausalLM",
        4096,
        40,
        32,
        2,
        13696,
        151552,
        32768,
        head_dim=128,
        attention_bias=True,
        aliases=["GLM-Z1-9B-0414"],
    ),
    "zai-org/GLM-4-32B-0414": dense(
        "Glm4ForCausalLM",
        6144,
        61,
        48,
        2,
        23040,
        151552,
        32768,
        head_dim=128,
        aliases=["GLM-Z1-32B-0414"],
    ),
    "ByteDance-Seed/Seed-OSS-36B-Instruct": dense(
        "SeedOssForCausalLM",
        5120,
        64,
        80,
        8,
        27648,
        155136,
        524288,
        head_dim=128,
        attention_bias=True,
        aliases=["Seed-OSS-36B-Base"],
    ),
    "swiss-ai/Apertus-8B-2509": dense(
        "ApertusForCausalLM",
        4096,
        32,
        32,
        8,
        21504,
        131072,
        65536,
        aliases=["Apertus-8B-Instruct-2509"],
    ),
    "swiss-ai/Apertus-70B-2509": dense(
        "ApertusForCausalLM",
        8192,
        80,
        64,
        8,
        43008,
        131072,
        65536,
        aliases=["Apertus-70B-Instruct-2509"],
    ),
    "nvidia/Nemotron-Mini-4B-Instruct": dense(
        "NemotronForCausalLM", 3072, 32, 24, 8, 9216, 256000, 4096, head_dim=128
    ),
    "nvidia/Minitron-8B-Base": dense(
        "NemotronForCausalLM", 4096, 32, 48, 8, 16384, 256000, 4096, head_dim=128
    ),
}
