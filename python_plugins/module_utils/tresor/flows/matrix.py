"""Expand the flow matrix: who, by address, may talk to whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..inventory.endpoints import Kind, parse_endpoint, parse_ports
from ..inventory.loader import Inventory
from .fabric import circles

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Peer:
    """One end of an expanded flow: a host, an external server or a network."""

    name: str
    """Host name, `external:<name>` or `network:<name>`."""
    ipv4: str | None
    ipv6: str | None
    """Address, or network with its prefix length; None where the end lacks the family."""
    managed: bool
    interface: str | None = None
    """The one interface of the host that the flow may use, where that is not any."""

    def address(self, family: str) -> str | None:
        """Return the address or network of a family, `ipv4` or `ipv6`."""
        return self.ipv4 if family == "ipv4" else self.ipv6

    def network(self, family: str) -> Network | None:
        """Return the address as a network (a host is one of full length), or None."""
        value = self.address(family)
        return ipaddress.ip_network(value) if value is not None else None


@dataclass(frozen=True)
class Flow:
    """One line of the matrix with its ends expanded."""

    name: str
    description: str
    proto: str
    ports: str
    user: str | None
    sources: tuple[Peer, ...]
    targets: tuple[Peer, ...]

    def covers(self, proto: str, port: int, user: str) -> bool:
        """Return whether the flow lets this user open a connection to this port."""
        first, last = parse_ports(self.ports)
        return self.proto == proto and first <= port <= last and self.user in (None, user)


def expand(inventory: Inventory) -> tuple[Flow, ...]:
    """Return the flows of a valid inventory in the order of the file."""
    return tuple(
        Flow(
            name=name,
            description=flow["description"],
            proto=flow["proto"],
            ports=flow["ports"],
            user=flow.get("user"),
            sources=sources,
            targets=targets,
        )
        for flow in inventory.concerns["flows"]
        for name, sources, targets in _ends(inventory, flow)
    )


def _ends(
    inventory: Inventory, flow: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Peer, ...], tuple[Peer, ...]]]:
    """Yield name and ends of a flow: of one in the fabric a flow for each set of hosts.

    They do not meet each other: each engine's hosts talk among themselves.
    """
    if flow["from"] != [Kind.FABRIC.value]:
        yield flow["name"], _peers(inventory, flow["from"]), _peers(inventory, flow["to"])
        return
    for number, circle in enumerate(circles(inventory), 1):
        peers = tuple(
            Peer(
                end.name,
                end.ipv4,
                None,
                managed=True,
                interface=end.interface if end.dedicated else None,
            )
            for end in circle
        )
        yield f"{flow['name'][:36]}-{number}", peers, peers


def host_peer(inventory: Inventory, name: str) -> Peer:
    """Return a managed host as a peer."""
    variables = inventory.hosts.hosts[name].variables
    return _peer(
        name,
        {family: variables.get(f"tresor_{family}") for family in ("ipv4", "ipv6")},
        managed=True,
    )


def external_peer(inventory: Inventory, name: str) -> Peer:
    """Return an external server as a peer."""
    return _peer(f"external:{name}", inventory.concerns["site"]["externals"][name], managed=False)


def _peer(name: str, addresses: Mapping[str, Any], *, managed: bool) -> Peer:
    ipv4, ipv6 = (
        str(ipaddress.ip_address(value)) if value else None
        for value in (addresses.get("ipv4"), addresses.get("ipv6"))
    )
    return Peer(name, ipv4, ipv6, managed)


def _peers(inventory: Inventory, endpoints: Iterable[str]) -> tuple[Peer, ...]:
    peers: dict[str, Peer] = {}
    for text in endpoints:
        endpoint = parse_endpoint(text)
        if endpoint.kind is Kind.EXTERNAL:
            found = [external_peer(inventory, endpoint.name)]
        elif endpoint.kind is Kind.NETWORK:
            subnet = inventory.concerns["site"]["subnets"][endpoint.name]
            found = [Peer(text, subnet["ipv4"], subnet.get("ipv6"), managed=False)]
        elif endpoint.kind is Kind.GROUP:
            names = inventory.hosts.groups[endpoint.name]
            found = [host_peer(inventory, name) for name in names]
        else:
            found = [host_peer(inventory, name) for name in inventory.hosts.hosts]
        peers.update({peer.name: peer for peer in found})
    return tuple(peers.values())
