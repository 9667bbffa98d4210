"""What the collectors that count over a log have in common."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from tresor_exporter.errors import CollectorError
from tresor_exporter.tally import Tally


class LogCollector(ABC):
    """Shows ``tresor_<name>_*`` from the counts that ``tally`` makes of a log."""

    name: str

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def begin(self) -> None:
        """Take up the log now, so that the first scrape counts from the start of the service."""
        # A log that cannot be read is the first scrape's to tell.
        with contextlib.suppress(CollectorError):
            self._tally.update()

    def collect(self) -> Iterator[Metric]:
        """Read on and yield the counters, also when there was nothing to read."""
        try:
            self._tally.update()
        finally:
            # What is known stays visible while the log cannot be read.
            yield from self.families()
            yield CounterMetricFamily(
                f"tresor_{self.name}_log_lines_rejected",
                "Lines of the log that make no sense",
                value=self._tally.rejected,
            )

    @abstractmethod
    def families(self) -> Iterator[Metric]:
        """Yield what was counted."""
