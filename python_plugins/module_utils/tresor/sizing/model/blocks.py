"""The building blocks of layers: which weights attention, MLPs and experts consist of.

Module names are those of Hugging Face checkpoints, because exclude lists use them.
"""

from __future__ import annotations

from .shape import Attention, Experts, Kind, LatentAttention, Split, Weight


def linear(
    module: str,
    kind: Kind,
    rows: int,
    cols: int,
    split: Split,
    *,
    bias: bool = False,
    heads: int = 0,
    copies: int = 1,
) -> list[Weight]:
    """Return a linear layer, with its bias if it has one."""
    weights = [Weight(module, kind, rows, cols, split, copies, heads)]
    if bias:
        # A bias is added once, so a row-parallel layer keeps all of it on every rank.
        side = Split.REPLICATED if split is Split.ROW else split
        weights.append(Weight(f"{module}.bias", kind, rows, 1, side, copies, heads, linear=False))
    return weights


def vector(module: str, size: int, kind: Kind = Kind.NORM, *, bits: int | None = None) -> Weight:
    """Return a vector that every rank holds in full."""
    return Weight(module, kind, size, 1, linear=False, bits=bits)


def norm(module: str, size: int, *, bias: bool = False) -> list[Weight]:
    """Return a normalization's vectors."""
    found = [vector(module, size)]
    if bias:
        found.append(vector(f"{module}.bias", size))
    return found


def attention(
    hidden: int,
    cache: Attention,
    *,
    prefix: str = "self_attn",
    bias: bool = False,
    out_bias: bool = False,
    qk_norm: str = "",
    gate: bool = False,
    sinks: bool = False,
    kind: Kind = Kind.ATTENTION,
) -> list[Weight]:
    """Return grouped-query attention.

    `qk_norm` is "" (none), "head" (one vector per head size) or "full" (over all heads). `gate`
    doubles the query projection by an output gate; `sinks` adds one number per head.
    """
    queries = cache.heads * cache.head_dim
    weights = [
        *linear(
            f"{prefix}.q_proj", kind, queries * (2 if gate else 1), hidden, Split.COLUMN, bias=bias
        ),
        *linear(
            f"{prefix}.k_proj",
            kind,
            cache.kv_heads * cache.head_dim,
            hidden,
            Split.KV,
            bias=bias,
            heads=cache.kv_heads,
        ),
        *linear(
            f"{prefix}.v_proj",
            kind,
            cache.kv_heads * cache.head_dim_v,
            hidden,
            Split.KV,
            bias=bias,
            heads=cache.kv_heads,
        ),
        *linear(
            f"{prefix}.o_proj",
            kind,
            hidden,
            cache.heads * cache.head_dim_v,
            Split.ROW,
            bias=out_bias,
        ),
    ]
    if qk_norm == "head":
        weights += [
            vector(f"{prefix}.q_norm", cache.head_dim),
            vector(f"{prefix}.k_norm", cache.head_dim),
        ]
    elif qk_norm == "full":
        weights += [
            Weight(f"{prefix}.q_norm", Kind.NORM, queries, 1, Split.COLUMN, linear=False),
            Weight(
                f"{prefix}.k_norm",
                Kind.NORM,
                cache.kv_heads * cache.head_dim,
                1,
                Split.KV,
                heads=cache.kv_heads,
                linear=False,
            ),
        ]
    if sinks:
        weights.append(Weight(f"{prefix}.sinks", kind, cache.heads, 1, Split.COLUMN, linear=False))
    return weights


def latent_attention(
    hidden: int,
    cache: LatentAttention,
    *,
    q_rank: int,
    nope_dim: int,
    value_dim: int,
    prefix: str = "self_attn",
) -> list[Weight]:
    """Return multi-head latent attention; `q_rank` 0 means that queries have no down-projection."""
    kind, rank = Kind.ATTENTION, cache.width - cache.rope_dim
    queries = cache.heads * (nope_dim + cache.rope_dim)
    weights: list[Weight] = []
    if q_rank:
        weights += linear(f"{prefix}.q_a_proj", kind, q_rank, hidden, Split.REPLICATED)
        weights.append(vector(f"{prefix}.q_a_layernorm", q_rank))
        weights += linear(f"{prefix}.q_b_proj", kind, queries, q_rank, Split.COLUMN)
    else:
        weights += linear(f"{prefix}.q_proj", kind, queries, hidden, Split.COLUMN)
    weights += linear(f"{prefix}.kv_a_proj_with_mqa", kind, cache.width, hidden, Split.REPLICATED)
    weights.append(vector(f"{prefix}.kv_a_layernorm", rank))
    weights += linear(
        f"{prefix}.kv_b_proj", kind, cache.heads * (nope_dim + value_dim), rank, Split.COLUMN
    )
    weights += linear(f"{prefix}.o_proj", kind, hidden, cache.heads * value_dim, Split.ROW)
    return weights


def mlp(
    hidden: int,
    intermediate: int,
    *,
    prefix: str = "mlp",
    kind: Kind = Kind.MLP,
    gated: bool = True,
    bias: bool = False,
) -> list[Weight]:
    """Return a feed-forward block: gate, up and down, or up and down."""
    names = ("gate_proj", "up_proj") if gated else ("up_proj",)
    weights: list[Weight] = []
    for name in names:
        weights += linear(f"{prefix}.{name}", kind, intermediate, hidden, Split.COLUMN, bias=bias)
    return [
        *weights,
        *linear(f"{prefix}.down_proj", kind, hidden, intermediate, Split.ROW, bias=bias),
    ]


def experts(
    hidden: int,
    shape: Experts,
    *,
    prefix: str = "mlp",
    gated: bool = True,
    bias: bool = False,
    correction: bool = False,
    router_bits: int | None = None,
    router_bias: bool = False,
    shared_gate: bool = False,
    shared_name: str = "shared_experts",
    latent: int = 0,
) -> list[Weight]:
    """Return a mixture of experts with its router and shared expert.

    With `latent` the routed experts work on a projection of that size, on every rank in full.

    `correction` adds the router's float32 bias per expert; `shared_gate` the vector that weighs the
    shared expert (Qwen).
    """
    inner, count = shape.intermediate, shape.count
    names = ("gate_proj", "up_proj") if gated else ("up_proj",)
    width = latent or hidden
    weights = [Weight(f"{prefix}.gate", Kind.ROUTER, count, hidden, linear=False, bits=router_bits)]
    if router_bias:
        weights.append(vector(f"{prefix}.gate.bias", count, Kind.ROUTER))
    if correction:
        weights.append(
            vector(f"{prefix}.gate.e_score_correction_bias", count, Kind.ROUTER, bits=32)
        )
    for name in names:
        module = f"{prefix}.experts.0.{name}"
        weights.append(Weight(module, Kind.EXPERT, inner, width, Split.EXPERT, count))
        if bias:
            weights.append(
                Weight(f"{module}.bias", Kind.EXPERT, inner, 1, Split.EXPERT, count, linear=False)
            )
    down = f"{prefix}.experts.0.down_proj"
    weights.append(Weight(down, Kind.EXPERT, width, inner, Split.EXPERT, count, inner="cols"))
    if latent:
        kind, whole = Kind.SHARED_EXPERT, Split.REPLICATED
        weights += linear(f"{prefix}.fc1_latent_proj", kind, latent, hidden, whole)
        weights += linear(f"{prefix}.fc2_latent_proj", kind, hidden, latent, whole)
    if bias:
        weights.append(
            Weight(
                f"{down}.bias",
                Kind.EXPERT,
                width,
                1,
                Split.EXPERT,
                count,
                linear=False,
                inner="none",
            )
        )
    if shape.shared_intermediate:
        weights += mlp(
            hidden,
            shape.shared_intermediate,
            prefix=f"{prefix}.{shared_name}",
            kind=Kind.SHARED_EXPERT,
            gated=gated,
        )
        if shared_gate:
            weights.append(
                Weight(f"{prefix}.shared_expert_gate", Kind.ROUTER, 1, hidden, linear=False)
            )
    return weights
