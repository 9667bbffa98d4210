"""Money, only from the site's own list: Tresor knows no price.

tresor_prices:
  currency: EUR
  source: offer 4711 of 2026-11-02
  servers:
    - {gpu: H100 SXM 80GB, gpus: 8, price: 250000}
  kwh: 0.24
  rack_unit_month: 60
  years: 4
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..sizing.gpu import UnknownGpuError, find

HOURS_PER_MONTH: Final = 730.0
MONTHS_PER_YEAR: Final = 12


class PriceError(Exception):
    """The list of prices cannot be used; says which entry and why."""


@dataclass(frozen=True)
class Prices:
    """A site's prices: servers by card and number of cards, and what running them costs."""

    currency: str
    source: str
    servers: Mapping[tuple[str, int], float]
    kwh: float | None
    rack_unit_month: float | None
    years: float

    def cost(
        self, gpu: str, gpus: int, servers: int, power_w: float, rack_units: float | None
    ) -> dict[str, Any]:
        """Return what is known of the cost; a missing price is null and makes the sum null.

        Power is counted as if every GPU ran at its limit all the time, so it is an upper bound.
        """
        price = self.servers.get((gpu, gpus))
        months = self.years * MONTHS_PER_YEAR
        purchase = None if price is None else price * servers
        energy = None if self.kwh is None else power_w / 1000 * HOURS_PER_MONTH * months * self.kwh
        space = (
            None
            if self.rack_unit_month is None or rack_units is None
            else rack_units * self.rack_unit_month * months
        )
        parts = {"servers": purchase, "gpu_energy_at_limit": energy, "rack_space": space}
        stated = [value for value in parts.values() if value is not None]
        return {
            "currency": self.currency,
            "years": self.years,
            **{name: None if v is None else round(v, 2) for name, v in parts.items()},
            "sum_of_known": round(sum(stated), 2),
            "complete": len(stated) == len(parts),
        }


def prices_of(data: Mapping[str, Any]) -> Prices:
    """Return the prices of a list whose schema holds; raises PriceError for an unknown card."""
    servers: dict[tuple[str, int], float] = {}
    for index, entry in enumerate(data["servers"]):
        try:
            card = find(entry["gpu"]).name
        except UnknownGpuError as error:
            raise PriceError(f"tresor_prices.servers[{index}].gpu: {error}") from None
        if (card, entry["gpus"]) in servers:
            raise PriceError(f"tresor_prices.servers[{index}]: {entry['gpus']} x {card} twice")
        servers[card, entry["gpus"]] = float(entry["price"])
    return Prices(
        currency=data["currency"],
        source=data["source"],
        servers=servers,
        kwh=data.get("kwh"),
        rack_unit_month=data.get("rack_unit_month"),
        years=float(data["years"]),
    )
