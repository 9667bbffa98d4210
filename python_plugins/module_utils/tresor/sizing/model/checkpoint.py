"""A model directory: config.json for the structure, safetensors headers for the true sizes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError
from . import safetensors
from .config import shape_of
from .safetensors import Tensor
from .shape import Kind, ModelShape

MAX_CONFIG_BYTES = 4 * 1024 * 1024
# Below this difference the structure explains the checkpoint, above it the headers are believed.
_AGREES = 0.002
# Above this one the directory holds another model than its config says.
_CONTRADICTS = 0.5

_LAYER = re.compile(r"\.(?:layers|h|blocks|block)\.(\d+)\.")
_KIND_OF: tuple[tuple[str, Kind], ...] = (
    (r"vision|visual|multi_modal|mm_proj|^mlp1\.|image_newline|patch_merger", Kind.VISION),
    (r"lm_head|^output\.weight|embed_out", Kind.LM_HEAD),
    (r"embed|wte|wpe|word_embeddings|tok_embeddings", Kind.EMBEDDING),
    (r"\.indexer\.", Kind.INDEXER),
    (r"shared_expert|shared_mlp", Kind.SHARED_EXPERT),
    (r"experts", Kind.EXPERT),
    (r"linear_attn|\.mamba\.|in_proj|conv1d|\.conv\.", Kind.LINEAR_ATTENTION),
    (r"norm|ln_", Kind.NORM),
    (r"attn|attention|_proj_qkv|query_key_value", Kind.ATTENTION),
    (r"mlp|feed_forward|fc1|fc2|ffn", Kind.MLP),
)


def read_directory(directory: Path, quantization: str | None = None) -> ModelShape:
    """Return the shape of the model in a directory, sized by its safetensors headers.

    The config says what the layers are; where the headers hold other bytes for a kind of weight
    than the config explains (a format the config does not mention, modules left in 16 bit), the
    headers count. Raises `ModelError` for what is missing, hostile or contradictory.
    """
    config_path = directory / "config.json"
    if not config_path.is_file():
        raise ModelError(f"{directory}: has no config.json; give the directory of a checkpoint")
    config = safetensors.load_json(config_path, MAX_CONFIG_BYTES)
    if not isinstance(config, dict):
        raise ModelError(f"{config_path}: expected a JSON object")
    config = _with_modelopt(directory, config)
    tensors: list[Tensor] = []
    for path in safetensors.shards(directory):
        tensors += safetensors.read_header(path)
    pooling = (directory / "modules.json").is_file()
    shape = shape_of(config, directory.name, quantization=quantization, pooling=pooling)
    if not tensors:
        return shape
    return sized(shape, tensors)


def _with_modelopt(directory: Path, config: dict[str, Any]) -> Mapping[str, Any]:
    """Return the config with ModelOpt's own quantization file, as older checkpoints carry it."""
    path = directory / "hf_quant_config.json"
    if config.get("quantization_config") is not None or not path.is_file():
        return config
    data = safetensors.load_json(path, MAX_CONFIG_BYTES)
    if not isinstance(data, dict) or not isinstance(data.get("quantization"), dict):
        raise ModelError(f"{path}: expected an object with quantization")
    return {**config, "quantization_config": {"quant_method": "modelopt", **data["quantization"]}}


def sized(shape: ModelShape, tensors: list[Tensor]) -> ModelShape:
    """Return the shape with the bytes per kind that the tensors have."""
    found: dict[str, float] = {}
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise ModelError(f"model {shape.name}: tensor {tensor.name} is in two files")
        seen.add(tensor.name)
        layer = _LAYER.search(tensor.name)
        kind = _kind(tensor.name)
        if kind != Kind.VISION and layer and int(layer[1]) >= shape.num_layers:
            # Layers past the last are for multi-token prediction; the engine does not load them.
            continue
        if tensor.name.startswith("mtp."):
            continue
        if kind == Kind.LM_HEAD and (shape.tied or shape.pooling):
            continue
        found[kind] = found.get(kind, 0.0) + _loaded_bytes(tensor, shape.dtype_bits)
    factors: dict[str, float] = {}
    for kind, expected in shape.bytes_by_kind.items():
        if kind not in found or kind in (Kind.NORM, Kind.ROUTER):
            continue
        factor = found[kind] / expected
        if abs(factor - 1) > _CONTRADICTS:
            raise ModelError(
                f"model {shape.name}: its tensors hold {found[kind] / 2**30:.2f} GiB of {kind} but "
                f"config.json explains {expected / 2**30:.2f} GiB; one of them is of another model"
            )
        if abs(factor - 1) > _AGREES:
            factors[kind] = factor
    return dataclasses.replace(
        shape, factors=tuple(sorted(factors.items())), checkpoint_bytes=sum(t.size for t in tensors)
    )


def _kind(name: str) -> str:
    for pattern, kind in _KIND_OF:
        if re.search(pattern, name):
            return kind
    return Kind.ROUTER


def _loaded_bytes(tensor: Tensor, dtype_bits: int) -> float:
    """Return the bytes once loaded: plain float tensors are cast to the model's dtype."""
    if tensor.dtype in ("F32", "F64") and "scale" not in tensor.name:
        return tensor.elements * dtype_bits / 8
    return float(tensor.size)
