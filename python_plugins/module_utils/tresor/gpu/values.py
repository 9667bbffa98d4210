"""The values that describe a host's GPUs: memory in MiB, power in W, as the driver tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

BYTES_PER_GIB: Final = 1 << 30


class ReadingError(Exception):
    """An output that cannot be read: says what was expected and what was seen."""


@dataclass(frozen=True)
class Fault:
    """One thing that could not be found out: where it would stand, and why it is missing."""

    source: str
    fault: str

    def as_dict(self) -> dict[str, str]:
        """Return the fields for a machine-readable result."""
        return {"source": self.source, "fault": self.fault}


@dataclass(frozen=True)
class MigDevice:
    """One MIG instance of a GPU."""

    index: int | None
    gpu_instance: int | None
    compute_instance: int | None
    memory_total_mib: int | None


@dataclass(frozen=True)
class Ecc:
    """Error correction: mode, uncorrected errors, and what the memory repair waits for.

    `aggregate_uncorrected` counts since the board was made, `volatile_uncorrected` since the driver
    was loaded. None stands for what this board does not tell.
    """

    mode: str | None
    pending: str | None
    volatile_uncorrected: int | None
    aggregate_uncorrected: int | None
    remap_pending: bool | None
    remap_failed: bool | None


@dataclass(frozen=True)
class Fabric:
    """How the GPU stands to the NVLink fabric; every field is None where there is none."""

    state: str | None
    status: str | None
    clique: str | None
    cluster_uuid: str | None

    @property
    def is_ready(self) -> bool:
        """Return whether the Fabric Manager has taken this GPU in."""
        return self.state == "Completed" and self.status == "Success"


@dataclass(frozen=True)
class PcieLink:
    """Lanes and generation in use, and the most that board and slot allow."""

    width: int | None
    width_max: int | None
    generation: int | None
    generation_max: int | None


@dataclass(frozen=True)
class Gpu:
    """One GPU as `nvidia-smi -q -x` tells of it, in the order of its index."""

    index: int
    name: str
    uuid: str
    pci_address: str
    memory_total_mib: int | None
    memory_reserved_mib: int | None
    memory_used_mib: int | None
    memory_free_mib: int | None
    power_limit_w: float | None
    power_limit_default_w: float | None
    power_limit_max_w: float | None
    persistence: bool | None
    ecc: Ecc
    mig_mode: str | None
    mig_pending: str | None
    mig_devices: tuple[MigDevice, ...]
    fabric: Fabric
    pcie: PcieLink
    slowed_by: tuple[str, ...]
    """What holds the clocks down now, in the driver's words without their common beginning."""
    recovery_action: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, nested, for a machine-readable result."""
        values = asdict(self)
        values["mig_devices"] = list(values["mig_devices"])
        values["slowed_by"] = list(values["slowed_by"])
        return values


@dataclass(frozen=True)
class SmiReport:
    """The whole of `nvidia-smi -q -x`."""

    driver_version: str | None
    cuda_version: str | None
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True)
class Topology:
    """The matrix of `nvidia-smi topo -m`.

    `links[(0, 1)]` is the word between GPU 0 and GPU 1, such as NV18, PIX or SYS.
    """

    gpus: tuple[int, ...]
    links: Mapping[tuple[int, int], str]
    cpu_affinity: Mapping[int, str]
    numa_node: Mapping[int, int]


@dataclass(frozen=True)
class NvLinks:
    """The links of one GPU: how many carry traffic, how many there are, GB/s of each active one."""

    active: int
    total: int
    gb_per_s: tuple[float, ...]


def pci_address(text: str) -> str:
    """Return a PCI address in the kernel's form: `00000000:18:00.0` becomes `0000:18:00.0`."""
    domain, _, rest = text.strip().lower().partition(":")
    return f"{domain[-4:].rjust(4, '0')}:{rest}" if rest else text.strip().lower()
