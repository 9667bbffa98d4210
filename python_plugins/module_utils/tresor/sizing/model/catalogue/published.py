"""The shape of a catalogue entry, in the quantization that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import shape_of
from ..shape import ModelShape
from . import Found


def from_catalogue(found: Found, name: str, quantization: str | None) -> ModelShape:
    """Return the shape of an entry.

    A quantization that is asked for, or that the name implies, replaces the published
    checkpoint's own, unless they are the same.
    """
    asked = quantization or found.quantization
    if quantization == "fp8" and found.quantization == "fp8_block":
        asked = found.quantization
    config = dict(found.config)
    if asked is not None and "quantization_config" in config and not _same(config, asked):
        del config["quantization_config"]
    return shape_of(config, name, quantization=asked, pooling=found.embeds)


def _same(config: Mapping[str, Any], asked: str) -> bool:
    """Tell whether a quantization that was asked for is the published checkpoint's own."""
    method = str(config["quantization_config"].get("quant_method", "")).replace("-", "_")
    key = asked.strip().lower().replace("-", "_")
    families = {
        "fp8": ("fp8", "fp8_block", "fp8_static"),
        "fbgemm_fp8": ("fp8", "fbgemm_fp8", "fp8_dynamic"),
        "mxfp4": ("mxfp4",),
        "compressed_tensors": ("int4_experts_w4a16", "int4", "w4a16", "int4_w4a16"),
    }
    return key in families.get(method, (method,))
