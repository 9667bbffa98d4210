"""Whether the Fabric Manager runs, and whether it is the one of the loaded driver.

On hosts with NVSwitches CUDA has no device until the Fabric Manager of exactly the same version has
set the switches up. Hosts without NVSwitches need none.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final

from .commands import Runner
from .values import Fault

UNIT: Final = "nvidia-fabricmanager.service"
_VERSION: Final = re.compile(r"(\d+\.\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class FabricManager:
    """State of the service: systemd's word for it, its version, and how they fit this host."""

    needed: bool
    installed: bool
    active: str | None
    version: str | None
    matches_driver: bool | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for a machine-readable result."""
        return asdict(self)


def read_fabric_manager(
    run: Runner, *, needed: bool, driver_version: str | None
) -> tuple[FabricManager, list[Fault]]:
    """Ask systemd and the program itself."""
    faults: list[Fault] = []
    shown = run(("systemctl", "show", "--property=LoadState,ActiveState", UNIT))
    state: dict[str, str] = {}
    if shown.ok:
        state = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    else:
        faults.append(Fault(f"systemctl show {UNIT}", shown.problem))
    asked = run(("nv-fabricmanager", "--version"))
    version = None
    if asked.ok:
        match = _VERSION.search(asked.stdout)
        version = match[1] if match else None
        if version is None:
            faults.append(Fault("nv-fabricmanager --version", "no version in its output"))
    elif not asked.absent:
        faults.append(Fault("nv-fabricmanager --version", asked.problem))
    matches = version == driver_version if version and driver_version else None
    installed = version is not None or state.get("LoadState") == "loaded"
    return FabricManager(needed, installed, state.get("ActiveState"), version, matches), faults
