"""What sizing knows about a model: its weights, its caches, and how they divide over GPUs.

A `ModelShape` says nothing about a GPU, an engine version or a parallel layout. Sizes are counts of
elements; bytes come from the model's `Quantization` (weights) and from the engine's cache dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from .formats import Format
from .quantization import Quantization


class Kind(StrEnum):
    """What a weight is for; figures by kind are reported under these names."""

    ATTENTION = "attention"
    LINEAR_ATTENTION = "linear_attention"
    INDEXER = "indexer"
    MLP = "mlp"
    EXPERT = "expert"
    SHARED_EXPERT = "shared_expert"
    ROUTER = "router"
    NORM = "norm"
    EMBEDDING = "embedding"
    LM_HEAD = "lm_head"
    VISION = "vision"


class Split(StrEnum):
    """How vLLM divides a weight over the ranks of a tensor-parallel group."""

    REPLICATED = "replicated"
    COLUMN = "column"  # output rows are divided
    ROW = "row"  # input columns are divided
    KV = "kv"  # output rows are divided by head, heads are repeated when there are fewer than ranks
    VOCAB = "vocab"  # rows are padded to 64, then divided
    EXPERT = "expert"  # like COLUMN or ROW inside an expert, or whole experts under EP


@dataclass(frozen=True)
class Weight:
    """One weight matrix or vector, `copies` times in its layer.

    `rows` are output features, `cols` input features; a vector has `cols` 1. `linear` says that a
    quantized checkpoint may hold it in a smaller format, and `format` which one it does (None: the
    model's dtype). `bits` fixes the size of an element whatever the model's dtype is (for example
    32 for a router's correction bias). `inner` is the side of an expert's matrix that tensor
    parallelism divides: "rows" or "cols".
    """

    module: str
    kind: Kind
    rows: int
    cols: int
    split: Split = Split.REPLICATED
    copies: int = 1
    heads: int = 0
    linear: bool = True
    bits: int | None = None
    inner: str = "rows"
    format: Format | None = None

    def parts(self, rows: int, cols: int, dtype_bits: int) -> tuple[int, int]:
        """Bytes of elements and of scales of one copy when it is cut to `rows` x `cols`."""
        if self.format is not None:
            return self.format.data_bytes(rows, cols), self.format.scale_bytes(rows, cols)
        return rows * cols * (self.bits or dtype_bits) // 8, 0

    def size(self, rows: int, cols: int, dtype_bits: int) -> int:
        """Bytes of one copy when it is cut to `rows` x `cols`."""
        return sum(self.parts(rows, cols, dtype_bits))

    @property
    def elements(self) -> int:
        """Elements of all copies, before any division."""
        return self.rows * self.cols * self.copies


@dataclass(frozen=True)
class Attention:
    """A cache of keys and values: it grows with the sequence.

    `window` bounds it to the last tokens (sliding window), `chunk` to the current chunk (Llama 4's
    chunked attention); neither is full attention.
    """

    heads: int
    kv_heads: int
    head_dim: int
    head_dim_v: int
    window: int | None = None
    chunk: int | None = None

    @property
    def label(self) -> str:
        """`full`, `sliding` or `chunked`."""
        if self.window is not None:
            return "sliding"
        return "chunked" if self.chunk is not None else "full"

    def elements_per_token(self, tensor_parallel_size: int = 1) -> int:
        """Cache elements per token on one rank; KV heads repeat when ranks outnumber them."""
        return max(1, self.kv_heads // tensor_parallel_size) * (self.head_dim + self.head_dim_v)


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention: one latent vector per token, the same on every rank.

    `width` is kv_lora_rank + qk_rope_head_dim, in elements. `indexer_bytes` is the sparse indexer's
    own cache per token and layer (one byte per element and a 4-byte scale per 128), 0 without one.
    """

    heads: int
    width: int
    rope_dim: int
    indexer_bytes: int = 0

    @property
    def label(self) -> str:
        """`mla`."""
        return "mla"

    def elements_per_token(self, tensor_parallel_size: int = 1) -> int:
        """Cache elements per token on one rank: the latent is not divided."""
        del tensor_parallel_size
        return self.width


@dataclass(frozen=True)
class StateTensor:
    """A part of a recurrent state: `split` elements divide over ranks, `shared` ones do not.

    `bits` None means the model's own dtype.
    """

    split: int
    shared: int = 0
    bits: int | None = None


@dataclass(frozen=True)
class State:
    """A recurrent layer (Mamba, gated delta, short convolution): one state per sequence.

    `mamba_type` is vLLM's name of the backend (`mamba1`, `mamba2`, `gdn_attention`, ...);
    `chunk_tokens` is the chunk of its scan, which hybrid block sizes of older engines align to.
    When `groups` do not divide by the ranks, groups are repeated, `group_elements` each.
    """

    mamba_type: str
    tensors: tuple[StateTensor, ...]
    chunk_tokens: int = 0
    groups: int = 0
    group_elements: int = 0

    @property
    def label(self) -> str:
        """`state`."""
        return "state"

    def elements_per_token(self, tensor_parallel_size: int = 1) -> int:
        """Nothing grows with the sequence."""
        del tensor_parallel_size
        return 0

    def state_bytes(self, tensor_parallel_size: int, dtype_bits: int) -> int:
        """Bytes of one sequence's state on one rank."""
        total = 0
        if self.groups and self.groups % tensor_parallel_size:
            repeated = (tensor_parallel_size - self.groups) * self.group_elements
            total += repeated // tensor_parallel_size * dtype_bits // 8
        for tensor in self.tensors:
            elements = tensor.split // tensor_parallel_size + tensor.shared
            total += elements * (tensor.bits or dtype_bits) // 8
        return total


Cache = Attention | LatentAttention | State


@dataclass(frozen=True)
class Layer:
    """One kind of decoder or encoder layer: its weights and the caches it keeps.

    Most layers keep one cache, encoder layers none, and layers with attention beside a recurrent
    mixer (Falcon-H1) two.
    """

    weights: tuple[Weight, ...]
    caches: tuple[Cache, ...] = ()


@dataclass(frozen=True)
class Experts:
    """The mixture of experts of a model.

    `count` routed experts per MoE layer, `top_k` chosen per token, `intermediate` features inside
    each, `layers` how many layers have them, `shared_intermediate` features of the shared expert
    that every token passes (0 without one).
    """

    count: int
    top_k: int
    intermediate: int
    layers: int
    shared_intermediate: int = 0


@dataclass(frozen=True)
class Vision:
    """The vision tower, as far as start-up memory depends on it.

    `max_tokens_per_item` is how many embedding tokens the largest single image becomes in the
    language model; `patches_per_item` how many patches the tower itself works on.
    """

    hidden: int
    layers: int
    intermediate: int
    heads: int
    patches_per_item: int
    max_tokens_per_item: int


@dataclass(frozen=True, eq=False)
class ModelShape:
    """A model as sizing sees it. Build it with `describe`.

    Two shapes are equal only if they are the same object, so that they can key a cache cheaply.
    `rope_elements` counts the tables of rotary positions. `factors` corrects the bytes of a kind
    of weight to what a checkpoint's headers hold.
    `checkpoint_bytes` is the size of all its tensors, None if they were not read.
    """

    name: str
    architecture: str
    family: str
    hidden_size: int
    vocab_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int
    layers: tuple[Layer, ...]
    pattern: tuple[int, ...]
    embedding: tuple[Weight, ...]
    head: tuple[Weight, ...]
    tower: tuple[Weight, ...]
    quantization: Quantization
    dtype_bits: int = 16
    tied: bool = False
    pooling: bool = False
    experts: Experts | None = None
    vision: Vision | None = None
    rope_elements: int = 0
    checkpoint_bytes: int | None = None
    factors: tuple[tuple[str, float], ...] = ()

    @property
    def num_layers(self) -> int:
        """Layers of the language model."""
        return len(self.pattern)

    @cached_property
    def layer_counts(self) -> tuple[int, ...]:
        """How often each entry of `layers` occurs."""
        return tuple(self.pattern.count(index) for index in range(len(self.layers)))

    @cached_property
    def caches(self) -> tuple[tuple[Cache, int], ...]:
        """Each kind of cache with the number of layers that keep it, in order of first use."""
        counts: dict[Cache, int] = {}
        for index in self.pattern:
            for cache in self.layers[index].caches:
                counts[cache] = counts.get(cache, 0) + 1
        return tuple(counts.items())

    def weights(self) -> Iterator[tuple[Weight, int]]:
        """Every weight of the model with the number of layers it occurs in."""
        for weight in (*self.embedding, *self.head, *self.tower):
            yield weight, 1
        for layer, count in zip(self.layers, self.layer_counts, strict=True):
            for weight in layer.weights:
                yield weight, count

    @cached_property
    def parameters_by_kind(self) -> dict[str, int]:
        """Parameters (elements) by `Kind` over the whole model. A tied head is counted once."""
        totals: dict[str, int] = {}
        for weight, count in self.weights():
            totals[weight.kind] = totals.get(weight.kind, 0) + weight.elements * count
        return totals

    @cached_property
    def bytes_by_kind(self) -> dict[str, float]:
        """Weight bytes by `Kind` over the whole model, in the checkpoint's formats."""
        totals: dict[str, float] = {}
        factors = dict(self.factors)
        for weight, count in self.weights():
            size = self.weight_bytes(weight) * count * factors.get(weight.kind, 1.0)
            totals[weight.kind] = totals.get(weight.kind, 0.0) + size
        return totals

    @cached_property
    def bytes_per_parameter_by_kind(self) -> dict[str, float]:
        """Mean bytes per parameter by `Kind`, scales of a quantized format included."""
        sizes = self.bytes_by_kind
        return {kind: sizes[kind] / count for kind, count in self.parameters_by_kind.items()}

    @property
    def encoder_only(self) -> bool:
        """Whether it only embeds or classifies whole texts and keeps no cache."""
        return self.pooling and not self.caches

    @property
    def parameters(self) -> int:
        """All parameters."""
        return sum(self.parameters_by_kind.values())

    @cached_property
    def active_parameters(self) -> int:
        """Parameters whose product every token of the language model pays for.

        Routed experts count `top_k` of `count`; the embedding is a look-up and does not count, the
        head does (also when it is tied); the vision tower does not.
        """
        by_kind = dict(self.parameters_by_kind)
        by_kind.pop(Kind.VISION, None)
        embedded = by_kind.pop(Kind.EMBEDDING, 0)
        if self.tied and not self.pooling:
            by_kind[Kind.LM_HEAD] = embedded
        routed = by_kind.pop(Kind.EXPERT, 0)
        if self.experts is not None:
            by_kind[Kind.EXPERT] = routed * self.experts.top_k // self.experts.count
        return sum(by_kind.values())

    def weight_bytes(self, weight: Weight) -> int:
        """Bytes of all copies of one weight, before any division."""
        return weight.size(weight.rows, weight.cols, self.dtype_bits) * weight.copies

    def kv_bytes_per_token(self, kv_bits: int = 16, tensor_parallel_size: int = 1) -> float:
        """Cache bytes that one more token costs on one rank while every layer still grows.

        Windows and chunks are counted as if not yet full; states cost nothing per token.
        """
        total = 0.0
        for cache, count in self.caches:
            total += count * cache.elements_per_token(tensor_parallel_size) * kv_bits / 8
            if isinstance(cache, LatentAttention):
                total += count * cache.indexer_bytes
        return total
