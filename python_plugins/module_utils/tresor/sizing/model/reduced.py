"""The reduced description of a model: its numbers without the publisher's config around them.

Keys: `model_id`, `family` (as this package names them) and `config`, or the inner numbers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ModelError, UnknownArchitectureError, listed, shown
from . import catalogue
from .catalogue.published import from_catalogue
from .config import shape_of
from .shape import ModelShape

# family -> architecture that has these layers
_FAMILIES: Mapping[str, str] = {
    "dense_gqa": "LlamaForCausalLM",
    "dense_mha": "LlamaForCausalLM",
    "dense_gqa_vlm": "MistralForCausalLM",
    "swa_hybrid_dense": "Gemma2ForCausalLM",
    "swa_hybrid_dense_vlm": "Gemma3ForCausalLM",
    "gptoss_swa_moe": "GptOssForCausalLM",
    "moe_gqa": "Qwen3MoeForCausalLM",
    "moe_mha": "Qwen2MoeForCausalLM",
    "moe_chunked_local_hybrid": "Llama4ForCausalLM",
    "mla_moe": "DeepseekV3ForCausalLM",
    "mla_dense": "DeepseekV3ForCausalLM",
    "mla_moe_vlm": "DeepseekV3ForCausalLM",
    "mla_sparse_moe": "DeepseekV32ForCausalLM",
    "gdn_hybrid_moe": "Qwen3NextForCausalLM",
    "gdn_hybrid": "Qwen3_5ForCausalLM",
    "mamba2_hybrid": "NemotronHForCausalLM",
    "encoder": "BertModel",
}
# Model names say more than their family where architectures of one family differ in detail.
_BY_NAME: tuple[tuple[str, str], ...] = (
    ("gemma-3", "Gemma3ForCausalLM"),
    ("gemma-2", "Gemma2ForCausalLM"),
    ("mixtral", "MixtralForCausalLM"),
)


def is_reduced(config: Mapping[str, Any]) -> bool:
    """Tell whether a dict is a reduced description rather than a Hugging Face config."""
    if "architectures" in config or "model_type" in config:
        return False
    return "config" in config or "hidden_size" in config


def from_reduced(description: Mapping[str, Any], quantization: str | None) -> ModelShape:
    """Return the shape of a reduced description.

    Raises `ModelError` for a family that is not known, or for numbers that fit no family.
    """
    inner = description.get("config", description)
    if not isinstance(inner, Mapping):
        raise ModelError(f"model: config is {shown(inner)}; expected a mapping")
    if "architectures" in inner or "model_type" in inner:
        return shape_of(
            inner, str(description.get("model_id", "config")), quantization=quantization
        )
    name = str(description.get("model_id", "given as numbers"))
    published = _published(name, inner, quantization)
    if published is not None:
        return published
    family = description.get("family")
    if family is None:
        architecture = _by_fields(inner, name)
    elif isinstance(family, str) and family in _FAMILIES:
        architecture = _FAMILIES[family]
    else:
        raise UnknownArchitectureError(
            f"model {name}: family {shown(family)} is not known; "
            f"known families: {listed(sorted(_FAMILIES), 30)}"
        )
    for part, wanted in _BY_NAME:
        if part in name.lower():
            architecture = wanted
    config: dict[str, Any] = {**inner, "architectures": [architecture]}
    if architecture == "GptOssForCausalLM" and quantization is None:
        config["quantization_config"] = {"quant_method": "mxfp4"}
    config.setdefault(
        "intermediate_size", config.get("moe_intermediate_size", config.get("hidden_size"))
    )
    shape_family = family if isinstance(family, str) else None
    return shape_of(config, name, quantization=quantization, family=shape_family)


def _published(
    name: str, numbers: Mapping[str, Any], quantization: str | None
) -> ModelShape | None:
    """Return the catalogue's shape of a model whose numbers agree with it.

    The catalogue knows what a reduced description leaves out: vision towers, biases, rotary tables.
    """
    try:
        found = catalogue.find(name)
    except ModelError:
        return None
    text = found.config.get("text_config", found.config)
    for field in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if field in numbers and numbers[field] != text.get(field):
            return None
    return from_catalogue(found, name, quantization)


# The first field that is there decides; (fields, with experts, without).
_BY_FIELD: tuple[tuple[str, str, str], ...] = (
    ("index_head_dim", "DeepseekV32ForCausalLM", "DeepseekV32ForCausalLM"),
    ("kv_lora_rank", "DeepseekV3ForCausalLM", "DeepseekV3ForCausalLM"),
    ("attention_chunk_size", "Llama4ForCausalLM", "Llama4ForCausalLM"),
    ("linear_num_value_heads", "Qwen3NextForCausalLM", "Qwen3_5ForCausalLM"),
    ("hybrid_override_pattern", "NemotronHForCausalLM", "NemotronHForCausalLM"),
    ("full_attention_layers", "GptOssForCausalLM", "Gemma2ForCausalLM"),
    ("qk_norm", "Qwen3MoeForCausalLM", "Qwen3ForCausalLM"),
    ("attention_bias", "Qwen2MoeForCausalLM", "Qwen2ForCausalLM"),
)


def _by_fields(config: Mapping[str, Any], name: str) -> str:
    """Choose the architecture from the fields alone; only structures without doubt are taken."""
    experts = any(config.get(key) for key in ("num_experts", "num_local_experts"))
    for field, with_experts, without in _BY_FIELD:
        if config.get(field):
            chosen = with_experts if experts else without
            break
    else:
        chosen = "MixtralForCausalLM" if experts else "LlamaForCausalLM"
    if config.get("norms") == 4 and chosen != "Gemma2ForCausalLM":
        raise ModelError(f"model {name}: these numbers fit no known family; add family")
    return chosen
