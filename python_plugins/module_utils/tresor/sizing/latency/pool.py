"""The memory that an engine has for keys and values, per rank, from the memory estimate."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..estimate import estimate
from .engines import TENSORRT, VLLM, LatencyError
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
        "enable_prefix_caching",
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
# TensorRT-LLM takes a share of what is free after loading: 0.9 is its documented default. The
# benchmarks of the older generation left more, as the turns in which their batches ran show.
TENSORRT_SHARE: Final = {"old": 0.85, "new": 0.9}
# Its runtime and the buffers for max_num_tokens of activations.
TENSORRT_BUFFERS_GIB: Final = 5.0
# vLLM's releases before 0.8 counted blocks that the allocator had cached, and the buffers of
# collectives, as used; the same turns show it.
OLD_EXTRA_GIB: Final = 1.5
OLD_VERSION: Final = "0.6"
_VLLM_VERSION: Final = re.compile(r"\b0\.\d+(\.\d+)?")
# The memory estimate's own word for "one request of max_model_len does not fit".
ONE_REQUEST: Final = "kv_insufficient_for_one_request"


def cache_bytes(
    question: Question, work: Work, options: Mapping[str, Any]
) -> tuple[Question, Work] | LatencyError:
    """Return the question with its pool, or the refusal that says why the model does not fit."""
    asked = _memory_options(question, options)
    found = estimate(**asked)
    if found["fail_kind"] == ONE_REQUEST and options.get("max_model_len") is None:
        # The engine would be started with a context that fits these requests.
        asked["max_model_len"] = math.ceil(question.request.context)
        found = estimate(**asked)
    if question.engine is TENSORRT and found["weights_gib_per_gpu"] is not None:
        return _tensorrt(question, work, found, options)
    if found["outcome"] != "fit":
        return _refusal(question, found)
    pool = float(found["available_kv_gib_per_gpu"])
    if question.generation == "old":
        pool = max(pool - OLD_EXTRA_GIB, 0.1 * pool)
    return _with_pool(question, work, pool)


def _memory_options(question: Question, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the memory estimate is asked for one replica of a layout."""
    asked = {key: value for key, value in options.items() if key in MEMORY_OPTIONS}
    layout = question.layout
    asked |= {
        "model": question.model,
        "quantization": question.quantization,
        "gpu": question.gpu.name,
        "tensor_parallel_size": layout.tensor,
        "pipeline_parallel_size": layout.pipeline,
        "data_parallel_size": layout.data,
        "enable_expert_parallel": layout.expert,
        "nodes": None,
        "gpus_per_node": None,
    }
    if question.generation == "old":
        longest = options.get("max_model_len") or question.shape.max_position_embeddings
        asked["vllm_version"] = OLD_VERSION
        # Whole prompts were scheduled in one step.
        asked.setdefault("max_num_batched_tokens", min(8192, max(2048, int(longest))))
        asked.setdefault("max_model_len", min(8192, int(longest)))
    else:
        asked["vllm_version"] = _vllm_version(question, options)
    return asked


def _vllm_version(question: Question, options: Mapping[str, Any]) -> str | None:
    """Return the version for the memory estimate; other engines are estimated like the newest."""
    if question.engine is not VLLM:
        return None
    stated = options.get("vllm_version") or options.get("engine_version")
    found = _VLLM_VERSION.search(str(stated)) if stated is not None else None
    return found[0] if found is not None else None


def _tensorrt(
    question: Question, work: Work, found: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Question, Work] | LatencyError:
    total = float(options.get("gpu_total_gib") or question.gpu.total_gib)
    free = total - float(found["weights_gib_per_gpu"]) - TENSORRT_BUFFERS_GIB
    if free <= 0:
        return _refusal(question, found)
    return _with_pool(question, work, TENSORRT_SHARE[question.generation] * free)


def _with_pool(question: Question, work: Work, gib: float) -> tuple[Question, Work]:
    # The estimate is that of one pipeline stage, which holds the caches of its own layers only.
    return replace(question, pool_bytes=gib * GIB * work.layout.pipeline), work


def _refusal(question: Question, found: Mapping[str, Any]) -> LatencyError:
    layout = question.layout
    reasons = "; ".join(found["reasons"]) or "its weights leave no room for the KV cache"
    advice = "; ".join(found["advice"]) or "use more GPUs per replica or a smaller format"
    return LatencyError(
        f"{question.shape.name} does not fit on {layout.gpus}x {question.gpu.name}: {reasons}. "
        f"What helps: {advice}"
    )
