"""Decoders with a structure of their own: MiniMax's lightning attention, NVIDIA's searched models.

Read in vLLM's `models/minimax_text_01.py`, `layers/mamba/linear_attn.py` and
`models/nemotron_nas.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import ModelError
from .blocks import attention, experts, linear, mlp, vector
from .decoders import Decoder, Pattern, base_attention, layer_count, read_experts
from .fields import Fields
from .shape import Attention, Cache, Experts, Kind, Split, State, StateTensor, Weight

_LINEAR = Kind.LINEAR_ATTENTION
# Widths of searched feed-forward blocks are multiples of this.
_MULTIPLE = 256


def minimax(fields: Fields) -> Decoder:
    """MiniMax-Text-01 and M1: lightning attention, every eighth layer full attention, experts."""
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    base = base_attention(fields)
    kinds = fields.integers("attn_type_list") or fields.integers("decoder_attention_types")
    if kinds is None or len(kinds) != count or set(kinds) - {0, 1}:
        raise ModelError(
            f"model {fields.name}: attn_type_list must have a 0 (linear) or 1 (full attention) for "
            f"each of the {count} layers"
        )
    moe = read_experts(fields, count)
    dense = fields.integer("intermediate_size")
    pattern = Pattern()
    for kind in kinds:
        cache: Cache = base
        if kind:
            mixer = attention(hidden, base)
        else:
            mixer, cache = _lightning(hidden, base)
        feed = (
            experts(hidden, moe, prefix="block_sparse_moe")
            if moe is not None and moe.count > 1
            else mlp(hidden, dense)
        )
        pattern.add([*mixer, vector("layernorms", 2 * hidden), *feed], (cache,))
    return _decoder(fields, "lightning_hybrid_moe", pattern, base, dense=dense, moe=moe)


def _lightning(hidden: int, base: Attention) -> tuple[list[Weight], State]:
    width = base.heads * base.head_dim
    prefix = "self_attn"
    weights = [
        *linear(f"{prefix}.qkv_proj", _LINEAR, 3 * width, hidden, Split.COLUMN),
        *linear(f"{prefix}.output_gate", _LINEAR, width, hidden, Split.COLUMN),
        *linear(f"{prefix}.out_proj", _LINEAR, hidden, width, Split.ROW),
        Weight(f"{prefix}.norm", _LINEAR, width, 1, Split.COLUMN, linear=False),
    ]
    return weights, State("linear_attention", (StateTensor(width * base.head_dim),))


def searched(fields: Fields) -> Decoder:
    """Llama-Nemotron Super and Ultra: every layer has attention, a feed-forward block, or neither.

    `block_configs` names for each layer how many query heads share a KV head and how wide its
    feed-forward block is.
    """
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    heads = fields.integer("num_attention_heads")
    if hidden % heads:
        raise ModelError(
            f"model {fields.name}: hidden_size {hidden} is not a multiple of num_attention_heads "
            f"{heads}"
        )
    head_dim = hidden // heads
    blocks = fields.config.get("block_configs")
    if not isinstance(blocks, list) or len(blocks) != count:
        raise ModelError(
            f"model {fields.name}: block_configs must describe each of the {count} layers"
        )
    pattern = Pattern()
    widest, fewest = 0, heads
    for number, block in enumerate(blocks):
        if not isinstance(block, Mapping):
            raise ModelError(f"model {fields.name}: block_configs[{number}] must be a mapping")
        one = Fields(block, f"{fields.name}, block_configs[{number}]")
        mixer, caches = _searched_attention(one, hidden, heads, head_dim)
        feed, width = _searched_feed(one, hidden)
        widest = max(widest, width)
        fewest = min([fewest, *(cache.kv_heads for cache in caches)])
        pattern.add([*mixer, *feed], caches)
    base = Attention(heads, fewest, head_dim, head_dim)
    return _decoder(fields, "dense_gqa", pattern, base, dense=widest or hidden, moe=None)


def _searched_attention(
    block: Fields, hidden: int, heads: int, head_dim: int
) -> tuple[list[Weight], tuple[Attention, ...]]:
    part = block.inner("attention") or Fields({}, block.name)
    if part.flag("no_op", False):
        return [], ()
    norm = vector("input_layernorm", hidden)
    if part.flag("replace_with_linear", False):
        kind = Kind.ATTENTION
        return [norm, *linear("self_attn.linear_attn", kind, hidden, hidden, Split.REPLICATED)], ()
    shared = part.integer("n_heads_in_group")
    if heads % shared:
        raise part.error("n_heads_in_group", shared, f"a divisor of the {heads} attention heads")
    cache = Attention(heads, heads // shared, head_dim, head_dim)
    return [norm, *attention(hidden, cache)], (cache,)


def _searched_feed(block: Fields, hidden: int) -> tuple[list[Weight], int]:
    part = block.inner("ffn") or Fields({}, block.name)
    if part.flag("no_op", False):
        return [], 0
    norm = vector("post_attention_layernorm", hidden)
    if part.flag("replace_with_linear", False):
        return [norm, *linear("mlp.linear_mlp", Kind.MLP, hidden, hidden, Split.REPLICATED)], 0
    factor = part.number("ffn_mult", 0.0, 1e-3, 64.0)
    width = -(-int(2 * factor * hidden / 3) // _MULTIPLE) * _MULTIPLE
    if not width:
        raise ModelError(f"model {part.name}: ffn has no ffn_mult; add it")
    return [norm, *mlp(hidden, width)], width


def _decoder(
    fields: Fields,
    family: str,
    pattern: Pattern,
    base: Attention,
    *,
    dense: int,
    moe: Experts | None,
) -> Decoder:
    return Decoder(
        family,
        pattern.layers,
        pattern.order,
        base.heads,
        base.kv_heads,
        base.head_dim,
        dense,
        moe,
        fields.flag("tie_word_embeddings", False),
        extra=(vector("model.norm", fields.integer("hidden_size")),),
    )


VARIANTS: Mapping[str, Callable[[Fields], Decoder]] = {
    "MiniMaxText01ForCausalLM": minimax,
    "MiniMaxM1ForCausalLM": minimax,
    "DeciLMForCausalLM": searched,
}
