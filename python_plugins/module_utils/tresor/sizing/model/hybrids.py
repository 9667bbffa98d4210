"""Decoders with latent attention or recurrent layers; each architecture has its own builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import ModelError
from .blocks import attention, experts, latent_attention, linear, mlp, norm, vector
from .decoders import Decoder, Pattern, base_attention, expert_layers, layer_count, read_experts
from .fields import LARGEST_COUNT, Fields
from .mixers import delta_attention, gated_delta, mamba1, mamba2, short_convolution
from .shape import Attention, Cache, Experts, Kind, LatentAttention, Split, Weight
from .variants import VARIANTS


def _norms(hidden: int, count: int = 2) -> list[Weight]:
    return [vector("layernorms", hidden * count)]


def _latent(fields: Fields) -> tuple[LatentAttention, int, int, int]:
    """Return the latent cache with query rank, nope and value dimensions."""
    heads = fields.integer("num_attention_heads", maximum=LARGEST_COUNT)
    rank = fields.integer("kv_lora_rank")
    rope = fields.integer("qk_rope_head_dim", minimum=0)
    indexer = 0
    if fields.has("index_head_dim"):
        dim = fields.integer("index_head_dim")
        indexer = dim + dim // 128 * 4
    cache = LatentAttention(heads, rank + rope, rope, indexer)
    q_rank = fields.integer("q_lora_rank", default=0, minimum=0)
    return (
        cache,
        q_rank,
        fields.integer("qk_nope_head_dim", minimum=0),
        fields.integer("v_head_dim"),
    )


def _indexer(fields: Fields, hidden: int, q_rank: int) -> list[Weight]:
    if not fields.has("index_head_dim"):
        return []
    heads, dim = fields.integer("index_n_heads"), fields.integer("index_head_dim")
    prefix, kind = "self_attn.indexer", Kind.INDEXER
    return [
        *linear(f"{prefix}.wq_b", kind, heads * dim, q_rank, Split.REPLICATED),
        *linear(f"{prefix}.wk", kind, dim, hidden, Split.REPLICATED),
        vector(f"{prefix}.k_norm", 2 * dim, kind),
        Weight(f"{prefix}.weights_proj", kind, heads, hidden, linear=False),
    ]


def latent_decoder(fields: Fields) -> Decoder:
    """DeepSeek V2, V3, V3.1, V3.2, R1, Kimi K2, GLM-5, MiniCPM 3."""
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    cache, q_rank, nope, value = _latent(fields)
    sparse = expert_layers(fields, count)
    moe = read_experts(fields, sum(sparse))
    sigmoid = fields.text("topk_method") == "noaux_tc" or fields.text("scoring_func") == "sigmoid"
    dense = fields.integer("intermediate_size")
    pattern = Pattern()
    for index in range(count):
        weights = [
            *latent_attention(hidden, cache, q_rank=q_rank, nope_dim=nope, value_dim=value),
            *_indexer(fields, hidden, q_rank),
            *_norms(hidden),
        ]
        if sparse[index] and moe is not None:
            weights += experts(hidden, moe, correction=sigmoid)
        else:
            weights += mlp(hidden, dense)
        pattern.add(weights, (cache,))
    family = "mla_dense" if moe is None else "mla_moe"
    return Decoder(
        family,
        pattern.layers,
        pattern.order,
        cache.heads,
        1,
        cache.width,
        dense,
        moe,
        fields.flag("tie_word_embeddings", False),
        extra=tuple(norm("model.norm", hidden)),
    )


def _finish(
    fields: Fields,
    family: str,
    pattern: Pattern,
    base: Attention,
    *,
    dense: int,
    moe: Experts | None,
    tied: bool = False,
) -> Decoder:
    hidden = fields.integer("hidden_size")
    return Decoder(
        family,
        pattern.layers,
        pattern.order,
        base.heads,
        base.kv_heads,
        base.head_dim,
        dense,
        moe,
        fields.flag("tie_word_embeddings", tied),
        extra=tuple(norm("model.norm", hidden)),
    )


def qwen_hybrid(fields: Fields) -> Decoder:
    """Qwen3-Next, Qwen3.5, Qwen3.6: three gated delta layers, then one of gated attention."""
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    base = base_attention(fields)
    types = fields.layer_types(count, ("linear_attention", "full_attention"))
    if types is None:
        step = fields.integer("full_attention_interval", default=4)
        types = [
            "full_attention" if (index + 1) % step == 0 else "linear_attention"
            for index in range(count)
        ]
    moe = read_experts(fields, count)
    dense = fields.integer("intermediate_size", default=0 if moe else -1, minimum=0)
    if dense < 0:
        raise ModelError(f"model {fields.name}: config has no intermediate_size; add it")
    pattern = Pattern()
    for kind in types:
        cache: Cache
        if kind == "full_attention":
            cache = base
            mixer = attention(hidden, base, qk_norm="head", gate=True)
        else:
            mixer, cache = gated_delta(hidden, fields, prefix="linear_attn")
        feed = (
            experts(hidden, moe, shared_gate=True, shared_name="shared_expert")
            if moe is not None
            else mlp(hidden, dense)
        )
        pattern.add([*mixer, *_norms(hidden), *feed], (cache,))
    family = "gdn_hybrid_moe" if moe is not None else "gdn_hybrid"
    return _finish(fields, family, pattern, base, dense=dense, moe=moe)


def kimi_linear(fields: Fields) -> Decoder:
    """Kimi Linear: Kimi delta attention with every fourth layer latent attention."""
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    cache, q_rank, nope, value = _latent(fields)
    inner = fields.inner("linear_attn_config")
    if inner is None:
        raise ModelError(f"model {fields.name}: config has no linear_attn_config; add it")
    full = set(inner.integers("full_attn_layers") or ())
    sparse = expert_layers(fields, count)
    moe = read_experts(fields, sum(sparse))
    dense = fields.integer("intermediate_size")
    pattern = Pattern()
    for index in range(count):
        kept: Cache
        if index + 1 in full:
            kept = cache
            mixer = latent_attention(hidden, cache, q_rank=q_rank, nope_dim=nope, value_dim=value)
        else:
            mixer, kept = delta_attention(hidden, inner, prefix="self_attn")
        feed = (
            experts(hidden, moe, prefix="block_sparse_moe", correction=True)
            if sparse[index] and moe is not None
            else mlp(hidden, dense)
        )
        pattern.add([*mixer, *_norms(hidden), *feed], (kept,))
    base = Attention(cache.heads, 1, cache.width, 0)
    return _finish(fields, "kda_mla_moe", pattern, base, dense=dense, moe=moe)


def _mamba2_of(
    fields: Fields, hidden: int, prefix: str, *, intermediate: int | None = None
) -> tuple[list[Weight], Cache]:
    heads = fields.integer("mamba_n_heads", "mamba_num_heads", maximum=LARGEST_COUNT)
    head_dim = fields.integer("mamba_d_head", "mamba_head_dim", default=64)
    weights, state = mamba2(
        hidden,
        fields,
        prefix=prefix,
        intermediate=intermediate or heads * head_dim,
        heads=heads,
        head_dim=head_dim,
        groups=fields.integer("mamba_n_groups", "n_groups", maximum=LARGEST_COUNT),
        state_size=fields.integer("mamba_d_state", "ssm_state_size", "state_size"),
        kernel=fields.integer("mamba_d_conv", "conv_kernel", default=4, maximum=64),
        chunk=fields.integer("mamba_chunk_size", "chunk_size", default=256),
        bias=fields.flag("mamba_proj_bias", False) or fields.flag("use_bias", False),
    )
    return weights, state


def nemotron_h(fields: Fields) -> Decoder:
    """Nemotron-H and Nemotron 3: a string of M (Mamba-2), * (attention), - (MLP), E (experts)."""
    hidden = fields.integer("hidden_size")
    base = base_attention(fields)
    letters = fields.text("hybrid_override_pattern") or "".join(
        {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}.get(kind, "?")
        for kind in fields.strings("layers_block_type") or ()
    )
    if not letters or set(letters) - set("M*-E"):
        raise fields.error(
            "hybrid_override_pattern", letters, "a string of M, *, - and E, one per layer"
        )
    count = fields.integer("num_hidden_layers", default=len(letters))
    if count != len(letters):
        raise ModelError(
            f"model {fields.name}: hybrid_override_pattern has {len(letters)} layers and "
            f"num_hidden_layers is {count}; one of them is wrong"
        )
    dense = fields.integer("intermediate_size", default=0, minimum=0)
    moe = read_experts(fields, letters.count("E"))
    # Nemotron 3 Super: routed experts work on a narrower latent vector.
    latent = fields.integer("moe_latent_size", default=0, minimum=0)
    pattern = Pattern()
    for letter in letters:
        caches: tuple[Cache, ...] = ()
        if letter == "M":
            weights, cache = _mamba2_of(fields, hidden, "mixer")
            caches = (cache,)
        elif letter == "*":
            weights, caches = attention(hidden, base, prefix="mixer"), (base,)
        elif letter == "E" and moe is not None:
            weights = experts(
                hidden, moe, prefix="mixer", gated=False, correction=True, latent=latent
            )
        else:
            weights = mlp(hidden, dense, prefix="mixer", gated=False)
        pattern.add([*weights, *_norms(hidden, 1)], caches)
    family = "mamba2_hybrid_moe" if moe is not None else "mamba2_hybrid"
    return _finish(fields, family, pattern, base, dense=dense, moe=moe)


def granite_hybrid(fields: Fields) -> Decoder:
    """Granite 4 and Bamba: Mamba-2 layers with a few of attention, each with an MLP or experts."""
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    base = base_attention(fields)
    types = fields.strings("layer_types") or fields.strings("layers_block_type")
    if types is None:
        places = set(fields.integers("attn_layer_indices") or ())
        types = ["attention" if index in places else "mamba" for index in range(count)]
    if len(types) != count:
        raise ModelError(
            f"model {fields.name}: layer_types has {len(types)} entries and num_hidden_layers "
            f"is {count}; one of them is wrong"
        )
    shared = fields.integer("shared_intermediate_size", default=0, minimum=0)
    moe = read_experts(fields, count)
    dense = shared or fields.integer("intermediate_size")
    pattern = Pattern()
    for kind in types:
        cache: Cache = base
        if kind == "mamba":
            mixer, cache = _mamba2_of(fields, hidden, "mamba")
        else:
            mixer = attention(hidden, base, bias=fields.flag("attention_bias", False))
        feed = experts(hidden, moe) if moe is not None else mlp(hidden, dense)
        pattern.add([*mixer, *_norms(hidden), *feed], (cache,))
    family = "mamba2_hybrid_moe" if moe is not None else "mamba2_hybrid"
    return _finish(fields, family, pattern, base, dense=dense, moe=moe, tied=False)


def falcon_h1(fields: Fields) -> Decoder:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    base = base_attention(fields)
    dense = fields.integer("intermediate_size")
    pattern = Pattern()
    for _ in range(count):
        mixer, state = _mamba2_of(
            fields,
            hidden,
            "mamba",
            intermediate=fields.integer("mamba_d_ssm", default=0, minimum=0) or None,
        )
        pattern.add(
            [*attention(hidden, base), *mixer, *_norms(hidden), *mlp(hidden, dense)],
            (state, base),
        )
    return _finish(fields, "mamba2_hybrid", pattern, base, dense=dense, moe=None)


def jamba(fields: Fields) -> Decoder:
    """Jamba: Mamba-1 layers, attention every eighth, experts every second."""
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    base = base_attention(fields)
    period = fields.integer("attn_layer_period", default=8)
    offset = fields.integer("attn_layer_offset", default=4, minimum=0)
    moe_period = fields.integer("expert_layer_period", default=2)
    moe_offset = fields.integer("expert_layer_offset", default=1, minimum=0)
    sparse = [index % moe_period == moe_offset for index in range(count)]
    if fields.integer("num_experts", default=1) == 1:
        sparse = [False] * count
    moe = read_experts(fields, sum(sparse))
    dense = fields.integer("intermediate_size")
    pattern = Pattern()
    for index in range(count):
        cache: Cache = base
        if index % period == offset:
            mixer = attention(hidden, base)
        else:
            mixer, cache = mamba1(
                hidden,
                prefix="mamba",
                intermediate=fields.integer("mamba_expand", default=2) * hidden,
                state_size=fields.integer("mamba_d_state", default=16),
                kernel=fields.integer("mamba_d_conv", default=4, maximum=64),
                rank=fields.integer("mamba_dt_rank", default=-(-hidden // 16)),
                norms=True,
            )
        feed = (
            experts(hidden, moe, prefix="feed_forward")
            if sparse[index] and moe is not None
            else mlp(hidden, dense, prefix="feed_forward")
        )
        pattern.add([*mixer, *_norms(hidden), *feed], (cache,))
    return _finish(fields, "mamba1_hybrid_moe", pattern, base, dense=dense, moe=moe)


def lfm2(fields: Fields) -> Decoder:
    """LFM2: gated short convolutions with some layers of attention."""
    hidden, count = fields.integer("hidden_size", "block_dim"), layer_count(fields)
    base = base_attention(fields)
    types = fields.layer_types(count, ("conv", "full_attention"))
    if types is None:
        places = set(fields.integers("full_attn_idxs") or ())
        types = ["full_attention" if index in places else "conv" for index in range(count)]
    dense = fields.integer("intermediate_size", "block_ff_dim")
    if fields.flag("block_auto_adjust_ff_dim", False):
        multiple = fields.integer("block_multiple_of", default=256)
        dense = -(-int(2 * dense / 3) // multiple) * multiple
    sparse = expert_layers(fields, count)
    moe = read_experts(fields, sum(sparse))
    pattern = Pattern()
    for index, kind in enumerate(types):
        cache: Cache = base
        if kind == "conv":
            kernel = fields.integer("conv_L_cache", default=3, maximum=64)
            mixer, cache = short_convolution(hidden, kernel, prefix="conv")
        else:
            mixer = attention(hidden, base, qk_norm="head")
        feed = (
            experts(hidden, moe, prefix="feed_forward", correction=True)
            if sparse[index] and moe is not None
            else mlp(hidden, dense, prefix="feed_forward")
        )
        pattern.add([*mixer, *_norms(hidden), *feed], (cache,))
    family = "shortconv_hybrid_moe" if moe is not None else "shortconv_hybrid"
    return _finish(fields, family, pattern, base, dense=dense, moe=moe, tied=True)


def falcon_mamba(fields: Fields) -> Decoder:
    """Falcon-Mamba and Mamba: no attention at all."""
    hidden, count = fields.integer("hidden_size", "d_model"), layer_count(fields)
    inner = fields.integer("intermediate_size", "d_inner", default=2 * hidden)
    pattern = Pattern()
    for _ in range(count):
        mixer, cache = mamba1(
            hidden,
            prefix="mixer",
            intermediate=inner,
            state_size=fields.integer("state_size", default=16),
            kernel=fields.integer("conv_kernel", default=4, maximum=64),
            rank=fields.integer("time_step_rank", default=-(-hidden // 16)),
        )
        pattern.add([*mixer, *_norms(hidden, 1)], (cache,))
    # There are no heads; the inner channels are what ranks divide.
    base = Attention(inner, inner, 1, 0)
    return _finish(fields, "mamba1", pattern, base, dense=inner, moe=None, tied=True)


HYBRIDS: Mapping[str, Callable[[Fields], Decoder]] = {
    "DeepseekV2ForCausalLM": latent_decoder,
    "DeepseekV3ForCausalLM": latent_decoder,
    "DeepseekV32ForCausalLM": latent_decoder,
    "MistralLarge3ForCausalLM": latent_decoder,
    "GlmMoeDsaForCausalLM": latent_decoder,
    "Glm4MoeLiteForCausalLM": latent_decoder,
    "MiniCPM3ForCausalLM": latent_decoder,
    "KimiLinearForCausalLM": kimi_linear,
    "Qwen3NextForCausalLM": qwen_hybrid,
    "Qwen3_5ForCausalLM": qwen_hybrid,
    "Qwen3_5MoeForCausalLM": qwen_hybrid,
    "NemotronHForCausalLM": nemotron_h,
    "GraniteMoeHybridForCausalLM": granite_hybrid,
    "BambaForCausalLM": granite_hybrid,
    "FalconH1ForCausalLM": falcon_h1,
    "JambaForCausalLM": jamba,
    "Lfm2ForCausalLM": lfm2,
    "Lfm2MoeForCausalLM": lfm2,
    "FalconMambaForCausalLM": falcon_mamba,
    "MambaForCausalLM": falcon_mamba,
    **VARIANTS,
}
