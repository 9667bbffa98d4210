"""What a site wants and what it has, out of the values of its inventory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..sizing.gpu import find
from .values import Hardware, Wanted


def hardware_of(variables: Mapping[str, Any]) -> Hardware:
    """Return a host's hardware; raises `UnknownGpuError` for a card that nobody knows.

    The NVLink domain and the power of a card come from the catalogue unless the site states them.
    """
    stated = variables.get("tresor_hardware") or {}
    hardware = Hardware(
        gpu=stated.get("gpu"),
        gpus=stated.get("gpus", variables.get("tresor_gpus") or 0),
        **{name: stated.get(name) for name in _STATED},
    )
    if hardware.gpu is None:
        return hardware
    card = find(hardware.gpu)
    return replace(
        hardware,
        gpu=card.name,
        nvlink_domain=hardware.nvlink_domain or card.nvlink_domain,
        gpu_power_w=hardware.gpu_power_w or card.power_w,
    )


_STATED = (
    "nvlink_domain",
    "gpu_total_gib",
    "gpu_power_w",
    "memory_gib",
    "disk_gib",
    "rack_units",
    "network_gbit",
    "base_power_w",
)


def wanted_of(
    models: Sequence[Mapping[str, Any]],
    hosts: Iterable[str],
    groups: Mapping[str, Sequence[str]],
) -> list[Wanted]:
    """Return what the catalogue wants, one entry for each placement of each model."""
    order = list(hosts)
    found: list[Wanted] = []
    for index, model in enumerate(models):
        for position, placement in enumerate(model["placement"]):
            found.append(
                _wanted(model, placement, _hosts(placement, order, groups), (index, position))
            )
    return found


def _hosts(
    placement: Mapping[str, Any], order: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Return the hosts in the inventory's order; of an instance that spans them, by rank."""
    if placement.get("nodes", 1) > 1:
        return tuple(placement["hosts"])
    named = set(placement["hosts"])
    for group in placement["groups"]:
        named.update(groups[group])
    return tuple(host for host in order if host in named)


_OWN_FORMAT = ("none", "auto")
"""The engine reads the checkpoint's own config.json, and so does the sizing."""


def _wanted(
    model: Mapping[str, Any],
    placement: Mapping[str, Any],
    hosts: tuple[str, ...],
    path: tuple[int, ...],
) -> Wanted:
    engine, spread = model["engine"], model["parallelism"]
    gpus = placement.get("gpus")
    return Wanted(
        name=placement["instance"],
        model=model["name"],
        artefact=model["artefact"],
        architecture=model.get("architecture", model["artefact"]),
        task=model["task"],
        device=engine["device"],
        quantization=None if model["quantization"] in _OWN_FORMAT else model["quantization"],
        context_tokens=model["context_tokens"],
        hosts=hosts,
        tensor=None if spread["tensor"] == "auto" else spread["tensor"],
        pipeline=spread["pipeline"],
        gpus=tuple(gpus) if isinstance(gpus, list) else None,
        replicas=placement.get("replicas"),
        nodes=placement.get("nodes", 1),
        args=engine["args"],
        env=engine["env"],
        path=path,
    )
