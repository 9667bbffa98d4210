"""What the plan says must be scraped, independent of what was configured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

EVERYWHERE: Final = ("node", "host")
"""Jobs of every host."""
BY_GROUP: Final[Mapping[str, str]] = {"gateway": "gateway", "vector": "milvus"}
"""Jobs of the hosts of a group."""
BY_VECTOR_FORM: Final[Mapping[str, str]] = {"standalone": "milvus-server"}
"""Jobs of the vector hosts by the form of the database: only the real server has own metrics."""
OWN: Final = ("alertmanager", "prometheus")
"""Jobs of the host that watches."""


class Target(NamedTuple):
    """A scrape target by its labels."""

    job: str
    instance: str


def expected_targets(
    hosts: Mapping[str, Mapping[str, Any]], watcher: str, vector_form: str
) -> list[Target]:
    """Return what Prometheus on ``watcher`` must scrape, in a stable order."""
    found = {Target(job, watcher) for job in OWN}
    for name, host in hosts.items():
        found.update(_of_host(name, host, vector_form))
    return sorted(found)


def _of_host(name: str, host: Mapping[str, Any], vector_form: str) -> Iterator[Target]:
    for job in EVERYWHERE:
        yield Target(job, name)
    for group, job in BY_GROUP.items():
        if group in host["groups"]:
            yield Target(job, name)
    if "vector" in host["groups"] and vector_form in BY_VECTOR_FORM:
        yield Target(BY_VECTOR_FORM[vector_form], name)
    for instance in host["instances"]:
        yield Target("engine", instance)
