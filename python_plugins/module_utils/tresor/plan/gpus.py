"""The GPUs of a host that the plan counted with, for whoever looks whether they are there."""

from __future__ import annotations

from typing import Any, Final

from ..placement.site import Capacity
from ..sizing.gpu import find
from ..sizing.gpu.gpu import Gpu

_FABRICS: Final = {"ampere": "nvswitch", "hopper": "nvswitch", "blackwell": "nvlink5"}
_BOARD: Final = 8
"""GPUs of a board with NVSwitches; boards of four are joined directly."""


def fabric_of(card: Gpu, domain: int) -> str:
    """Return what joins the GPUs of one NVLink domain: none, nvswitch or nvlink5."""
    if card.vendor != "nvidia" or card.variant != "sxm" or domain < _BOARD:
        return "none"
    return _FABRICS.get(card.architecture, "none")


def planned_gpus(capacity: Capacity, host: str) -> dict[str, Any] | None:
    """Return card, count, NVLink domains and GiB of each GPU; None for a host without cuda engines.

    A host counts that some model with `device: cuda` may be placed on, whether one is there now or
    not: a spare must fit too. A host of CPU engines has no GPUs in the plan, whatever is in it.
    """
    hardware = capacity.placement.hosts.get(host)
    wanted = any(entry.device == "cuda" and host in entry.hosts for entry in capacity.wanted)
    if hardware is None or hardware.gpu is None or not wanted:
        return None
    card = find(hardware.gpu)
    domains = hardware.domains()
    return {
        "card": hardware.gpu,
        "count": hardware.gpus,
        "domains": domains,
        "fabric": fabric_of(card, max(len(domain) for domain in domains)),
        "total_gib": round(hardware.gpu_total_gib or card.total_gib, 4),
    }
