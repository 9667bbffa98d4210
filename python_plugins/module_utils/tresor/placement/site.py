"""The capacity of a site: its placement, checked against the service level and the hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from .demand import hardware_of, wanted_of
from .headroom import check_headroom
from .pack import place
from .predict import Estimate, predictor
from .resources import DEFAULT_REVISIONS, HostNeeds, check_needs, host_needs
from .values import Misfit, Placed, Placement, Predict, Wanted

DEFAULT_VLLM: Final = "0.32.0"
"""The oldest engine that the role vllm accepts."""


@dataclass(frozen=True)
class Capacity:
    """What a site can carry: placement, needs of its hosts, and what should be known."""

    placement: Placement
    wanted: tuple[Wanted, ...]
    predict: Predict
    vllm_version: str
    survive: str
    revisions: int
    notes: tuple[str, ...]

    def needs(self) -> list[HostNeeds]:
        """Return the needs of every host that runs an engine."""
        hosts = [host for host in self.placement.hosts if self.placement.on(host)]
        return [host_needs(self.placement, host, self.revisions) for host in hosts]

    def find(self, instance: str) -> Placed:
        """Return an instance by its id; raises KeyError."""
        for item in self.placement.placed:
            if item.id == instance:
                return item
        raise KeyError(instance)


def capacity_of(
    concerns: Mapping[str, Any],
    planning: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    estimate: Estimate,
) -> Capacity:
    """Return the capacity of a site out of its models and service level.

    `hosts` are the variables of every host; what does not fit stands in `placement.misfits`.
    """
    version = str(planning.get("vllm_version", DEFAULT_VLLM))
    predict = predictor(estimate, version)
    wanted = wanted_of(concerns["models"], hosts, groups)
    engines = {name for entry in wanted for name in entry.hosts}
    hardware = {name: hardware_of(hosts[name]) for name in hosts if name in engines}
    placement = place(hardware, wanted, predict)
    survive = str(concerns["slo"].get("survive_loss_of", "none"))
    revisions = int(planning.get("model_revisions", DEFAULT_REVISIONS))
    misfits: list[Misfit] = list(placement.misfits)
    if not misfits:
        # A lost canary leaves nobody without an answer: its share goes back to its model.
        spare = {model["name"]: 0 for model in concerns["models"] if "canary" in model}
        misfits += check_headroom(placement, survive, spare)
    found, notes = check_needs(placement, revisions)
    notes += [
        f"{item.id}: GPUs {', '.join(map(str, item.gpus))} do not lie in one NVLink domain; their "
        "traffic takes PCIe, which costs latency"
        for item in placement.placed
        if item.over_pcie
    ]
    notes += [
        f"{item.id}: each layer is spread over {len(item.hosts)} hosts, so every token waits for "
        "the network; tensor within a host and pipeline across hosts is the faster layout"
        for item in placement.placed
        if item.tensor > item.wanted.ranks_on_host(item.tensor)
    ]
    return Capacity(
        placement=replace(placement, misfits=tuple(misfits + found)),
        wanted=tuple(wanted),
        predict=predict,
        vllm_version=version,
        survive=survive,
        revisions=revisions,
        notes=tuple(notes),
    )
