"""The few constants that vLLM's source does not give, fitted on measured start-ups.

`docs/tools/sizing_fit.py` fits and cross-validates them; docs/sizing.md states its figures.
Sizes are GiB unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constants:
    """Fitted constants of the memory model."""

    # Allocated once in the profile run: cuBLAS workspace and small buffers.
    workspace: float = 0.048
    # Extra while layers run: positions, slots, intermediate buffers of the compiled graph.
    forward: float = 0.031
    # What the inputs and outputs of an encoder hold besides its own outputs.
    encoder: float = 0.07
    # Outside of torch: kernels, NCCL, custom all-reduce. By engine age and parallelism.
    non_torch_old: float = 0.03
    non_torch: float = 0.25
    non_torch_tp_old: float = 0.5
    non_torch_tp_v0: float = 0.25
    non_torch_tp: float = 1.99
    non_torch_tp_rank: float = 0.045
    non_torch_pp: float = 0.07
    # CUDA graphs: base, per layer, per MoE layer, per captured size.
    graph_base: float = 0.25
    graph_layer: float = 0.018
    graph_expert_layer: float = 0.02
    # What a process holds on a card before torch allocates anything.
    context: float = 0.6
    # Bytes per logit that the sampler's warm-up needs beyond its profiled peak.
    warm_up_logit_bytes: float = 8.0


FITTED = Constants()
