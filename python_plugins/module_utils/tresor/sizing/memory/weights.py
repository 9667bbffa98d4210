"""Weight bytes of one rank, tensor by tensor, as the allocator counts them.

The engine loads q, k and v as one tensor, gate and up as one, and all local experts of a layer as
one. PyTorch's allocator rounds tensors of 10 MiB and more up to 2 MiB and keeps the rest with the
tensor if it is at most 1 MiB, which for some models is half a percent. Sources: vLLM's
`layers/linear.py`, `layers/vocab_parallel_embedding.py`, `layers/fused_moe/layer.py`; PyTorch's
`c10/cuda/CUDACachingAllocator.cpp`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from ..model.formats import MXFP4
from ..model.shape import Kind, ModelShape, Split, Weight
from .engine import Engine
from .parallel import Layout, stage_layers

_MIB = 1024 * 1024
_FUSED = {
    "q_proj": "qkv",
    "k_proj": "qkv",
    "v_proj": "qkv",
    "gate_proj": "gate_up",
    "up_proj": "gate_up",
    "q_a_proj": "qkv_a",
    "kv_a_proj_with_mqa": "qkv_a",
}


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def allocated(size: int, *, splits: bool) -> int:
    """Return what the allocator counts for one tensor of `size` bytes."""
    if size < 10 * _MIB:
        return _round_up(size, 512)
    segment = _round_up(size, 2 * _MIB)
    if not splits and segment > 20 * _MIB:
        return segment
    return segment if segment - size <= _MIB else _round_up(size, 512)


def rank_parts(weight: Weight, layout: Layout, engine: Engine, dtype_bits: int) -> tuple[int, int]:
    """Bytes of one weight (all copies) on one rank: elements, and scales."""
    tensor = layout.tensor
    rows, cols, copies = weight.rows, weight.cols, weight.copies
    if weight.split is Split.COLUMN:
        rows //= tensor
    elif weight.split is Split.ROW:
        cols //= tensor
    elif weight.split is Split.KV:
        rows = rows // weight.heads * max(1, weight.heads // tensor)
    elif weight.split is Split.VOCAB:
        rows = _round_up(rows, 64) // tensor
    elif weight.split is Split.EXPERT:
        rows, cols, copies = _expert(weight, layout, engine)
    data, scales = weight.parts(rows, cols, dtype_bits)
    return data * copies, scales * copies


def _expert(weight: Weight, layout: Layout, engine: Engine) -> tuple[int, int, int]:
    """Return rows, columns and copies of an expert's matrix on one rank.

    Without expert parallelism the experts are divided over all ranks that share them, data
    parallel ones included. MXFP4 kernels pad the hidden size to 256 and the inner size of a rank to
    64, since 0.12 to 128.
    """
    rows, cols, copies = weight.rows, weight.cols, weight.copies
    shared = layout.tensor * layout.data
    if layout.expert:
        copies = -(-copies // shared)
    elif weight.inner == "rows":
        rows = -(-rows // shared)
    elif weight.inner == "cols":
        cols = -(-cols // shared)
    if weight.format is MXFP4:
        step = 128 if engine.since(12) else 64
        if weight.inner == "rows":
            rows, cols = _round_up(rows, step), _round_up(cols, 256)
        elif weight.inner == "cols":
            rows, cols = _round_up(rows, 256), _round_up(cols, step)
    return rows, cols, copies


@functools.lru_cache(maxsize=4096)
def stage_bytes(model: ModelShape, layout: Layout, engine: Engine) -> tuple[int, ...]:
    """Return the weight bytes of one rank of every pipeline stage."""
    layers = [
        _group_bytes(layer.weights, model, layout, engine) + _absorbed(layer.weights, model, layout)
        for layer in model.layers
    ]
    stages = stage_layers(model.num_layers, layout.pipeline)
    totals = [sum(layers[model.pattern[i]] for i in range(first, end)) for first, end in stages]
    rope = allocated(model.rope_elements * model.dtype_bits // 8, splits=engine.splits_blocks)
    totals = [total + rope for total in totals]
    totals[0] += _group_bytes((*model.embedding, *model.tower), model, layout, engine)
    totals[-1] += _group_bytes(model.head, model, layout, engine)
    if model.tied and not model.pooling and layout.pipeline > 1:
        # The last stage has no embedding to share, so it loads the tied head for itself.
        totals[-1] += _group_bytes(model.embedding, model, layout, engine)
    return tuple(totals)


def _group_bytes(
    weights: Iterable[Weight], model: ModelShape, layout: Layout, engine: Engine
) -> int:
    factors = dict(model.factors)
    fused: dict[tuple[str, str], float] = {}
    repeated: dict[str, int] = {}
    for weight in weights:
        tensors = 1 if weight.kind == Kind.EXPERT else weight.copies
        prefix, _, last = weight.module.rpartition(".")
        name = f"{prefix}.{_FUSED.get(last, last)}"
        repeated[name] = tensors
        parts = rank_parts(weight, layout, engine, model.dtype_bits)
        for part, size in zip(("data", "scales"), parts, strict=True):
            scaled = size * factors.get(weight.kind, 1.0) / tensors
            fused[name, part] = fused.get((name, part), 0.0) + scaled
    return sum(
        allocated(int(size), splits=engine.splits_blocks) * repeated[name]
        for (name, _), size in fused.items()
    )


def _absorbed(weights: Iterable[Weight], model: ModelShape, layout: Layout) -> int:
    """Bytes of the 16-bit copies of a quantized `kv_b_proj`, which latent attention multiplies by.

    An unquantized one is used in place.
    """
    total = 0
    for weight in weights:
        if weight.module.endswith(".kv_b_proj") and weight.format is not None:
            total += weight.rows // layout.tensor * weight.cols * model.dtype_bits // 8
    return total
