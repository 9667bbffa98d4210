"""The bundle store on the bastion: the active release and the space that is left."""

from __future__ import annotations

import os
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from tresor_exporter.errors import CollectorError
from tresor_exporter.schema import Store


class StoreCollector:
    """``tresor_store_*``."""

    name = "store"

    def __init__(self, config: Store) -> None:
        self._root = config.root

    def collect(self) -> Iterator[Metric]:
        """Yield free space, then the release that ``current`` leads to."""
        try:
            space = os.statvfs(self._root)
        except OSError as error:
            raise CollectorError(f"{self._root}: {error.strerror}") from error
        yield GaugeMetricFamily(
            "tresor_store_free_bytes",
            "Space that is left for imports",
            value=space.f_bavail * space.f_frsize,
        )
        current = self._root / "current"
        try:
            target = current.readlink()
        except OSError as error:
            raise CollectorError(f"{current}: {error.strerror}; is a release activated?") from error
        yield InfoMetricFamily(
            "tresor_store_release", "The active release", value={"id": target.name}
        )
