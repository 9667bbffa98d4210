"""Cross-checks of canaries: models that a share of another model's users tries in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .check_extras import adapter_names
from .check_policy import classifiers
from .document import KeyPath
from .problems import Problem, one_of
from .sources import Sources, mapping, number, sequence, text, texts

MOST_PERCENT: Final = 50
"""The canaries of a model get this many percent of its conversations together at the most."""
_UNDERSTOOD: Final = ("tool_call_parser", "enable_auto_tool_choice", "reasoning_parser")
"""Options without which an engine refuses or garbles what another one takes."""


def check(sources: Sources) -> Iterator[Problem]:
    """Yield what makes no sense in the canaries of models.yml."""
    models = {text(model.get("name")): model for _, model in sources.entries("models")}
    judges = {text(entry.get("model")) for _, entry in classifiers(sources)}
    shares: dict[str, int] = {}
    for index, model in sources.entries("models"):
        canary = mapping(model.get("canary"))
        name = text(canary.get("of"))
        if not name:
            continue
        yield from _names(sources, index, model)
        fault = _base_fault(models, model, name)
        if fault:
            yield sources.problem("models", (index, "canary", "of"), *fault)
            continue
        base = models[name]
        percent = number(canary.get("percent")) or 0
        alone = name not in shares
        left = MOST_PERCENT - shares.get(name, 0)
        shares[name] = shares.get(name, 0) + percent
        if percent > left and not alone:
            wrong = f"the canaries of {name} get {shares[name]} % together, more than one half"
            fix = f"write {left} or less" if left > 0 else "remove this canary, or lower another"
            yield sources.problem("models", (index, "canary", "percent"), wrong, fix)
        if judges & {name, *(alias for _, alias in texts(base.get("aliases")))}:
            wrong = f"{name} is a classifier of guardrails.yml, whose verdicts must not vary"
            fix = "name a model that judges nobody, or compare the two with operate/evaluate.yml"
            yield sources.problem("models", (index, "canary", "of"), wrong, fix)
        yield from _takes_the_same(sources, index, model, base)


def _names(sources: Sources, index: int, model: Mapping[str, Any]) -> Iterator[Problem]:
    """Users know the other model's names; a canary has its own name and no other."""
    if sequence(model.get("aliases")):
        wrong = "a canary has no other names: its users ask for the other model"
        yield sources.problem("models", (index, "aliases"), wrong, "write []")
    if "lora" in model:
        wrong = "a canary brings no adapters: they are models with names of their own"
        fix = "remove it; adapters of the other model stay with that model's engines"
        yield sources.problem("models", (index, "lora"), wrong, fix)


def _base_fault(
    models: Mapping[str, Mapping[str, Any]], model: Mapping[str, Any], name: str
) -> tuple[str, str] | None:
    """Return what is wrong with the model that is named, and what to write; None if it will do."""
    if name == model.get("name"):
        return "is the model itself", "name the model whose users try this one"
    if name not in models:
        return _unknown(models, model, name)
    base = models[name]
    if "canary" in base:
        first = text(mapping(base.get("canary")).get("of"))
        known = first in models and first not in {name, model.get("name")}
        return "is a canary itself", f"write {first}" if known else "name a model that is none"
    if base.get("task") != model.get("task"):
        wrong = f"has the task {text(base.get('task'))}, the canary {text(model.get('task'))}"
        able = [one for one, other in models.items() if _may_have(model, other)]
        return wrong, one_of(able)
    if model.get("task") == "embedding" and base.get("artefact") != model.get("artefact"):
        wrong = f"serves {text(base.get('artefact'))}: vectors of two artefacts cannot be compared"
        return wrong, "remove canary, and build the index anew with this model under its own name"
    return None


def _unknown(
    models: Mapping[str, Mapping[str, Any]], model: Mapping[str, Any], name: str
) -> tuple[str, str]:
    for owner, other in models.items():
        if name in {alias for _, alias in texts(other.get("aliases"))}:
            return f"is another name of the model {owner}", f"write {owner}"
        if name in {adapter for _, adapter in adapter_names(other)}:
            return f"is an adapter of {owner}, and adapters have no canary", "name a model"
    able = [one for one, other in models.items() if _may_have(model, other)]
    return "unknown model", one_of(able, name)


def _may_have(model: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether the other model may have this one as its canary."""
    return other is not model and "canary" not in other and other.get("task") == model.get("task")


def _takes_the_same(
    sources: Sources, index: int, model: Mapping[str, Any], base: Mapping[str, Any]
) -> Iterator[Problem]:
    """What a model takes from its users its canary must take: nobody is refused by chance."""
    name = text(base.get("name"))
    context, needed = number(model.get("context_tokens")), number(base.get("context_tokens"))
    if context is not None and needed is not None and context < needed:
        wrong = f"is less than {name} has ({needed}), whose longer prompts would be refused"
        yield sources.problem("models", (index, "context_tokens"), wrong, f"write {needed} or more")
    args = mapping(mapping(model.get("engine")).get("args"))
    theirs = mapping(mapping(base.get("engine")).get("args"))
    for option in _UNDERSTOOD:
        if theirs.get(option) and not args.get(option):
            path: KeyPath = (index, "engine", "args", option)
            wrong = f"missing here, and {name} has it: some of its requests would go wrong"
            yield sources.problem("models", path, wrong, f"write {option}, as the engine needs it")
