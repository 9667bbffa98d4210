"""Memory outside of torch's allocator, and CUDA graphs."""

from __future__ import annotations

from ..model.shape import ModelShape
from .activation import GIB
from .constants import Constants
from .engine import Engine
from .parallel import Layout


def non_torch(layout: Layout, engine: Engine, constants: Constants) -> float:
    """Bytes that kernels, NCCL and custom all-reduce take outside of torch on one rank.

    NCCL is set up before the engine takes its first measurement from 0.12 on, so it no longer
    counts, except for what all-reduce allocates later.
    """
    if layout.tensor > 1:
        if engine.since(17):
            return (constants.non_torch_tp + constants.non_torch_tp_rank * layout.tensor) * GIB
        if not engine.v1:
            return constants.non_torch_tp_v0 * GIB
        return (constants.non_torch_old if engine.since(12) else constants.non_torch_tp_old) * GIB
    if layout.pipeline > 1:
        return constants.non_torch_pp * GIB
    return (constants.non_torch if engine.since(17) else constants.non_torch_old) * GIB


def capture_sizes(sequences: int, batched_tokens: int) -> int:
    """Return how many batch sizes the engine captures graphs for."""
    largest = min(2 * sequences, 512, batched_tokens)
    sizes = {size for size in (1, 2, 4) if size <= largest}
    sizes |= set(range(8, min(largest + 1, 256), 8))
    sizes |= set(range(256, largest + 1, 16))
    return len(sizes)


def graphs(
    model: ModelShape,
    layout: Layout,
    sequences: int,
    batched_tokens: int,
    constants: Constants,
) -> float:
    """Bytes of CUDA graphs of one rank; graphs cost per layer and per captured size."""
    sizes = capture_sizes(sequences, batched_tokens) / 51
    layers = -(-model.num_layers // layout.pipeline)
    sparse = 0.0 if model.experts is None else model.experts.layers / model.num_layers * layers
    per_size = constants.graph_layer * layers + constants.graph_expert_layer * sparse
    return (constants.graph_base + per_size * sizes) * GIB
