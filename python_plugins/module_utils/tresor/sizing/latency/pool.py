"""The memory that an engine has for keys and values, per rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from .engines import TENSORRT, LatencyError
from .question import Question
from .work import Work

GIB: Final = 1024**3
MEMORY_OPTIONS: Final = frozenset(
    {
        "model",
        "gpu",
        "gpu_total_gib",
        "gpus_per_node",
        "nodes",
        "free_gib",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "enable_expert_parallel",
        "gpu_memory_utilization",
        "max_model_len",
        "max_num_seqs",
        "max_num_batched_tokens",
        "block_size",
        "kv_cache_dtype",
        "enforce_eager",
        "quantization",
        "kv_cache_memory_bytes",
        "vllm_version",
    }
)
# TensorRT-LLM takes a share of what is free after loading; 0.9 is its documented default, and its
# buffers hold max_num_tokens of activations. Both of the older generation are fitted.
TENSORRT_SHARE: Final = {"old": 0.8, "new": 0.9}
TENSORRT_BUFFERS_GIB: Final = 5.0
VLLM_RESERVED_GIB: Final = 2.6


def cache_bytes(
    question: Question, work: Work, options: Mapping[str, Any]
) -> tuple[Question, Work] | LatencyError:
    """Return the question with its pool, or the refusal that says why the model does not fit."""
    total = float(options.get("gpu_total_gib") or question.gpu.total_gib)
    weights = work.weight_bytes / work.layout.pipeline / GIB
    if question.engine is TENSORRT:
        free = total - weights - TENSORRT_BUFFERS_GIB
        pool = TENSORRT_SHARE[question.generation] * free
    else:
        utilization = float(options.get("gpu_memory_utilization") or 0.9)
        pool = utilization * total - VLLM_RESERVED_GIB - weights
    if pool <= 0:
        return LatencyError(
            f"model {question.shape.name}: {weights:.1f} GiB of weights per GPU leave no room for "
            f"the KV cache on {question.gpu.name} ({total:.1f} GiB): use more GPUs per replica, a "
            "smaller format or a larger card"
        )
    # A pipeline stage holds the caches of its own layers only.
    return replace(question, pool_bytes=pool * GIB * work.layout.pipeline), work
