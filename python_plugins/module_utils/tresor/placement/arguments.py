"""The options that an engine is started with: the site's own, and what planning adds."""

from __future__ import annotations

from typing import Any

from .values import Wanted


def engine_arguments(wanted: Wanted, tensor: int) -> dict[str, Any]:
    """Return the options of `vllm serve` in snake case, for a number of GPUs per layer."""
    args: dict[str, Any] = {**wanted.args, "max_model_len": wanted.context_tokens}
    if wanted.quantization is not None:
        args["quantization"] = wanted.quantization
    if tensor > 1:
        args["tensor_parallel_size"] = tensor
    if wanted.pipeline > 1:
        args["pipeline_parallel_size"] = wanted.pipeline
    return args
