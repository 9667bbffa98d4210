"""What a host needs beside its GPUs: memory, disk, power, network.

The rules are Tresor's own and stand here as figures, so that the report can show them: they are
planning rules, not measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from .cpu import SYSTEM_GIB, cpu_memory_gib
from .sizes import model_gib
from .values import Hardware, Misfit, Placed, Placement

RANK_MEMORY_GIB: Final = 8.0
"""Host memory of one engine process: interpreter, CUDA context, pinned buffers."""
GPU_HOST_SYSTEM_GIB: Final = 16.0
"""Operating system, exporters, and room for the page cache."""
LEAST_REVISIONS: Final = 2
"""A model that is replaced stays until its successor has proven itself."""
MOST_REVISIONS: Final = 5
DEFAULT_REVISIONS: Final = 3
"""The one that runs, the one before, the next one."""
GBIT_PER_GIB: Final = 8.589934592
RULES: Final = (
    f"memory: the weights of all engines once (they pass the page cache), {RANK_MEMORY_GIB:g} GiB "
    f"for each GPU that an engine uses, {GPU_HOST_SYSTEM_GIB:g} GiB for the system; engines on the "
    "CPU: weights, KV cache and processes",
    "disk: the models of the host times the revisions that are kept (planning.model_revisions)",
    "power: the limits of all GPU boards, and the server's own where the site states it",
    "network: time to bring the models of a host over its link once, at 80 % of the line rate",
)
_LINE_SHARE: Final = 0.8


@dataclass(frozen=True)
class HostNeeds:
    """What one host needs and what it has; None is what nobody stated."""

    host: str
    memory_gib: float
    memory_stated_gib: float | None
    models_gib: float
    disk_gib: float
    disk_stated_gib: float | None
    gpu_power_w: float
    power_w: float | None
    rack_units: float | None
    transfer_minutes: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, rounded as a report shows them."""
        return {
            key: round(value, 2) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


def host_needs(placement: Placement, host: str, revisions: int) -> HostNeeds:
    """Return the needs of one host."""
    hardware, here = placement.hosts[host], placement.on(host)
    models = _models_gib(here)
    gpu_power = hardware.gpus * (hardware.gpu_power_w or 0.0)
    return HostNeeds(
        host=host,
        memory_gib=_memory(here),
        memory_stated_gib=hardware.memory_gib,
        models_gib=models,
        disk_gib=models * revisions,
        disk_stated_gib=hardware.disk_gib,
        gpu_power_w=gpu_power,
        power_w=None if hardware.base_power_w is None else gpu_power + hardware.base_power_w,
        rack_units=hardware.rack_units,
        transfer_minutes=_transfer(models, hardware),
    )


def check_needs(placement: Placement, revisions: int) -> tuple[list[Misfit], list[str]]:
    """Return what makes a host unusable, and what an operator should know."""
    misfits: list[Misfit] = []
    notes: list[str] = []
    for host in placement.hosts:
        here = placement.on(host)
        if not here:
            continue
        needs = host_needs(placement, host, revisions)
        least = needs.models_gib * LEAST_REVISIONS
        if needs.disk_stated_gib is None or needs.memory_stated_gib is None:
            notes.append(f"{host}: disk or memory is not stated, so neither is checked")
        if needs.disk_stated_gib is not None and needs.disk_stated_gib < least:
            why = (
                f"the models of the host have {needs.models_gib:.1f} GiB; with the one before each "
                f"they need {least:.1f}, its disk has {needs.disk_stated_gib:g}"
            )
            last = here[-1].wanted
            remedy = "add disk, or place a model elsewhere"
            misfits.append(Misfit(last.model, host, "disk", why, remedy, last.path))
        elif needs.disk_stated_gib is not None and needs.disk_stated_gib < needs.disk_gib:
            notes.append(
                f"{host}: {needs.disk_gib:.1f} GiB of disk hold {revisions} revisions of each "
                f"model, it has {needs.disk_stated_gib:g}"
            )
        if needs.memory_stated_gib is not None and needs.memory_stated_gib < needs.memory_gib:
            notes.append(
                f"{host}: {needs.memory_gib:.1f} GiB of memory are advised, it has "
                f"{needs.memory_stated_gib:g}"
            )
    return misfits, notes


def _memory(here: Sequence[Placed]) -> float:
    gpu = [item for item in here if item.wanted.device == "cuda"]
    cpu = [item for item in here if item.wanted.device == "cpu"]
    need = sum(item.weights_gib + RANK_MEMORY_GIB * len(item.gpus) for item in gpu)
    need += sum(cpu_memory_gib(item) for item in cpu)
    return need + (GPU_HOST_SYSTEM_GIB if gpu else SYSTEM_GIB)


def _models_gib(here: Sequence[Placed]) -> float:
    """Return the size of the host's models, each counted once.

    For a model that only the site knows the ranks' weights stand in, which are a little more.
    """
    sizes = {item.wanted.artefact: model_gib(item.wanted) or item.weights_gib for item in here}
    return sum(sizes.values())


def _transfer(models_gib: float, hardware: Hardware) -> float | None:
    if not hardware.network_gbit:
        return None
    return models_gib * GBIT_PER_GIB / (hardware.network_gbit * _LINE_SHARE) / 60
