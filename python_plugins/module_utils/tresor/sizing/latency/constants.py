"""What a card and an engine reach of the vendor's figures, as a few fitted numbers.

Each quantity is a base value times factors for the engine, the card's architecture, the arithmetic
and the measurement protocol. A factor that was never fitted is 1, so an unseen card or engine gets
the value the others agree on. ``docs/tools/latency_fit`` fits them; :mod:`fitted` holds the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Nothing reaches more than this of a vendor's figure; it keeps every answer below the roofline.
CEILING: Final = 0.95


@dataclass(frozen=True)
class Constants:
    """Logarithms of bases (``bandwidth``) and factors (``bandwidth/hopper``).

    Quantities:

    - ``bandwidth``: share of the memory bandwidth that reading weights reaches; ``cache`` likewise
      for keys and values.
    - ``compute``: share of the dense arithmetic that large matrix products reach; ``attention``
      likewise for attention in prefill (of the 16-bit figure).
    - ``step_us``: microseconds of the CPU per step, whatever is in it (scheduling, launching the
      graph, collecting the tokens); engines that prepare the next step meanwhile hide them.
    - ``layer_us``: microseconds per layer and step that no size explains (launches, small kernels).
    - ``sequence_us``: microseconds per sequence and step (scheduling, sampling, detokenizing).
    - ``request_us``: microseconds per request (tokenizing, HTTP, first scheduling).
    - ``link_us``: microseconds per layer and step that tensor parallelism adds (two all-reduces).
    - ``link``: share of the link's bandwidth that collectives reach.
    - ``expert``: factor on the speed of grouped expert products against dense ones, beside the
      half-empty tiles that :mod:`step` counts; ``expert_unpack`` another where their weights are
      unpacked to 16 bit; ``expert_read`` likewise for reading their weights.
    - ``expert_us``: microseconds per expert layer and step (routing, sorting, gathering).
    - ``activations``: how often the inputs and outputs of products pass through memory.
    - ``vector``: instructions outside of the matrix units for each 16-bit element that enters or
      leaves a product.
    - ``balance``: share of the step that the mean rank is busy when data-parallel ranks share
      experts and wait for each other.
    - ``occupancy``: share of the fullest steady state's rate that a service with Poisson arrivals
      keeps up within its limits.
    """

    logs: Mapping[str, float]

    def value(self, quantity: str, *factors: str) -> float:
        """Return a quantity for the given factors (engine, architecture, arithmetic, ...)."""
        total = self.logs[quantity]
        for factor in factors:
            total += self.logs.get(f"{quantity}/{factor}", 0.0)
        return math.exp(total)

    def share(self, quantity: str, *factors: str) -> float:
        """Return a quantity that is a share of a ceiling, at most :data:`CEILING`."""
        return min(CEILING, self.value(quantity, *factors))
