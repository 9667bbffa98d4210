"""From the flow matrix to the probes one host sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROOT = "root"
STRANGER = "nobody"
"""The user that tries what only a service user may do."""

FAMILIES = ("ipv4", "ipv6")


class ProbeInputError(ValueError):
    """The plan holds something no probe can be made from."""


@dataclass(frozen=True)
class Probe:
    """One packet exchange to try from this host as one user."""

    id: str
    what: str
    allowed: bool
    target: str
    family: str
    address: str
    proto: str
    port: int
    user: str
    refusal_is_reach: bool = False
    """True where no listener is known: the target's own reset proves that the packet passed."""


@dataclass(frozen=True)
class Uncovered:
    """Something verify does not prove, with the reason, so that the report says so."""

    what: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """Return the form the evidence report holds."""
        return {"what": self.what, "reason": self.reason}


def allowed_probes(
    host: str, flows: Sequence[Mapping[str, Any]], instances: Sequence[Mapping[str, Any]]
) -> list[Probe]:
    """Return one probe per flow, target, port, address family and user that starts at ``host``."""
    probes: list[Probe] = []
    for flow in _flows_from(host, flows):
        for end in _single_hosts(host, flow):
            for port, known in _ports(flow, end, instances):
                for family in _families(flow, host, end):
                    for user in _users(flow):
                        probes.append(
                            Probe(
                                id=_id(
                                    "allow", flow["name"], host, end["name"], family, port, user
                                ),
                                what=f"flow {flow['name']} works",
                                allowed=True,
                                target=end["name"],
                                family=family,
                                address=_address(end[family]),
                                proto=flow["proto"],
                                port=port,
                                user=user,
                                refusal_is_reach=not known,
                            )
                        )
    return probes


def forbidden_probes(
    host: str, forbidden: Sequence[Mapping[str, Any]], flows: Sequence[Mapping[str, Any]]
) -> list[Probe]:
    """Return the plan's forbidden probes of ``host``, each as root and as every flow's owner.

    A rule that names an owner but forgets the target would let exactly that owner out, so root
    alone would not notice it.
    """
    owners = {user for flow in _flows_from(host, flows) for user in _users(flow)}
    probes: list[Probe] = []
    for entry in forbidden:
        if entry["from"] != host:
            continue
        own = entry.get("user")
        users = [own] if own else [ROOT, *sorted(owners - {ROOT})]
        for family in FAMILIES:
            if not entry.get(family):
                continue
            for user in users:
                port = int(entry["port"])
                name = f"{entry['proto']}-{entry['to']}"
                probes.append(
                    Probe(
                        id=_id("deny", name, host, entry["to"], family, port, user),
                        what=f"{entry['proto']} {port} to {entry['to']} is dropped",
                        allowed=False,
                        target=entry["to"],
                        family=family,
                        address=_address(entry[family]),
                        proto=entry["proto"],
                        port=port,
                        user=user,
                    )
                )
    return probes


def owner_probes(
    host: str, flows: Sequence[Mapping[str, Any]], instances: Sequence[Mapping[str, Any]]
) -> list[Probe]:
    """Return probes as a stranger for every flow that belongs to service users: all are dropped."""
    open_to_all = {
        (probe.address, probe.proto, probe.port)
        for probe in allowed_probes(host, [f for f in flows if not f.get("user")], instances)
    }
    probes: dict[tuple[str, str, int], Probe] = {}
    for flow in _flows_from(host, flows):
        if not flow.get("user") or STRANGER in _users(flow):
            continue
        for probe in allowed_probes(host, [flow], instances):
            key = (probe.address, probe.proto, probe.port)
            if key in open_to_all or key in probes:
                continue
            name = f"owner-{flow['name']}"
            probes[key] = Probe(
                id=_id("deny", name, host, probe.target, probe.family, probe.port, STRANGER),
                what=f"flow {flow['name']} is closed to users other than its owner",
                allowed=False,
                target=probe.target,
                family=probe.family,
                address=probe.address,
                proto=probe.proto,
                port=probe.port,
                user=STRANGER,
            )
    return list(probes.values())


def uncovered_flows(hosts: Iterable[str], flows: Sequence[Mapping[str, Any]]) -> list[Uncovered]:
    """Return the flow ends that are no managed host, where nothing can stand to probe from."""
    managed = set(hosts)
    found: list[Uncovered] = []
    for flow in flows:
        for end in flow["from"]:
            if end["name"] not in managed:
                reason = f"the source {end['name']} is not a host of this site"
                found.append(Uncovered(f"flow {flow['name']} from {end['name']}", reason))
        for end in flow["to"]:
            if any(_is_network(end.get(family)) for family in FAMILIES):
                reason = f"the target {end['name']} is a network, not a host"
                found.append(Uncovered(f"flow {flow['name']} to {end['name']}", reason))
    return found


def _flows_from(host: str, flows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [flow for flow in flows if any(end["name"] == host for end in flow["from"])]


def _single_hosts(host: str, flow: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the flow's targets that are single machines other than ``host`` itself."""
    return [
        end
        for end in flow["to"]
        if end["name"] != host and not any(_is_network(end.get(family)) for family in FAMILIES)
    ]


def _families(flow: Mapping[str, Any], host: str, end: Mapping[str, Any]) -> list[str]:
    """Return the families both ends have: the firewall opens no other."""
    source = next(item for item in flow["from"] if item["name"] == host)
    return [family for family in FAMILIES if source.get(family) and end.get(family)]


def _users(flow: Mapping[str, Any]) -> list[str]:
    user = flow.get("user")
    if not user:
        return [ROOT]
    return [user] if isinstance(user, str) else list(user)


def _ports(
    flow: Mapping[str, Any], end: Mapping[str, Any], instances: Sequence[Mapping[str, Any]]
) -> list[tuple[int, bool]]:
    """Return (port, listener known) pairs: of a range, the ports on which an instance listens.

    Raises:
        ProbeInputError: the flow's ports are neither a port, a range nor a list of them.
    """
    value = flow["ports"]
    parts = value if isinstance(value, list) else str(value).split(",")
    ports: list[tuple[int, bool]] = []
    for part in parts:
        first, _, last = str(part).partition(":")
        if not first.isdigit() or (last and not last.isdigit()):
            raise ProbeInputError(
                f"flow {flow['name']}: ports are {value!r}; write a port or first:last"
            )
        if not last or first == last:
            ports.append((int(first), True))
            continue
        known = sorted(
            int(item["port"])
            for item in instances
            if item["host"] == end["name"] and int(first) <= int(item["port"]) <= int(last)
        )
        ports.extend((port, True) for port in known)
        if not known:
            ports.append((int(first), False))
    return ports


def _is_network(value: object) -> bool:
    if not isinstance(value, str) or "/" not in value:
        return False
    return value.rpartition("/")[2] not in {"32", "128"}


def _address(value: str) -> str:
    return value.partition("/")[0]


def _id(kind: str, *parts: str | int) -> str:
    """Return an id from name of the flow, source, target, family, port and user."""
    return ".".join(["network", kind, *map(str, parts)])
