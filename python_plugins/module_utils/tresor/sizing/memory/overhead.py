"""Memory outside of torch's allocator, and CUDA graphs."""

from __future__ import annotations

from ..model.shape import ModelShape
from .activation import GIB, Batch
from .card import Card
from .constants import Constants
from .engine import Engine
from .parallel import Layout

# Number of sizes captured with the defaults, and the largest; the constants were fitted on these.
_COUNT = 51
_LARGEST = 512


def fuses_all_reduce(layout: Layout, engine: Engine, capability: int, *, eager: bool) -> bool:
    """Tell whether the engine fuses all-reduce with the norm after it, which sets up workspaces.

    Since 0.17 by default on Hopper and data-centre Blackwell, in compiled mode; up to 0.31 not
    together with pipeline or data parallelism. Source: `enable_allreduce_rms_fusion` in
    `config/vllm.py`. A card that is not known is taken to be one of these.
    """
    if layout.tensor == 1 or eager or not engine.since(17):
        return False
    if (layout.pipeline > 1 or layout.data > 1) and not engine.since(32):
        return False
    return capability in (0, 90) or 100 <= capability < 110


def non_torch(layout: Layout, engine: Engine, constants: Constants, *, fused: bool) -> float:
    """Bytes that kernels, NCCL and all-reduce take outside of torch on one rank.

    NCCL is set up before the engine takes its first measurement from 0.12 on, so it no longer
    counts, except for what all-reduce allocates later.
    """
    if not engine.since(12):
        if layout.tensor > 1:
            size = constants.non_torch_tp_old if engine.v1 else constants.non_torch_tp_v0
        else:
            size = constants.non_torch_old
    elif not engine.since(17):
        size = constants.non_torch_middle
    elif fused:
        size = constants.non_torch_tp + constants.non_torch_tp_rank * layout.tensor
    else:
        size = constants.non_torch_pp if layout.pipeline > 1 else constants.non_torch
    return size * GIB


def capture_sizes(model: ModelShape, engine: Engine, card: Card, batch: Batch) -> tuple[int, int]:
    """Return how many batch sizes the engine captures graphs for, and the largest of them.

    Up to 512, or 1024 on Blackwell for data centres since 0.28, and at most twice the sequences;
    gpt-oss always goes to 1024 (0.12) or 992 (0.11). Sources: `_set_cudagraph_sizes` in
    `config/vllm.py`, `GptOssForCausalLMConfig` in `models/config.py`.
    """
    limit = 2 * _LARGEST if card.big_blackwell and engine.since(28) else _LARGEST
    largest = min(2 * batch.sequences, limit)
    if model.architecture == "GptOssForCausalLM" and engine.since(11):
        largest = 1024 if engine.since(12) else 992
    largest = min(largest, batch.tokens)
    sizes = {size for size in (1, 2, 4) if size <= largest}
    sizes |= set(range(8, min(largest + 1, 256), 8))
    sizes |= set(range(256, largest + 1, 16))
    return len(sizes), max(sizes)


def graphs(
    model: ModelShape,
    layout: Layout,
    engine: Engine,
    captured: tuple[int, int],
    constants: Constants,
) -> float:
    """Bytes of CUDA graphs of one rank; `captured` as `capture_sizes` returns it.

    Each captured size costs per layer; the largest also holds its activations, which grow with the
    hidden size and the experts a token passes.
    """
    count, largest = captured
    layers = -(-model.num_layers // layout.pipeline)
    activations = constants.graph_hidden * model.hidden_size / 10_000
    if layout.tensor > 1:
        activations += constants.graph_tp
    if model.experts is not None:
        activations += constants.graph_expert * model.experts.top_k
    size = constants.graph_base + constants.graph_layer * layers * count / _COUNT
    size += max(0.0, activations) * largest / _LARGEST
    if not engine.since(17):
        size *= constants.graph_old_share
    return size * GIB
