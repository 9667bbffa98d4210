"""The GPUs of a host that the plan counted with, for whoever looks whether they are there."""

from __future__ import annotations

from typing import Any

from ..placement.site import Capacity
from ..sizing.gpu import find


def planned_gpus(capacity: Capacity, host: str) -> dict[str, Any] | None:
    """Return card, count, NVLink domains and GiB of each GPU; None for a host without cuda engines.

    A host counts that some model with `device: cuda` may be placed on, whether one is there now or
    not: a spare must fit too. A host of CPU engines has no GPUs in the plan, whatever is in it.
    """
    hardware = capacity.placement.hosts.get(host)
    wanted = any(entry.device == "cuda" and host in entry.hosts for entry in capacity.wanted)
    if hardware is None or hardware.gpu is None or not wanted:
        return None
    total = hardware.gpu_total_gib or find(hardware.gpu).total_gib
    return {
        "card": hardware.gpu,
        "count": hardware.gpus,
        "domains": hardware.domains(),
        "total_gib": round(total, 4),
    }
