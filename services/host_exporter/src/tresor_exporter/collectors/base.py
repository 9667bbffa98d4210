"""What a collector is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import Metric


class Collector(Protocol):
    """Reads one source at each scrape."""

    @property
    def name(self) -> str:
        """Label in ``tresor_exporter_collector_success``."""

    def collect(self) -> Iterator[Metric]:
        """Yield what is known; raise after that if the source fails.

        Raises:
            CollectorError, OSError: the source cannot be read.
        """
