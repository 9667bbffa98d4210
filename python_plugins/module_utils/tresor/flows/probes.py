"""What no flow allows, for `verify` to try on the wire; what flows allow it reads from them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..inventory.hosts import SSH_PORT
from .matrix import Flow, Peer

CANARY_PORTS: Final = (("tcp", 22), ("tcp", 53), ("tcp", 80), ("tcp", 443), ("udp", 53))
"""What a program that calls home would try, DNS included."""
SERVICE_PORTS: Final[Mapping[str, int]] = {
    "bastion": 8443,
    "gateway": 443,
    "gpu": 8100,
    "vector": 19530,
    "ops": 9090,
}
"""The port that each group's main service listens on (docs/flow-matrix.md)."""
PROBE_USER: Final = "root"
"""Forbidden probes run as root: who may do most must not get through either."""
DROPPED_BY: Final = "drop:out"
"""The counted rule that must stop a forbidden probe: the sender's own output chain."""


@dataclass(frozen=True)
class Probe:
    """One connection to try from a managed host, in each family both ends have."""

    source: Peer
    target: Peer
    proto: str
    port: int
    user: str

    def as_dict(self) -> dict[str, Any]:
        """Return the probe as the plan holds it; a family the source lacks is left out."""
        return {
            "from": self.source.name,
            "to": self.target.name,
            "ipv4": self.target.ipv4 if self.source.ipv4 else None,
            "ipv6": self.target.ipv6 if self.source.ipv6 else None,
            "proto": self.proto,
            "port": self.port,
            "user": self.user,
        }


def forbidden_probes(
    flows: Collection[Flow],
    hosts: Mapping[str, tuple[Peer, Collection[str]]],
    canary: Peer,
) -> list[dict[str, Any]]:
    """Return what must be dropped: the canary, and what no flow allows between hosts.

    `hosts` maps each host to its peer and its groups.
    """
    probes: list[Probe] = []
    for source, _ in hosts.values():
        probes += [Probe(source, canary, *port, PROBE_USER) for port in CANARY_PORTS]
        for target, groups in hosts.values():
            if source.name != target.name:
                probes += _between(flows, source, target, groups)
    return [{**probe.as_dict(), "chain": DROPPED_BY} for probe in probes]


def _between(
    flows: Collection[Flow], source: Peer, target: Peer, groups: Collection[str]
) -> Iterator[Probe]:
    services = {SERVICE_PORTS[group] for group in groups if group in SERVICE_PORTS}
    for port in sorted({SSH_PORT, *services}):
        if not any(_allows(flow, source, target, port) for flow in flows):
            yield Probe(source, target, "tcp", port, PROBE_USER)


def _allows(flow: Flow, source: Peer, target: Peer, port: int) -> bool:
    return (
        flow.covers("tcp", port, PROBE_USER)
        and any(_holds(peer, source) for peer in flow.sources)
        and any(_holds(peer, target) for peer in flow.targets)
    )


def _holds(peer: Peer, host: Peer) -> bool:
    """Return whether an end of a flow includes a host, by name or by one of its addresses.

    A flow to a network is open on the sender's side for each host in it: the sender's output
    chain would not drop the probe then.
    """
    if peer.name == host.name:
        return True
    for family in ("ipv4", "ipv6"):
        outer, inner = peer.network(family), host.network(family)
        if outer is not None and inner is not None and inner.subnet_of(outer):  # type: ignore[arg-type]
            return True
    return False
