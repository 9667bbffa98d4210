"""The verdict: does it start, and if not, at which step it fails and why."""

from __future__ import annotations

from dataclasses import dataclass

from .activation import GIB
from .budget import Budget
from .card import CPU, Card
from .options import Request

FIT, NO_FIT = "fit", "no_fit"


@dataclass(frozen=True)
class Verdict:
    """Outcome, kind of failure (None when it fits), and reasons in words."""

    outcome: str
    fail_kind: str | None = None
    reasons: tuple[str, ...] = ()


def structural(problems: list[str]) -> Verdict:
    """Return the verdict for a layout that cannot start on any card of that kind."""
    return Verdict(NO_FIT, "structural", tuple(problems))


def verdict_of(budget: Budget, card: Card, request: Request) -> Verdict:
    """Return the first step of the start-up that fails, in the engine's own order."""
    for check in (_free_memory, _load, _pool, _one_request, _warm_up):
        found = check(budget, card, request)
        if found is not None:
            return found
    reasons = [
        f"{_gib(budget.available)} GiB are left for the KV cache: "
        f"{budget.capacity.tokens} tokens, {budget.capacity.concurrency:.2f} requests of "
        f"{budget.max_model_len} tokens"
    ]
    if not card.known:
        reasons.append("the card is not in the catalogue, so its speed and formats are unknown")
    return Verdict(FIT, None, tuple(reasons))


def _failed(kind: str, reason: str) -> Verdict:
    return Verdict(NO_FIT, kind, (reason,))


def _free_memory(budget: Budget, card: Card, request: Request) -> Verdict | None:
    del card
    if request.free_gib is None or request.free_gib * GIB >= budget.requested:
        return None
    return _failed(
        "free_memory_below_budget",
        f"{request.free_gib:.2f} GiB are free when the engine starts, but it asks for "
        f"{_gib(budget.requested)} GiB ({budget.utilization} of {_gib(budget.total)})",
    )


def _load(budget: Budget, card: Card, request: Request) -> Verdict | None:
    del request
    room = budget.total - budget.context
    if budget.heaviest <= room or (card.name == CPU and not budget.total):
        return None
    return _failed(
        "weights_oom_at_load",
        f"the weights need {_gib(budget.heaviest)} GiB per GPU and {card.name} has "
        f"{_gib(room)} GiB of {_gib(budget.total)} to give",
    )


def _pool(budget: Budget, card: Card, request: Request) -> Verdict | None:
    del card, request
    if budget.available > 0:
        return None
    parts = (
        f"weights {_gib(budget.weights)}, profile peak {_gib(budget.activation)}, "
        f"outside of torch {_gib(budget.non_torch)}"
    )
    if budget.graphs_in_budget and budget.graphs:
        parts += f", CUDA graphs {_gib(budget.graphs)}"
    return _failed(
        "negative_kv",
        f"nothing is left for the KV cache: the engine may take {_gib(budget.requested)} GiB "
        f"and needs {parts} GiB",
    )


def _one_request(budget: Budget, card: Card, request: Request) -> Verdict | None:
    del card, request
    if budget.capacity.fits:
        return None
    return _failed(
        "kv_insufficient_for_one_request",
        f"one request of {budget.max_model_len} tokens needs "
        f"{_gib(budget.capacity.needed_bytes)} GiB of KV cache and {_gib(budget.available)} "
        f"GiB are there, enough for {budget.capacity.longest} tokens",
    )


def _warm_up(budget: Budget, card: Card, request: Request) -> Verdict | None:
    """Check the warm-up after the pool is taken: graphs and sampler outside of the budget."""
    del card
    if not budget.context or request.kv_cache_memory_bytes is not None:
        return None
    if budget.missing <= 0:
        return None
    graphs = 0.0 if budget.graphs_in_budget else budget.graphs
    return _failed(
        "oom_after_kv_allocation",
        f"after the KV cache is taken {_gib(budget.outside)} GiB remain, and CUDA graphs "
        f"({_gib(graphs)}) with the sampler's warm-up ({_gib(budget.warm_up)}) need more",
    )


def _gib(value: float) -> str:
    return f"{value / GIB:.2f}"
