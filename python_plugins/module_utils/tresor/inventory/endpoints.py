"""The ends of a flow: a group, the site, an external server, a network or the fabric."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an endpoint names."""

    GROUP = "group"
    SITE = "site"
    EXTERNAL = "external"
    NETWORK = "network"
    FABRIC = "fabric"
    """The hosts of each engine that spans hosts, by their addresses for one another."""


@dataclass(frozen=True)
class Endpoint:
    """One end of a flow."""

    kind: Kind
    name: str

    @property
    def managed(self) -> bool:
        """Return whether the endpoint stands for hosts that Tresor configures."""
        return self.kind in (Kind.GROUP, Kind.SITE, Kind.FABRIC)


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint a text stands for; the schema has checked its form."""
    kind, colon, name = text.partition(":")
    if colon:
        return Endpoint(Kind(kind), name)
    if text in (Kind.SITE.value, Kind.FABRIC.value):
        return Endpoint(Kind(text), text)
    return Endpoint(Kind.GROUP, text)


def parse_ports(text: str) -> tuple[int, int]:
    """Return first and last port of `443` or `8100:8199`; raises ValueError if it is neither."""
    first, _, last = text.partition(":")
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= 65535:
        raise ValueError(f"ports {text!r}: write one port or a rising range within 1 to 65535")
    return low, high
