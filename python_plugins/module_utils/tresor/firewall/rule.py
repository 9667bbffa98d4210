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
_INTERFACE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}")
_KEYS: Final = {"flow", "direction", "proto", "peer", "ports", "user"}
_MAY_LACK: Final = {"interface"}


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
    interface: str | None = None
    """The one interface that it may pass; None for any."""

    def as_dict(self) -> dict[str, Any]:
        """Return the rule as the plan holds it; without an interface it has no such key."""
        found = asdict(self)
        if self.interface is None:
            del found["interface"]
        return found


def parse_rule(data: Mapping[str, Any], family: str) -> Rule:
    """Return the rule of a plan entry; raises RuleError if any part of it is not well formed."""
    if set(data) - _MAY_LACK != _KEYS:
        raise RuleError(f"rule {dict(data)!r}: write exactly the keys {', '.join(sorted(_KEYS))}")
    flow, user = data["flow"], data["user"]
    if "interface" in data:
        parse_interface(data["interface"])
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
        interface=data.get("interface"),
    )


def parse_interface(data: object) -> str:
    """Return the name of an interface; raises RuleError. The loopback interface is no such."""
    if not _text(data, _INTERFACE) or data == "lo":
        raise RuleError(f"interface is {data!r}; write the name of one, such as ib0, and not lo")
    return str(data)


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
