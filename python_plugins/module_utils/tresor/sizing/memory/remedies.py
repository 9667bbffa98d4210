"""What might cure a start-up that fails. Each remedy is tried before it is recommended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.shape import ModelShape
from .activation import GIB
from .budget import Budget
from .options import Request

_TENSOR_SIZES = (1, 2, 4, 8, 16)
_HIGHEST_SHARE = 0.95
_FEW_SEQUENCES = 64
# Bits of formats that a smaller checkpoint may have, from mild to strong.
_SMALLER = {"fp8": 8, "awq_int4": 4}


@dataclass(frozen=True)
class Remedy:
    """Options to change, and how to say it; of a `group` only the first that works counts."""

    words: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""


def remedies(
    kind: str, request: Request, model: ModelShape, budget: Budget | None
) -> Iterator[Remedy]:
    """Yield what may cure a failure of that kind, the least intrusive first."""
    if budget is not None:
        yield from _of_kind(kind, request, budget)
    for size in _TENSOR_SIZES:
        if size > request.tensor_parallel_size or kind == "structural":
            changes = {"tensor_parallel_size": size}
            yield Remedy(f"set tensor_parallel_size to {size}", changes, "tensor")
    if kind == "structural":
        yield Remedy(
            "leave enable_expert_parallel out", {"enable_expert_parallel": False}, "expert"
        )
    if kind == "free_memory_below_budget":
        return
    bits = max((one.bits for one in model.quantization.formats), default=model.dtype_bits)
    for name, smaller in _SMALLER.items():
        if smaller < bits or kind == "structural":
            yield Remedy(f"use a checkpoint in {name}", {"quantization": name}, "format")


def _of_kind(kind: str, request: Request, budget: Budget) -> Iterator[Remedy]:
    if kind == "free_memory_below_budget" and request.free_gib is not None:
        share = _floor(request.free_gib * GIB / budget.total)
        yield Remedy(
            f"stop the other program on this GPU, or set gpu_memory_utilization to {share}",
            {"gpu_memory_utilization": share},
        )
    if kind == "oom_after_kv_allocation":
        share = _floor((budget.requested - budget.missing) / budget.total)
        yield Remedy(f"set gpu_memory_utilization to {share}", {"gpu_memory_utilization": share})
        half = max(1, budget.batch.sequences // 2)
        yield Remedy(f"set max_num_seqs to {half}", {"max_num_seqs": half})
        yield Remedy("set enforce_eager", {"enforce_eager": True})
    if kind == "kv_insufficient_for_one_request" and budget.capacity.longest > 0:
        length = budget.capacity.longest
        yield Remedy(f"set max_model_len to {length} or less", {"max_model_len": length})
    if kind in ("kv_insufficient_for_one_request", "negative_kv"):
        if budget.utilization < _HIGHEST_SHARE:
            yield Remedy(
                f"set gpu_memory_utilization to {_HIGHEST_SHARE}",
                {"gpu_memory_utilization": _HIGHEST_SHARE},
            )
        if budget.batch.sequences > _FEW_SEQUENCES:
            yield Remedy(
                f"set max_num_seqs to {_FEW_SEQUENCES} (now {budget.batch.sequences}): the "
                "profile run samples for that many",
                {"max_num_seqs": _FEW_SEQUENCES},
            )
    if kind == "kv_insufficient_for_one_request" and request.kv_cache_dtype == "auto":
        yield Remedy("set kv_cache_dtype to fp8", {"kv_cache_dtype": "fp8"})


def _floor(share: float) -> float:
    return min(1.0, max(0.01, int(share * 100) / 100))
