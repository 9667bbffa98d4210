"""Google's Gemma models."""

from __future__ import annotations

from .rows import Config, dense, vision

_G1, _G2, _G3 = "GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"
_TOWER: Config = {
    "hidden_size": 1152,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "intermediate_size": 4304,
    "image_size": 896,
    "patch_size": 14,
}


def _gemma3(size: tuple[int, int, int, int, int], head_dim: int, *aliases: str) -> Config:
    text = dense(
        _G3,
        *size,
        262208,
        131072,
        head_dim=head_dim,
        sliding_window=1024,
        sliding_window_pattern=6,
        tie_word_embeddings=True,
        rope_local_base_freq=10000,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
    )
    return vision(
        "Gemma3ForConditionalGeneration",
        "gemma3",
        text,
        _TOWER,
        mm_tokens_per_image=256,
        aliases=list(aliases),
    )


MODELS: dict[str, Config] = {
    "google/gemma-2b": dense(
        _G1, 2048, 18, 8, 1, 16384, 256000, 8192, head_dim=256, aliases=["gemma-1.1-2b-it"]
    ),
    "google/gemma-7b": dense(
        _G1,
        3072,
        28,
        16,
        16,
        24576,
        256000,
        8192,
        head_dim=256,
        aliases=["gemma-1.1-7b-it", "codegemma-7b"],
    ),
    "google/gemma-2-2b": dense(
        _G2, 2304, 26, 8, 4, 9216, 256000, 8192, head_dim=256, sliding_window=4096
    ),
    "google/gemma-2-9b": dense(
        _G2, 3584, 42, 16, 8, 14336, 256000, 8192, head_dim=256, sliding_window=4096
    ),
    "google/gemma-2-27b": dense(
        _G2, 4608, 46, 32, 16, 36864, 256000, 8192, head_dim=128, sliding_window=4096
    ),
    "google/gemma-3-270m": dense(
        _G3,
        640,
        18,
        4,
        1,
        2048,
        262144,
        32768,
        head_dim=256,
        sliding_window=512,
        sliding_window_pattern=6,
        rope_local_base_freq=10000,
    ),
    "google/gemma-3-1b": dense(
        _G3,
        1152,
        26,
        4,
        1,
        6912,
        262144,
        32768,
        head_dim=256,
        sliding_window=512,
        sliding_window_pattern=6,
        rope_local_base_freq=10000,
    ),
    "google/gemma-3-4b": _gemma3((2560, 34, 8, 4, 10240), 256, "medgemma-4b-it"),
    "google/gemma-3-12b": _gemma3((3840, 48, 16, 8, 15360), 256),
    "google/gemma-3-27b": _gemma3((5376, 62, 32, 16, 21504), 128, "medgemma-27b-it"),
    "google/embeddinggemma-300m": {
        **dense(
            "Gemma3TextModel",
            768,
            24,
            3,
            1,
            1152,
            262144,
            2048,
            head_dim=256,
            sliding_window=512,
            sliding_window_pattern=6,
            rope_local_base_freq=10000,
        ),
    },
}
