"""Does a model fit, and how much room does it leave? The public `estimate`."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from .errors import OptionError, SizingError
from .memory.activation import GIB
from .memory.budget import Budget, Setting, budget_of
from .memory.card import CPU, Card, card_of
from .memory.constants import FITTED, Constants
from .memory.engine import engine_of
from .memory.options import Request, request_of
from .memory.parallel import Layout, structural_problems
from .memory.remedies import remedies
from .memory.verdict import Verdict, structural, verdict_of
from .model import ModelShape, describe


def estimate(**options: Any) -> dict[str, Any]:  # noqa: ANN401 (vLLM's flags, checked in options)
    """Return what a vLLM start-up would measure per GPU (worst rank), and whether it succeeds.

    Args:
        options: `model` and `gpu` and/or `gpu_total_gib`, then vLLM's own flags in snake case; see
            `memory.options.Request`. None means the engine's default of `vllm_version`.

    Returns:
        `weights_gib_per_gpu`, `peak_activation_gib`, `non_torch_gib`, `cudagraph_gib`,
        `available_kv_gib_per_gpu`, `kv_cache_tokens`, `max_concurrency`, `est_max_model_len`,
        `outcome` (`fit` or `no_fit`), `fail_kind`, `reasons`, `advice`, `error_band`, and the
        values that were in force (`resolved`).

    Raises:
        SizingError: an option, the model or the GPU is not known or absurd.
    """
    return estimate_with(FITTED, options)


def estimate_with(constants: Constants, options: dict[str, Any]) -> dict[str, Any]:
    """Do the same with other constants; the fit recipe uses it."""
    request = request_of(options)
    setting = setting_of(request, constants)
    verdict, budget = _judge(setting, request)
    advice = () if verdict.fail_kind is None else _advice(setting, request, verdict, budget)
    return _report(setting, budget, verdict, advice)


def _judge(setting: Setting, request: Request) -> tuple[Verdict, Budget | None]:
    """Return the verdict, and the budget if the layout can start at all."""
    problems = list(_structural(setting.model, setting.layout))
    problems += setting.card.quantization_problems(setting.model.quantization, setting.engine)
    problems += _cluster_problems(request, setting.layout)
    if problems:
        return structural(problems), None
    budget = budget_of(setting, request)
    return verdict_of(budget, setting.card, request), budget


def _advice(
    setting: Setting, request: Request, verdict: Verdict, budget: Budget | None
) -> tuple[str, ...]:
    """Return the changes that, each alone, make it fit; they are tried, not guessed."""
    working: list[str] = []
    done: set[str] = set()
    for remedy in remedies(str(verdict.fail_kind), request, setting.model, budget):
        if remedy.group in done:
            continue
        changed = dataclasses.replace(request, **remedy.changes)
        try:
            cured, _ = _judge(setting_of(changed, setting.constants), changed)
        except SizingError:
            continue
        if cured.fail_kind is None:
            working.append(remedy.words)
            done |= {remedy.group} - {""}
    if working:
        return tuple(working)
    return (
        "no single change of utilization, context, batch, parallel size or format makes it fit: "
        "take a larger card, a smaller model, or several of these together",
    )


def setting_of(request: Request, constants: Constants = FITTED) -> Setting:
    """Look up model, engine and card of a request."""
    cpu = request.gpu is not None and request.gpu.strip().lower() == CPU
    if cpu and request.kv_cache_memory_bytes is None:
        raise OptionError(
            "kv_cache_memory_bytes is missing; the CPU engine takes what VLLM_CPU_KVCACHE_SPACE "
            "says, give that in bytes"
        )
    layout = Layout(
        request.tensor_parallel_size,
        request.pipeline_parallel_size,
        request.data_parallel_size,
        request.enable_expert_parallel,
    )
    return Setting(
        describe(request.model, request.quantization),
        layout,
        engine_of(request.vllm_version, cpu=cpu),
        Card(CPU, request.gpu_total_gib or 0.0)
        if cpu
        else card_of(request.gpu, request.gpu_total_gib),
        constants,
    )


@functools.lru_cache(maxsize=4096)
def _structural(model: ModelShape, layout: Layout) -> tuple[str, ...]:
    return tuple(structural_problems(model, layout))


def _cluster_problems(request: Request, layout: Layout) -> list[str]:
    if request.gpus_per_node is None and request.nodes is None:
        return []
    there = (request.gpus_per_node or 1) * (request.nodes or 1)
    if layout.gpus <= there:
        return []
    return [
        f"the layout needs {layout.gpus} GPUs (TP {layout.tensor} x PP {layout.pipeline} x DP "
        f"{layout.data}) and there are {there}"
    ]


def _report(
    setting: Setting, budget: Budget | None, verdict: Verdict, advice: tuple[str, ...]
) -> dict[str, Any]:
    model, engine, card = setting.model, setting.engine, setting.card

    def gib(value: float | None) -> float | None:
        return None if value is None else round(value / GIB, 4)

    return {
        "outcome": verdict.outcome,
        "fail_kind": verdict.fail_kind,
        "weights_gib_per_gpu": gib(budget.weights) if budget else None,
        "peak_activation_gib": gib(budget.activation) if budget else None,
        "non_torch_gib": gib(budget.non_torch) if budget else None,
        "cudagraph_gib": gib(budget.graphs) if budget else None,
        "available_kv_gib_per_gpu": gib(budget.available) if budget else None,
        "kv_cache_tokens": budget.capacity.tokens if budget else None,
        "max_concurrency": round(budget.capacity.concurrency, 2) if budget else None,
        "est_max_model_len": budget.capacity.longest if budget else None,
        "reasons": list(verdict.reasons),
        "advice": list(advice),
        "error_band": budget.error_band() if budget else None,
        "resolved": {
            "model": model.name,
            "architecture": model.architecture,
            "quantization": model.quantization.name,
            "gpu": card.name,
            "gpu_total_gib": round(card.total_gib, 2),
            "vllm_version": ".".join(str(part) for part in engine.version),
            **(budget.resolved if budget else {}),
        },
    }
