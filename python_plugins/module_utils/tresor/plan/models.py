"""The models of the plan: names, what they came from, their adapters, and the route `auto`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..catalogue.routes import NAME, Candidate, auto_route
from ..inventory.loader import Inventory
from .canaries import add_canaries


def resolve_models(inventory: Inventory, instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every model with the ids of its instances, each followed by its adapters."""
    found: list[dict[str, Any]] = []
    for index, model in enumerate(inventory.concerns["models"]):
        ids = [instance["id"] for instance in instances if instance["model"] == model["name"]]
        entry = {
            "name": model["name"],
            "aliases": model["aliases"],
            "task": model["task"],
            "instances": ids,
            **{key: model[key] for key in ("class", "recovery") if key in model},
            **_catalogue(inventory, index),
        }
        found.append(entry)
        found += [
            {
                "name": adapter["name"],
                "aliases": [],
                "task": model["task"],
                "instances": ids,
                "adapter_of": model["name"],
                "artefact": adapter["artefact"],
            }
            for adapter in model.get("lora", ())
        ]
    return add_canaries(found, inventory.concerns["models"])


def resolve_routes(inventory: Inventory) -> list[dict[str, Any]]:
    """Return the route `auto` for the models of this site; none where the name is taken."""
    if NAME in model_names(inventory):
        return []
    return auto_route(list(_candidates(inventory)))


def model_names(inventory: Inventory) -> dict[str, str]:
    """Return the name of each model by its name and its aliases; adapters are models here."""
    names: dict[str, str] = {}
    for model in inventory.concerns["models"]:
        names.update(dict.fromkeys((model["name"], *model["aliases"]), model["name"]))
        names.update({adapter["name"]: adapter["name"] for adapter in model.get("lora", ())})
    return names


def _catalogue(inventory: Inventory, index: int) -> dict[str, Any]:
    merged = inventory.resolved.get(index)
    if merged is None:
        return {}
    found: dict[str, Any] = {
        "catalogue": {
            "entry": merged.entry["name"],
            "checkpoint": merged.repository,
            "overrides": list(merged.overrides),
        }
    }
    # A canary that fails is no model's fallback, and by its own name it answers for itself or not.
    wanted = merged.entry["gateway"].get("fallback") if "canary" not in merged.model else None
    for other, candidate in sorted(inventory.resolved.items()):
        if "canary" in candidate.model:
            continue
        if candidate.entry["name"] == wanted and other != index:
            found["fallback"] = candidate.model["name"]
            break
    return found


def _candidates(inventory: Inventory) -> Iterator[Candidate]:
    """Yield the models that write, by class; a model without an entry says its class itself.

    A canary is met by way of the model whose users try it.
    """
    for index, model in enumerate(inventory.concerns["models"]):
        if "canary" in model:
            continue
        merged = inventory.resolved.get(index)
        part = merged.entry["gateway"]["auto"] if merged is not None else model.get("class", "none")
        if merged is not None and part in ("small", "medium", "large"):
            part = model["class"]
        if model["task"] != "chat" or part == "none":
            continue
        yield Candidate(
            name=model["name"],
            part=part,
            german=merged is None or merged.entry["languages"]["german"] == "stated",
            tools="tool_call_parser" in model["engine"]["args"],
            context_tokens=model["context_tokens"],
        )
