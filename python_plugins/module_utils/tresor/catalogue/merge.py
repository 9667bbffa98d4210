"""Fill a model of models.yml with what its entry of the catalogue says; what the site says wins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .entry import Entry, architecture_of

_FILLED: Final = ("class", "task", "architecture", "quantization", "context_tokens")


@dataclass(frozen=True)
class Merged:
    """A model with nothing left out, the entry it came from, and what the site changed of it."""

    model: dict[str, Any]
    entry: Entry
    repository: str
    overrides: tuple[str, ...] = field(default=())


def merge(model: Mapping[str, Any], entry: Entry, checkpoint: Mapping[str, Any]) -> Merged:
    """Return a model filled from an entry and one of its checkpoints.

    Keys of the wrong type stay as they are: the schema of models.yml reports them.
    """
    given = {
        "class": entry["class"],
        "task": entry["task"],
        "architecture": architecture_of(checkpoint),
        "quantization": "none" if checkpoint["quantization"] == "none" else "auto",
        "context_tokens": entry["context_tokens"]["planned"],
    }
    filled: dict[str, Any] = {"aliases": [], **given, **model}
    overrides = list(_changes("", {key: given[key] for key in _FILLED}, model))
    engine = model.get("engine")
    if isinstance(engine, dict):
        filled["engine"] = dict(engine)
        for part in ("args", "env"):
            own, theirs = engine.get(part, {}), entry["engine"].get(part, {})
            if isinstance(own, dict):
                filled["engine"][part] = {**theirs, **own}
                overrides += _changes(f"engine.{part}.", theirs, own)
    if "parallelism" not in model:
        filled["parallelism"] = {"tensor": _tensor(filled), "pipeline": _stages(filled)}
    if model.get("speculative") == "recommended" and "speculative" in entry:
        head = entry["speculative"]
        if "repository" not in head:
            filled["speculative"] = {"method": head["method"], "tokens": head["tokens"]}
    return Merged(filled, entry, str(checkpoint["repository"]), tuple(overrides))


def _changes(prefix: str, theirs: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each key that the site wrote another value for, or that only it has."""
    for key, value in own.items():
        if key in theirs and theirs[key] != value:
            yield f"{prefix}{key}: {json.dumps(value)} instead of {json.dumps(theirs[key])}"
        elif prefix and key not in theirs:
            yield f"{prefix}{key}: {json.dumps(value)}, which the catalogue does not set"


def _tensor(model: Mapping[str, Any]) -> int | str:
    """Return as many GPUs as the site lists in each placement, otherwise the planner's choice."""
    engine, placements = model.get("engine"), model.get("placement")
    if isinstance(engine, dict) and engine.get("device") == "cpu":
        return 1
    counts: set[int] = set()
    for placement in placements if isinstance(placements, list) else ():
        gpus = placement.get("gpus") if isinstance(placement, dict) else None
        counts.add(len(gpus) if isinstance(gpus, list) and gpus else 0)
    return counts.pop() if len(counts) == 1 and 0 not in counts else "auto"


def _stages(model: Mapping[str, Any]) -> int:
    """Return one stage for each host where every placement spans the same number of hosts."""
    placements = model.get("placement")
    counts = {
        placement.get("nodes", 1)
        for placement in (placements if isinstance(placements, list) else ())
        if isinstance(placement, dict)
    }
    only = counts.pop() if len(counts) == 1 else 1
    return only if isinstance(only, int) and not isinstance(only, bool) and only > 1 else 1
