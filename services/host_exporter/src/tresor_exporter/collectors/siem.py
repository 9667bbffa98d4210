"""The log forwarder: what its reader reports of the spool, and rsyslog's queue (impstats)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tresor_exporter.errors import CollectorError
from tresor_exporter.schema import Siem

_TAIL_BYTES: Final = 256 * 1024
_REPORT_BYTES: Final = 256 * 1024
_MAX_SOURCES: Final = 32
_SOURCE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_RECORD_BYTES: Final = 1024
"""How large a record is assumed to be while none waits whose size could be seen."""


def parse_stats(tail: bytes) -> dict[str, dict[str, Any]]:
    """Return the newest statistics of each queue; lines may have a time before the JSON.

    Never raises.
    """
    newest: dict[str, dict[str, Any]] = {}
    for line in tail.split(b"\n"):
        start = line.find(b"{")
        if start < 0:
            continue
        try:
            data = json.loads(line[start:])
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict) and data.get("origin") == "core.queue":
            newest[str(data.get("name"))] = data
    return newest


class SiemCollector:
    """``tresor_siem_*``."""

    name = "siem"

    def __init__(self, config: Siem) -> None:
        self._config = config
        # The reader empties rsyslog's file now and then; what was said before still holds.
        self._stats: dict[str, dict[str, Any]] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield what reader and rsyslog said last."""
        report = _report(self._config.report)
        raw, written = _tail(self._config.stats)
        self._stats.update(parse_stats(raw))
        yield _gauge(
            "stats_timestamp_seconds",
            "When reader and rsyslog last told how they are, the older of both",
            min(written, _number(report, "time")),
        )
        yield _gauge(
            "checkpoint_timestamp_seconds",
            "All records until then were acknowledged by the receiver",
            _number(report, "covered_until"),
        )
        yield _gauge(
            "suspended",
            "1 while there is no connection to the receiver",
            int(report.get("connected") is not True),
        )
        yield _gauge(
            "sources_waiting",
            "1 while sources wait because the spool has no room",
            int(bool(report.get("blocked"))),
        )
        yield _submitted(report)
        yield CounterMetricFamily(
            "tresor_siem_forwarded",
            "Records that the receiver acknowledged",
            value=_number(report, "proven_records"),
        )
        yield from self._queues(report)

    def _queues(self, report: Mapping[str, Any]) -> Iterator[Metric]:
        records = _queue_gauge("queue_records", "Records that wait")
        capacity = _queue_gauge("queue_capacity_records", "Records that have room")
        discarded = CounterMetricFamily("tresor_siem_discarded", "Records lost", labels=["queue"])
        waiting = _number(report, "unproven_records")
        used, limit = _number(report, "spool_bytes"), _number(report, "spool_limit_bytes")
        records.add_metric(["spool"], waiting)
        capacity.add_metric(["spool"], spool_capacity(waiting, used, limit))
        discarded.add_metric(["journal"], _number(report, "lost_journal_entries"))
        wire = self._stats.get(self._config.queue)
        if wire is not None:
            records.add_metric(["wire"], _number(wire, "size"))
            capacity.add_metric(["wire"], self._config.queue_capacity)
            lost = _number(wire, "discarded.full") + _number(wire, "discarded.nf")
            discarded.add_metric(["wire"], lost)
        yield from (records, capacity, discarded)
        if wire is None:
            known = ", ".join(sorted(self._stats)) or "none"
            raise CollectorError(
                f"{self._config.stats}: no statistics of the queue {self._config.queue!r}; "
                f"there are: {known}"
            )


def spool_capacity(waiting: float, used: float, limit: float) -> float:
    """Return how many records fit; the spool is bounded in bytes, so by the size of those there."""
    if waiting > 0 and used > 0:
        return max(round(waiting * limit / used), 1)
    return max(limit // _RECORD_BYTES, 1)


def _submitted(report: Mapping[str, Any]) -> Metric:
    family = CounterMetricFamily("tresor_siem_submitted", "Records taken in", labels=["source"])
    sources = report.get("submitted")
    if not isinstance(sources, dict) or len(sources) > _MAX_SOURCES:
        raise CollectorError(f"the reader's report has {sources!r:.80} as submitted")
    for name in sources:
        if not _SOURCE.fullmatch(name):
            raise CollectorError(f"the reader's report names a source {name!r:.80}")
        family.add_metric([name], _number(sources, name))
    return family


def _report(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_REPORT_BYTES)
    except OSError as error:
        raise CollectorError(
            f"{path}: {error.strerror}; does tresor-siem-reader.service run, "
            "and may this user read it?"
        ) from error
    try:
        data = json.loads(raw)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise CollectorError(f"{path}: is no report of the reader")
    return data


def _tail(path: Path) -> tuple[bytes, float]:
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            stream.seek(max(status.st_size - _TAIL_BYTES, 0))
            return stream.read(_TAIL_BYTES), status.st_mtime
    except OSError as error:
        raise CollectorError(
            f"{path}: {error.strerror}; does tresor-siem.service run, and may this user read it?"
        ) from error


def _number(entry: Mapping[str, Any], key: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
        raise CollectorError(f"the forwarder says {value!r:.80} as {key}")
    return value


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"tresor_siem_{name}", text, value=value)


def _queue_gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tresor_siem_{name}", text, labels=["queue"])
