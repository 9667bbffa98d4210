"""What nested configs leave out because it is the default of Hugging Face's config class.

Configs of multimodal models were saved as differences to their classes: google/gemma-3-4b-it names
neither heads nor vocabulary, mistral-community/pixtral-12b no size of its tower. A config that
stands on its own is complete, so there a missing number stays an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .fields import Fields

_BY_MODEL_TYPE: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    },
    "mistral": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "max_position_embeddings": 131072,
    },
    "gemma3_text": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "pixtral": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 1024,
        "patch_size": 16,
    },
    "siglip_vision_model": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
    },
    "clip_vision_model": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
    },
}
# A text config that names its own kind by an older or outer name.
_SAME: Final[Mapping[str, str]] = {"gemma3": "gemma3_text"}


def nested(fields: Fields, *keys: str) -> Fields | None:
    """Return the first nested config of these names, completed; None if there is none."""
    found = fields.inner(*keys)
    if found is None:
        return None
    kind = found.text("model_type")
    defaults = _BY_MODEL_TYPE.get(_SAME.get(kind, kind))
    if defaults is None:
        return found
    return Fields({**defaults, **found.config}, found.name)
