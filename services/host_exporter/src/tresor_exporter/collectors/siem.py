"""The log forwarder's queues, from rsyslog's impstats file (JSON lines)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tresor_exporter.errors import CollectorError
from tresor_exporter.schema import Siem
from tresor_exporter.state import StateFile

_TAIL_BYTES: Final = 256 * 1024
Stats = Mapping[str, Mapping[str, Any]]


def parse_stats(tail: bytes) -> dict[str, dict[str, Any]]:
    """Return the newest statistics by name; lines may have a time before the JSON. Never raises."""
    newest: dict[str, dict[str, Any]] = {}
    for line in tail.split(b"\n"):
        start = line.find(b"{")
        if start < 0:
            continue
        try:
            data = json.loads(line[start:])
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict) and isinstance(data.get("name"), str):
            newest[data["name"]] = data
    return newest


class Forwarded:
    """Counts what left the host.

    rsyslog counts a record as processed when it enters the action's queue, so what was delivered
    is what entered less what still waits and what was thrown away; and its own counters begin
    again at each start while the queue on disk stays.
    """

    def __init__(self) -> None:
        self.total = 0
        self._processed: int | None = None
        self._held = 0

    def update(self, processed: int, waiting: int, discarded: int) -> None:
        """Take the newest readings; all counts of records since rsyslog's start."""
        known = self._processed
        if known is None:
            self.total = max(processed - waiting - discarded, 0)
        elif processed >= known:
            self.total += max(processed - known - (waiting + discarded - self._held), 0)
        else:  # rsyslog began again; what waited before waits still, what it threw away is history
            self.total += max(processed - waiting - discarded + self._held, 0)
        self._processed, self._held = processed, waiting + discarded

    def dump(self) -> dict[str, Any]:
        """Return the state for JSON."""
        return {"total": self.total, "processed": self._processed, "held": self._held}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take over what ``dump`` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        processed = data["processed"]
        total, held = int(data["total"]), int(data["held"])
        self._processed = None if processed is None else int(processed)
        self.total, self._held = total, held


class SiemCollector:
    """``tresor_siem_*``."""

    name = "siem"

    def __init__(self, config: Siem, state: StateFile) -> None:
        self._config = config
        self._state = state
        self._forwarded: Forwarded | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield what rsyslog wrote last."""
        config = self._config
        raw, written = _tail(config.stats)
        stats = parse_stats(raw)
        yield _gauge("stats_timestamp_seconds", "When rsyslog wrote its statistics", written)
        if config.checkpoint is not None:
            try:
                mark = config.checkpoint.stat().st_mtime
            except OSError as error:
                raise CollectorError(f"{config.checkpoint}: {error.strerror}") from error
            yield _gauge("checkpoint_timestamp_seconds", "When the place was saved", mark)
        yield from self._queues(stats)
        action = _entry(stats, config.action, config.stats)
        suspended = _count(action, "suspended") > _count(action, "resumed")
        yield _gauge("suspended", "1 while the receiver cannot be reached", int(suspended))
        yield self._sources(stats)
        yield self._count_forwarded(stats, action)

    def _queues(self, stats: Stats) -> Iterator[Metric]:
        records = _labelled_gauge("queue_records", "Records that wait")
        capacity = _labelled_gauge("queue_capacity_records", "Records that the queue can hold")
        discarded = CounterMetricFamily(
            "tresor_siem_discarded", "Records thrown away", labels=["queue"]
        )
        for queue in self._config.queues:
            entry = _entry(stats, queue.name, self._config.stats)
            records.add_metric([queue.label], _count(entry, "size"))
            capacity.add_metric([queue.label], queue.capacity)
            discarded.add_metric([queue.label], _discarded(entry))
        yield from (records, capacity, discarded)

    def _sources(self, stats: Stats) -> Metric:
        family = CounterMetricFamily("tresor_siem_submitted", "Records taken in", labels=["source"])
        totals: dict[str, int] = {}
        for name, label in self._config.sources.items():
            # An input that has seen nothing yet has no statistics.
            totals[label] = totals.get(label, 0) + _count(stats.get(name, {}), "submitted")
        for label, total in totals.items():
            family.add_metric([label], total)
        return family

    def _count_forwarded(self, stats: Stats, action: Mapping[str, Any]) -> Metric:
        forwarded = self._forwarded = self._forwarded or self._restored()
        entries = [stats[queue.name] for queue in self._config.queues]
        before = forwarded.dump()
        forwarded.update(
            _count(action, "processed"),
            sum(_count(entry, "size") for entry in entries),
            sum(_discarded(entry) for entry in entries),
        )
        if forwarded.dump() != before:
            try:
                self._state.save(forwarded.dump())
            except OSError as error:
                raise CollectorError(f"state of {self._config.stats}: {error}") from error
        return CounterMetricFamily(
            "tresor_siem_forwarded", "Records that the receiver confirmed", value=forwarded.total
        )

    def _restored(self) -> Forwarded:
        saved = self._state.load()
        forwarded = Forwarded()
        if saved is not None:
            try:
                forwarded.restore(saved)
            except (KeyError, TypeError, ValueError):
                self._state.set_aside()
        return forwarded


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


def _entry(stats: Stats, name: str, path: Path) -> Mapping[str, Any]:
    if name not in stats:
        known = ", ".join(sorted(stats)) or "none"
        raise CollectorError(f"{path}: no statistics of {name!r}; there are: {known}")
    return stats[name]


def _count(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key, 0)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _discarded(entry: Mapping[str, Any]) -> int:
    return _count(entry, "discarded.full") + _count(entry, "discarded.nf")


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"tresor_siem_{name}", text, value=value)


def _labelled_gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tresor_siem_{name}", text, labels=["queue"])
