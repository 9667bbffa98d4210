"""Resolve models that name an entry of the shipped catalogue, before they are checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..catalogue.entry import Entry, checkpoint_of, names, read_entry
from ..catalogue.merge import Merged, merge
from .document import Document, KeyPath
from .problems import NOTHING, Problem, one_of
from .schema_check import Schema
from .sources import sequence, text, variable

Resolved = Mapping[int, Merged]
"""What became of a model, by its place in models.yml; models without an entry are not in it."""


def resolve_models(
    document: Document, folder: Path, schema: Schema
) -> tuple[Document, Resolved, list[Problem]]:
    """Return the document with every model filled in, what was filled, and what is wrong.

    Lines stay those of the file: what came from the catalogue is reported at its model.
    """
    models = document.value((variable("models"),))
    found: dict[int, Merged] = {}
    problems: list[Problem] = []
    filled: list[Any] = []
    for index, model in enumerate(sequence(models)):
        merged: Merged | None = None
        if isinstance(model, dict) and "catalogue" in model:
            merged, wrong = _merged(document, index, model, folder, schema)
            problems += wrong
        if merged is not None:
            found[index] = merged
        filled.append(model if merged is None else merged.model)
    if not found:
        return document, found, problems
    return replace(document, data={**document.data, variable("models"): filled}), found, problems


def notes(models: Sequence[Mapping[str, Any]], resolved: Resolved) -> Iterator[str]:
    """Yield what a reader of the plan should know: what the site changed, what is not predicted."""
    for index, model in enumerate(models):
        merged = resolved.get(index)
        if merged is not None:
            name = merged.entry["name"]
            yield from (
                f"{model['name']}: not as the catalogue's {name} says: {override}"
                for override in merged.overrides
            )
        for key, what in (("lora", "adapters"), ("speculative", "speculative decoding")):
            if key in model:
                yield f"{model['name']}: the memory of {what} is not in the prediction"


def _merged(
    document: Document, index: int, model: Mapping[str, Any], folder: Path, schema: Schema
) -> tuple[Merged | None, list[Problem]]:
    path: KeyPath = (variable("models"), index)
    name, known = text(model["catalogue"]), names(folder)
    if name not in known:
        fix = one_of(known, name)
        return None, [document.problem((*path, "catalogue"), "unknown catalogue entry", fix)]
    entry, problems = read_entry(folder, name, schema)
    if entry is None:
        return None, problems
    wanted = model.get("checkpoint")
    checkpoint = checkpoint_of(entry, wanted)
    if checkpoint is None:
        has = [one["name"] for one in entry["checkpoints"]]
        wrong = f"the entry {name} has no such checkpoint"
        fix = one_of(has, text(wanted))
        return None, [document.problem((*path, "checkpoint"), wrong, fix)]
    return merge(model, entry, checkpoint), [
        *_licence(document, path, model, entry),
        *_speculative(document, path, model, entry),
        *_adapters(document, path, model, entry),
    ]


def _licence(
    document: Document, path: KeyPath, model: Mapping[str, Any], entry: Entry
) -> Iterator[Problem]:
    """A licence that excludes the EU or business is the company's own decision, in writing."""
    licence, eu = entry["licence"], entry["eu"]
    accepted = model.get("licence_accepted")
    here: KeyPath = (*path, "licence_accepted")
    if accepted is not None and accepted != licence["name"]:
        wrong = f"is not the licence of {entry['name']}"
        yield document.problem(here, wrong, f"write {licence['name']}, or remove it")
    elif accepted is None and not (eu["usable"] and licence["commercial"]):
        why = eu["reason"] if not eu["usable"] else "it is not for business"
        wrong = f"the licence of {entry['name']} needs a decision: {why}"
        fix = (
            f"take another model, or, if your company may use it ({licence['link']}), write "
            f"licence_accepted: {licence['name']}"
        )
        yield document.problem(here, wrong, fix, seen=NOTHING)


def _speculative(
    document: Document, path: KeyPath, model: Mapping[str, Any], entry: Entry
) -> Iterator[Problem]:
    if model.get("speculative") != "recommended":
        return
    head, here = entry.get("speculative"), (*path, "speculative")
    if head is None:
        wrong = f"the entry {entry['name']} recommends none"
        yield document.problem(here, wrong, "remove it, or write method, tokens and artefact")
    elif "repository" in head:
        wrong = f"the draft {head['repository']} must be an artefact of the bundle"
        fix = f"write {{method: {head['method']}, tokens: {head['tokens']}, artefact: ...}}"
        yield document.problem(here, wrong, fix)


def _adapters(
    document: Document, path: KeyPath, model: Mapping[str, Any], entry: Entry
) -> Iterator[Problem]:
    adapters = model.get("lora")
    if not isinstance(adapters, list) or not adapters:
        return
    limit = entry.get("lora", {}).get("max_rank")
    if limit is None:
        wrong = f"the catalogue plans no adapters for {entry['name']}"
        yield document.problem((*path, "lora"), wrong, "remove it, or serve another model")
        return
    for index, adapter in enumerate(adapters):
        rank = adapter.get("rank") if isinstance(adapter, dict) else None
        if isinstance(rank, int) and rank > limit:
            here: KeyPath = (*path, "lora", index, "rank")
            wrong = f"is above the rank that the catalogue plans with ({limit})"
            yield document.problem(here, wrong, f"write {limit} or less")
