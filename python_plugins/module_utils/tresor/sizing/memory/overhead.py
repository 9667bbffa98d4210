"""Memory outside of torch's allocator, and CUDA graphs."""

from __future__ import annotations

from ..model.formats import MXFP4
from ..model.shape import ModelShape
from .activation import GIB, Batch
from .constants import Constants
from .engine import Engine
from .parallel import Layout

# Number of sizes captured with the defaults, and the largest; the constants were fitted on these.
_COUNT = 51
_LARGEST = 512


def non_torch(layout: Layout, engine: Engine, constants: Constants) -> float:
    """Bytes that kernels, NCCL and custom all-reduce take outside of torch on one rank.

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
    elif layout.tensor > 1:
        size = constants.non_torch_tp + constants.non_torch_tp_rank * layout.tensor
    else:
        size = constants.non_torch_pp if layout.pipeline > 1 else constants.non_torch
    return size * GIB


def capture_sizes(sequences: int, batched_tokens: int) -> tuple[int, int]:
    """Return how many batch sizes the engine captures graphs for, and the largest of them."""
    largest = min(2 * sequences, _LARGEST, batched_tokens)
    sizes = {size for size in (1, 2, 4) if size <= largest}
    sizes |= set(range(8, min(largest + 1, 256), 8))
    sizes |= set(range(256, largest + 1, 16))
    return len(sizes), max(sizes)


def graphs(
    model: ModelShape, layout: Layout, engine: Engine, batch: Batch, constants: Constants
) -> float:
    """Bytes of CUDA graphs of one rank.

    Each captured size costs per layer; the largest also holds its activations, which grow with the
    hidden size and the experts a token passes.
    """
    count, largest = capture_sizes(batch.sequences, batch.tokens)
    layers = -(-model.num_layers // layout.pipeline)
    activations = constants.graph_hidden * model.hidden_size / 10_000
    if layout.tensor > 1:
        activations += constants.graph_tp
    if model.experts is not None:
        activations += constants.graph_expert * model.experts.top_k
        if MXFP4 in model.quantization.formats:
            activations += constants.graph_mxfp4
    size = constants.graph_base + constants.graph_layer * layers * count / _COUNT
    size += max(0.0, activations) * largest / _LARGEST
    if not engine.since(17):
        size *= constants.graph_old_share
    return size * GIB
