"""The tables of rotary positions, which the engine keeps beside the weights.

Each distinct rotary embedding has one table of positions x rotary dimensions, shared by its layers.
Sources: vLLM's `layers/rotary_embedding` (linear and dynamic scaling multiply the positions, long
rope keeps two tables).
"""

from __future__ import annotations

from .fields import Fields
from .shape import Attention, Cache, LatentAttention

_LONGEST = 1 << 30


def table_elements(fields: Fields, caches: list[Cache]) -> int:
    """Return the elements of all tables of a decoder; 0 for models without rotary positions."""
    rotary = _rotary_dim(fields, caches)
    if not rotary or not fields.has("max_position_embeddings"):
        return 0
    positions = fields.integer("max_position_embeddings", maximum=_LONGEST)
    scaled = _scaled(fields, positions)
    local = any(isinstance(cache, Attention) and cache.window for cache in caches)
    full = any(isinstance(cache, Attention) and not cache.window for cache in caches)
    # Gemma 3 rotates its local layers with another base, so they have a table of their own.
    two_bases = fields.has("rope_local_base_freq") or fields.text("model_type") == "gemma3_text"
    extra = positions if local and full and two_bases else 0
    return (scaled + extra) * rotary


def _rotary_dim(fields: Fields, caches: list[Cache]) -> int:
    part = fields.number("partial_rotary_factor", 1.0, 0.0, 1.0)
    for cache in caches:
        if isinstance(cache, LatentAttention):
            return cache.rope_dim
        if isinstance(cache, Attention):
            return int(cache.head_dim * part)
    return 0


def _scaled(fields: Fields, positions: int) -> int:
    scaling = fields.inner("rope_scaling", "rope_parameters")
    if scaling is None:
        return positions
    kind = scaling.text("rope_type") or scaling.text("type")
    factor = scaling.number("factor", 1.0, 0.001, 1e6)
    original = scaling.integer(
        "original_max_position_embeddings", default=positions, maximum=_LONGEST
    )
    if kind in ("linear", "dynamic"):
        return int(positions * factor)
    if kind in ("yarn", "deepseek_yarn"):
        return int(original * factor)
    if kind in ("longrope", "su"):
        return positions + fields.integer(
            "original_max_position_embeddings", default=original, maximum=_LONGEST
        )
    return positions
