"""The verdict: does it start, if not at which step it fails, and what would cure it."""

from __future__ import annotations

from dataclasses import dataclass

from ..model.shape import ModelShape
from .activation import GIB
from .budget import Budget
from .card import Card
from .options import Request

FIT, NO_FIT = "fit", "no_fit"


@dataclass(frozen=True)
class Verdict:
    """Outcome, kind of failure (None when it fits), reasons, and what to change."""

    outcome: str
    fail_kind: str | None = None
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @staticmethod
    def structural(problems: list[str]) -> Verdict:
        """Return the verdict for a layout that cannot start on any card."""
        advice = ["change the parallel sizes, the quantization or the hardware as the reasons say"]
        return Verdict(NO_FIT, "structural", tuple(problems), tuple(advice))


def verdict_of(budget: Budget, model: ModelShape, card: Card, request: Request) -> Verdict:
    """Return the first step of the start-up that fails, in the engine's own order."""
    for check in (_free_memory, _load, _pool, _one_request, _warm_up):
        found = check(budget, model, card, request)
        if found is not None:
            return found
    reasons = [
        f"{_gib(budget.available)} GiB are left for the KV cache: "
        f"{budget.capacity.tokens} tokens, {budget.capacity.concurrency:.2f} requests of "
        f"{budget.max_model_len} tokens"
    ]
    if not card.known:
        reasons.append("the card is not in the catalogue, so its speed and formats are unknown")
    return Verdict(FIT, None, tuple(reasons), ())


def _free_memory(budget: Budget, model: ModelShape, card: Card, request: Request) -> Verdict | None:
    del model, card
    if request.free_gib is None or request.free_gib * GIB >= budget.requested:
        return None
    return Verdict(
        NO_FIT,
        "free_memory_below_budget",
        (
            f"{request.free_gib:.2f} GiB are free when the engine starts, but it asks for "
            f"{_gib(budget.requested)} GiB ({budget.utilization} of {_gib(budget.total)})",
        ),
        (
            "stop the other program on this GPU, or set gpu_memory_utilization to "
            f"{_floor(request.free_gib * GIB / budget.total)} or less",
        ),
    )


def _load(budget: Budget, model: ModelShape, card: Card, request: Request) -> Verdict | None:
    room = budget.total - budget.context
    if budget.heaviest <= room or (card.name == "cpu" and not budget.total):
        return None
    factor = _next_power(budget.heaviest * request.tensor_parallel_size / (0.85 * room))
    return Verdict(
        NO_FIT,
        "weights_oom_at_load",
        (
            f"the weights need {_gib(budget.heaviest)} GiB per GPU and {card.name} has "
            f"{_gib(room)} GiB of {_gib(budget.total)} to give",
        ),
        (
            f"use tensor_parallel_size {factor} or more, a smaller quantization than "
            f"{model.quantization.name}, or a larger card",
        ),
    )


def _pool(budget: Budget, model: ModelShape, card: Card, request: Request) -> Verdict | None:
    del card
    if budget.available > 0:
        return None
    parts = (
        f"weights {_gib(budget.weights)}, profile peak {_gib(budget.activation)}, "
        f"outside of torch {_gib(budget.non_torch)}"
    )
    if budget.graphs_in_budget and budget.graphs:
        parts += f", CUDA graphs {_gib(budget.graphs)}"
    advice = []
    if budget.utilization < 0.95:
        advice.append("raise gpu_memory_utilization (up to 0.95)")
    if request.max_num_seqs is None or request.max_num_seqs > 64:
        advice.append(
            f"lower max_num_seqs from {budget.batch.sequences} to 64: the profile run samples for "
            "that many"
        )
    advice.append(
        f"use tensor_parallel_size {2 * request.tensor_parallel_size} or a smaller quantization "
        f"than {model.quantization.name}"
    )
    return Verdict(
        NO_FIT,
        "negative_kv",
        (
            f"nothing is left for the KV cache: the engine may take {_gib(budget.requested)} GiB "
            f"and needs {parts} GiB",
        ),
        tuple(advice),
    )


def _one_request(budget: Budget, model: ModelShape, card: Card, request: Request) -> Verdict | None:
    del card
    if budget.capacity.fits:
        return None
    longest = budget.capacity.longest
    advice = []
    if longest > 0:
        advice.append(f"set max_model_len to {longest} or less")
    if request.kv_cache_dtype == "auto":
        advice.append("set kv_cache_dtype to fp8, which halves the cache")
    advice.append(
        f"use tensor_parallel_size {2 * request.tensor_parallel_size} or a smaller quantization "
        f"than {model.quantization.name}"
    )
    return Verdict(
        NO_FIT,
        "kv_insufficient_for_one_request",
        (
            f"one request of {budget.max_model_len} tokens needs "
            f"{_gib(budget.capacity.needed_bytes)} GiB of KV cache and {_gib(budget.available)} "
            f"GiB are there, enough for {longest} tokens",
        ),
        tuple(advice),
    )


def _warm_up(budget: Budget, model: ModelShape, card: Card, request: Request) -> Verdict | None:
    """Check the warm-up after the pool is taken: graphs and sampler outside of the budget."""
    del model, card
    if not budget.context or request.kv_cache_memory_bytes is not None:
        return None
    outside = budget.total - budget.context - budget.requested
    graphs = 0.0 if budget.graphs_in_budget else budget.graphs
    missing = graphs + budget.warm_up - outside
    if missing <= 0:
        return None
    lower = _floor((budget.requested - missing) / budget.total)
    sequences = max(1, budget.batch.sequences // 2)
    return Verdict(
        NO_FIT,
        "oom_after_kv_allocation",
        (
            f"after the KV cache is taken {_gib(outside)} GiB remain, and CUDA graphs "
            f"({_gib(graphs)}) with the sampler's warm-up ({_gib(budget.warm_up)}) need more",
        ),
        (
            f"lower gpu_memory_utilization to {lower} or max_num_seqs to {sequences}, or set "
            "enforce_eager",
        ),
    )


def _gib(value: float) -> str:
    return f"{value / GIB:.2f}"


def _floor(share: float) -> float:
    return max(0.01, int(share * 100) / 100)


def _next_power(value: float) -> int:
    power = 1
    while power < value:
        power *= 2
    return power
