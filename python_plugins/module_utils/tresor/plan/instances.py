"""Resolve the catalogue: which engine instance runs where, with which options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..flows.fabric import hosts_of
from ..inventory.check_nodes import FIRST_PORT
from ..inventory.loader import Inventory
from ..placement.arguments import engine_arguments
from ..placement.values import Placed

_TIKTOKEN: Final = "tiktoken"
"""Name of the part of a release (`binaries-tiktoken`) with the vocabularies of harmony."""


def resolve_instances(inventory: Inventory) -> list[dict[str, Any]]:
    """Return the instances of every model, sorted by id."""
    models = inventory.concerns["models"]
    instances = [
        _instance(inventory, models[index], models[index]["placement"][position], item)
        for item in inventory.capacity.placement.placed
        for index, position in (item.wanted.path,)
    ]
    return sorted(instances, key=lambda instance: str(instance["id"]))


def _nodes(inventory: Inventory, placement: Mapping[str, Any], placed: Placed) -> dict[str, Any]:
    """Return where the hosts of an instance that spans hosts meet, by rank."""
    ends = hosts_of(inventory, placed.hosts)
    domain = inventory.concerns["site"]["domain"]
    return {
        "hosts": [end.name for end in ends],
        "names": [f"{end.name}.{domain}" for end in ends],
        "addresses": [end.ipv4 for end in ends],
        "interfaces": [end.interface for end in ends],
        "port": placement.get("fabric_port", FIRST_PORT),
    }


def _instance(
    inventory: Inventory,
    model: Mapping[str, Any],
    placement: Mapping[str, Any],
    placed: Placed,
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
        **({"vocabulary": _TIKTOKEN} if _speaks_harmony(placed.wanted.architecture) else {}),
        **({"nodes": _nodes(inventory, placement, placed)} if placed.followers else {}),
    }


def _speaks_harmony(architecture: str | Mapping[str, Any] | None) -> bool:
    """Tell whether vLLM gives a model's texts to openai_harmony: it does for `gpt_oss`."""
    if isinstance(architecture, Mapping):
        return architecture.get("model_type") == "gpt_oss"
    return "gpt-oss" in (architecture or "").lower()
