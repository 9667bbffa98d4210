"""Stage removal: services that are switched off are gone, and switched on again they are whole.

Runs on a converged lab and leaves it converged. Data stay: that is what the roles state.
"""

from __future__ import annotations

import json
from typing import Any, Final

from stages import operate
from stages.shell import StageError, on_host, output

_SWITCHES: Final = (
    "alertmanager", "certificate_renewal", "host_exporter", "metrics_endpoint", "milvus",
    "node_exporter", "prometheus", "siem_forward", "vector_client",
)  # fmt: skip
_OFF: Final = ("-e", json.dumps({f"{role}_enabled": False for role in _SWITCHES}))
_UNITS: Final = (
    "tresor-alert", "tresor-clock", "tresor-exporter", "tresor-metrics", "tresor-milvus",
    "tresor-node-exporter", "tresor-prometheus", "tresor-siem", "tresor-renew",
)  # fmt: skip
"""What the names of those roles' units begin with."""
_PORTS: Final = frozenset(
    {"2514", "9090", "9093", "9100", "9101", "9102", "9103", "19529", "19530"}
)
_DATA: Final = {
    "vector1": ("/var/lib/tresor/milvus",),
    "ops1": ("/var/lib/tresor/prometheus", "/var/lib/tresor/alertmanager"),
    "gateway1": ("/var/lib/tresor/siem/checkpoint.json",),
}
HOSTS: Final = ("bastion", "gateway1", "gpu1", "gpu2", "vector1", "ops1")


def ours(host: str) -> dict[str, str]:
    """Return those roles' unit files and running units on ``host`` with their state."""
    both = ("systemctl", "list-unit-files", "--no-legend", "--plain", "tresor-*")
    running = ("systemctl", "list-units", "--all", "--no-legend", "--plain", "tresor-*")
    lines = "\n".join(output(on_host(host, *command), what="units") for command in (both, running))
    found = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines.splitlines() if line}
    return {unit: state for unit, state in found.items() if unit.startswith(_UNITS)}


def listening(host: str) -> set[str]:
    """Return the TCP ports of those roles that something listens on."""
    lines = output(on_host(host, "ss", "-Hltn"), what="listening ports").splitlines()
    return {line.split()[3].rpartition(":")[2] for line in lines} & _PORTS


def _data() -> None:
    for host, paths in _DATA.items():
        for path in paths:
            output(on_host(host, "test", "-s", path), what=f"data of {host} in {path}")


def main() -> None:
    """Switch off, look, switch on, look.

    Raises:
        StageError: something is left, is lost, does not come back, or changes twice.
    """
    before = {host: set(ours(host)) for host in HOSTS}
    if not all(before.values()):
        raise StageError(f"nothing to remove: {before}; converge the lab first")
    operate.tresor("converge", what="converge with the services off", ansible=_OFF)
    again = operate.tresor("converge", what="converge with them off again", ansible=_OFF)
    operate.refuse_changes(again, "second converge with the services off")
    left: dict[str, Any] = {host: (ours(host), listening(host)) for host in HOSTS}
    left = {host: found for host, found in left.items() if any(found)}
    if left:
        raise StageError(f"left after removal: {left}")
    _data()
    print("removal: no unit and no port is left; data stay", flush=True)
    operate.tresor("converge", what="converge with the services on")
    operate.refuse_changes(
        operate.tresor("converge", what="second converge"), "second converge with them on"
    )
    after = {host: set(ours(host)) for host in HOSTS}
    missing = {host: units - after[host] for host, units in before.items() if units - after[host]}
    if missing:
        raise StageError(f"did not come back: {missing}")
    _data()
    report = operate.verify()
    print(f"removal: all services are back; verify: {report['totals']}", flush=True)
