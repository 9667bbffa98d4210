"""Ask the API as a user without a token would: it must refuse, in its own words and by its name."""

from __future__ import annotations

import http.client
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from tresor_exporter.errors import CollectorError
from tresor_exporter.schema import Probe

log = logging.getLogger(__name__)
_MAX_BYTES: Final = 65536
_WANTED: Final = 401


@dataclass(frozen=True)
class Outcome:
    """``problem`` is None for the right answer; ``seconds`` from connect to the answer's end."""

    seconds: float
    problem: str | None


def judge(status: int, body: bytes) -> str | None:
    """Return what is wrong with an answer to a request without a token, None if nothing is."""
    if status != _WANTED:
        return f"status {status}, expected {_WANTED}"
    try:
        error = json.loads(body)["error"]
        good = isinstance(error["message"], str) and isinstance(error["type"], str)
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    return None if good else "the body is not an error of the API"


def ask(config: Probe) -> Outcome:
    """Make one request; certificate and name are checked. Never raises for a bad answer."""
    start = time.monotonic()
    try:
        # Loaded each time: a renewed authority must not need a restart.
        context = ssl.create_default_context(cafile=str(config.ca))
        connection = http.client.HTTPSConnection(
            config.host, config.port, timeout=config.timeout_seconds, context=context
        )
        try:
            connection.request("GET", config.path, headers={"User-Agent": "tresor-exporter"})
            answer = connection.getresponse()
            problem = judge(answer.status, answer.read(_MAX_BYTES))
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        problem = f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - start
    if problem is None and seconds > config.timeout_seconds:
        problem = f"took {seconds:.1f} s, allowed are {config.timeout_seconds:g} s"
    return Outcome(seconds, problem)


class ProbeCollector:
    """``tresor_api_probe_*``: a thread asks, a scrape shows the newest outcome."""

    name = "probe"

    def __init__(self, config: Probe, request: Callable[[Probe], Outcome] = ask) -> None:
        self._config = config
        self._request = request
        self._outcome: Outcome | None = None
        self._stop = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a request under way ends by its own timeout."""
        self._stop.set()

    def collect(self) -> Iterator[Metric]:
        """Yield the newest outcome."""
        # At start a scrape may come before the first answer.
        self._first.wait(self._config.timeout_seconds / 2)
        outcome = self._outcome
        if outcome is None:
            raise CollectorError(f"the API at {self._config.host} was not asked yet")
        yield GaugeMetricFamily(
            "tresor_api_probe_success",
            "1 if the API refused a request without a token as it should",
            value=int(outcome.problem is None),
        )
        yield GaugeMetricFamily(
            "tresor_api_probe_duration_seconds",
            "How long the newest probe took",
            value=outcome.seconds,
        )
        if not self._thread.is_alive():
            raise CollectorError("the thread that asks has ended; restart the exporter")

    def _run(self) -> None:
        while not self._stop.is_set():
            outcome = self._request(self._config)
            before = self._outcome.problem if self._outcome else None
            if outcome.problem != before:
                log.log(
                    logging.WARNING if outcome.problem else logging.INFO,
                    "probe of %s: %s",
                    self._config.host,
                    outcome.problem or "answers as it should",
                )
            self._outcome = outcome
            self._first.set()
            self._stop.wait(max(self._config.interval_seconds - outcome.seconds, 0.1))
