"""Cross-checks of the flow matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from .check_models import serving_hosts, spans
from .check_network import FAMILIES, address, network
from .check_policy import MODERATIONS, classifiers
from .document import KeyPath
from .endpoints import Endpoint, Kind, parse_endpoint, parse_ports
from .problems import Problem, one_of
from .sources import Sources, indexed, mapping, number, text, texts

VECTOR_PORT: Final = 19530
GATEWAY_USER: Final = "tresor-gateway"
FABRIC: Final = "fabric"
ENGINE_USER: Final = "vllm"
FABRIC_PORTS: Final = (29500, 60999)
"""From the first port that engines are given to the last that Linux hands out by itself."""


def check(sources: Sources) -> Iterator[Problem]:
    """Yield what does not fit together in flows.yml."""
    if "flows" not in sources.documents:
        return
    names: dict[str, int] = {}
    for index, flow in sources.entries("flows"):
        name = text(flow.get("name"))
        if name in names:
            wrong = f"stands twice, first as entry {names[name]}"
            yield sources.problem("flows", (index, "name"), wrong, "write a name of its own")
        names.setdefault(name, index)
        yield from _flow(sources, index, flow)
    yield from _management(sources)
    yield from _way_in(sources)
    yield from _engines(sources)
    yield from _fabric(sources)
    yield from _vector(sources)
    yield from _classifiers(sources)


def _flow(sources: Sources, index: int, flow: Mapping[str, Any]) -> Iterator[Problem]:
    managed = False
    for side in ("from", "to"):
        for position, value in texts(flow.get(side)):
            endpoint = _endpoint(value)
            path: KeyPath = (index, side, position)
            if endpoint is None or endpoint.name not in _known(sources, endpoint.kind):
                fix = one_of(_all_endpoints(sources), value)
                yield sources.problem("flows", path, "unknown endpoint", fix)
                managed = True  # one message about this flow is enough
                continue
            managed = managed or endpoint.managed
            if side == "to" and _holds_canary(sources, endpoint):
                wrong = "would open the canary, which no host may reach"
                fix = "name the servers that are needed instead"
                yield sources.problem("flows", path, wrong, fix)
    if not managed and flow.get("from") and flow.get("to"):
        fix = "let one end be a group of hosts.yml or site"
        wrong = "no managed host at either end, so there is nothing to configure"
        yield sources.problem("flows", (index,), wrong, fix, seen=flow.get("name"))
    outward = any(
        end is not None and end.managed
        for end in (_endpoint(value) for _, value in texts(flow.get("from")))
    )
    yield from _fabric_ends(sources, index, flow)
    if "user" in flow and not outward and managed:
        wrong = "has no effect: the connection is opened by a host that Tresor does not manage"
        yield sources.problem("flows", (index, "user"), wrong, "remove it")
    if _ports(flow) is None and isinstance(flow.get("ports"), str):
        fix = 'write one port or a rising range within 1 to 65535, such as "8100:8199"'
        yield sources.problem("flows", (index, "ports"), "is no port or range", fix)


def _fabric_ends(sources: Sources, index: int, flow: Mapping[str, Any]) -> Iterator[Problem]:
    """A flow of the fabric is one between the hosts of an engine, and of that engine alone."""
    sides = [[value for _, value in texts(flow.get(side))] for side in ("from", "to")]
    if not any(FABRIC in side for side in sides):
        return
    if sides != [[FABRIC], [FABRIC]]:
        fix = "write from: [fabric] and to: [fabric], and other ends in a flow of their own"
        wrong = "leads from the fabric to other ends, where only hosts of one engine may meet"
        yield sources.problem("flows", (index,), wrong, fix, seen=sides)
    if flow.get("proto") != "tcp" or flow.get("user") != ENGINE_USER:
        fix = f"write proto: tcp and user: {ENGINE_USER}, as the engines are"
        wrong = "opens the fabric to more than the engines"
        seen = f"{flow.get('proto')}, user {flow.get('user', 'any')}"
        yield sources.problem("flows", (index,), wrong, fix, seen=seen)


def _management(sources: Sources) -> Iterator[Problem]:
    """Without this flow the first converge would lock itself out of the host."""
    bastions = sources.hosts.groups.get("bastion", ())
    for host in sources.hosts.hosts.values():
        for bastion in bastions:
            if bastion != host.name and not _open(sources, bastion, host.name, host.ssh_port):
                wrong = f"no flow lets {bastion} reach {host.name} on tcp {host.ssh_port}"
                fix = 'write a flow from: [bastion] to: [site] proto: tcp ports: "22" without user'
                seen = [flow.get("name") for _, flow in sources.entries("flows")]
                yield sources.problem("flows", (), wrong, fix, seen=seen)


def _way_in(sources: Sources) -> Iterator[Problem]:
    """Without this flow no one could log in to the bastion, and from there to any host.

    The bastion confirms its own rules by a connection outwards, so nothing else would notice. A
    lab is entered through the machine that carries it.
    """
    if text(mapping(sources.value("site")).get("level")) in ("", "lab"):
        return
    for name in sources.hosts.groups.get("bastion", ()):
        port = sources.hosts.hosts[name].ssh_port
        if not any(_lets_in(sources, flow, name, port) for _, flow in sources.entries("flows")):
            wrong = f"no flow lets anyone outside the managed hosts reach {name} on tcp {port}"
            fix = (
                'write a flow from: ["network:<name>"] to: [bastion] proto: tcp '
                f'ports: "{port}", with the administrators\' network from site.yml'
            )
            seen = [flow.get("name") for _, flow in sources.entries("flows")]
            yield sources.problem("flows", (), wrong, fix, seen=seen)


def _lets_in(sources: Sources, flow: Mapping[str, Any], host: str, port: int) -> bool:
    """Return whether a flow opens a TCP port of a host to an end that Tresor does not manage."""
    ends = [_endpoint(value) for _, value in texts(flow.get("from"))]
    outside = any(_is_outside(sources, end) for end in ends if end is not None)
    return outside and _is_open_at(flow, port) and _member(sources, host, flow.get("to"))


def _is_outside(sources: Sources, end: Endpoint) -> bool:
    if end.kind is Kind.EXTERNAL and _holds_canary(sources, end):
        return False  # it stands for the internet, from where no one logs in
    return not end.managed and end.name in _known(sources, end.kind)


def _is_open_at(flow: Mapping[str, Any], port: int) -> bool:
    ports = _ports(flow)
    return flow.get("proto") == "tcp" and ports is not None and ports[0] <= port <= ports[1]


def _vector(sources: Sources) -> Iterator[Problem]:
    """Without this flow nobody could prove the vector database or back it up."""
    for bastion in sources.hosts.groups.get("bastion", ()):
        for host in sources.hosts.groups.get("vector", ()):
            if bastion != host and not _open(sources, bastion, host, VECTOR_PORT):
                wrong = f"no flow lets {bastion} reach the vector database of {host}"
                fix = f'write a flow from: [bastion] to: [vector] proto: tcp ports: "{VECTOR_PORT}"'
                seen = [
                    f"{flow.get('name')} {flow.get('ports')}"
                    for _, flow in sources.entries("flows")
                    if any(value == "vector" for _, value in texts(flow.get("to")))
                ]
                yield sources.problem("flows", (), wrong, fix, seen=seen)


def _engines(sources: Sources) -> Iterator[Problem]:
    gateways = sources.hosts.groups.get("gateway", ())
    for index, model in sources.entries("models"):
        for position, placement in indexed(model.get("placement")):
            port = number(placement.get("port"))
            for host in serving_hosts(sources, placement):
                for gateway in gateways:
                    if port is None or gateway == host:
                        continue
                    if not _open(sources, gateway, host, port, any_user=True):
                        wrong = f"no flow lets {gateway} reach {host} on tcp {port}"
                        fix = 'write a flow from: [gateway] to: [gpu] ports: "8100:8199"'
                        path: KeyPath = (index, "placement", position, "port")
                        yield sources.problem("models", path, wrong, fix)


def _fabric(sources: Sources) -> Iterator[Problem]:
    """Without this flow the hosts of an engine would never find one another."""
    first, last = FABRIC_PORTS
    for _, flow in sources.entries("flows"):
        ports = _ports(flow)
        ends = [value for side in ("from", "to") for _, value in texts(flow.get(side))]
        if ends == [FABRIC, FABRIC] and ports and ports[0] <= first and last <= ports[1]:
            return
    for index, model in sources.entries("models"):
        for position, placement in indexed(model.get("placement")):
            if spans(placement) > 1:
                wrong = (
                    f"no flow lets the hosts of an engine reach one another on tcp {first}:{last}"
                )
                fix = (
                    "write a flow from: [fabric] to: [fabric] proto: tcp "
                    f'ports: "{first}:{last}" user: {ENGINE_USER}'
                )
                path: KeyPath = (index, "placement", position, "nodes")
                yield sources.problem("models", path, wrong, fix)


def _classifiers(sources: Sources) -> Iterator[Problem]:
    """Without this flow no text would get a verdict, and so none would pass."""
    externals = mapping(mapping(sources.value("site")).get("externals"))
    for index, classifier in classifiers(sources):
        name = text(classifier.get("external"))
        port = number(mapping(externals.get(name)).get("port"))
        if classifier.get("kind") != MODERATIONS or port is None:
            continue
        for gateway in sources.hosts.groups.get("gateway", ()):
            if not _leads_out(sources, gateway, name, port):
                wrong = f"no flow lets {gateway} reach the classifier's server on tcp {port}"
                fix = (
                    f'write a flow from: [gateway] to: ["external:{name}"] proto: tcp '
                    f'ports: "{port}" user: {GATEWAY_USER}'
                )
                path: KeyPath = ("classifiers", index, "external")
                yield sources.problem("guardrails", path, wrong, fix)


def _leads_out(sources: Sources, host: str, external: str, port: int) -> bool:
    return any(
        _is_open_at(flow, port)
        and text(flow.get("user")) in ("", GATEWAY_USER)
        and _member(sources, host, flow.get("from"))
        and any(value == f"external:{external}" for _, value in texts(flow.get("to")))
        for _, flow in sources.entries("flows")
    )


def _open(sources: Sources, source: str, target: str, port: int, any_user: bool = False) -> bool:
    for _, flow in sources.entries("flows"):
        if (
            _is_open_at(flow, port)
            and (any_user or "user" not in flow)
            and _member(sources, source, flow.get("from"))
            and _member(sources, target, flow.get("to"))
        ):
            return True
    return False


def _member(sources: Sources, host: str, side: object) -> bool:
    groups = sources.hosts.hosts[host].groups
    return any(value == "site" or value in groups for _, value in texts(side))


def _endpoint(value: str) -> Endpoint | None:
    try:
        return parse_endpoint(value)
    except ValueError:
        return None


def _ports(flow: Mapping[str, Any]) -> tuple[int, int] | None:
    try:
        return parse_ports(text(flow.get("ports")))
    except ValueError:
        return None


def _known(sources: Sources, kind: Kind) -> Iterable[str]:
    site = mapping(sources.value("site"))
    return {
        Kind.SITE: ("site",),
        Kind.FABRIC: ("fabric",) if "fabric" in site else (),
        Kind.GROUP: tuple(sources.hosts.groups),
        Kind.EXTERNAL: tuple(mapping(site.get("externals"))),
        Kind.NETWORK: tuple(mapping(site.get("subnets"))),
    }[kind]


def _all_endpoints(sources: Sources) -> list[str]:
    return [
        *("site", *_known(sources, Kind.FABRIC), *_known(sources, Kind.GROUP)),
        *(f"external:{name}" for name in _known(sources, Kind.EXTERNAL)),
        *(f"network:{name}" for name in _known(sources, Kind.NETWORK)),
    ]


def _holds_canary(sources: Sources, endpoint: Endpoint) -> bool:
    site = mapping(sources.value("site"))
    externals = mapping(site.get("externals"))
    canary = mapping(externals.get("canary"))
    for family in FAMILIES:
        target = address(canary.get(family))
        if target is None:
            continue
        if endpoint.kind is Kind.EXTERNAL:
            if address(mapping(externals.get(endpoint.name)).get(family)) == target:
                return True
        elif endpoint.kind is Kind.NETWORK:
            home = network(mapping(mapping(site.get("subnets")).get(endpoint.name)).get(family))
            if home is not None and target in home:
                return True
    return False
