"""Read how the GPUs of a host are joined: `nvidia-smi topo -m` and `nvidia-smi nvlink -s`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from .values import NvLinks, ReadingError, Topology

_GPU: Final = re.compile(r"GPU(\d+)")
_AFFINITY: Final = re.compile(r"\d+([-,]\d+)*")
_NVLINK: Final = re.compile(r"NV(\d+)")
_LINK_GPU: Final = re.compile(r"GPU (\d+):")
_LINK: Final = re.compile(r"\s+Link \d+: (?:(?P<speed>\d+(?:\.\d+)?) GB/s|<?inactive>?)\s*", re.I)


def parse_topology(text: str) -> Topology:
    """Return the matrix; raises ReadingError if there is none.

    Columns are told by the header, because NICs may stand between the GPUs and the affinity, and
    older drivers have fewer columns. The cells themselves hold no blanks, so any run of blanks or
    tabs parts them.
    """
    rows = [line for line in text.splitlines() if line.strip()]
    header = next(
        (line for line in rows if _GPU.match(line.split()[0]) and " X " not in line), None
    )
    if header is None:
        raise ReadingError("no header with GPU0 in the topology matrix")
    columns = [
        word
        for word in header.split()
        if _GPU.fullmatch(word) or re.fullmatch(r"NIC\d+|mlx\w+", word)
    ]
    gpus = [int(match[1]) for word in columns if (match := _GPU.fullmatch(word))]
    links: dict[tuple[int, int], str] = {}
    affinity: dict[int, str] = {}
    numa: dict[int, int] = {}
    for line in rows[rows.index(header) + 1 :]:
        first, *cells = line.split()
        match = _GPU.fullmatch(first)
        if match is None:
            continue
        row = int(match[1])
        if len(cells) < len(columns):
            raise ReadingError(f"row {first} has {len(cells)} cells, expected {len(columns)}")
        for column, word in zip(columns, cells, strict=False):
            other = _GPU.fullmatch(column)
            if other and int(other[1]) != row:
                links[row, int(other[1])] = word
        rest = cells[len(columns) :]
        if rest and _AFFINITY.fullmatch(rest[0]):
            affinity[row] = rest[0]
        if len(rest) > 1 and rest[1].isdigit():
            numa[row] = int(rest[1])
    missing = [gpu for gpu in gpus if any((gpu, o) not in links for o in gpus if o != gpu)]
    if missing:
        raise ReadingError(f"the topology matrix lacks rows of GPU {missing[0]}")
    return Topology(tuple(gpus), links, affinity, numa)


def nvlink_domains(topology: Topology) -> list[list[int]]:
    """Return groups of GPUs in which every pair has NVLink, the largest possible first.

    A model spread over GPUs talks from each to each, so a chain of links is not enough: the eight
    GPUs of a hybrid mesh are two domains of four. GPUs without NVLink are domains of one.
    """
    left = set(topology.gpus)
    domains: list[list[int]] = []
    while left:
        best: list[int] = []
        for start in sorted(left):
            group = [start]
            for other in sorted(left - {start}):
                if all(_linked(topology, other, member) for member in group):
                    group.append(other)
            if len(group) > len(best):
                best = group
        domains.append(sorted(best))
        left -= set(best)
    return sorted(domains)


def _linked(topology: Topology, one: int, other: int) -> bool:
    return all(
        _NVLINK.fullmatch(topology.links.get(pair, "")) for pair in ((one, other), (other, one))
    )


def parse_nvlink_status(text: str) -> Mapping[int, NvLinks]:
    """Return the links of each GPU by its index; a GPU without NVLink has none."""
    speeds: dict[int, list[float | None]] = {}
    current: list[float | None] | None = None
    for line in text.splitlines():
        gpu = _LINK_GPU.match(line)
        if gpu:
            current = speeds.setdefault(int(gpu[1]), [])
            continue
        link = _LINK.fullmatch(line)
        if link and current is not None:
            current.append(float(link["speed"]) if link["speed"] else None)
    return {index: _summary(found) for index, found in speeds.items()}


def _summary(found: Iterable[float | None]) -> NvLinks:
    speeds = list(found)
    active = tuple(speed for speed in speeds if speed is not None)
    return NvLinks(active=len(active), total=len(speeds), gb_per_s=active)
