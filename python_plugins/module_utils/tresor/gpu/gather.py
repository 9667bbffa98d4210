"""Put everything that can be read about a host's GPUs into one answer.

Nothing here raises: what cannot be read is a fault with its source and reason, and the rest of the
answer stands. The caller decides what a fault means.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from .commands import Outcome, Runner
from .fabric_manager import read_fabric_manager
from .host import KernelView, read_kernel
from .smi_xml import parse_smi_xml
from .topology import nvlink_domains, parse_nvlink_status, parse_topology
from .values import (
    BYTES_PER_GIB,
    Fault,
    Gpu,
    ReadingError,
    SmiReport,
    Topology,
    pci_address,
)

SMI: Final = "nvidia-smi"
XML: Final = (SMI, "-q", "-x")
TOPOLOGY: Final = (SMI, "topo", "-m")
NVLINKS: Final = (SMI, "nvlink", "-s")
COMPUTE: Final = (SMI, "--query-gpu=pci.bus_id,compute_cap", "--format=csv,noheader,nounits")
CUDA: Final = "CUDA driver library"

ReadCuda = Callable[[], Mapping[str, int]]
_T = TypeVar("_T")


def gather(run: Runner, read_cuda: ReadCuda, sys_dir: Path) -> dict[str, Any]:
    """Return the facts of this host; the keys are those of the module `tresor_gpu_facts`."""
    kernel = read_kernel(sys_dir)
    faults = list(kernel.faults)
    listed = run(XML)
    report = _parsed(XML, listed, parse_smi_xml, faults, quiet_if_absent=True)
    facts: dict[str, Any] = {
        "driver": _driver(kernel, listed, report),
        "driver_version": (report.driver_version if report else None) or kernel.module_version,
        "cuda_version": report.cuda_version if report else None,
        "pci_gpus": [
            {"address": device.address, "device_id": device.device_id} for device in kernel.gpus
        ],
        "gpus": [],
        "nvlink_domains": [],
    }
    if report and report.gpus:
        facts.update(_gpus(run, read_cuda, report, kernel, faults))
    manager, found = read_fabric_manager(
        run,
        needed=kernel.nvswitches > 0 or any(gpu.fabric.state for gpu in _of(report)),
        driver_version=facts["driver_version"],
    )
    # A host without a driver has no use for a Fabric Manager, so nothing is missing there.
    faults += found if report else []
    facts["fabric_manager"] = manager.as_dict()
    facts["faults"] = [fault.as_dict() for fault in faults]
    return facts


def _of(report: SmiReport | None) -> tuple[Gpu, ...]:
    return report.gpus if report else ()


def _driver(kernel: KernelView, listed: Outcome, report: SmiReport | None) -> str:
    """Return loaded, unusable (it is there and does not answer) or absent."""
    if report is not None:
        return "loaded"
    return "absent" if listed.absent and kernel.module_version is None else "unusable"


def _gpus(
    run: Runner,
    read_cuda: ReadCuda,
    report: SmiReport,
    kernel: KernelView,
    faults: list[Fault],
) -> dict[str, Any]:
    topology = _parsed(TOPOLOGY, run(TOPOLOGY), parse_topology, faults)
    links = _parsed(NVLINKS, run(NVLINKS), parse_nvlink_status, faults) or {}
    compute = _parsed(COMPUTE, run(COMPUTE), _compute_capabilities, faults) or {}
    memory: Mapping[str, int] = {}
    try:
        memory = read_cuda()
    except ReadingError as error:
        faults.append(Fault(CUDA, str(error)))
    nodes = {device.address: device.numa_node for device in kernel.gpus}
    gpus: list[dict[str, Any]] = []
    for gpu in report.gpus:
        seen = None if gpu.mig_mode == "Enabled" else memory.get(gpu.pci_address)
        if seen is None and memory and gpu.mig_mode != "Enabled":
            faults.append(Fault(CUDA, f"does not show GPU {gpu.index} ({gpu.pci_address})"))
        link = links.get(gpu.index)
        gpus.append(
            {
                **gpu.as_dict(),
                "torch_total_gib": round(seen / BYTES_PER_GIB, 4) if seen else None,
                "compute_capability": compute.get(gpu.pci_address),
                "nvlinks": {"active": link.active, "total": link.total} if link else None,
                "numa_node": _numa(topology, gpu.index, nodes.get(gpu.pci_address)),
                "cpu_affinity": topology.cpu_affinity.get(gpu.index) if topology else None,
            }
        )
    return {"gpus": gpus, "nvlink_domains": nvlink_domains(topology) if topology else []}


def _numa(topology: Topology | None, index: int, of_kernel: int | None) -> int | None:
    return topology.numa_node.get(index, of_kernel) if topology else of_kernel


def _compute_capabilities(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != 2:
            raise ReadingError(f"expected address and capability, saw {row!r}"[:200])
        found[pci_address(row[0])] = row[1].strip()
    return found


def _parsed(
    command: tuple[str, ...],
    outcome: Outcome,
    parse: Callable[[str], _T],
    faults: list[Fault],
    *,
    quiet_if_absent: bool = False,
) -> _T | None:
    """Return what the parser makes of an output; otherwise note why there is nothing."""
    if not outcome.ok:
        if not (outcome.absent and quiet_if_absent):
            faults.append(Fault(" ".join(command), outcome.problem))
        return None
    try:
        return parse(outcome.stdout)
    except ReadingError as error:
        faults.append(Fault(" ".join(command), str(error)))
        return None
