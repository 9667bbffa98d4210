"""A sizing that is simple enough to follow in the head, for tests of what is built on it."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.placement.values import Hardware, Wanted
from tresor.sizing.errors import SizingError
from tresor.sizing.slo.predict import Seen

SIZES = {"small": 8.0, "middle": 30.0, "large": 120.0, "huge": 1200.0}
"""Weights of invented models in GiB."""
TOTAL_GIB = 80.0
OTHER_GIB = 4.0


def estimate(**keys: Any) -> dict[str, Any]:
    """Spread the weights over the ranks, take 4 GiB for the rest, leave what remains for KV."""
    if keys["model"] not in SIZES:
        raise SizingError(f"the architecture {keys['model']} is not known")
    ranks = keys["tensor_parallel_size"] * keys["pipeline_parallel_size"]
    total = keys.get("gpu_total_gib", TOTAL_GIB)
    share = keys.get("gpu_memory_utilization", 0.92)
    weights = SIZES[keys["model"]] / ranks
    if keys["gpu"] == "cpu":
        kv = keys["kv_cache_memory_bytes"] / (1 << 30)
        other = 0.0
    else:
        kv, other = share * total - weights - OTHER_GIB, OTHER_GIB
    busy = keys.get("free_gib", total) < share * total
    fits = kv > 0 and not busy
    return {
        "outcome": "fit" if fits else "no_fit",
        "fail_kind": None if fits else "free_memory_below_budget" if busy else "negative_kv",
        "reasons": [] if fits else [f"{weights:.0f} GiB of weights"],
        "advice": [] if fits else ["take more GPUs"],
        "weights_gib_per_gpu": weights,
        "peak_activation_gib": other / 2,
        "non_torch_gib": other / 4,
        "cudagraph_gib": other / 4,
        "available_kv_gib_per_gpu": kv,
        "kv_cache_tokens": int(kv * 1000),
        "max_concurrency": kv,
        "resolved": {"gpu_total_gib": total, "gpu_memory_utilization": share},
    }


def wanted(name: str = "chat", **changes: Any) -> Wanted:
    """Return something wanted on the host `a`."""
    values: dict[str, Any] = {
        "model": name,
        "artefact": name,
        "architecture": "small",
        "task": "chat",
        "device": "cuda",
        "quantization": None,
        "context_tokens": 1024,
        "hosts": ("a",),
        "tensor": None,
    }
    return Wanted(name=name, **{**values, **changes})


def server(**changes: Any) -> Hardware:
    """Return a server with eight joined GPUs."""
    return Hardware(**{"gpu": "H100 SXM 80GB", "gpus": 8, "nvlink_domain": 8, **changes})


@pytest.fixture
def eight() -> Hardware:
    return server()


def seen(first: float, whole: float) -> Seen:
    """Return what users see, in milliseconds."""
    return Seen(
        ttft_p95=first,
        e2e_p95=whole,
        itl=1.0,
        inside=1.0,
        floor_ttft=first,
        floor_e2e=whole,
        answer={},
        alone={},
    )
