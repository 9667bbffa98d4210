"""What the kernel itself tells about NVIDIA devices: PCI addresses and the loaded module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .values import Fault

_NVIDIA: Final = "0x10de"
_DISPLAY_CLASSES: Final = ("0x0300", "0x0302")
"""VGA controller and 3D controller; NVSwitches and audio functions have others."""
_NVSWITCH_CLASS: Final = "0x0680"
_VERSION: Final = re.compile(r"\d+(?:\.\d+){1,2}")


@dataclass(frozen=True)
class PciDevice:
    """One NVIDIA device on the bus."""

    address: str
    device_id: str
    numa_node: int | None


@dataclass(frozen=True)
class KernelView:
    """GPUs and NVSwitches on the bus, and the version of the loaded driver module, if any."""

    gpus: tuple[PciDevice, ...]
    nvswitches: int
    module_version: str | None
    faults: tuple[Fault, ...]


def read_kernel(sys_dir: Path) -> KernelView:
    """Read below `/sys`; a device that cannot be read is named as a fault."""
    gpus: list[PciDevice] = []
    faults: list[Fault] = []
    switches = 0
    folder = sys_dir / "bus/pci/devices"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            if _text(path / "vendor") != _NVIDIA:
                continue
            kind = _text(path / "class")[:6]
            if kind in _DISPLAY_CLASSES:
                gpus.append(PciDevice(path.name, _text(path / "device"), _numa(path)))
            elif kind == _NVSWITCH_CLASS:
                switches += 1
        except OSError as error:
            faults.append(Fault(str(path), error.strerror or type(error).__name__))
    return KernelView(tuple(gpus), switches, _module_version(sys_dir), tuple(faults))


def _module_version(sys_dir: Path) -> str | None:
    try:
        match = _VERSION.fullmatch(_text(sys_dir / "module/nvidia/version"))
    except OSError:
        return None
    return match[0] if match else None


def _numa(path: Path) -> int | None:
    """Return the NUMA node; the kernel writes -1 where the firmware names none."""
    try:
        node = int(_text(path / "numa_node"))
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()
