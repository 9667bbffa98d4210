"""Reachable or not, because ..., and the next best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import SizingError
from ..gpu import find
from ..model import describe
from .predict import Seen, predict
from .promise import MARGIN, Load, Promise
from .words import because, verdict

TENSOR_SIZES: Final = (1, 2, 4, 8)
# Options of a deployment that name its size or its card; an alternative brings its own.
_REPLACED: Final = frozenset({"replicas", "nodes", "gpus_per_node", "gpu_total_gib", "free_gib"})


@dataclass(frozen=True)
class Search:
    """What may be changed to keep a promise.

    ``smaller_models`` are tried when they do less work per token than the model asked for; whether
    their answers are good enough is not judged here.
    """

    gpus: tuple[str, ...] = (
        "L40S 48GB",
        "RTX PRO 6000 Blackwell Server Edition 96GB",
        "H100 SXM 80GB",
        "H200 SXM 141GB",
        "B200 SXM 180GB",
    )
    quantizations: tuple[str, ...] = ("fp8", "nvfp4", "awq_int4")
    smaller_models: tuple[str, ...] = (
        "Qwen/Qwen3-32B",
        "Qwen/Qwen3-30B-A3B",
        "meta-llama/Llama-3.1-8B",
    )
    most_gpus: int = 32
    gpus_per_node: int = 8
    shown: int = 5


@dataclass(frozen=True)
class Alternative:
    """A deployment that was tried, with the fewest replicas that keep the promise, if any do."""

    options: Mapping[str, Any]
    change: str
    gpus: int
    power_w: int
    seen: Seen
    excess: float


def assess(
    slo: Mapping[str, Any],
    load: Mapping[str, Any],
    deployment: Mapping[str, Any],
    search: Search | None = None,
) -> dict[str, Any]:
    """Say whether ``deployment`` (options of ``latency``) keeps ``slo`` under ``load``.

    A promise counts as reachable only with the model's own error to spare; between the limit and
    that margin the verdict is ``uncertain``. Alternatives are those that keep the promise, those
    that need the least power first; if none does, those that miss it by least.

    Raises:
        SizingError: an input is wrong, or the deployment does not fit in memory.
    """
    promise, wanted = Promise.read(slo), Load.read(load)
    seen = predict(deployment, wanted)
    excess = seen.excess(promise)
    outcome = _outcome(excess)
    found = [] if outcome == "reachable" else _alternatives(promise, wanted, deployment, search)
    return {
        "outcome": outcome,
        "reachable": outcome == "reachable",
        "verdict": verdict(outcome, promise, wanted, seen),
        "because": because(outcome, promise, wanted, seen),
        "ttft_p95_ms": seen.ttft_p95,
        "e2e_p95_ms": seen.e2e_p95,
        "itl_ms": seen.itl,
        "users_inside": seen.inside,
        "output_tok_s_total": seen.answer["output_tok_s_total"],
        "margin_percent": 100 * MARGIN,
        "alternatives": [_shown(one) for one in found],
    }


def _outcome(excess: float) -> str:
    if excess * (1 + MARGIN) <= 1:
        return "reachable"
    return "uncertain" if excess <= 1 else "not_reachable"


def _alternatives(
    promise: Promise, load: Load, deployment: Mapping[str, Any], search: Search | None
) -> list[Alternative]:
    """Return what keeps the promise with least power, or what misses it by least.

    The same model on other cards and in other formats comes first, then smaller models.
    """
    bounds = search if search is not None else Search()
    tried = []
    for options, change in _candidates(deployment, bounds):
        one = _least(promise, load, options, change, bounds)
        if one is not None:
            tried.append(one)
    keeping = [one for one in tried if _outcome(one.excess) == "reachable"]
    if not keeping:
        return sorted(tried, key=lambda one: one.excess)[: bounds.shown]
    keeping.sort(key=lambda one: (one.power_w, one.gpus, one.excess))
    own = [one for one in keeping if one.options["model"] == deployment["model"]]
    smaller: dict[str, Alternative] = {}
    for one in keeping:
        if one.options["model"] != deployment["model"]:
            smaller.setdefault(str(one.options["model"]), one)
    room = max(1, bounds.shown - len(smaller))
    return [*_by_card(own)[:room], *smaller.values()][: bounds.shown]


def _by_card(found: list[Alternative]) -> list[Alternative]:
    """Keep the first of each card: the format and layout that need least."""
    kept: dict[str, Alternative] = {}
    for one in found:
        kept.setdefault(one.options["gpu"], one)
    return list(kept.values())


def _candidates(
    deployment: Mapping[str, Any], search: Search
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield deployments with one replica, and what is different about them."""
    shape = describe(deployment["model"], deployment.get("quantization"))
    own_format = deployment.get("quantization")
    models: list[Any] = [deployment["model"]]
    for name in search.smaller_models:
        if describe(name).active_parameters < 0.8 * shape.active_parameters:
            models.append(name)
    own_card = find(deployment["gpu"])
    cards = dict.fromkeys((own_card.name, *(find(name).name for name in search.gpus)))
    base = {key: value for key, value in deployment.items() if key not in _REPLACED}
    for model in models:
        formats = dict.fromkeys((own_format if model is models[0] else None, *search.quantizations))
        for quantization in formats:
            for card in cards:
                if quantization == "nvfp4" and "nvfp4" not in find(card).native_formats:
                    continue
                for tensor in TENSOR_SIZES:
                    options = {
                        **base,
                        "model": model,
                        "quantization": quantization,
                        "gpu": card,
                        "tensor_parallel_size": tensor,
                    }
                    yield options, _change(deployment, options, own_card.name)


def _change(deployment: Mapping[str, Any], options: Mapping[str, Any], own_card: str) -> str:
    changed = []
    if options["model"] != deployment["model"]:
        changed.append(f"model {options['model']}")
    if options["quantization"] != deployment.get("quantization"):
        changed.append(f"{options['quantization'] or 'unquantized'} weights")
    if options["gpu"] != own_card:
        changed.append(f"{options['gpu']} cards")
    return ", ".join(changed) or "the same model, format and card"


def _least(
    promise: Promise, load: Load, options: dict[str, Any], change: str, search: Search
) -> Alternative | None:
    """Return the deployment with the fewest replicas that keep the promise; None if it cannot run.

    If no number of replicas within bounds keeps it, that with the most is returned.
    """
    tensor = int(options["tensor_parallel_size"])
    most = search.most_gpus // tensor
    if most < 1:
        return None
    try:
        best = _with(promise, load, options, change=change, replicas=1, search=search)
        hopeless = best.seen.floor_excess(promise) * (1 + MARGIN) > 1
        if hopeless or _outcome(best.excess) == "reachable":
            return best
        low, high = 1, most
        best = _with(promise, load, options, change=change, replicas=high, search=search)
        if _outcome(best.excess) != "reachable":
            return best
        while high - low > 1:
            middle = (low + high) // 2
            one = _with(promise, load, options, change=change, replicas=middle, search=search)
            if _outcome(one.excess) == "reachable":
                high, best = middle, one
            else:
                low = middle
    except SizingError:
        # This card cannot hold or divide the model: no alternative, and no fault of the input.
        return None
    return best


def _with(
    promise: Promise,
    load: Load,
    options: dict[str, Any],
    *,
    change: str,
    replicas: int,
    search: Search,
) -> Alternative:
    gpus = replicas * int(options["tensor_parallel_size"])
    nodes = -(-gpus // search.gpus_per_node)
    sized = {
        **options,
        "replicas": replicas,
        "gpus_per_node": search.gpus_per_node,
        "nodes": nodes,
    }
    seen = predict(sized, load)
    power = gpus * find(options["gpu"]).power_w
    return Alternative(sized, change, gpus, power, seen, seen.excess(promise))


def _shown(one: Alternative) -> dict[str, Any]:
    return {
        "change": one.change,
        "reachable": _outcome(one.excess) == "reachable",
        "model": str(one.options["model"]) if isinstance(one.options["model"], str) else "given",
        "quantization": one.options.get("quantization"),
        "gpu": one.options["gpu"],
        "tensor_parallel_size": one.options["tensor_parallel_size"],
        "replicas": one.options["replicas"],
        "gpus": one.gpus,
        "gpu_power_w": one.power_w,
        "ttft_p95_ms": one.seen.ttft_p95,
        "e2e_p95_ms": one.seen.e2e_p95,
        "itl_ms": one.seen.itl,
    }
