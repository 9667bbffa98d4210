"""Short constructors for catalogue entries; keys are those of Hugging Face's configs."""

from __future__ import annotations

Config = dict[str, object]


def dense(architecture: str, *numbers: int, **more: object) -> Config:
    """Return the config of a decoder with attention and feed-forward layers.

    `numbers` are hidden size, layers, heads, KV heads, intermediate size, vocabulary and context.
    """
    hidden, layers, heads, kv_heads, intermediate, vocab, context = numbers
    return {
        "architectures": [architecture],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        **more,
    }


def vision(
    architecture: str, model_type: str, text: Config, tower: Config, **more: object
) -> Config:
    """Return the config of a vision-language model."""
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "text_config": text,
        "vision_config": tower,
        **more,
    }


FP8_BLOCK: Config = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
}
