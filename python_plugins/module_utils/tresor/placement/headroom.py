"""Whether a site still serves every model when a GPU or a host is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .values import Misfit, Placed, Placement

LEVELS: Final = ("none", "gpu", "host")
_PLACE: Final = {"gpu": "GPU", "host": "host"}


@dataclass(frozen=True)
class Loss:
    """One thing that may break, and which instances go down with it."""

    what: str
    host: str
    gone: tuple[str, ...]


def losses(placement: Placement, level: str) -> Iterator[Loss]:
    """Yield each single loss of a level that takes an instance down."""
    for host in placement.hosts:
        here = placement.on(host)
        if level == "host" and here:
            yield Loss(f"host {host}", host, tuple(item.id for item in here))
        elif level == "gpu":
            for gpu in range(placement.hosts[host].gpus):
                gone = tuple(item.id for item in here if gpu in item.gpus)
                if gone:
                    yield Loss(f"GPU {gpu} of {host}", host, gone)


def check_headroom(
    placement: Placement, level: str, needed: Mapping[str, int] | None = None
) -> list[Misfit]:
    """Return a misfit for each model that a single loss would leave with too few instances.

    `needed` tells how many instances of a model the load asks for; one where it says nothing.
    """
    models: dict[str, list[Placed]] = {}
    for item in placement.placed:
        models.setdefault(item.wanted.model, []).append(item)
    found: dict[str, Misfit] = {}
    for loss in losses(placement, level):
        for model, items in models.items():
            least = (needed or {}).get(model, 1)
            left = sum(1 for item in items if item.id not in loss.gone)
            if model not in found and left < least:
                why = (
                    f"would have {left} of the {least} instances it needs without {loss.what}, and "
                    f"the service level says survive_loss_of: {level}"
                )
                remedy = f"place another instance on another {_PLACE[level]}"
                path = items[0].wanted.path
                found[model] = Misfit(model, loss.host, "headroom", why, remedy, path)
    return list(found.values())
