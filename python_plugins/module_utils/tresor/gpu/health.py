"""Judge the health of a host's GPUs. Pure: what was read in, findings out, good ones too.

What could not be read is a failed finding: silence is no health.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from .diag import Failed, Reduced
from .xid import Action, Verdict

SLOWED: Final = frozenset(
    {"hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown"}
)
"""Reasons that slow a GPU down because something is wrong; idling and a power limit are none."""
NVLINK_ERRORS: Final = ("recovery", "crc")
"""Counters that must not rise; replays alone are the link's own repair, and are bounded."""
REPLAYS_ALLOWED: Final = 100
"""Replays of one GPU since the driver was loaded."""
BUS_SHORTFALL: Final = 0.2
"""Share below the usual bandwidth of an all-reduce from which on it is a failure."""
USUAL_BUS_GB_S: Final[Mapping[tuple[str, int], float]] = {
    ("A100 SXM 40GB", 8): 230.0,
    ("A100 SXM 80GB", 8): 230.0,
    ("H100 SXM 80GB", 8): 460.0,
    ("H100 PCIe 80GB", 8): 35.0,
}
"""The lower end of what is usual in GB/s, by card and count; from a vendor's page, so the site may
state its own. No figure for other hosts was found."""
FABRIC_LOG: Final = (
    "detected NVSwitch fatal error",
    "failed to find the GPU handle",
    "detected number of NVSwitches don't match",
)
"""What the Fabric Manager writes when the fabric is broken."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it stands, and what to do where it is bad."""

    id: str
    what: str
    observed: str
    ok: bool
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for a machine-readable result."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the line that an operator reads."""
        return f"{self.what}: {self.observed}" + ("" if self.ok else f"; {self.remedy}")


@dataclass(frozen=True)
class Read:
    """What was read beside the facts; None where it could not be, with a word in `faults`.

    `module_version` is of the module on disk for the running kernel, `nvlink_errors` counts by GPU
    and kind, `bus` is the result of an all-reduce, `usual_bus_gb_s` what it is held against. What
    was not asked for is not among `asked`.
    """

    module_version: str | None = None
    verdicts: Sequence[Verdict] | None = None
    nvlink_errors: Mapping[int, Mapping[str, int]] | None = None
    fabric_log: str | None = None
    diag: tuple[int, Sequence[Failed]] | None = None
    bus: Reduced | None = None
    usual_bus_gb_s: float | None = None
    asked: frozenset[str] = frozenset()
    faults: Mapping[str, str] = field(default_factory=dict)


def judge_health(facts: Mapping[str, Any], read: Read) -> list[Finding]:
    """Return the findings; `facts` are those of `tresor_gpu_facts`."""
    if facts["driver"] != "loaded":
        said = "; ".join(fault["fault"] for fault in facts["faults"]) or "there is none"
        remedy = "run tresor_gpu_check, reboot the host, or install the driver"
        return [
            Finding("driver", "the driver answers", f"{facts['driver']}: {said}", False, remedy)
        ]
    gpus: Sequence[Mapping[str, Any]] = facts["gpus"]
    found = [
        Finding("driver", "the driver answers", str(facts["driver_version"]), True),
        _present(facts),
        _module(facts, read),
        *_fabric(facts, read),
        _memory(gpus),
        _recovery(gpus),
        _xids(read),
        _slowed(gpus),
        _pcie(gpus),
        _persistence(gpus),
    ]
    if any(gpu["nvlinks"] and gpu["nvlinks"]["total"] for gpu in gpus):
        found += [_links(gpus), _link_errors(read)]
    if "diag" in read.asked:
        found.append(_diag(read))
    if "bus" in read.asked:
        found.append(_bus(read))
    return found


def _bad(gpus: Sequence[Mapping[str, Any]], say: Any) -> list[str]:  # noqa: ANN401 - a function
    return [f"GPU {gpu['index']}: {said}" for gpu in gpus if (said := say(gpu))]


def _finding(
    name: str, what: str, bad: Sequence[str], remedy: str, good: str = "all GPUs"
) -> Finding:
    return Finding(name, what, "; ".join(bad) or good, not bad, remedy if bad else "")


def _unread(name: str, what: str, read: Read, key: str) -> Finding:
    reason = read.faults.get(key, "no reason known")
    return Finding(name, what, f"could not be read: {reason}", False, "mend what keeps it unread")


def _present(facts: Mapping[str, Any]) -> Finding:
    bus, shown = len(facts["pci_gpus"]), len(facts["gpus"])
    what = "every GPU on the bus answers the driver"
    remedy = "look for XID 79 in journalctl -k, reboot the host; if one stays away it is broken"
    return Finding(
        "present", what, f"{bus} on the bus, {shown} in the driver", bus == shown > 0, remedy
    )


def _module(facts: Mapping[str, Any], read: Read) -> Finding:
    what = "the loaded driver is the one on disk"
    if read.module_version is None:
        return _unread("module", what, read, "module")
    same = read.module_version == facts["driver_version"]
    seen = f"loaded {facts['driver_version']}, on disk {read.module_version}"
    return Finding("module", what, seen, same, "" if same else "reboot the host")


def _fabric(facts: Mapping[str, Any], read: Read) -> Iterator[Finding]:
    manager = facts["fabric_manager"]
    if not manager["needed"]:
        return
    what = "the Fabric Manager runs at the driver's version"
    good = manager["active"] == "active" and manager["matches_driver"] is True
    seen = f"{manager['active'] or 'unknown'}, version {manager['version'] or 'unknown'}"
    remedy = "" if good else "read journalctl -u nvidia-fabricmanager; install the set whole"
    yield Finding("fabric_manager", what, seen, good, remedy)
    bad = _bad(facts["gpus"], _fabric_of)
    remedy = "restart nvidia-fabricmanager; if it stays so, reboot"
    yield _finding("fabric", "the fabric has taken every GPU in", bad, remedy)
    what = "the Fabric Manager reports no broken switch or link"
    if read.fabric_log is None:
        yield _unread("fabric_log", what, read, "fabric_log")
        return
    lines = [line for line in read.fabric_log.splitlines() if any(w in line for w in FABRIC_LOG)]
    remedy = "drain the host and open a case with the server's vendor"
    yield _finding("fabric_log", what, [line.strip()[:200] for line in lines[-3:]], remedy, "none")


def _fabric_of(gpu: Mapping[str, Any]) -> str:
    state, status = gpu["fabric"]["state"], gpu["fabric"]["status"]
    if state is None or (state, status) == ("Completed", "Success"):
        return ""
    return f"{state}, {status or 'no status'}"


def _memory(gpus: Sequence[Mapping[str, Any]]) -> Finding:
    bad = _bad(gpus, _memory_of)
    remedy = "a pending remap takes a reset of the GPU; a failed one is a case for the vendor"
    return _finding("memory", "memory without uncorrected errors and waiting repairs", bad, remedy)


def _memory_of(gpu: Mapping[str, Any]) -> str:
    ecc = gpu["ecc"]
    said = [f"{ecc['volatile_uncorrected']} uncorrected errors"] * bool(ecc["volatile_uncorrected"])
    said += ["row remap failed"] * bool(ecc["remap_failed"])
    said += ["row remap pending"] * bool(ecc["remap_pending"])
    return ", ".join(said)


def _recovery(gpus: Sequence[Mapping[str, Any]]) -> Finding:
    """Drivers before R570 do not tell; then the XIDs of this boot are all there is."""
    bad = _bad(
        gpus, lambda gpu: gpu["recovery_action"] not in (None, "None") and gpu["recovery_action"]
    )
    return _finding(
        "recovery", "the driver asks for no recovery", bad, "do what the driver asks for"
    )


def _xids(read: Read) -> Finding:
    what = "no XID of this boot asks for an action"
    if read.verdicts is None:
        return _unread("xid", what, read, "xid")
    bad = [
        f"{v.pci}: XID {v.because[-1].code} asks for {v.action.word}"
        for v in read.verdicts
        if v.action > Action.RESTART_APP and v.because
    ]
    bad += [
        f"{v.pci}: XID {', '.join(map(str, v.unknown))} is in no bucket"
        for v in read.verdicts
        if v.unknown
    ]
    mild = sum(1 for v in read.verdicts if v.action <= Action.RESTART_APP)
    remedy = "see docs/runbooks/gpu-health.md; a reboot begins a new count"
    return _finding("xid", what, bad, remedy, f"{mild} GPUs with XIDs of applications alone")


def _slowed(gpus: Sequence[Mapping[str, Any]]) -> Finding:
    bad = _bad(gpus, lambda gpu: ", ".join(r for r in gpu["slowed_by"] if r in SLOWED))
    remedy = "look after cooling and power of the server"
    return _finding("clocks", "no GPU is slowed down by heat or power", bad, remedy)


def _pcie(gpus: Sequence[Mapping[str, Any]]) -> Finding:
    def said(gpu: Mapping[str, Any]) -> str:
        width, most = gpu["pcie"]["width"], gpu["pcie"]["width_max"]
        return f"x{width} of x{most}" if width and most and width < most else ""

    remedy = "reseat the card or riser; a link that trained short stays slow"
    return _finding("pcie", "every PCIe link has its full width", _bad(gpus, said), remedy)


def _persistence(gpus: Sequence[Mapping[str, Any]]) -> Finding:
    bad = _bad(gpus, lambda gpu: gpu["persistence"] is False and "off")
    return _finding("persistence", "persistence is on", bad, "start nvidia-persistenced")


def _links(gpus: Sequence[Mapping[str, Any]]) -> Finding:
    def said(gpu: Mapping[str, Any]) -> str:
        links = gpu["nvlinks"]
        if not links:
            return "no links, others have some"
        return "" if links["active"] == links["total"] else f"{links['active']} of {links['total']}"

    remedy = "restart the Fabric Manager or reseat the bridge; then a case for the vendor"
    return _finding("nvlink", "every NVLink is up", _bad(gpus, said), remedy)


def _link_errors(read: Read) -> Finding:
    what = "NVLinks have no errors"
    if read.nvlink_errors is None:
        return _unread("nvlink_errors", what, read, "nvlink_errors")
    bad = []
    for gpu, counts in sorted(read.nvlink_errors.items()):
        wrong = {kind: counts.get(kind, 0) for kind in NVLINK_ERRORS if counts.get(kind, 0)}
        if counts.get("replay", 0) > REPLAYS_ALLOWED:
            wrong["replay"] = counts["replay"]
        if wrong:
            bad.append(f"GPU {gpu}: " + ", ".join(f"{kind} {n}" for kind, n in wrong.items()))
    return _finding(
        "nvlink_errors", what, bad, "watch them; rising counts are a case for the vendor"
    )


def _diag(read: Read) -> Finding:
    what = "the diagnosis of DCGM passes"
    if read.diag is None:
        return _unread("diag", what, read, "diag")
    count, failed = read.diag
    remedy = "drain the host, read dcgmi diag -r 1, then level 3 with engines stopped"
    return _finding("diag", what, [str(item) for item in failed[:5]], remedy, f"{count} results")


def _bus(read: Read) -> Finding:
    what = "an all-reduce over all GPUs is as fast as usual"
    if read.bus is None:
        return _unread("bus", what, read, "bus")
    seen = f"{read.bus.bus_gb_s:.1f} GB/s at {read.bus.size} bytes"
    if read.bus.wrong:
        remedy = "wrong sums: take the host out of service"
        return Finding("bus", what, f"{seen}, {read.bus.wrong} wrong values", False, remedy)
    if read.usual_bus_gb_s is None:
        remedy = "no usual figure is known for this host: state nccl_minimum_gb_s"
        return Finding("bus", what, seen, False, remedy)
    least = read.usual_bus_gb_s * (1 - BUS_SHORTFALL)
    good = read.bus.bus_gb_s >= least
    remedy = "" if good else "look at nvidia-smi topo -m, ACS and the NVLinks"
    return Finding("bus", what, f"{seen}, at least {least:.1f} wanted", good, remedy)
