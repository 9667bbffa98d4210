"""Cross-checks of engines that span hosts, and of the network between those hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .check_models import spans
from .check_network import Network, address, network
from .document import KeyPath
from .hosts import FABRIC_ADDRESS, FABRIC_INTERFACE, Host
from .problems import NOTHING, Problem
from .sources import Sources, indexed, mapping, number, text, texts

FIRST_PORT: Final = 29500
"""What `fabric_port` is where it is left out."""
_INTERFACE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}")
_OWN_VARIABLES: Final = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_EQUAL: Final = ("gpu", "gpus", "nvlink_domain", "gpu_total_gib")
"""What `tresor_hardware` must say alike for all hosts of one instance."""


def check(sources: Sources) -> Iterator[Problem]:
    """Yield what does not fit together in placements over several hosts."""
    yield from _network(sources)
    leaders: dict[tuple[str, int], str] = {}
    for index, model in sources.entries("models"):
        for position, placement in indexed(model.get("placement")):
            path: KeyPath = (index, "placement", position)
            if spans(placement) > 1:
                yield from _hosts(sources, path, placement)
                yield from _layout(sources, index, position, model)
                yield from _alike(sources, path, placement)
                yield from _joined(sources, path, placement)
                yield from _ports(sources, path, placement, leaders, text(model.get("name")))
                yield from _variables(sources, index, model)
            elif "fabric_port" in placement and "nodes" not in placement:
                wrong = "belongs to an instance with nodes only"
                here: KeyPath = (*path, "fabric_port")
                yield sources.problem("models", here, wrong, "remove it, or write nodes")


def shares_site_network(site: Mapping[str, Any]) -> bool:
    """Return whether engines that span hosts use the site's own network, as it says it accepts."""
    return mapping(site.get("fabric")).get("unencrypted_on_site_network") is True


def _hosts(sources: Sources, path: KeyPath, placement: Mapping[str, Any]) -> Iterator[Problem]:
    named, nodes = [name for _, name in texts(placement.get("hosts"))], spans(placement)
    if len(named) != nodes:
        wrong = f"the instance spans {nodes} hosts and {len(named)} are named"
        fix = f"write {nodes} hosts, the leading one first; another instance is another entry"
        yield sources.problem("models", (*path, "hosts"), wrong, fix)
    for key in ("groups", "replicas"):
        if placement.get(key):
            wrong = "cannot stand beside nodes: the entry is one instance over the hosts it names"
            fix = "write groups: []" if key == "groups" else "remove it"
            yield sources.problem("models", (*path, key), wrong, fix)


def _layout(
    sources: Sources, index: int, position: int, model: Mapping[str, Any]
) -> Iterator[Problem]:
    """Each host runs as many ranks, so their number must divide by the hosts."""
    spread = mapping(model.get("parallelism"))
    nodes = spans(mapping(list(indexed(model.get("placement")))[position][1]))
    tensor, pipeline = number(spread.get("tensor")), number(spread.get("pipeline"))
    here: KeyPath = (index, "parallelism")
    if spread.get("tensor") == "auto":
        fix = "write the GPUs of one layer, best within one host, and the hosts as pipeline"
        wrong = f"cannot be chosen for an instance over {nodes} hosts"
        yield sources.problem("models", (*here, "tensor"), wrong, fix)
    if tensor is None or pipeline is None:
        return
    world = tensor * pipeline
    if world % nodes:
        wrong = f"{tensor} x {pipeline} are {world} ranks, which {nodes} hosts cannot share equally"
        fix = (
            f"write tensor and pipeline whose product divides by {nodes}, such as pipeline: {nodes}"
        )
        yield sources.problem("models", here, wrong, fix)
    elif mapping(model.get("engine")).get("device") == "cpu" and world != nodes:
        wrong = f"{world} ranks on {nodes} hosts; the CPU engine has one on each"
        fix = f"write tensor: 1 and pipeline: {nodes}"
        yield sources.problem("models", here, wrong, fix)


def _alike(sources: Sources, path: KeyPath, placement: Mapping[str, Any]) -> Iterator[Problem]:
    known = [
        (item, name, mapping(sources.hosts.hosts[name].variables.get("tresor_hardware")))
        for item, name in texts(placement.get("hosts"))
        if name in sources.hosts.hosts
    ]
    for item, name, hardware in known[1:]:
        _, first, leading = known[0]
        for key in _EQUAL:
            if hardware.get(key) != leading.get(key):
                there, here = (str(one.get(key, "not stated")) for one in (hardware, leading))
                wrong = f"{key} is {there} there and {here} on {first}: hosts must be equal"
                fix = "name hosts whose tresor_hardware is equal"
                yield sources.problem("models", (*path, "hosts", item), wrong, fix, seen=name)


def _joined(sources: Sources, path: KeyPath, placement: Mapping[str, Any]) -> Iterator[Problem]:
    """The hosts must meet in the fabric, or the site must have accepted its own network."""
    site = mapping(sources.value("site"))
    if site and "fabric" not in site:
        wrong = (
            "the hosts of one instance exchange parts of prompts and answers unencrypted, and the "
            "site has no network for that alone"
        )
        fix = (
            "write tresor_site.fabric with ipv4 of a network that only these hosts are on, and "
            f"{FABRIC_ADDRESS} and {FABRIC_INTERFACE} of each host; or, if the site's own network "
            "is as good, fabric: {unencrypted_on_site_network: true}"
        )
        yield sources.problem("models", (*path, "nodes"), wrong, fix)
        return
    needed = [FABRIC_INTERFACE]
    if not shares_site_network(site):
        needed.append(FABRIC_ADDRESS)
    document = sources.hosts_document
    for _, name in texts(placement.get("hosts")):
        host = sources.hosts.hosts.get(name)
        for key in needed if host is not None and document is not None else ():
            if host is not None and document is not None and key not in host.variables:
                wrong = f"missing key: {name} is one of the hosts of an instance that spans hosts"
                example = "ib0" if key == FABRIC_INTERFACE else "an address of tresor_site.fabric"
                here: KeyPath = (*host.path, key)
                yield document.problem(here, wrong, f"write {key}: {example}", seen=NOTHING)


def _ports(
    sources: Sources,
    path: KeyPath,
    placement: Mapping[str, Any],
    leaders: dict[tuple[str, int], str],
    model: str,
) -> Iterator[Problem]:
    """Two ports of the leading host: where ranks meet, and where the hosts watch one another."""
    leader = next((name for _, name in texts(placement.get("hosts"))), "")
    port = number(placement.get("fabric_port")) or FIRST_PORT
    taken = leaders.get((leader, port)) or leaders.get((leader, port + 1))
    if taken:
        wrong = f"ports {port} and {port + 1} of {leader} belong to the model {taken}, too"
        fix = "write a fabric_port that is at least 2 away from theirs"
        here: KeyPath = (*path, "fabric_port")
        yield sources.problem("models", here, wrong, fix, seen=port)
    leaders.setdefault((leader, port), model)
    leaders.setdefault((leader, port + 1), model)


def _variables(sources: Sources, index: int, model: Mapping[str, Any]) -> Iterator[Problem]:
    for name in mapping(mapping(model.get("engine")).get("env")):
        if name in _OWN_VARIABLES:
            path: KeyPath = (index, "engine", "env", name)
            wrong = "is set by Tresor for an instance that spans hosts"
            fix = f"remove it, and write {FABRIC_INTERFACE} of each host"
            yield sources.problem("models", path, wrong, fix)


def _network(sources: Sources) -> Iterator[Problem]:
    """The fabric is a network of its own, and its addresses belong to one host each."""
    site = mapping(sources.value("site"))
    home = network(mapping(site.get("fabric")).get("ipv4"))
    for name, subnet in mapping(site.get("subnets")).items():
        other = network(mapping(subnet).get("ipv4"))
        if home is not None and other is not None and home.overlaps(other):
            wrong = f"overlaps {name} ({other})"
            fix = "write a network that only the hosts of engines are on"
            yield sources.problem("site", ("fabric", "ipv4"), wrong, fix)
    for name, external in mapping(site.get("externals")).items():
        found = address(mapping(external).get("ipv4"))
        if home is not None and found is not None and found in home:
            wrong = f"holds the external {name} ({found})"
            fix = "write a network that only the hosts of engines are on"
            yield sources.problem("site", ("fabric", "ipv4"), wrong, fix)
    owners: dict[object, str] = {}
    for host in sources.hosts.hosts.values():
        yield from _host(sources, host, home, owners, shares_site_network(site))


def _host(
    sources: Sources,
    host: Host,
    home: Network | None,
    owners: dict[object, str],
    shared: bool,
) -> Iterator[Problem]:
    document = sources.hosts_document
    if document is None:
        return
    interface = host.variables.get(FABRIC_INTERFACE)
    if FABRIC_INTERFACE in host.variables and not (
        isinstance(interface, str) and _INTERFACE.fullmatch(interface) and interface != "lo"
    ):
        fix = "write the name of a network interface other than lo, such as ib0"
        here: KeyPath = (*host.path, FABRIC_INTERFACE)
        yield document.problem(here, "is no interface", fix)
    if FABRIC_ADDRESS not in host.variables:
        return
    path: KeyPath = (*host.path, FABRIC_ADDRESS)
    value = address(host.variables[FABRIC_ADDRESS])
    if home is None:
        wrong = "the site uses its own network" if shared else "the site has no fabric"
        fix = "remove it, or write tresor_site.fabric.ipv4"
        yield document.problem(path, wrong, fix)
    elif value is None or value not in home or value in (home[0], home[-1]):
        wrong = f"is no host address of the fabric {home}"
        yield document.problem(path, wrong, f"write an address of {home}")
    elif value in owners:
        wrong = f"is also the address of {owners[value]}"
        yield document.problem(path, wrong, "write an address that is used once")
    owners.setdefault(value, host.name)
