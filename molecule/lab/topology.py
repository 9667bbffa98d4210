"""Which networks and hosts a lab has: data only, the same in every lab.

Addresses come from the documentation ranges (RFC 5737, RFC 3849), which no real network uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Literal

SITE_DOMAIN = "site.example"
COMPANY_DOMAIN = "company.example"
API_NAME = f"llm.{SITE_DOMAIN}"
IDP_NAME = f"idp.{COMPANY_DOMAIN}"
NTP_NAME = f"ntp.{COMPANY_DOMAIN}"
SIEM_NAME = f"siem.{COMPANY_DOMAIN}"

Codename = Literal["bookworm", "trixie"]
TreeName = Literal["site-bookworm", "site-trixie", "outside-bookworm", "company-trixie"]


@dataclass(frozen=True)
class Network:
    """One Ethernet segment: a bridge, a subnet of each family, router1 as the way out."""

    name: str
    number: int
    ipv4: IPv4Network
    ipv6: IPv6Network

    @property
    def gateway4(self) -> str:
        """Router1's address: the first of the subnet."""
        return str(self.ipv4[1])

    @property
    def gateway6(self) -> str:
        """Router1's address: the first of the subnet."""
        return str(self.ipv6[1])


@dataclass(frozen=True)
class Nic:
    """A host's connection to one network."""

    network: Network
    ipv4: IPv4Interface
    ipv6: IPv6Interface

    @property
    def name(self) -> str:
        """Interface name inside the host (at most 15 characters)."""
        return f"{self.network.name}0"


@dataclass(frozen=True)
class Host:
    """A machine of the lab.

    ``name`` is what labctl calls it; ``hostname`` is what it calls itself, which is also the
    name that the inventory uses.
    """

    name: str
    hostname: str
    number: int
    domain: str
    tree: TreeName
    nics: tuple[Nic, ...]

    @property
    def fqdn(self) -> str:
        """Full name, e.g. ``gpu1.site.example``."""
        return f"{self.hostname}.{self.domain}"

    @property
    def codename(self) -> str:
        """Debian release the host runs."""
        return self.tree.rpartition("-")[2]

    @property
    def on_site(self) -> bool:
        """Whether Tresor manages the host."""
        return self.domain == SITE_DOMAIN

    @property
    def is_router(self) -> bool:
        """Whether the host joins networks."""
        return len(self.nics) > 1

    @property
    def ipv4(self) -> str:
        """First IPv4 address, without prefix length."""
        return str(self.nics[0].ipv4.ip)

    @property
    def ipv6(self) -> str:
        """First IPv6 address, without prefix length."""
        return str(self.nics[0].ipv6.ip)

    def mac(self, nic: Nic) -> str:
        """Fixed, locally administered MAC address of one NIC."""
        return f"02:7e:50:{nic.network.number:02x}:00:{self.number:02x}"


SITE = Network("site", 1, IPv4Network("198.51.100.0/25"), IPv6Network("2001:db8:51::/64"))
COMPANY = Network("company", 2, IPv4Network("198.51.100.128/25"), IPv6Network("2001:db8:52::/64"))
INTERNET = Network("internet", 3, IPv4Network("203.0.113.0/24"), IPv6Network("2001:db8:53::/64"))
NETWORKS = (SITE, COMPANY, INTERNET)


def _nic(network: Network, ipv4: str, suffix: str) -> Nic:
    prefix = network.ipv6.network_address
    return Nic(
        network,
        IPv4Interface(f"{ipv4}/{network.ipv4.prefixlen}"),
        IPv6Interface(f"{prefix}{suffix}/{network.ipv6.prefixlen}"),
    )


def _site(number: int, name: str, tree: TreeName, last: int, hostname: str = "") -> Host:
    nic = _nic(SITE, f"198.51.100.{last}", str(last))
    return Host(name, hostname or name, number, SITE_DOMAIN, tree, (nic,))


BASTION = _site(1, "bastion", "site-trixie", 10, "bastion1")
GATEWAY1 = _site(2, "gateway1", "site-bookworm", 20)
GPU1 = _site(3, "gpu1", "site-bookworm", 31)
GPU2 = _site(4, "gpu2", "site-bookworm", 32)
VECTOR1 = _site(5, "vector1", "site-bookworm", 40)
OPS1 = _site(6, "ops1", "site-trixie", 50)
COMPANY1 = Host(
    "company1",
    "company1",
    7,
    COMPANY_DOMAIN,
    "company-trixie",
    (_nic(COMPANY, "198.51.100.130", "130"),),
)
ROUTER1 = Host(
    "router1",
    "router1",
    8,
    "internet.example",
    "outside-bookworm",
    tuple(_nic(network, network.gateway4, "1") for network in NETWORKS),
)
INTERNET1 = Host(
    "internet1",
    "internet1",
    9,
    "internet.example",
    "outside-bookworm",
    (_nic(INTERNET, "203.0.113.10", "10"),),
)

# The bastion is last: what it is given at creation (known_hosts) comes from the others' keys.
HOSTS = (ROUTER1, INTERNET1, COMPANY1, GATEWAY1, GPU1, GPU2, VECTOR1, OPS1, BASTION)
SITE_HOSTS = tuple(host for host in HOSTS if host.on_site)


def find(name: str) -> Host | None:
    """Return the host with this lab name or hostname, or None."""
    return next((host for host in HOSTS if name in (host.name, host.hostname)), None)


def names_of(host: Host) -> tuple[str, ...]:
    """Return every name by which others call the host, full name first."""
    extra: dict[str, tuple[str, ...]] = {
        GATEWAY1.name: (API_NAME,),
        COMPANY1.name: (IDP_NAME, NTP_NAME, SIEM_NAME),
    }
    return (host.fqdn, host.hostname, *extra.get(host.name, ()))
