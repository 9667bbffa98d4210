"""Resolve the catalogue: which engine instance runs where, with which options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..inventory.loader import Inventory
from ..placement.arguments import engine_arguments
from ..placement.values import Placed


def resolve_instances(inventory: Inventory) -> list[dict[str, Any]]:
    """Return the instances of every model, sorted by id."""
    models = inventory.concerns["models"]
    instances = [
        _instance(models[index], models[index]["placement"][position], item)
        for item in inventory.capacity.placement.placed
        for index, position in (item.wanted.path,)
    ]
    return sorted(instances, key=lambda instance: str(instance["id"]))


def _instance(
    model: Mapping[str, Any], placement: Mapping[str, Any], placed: Placed
) -> dict[str, Any]:
    engine = model["engine"]
    env: dict[str, str] = dict(engine["env"])
    if placed.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in placed.gpus)
    return {
        "id": placed.id,
        "model": model["name"],
        "artefact": model["artefact"],
        "host": placed.host,
        "port": placement["port"],
        "device": engine["device"],
        "task": model["task"],
        "served_names": [model["name"]],
        "environment": engine["environment"],
        "args": engine_arguments(placed.wanted, placed.tensor),
        "env": env,
        **{key: model[key] for key in ("lora", "speculative") if key in model},
    }
