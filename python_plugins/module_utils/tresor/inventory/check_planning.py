"""Cross-checks of planning.yml."""

from __future__ import annotations

from collections.abc import Iterator

from ..sizing.gpu import UnknownGpuError, find
from .document import KeyPath
from .problems import Problem, one_of
from .sources import Sources, indexed, mapping, number, text, texts


def check(sources: Sources) -> Iterator[Problem]:
    """Yield what does not fit to the catalogue."""
    planning = mapping(sources.value("planning"))
    models = {text(model.get("name")): model for _, model in sources.entries("models")}
    alternatives = mapping(planning.get("alternatives"))
    named: list[tuple[KeyPath, str]] = []
    for index, load in indexed(planning.get("load")):
        named.append((("load", index, "model"), text(load.get("model"))))
        yield from _tokens(sources, index)
    for index, other in indexed(alternatives.get("models")):
        path: KeyPath = ("alternatives", "models", index, "instead_of")
        named.append((path, text(other.get("instead_of"))))
    for index, route in indexed(alternatives.get("routing")):
        for key in ("from", "to"):
            named.append((("alternatives", "routing", index, key), text(route.get(key))))
    for path, name in named:
        if name and name not in models and models:
            yield sources.problem("planning", path, "unknown model", one_of(models, name))
        tried = text(mapping(mapping(models.get(name)).get("canary")).get("of"))
        if tried and path[0] == "load":
            wrong = f"is a canary: its load is a part of that of {tried}, which must bear the whole"
            yield sources.problem("planning", path, wrong, f"write {tried}, or remove the entry")
    for position, name in texts(alternatives.get("gpus")):
        try:
            find(name)
        except UnknownGpuError as error:
            path = ("alternatives", "gpus", position)
            yield sources.problem("planning", path, str(error), "write a card of the catalogue")


def _tokens(sources: Sources, index: int) -> Iterator[Problem]:
    """A request longer than the context would be refused; a long one is not shorter than usual."""
    load = dict(indexed(mapping(sources.value("planning")).get("load")))[index]
    tokens = {key: value for key, value in load.items() if isinstance(value, (int, float))}
    for key in ("input_tokens", "output_tokens"):
        mean, late = tokens.get(key), tokens.get(f"{key}_p95")
        if mean is not None and late is not None and late < mean:
            wrong, fix = f"is less than the mean {key} ({mean:g})", f"write {mean:g} or more"
            yield sources.problem("planning", ("load", index, f"{key}_p95"), wrong, fix)
    for _, model in sources.entries("models"):
        context = number(model.get("context_tokens"))
        if model.get("name") != load.get("model") or context is None:
            continue
        longest = sum(
            tokens.get(f"{key}_p95", tokens.get(key, 0))
            for key in ("input_tokens", "output_tokens")
        )
        longest += tokens.get("cached_tokens", 0)
        if longest > context:
            wrong = f"prompt and answer have {longest:g} tokens, the model has room for {context}"
            fix = "write fewer tokens, or more context_tokens in models.yml"
            yield sources.problem("planning", ("load", index, "input_tokens"), wrong, fix)
