"""Decoder language models of attention and feed-forward layers: one builder for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ModelError
from .blocks import attention, experts, mlp, norm
from .fields import LARGEST_COUNT, LARGEST_LAYERS, Fields
from .shape import Attention, Cache, Experts, Kind, Layer, Split, Weight
from .traits import Traits


@dataclass(frozen=True)
class Decoder:
    """The language model that a builder returns; `describe` adds embeddings and quantization."""

    family: str
    layers: tuple[Layer, ...]
    pattern: tuple[int, ...]
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    experts: Experts | None = None
    tied: bool = False
    head_bias: bool = False
    learned_positions: int = 0
    extra: tuple[Weight, ...] = ()


class Pattern:
    """Collects layers in order and keeps each distinct one once."""

    def __init__(self) -> None:
        self._index: dict[Layer, int] = {}
        self._order: list[int] = []

    def add(self, weights: list[Weight], caches: tuple[Cache, ...]) -> None:
        """Append one layer."""
        layer = Layer(tuple(weights), caches)
        self._order.append(self._index.setdefault(layer, len(self._index)))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The distinct layers in order of first use."""
        return tuple(self._index)

    @property
    def order(self) -> tuple[int, ...]:
        """For every layer of the model, the index of its kind in `layers`."""
        return tuple(self._order)


def base_attention(fields: Fields) -> Attention:
    """Read heads and head sizes; `head_dim` comes from the config where it is given."""
    hidden = fields.integer("hidden_size", "n_embd", "d_model")
    heads = fields.integer(
        "num_attention_heads", "n_head", "n_heads", "num_heads", maximum=LARGEST_COUNT
    )
    kv_heads = fields.integer(
        "num_key_value_heads",
        "num_kv_heads",
        "n_head_kv",
        "multi_query_group_num",
        default=heads,
        maximum=LARGEST_COUNT,
    )
    if heads % kv_heads:
        raise ModelError(
            f"model {fields.name}: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}; one of them is wrong"
        )
    head_dim = fields.integer("head_dim", "kv_channels", default=0, maximum=LARGEST_COUNT)
    if not head_dim:
        if hidden % heads:
            raise ModelError(
                f"model {fields.name}: hidden_size {hidden} is not a multiple of "
                f"num_attention_heads {heads} and there is no head_dim; add head_dim"
            )
        head_dim = hidden // heads
    value_dim = fields.integer("v_head_dim", default=head_dim, maximum=LARGEST_COUNT)
    return Attention(heads, kv_heads, head_dim, value_dim)


def layer_count(fields: Fields) -> int:
    """Read how many layers there are."""
    return fields.integer(
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", maximum=LARGEST_LAYERS
    )


def read_experts(fields: Fields, layers: int, *, shared_expert: bool = False) -> Experts | None:
    """Read the mixture of experts, None for a dense model.

    `layers` is how many layers have experts; `shared_expert` that the architecture has one of the
    experts' own size although no field says so (Llama 4).
    """
    source = fields.inner("ffn_config") or fields
    count = source.integer(
        "num_experts",
        "num_local_experts",
        "n_routed_experts",
        "moe_num_experts",
        "num_routed_experts",
        default=0,
        minimum=0,
        maximum=LARGEST_COUNT,
    )
    if not count or not layers:
        return None
    top_k = source.integer(
        "num_experts_per_tok",
        "num_experts_per_token",
        "experts_per_token",
        "moe_top_k",
        "moe_topk",
        "moe_k",
        "top_k_experts",
        maximum=LARGEST_COUNT,
    )
    if top_k > count:
        raise ModelError(
            f"model {fields.name}: num_experts_per_tok {top_k} is larger than the {count} experts"
        )
    inner = source.integer(
        "moe_intermediate_size",
        "expert_intermediate_size",
        "ffn_hidden_size",
        "intermediate_size",
    )
    shared = source.integer(
        "shared_expert_intermediate_size",
        "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
        default=0,
        minimum=0,
    )
    copies = source.integer(
        "n_shared_experts",
        "num_shared_experts",
        "moe_num_shared_experts",
        "num_shared_expert",
        default=1 if shared or shared_expert else 0,
        minimum=0,
        maximum=LARGEST_COUNT,
    )
    return Experts(count, top_k, inner, layers, (shared or inner) * copies)


def expert_layers(fields: Fields, count: int) -> list[bool]:
    """Tell for every layer whether its feed-forward part is a mixture of experts."""
    explicit = fields.integers("moe_layers")
    if explicit:
        return [index in explicit for index in range(count)]
    kinds = fields.strings("mlp_layer_types")
    if kinds is not None and len(kinds) == count:
        return [kind == "sparse" for kind in kinds]
    first = fields.integer(
        "first_k_dense_replace",
        "moe_layer_start_index",
        "num_dense_layers",
        default=0,
        minimum=0,
    )
    last = fields.integer("moe_layer_end_index", default=count - 1, minimum=-1)
    step = fields.integer("decoder_sparse_step", "moe_layer_freq", "moe_layer_interval", default=1)
    interleave = fields.integer("interleave_moe_layer_step", default=0, minimum=0)
    dense = set(fields.integers("mlp_only_layers") or ())
    if last == -1:
        last = count - 1
    result = []
    for index in range(count):
        sparse = first <= index <= last and index not in dense
        if fields.has("decoder_sparse_step") or fields.has("moe_layer_interval"):
            sparse = sparse and (index + 1) % step == 0
        elif step > 1:
            sparse = sparse and index % step == 0
        if interleave:
            sparse = sparse and (index + 1) % interleave == 0
        result.append(sparse)
    return result


_TYPE_NAMES: Mapping[str, str] = {
    "full_attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
}


def attention_types(fields: Fields, traits: Traits, count: int) -> list[str]:
    """Return for every layer `full`, `sliding` or `chunked`."""
    types = fields.layer_types(count, tuple(_TYPE_NAMES))
    if types is not None:
        return [_TYPE_NAMES[kind] for kind in types]
    if fields.has("attention_chunk_size"):
        no_rope = fields.integers("no_rope_layers")
        step = fields.integer("no_rope_layer_interval", default=4)
        if no_rope and len(no_rope) == count:
            return ["chunked" if flag else "full" for flag in no_rope]
        return ["full" if (index + 1) % step == 0 else "chunked" for index in range(count)]
    windowed = traits.windowed and fields.has("sliding_window")
    if not windowed or fields.config.get("use_sliding_window") is False:
        return ["full"] * count
    period = _window_period(fields, traits, count)
    return ["full" if period and (i + 1) % period == 0 else "sliding" for i in range(count)]


def _window_period(fields: Fields, traits: Traits, count: int) -> int:
    """Return the distance between full layers, 0 if there are none."""
    full = fields.integer("full_attention_layers", default=-1, minimum=0, maximum=count)
    period = fields.integer(
        "sliding_window_pattern", "_sliding_window_pattern", default=0, minimum=0
    )
    period = period or traits.window_period
    if full < 0 or (period and count // period == full):
        return period
    if full and count % full:
        raise ModelError(
            f"model {fields.name}: {full} full attention layers of {count} follow no regular "
            "pattern; give layer_types"
        )
    return count // full if full else 0


def build(fields: Fields, traits: Traits) -> Decoder:
    """Build a decoder of attention and feed-forward layers."""
    hidden = fields.integer("hidden_size", "n_embd", "d_model")
    count = layer_count(fields)
    base = base_attention(fields)
    sparse = expert_layers(fields, count) if traits.moe else [False] * count
    moe = None
    if traits.moe:
        moe = read_experts(fields, sum(sparse), shared_expert=traits.shared_expert)
    if traits.moe and moe is None and any(sparse):
        raise ModelError(f"model {fields.name}: config has no num_experts; add it")
    dense = fields.integer(
        "intermediate_size_mlp",
        "intermediate_size",
        "ffn_hidden_size",
        "n_inner",
        "ffn_dim",
        default=4 * hidden,
    )
    types = attention_types(fields, traits, count)
    pattern = Pattern()
    for index in range(count):
        cache = _cache(fields, base, types[index])
        weights = [
            *_attention(fields, traits, hidden, cache),
            *_norms(traits, hidden),
        ]
        if sparse[index] and moe is not None:
            weights += _experts(traits, hidden, moe)
        else:
            weights += mlp(
                hidden,
                dense,
                gated=traits.gated,
                bias=_default(fields, "mlp_bias", traits.mlp_bias),
            )
        pattern.add(weights, (cache,))
    return Decoder(
        traits.family,
        pattern.layers,
        pattern.order,
        base.heads,
        base.kv_heads,
        base.head_dim,
        dense,
        moe,
        fields.flag("tie_word_embeddings", traits.tied),
        traits.head_bias,
        traits.learned_positions,
        tuple(norm("model.norm", hidden, bias=traits.norm_bias)),
    )


def _default(fields: Fields, key: str, default: bool) -> bool:
    return fields.flag(key, default)


def _cache(fields: Fields, base: Attention, kind: str) -> Attention:
    if kind == "sliding":
        window = fields.integer("sliding_window", "sliding_window_size", "window_size")
        return Attention(base.heads, base.kv_heads, base.head_dim, base.head_dim_v, window=window)
    if kind == "chunked":
        chunk = fields.integer("attention_chunk_size")
        return Attention(base.heads, base.kv_heads, base.head_dim, base.head_dim_v, chunk=chunk)
    return base


def _attention(fields: Fields, traits: Traits, hidden: int, cache: Attention) -> list[Weight]:
    configured = fields.flag("attention_bias", False) or fields.flag("use_qkv_bias", False)
    bias = configured if traits.bias == "config" else bool(traits.bias)
    out = configured if traits.out_bias == "config" else bool(traits.out_bias)
    qk_norm = traits.qk_norm
    if not qk_norm and (fields.flag("qk_norm", False) or fields.flag("use_qk_norm", False)):
        qk_norm = "head"
    return attention(hidden, cache, bias=bias, out_bias=out, qk_norm=qk_norm, sinks=traits.sinks)


def _norms(traits: Traits, hidden: int) -> list[Weight]:
    vectors = traits.norms * (2 if traits.norm_bias else 1)
    return [Weight("layernorms", Kind.NORM, hidden * vectors, 1, linear=False)] if vectors else []


def _experts(traits: Traits, hidden: int, moe: Experts) -> list[Weight]:
    return experts(
        hidden,
        moe,
        bias=traits.expert_bias,
        correction=traits.correction,
        router_bias=traits.expert_bias,
        shared_gate=traits.shared_gate,
    )


def positions(count: int, hidden: int) -> Weight:
    """Return a table of learned positions."""
    return Weight("model.embed_positions", Kind.EMBEDDING, count, hidden, Split.REPLICATED)
