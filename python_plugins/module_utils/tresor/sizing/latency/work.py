"""What one rank has to read, multiply and send in a step, counted from the model's shape.

Counts only: bytes, multiply-adds and layers. How fast a card does them is :mod:`step`'s matter.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from ..gpu import Gpu
from ..model.formats import Format
from ..model.shape import (
    Attention,
    Cache,
    Kind,
    LatentAttention,
    ModelShape,
    Split,
    State,
    Weight,
)

# The latent attention of every published model decompresses to these head sizes in prefill
# (DeepSeek V2/V3, Kimi K2: qk_nope_head_dim and v_head_dim).
LATENT_HEAD_DIM: Final = 128
# A verdict per layer and step: which arithmetic a weight is multiplied in.
WEIGHT_ONLY: Final = "weight_only"
ARITHMETICS: Final = ("bf16", "fp8", "int8", "fp4", WEIGHT_ONLY)
# Bytes of an element that passes from one kernel to the next, and of one that a product in narrow
# arithmetic reads (its producer quantizes it).
ACTIVATION_BYTES: Final = 2
_INPUT_BYTES: Final = {"fp8": 1.0, "int8": 1.0, "fp4": 0.5}
# Work outside of the matrix units per element that enters a product, against one of 16 bit: a
# narrow input is scaled, rounded and packed, in blocks of 16 with a scale each for 4-bit ones.
_INPUT_EFFORT: Final = {"fp8": 2.0, "int8": 2.0, "fp4": 4.0}
_HALVES: Final = (Kind.ATTENTION, Kind.LINEAR_ATTENTION, Kind.MLP)
# Engines join these products with the one before them, so its input serves them too.
_JOINED: Final = ("k_proj", "v_proj", "up_proj")


@dataclass(frozen=True)
class Layout:
    """How the engine divides a model: sizes of the parallel groups, all at least 1."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: bool = False

    @property
    def gpus(self) -> int:
        """GPUs that one deployment occupies."""
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True)
class Matrices:
    """Weights of one arithmetic on one rank.

    ``read`` bytes are read when they are used at all; ``parameters`` are multiplied per token.
    """

    arithmetic: str
    read: float
    parameters: float


@dataclass(frozen=True)
class KeyValues:
    """The caches of equal layers on one rank, for one sequence.

    ``per_token`` bytes for each cached token, of which at most ``window`` count (None: all);
    ``fixed`` bytes whatever the length; ``products`` multiply-adds per query and key in decode,
    ``prefill_products`` in prefill.
    """

    per_token: float
    window: int | None
    fixed: float
    products: float
    prefill_products: float


@dataclass(frozen=True)
class Work:
    """The work of one rank of a model under a layout.

    ``depth`` counts layers as pairs of a mixer (attention of any kind) and a block that follows it,
    as nearly all models have; each half of a pair ends in an all-reduce under tensor parallelism.
    ``dense`` are the weights every token passes, ``head`` those of the output vocabulary (only
    tokens that are sampled pass them), ``experts`` the routed experts this rank holds with their
    multiply-adds per token of the whole deployment. ``moved`` bytes of activations enter and leave
    the dense products per token, ``expert_moved`` those of the experts per token and choice, each
    over all layers. ``efforts`` and ``expert_efforts`` count the elements behind those bytes,
    weighted by the work outside of the matrix units that each takes.
    """

    layout: Layout
    depth: float
    hidden_size: int
    vocab_size: int
    dense: tuple[Matrices, ...]
    head: Matrices
    experts: tuple[Matrices, ...]
    expert_count: int
    expert_top_k: int
    expert_layers: int
    caches: tuple[KeyValues, ...]
    moved: float
    expert_moved: float
    efforts: float
    expert_efforts: float

    @property
    def weight_bytes(self) -> float:
        """Bytes of weights on this rank that a step may read (a look-up table is not read)."""
        every = (*self.dense, *self.experts, self.head)
        return sum(matrices.read for matrices in every)

    def experts_touched(self, tokens: float) -> float:
        """Return the share of the routed experts that a batch of tokens touches, 0 to 1.

        Each token picks ``top_k`` of ``count`` experts; with even routing a given expert stays
        untouched with probability (1 - k/E) per token.
        """
        if not self.expert_count:
            return 0.0
        return float(1.0 - (1.0 - self.expert_top_k / self.expert_count) ** max(0.0, tokens))


@functools.lru_cache(maxsize=1024)
def count_work(shape: ModelShape, gpu: Gpu, layout: Layout, kv_bits: float) -> Work:
    """Count the work of one rank; ``kv_bits`` is the width of a cached element."""
    moved = expert_moved = efforts = expert_efforts = 0.0
    dense: dict[str, list[float]] = {}
    routed: dict[str, list[float]] = {}
    head = Matrices("bf16", 0.0, 0.0)
    tied = shape.tied and not shape.pooling
    for weight, count in shape.weights():
        if weight.kind is Kind.VISION:
            continue
        if weight.kind is Kind.EMBEDDING and not tied:
            continue
        arithmetic = _arithmetic(weight.format, gpu)
        share = _share(weight, layout)
        size = shape.weight_bytes(weight) * count * share
        parameters = weight.elements * count * share
        if weight.kind in (Kind.LM_HEAD, Kind.EMBEDDING):
            head = Matrices(arithmetic, head.read + size, head.parameters + parameters)
        elif weight.kind is Kind.EXPERT and shape.experts is not None:
            active = parameters * shape.experts.top_k / shape.experts.count
            _add(routed, arithmetic, size, active)
            size, effort = _moved(weight, layout, arithmetic)
            expert_moved += size / shape.experts.count * count
            expert_efforts += effort / shape.experts.count * count
        else:
            _add(dense, arithmetic, size, parameters)
            size, effort = _moved(weight, layout, arithmetic)
            moved += size * count
            efforts += effort * count
    experts = shape.experts
    return Work(
        layout=layout,
        depth=_depth(shape),
        hidden_size=shape.hidden_size,
        vocab_size=shape.vocab_size,
        dense=_matrices(dense),
        head=head,
        experts=_matrices(routed),
        expert_count=experts.count if experts is not None else 0,
        expert_top_k=experts.top_k if experts is not None else 0,
        expert_layers=experts.layers if experts is not None else 0,
        caches=tuple(
            _key_values(cache, layers, layout.tensor, kv_bits, shape.dtype_bits)
            for cache, layers in shape.caches
        ),
        moved=moved,
        expert_moved=expert_moved,
        efforts=efforts,
        expert_efforts=expert_efforts,
    )


def _add(table: dict[str, list[float]], key: str, size: float, parameters: float) -> None:
    entry = table.setdefault(key, [0.0, 0.0])
    entry[0] += size
    entry[1] += parameters


def _matrices(table: dict[str, list[float]]) -> tuple[Matrices, ...]:
    return tuple(Matrices(kind, entry[0], entry[1]) for kind, entry in table.items())


def _depth(shape: ModelShape) -> float:
    halves = sum(
        count
        for weight, count in shape.weights()
        if weight.split is Split.ROW and weight.linear and weight.kind in _HALVES
    )
    halves += shape.experts.layers if shape.experts is not None else 0
    return halves / 2 or float(shape.num_layers)


def _moved(weight: Weight, layout: Layout, arithmetic: str) -> tuple[float, float]:
    """Return the bytes that one token reads and writes around a weight on one rank, all copies.

    A product reads its inputs and writes its outputs; a vector (a norm) reads and writes its rows.
    """
    rows: float = weight.rows
    cols: float = weight.cols if weight.cols > 1 else weight.rows
    if weight.split in (Split.COLUMN, Split.KV, Split.VOCAB):
        rows /= layout.tensor
    elif weight.split is Split.ROW:
        cols /= layout.tensor
    elif weight.split is Split.EXPERT and not layout.expert:
        if weight.inner == "rows":
            rows /= layout.tensor
        else:
            cols /= layout.tensor
    if weight.module.endswith(_JOINED):
        cols = 0.0
    read = _INPUT_BYTES.get(arithmetic, ACTIVATION_BYTES) * cols
    effort = _INPUT_EFFORT.get(arithmetic, 1.0) * cols + rows
    return weight.copies * (read + ACTIVATION_BYTES * rows), weight.copies * effort


def _arithmetic(form: Format | None, gpu: Gpu) -> str:
    """Return the units a weight is multiplied in on that card.

    A format the card does not multiply is unpacked to 16 bit by a weight-only kernel: scales of 32
    elements cannot be applied to sums of 8-bit products, so MXFP4 is no exception on Hopper (the
    kernels of Triton unpack it to bfloat16). Where the card has 4-bit units, MXFP4 meets 8-bit
    activations, which run at the 8-bit rate; NVFP4 checkpoints quantize both sides to 4 bit.
    """
    if form is None:
        return "bf16"
    native = gpu.native_formats
    if form.compute == "fp8" and "fp8" in native:
        return "fp8"
    if form.compute == "int8" and "int8" in native:
        return "int8"
    if form.compute == "fp4" and "nvfp4" in native:
        return "fp4" if form.name.startswith("nvfp4") else "fp8"
    return WEIGHT_ONLY


def _share(weight: Weight, layout: Layout) -> float:
    if weight.kind is Kind.EXPERT:
        return 1.0 / (layout.tensor * layout.data)
    if weight.split is Split.REPLICATED:
        return 1.0
    if weight.split is Split.KV and weight.heads:
        return max(1, weight.heads // layout.tensor) / weight.heads
    return 1.0 / layout.tensor


def _key_values(
    cache: Cache, layers: int, tensor: int, kv_bits: float, dtype_bits: int
) -> KeyValues:
    if isinstance(cache, State):
        # A recurrent layer reads its state and writes it back.
        size = 2.0 * layers * cache.state_bytes(tensor, dtype_bits)
        return KeyValues(0.0, None, size, 0.0, 0.0)
    size = layers * cache.elements_per_token(tensor) * kv_bits / 8
    heads = max(1.0, cache.heads / tensor)
    if isinstance(cache, LatentAttention):
        decode = layers * heads * (2 * cache.width - cache.rope_dim)
        prefill = layers * heads * (2 * LATENT_HEAD_DIM + cache.rope_dim)
        return KeyValues(size + layers * cache.indexer_bytes, None, 0.0, decode, prefill)
    return _attention(cache, layers, size, heads)


def _attention(cache: Attention, layers: int, size: float, heads: float) -> KeyValues:
    window = cache.window if cache.window is not None else cache.chunk
    products = layers * heads * (cache.head_dim + cache.head_dim_v)
    return KeyValues(size, window, 0.0, products, products)
