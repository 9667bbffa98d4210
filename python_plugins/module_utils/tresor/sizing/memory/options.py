"""The request: every option checked for type and range, unknown ones refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import OptionError, shown

KV_DTYPES: Mapping[str, int] = {
    "auto": 0,
    "bfloat16": 16,
    "bf16": 16,
    "float16": 16,
    "fp16": 16,
    "half": 16,
    "fp8": 8,
    "fp8_e4m3": 8,
    "fp8_e5m2": 8,
    "fp8_inc": 8,
    "fp8_ds_mla": 8,
}


@dataclass(frozen=True)
class Request:
    """One question. Names are vLLM's flags; None means the engine's default of that version.

    `gpu_total_gib` is the memory as torch sees it and overrides the catalogue's; `free_gib` is
    what is free when the engine starts, if other programs share the card.
    """

    model: str | Path | Mapping[str, Any]
    gpu: str | None = None
    gpu_total_gib: float | None = None
    quantization: str | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    block_size: int | None = None
    kv_cache_dtype: str = "auto"
    enforce_eager: bool = False
    kv_cache_memory_bytes: int | None = None
    enable_prefix_caching: bool | None = None
    vllm_version: str | None = None
    gpus_per_node: int | None = None
    nodes: int | None = None
    free_gib: float | None = None
    notes: tuple[str, ...] = field(default=(), init=False)


# option -> (lowest, highest) of whole numbers
_WHOLE: Mapping[str, tuple[int, int]] = {
    "tensor_parallel_size": (1, 1024),
    "pipeline_parallel_size": (1, 256),
    "data_parallel_size": (1, 4096),
    "max_model_len": (1, 1 << 31),
    "max_num_seqs": (1, 1 << 20),
    "max_num_batched_tokens": (1, 1 << 24),
    "block_size": (1, 1 << 16),
    "kv_cache_memory_bytes": (1, 1 << 50),
    "gpus_per_node": (1, 1024),
    "nodes": (1, 10000),
}
_REAL: Mapping[str, tuple[float, float]] = {
    "gpu_total_gib": (1.0, 4096.0),
    "gpu_memory_utilization": (0.01, 1.0),
    "free_gib": (0.0, 4096.0),
}
_BOOLEAN = ("enable_expert_parallel", "enforce_eager", "enable_prefix_caching")
_TEXT = ("gpu", "quantization", "kv_cache_dtype", "vllm_version")
_NAMES = tuple(one.name for one in fields(Request) if one.init)


def request_of(options: Mapping[str, Any]) -> Request:
    """Return the checked request; raise `OptionError` for the first thing that is wrong."""
    for name in options:
        if name not in _NAMES:
            near = difflib.get_close_matches(str(name), _NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"options are {', '.join(_NAMES)}"
            raise OptionError(f"there is no option {shown(name)}; {hint}")
    if "model" not in options:
        raise OptionError("model is missing; give a catalogue name, a directory or a config")
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        given[name] = _checked(name, value)
    if given.get("gpu") is None and given.get("gpu_total_gib") is None:
        raise OptionError("gpu and gpu_total_gib are missing; give at least one of them")
    return Request(**given)


def _checked(name: str, value: object) -> object:
    if name in _WHOLE:
        return _whole(name, value)
    if name in _REAL:
        return _real(name, value)
    if name in _BOOLEAN:
        if not isinstance(value, bool):
            raise OptionError(f"{name} is {shown(value)}; expected true or false")
    elif name in _TEXT:
        if not isinstance(value, str) or not value.strip() or len(value) > 200:
            raise OptionError(f"{name} is {shown(value)}; expected a short text")
        if name == "kv_cache_dtype" and value not in KV_DTYPES:
            raise OptionError(
                f"kv_cache_dtype is {shown(value)}; expected one of {', '.join(KV_DTYPES)}"
            )
    return value


def _whole(name: str, value: object) -> int:
    low, high = _WHOLE[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise OptionError(f"{name} is {shown(value)}; expected a whole number, {low} to {high}")
    return value


def _real(name: str, value: object) -> float:
    low, high = _REAL[name]
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        raise OptionError(f"{name} is {shown(value)}; expected a number from {low} to {high}")
    return float(value)
