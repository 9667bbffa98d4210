"""Where the hosts of engines that span hosts meet, who may meet whom, and what must be dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from ..inventory.check_nodes import FIRST_PORT, shares_site_network
from ..inventory.hosts import FABRIC_ADDRESS, FABRIC_INTERFACE, SSH_PORT
from ..inventory.loader import Inventory

ENGINE_PORT: Final = 8100
"""The first port that engines answer requests on; nobody asks it over the fabric."""


@dataclass(frozen=True)
class FabricHost:
    """A host's end of the network between hosts of engines.

    `dedicated` says that it is a network for nothing else, and so is the interface.
    """

    name: str
    ipv4: str
    interface: str
    dedicated: bool

    def as_dict(self) -> dict[str, Any]:
        """Return what the plan says of the host."""
        return {"ipv4": self.ipv4, "interface": self.interface, "dedicated": self.dedicated}


def fabric_host(inventory: Inventory, name: str) -> FabricHost | None:
    """Return where a host meets others, or None for one that is in no fabric."""
    site, variables = inventory.concerns["site"], inventory.hosts.hosts[name].variables
    interface = variables.get(FABRIC_INTERFACE)
    shared = shares_site_network(site)
    value = variables.get("tresor_ipv4" if shared else FABRIC_ADDRESS)
    if "fabric" not in site or interface is None or value is None:
        return None
    return FabricHost(name, str(ip_address(value)), interface, not shared)


def circles(inventory: Inventory) -> list[tuple[FabricHost, ...]]:
    """Return the hosts of each instance that spans hosts, by rank, each set of hosts once."""
    found: dict[frozenset[str], tuple[FabricHost, ...]] = {}
    for item in inventory.capacity.placement.placed:
        if item.followers:
            found.setdefault(frozenset(item.hosts), hosts_of(inventory, item.hosts))
    return list(found.values())


def hosts_of(inventory: Inventory, names: tuple[str, ...]) -> tuple[FabricHost, ...]:
    """Return the ends of the hosts of one instance; an inventory's check has proven them."""
    return tuple(end for name in names if (end := fabric_host(inventory, name)) is not None)


def forbidden_in_fabric(inventory: Inventory) -> Iterator[dict[str, Any]]:
    """Yield what must be dropped: every host as root, and SSH and requests over the fabric.

    Only engines may meet there, so root may not even between the hosts of one instance.
    """
    ends = {end.name: end for circle in circles(inventory) for end in circle}
    for source in inventory.hosts.hosts:
        for target in ends.values():
            if source == target.name:
                continue
            ports = [FIRST_PORT]
            if source in ends and target.dedicated:
                ports += [SSH_PORT, ENGINE_PORT]
            for port in ports:
                yield {
                    "from": source,
                    "to": f"fabric:{target.name}",
                    "ipv4": target.ipv4,
                    "ipv6": None,
                    "proto": "tcp",
                    "port": port,
                    "user": "root",
                }
