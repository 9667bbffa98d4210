"""What the tests share."""

from __future__ import annotations

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tresor_exporter.collectors.base import Collector
from tresor_exporter.errors import CollectorError


def values(families: list[Metric]) -> dict[str, float]:
    """Return samples as ``name{label="value"}`` (labels sorted) to value."""
    return {
        sample.name
        + ("{" + ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items())) + "}")
        * bool(sample.labels): float(sample.value)
        for family in families
        for sample in family.samples
    }


def scrape(collector: Collector) -> dict[str, float]:
    """Return the samples of a collector that must not fail."""
    return values(list(collector.collect()))


def failing_scrape(collector: Collector) -> tuple[dict[str, float], str]:
    """Return what a collector tells before it fails, and the message."""
    families: list[Metric] = []
    try:
        families.extend(collector.collect())
    except CollectorError as error:
        return values(families), str(error)
    raise AssertionError("the collector did not fail")


def parsed(text: str) -> dict[str, float]:
    """Return the samples of an answer of the server."""
    return values(list(text_string_to_metric_families(text)))
