"""Recurrent layers: Mamba, Mamba-2, gated delta nets, Kimi's delta attention, short convolutions.

State shapes follow vLLM's `MambaStateShapeCalculator`. Convolution kernels and per-head vectors are
kept in full detail because their states, not their weights, decide what fits.
"""

from __future__ import annotations

from .blocks import linear, vector
from .fields import Fields
from .shape import Kind, Split, State, StateTensor, Weight

_KIND = Kind.LINEAR_ATTENTION


def _divided(module: str, rows: int, cols: int = 1, bits: int | None = None) -> Weight:
    return Weight(module, _KIND, rows, cols, Split.COLUMN, linear=False, bits=bits)


def _state_bits(fields: Fields) -> int | None:
    """Return the bits of the recurrent state that the config asks for, None for the model's own."""
    kind = fields.text("mamba_ssm_dtype") or fields.text("mamba_ssm_cache_dtype")
    return {"float32": 32, "float16": 16, "bfloat16": 16, "": None}.get(kind)


def gated_delta(hidden: int, fields: Fields, *, prefix: str) -> tuple[list[Weight], State]:
    """Return a gated delta net (Qwen3-Next, Qwen3.5, Qwen3.6)."""
    key_heads = fields.integer("linear_num_key_heads")
    value_heads = fields.integer("linear_num_value_heads")
    key_dim = fields.integer("linear_key_head_dim")
    value_dim = fields.integer("linear_value_head_dim")
    kernel = fields.integer("linear_conv_kernel_dim", default=4, maximum=64)
    keys, values = key_heads * key_dim, value_heads * value_dim
    channels = 2 * keys + values
    weights = [
        *linear(f"{prefix}.in_proj_qkvz", _KIND, channels + values, hidden, Split.COLUMN),
        *linear(f"{prefix}.in_proj_ba", _KIND, 2 * value_heads, hidden, Split.COLUMN),
        _divided(f"{prefix}.conv1d", channels, kernel),
        _divided(f"{prefix}.dt_bias", value_heads, bits=32),
        _divided(f"{prefix}.A_log", value_heads, bits=32),
        vector(f"{prefix}.norm", value_dim),
        *linear(f"{prefix}.out_proj", _KIND, hidden, values, Split.ROW),
    ]
    state = State(
        "gdn_attention",
        (
            StateTensor(channels * (kernel - 1)),
            StateTensor(value_heads * value_dim * key_dim, bits=_state_bits(fields)),
        ),
        chunk_tokens=64,
    )
    return weights, state


def mamba2(
    hidden: int,
    fields: Fields,
    *,
    prefix: str,
    intermediate: int,
    heads: int,
    head_dim: int,
    groups: int,
    state_size: int,
    kernel: int,
    chunk: int,
    bias: bool,
) -> tuple[list[Weight], State]:
    """Return a Mamba-2 mixer (Nemotron-H, Granite 4, Bamba, Falcon-H1)."""
    channels = intermediate + 2 * groups * state_size
    weights = [
        *linear(
            f"{prefix}.in_proj",
            _KIND,
            intermediate + channels + heads,
            hidden,
            Split.COLUMN,
            bias=bias,
        ),
        _divided(f"{prefix}.conv1d", channels, kernel + 1),
        _divided(f"{prefix}.A_log", heads, bits=32),
        _divided(f"{prefix}.D", heads),
        _divided(f"{prefix}.dt_bias", heads),
        _divided(f"{prefix}.norm", intermediate),
        *linear(f"{prefix}.out_proj", _KIND, hidden, intermediate, Split.ROW, bias=bias),
    ]
    state = State(
        "mamba2",
        (
            StateTensor(channels * (kernel - 1)),
            StateTensor(heads * head_dim * state_size, bits=_state_bits(fields)),
        ),
        chunk_tokens=chunk,
        groups=groups,
        group_elements=2 * state_size * (kernel - 1),
    )
    return weights, state


def mamba1(
    hidden: int,
    *,
    prefix: str,
    intermediate: int,
    state_size: int,
    kernel: int,
    rank: int,
    norms: bool = False,
    conv_bias: bool = True,
) -> tuple[list[Weight], State]:
    """Return a Mamba-1 mixer (Jamba, Falcon-Mamba)."""
    weights = [
        *linear(f"{prefix}.in_proj", _KIND, 2 * intermediate, hidden, Split.COLUMN),
        _divided(f"{prefix}.conv1d", intermediate, kernel + int(conv_bias)),
        *linear(f"{prefix}.x_proj", _KIND, rank + 2 * state_size, intermediate, Split.ROW),
        *linear(f"{prefix}.dt_proj", _KIND, intermediate, rank, Split.COLUMN, bias=True),
        _divided(f"{prefix}.A_log", intermediate, state_size, bits=32),
        _divided(f"{prefix}.D", intermediate, bits=32),
        *linear(f"{prefix}.out_proj", _KIND, hidden, intermediate, Split.ROW),
    ]
    if norms:
        weights += [
            vector(f"{prefix}.dt_layernorm", rank),
            vector(f"{prefix}.b_layernorm", state_size),
            vector(f"{prefix}.c_layernorm", state_size),
        ]
    state = State(
        "mamba1",
        (StateTensor(intermediate * (kernel - 1)), StateTensor(intermediate * state_size)),
    )
    return weights, state


def delta_attention(hidden: int, fields: Fields, *, prefix: str) -> tuple[list[Weight], State]:
    """Return Kimi's delta attention. `fields` is the config's `linear_attn_config`."""
    heads = fields.integer("num_heads")
    head_dim = fields.integer("head_dim")
    kernel = fields.integer("short_conv_kernel_size", default=4, maximum=64)
    width = heads * head_dim
    weights: list[Weight] = []
    for name in ("q", "k", "v"):
        weights += linear(f"{prefix}.{name}_proj", _KIND, width, hidden, Split.COLUMN)
        weights.append(_divided(f"{prefix}.{name}_conv1d", width, kernel, bits=32))
    for name in ("f", "g"):
        weights += linear(f"{prefix}.{name}_a_proj", _KIND, head_dim, hidden, Split.REPLICATED)
        weights += linear(f"{prefix}.{name}_b_proj", _KIND, width, head_dim, Split.COLUMN)
    weights += linear(f"{prefix}.b_proj", _KIND, heads, hidden, Split.COLUMN)
    weights += [
        _divided(f"{prefix}.A_log", heads, bits=32),
        _divided(f"{prefix}.dt_bias", width, bits=32),
        vector(f"{prefix}.o_norm", head_dim),
        *linear(f"{prefix}.o_proj", _KIND, hidden, width, Split.ROW),
    ]
    state = State(
        "gdn_attention",
        (
            StateTensor(3 * width * (kernel - 1)),
            StateTensor(heads * head_dim * head_dim, bits=32),
        ),
        chunk_tokens=64,
    )
    return weights, state


def short_convolution(hidden: int, kernel: int, *, prefix: str) -> tuple[list[Weight], State]:
    """Return a gated short convolution (LFM2)."""
    weights = [
        *linear(f"{prefix}.in_proj", _KIND, 3 * hidden, hidden, Split.COLUMN),
        _divided(f"{prefix}.conv", hidden, kernel),
        *linear(f"{prefix}.out_proj", _KIND, hidden, hidden, Split.ROW),
    ]
    return weights, State("short_conv", (StateTensor(hidden * (kernel - 1)),))
