"""The newest full verification of the site, from its evidence report."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from tresor_exporter.errors import CollectorError
from tresor_exporter.schema import Verify

_MAX_BYTES: Final = 64 << 20


class VerifyCollector:
    """``tresor_verify_*``. The report is read again only when another one takes its place."""

    name = "verify"

    def __init__(self, config: Verify) -> None:
        self._path = config.evidence
        self._known: tuple[tuple[int, int, int], float, int] | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield time and failures; the time is 0 as long as the site was never verified."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            yield _finished(0)
            return
        except OSError as error:
            raise CollectorError(f"{self._path}: {error.strerror}") from error
        identity = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._known is None or self._known[0] != identity:
            self._known = (identity, *self._read(status.st_size))
        _, finished, failed = self._known
        yield _finished(finished)
        yield GaugeMetricFamily(
            "tresor_verify_failed_checks", "Checks that failed in it", value=failed
        )

    def _read(self, size: int) -> tuple[float, int]:
        if size > _MAX_BYTES:
            raise CollectorError(f"{self._path}: {size} bytes, larger than any report")
        try:
            report = json.loads(self._path.read_bytes())
            finished = dt.datetime.strptime(report["finished"], "%Y-%m-%dT%H:%M:%S%z")
            return finished.timestamp(), int(report["totals"]["failed"])
        except OSError as error:
            raise CollectorError(f"{self._path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CollectorError(f"{self._path}: is no evidence report: {error!r}") from error


def _finished(seconds: float) -> Metric:
    return GaugeMetricFamily(
        "tresor_verify_finished_timestamp_seconds",
        "End of the newest full verification, 0 if there was none",
        value=seconds,
    )
