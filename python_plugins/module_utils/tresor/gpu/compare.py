"""Compare the GPUs that a host has with those that the plan counted with. Pure.

Every difference is found at once, each as one line: the thing, what was planned, what was found,
what to do. What could not be read is a difference too: an unknown is no pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..sizing.gpu import UnknownGpuError, find
from .planned import PlannedGpus

MEMORY_TOLERANCE: Final = 0.01
"""Share of the planned memory that may be missing: drivers keep a little more or less."""
_INSTALL: Final = "let the role nvidia_driver install it, or install it and reboot the host"


@dataclass(frozen=True)
class Difference:
    """One thing in which the host is not what the plan counted with."""

    thing: str
    planned: str
    found: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """Return the fields for a machine-readable result."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the line that an operator reads."""
        return f"{self.thing}: planned {self.planned}, found {self.found}; {self.remedy}"


def differences(
    planned: PlannedGpus, facts: Mapping[str, Any], *, driver_may_be_absent: bool = False
) -> list[Difference]:
    """Return every difference; `facts` are those of `tresor_gpu_facts`.

    `driver_may_be_absent` is for a host whose driver a later step installs: without one the bus
    alone is looked at, which tells how many GPUs there are.
    """
    found = list(_bus(planned, facts))
    if facts["driver"] != "loaded":
        if not (driver_may_be_absent and facts["driver"] == "absent"):
            found.append(_driver(facts))
        return found
    gpus: Sequence[Mapping[str, Any]] = facts["gpus"]
    if len(gpus) != planned.count:
        found.append(
            Difference(
                "GPUs that the driver shows",
                str(planned.count),
                str(len(gpus)),
                "look for XID errors in the kernel's log (journalctl -k), reboot the host; if one "
                "stays away it is broken, or correct tresor_hardware.gpus",
            )
        )
    found += _type(planned, gpus)
    found += _memory(planned, gpus, facts["faults"])
    found += _domains(planned, facts)
    found += _mig(planned, gpus)
    found += _ecc(gpus)
    found += _fabric(gpus, facts["fabric_manager"])
    return found


def _bus(planned: PlannedGpus, facts: Mapping[str, Any]) -> Iterator[Difference]:
    seen = len(facts["pci_gpus"])
    if seen != planned.count:
        yield Difference(
            "GPUs on the PCI bus",
            str(planned.count),
            str(seen),
            "correct tresor_hardware.gpus in hosts.yml and plan again, or look after the server: a "
            "GPU that is not on the bus has no power, no contact, or is broken",
        )


def _driver(facts: Mapping[str, Any]) -> Difference:
    if facts["driver"] == "absent":
        return Difference("NVIDIA driver", "loaded", "none installed", _INSTALL)
    said = [fault["fault"] for fault in facts["faults"] if fault["source"].startswith("nvidia-smi")]
    return Difference(
        "NVIDIA driver",
        "loaded",
        f"one that does not answer ({said[0] if said else 'nvidia-smi is missing'})",
        "reboot the host if module and libraries differ in version, otherwise " + _INSTALL,
    )


def _type(planned: PlannedGpus, gpus: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    for name, indexes in _grouped(gpus, "name").items():
        try:
            card = find(str(name)).name
        except UnknownGpuError:
            card = f"{name}, which the catalogue does not know"
        if card != planned.card:
            yield Difference(
                f"type of {_named(indexes)}",
                planned.card,
                card if card.startswith(str(name)) else f"{card} ({name})",
                "write the card that is there into tresor_hardware.gpu and plan again",
            )


def _memory(
    planned: PlannedGpus,
    gpus: Sequence[Mapping[str, Any]],
    faults: Sequence[Mapping[str, str]],
) -> Iterator[Difference]:
    wanted = f"{planned.total_gib:.2f} GiB as a CUDA program sees it"
    unknown: list[int] = []
    for gpu in gpus:
        total = gpu["torch_total_gib"]
        if total is None:
            # With MIG on, CUDA shows no whole GPU: that difference has a line of its own.
            if not _mig_on(gpu):
                unknown.append(gpu["index"])
        elif total < planned.total_gib * (1 - MEMORY_TOLERANCE):
            yield Difference(
                f"memory of {_named([gpu['index']])}",
                wanted,
                f"{total:.2f} GiB",
                f"write gpu_total_gib: {total:.2f} into tresor_hardware and plan again",
            )
    if unknown:
        said = [f["fault"] for f in faults if f["source"].startswith("CUDA")]
        yield Difference(
            f"memory of {_named(unknown)}",
            wanted,
            f"unknown ({said[0] if said else 'CUDA shows no such GPU'})",
            "install the driver's compute libraries (libcuda.so.1) of the same version and look "
            "whether the Fabric Manager runs",
        )


def _domains(planned: PlannedGpus, facts: Mapping[str, Any]) -> Iterator[Difference]:
    wanted = [domain for domain in planned.domains if len(domain) > 1]
    found = [set(domain) for domain in facts["nvlink_domains"]]
    if not wanted:
        return
    if not found:
        said = [f["fault"] for f in facts["faults"] if "topo" in f["source"]]
        seen = f"unknown ({said[0] if said else 'nvidia-smi topo -m shows none'})"
        yield Difference("NVLink", _sets(wanted), seen, "run nvidia-smi topo -m on the host")
        return
    apart = [domain for domain in wanted if not any(set(domain) <= seen for seen in found)]
    for domain in apart:
        engines = [e.id for e in planned.engines_on(domain) if len(e.gpus) > 1]
        meant = f" (used by {', '.join(engines)})" if engines else ""
        yield Difference(
            f"NVLink among GPUs {_list(domain)}{meant}",
            "every pair joined",
            f"joined are {_sets(facts['nvlink_domains'])}",
            "mend the bridge, switch or Fabric Manager, or write the nvlink_domain that is there "
            "into tresor_hardware and plan again",
        )


def _mig(planned: PlannedGpus, gpus: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    split = [gpu["index"] for gpu in gpus if _mig_on(gpu)]
    if not split:
        return
    spread = [e.id for e in planned.engines_on(split) if e.tensor > 1]
    why = (
        f"; {', '.join(spread)} spreads each layer over GPUs, which MIG instances cannot"
        if spread
        else ""
    )
    yield Difference(
        f"MIG mode of {_named(split)}",
        "Disabled",
        f"Enabled or about to be{why}",
        "stop what uses the GPUs, run nvidia-smi -mig 0 and reset them or reboot",
    )


def _mig_on(gpu: Mapping[str, Any]) -> bool:
    return "Enabled" in (gpu["mig_mode"], gpu["mig_pending"])


def _ecc(gpus: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    off = [gpu["index"] for gpu in gpus if gpu["ecc"]["mode"] == "Disabled"]
    waiting = [
        gpu["index"]
        for gpu in gpus
        if gpu["ecc"]["pending"] not in (None, gpu["ecc"]["mode"]) and gpu["index"] not in off
    ]
    remedy = "run nvidia-smi -e 1 and reboot: without it a flipped bit changes answers unseen"
    if off:
        yield Difference(f"ECC of {_named(off)}", "Enabled", "Disabled", remedy)
    if waiting:
        yield Difference(
            f"ECC of {_named(waiting)}", "Enabled", "a change that waits for the reboot", remedy
        )


def _fabric(gpus: Sequence[Mapping[str, Any]], manager: Mapping[str, Any]) -> Iterator[Difference]:
    if not manager["needed"]:
        return
    thing, remedy = "Fabric Manager", "let the role nvidia_fabric install and start it"
    if not manager["installed"]:
        yield Difference(thing, "active (the host has NVSwitches)", "not installed", remedy)
    elif manager["active"] != "active":
        yield Difference(
            thing,
            "active (the host has NVSwitches)",
            str(manager["active"] or "unknown to systemd"),
            "read journalctl -u nvidia-fabricmanager and start it; without it CUDA has no device",
        )
    if manager["matches_driver"] is False:
        yield Difference(
            "version of the Fabric Manager",
            "that of the driver, to the digit",
            str(manager["version"]),
            "install the qualified set of the release whole",
        )
    out = [
        gpu["index"]
        for gpu in gpus
        if gpu["fabric"]["state"] is not None
        and (gpu["fabric"]["state"], gpu["fabric"]["status"]) != ("Completed", "Success")
    ]
    for index in out:
        state = next(gpu["fabric"] for gpu in gpus if gpu["index"] == index)
        yield Difference(
            f"fabric of GPU {index}",
            "Completed, Success",
            f"{state['state']}, {state['status'] or 'no status'}",
            "restart nvidia-fabricmanager; if it stays so, read its log and reboot",
        )


def _grouped(gpus: Sequence[Mapping[str, Any]], key: str) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    for gpu in gpus:
        groups.setdefault(gpu[key], []).append(gpu["index"])
    return groups


def _named(indexes: Sequence[int]) -> str:
    return f"GPU {indexes[0]}" if len(indexes) == 1 else f"GPUs {_list(indexes)}"


def _list(indexes: Sequence[int]) -> str:
    return ", ".join(str(index) for index in indexes)


def _sets(domains: Sequence[Sequence[int]]) -> str:
    return " and ".join(f"[{_list(domain)}]" for domain in domains)
