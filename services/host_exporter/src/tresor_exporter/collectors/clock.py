"""The clock as chrony sees it.

The exporter may not speak to chronyd: whoever may, may also set the clock. A socket unit starts
``chronyc -c tracking`` under chrony's own user for each connection and hands over what it prints.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from tresor_exporter.errors import CollectorError
from tresor_exporter.schema import Clock

_TIMEOUT_SECONDS: Final = 5.0
_MAX_BYTES: Final = 4096
_KEEP_SECONDS: Final = 25.0
_FIELDS: Final = 14


@dataclass(frozen=True)
class Tracking:
    """``offset`` in seconds, positive if the clock is fast; ``reference`` in Unix seconds."""

    offset: float
    reference: float
    leap: str


def parse_tracking(text: str) -> Tracking:
    """Return what one line of ``chronyc -c tracking`` says.

    Raises:
        CollectorError: it is something else.
    """
    fields = text.strip().split(",")
    try:
        if len(fields) != _FIELDS:
            raise ValueError(f"{len(fields)} fields")
        # chronyc gives the correction: positive means that the clock is slow.
        return Tracking(-float(fields[4]), float(fields[3]), fields[13])
    except ValueError as error:
        shown = text.strip()[:80]
        raise CollectorError(f"chronyc said {shown!r} ({error}); does chronyd run?") from error


class ClockCollector:
    """``tresor_clock_*``."""

    name = "clock"

    def __init__(
        self,
        config: Clock,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._monotonic = monotonic
        self._now = now
        self._known: tuple[float, Tracking] | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield offset and whether it can be believed; chrony is asked at most every 25 s."""
        at = self._monotonic()
        if self._known is None or at - self._known[0] >= _KEEP_SECONDS:
            self._known = None
            self._known = (at, parse_tracking(self._ask()))
        tracking = self._known[1]
        age = self._now() - tracking.reference
        synchronised = tracking.leap != "Not synchronised" and age <= self._config.max_age_seconds
        yield GaugeMetricFamily(
            "tresor_clock_offset_seconds",
            "Estimated error of the clock, positive if it is fast",
            value=tracking.offset,
        )
        yield GaugeMetricFamily(
            "tresor_clock_synchronised",
            "1 while chrony has heard from a time server lately",
            value=int(synchronised),
        )

    def _ask(self) -> str:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_TIMEOUT_SECONDS)
                connection.connect(str(self._config.socket))
                answer = b""
                while len(answer) <= _MAX_BYTES and (part := connection.recv(_MAX_BYTES)):
                    answer += part
        except OSError as error:
            raise CollectorError(f"{self._config.socket}: {error}") from error
        return answer.decode("ascii", "replace")
