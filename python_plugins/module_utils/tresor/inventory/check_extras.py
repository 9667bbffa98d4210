"""Cross-checks of what a model may have besides itself: adapters and speculative decoding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..catalogue.speculation import METHODS, method_fault, served_rank
from .problems import Problem, one_of
from .sources import Sources, indexed, number, sequence, text


def check(sources: Sources) -> Iterator[Problem]:
    """Yield what does not fit in lora and speculative of every model."""
    for index, model in sources.entries("models"):
        for key in ("lora", "speculative"):
            if key in model and model.get("task") != "chat":
                wrong = f"belongs to the task chat, the model's is {text(model.get('task'))}"
                yield sources.problem("models", (index, key), wrong, "remove it")
        yield from _speculative(sources, index, model)
        yield from _adapters(sources, index, model)


def adapter_names(model: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield place and name of each adapter of a model."""
    for position, adapter in indexed(model.get("lora")):
        if text(adapter.get("name")):
            yield position, text(adapter.get("name"))


def _speculative(sources: Sources, index: int, model: Mapping[str, Any]) -> Iterator[Problem]:
    speculative = model.get("speculative")
    if speculative == "recommended" and "catalogue" not in model:
        fix = "write method and tokens; recommended is for a model with catalogue"
        wrong = "says nothing without an entry of the catalogue"
        yield sources.problem("models", (index, "speculative"), wrong, fix)
    if not isinstance(speculative, dict):
        return
    method = text(speculative.get("method"))
    fault = method_fault(method, drafted="artefact" in speculative)
    if method and fault:
        if method in METHODS:
            fix = "remove artefact" if "artefact" in speculative else "write the draft's artefact"
        else:
            fix = one_of(METHODS, method)
        yield sources.problem("models", (index, "speculative", "method"), fault, fix)


def _adapters(sources: Sources, index: int, model: Mapping[str, Any]) -> Iterator[Problem]:
    for position, adapter in indexed(model.get("lora")):
        rank = number(adapter.get("rank"))
        if rank is not None and rank > 0 and served_rank([rank]) is None:
            path = (index, "lora", position, "rank")
            yield sources.problem("models", path, "is more than vLLM serves", "write 512 or less")
    if sequence(model.get("lora")) and model.get("speculative") is not None:
        wrong = "stands beside speculative: a draft knows nothing of adapters"
        yield sources.problem("models", (index, "lora"), wrong, "remove one of the two")
