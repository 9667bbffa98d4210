"""One opening of the firewall, checked again on the host because it becomes a line of rules."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

FAMILIES: Final = ("ipv4", "ipv6")
_FLOW: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_PORTS: Final = re.compile(r"([1-9][0-9]{0,4})(?::([1-9][0-9]{0,4}))?")
_KEYS: Final = {"flow", "direction", "proto", "peer", "ports", "user"}


class RuleError(ValueError):
    """A rule that cannot be rendered: names the rule, the value and what to write."""


@dataclass(frozen=True)
class Rule:
    """One opening of a host's firewall, for new connections of one family."""

    flow: str
    direction: str
    """`in` or `out`, seen from the host."""
    proto: str
    peer: str
    """The other end as a network with prefix length."""
    ports: str
    """The port or range at the end that answers."""
    user: str | None
    """The user whose processes may open the connection; None for any, and for `in`."""

    def as_dict(self) -> dict[str, Any]:
        """Return the rule as the plan holds it."""
        return asdict(self)


def parse_rule(data: Mapping[str, Any], family: str) -> Rule:
    """Return the rule of a plan entry; raises RuleError if any part of it is not well formed."""
    if set(data) != _KEYS:
        raise RuleError(f"rule {dict(data)!r}: write exactly the keys {', '.join(sorted(_KEYS))}")
    flow, user = data["flow"], data["user"]
    checks = (
        ("flow", _text(flow, _FLOW), "a flow's name"),
        ("direction", data["direction"] in ("in", "out"), "in or out"),
        ("proto", data["proto"] in ("tcp", "udp"), "tcp or udp"),
        ("ports", _is_ports(data["ports"]), "a port or a rising range such as 8100:8199"),
        ("user", user is None or _text(user, _USER), "a user's name or nothing"),
    )
    for key, good, fix in checks:
        if not good:
            raise RuleError(f"rule of the flow {flow!r}: {key} is {data[key]!r}; write {fix}")
    if user is not None and data["direction"] == "in":
        raise RuleError(f"rule of the flow {flow!r}: user belongs to direction out only; remove it")
    return Rule(
        flow=flow,
        direction=data["direction"],
        proto=data["proto"],
        peer=_peer(flow, data["peer"], family),
        ports=data["ports"],
        user=user,
    )


def parse_link(data: object) -> str | None:
    """Return the IPv6 network of the host's link, or None for none; raises RuleError."""
    if data is None or data == "":
        return None
    try:
        network = ipaddress.IPv6Network(data) if isinstance(data, str) else None
    except ValueError:
        network = None
    if network is None or network.prefixlen == 0:
        raise RuleError(f"the link's network is {data!r}; write one such as 2001:db8:51::/64")
    return str(network)


def _text(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_ports(value: object) -> bool:
    match = _PORTS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return False
    first, last = int(match[1]), int(match[2] or match[1])
    return first <= last <= 65535


def _peer(flow: str, value: object, family: str) -> str:
    try:
        network = ipaddress.ip_network(value) if isinstance(value, str) else None
    except ValueError:
        network = None
    if network is None or f"ipv{network.version}" != family or network.prefixlen == 0:
        raise RuleError(
            f"rule of the flow {flow!r}: peer is {value!r}; write an {family} network without "
            "host bits, narrower than everything"
        )
    return str(network)
