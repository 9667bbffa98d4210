"""Resolve the catalogue: which engine instance runs where, with which options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..inventory.loader import Inventory


def resolve_instances(inventory: Inventory) -> list[dict[str, Any]]:
    """Return the instances of every model, sorted by id."""
    instances = [
        _instance(model, placement, host)
        for model in inventory.concerns["models"]
        for placement in model["placement"]
        for host in _hosts(inventory, placement)
    ]
    return sorted(instances, key=lambda instance: str(instance["id"]))


def _hosts(inventory: Inventory, placement: Mapping[str, Any]) -> Iterator[str]:
    wanted = set(placement["hosts"])
    for group in placement["groups"]:
        wanted.update(inventory.hosts.groups[group])
    return (name for name in inventory.hosts.hosts if name in wanted)


def _instance(model: Mapping[str, Any], placement: Mapping[str, Any], host: str) -> dict[str, Any]:
    engine, spread = model["engine"], model["parallelism"]
    args: dict[str, Any] = {**engine["args"], "max_model_len": model["context_tokens"]}
    if model["quantization"] != "none":
        args["quantization"] = model["quantization"]
    if spread["tensor"] > 1:
        args["tensor_parallel_size"] = spread["tensor"]
    if spread["pipeline"] > 1:
        args["pipeline_parallel_size"] = spread["pipeline"]
    env: dict[str, str] = dict(engine["env"])
    if "gpus" in placement:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in placement["gpus"])
    return {
        "id": f"{placement['instance']}-{host}",
        "model": model["name"],
        "artefact": model["artefact"],
        "host": host,
        "port": placement["port"],
        "device": engine["device"],
        "task": model["task"],
        "served_names": [model["name"]],
        "environment": engine["environment"],
        "args": args,
        "env": env,
    }
