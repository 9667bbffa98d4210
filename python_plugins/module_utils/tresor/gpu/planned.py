"""What the plan says of a host's GPUs, and of the engines on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class PlanReadingError(Exception):
    """The plan's words about GPUs cannot be read: says which key, and what was seen."""


@dataclass(frozen=True)
class PlannedEngine:
    """One engine: the indexes of its GPUs, and over how many of them each layer is spread."""

    id: str
    gpus: tuple[int, ...]
    tensor: int


@dataclass(frozen=True)
class PlannedGpus:
    """The GPUs of a host: card of the catalogue, count, NVLink domains, GiB of each.

    `total_gib` is what a CUDA program sees of one GPU, because the placement counted with it.
    """

    card: str
    count: int
    domains: tuple[tuple[int, ...], ...]
    total_gib: float
    engines: tuple[PlannedEngine, ...] = ()

    def engines_on(self, gpus: Sequence[int]) -> tuple[PlannedEngine, ...]:
        """Return the engines that use one of these GPUs."""
        return tuple(engine for engine in self.engines if set(engine.gpus) & set(gpus))


def read_planned(gpus: Mapping[str, Any], sizing: Mapping[str, Any]) -> PlannedGpus:
    """Read `hosts.<name>.gpus` of the plan and its `sizing.instances`; raises PlanReadingError.

    `sizing` holds the host's own instances by id; those on the CPU name no GPU and are left out.
    """
    try:
        engines = tuple(
            PlannedEngine(name, tuple(entry["gpus"]), int(entry["tensor_parallel_size"]))
            for name, entry in sorted(sizing.items())
            if entry["gpus"]
        )
        return PlannedGpus(
            card=str(gpus["card"]),
            count=int(gpus["count"]),
            domains=tuple(tuple(int(gpu) for gpu in domain) for domain in gpus["domains"]),
            total_gib=float(gpus["total_gib"]),
            engines=engines,
        )
    except KeyError as error:
        raise PlanReadingError(
            f"the plan's GPUs lack {error}: run the plan stage of this release (tresor plan)"
        ) from None
    except (TypeError, ValueError) as error:
        raise PlanReadingError(
            f"the plan's GPUs cannot be read ({error}): run the plan stage (tresor plan)"
        ) from None
