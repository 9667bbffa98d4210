"""Requests as NGINX answered them, from its JSON log: what availability is computed from."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from tresor_exporter.collectors.log import LogCollector
from tresor_exporter.schema import OTHER, Nginx
from tresor_exporter.state import StateFile
from tresor_exporter.tally import Tally

EDGES: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper edges in seconds; 0.5 and 3 are those that service levels name."""

SHOWN_FROM_ZERO: Final = (200, 500, 502, 503, 504)
"""Statuses shown before they happen: ``rate()`` sees no step of a counter that begins with it."""


@dataclass(frozen=True)
class Request:
    """What of a log line is counted."""

    endpoint: str
    status: int
    seconds: float


def parse_line(line: bytes, endpoints: Mapping[str, str]) -> Request | None:
    """Return what a line says, None if it is no line of this log. Never raises."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    path, status, seconds = data.get("path"), data.get("status"), data.get("seconds")
    if not isinstance(path, str) or isinstance(status, bool) or not isinstance(status, int):
        return None
    if not 100 <= status <= 599 or isinstance(seconds, bool):
        return None
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        return None
    return Request(endpoints.get(path, OTHER), status, min(float(seconds), 1e9))


class _Durations:
    """A histogram for one endpoint."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(EDGES) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.buckets[bisect_left(EDGES, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        total, result = 0, []
        for edge, count in zip((*EDGES, math.inf), self.buckets, strict=True):
            total += count
            result.append(("+Inf" if edge == math.inf else repr(edge), float(total)))
        return result


class RequestCounts:
    """Requests by endpoint and status, and how long those took that were not refused."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        self._endpoints = endpoints
        names = sorted({*endpoints.values(), OTHER})
        self.requests = {(name, status): 0 for name in names for status in SHOWN_FROM_ZERO}
        # An empty histogram would only give percentiles that are no number.
        self.durations: dict[str, _Durations] = {}

    def add(self, line: bytes) -> bool:
        """Count a line; see ``Counts``."""
        request = parse_line(line, self._endpoints)
        if request is None:
            return False
        key = (request.endpoint, request.status)
        self.requests[key] = self.requests.get(key, 0) + 1
        # A fast refusal (4xx) must not better the percentile of those who were served.
        if not 400 <= request.status <= 499:
            self.durations.setdefault(request.endpoint, _Durations()).observe(request.seconds)
        return True

    def dump(self) -> dict[str, Any]:
        """Return the counters for JSON."""
        return {
            "requests": [[name, status, n] for (name, status), n in self.requests.items()],
            "edges": list(EDGES),
            "durations": {name: [d.buckets, d.sum] for name, d in self.durations.items()},
        }

    def restore(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` gave; see ``Counts``."""
        if data["edges"] != list(EDGES):
            raise ValueError("counted with other edges")
        requests = {(str(name), int(status)): int(n) for name, status, n in data["requests"]}
        durations: dict[str, _Durations] = {}
        for name, (buckets, total) in data["durations"].items():
            entry = durations[name] = _Durations()
            if len(buckets) != len(entry.buckets):
                raise ValueError("counted with other edges")
            entry.buckets, entry.sum = [int(count) for count in buckets], float(total)
        self.requests.update(requests)
        self.durations = durations


class NginxCollector(LogCollector):
    """``tresor_nginx_*``."""

    name = "nginx"

    def __init__(self, config: Nginx, state: StateFile) -> None:
        self._counts = RequestCounts(config.endpoints)
        super().__init__(Tally(config.log, state, self._counts))

    def families(self) -> Iterator[Metric]:
        """Yield requests and durations."""
        requests = CounterMetricFamily(
            "tresor_nginx_requests",
            "Requests that NGINX answered",
            labels=["endpoint", "status"],
        )
        for (endpoint, status), count in sorted(self._counts.requests.items()):
            requests.add_metric([endpoint, str(status)], count)
        yield requests
        durations = HistogramMetricFamily(
            "tresor_nginx_request_duration_seconds",
            "First byte of the request to last byte of the answer, without refused ones (4xx)",
            labels=["endpoint"],
        )
        for endpoint, entry in sorted(self._counts.durations.items()):
            durations.add_metric([endpoint], entry.cumulative(), entry.sum)
        yield durations
