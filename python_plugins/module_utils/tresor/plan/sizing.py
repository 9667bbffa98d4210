"""The part of the plan that says what every engine was predicted to take."""

from __future__ import annotations

from typing import Any

from ..placement.site import Capacity
from ..placement.values import Placed


def resolve_sizing(capacity: Capacity) -> dict[str, Any]:
    """Return the sizing section; it exists only for a site that fits."""
    return {
        "vllm_version": capacity.vllm_version,
        "survive_loss_of": capacity.survive,
        "instances": {item.id: _instance(item) for item in capacity.placement.placed},
        "notes": list(capacity.notes),
    }


def _instance(placed: Placed) -> dict[str, Any]:
    """Return the prediction, rounded so that the plan is the same on every machine."""
    wanted, found = placed.wanted, placed.prediction
    architecture = wanted.architecture
    return {
        "architecture": architecture if isinstance(architecture, str) else "config of the site",
        "tensor_parallel_size": placed.tensor,
        "pipeline_parallel_size": wanted.pipeline,
        "gpus": list(placed.gpus),
        "weights_gib_per_gpu": round(found.weights_gib, 4),
        "peak_activation_gib": round(found.activation_gib, 4),
        "non_torch_gib": round(found.non_torch_gib, 4),
        "cudagraph_gib": round(found.cudagraph_gib, 4),
        "available_kv_gib_per_gpu": round(found.kv_gib, 4),
        "kv_cache_tokens": found.kv_tokens,
        "max_concurrency": found.max_concurrency,
        "gpu_total_gib": round(found.total_gib, 4),
        **({"nodes": wanted.nodes} if wanted.nodes > 1 else {}),
    }
