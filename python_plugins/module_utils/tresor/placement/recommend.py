"""The fewest equal servers that carry what a site wants, for comparing kinds of servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..sizing.gpu import find
from .headroom import check_headroom
from .pack import place
from .values import Hardware, Misfit, Placement, Predict, Wanted

MOST_HOSTS: Final = 64


@dataclass(frozen=True)
class Recommended:
    """A number of servers and what runs on them; with misfits if no number was enough."""

    hosts: int
    placement: Placement

    @property
    def gpus(self) -> int:
        """Return the GPUs of all servers."""
        return sum(hardware.gpus for hardware in self.placement.hosts.values())

    @property
    def gpu_power_w(self) -> float:
        """Return the limits of all GPU boards together."""
        return sum(
            hardware.gpus * (hardware.gpu_power_w or 0.0)
            for hardware in self.placement.hosts.values()
        )


def server_of(gpu: str, gpus: int) -> Hardware:
    """Return a server with a number of one card, joined as the catalogue says."""
    card = find(gpu)
    return Hardware(
        gpu=card.name,
        gpus=gpus,
        nvlink_domain=min(card.nvlink_domain, gpus),
        gpu_power_w=card.power_w,
    )


def spared(needed: int, survive: str) -> int:
    """Return how many instances leave `needed` after the loss.

    A lost GPU takes one instance down; a lost host all of its own, which are half of them at most
    because they stand in pairs on two hosts.
    """
    return {"none": needed, "gpu": needed + 1, "host": 2 * needed}[survive]


def recommend(
    wanted: Sequence[Wanted],
    instances: Mapping[str, int],
    server: Hardware,
    predict: Predict,
    survive: str,
) -> Recommended:
    """Return the fewest servers found that run `instances` of each model and survive the loss.

    Each number of servers is packed both ways, tightly and spread out. GPUs that the site names are
    chosen anew, and so are the GPUs per layer of what has no `tensor`.
    """
    models = {entry.model: entry for entry in wanted if entry.device == "cuda"}
    spread = 2 if survive == "host" else 1
    best = Recommended(0, Placement({}))
    least = spared(1, survive)
    for count in range(spread, MOST_HOSTS + 1):
        hosts = {f"server{number}": server for number in range(1, count + 1)}
        entries = [
            part
            for model, entry in models.items()
            for part in _parts(entry, max(instances.get(model, 1), least), spread, tuple(hosts))
        ]
        for spread_out in (False, True):
            placement = place(hosts, entries, predict, spread=spread_out)
            misfits: list[Misfit] = list(placement.misfits) or check_headroom(placement, survive)
            best = Recommended(count, replace(placement, misfits=tuple(misfits)))
            if not misfits or not any(misfit.kind in _CURED for misfit in misfits):
                return best
    return best


_CURED: Final = ("no_room", "headroom", "shared_gpu")
"""What more servers of the same kind can cure; a model that fits none of them stays a misfit."""


def _parts(entry: Wanted, count: int, spread: int, hosts: tuple[str, ...]) -> list[Wanted]:
    """Return entries that place `count` instances, each entry on up to `spread` hosts."""
    parts: list[Wanted] = []
    if entry.nodes > 1:
        return [_spanning(entry, number, hosts) for number in range(count)]
    while count > 0:
        replicas = min(spread, count, len(hosts))
        name = f"{entry.model}-{len(parts) + 1}"
        parts.append(replace(entry, name=name, hosts=hosts, gpus=None, replicas=replicas))
        count -= replicas
    return parts


def _spanning(entry: Wanted, number: int, hosts: tuple[str, ...]) -> Wanted:
    """Return one instance over several hosts, beside those before it as long as hosts last."""
    span = min(entry.nodes, len(hosts))
    chosen = tuple(hosts[(number * span + rank) % len(hosts)] for rank in range(span))
    return replace(entry, name=f"{entry.model}-{number + 1}", hosts=chosen, gpus=None)
