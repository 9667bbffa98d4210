"""Dropped packets that the firewall logged, from ulogd's log (LOGEMU or JSON lines)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, Metric

from tresor_exporter.collectors.log import LogCollector
from tresor_exporter.schema import Firewall
from tresor_exporter.state import StateFile
from tresor_exporter.tally import Tally

DIRECTIONS: Final = ("in", "out", "forward")
_LOGEMU: Final = re.compile(rb"(?:^|\s)drop:([a-z]{1,7})\s+IN=\S*\s+OUT=")


def parse_line(line: bytes) -> str | None:
    """Return the direction of a logged drop, None if the line tells none. Never raises."""
    if line.lstrip().startswith(b"{"):
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            return None
        prefix = data.get("oob.prefix") if isinstance(data, dict) else None
        direction = prefix.strip().removeprefix("drop:") if isinstance(prefix, str) else ""
    else:
        found = _LOGEMU.search(line)
        direction = found[1].decode() if found else ""
    return direction if direction in DIRECTIONS else None


class DropCounts:
    """Logged drops by direction."""

    def __init__(self) -> None:
        self.drops = dict.fromkeys(DIRECTIONS, 0)

    def add(self, line: bytes) -> bool:
        """Count a line; see ``Counts``."""
        direction = parse_line(line)
        if direction is None:
            return False
        self.drops[direction] += 1
        return True

    def dump(self) -> dict[str, Any]:
        """Return the counters for JSON."""
        return dict(self.drops)

    def restore(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` gave; see ``Counts``."""
        self.drops = {direction: int(data[direction]) for direction in DIRECTIONS}


class FirewallCollector(LogCollector):
    """``tresor_firewall_*``."""

    name = "firewall"

    def __init__(self, config: Firewall, state: StateFile) -> None:
        self._counts = DropCounts()
        super().__init__(Tally(config.log, state, self._counts))

    def families(self) -> Iterator[Metric]:
        """Yield the drops by direction."""
        drops = CounterMetricFamily(
            "tresor_firewall_logged_drops",
            "Dropped packets in the log; it is rate limited, so there may be more",
            labels=["direction"],
        )
        for direction, count in self._counts.drops.items():
            drops.add_metric([direction], count)
        yield drops
