"""What fits where on this site, and what does not, said at the line that asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..placement.site import Capacity, capacity_of
from ..sizing import estimate
from .document import KeyPath
from .hosts import HostTable
from .problems import Problem
from .sources import Sources


def site_capacity(
    concerns: Mapping[str, Any], planning: Mapping[str, Any], hosts: HostTable
) -> Capacity:
    """Return the capacity of a site whose inventory is otherwise valid."""
    variables = {name: host.variables for name, host in hosts.hosts.items()}
    return capacity_of(concerns, planning, variables, hosts.groups, estimate)


def misfit_problems(sources: Sources, capacity: Capacity) -> Iterator[Problem]:
    """Yield a problem at the placement of each model that does not fit."""
    for misfit in capacity.placement.misfits:
        path: KeyPath = ()
        seen: object = misfit.model
        if misfit.path:
            index, position = misfit.path
            path = (index, "placement", position)
            seen = f"{misfit.model} on {misfit.host}" if misfit.host else misfit.model
        wrong = f"the model {misfit.model} {misfit.why} ({misfit.kind})"
        yield sources.problem("models", path, wrong, misfit.remedy, seen)
