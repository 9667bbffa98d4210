"""From the flow matrix to the probes one host sends."""

from __future__ import annotations

import ipaddress
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
    """Return the plan's forbidden probes of ``host``, as the plan's user and as every flow owner.

    A rule that names an owner but forgets the target would let exactly that owner out, so root
    alone would not notice it. Where a flow leads to the same port of the same target, its owner
    is left out: it may pass.
    """
    own_flows = _flows_from(host, flows)
    probes: list[Probe] = []
    for entry in forbidden:
        if entry["from"] != host:
            continue
        port = int(entry["port"])
        users = {entry.get("user") or ROOT: None}
        users.update(dict.fromkeys(_shut_out(own_flows, entry, port)))
        for family in FAMILIES:
            if not entry.get(family):
                continue
            for user in users:
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


def _shut_out(flows: Sequence[Mapping[str, Any]], entry: Mapping[str, Any], port: int) -> list[str]:
    """Return the flow owners that no flow lets through to the entry's target and port."""
    owners = {user for flow in flows for user in _users(flow)}
    for flow in flows:
        if flow["proto"] == entry["proto"] and _in_range(flow, port) and _leads_to(flow, entry):
            owners -= set(_users(flow))
    return sorted(owners)


def _leads_to(flow: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    for end in flow["to"]:
        if end["name"] == entry["to"]:
            return True
        for family in FAMILIES:
            if end.get(family) and entry.get(family):
                network = ipaddress.ip_network(end[family], strict=False)
                if ipaddress.ip_address(_address(entry[family])) in network:
                    return True
    return False


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
    return [flow.get("user") or ROOT]


def _ports(
    flow: Mapping[str, Any], end: Mapping[str, Any], instances: Sequence[Mapping[str, Any]]
) -> list[tuple[int, bool]]:
    """Return (port, listener known) pairs: of a range, the ports on which an instance listens."""
    first, last = _range(flow)
    if first == last:
        return [(first, True)]
    known = sorted(
        int(item["port"])
        for item in instances
        if item["host"] == end["name"] and first <= int(item["port"]) <= last
    )
    return [(port, True) for port in known] or [(first, False)]


def _in_range(flow: Mapping[str, Any], port: int) -> bool:
    first, last = _range(flow)
    return first <= port <= last


def _range(flow: Mapping[str, Any]) -> tuple[int, int]:
    """Return the first and the last port of a flow.

    Raises:
        ProbeInputError: the flow's ports are neither a port nor a range.
    """
    first, _, last = str(flow["ports"]).partition(":")
    if not first.isdigit() or (last and not last.isdigit()):
        raise ProbeInputError(
            f"flow {flow['name']}: ports are {flow['ports']!r}; write a port or first:last"
        )
    return int(first), int(last or first)


def _is_network(value: object) -> bool:
    if not isinstance(value, str) or "/" not in value:
        return False
    return value.rpartition("/")[2] not in {"32", "128"}


def _address(value: str) -> str:
    return value.partition("/")[0]


def _id(kind: str, *parts: str | int) -> str:
    """Return an id from name of the flow, source, target, family, port and user."""
    return ".".join(["network", kind, *map(str, parts)])
