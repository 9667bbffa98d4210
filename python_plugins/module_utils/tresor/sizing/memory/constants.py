"""The few constants that vLLM's source does not give.

`fitted.VALUES`, written by docs/tools/sizing_fit.py from measured start-ups, replaces the defaults
here. docs/sizing.md states the cross-validated figures. The default of what a single model family
showed is zero, so that cross-validation without that family knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .fitted import VALUES


@dataclass(frozen=True)
class Constants:
    """Constants of the memory model, in GiB unless a comment says otherwise."""

    # Allocated once in the profile run: cuBLAS workspace and small buffers.
    workspace: float = 0.048
    # Extra while layers run: positions, slots, intermediate buffers of the compiled graph.
    forward: float = 0.031
    # What the inputs of an encoder hold besides its outputs.
    encoder: float = 0.07
    # Outside of torch by engine age (before 0.12, before 0.17, since): one GPU, tensor parallel
    # (plus per rank), pipeline parallel. The middle one is set by hand: no log line states it, and
    # the pools of those versions leave no room for more.
    non_torch_old: float = 0.1
    non_torch_middle: float = 0.03
    non_torch: float = 0.25
    non_torch_tp_v0: float = 0.25
    non_torch_tp_old: float = 0.5
    non_torch_tp: float = 1.99
    non_torch_tp_rank: float = 0.045
    non_torch_pp: float = 0.07
    # CUDA graphs: base, per layer with 51 captured sizes, per 10,000 hidden features, less with
    # tensor parallelism, and per chosen expert.
    graph_base: float = 0.18
    graph_layer: float = 0.0137
    graph_hidden: float = 0.73
    graph_tp: float = -0.21
    graph_expert: float = 0.125
    # Share of that which engines before 0.17 need. Set by hand on few and scattered values; it
    # decides nothing but the warm-up's verdict, because graphs are outside of the budget there.
    graph_old_share: float = 0.6
    # What a process holds on a card before torch allocates anything. Set by hand; it decides
    # verdicts, not pools.
    context: float = 0.6
    # Bytes (not GiB) per logit that the sampler's warm-up needs beyond its profiled peak.
    warm_up_logit_bytes: float = 0.0


FITTED = replace(Constants(), **VALUES)
