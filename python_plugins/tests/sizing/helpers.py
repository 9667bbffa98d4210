"""A small model of our own, as a config and as a checkpoint directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def config(**changes: Any) -> dict[str, Any]:
    """Return the config with changes; None removes a field."""
    merged = {**CONFIG, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def tensors(dtype: str = "BF16", width: int = 2) -> dict[str, tuple[str, list[int], int]]:
    """Return every tensor of the model: name -> dtype, shape, bytes."""
    shapes: dict[str, list[int]] = {
        "model.embed_tokens.weight": [1000, 256],
        "model.norm.weight": [256],
        "lm_head.weight": [1000, 256],
    }
    for layer in range(4):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.self_attn.q_proj.weight": [256, 256],
            f"{prefix}.self_attn.k_proj.weight": [64, 256],
            f"{prefix}.self_attn.v_proj.weight": [64, 256],
            f"{prefix}.self_attn.o_proj.weight": [256, 256],
            f"{prefix}.mlp.gate_proj.weight": [512, 256],
            f"{prefix}.mlp.up_proj.weight": [512, 256],
            f"{prefix}.mlp.down_proj.weight": [256, 512],
            f"{prefix}.input_layernorm.weight": [256],
            f"{prefix}.post_attention_layernorm.weight": [256],
        }
    found = {}
    for name, shape in shapes.items():
        elements = 1
        for side in shape:
            elements *= side
        found[name] = (dtype, shape, elements * width)
    return found


def header(content: dict[str, Any]) -> bytes:
    """Return a safetensors header with its length in front."""
    raw = json.dumps(content).encode()
    return len(raw).to_bytes(8, "little") + raw


def write_shard(path: Path, content: dict[str, tuple[str, list[int], int]]) -> None:
    """Write a safetensors file whose tensors are zeros."""
    offset, entries = 0, {}
    for name, (dtype, shape, size) in content.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    path.write_bytes(header(entries) + bytes(offset))


def write_model(directory: Path, **changes: Any) -> Path:
    """Write config and one shard, return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config(**changes)))
    write_shard(directory / "model.safetensors", tensors())
    return directory
