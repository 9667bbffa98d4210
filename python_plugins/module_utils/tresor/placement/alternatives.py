"""Other ways to serve the same models, side by side: cards, checkpoints, routing.

Every alternative is built the same way, from as few equal servers as carry it, the present hardware
too; so the rows compare. Costs are drivers (GPUs, W, rack units, GPU hours), and money only where
the site gave a list of prices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from ..sizing.slo import Load, Promise
from .load import Carried, ServiceModel, carried, loads_of
from .predict import engine_keys
from .prices import HOURS_PER_MONTH, Prices
from .recommend import Recommended, recommend, server_of, spared
from .site import Capacity
from .values import Hardware, Predict, Wanted

USUAL_SERVER: Final = ("H100 SXM 80GB", 8)
"""What is compared with where the site has no hosts yet."""


@dataclass(frozen=True)
class Alternative:
    """One row of the comparison."""

    name: str
    description: str
    fits: bool
    why: str
    gpu: str
    servers: int
    gpus: int
    gpus_used: int
    gpu_power_w: float
    rack_units: float | None
    gpu_hours_per_month: float
    users: Mapping[str, int]
    cost: Mapping[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for the report."""
        return {**asdict(self), "users": dict(self.users)}


@dataclass(frozen=True)
class Layout:
    """GPUs for each layer of a model, and the users that one such engine carries."""

    tensor: int
    carried: Carried

    def gpus(self, users: int, pipeline: int) -> int:
        """Return the GPUs that a number of users needs."""
        return self.tensor * pipeline * math.ceil(users / self.carried.users)


@dataclass(frozen=True)
class Solved:
    """A number of servers, the layout of each loaded model, and what is missed."""

    found: Recommended
    users: Mapping[str, Layout]
    reasons: tuple[str, ...]


class Comparer:
    """Builds the rows for one site."""

    def __init__(
        self,
        capacity: Capacity,
        planning: Mapping[str, Any],
        promise: Promise,
        service: ServiceModel,
        prices: Prices | None,
    ) -> None:
        """Take the site, its load and its service level."""
        self.capacity = capacity
        self.planning = planning
        self.promise = promise
        self.service = service
        self.prices = prices
        self.loads = loads_of(planning)
        present = [h for h in capacity.placement.hosts.values() if h.gpu is not None]
        self.present = max(present, key=lambda h: h.gpus) if present else None

    def rows(self) -> list[Alternative]:
        """Return the present kind of server first, then every alternative that was asked for."""
        wanted = [entry for entry in self.capacity.wanted if entry.device == "cuda"]
        if not wanted or self.present is None:
            return []
        gpus = self.present.gpus
        rows = [self._row("present", "the models of the site on the fewest of its servers", wanted)]
        asked = self.planning.get("alternatives", {})
        for name in asked.get("gpus", ()):
            rows.append(
                self._row(
                    f"card {name}", f"{gpus} x {name} in each server", wanted, server_of(name, gpus)
                )
            )
        for other in asked.get("models", ()):
            rows.append(self._other_model(wanted, other))
        for route in asked.get("routing", ()):
            rows.append(self._routed(wanted, route))
        return rows

    def solve(
        self, wanted: Sequence[Wanted], server: Hardware, loads: Mapping[str, Load]
    ) -> Solved:
        """Return the fewest servers of a kind that carry the loads."""
        users = self._users(wanted, server, loads)
        instances, reasons = self._instances(wanted, loads, users)
        sized = [
            replace(entry, tensor=users[entry.model].tensor if entry.model in users else None)
            for entry in wanted
        ]
        found = recommend(sized, instances, server, self.capacity.predict, self.capacity.survive)
        return Solved(found, users, tuple(reasons))

    def _other_model(self, wanted: Sequence[Wanted], other: Mapping[str, Any]) -> Alternative:
        method = None if other["quantization"] == "none" else other["quantization"]
        known = other["architecture"]
        name = known if isinstance(known, str) else "a model of the site"
        changed = [
            replace(entry, architecture=known, quantization=method, tensor=None)
            if entry.model == other["instead_of"]
            else entry
            for entry in wanted
        ]
        what = f"{name} ({other['quantization']}) instead of {other['instead_of']}"
        return self._row(f"model {what}", what, changed)

    def _routed(self, wanted: Sequence[Wanted], route: Mapping[str, Any]) -> Alternative:
        share = route["share_percent"] / 100
        what = f"{route['share_percent']} % of the requests of {route['from']} go to {route['to']}"
        loads = dict(self.loads)
        origin = loads.get(route["from"])
        if origin is None:
            reason = f"planning.load says nothing of {route['from']}, so nothing can be moved"
            return self._refused(f"routing {route['from']}", what, reason)
        moved = math.ceil(origin.users * share)
        loads[route["from"]] = replace(origin, users=max(1, origin.users - moved))
        target = loads.get(route["to"], replace(origin, users=0))
        loads[route["to"]] = _joined(target, replace(origin, users=moved))
        return self._row(f"routing {route['from']}", what, wanted, loads=loads)

    def _row(
        self,
        name: str,
        description: str,
        wanted: Sequence[Wanted],
        server: Hardware | None = None,
        loads: Mapping[str, Load] | None = None,
    ) -> Alternative:
        server = server or self.present or server_of(*USUAL_SERVER)
        solved = self.solve(wanted, server, self.loads if loads is None else loads)
        found, users = solved.found, solved.users
        reasons = [*solved.reasons, *(f"{m.model}: {m.why}" for m in found.placement.misfits)]
        used = sum(len(item.gpus) * len(item.hosts) for item in found.placement.placed)
        units = None if server.rack_units is None else server.rack_units * found.hosts
        return Alternative(
            name=name,
            description=description,
            fits=not reasons,
            why="; ".join(reasons),
            gpu=server.gpu or "",
            servers=found.hosts,
            gpus=found.gpus,
            gpus_used=used,
            gpu_power_w=found.gpu_power_w,
            rack_units=units,
            gpu_hours_per_month=round(found.gpus * HOURS_PER_MONTH, 1),
            users={model: one.carried.users for model, one in users.items()},
            cost=self._cost(server, found, units),
        )

    def _users(
        self, wanted: Sequence[Wanted], server: Hardware, loads: Mapping[str, Load]
    ) -> dict[str, Layout]:
        """Return for each loaded model the GPUs per layer that need the fewest GPUs in all.

        More GPUs per layer answer faster, so that one engine carries more users; the smallest
        layout that fits is not always the cheapest, nor always fast enough.
        """
        found: dict[str, Layout] = {}
        for entry in wanted:
            load = loads.get(entry.model)
            if load is None or entry.model in found:
                continue
            tried = [
                Layout(tensor, carried(keys, load, self.promise, self.service))
                for tensor in fitting(entry, server, self.capacity.predict)
                for keys in (engine_keys(entry, server, tensor, self.capacity.vllm_version),)
            ]
            able = [one for one in tried if one.carried.users]
            if able:
                found[entry.model] = min(able, key=lambda one: one.gpus(load.users, entry.pipeline))
            elif tried:
                found[entry.model] = tried[-1]
        return found

    def _instances(
        self,
        wanted: Sequence[Wanted],
        loads: Mapping[str, Load],
        users: Mapping[str, Layout],
    ) -> tuple[dict[str, int], list[str]]:
        """Return how many instances the load asks for; without a load, as many as the site has."""
        placed = self.capacity.placement.placed
        instances: dict[str, int] = {}
        reasons: list[str] = []
        for entry in wanted:
            one, load = users.get(entry.model), loads.get(entry.model)
            if one is None or load is None:
                present = sum(1 for item in placed if item.wanted.model == entry.model)
                instances[entry.model] = present or _asked(wanted, entry.model)
            elif one.carried.users == 0:
                instances[entry.model] = 1
                why = f"even on {one.tensor} GPUs per layer {one.carried.why}"
                reasons.append(f"{entry.model}: the service level is not reachable: {why}")
            else:
                needed = math.ceil(load.users / one.carried.users)
                instances[entry.model] = spared(needed, self.capacity.survive)
        return instances, list(dict.fromkeys(reasons))

    def _cost(
        self, server: Hardware, found: Recommended, units: float | None
    ) -> dict[str, Any] | None:
        if self.prices is None or server.gpu is None:
            return None
        return self.prices.cost(server.gpu, server.gpus, found.hosts, found.gpu_power_w, units)

    def _refused(self, name: str, description: str, why: str) -> Alternative:
        gpu = self.present.gpu if self.present else None
        return Alternative(
            name=name,
            description=description,
            fits=False,
            why=why,
            gpu=gpu or "",
            servers=0,
            gpus=0,
            gpus_used=0,
            gpu_power_w=0.0,
            rack_units=None,
            gpu_hours_per_month=0.0,
            users={},
            cost=None,
        )


def _joined(one: Load, other: Load) -> Load:
    """Return both loads together, with the longer requests of the two: a cautious reading."""
    return Load(
        users=one.users + other.users,
        input_tokens=max(one.input_tokens, other.input_tokens),
        output_tokens=max(one.output_tokens, other.output_tokens),
        input_tokens_p95=max(one.input_tokens_p95, other.input_tokens_p95),
        output_tokens_p95=max(one.output_tokens_p95, other.output_tokens_p95),
        cached_tokens=max(one.cached_tokens, other.cached_tokens),
        think_seconds=min(one.think_seconds, other.think_seconds),
    )


def _asked(wanted: Sequence[Wanted], model: str) -> int:
    """Return how many instances of a model the catalogue asks for."""
    return max(1, sum(entry.instances for entry in wanted if entry.model == model))


def fitting(entry: Wanted, server: Hardware, predict: Predict) -> list[int]:
    """Return the powers of two of GPUs per layer with which a model fits on a server."""
    gpus = server.gpus * entry.nodes
    sizes = [1 << power for power in range(gpus.bit_length())]
    return [
        size
        for size in sizes
        if size * entry.pipeline <= gpus
        and size * entry.pipeline % entry.nodes == 0
        and predict(entry, server, size, None).fits
    ]
