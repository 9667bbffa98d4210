"""What the plan says must be scraped, independent of what was configured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

EVERYWHERE: Final = ("node", "host")
"""Jobs of every host."""
BY_GROUP: Final[Mapping[str, str]] = {"gateway": "gateway", "vector": "milvus"}
"""Jobs of the hosts of a group."""
OWN: Final = ("alertmanager", "prometheus")
"""Jobs of the host that watches."""


class Target(NamedTuple):
    """A scrape target by its labels."""

    job: str
    instance: str


def expected_targets(hosts: Mapping[str, Mapping[str, Any]], watcher: str) -> list[Target]:
    """Return what Prometheus on ``watcher`` must scrape, in a stable order."""
    found = {Target(job, watcher) for job in OWN}
    for name, host in hosts.items():
        found.update(_of_host(name, host))
    return sorted(found)


def _of_host(name: str, host: Mapping[str, Any]) -> Iterator[Target]:
    for job in EVERYWHERE:
        yield Target(job, name)
    for group, job in BY_GROUP.items():
        if group in host["groups"]:
            yield Target(job, name)
    for instance in host["instances"]:
        yield Target("engine", instance)
