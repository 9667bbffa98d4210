"""Ask the sizing package about one engine, in its own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..sizing.errors import SizingError
from .cpu import SPACE
from .values import Hardware, Predict, Prediction, Wanted

Estimate = Callable[..., Mapping[str, Any]]

ASKED: Final = (
    "block_size",
    "enable_expert_parallel",
    "enforce_eager",
    "gpu_memory_utilization",
    "kv_cache_dtype",
    "max_num_batched_tokens",
    "max_num_seqs",
)
"""The options of an engine that change its memory; other options do not."""
_CPU_KV_DEFAULT: Final = "0"
_MOST_SPACE_GIB: Final = 65536


def predictor(estimate: Estimate, vllm_version: str) -> Predict:
    """Return the function that predicts one engine; `estimate` is `tresor.sizing.estimate`."""

    def predict(
        wanted: Wanted, hardware: Hardware, tensor: int, free_gib: float | None
    ) -> Prediction:
        try:
            keys = engine_keys(wanted, hardware, tensor, vllm_version)
            if free_gib is not None:
                keys["free_gib"] = free_gib
            return _prediction(estimate(**keys))
        except SizingError as error:
            return refused(str(error))

    return predict


def engine_keys(
    wanted: Wanted, hardware: Hardware, tensor: int, vllm_version: str
) -> dict[str, Any]:
    """Return the keys of `tresor.sizing` for one engine; what is None is left to the engine.

    Raises SizingError for an engine on the CPU whose memory nobody states.
    """
    keys: dict[str, Any] = {
        "model": wanted.architecture,
        "max_model_len": wanted.context_tokens,
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": wanted.pipeline,
        "vllm_version": vllm_version,
        **{name: wanted.args[name] for name in ASKED if name in wanted.args},
    }
    if wanted.quantization is not None:
        keys["quantization"] = wanted.quantization
    elif wanted.args.get("dtype") == "float32":
        # Else an engine loads 16 bits. The sizing package names a type like a quantization.
        keys["quantization"] = "float32"
    if wanted.device == "cpu":
        keys["gpu"] = "cpu"
        if hardware.memory_gib is not None:
            keys["gpu_total_gib"] = hardware.memory_gib
        space = _cpu_space(wanted)
        if space > 0:
            keys["kv_cache_memory_bytes"] = int(space * (1 << 30))
        elif hardware.memory_gib is None:
            raise SizingError(
                f"the host's memory is not stated and {SPACE} is not set: write one of them"
            )
    else:
        keys["gpu"] = hardware.gpu
        keys["gpus_per_node"] = hardware.gpus
        if wanted.nodes > 1:
            keys["nodes"] = wanted.nodes
        if hardware.gpu_total_gib is not None:
            keys["gpu_total_gib"] = hardware.gpu_total_gib
    return keys


def _cpu_space(wanted: Wanted) -> float:
    text = wanted.env.get(SPACE, _CPU_KV_DEFAULT)
    try:
        space = float(text)
    except ValueError:
        space = -1.0
    if not 0 <= space <= _MOST_SPACE_GIB:
        raise SizingError(f"{SPACE} is {text[:40]!r}: write GiB from 0 to {_MOST_SPACE_GIB}")
    return space


def refused(reason: str) -> Prediction:
    """Return the prediction of an engine that the sizing package refuses to judge."""
    return Prediction(
        outcome="no_fit",
        fail_kind="structural",
        reasons=(reason,),
        advice=("correct the model's architecture or its parallelism in models.yml",),
        weights_gib=0.0,
        activation_gib=0.0,
        non_torch_gib=0.0,
        cudagraph_gib=0.0,
        kv_gib=0.0,
        kv_tokens=None,
        max_concurrency=None,
        total_gib=0.0,
        utilization=None,
        error_band=None,
    )


def _prediction(answer: Mapping[str, Any]) -> Prediction:
    """Take over an answer. A model without a KV cache (an encoder) takes no room for one."""
    resolved: Mapping[str, Any] = answer.get("resolved") or {}
    tokens = answer.get("kv_cache_tokens")
    cached = answer["outcome"] != "fit" or bool(tokens)
    return Prediction(
        outcome=str(answer["outcome"]),
        fail_kind=answer.get("fail_kind") or None,
        reasons=_texts(answer.get("reasons")),
        advice=_texts(answer.get("advice")),
        weights_gib=_number(answer, "weights_gib_per_gpu"),
        activation_gib=_number(answer, "peak_activation_gib"),
        non_torch_gib=_number(answer, "non_torch_gib"),
        cudagraph_gib=_number(answer, "cudagraph_gib"),
        kv_gib=_number(answer, "available_kv_gib_per_gpu") if cached else 0.0,
        kv_tokens=tokens or None,
        max_concurrency=(answer.get("max_concurrency") or None) if cached else None,
        total_gib=_number(resolved, "gpu_total_gib"),
        utilization=resolved.get("gpu_memory_utilization"),
        error_band=answer.get("error_band"),
    )


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(str(item) for item in value) if isinstance(value, (list, tuple)) else ()


def _number(answer: Mapping[str, Any], key: str) -> float:
    value = answer.get(key)
    return float(value) if isinstance(value, (int, float)) else 0.0
