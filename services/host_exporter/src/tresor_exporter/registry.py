"""All collectors of a host in one registry; one that fails does not stop the others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric

from tresor_exporter.collectors.base import Collector
from tresor_exporter.collectors.clock import ClockCollector
from tresor_exporter.collectors.firewall import FirewallCollector
from tresor_exporter.collectors.nginx import NginxCollector
from tresor_exporter.collectors.pem import CertificateCollector, CrlCollector
from tresor_exporter.collectors.probe import ProbeCollector
from tresor_exporter.collectors.siem import SiemCollector
from tresor_exporter.collectors.store import StoreCollector
from tresor_exporter.collectors.verify import VerifyCollector
from tresor_exporter.schema import Config
from tresor_exporter.state import StateFile

log = logging.getLogger(__name__)


def build(config: Config) -> list[Collector]:
    """Return the collectors that the configuration names."""
    wanted, folder = config.collectors, config.state_directory
    found: list[Collector] = []
    if wanted.nginx is not None:
        found.append(NginxCollector(wanted.nginx, StateFile(folder / "nginx.json")))
    if wanted.firewall is not None:
        found.append(FirewallCollector(wanted.firewall, StateFile(folder / "firewall.json")))
    if wanted.siem is not None:
        found.append(SiemCollector(wanted.siem))
    if wanted.certificates is not None:
        found.append(CertificateCollector(wanted.certificates))
    if wanted.crls is not None:
        found.append(CrlCollector(wanted.crls))
    if wanted.store is not None:
        found.append(StoreCollector(wanted.store))
    if wanted.verify is not None:
        found.append(VerifyCollector(wanted.verify))
    if wanted.clock is not None:
        found.append(ClockCollector(wanted.clock))
    if wanted.probe is not None:
        found.append(ProbeCollector(wanted.probe))
    return found


class HostMetrics:
    """What ``prometheus_client`` asks at each scrape; one scrape at a time."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self._collectors = collectors
        self._lock = threading.Lock()
        self._failing: dict[str, str] = {}

    def registry(self) -> CollectorRegistry:
        """Return a registry with these collectors and the process's own figures."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        return registry

    def collect(self) -> Iterator[Metric]:
        """Yield everything, and for each collector whether it worked."""
        success = GaugeMetricFamily(
            "tresor_exporter_collector_success",
            "1 if the collector could read all of its source",
            labels=["collector"],
        )
        with self._lock:
            for collector in self._collectors:
                families, problem = _run(collector)
                yield from families
                success.add_metric([collector.name], int(problem is None))
                self._tell(collector.name, problem)
        yield success

    def _tell(self, name: str, problem: str | None) -> None:
        """Log a failure when it begins or changes, and its end."""
        before = self._failing.pop(name, None)
        if problem is not None:
            self._failing[name] = problem
            if problem != before:
                log.warning("collector %s: %s", name, problem)
        elif before is not None:
            log.info("collector %s: works again", name)


def _run(collector: Collector) -> tuple[list[Metric], str | None]:
    families: list[Metric] = []
    try:
        families.extend(collector.collect())
    except Exception as error:  # whatever it is, the other collectors go on
        return families, str(error) or repr(error)
    return families, None
