"""From the options of a latency question to values: checked, defaulted, one question per layout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..gpu import Gpu, find
from ..model import ModelShape, describe
from .engines import VLLM, Engine, LatencyError, find_engine, generation, overlaps
from .pool import MEMORY_OPTIONS, cache_bytes
from .question import KINDS, Question, work_of
from .steady import Request
from .work import Layout, Work
from .workloads import Limits, Workload, workload_of

OWN_OPTIONS: Final = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "concurrency",
        "request_rate",
        "engine",
        "engine_version",
        "metric_kind",
        "replicas",
    }
)
LARGEST_COUNT: Final = 10_000_000
LARGE_CARD_GIB: Final = 70
MLPERF: Final = frozenset({"mlperf_offline", "mlperf_server", "mlperf_interactive"})
OFFLINE: Final = frozenset({"offline_static_batch", "offline_max_throughput", "mlperf_offline"})
STATIC: Final = "offline_static_batch"
_CACHE_BITS: Final = {"bf16": 16, "bfloat16": 16, "fp16": 16, "float16": 16, "half": 16}


@dataclass(frozen=True)
class Resolved:
    """The questions of one request: one, or one per layout when the engine's user may choose."""

    questions: tuple[tuple[Question, Work], ...]
    notes: tuple[str, ...]


def resolve(options: Mapping[str, Any]) -> Resolved:
    """Check the options and return what to compute.

    Raises:
        SizingError: an option is unknown, of the wrong type, absurd or contradicts another.
    """
    unknown = sorted(set(options) - OWN_OPTIONS - MEMORY_OPTIONS)
    if unknown:
        raise LatencyError(
            f"{unknown[0]}: no such option; known are {', '.join(sorted(OWN_OPTIONS))} "
            "and those of the memory estimate"
        )
    kind = _choice(options, "metric_kind", "online_closed_loop", KINDS)
    engine = find_engine(options.get("engine") or "vllm")
    version = options.get("engine_version") or options.get("vllm_version")
    stated = None if version is None else str(version)
    era = generation(engine, stated, static=kind == STATIC)
    gpu = _gpu(options)
    workload = _workload(options, kind)
    model, quantization = _model(options, gpu, kind, workload)
    shape = _shape(model, quantization)
    notes: list[str] = []
    request, limits = _request(options, kind, workload, shape, notes)
    users, rate = _load(options, kind)
    bits = _cache_bits(options, engine, shape)
    sequences, budget = _scheduler(options, engine, era, gpu, kind)
    questions: list[tuple[Question, Work] | LatencyError] = []
    for layout, replicas in _layouts(options, kind, shape, gpu):
        if kind in MLPERF and layout.expert and not isinstance(questions[0], LatencyError):
            # A model that fits one card is copied, its experts are not spread.
            continue
        question = Question(
            shape=shape,
            gpu=gpu,
            layout=layout,
            engine=engine,
            generation=era,
            kind=kind,
            request=request,
            users=users,
            rate=rate,
            max_num_seqs=sequences,
            budget=budget,
            pool_bytes=0.0,
            kv_bits=bits,
            gpus_per_node=_count(options, "gpus_per_node", 8),
            replicas=replicas,
            limits=limits,
            overlapped=overlaps(engine, stated, era),
            eager=bool(options.get("enforce_eager") or False),
            model=model,
            quantization=quantization,
        )
        work = work_of(question)
        questions.append(cache_bytes(question, work, options))
    return Resolved(_fitting(questions), tuple(notes))


def _fitting(
    found: list[tuple[Question, Work] | LatencyError],
) -> tuple[tuple[Question, Work], ...]:
    """Return the layouts that fit; if none does, say why the last one does not."""
    fitting = tuple(one for one in found if not isinstance(one, LatencyError))
    if not fitting:
        raise next(one for one in reversed(found) if isinstance(one, LatencyError))
    return fitting


def _gpu(options: Mapping[str, Any]) -> Gpu:
    name = options.get("gpu")
    if not isinstance(name, str):
        raise LatencyError("gpu: missing; write the name of a card, for example 'H100 SXM 80GB'")
    if name.strip().lower() == "cpu":
        raise LatencyError(
            "gpu: the CPU engine's latency is not modelled; measure it, or name a card"
        )
    return find(name)


def _workload(options: Mapping[str, Any], kind: str) -> Workload | None:
    """Return the MLPerf benchmark of the model, by its name or the one its config carries."""
    model = options.get("model")
    if kind not in MLPERF:
        return None
    if isinstance(model, Mapping):
        model = model.get("model_id") or model.get("_name_or_path")
    return workload_of(model) if isinstance(model, str) else None


def _model(
    options: Mapping[str, Any], gpu: Gpu, kind: str, workload: Workload | None
) -> tuple[Any, str | None]:
    """Return the model and its quantization, as far as the checkpoint does not say it."""
    model = options.get("model")
    if model is None:
        raise LatencyError("model: missing; write a catalogue name, a directory or a config")
    if workload is not None and isinstance(model, str):
        # MLPerf has names of its own, such as llama2-70b-99.9.
        model = workload.model
    quantization = options.get("quantization")
    submitted = kind in MLPERF and quantization is None
    if submitted and not describe(model).quantization.formats:
        # Submitters quantize to the narrowest format that the card multiplies.
        quantization = "nvfp4" if gpu.fp4_tflops else "fp8" if gpu.fp8_tflops else None
    return model, quantization


def _shape(model: Any, quantization: str | None) -> ModelShape:  # noqa: ANN401 (describe checks it)
    shape = describe(model, quantization)
    if shape.pooling:
        raise LatencyError(
            f"model {shape.name}: an embedding model generates no tokens; "
            "latency covers generating models"
        )
    return shape


def _request(
    options: Mapping[str, Any],
    kind: str,
    workload: Workload | None,
    shape: ModelShape,
    notes: list[str],
) -> tuple[Request, Limits | None]:
    given = (options.get("input_tokens"), options.get("output_tokens"))
    limits: Limits | None = None
    if workload is not None:
        limits = {
            "mlperf_server": workload.server,
            "mlperf_interactive": workload.interactive,
        }.get(kind)
    if workload is not None and given == (None, None):
        if workload.assumed:
            notes.append("the benchmark does not state its mean lengths: they are assumed")
        return Request(workload.input_tokens, workload.output_tokens), limits
    if kind in ("mlperf_server", "mlperf_interactive") and limits is None:
        raise LatencyError(
            f"model {shape.name}: MLPerf has no benchmark of it, so {kind} has no limits; "
            "use online_closed_loop with a concurrency"
        )
    request = Request(
        input_tokens=_number(options, "input_tokens", None, 1),
        output_tokens=_number(options, "output_tokens", None, 1),
        cached_tokens=_number(options, "cached_tokens", 0, 0),
    )
    longest = options.get("max_model_len")
    longest = shape.max_position_embeddings if longest is None else longest
    if isinstance(longest, int) and request.context > longest:
        notes.append(
            f"a request of {request.context:.0f} tokens is longer than the model's {longest}"
        )
    return request, limits


def _load(options: Mapping[str, Any], kind: str) -> tuple[float, float]:
    concurrency, rate = options.get("concurrency"), options.get("request_rate")
    if kind == "online_open_loop":
        if concurrency is not None:
            raise LatencyError("concurrency: an open loop has a request_rate instead; remove it")
        return 0.0, _number(options, "request_rate", None, 1e-6)
    if rate is not None:
        raise LatencyError(f"request_rate: {kind} has none; use metric_kind online_open_loop")
    if kind in ("online_closed_loop", STATIC):
        return _number(options, "concurrency", 1, 1), 0.0
    return 1.0, 0.0


def _cache_bits(options: Mapping[str, Any], engine: Engine, shape: ModelShape) -> float:
    asked = options.get("kv_cache_dtype")
    if asked is None or asked == "auto":
        narrow = engine.narrow_cache and any(f.bits <= 8 for f in shape.quantization.formats)
        return 8 if narrow else float(min(16, shape.dtype_bits))
    name = str(asked).lower()
    if name in _CACHE_BITS:
        return _CACHE_BITS[name]
    if name.startswith("fp8") or name.startswith("int8"):
        return 8
    if name.startswith("nvfp4") or name.startswith("fp4"):
        return 4.5
    raise LatencyError(f"kv_cache_dtype: {name[:40]!r} is not known; use auto, bfloat16 or fp8")


def _scheduler(
    options: Mapping[str, Any], engine: Engine, era: str, gpu: Gpu, kind: str
) -> tuple[int, int]:
    """Return max_num_seqs and max_num_batched_tokens with the engine's defaults."""
    sequences, budget = engine.max_num_seqs, engine.max_num_batched_tokens
    if engine is VLLM and era == "new":
        # vLLM's EngineArgs: larger defaults on large cards, A100 excepted, and for its offline API.
        large = gpu.total_gib >= LARGE_CARD_GIB and gpu.family != "a100"
        sequences = 1024 if large else 256
        budget = (16384 if large else 8192) if kind in OFFLINE else (8192 if large else 2048)
    if kind == STATIC:
        # A static batch is submitted whole; engines of that kind prefill prompt by prompt.
        budget = max(budget, 8192)
    return (
        _count(options, "max_num_seqs", sequences),
        _count(options, "max_num_batched_tokens", budget),
    )


def _layouts(
    options: Mapping[str, Any], kind: str, shape: ModelShape, gpu: Gpu
) -> Iterator[tuple[Layout, int]]:
    """Yield layouts with the number of replicas that share the load."""
    node = _count(options, "gpus_per_node", 8)
    gpus = node * _count(options, "nodes", 1)
    keys = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    if kind in MLPERF and all(options.get(key) is None for key in keys):
        for tensor in (1, 2, 4, 8, 16):
            divides = shape.heads % tensor == 0 and gpus % tensor == 0
            if tensor <= gpus and divides:
                yield Layout(tensor), gpus // tensor
        if shape.experts is not None and gpus > 1:
            yield Layout(data=gpus, expert=True), 1
        return
    tensor, pipeline, data = (_count(options, key, 1) for key in keys)
    expert = bool(options.get("enable_expert_parallel") or False)
    used = tensor * pipeline * data
    if "gpus_per_node" in options and used > gpus:
        raise LatencyError(
            f"tensor, pipeline and data parallel sizes {tensor} x {pipeline} x {data} need {used} "
            f"GPUs, and there are {gpus}: lower one of them"
        )
    if shape.heads % tensor:
        raise LatencyError(
            f"tensor_parallel_size: {tensor} does not divide the {shape.heads} attention heads of "
            f"{shape.name}; use a divisor"
        )
    replicas = _count(options, "replicas", 1)
    if shape.experts is None:
        # Without experts, data parallel ranks are independent copies.
        yield Layout(tensor, pipeline), data * replicas
        return
    yield Layout(tensor, pipeline, data, expert), replicas


def _choice(options: Mapping[str, Any], key: str, default: str, allowed: tuple[str, ...]) -> str:
    value = options.get(key)
    value = default if value is None else value
    if value not in allowed:
        raise LatencyError(f"{key}: {str(value)[:40]!r} is not known; use {', '.join(allowed)}")
    return str(value)


def _count(options: Mapping[str, Any], key: str, default: int) -> int:
    value = options.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_COUNT:
        raise LatencyError(f"{key}: {str(value)[:40]!r} is not a whole number from 1 on")
    return value


def _number(options: Mapping[str, Any], key: str, default: float | None, least: float) -> float:
    value = options.get(key)
    if value is None:
        if default is None:
            raise LatencyError(f"{key}: missing; write a number from {least:g} on")
        return default
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or not least <= value <= LARGEST_COUNT:
        raise LatencyError(
            f"{key}: {str(value)[:40]!r} is not a number from {least:g} to {LARGEST_COUNT}"
        )
    return float(value)
