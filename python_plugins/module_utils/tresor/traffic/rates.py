"""GPU-seconds per token of each model: measured, else predicted, else not known.

A model's GPU time is the time in which its engines had at least one request, times their GPUs. An
engine without a request takes its GPUs' memory, but no time. Divided by its tokens (prompt and
answer), that is what a token cost at the load the model really had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..placement.predict import ASKED
from ..sizing.errors import SizingError
from .busy import Span, length
from .engines import Engine, Site

MEASURED: Final = "measured"
PREDICTED: Final = "predicted by the plan's latency model"
UNKNOWN: Final = "not known"

Latency = Callable[..., Mapping[str, Any]]
Busy = Mapping[str, Sequence[Span]]


@dataclass(frozen=True)
class Work:
    """What a model's engines did: seconds with work times GPUs, and of what."""

    device_seconds: float
    busy_seconds: float
    requests: int
    tokens: int
    request_seconds: float
    unknown_engines: tuple[str, ...]

    @property
    def concurrency(self) -> float:
        """Requests at once while there was work, on average over the model's engines."""
        return self.request_seconds / self.busy_seconds if self.busy_seconds else 0.0


@dataclass(frozen=True)
class Rate:
    """Device-seconds per token, where they come from, and why they do not come from better."""

    per_token: float | None
    source: str
    why: str = ""


@dataclass(frozen=True)
class Shape:
    """The mean request that a prediction is asked about."""

    prompt_tokens: float
    completion_tokens: float
    concurrency: float


def work_of(model: str, rows: Sequence[Mapping[str, Any]], busy: Busy, site: Site) -> Work:
    """Return what the engines of a model did; engines that left the plan are named."""
    mine = [row for row in rows if site.base(row["model"]) == model]
    device_seconds = busy_seconds = 0.0
    unknown = []
    for address in sorted({row["engine"] for row in mine}):
        seconds = length(busy.get(address, ())) / 1000
        busy_seconds += seconds
        engine = site.engines.get(address)
        if engine is None or engine.model != model:
            unknown.append(address)
        else:
            device_seconds += seconds * engine.devices
    return Work(
        device_seconds=device_seconds,
        busy_seconds=busy_seconds,
        requests=sum(row["requests"] for row in mine),
        tokens=sum(row["prompt_tokens"] + row["completion_tokens"] for row in mine),
        request_seconds=sum(row["milliseconds"] for row in mine) / 1000,
        unknown_engines=tuple(unknown),
    )


def measured(work: Work, least_requests: int) -> Rate:
    """Return the rate that the period shows, or why it shows none."""
    if work.unknown_engines:
        gone = ", ".join(work.unknown_engines)
        return Rate(None, UNKNOWN, f"the plan no longer knows {gone}, so their GPUs are not known")
    if work.requests < least_requests or not work.tokens:
        return Rate(
            None,
            UNKNOWN,
            f"{work.requests} requests and {work.tokens} tokens are too few to measure by "
            f"(at least {least_requests} requests)",
        )
    return Rate(work.device_seconds / work.tokens, MEASURED)


def predicted(model: str, shape: Shape, site: Site, latency: Latency) -> Rate:
    """Return what the plan's latency model says of requests of that shape at that load."""
    engines = site.of_model(model)
    if not engines:
        return Rate(None, UNKNOWN, f"{model} has no engine in the plan")
    engine = engines[0]
    if not engine.on_gpu:
        return Rate(
            None, UNKNOWN, f"{model} runs on the CPU, which the latency model does not know"
        )
    try:
        answer = latency(**_question(engine, site.plan, shape))
    except SizingError as error:
        return Rate(None, UNKNOWN, f"the latency model gives no answer for {model}: {error}")
    written = answer.get("output_tok_s_total")
    if not written:
        return Rate(None, UNKNOWN, f"the latency model sees no steady state for {model}")
    each = shape.prompt_tokens + shape.completion_tokens
    tokens_per_second = written * each / max(1.0, shape.completion_tokens)
    return Rate(engine.devices / tokens_per_second, PREDICTED)


def _question(engine: Engine, plan: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    instance = engine.instance
    sizing = plan["sizing"]["instances"][instance["id"]]
    args = instance["args"]
    gpus = plan["hosts"][instance["host"]]["gpus"]
    return {
        "model": sizing["architecture"],
        "gpu": gpus["card"],
        "gpus_per_node": gpus["count"],
        "tensor_parallel_size": sizing["tensor_parallel_size"],
        "pipeline_parallel_size": sizing["pipeline_parallel_size"],
        "vllm_version": plan["sizing"]["vllm_version"],
        "input_tokens": max(1, round(shape.prompt_tokens)),
        "output_tokens": max(1, round(shape.completion_tokens)),
        "concurrency": max(1, round(shape.concurrency)),
        **{key: args[key] for key in (*ASKED, "max_model_len", "quantization") if key in args},
    }
